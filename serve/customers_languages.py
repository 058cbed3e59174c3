"""The language of each customer as it was given, in the router's memory and in its file.

Notable: what is kept is the tag itself, so a contact is encoded as from customers.parquet, to the bit; tags stand once
in the file, those of its customers alone, in the order of their letters, so a tag goes with the last who spoke it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from twotower.errors import DataError

Codes = npt.NDArray[np.int32]
Longs = npt.NDArray[np.int64]
TAGS, CODES = "languages", "language"  # what a file's parts are called


def check_tag(tag: object) -> None:
    """Raises DataError for what is neither text nor None, before it can spoil a file."""
    if tag is not None and not isinstance(tag, str):
        raise DataError(f"language: text or None expected, got {type(tag).__name__}")


class Languages:
    """Tags by the store's positions of customers; those beyond `code` have none.

    tags: distinct; code: i4[C] positions in them, −1 unknown. Raises DataError where these do not fit.
    """

    def __init__(self, tags: Sequence[str] = (), code: Codes | None = None) -> None:
        self._tags, self._code = list(tags), np.empty(0, np.int32) if code is None else code
        self._place = {tag: i for i, tag in enumerate(self._tags)}
        if len(self._code) and not -1 <= self._code.min() <= self._code.max() < len(self._tags):
            raise DataError("customers' languages that are not named")

    def of(self, customers: npt.NDArray[np.signedinteger[Any]]) -> list[str | None]:
        """Tags (N,) of customers, −1 nobody; None where they are not known."""
        codes = self._codes(customers).tolist()
        return [None if code < 0 else self._tags[code] for code in codes]

    def keep(self, customer: int, tag: str | None) -> None:
        """Remember a customer's tag, None for none."""
        if customer >= len(self._code):
            more = max(64, customer * 3 // 2) - len(self._code)
            self._code = np.append(self._code, np.full(more, -1, np.int32))
        if tag is not None and tag not in self._place:
            self._place[tag] = len(self._tags)
            self._tags.append(tag)
        self._code[customer] = -1 if tag is None else self._place[tag]

    def copy(self) -> Languages:
        """The same, which goes its own way."""
        return Languages(self._tags, self._code.copy())

    def take(self, customers: Longs) -> Languages:
        """Those of some customers, with no other tags."""
        codes = self._codes(customers)
        used = sorted(np.unique(codes[codes >= 0]).tolist(), key=lambda code: self._tags[code])
        place = np.full(len(self._tags) + 1, -1, np.int32)  # the last answers for −1
        place[used] = np.arange(len(used))
        return Languages([self._tags[code] for code in used], place[codes])

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """As arrays without objects."""
        return {TAGS: np.frombuffer(json.dumps(self._tags).encode(), np.uint8), CODES: self._code}

    @classmethod
    def restored(cls, arrays: dict[str, npt.NDArray[Any]], customers: int) -> Languages:
        """What `state` gave, of so many customers. Raises KeyError, ValueError or DataError where it is no such."""
        tags, code = json.loads(arrays[TAGS].tobytes()), arrays[CODES]
        if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
            raise DataError(f"languages {str(tags)[:40]!r} where a list of tags is expected")
        if code.dtype != np.int32 or code.shape != (customers,):
            raise DataError(f"languages {code.dtype}{code.shape} of {customers} customers")
        return cls(tags, code)

    def _codes(self, customers: npt.NDArray[np.signedinteger[Any]]) -> Codes:
        known = (customers >= 0) & (customers < len(self._code))
        codes = np.full(len(customers), -1, np.int32)
        codes[known] = self._code[customers[known]]
        return codes
