"""Which arm a customer is in, of the design `customer`: a keyed hash, so that router and analysis agree without a list.

Notable: the arm depends on the plan's seed and name and on the customer, on nothing else: not on when they come, how
often, or who is asked. A contact without a customer is drawn by itself.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b

import numpy as np
import numpy.typing as npt

from evaluation.experiment.frame import CONTROL, TREATMENT
from evaluation.experiment.plan import Plan

BITS = 64


def arm_of(plan: Plan, identifier: str) -> int:
    """The arm of one customer (of a contact without one: its contact_id)."""
    key = f"{plan.name}\x1f{plan.seed}\x1f{identifier}".encode()
    drawn = int.from_bytes(blake2b(key, digest_size=BITS // 8).digest(), "big") / 2**BITS
    return TREATMENT if drawn < plan.share else CONTROL


def arms_of(plan: Plan, identifiers: Iterable[str]) -> npt.NDArray[np.int8]:
    """The arms (n,) of many."""
    return np.array([arm_of(plan, one) for one in identifiers], np.int8)
