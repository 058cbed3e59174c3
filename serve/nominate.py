"""Who is worth an exact utility: candidates by success, and candidates by everything else that is weighed.

Notable: what a search finds has a high P(resolved), but a utility's best may be a middling one who is quick. What a CSA
adds to the outcomes is a handful of numbers, so that side is no search but one pass over everyone eligible. The best of
both lists are scored exactly (compare the two sorted lists of Fagin's threshold algorithm, PODS 2001); where few are
eligible, everyone is.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from serve.snapshot import Snapshot
from twotower.scoring.join import ContactVectors, Join
from twotower.scoring.utility import Utility

Codes = npt.NDArray[np.int64]

# Of each list; docs/decisions/0029 has the recall.
BY_SUCCESS, BY_OUTCOMES = 128, 128


def nominated(
    view: Snapshot,
    join: Join,
    utility: Utility,
    contact: ContactVectors,
    k: int,
    eligible: Codes | None = None,
    also: Codes | None = None,
) -> Codes:
    """Codes, ascending, of the CSAs worth an exact utility; arguments as of `Snapshot.candidates`."""
    if utility.by_success_alone:
        return view.candidates(contact, "success", k, eligible, also)
    found = view.candidates(contact, "success", max(k, BY_SUCCESS // 2), eligible, also)
    everyone = np.flatnonzero(view.active) if eligible is None else eligible
    if len(found) == len(everyone) or contact.outcomes is None:
        return found
    rest = replace(utility, resolved=0.0)
    values = join.outcomes.expected(contact.outcomes[0], view.own_of(everyone), np.zeros(len(everyone), np.float32))
    worth = rest.parts(None, values)[0].sum(axis=1)
    most = min(max(2 * k, BY_OUTCOMES), len(everyone))
    return np.union1d(found, everyone[np.argpartition(-worth, most - 1)[:most]])
