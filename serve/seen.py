"""What the matcher made of a contact, to be kept until its hand-over ends."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from twotower.bundle.sessions import Encoded
from twotower.features.contact import ContactRows


@dataclass(frozen=True)
class Seen:
    """A contact as it was read on arrival: its `fields`, checked and completed, its row with its category codes
    i8 (1, C), and what the towers of `bundle`, an id, made of it, `encoded` (length 1)."""

    bundle: str
    fields: dict[str, Any]
    row: ContactRows
    categories: npt.NDArray[np.int64]
    encoded: Encoded
