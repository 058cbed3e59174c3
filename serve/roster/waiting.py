"""Who may take a contact, and whom of them the queue would take: the order that a router falls back to."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence

import numpy as np

from serve.contact import eligible_codes
from serve.roster.book import Book
from serve.roster.eligibility import Codes, Need
from serve.snapshot import Snapshot

Eligible = Sequence[str] | Need | None


def may_take(view: Snapshot, eligible: Eligible, barred: frozenset[int] | None) -> Codes | None:
    """Codes, ascending, of who may take a contact, None: all active. A need wants a view with bitmaps.

    barred: who must not meet the customer. Raises MatchError, unknown ids.
    """
    if isinstance(eligible, Need):
        codes = None if view.bitmaps is None else view.bitmaps.codes(eligible)
    elif eligible is None:
        codes = None if barred is None else np.flatnonzero(view.active)
    else:
        codes = eligible_codes(eligible, view.codes)
        codes = codes[codes < len(view.active)]  # who joins while this call runs comes with the next
        codes = np.setdiff1d(codes, view.left, assume_unique=True) if len(view.left) else codes
    return codes if barred is None or codes is None else np.setdiff1d(codes, list(barred), assume_unique=True)


def waiting(view: Snapshot, codes: Codes | None, book: Book | None, k: int, queue: Sequence[str] | None) -> list[str]:
    """The first k of who may take a contact.

    codes: distinct, None: everyone active; queue: ids in their order, of whom the others are left out, None: by how
    long they have waited. Reads `book` while others may change it, which at worst orders by what was so just before.
    """
    if queue is not None:
        allowed = view.active if codes is None else set(codes.tolist())
        found: list[str] = []
        for csa_id in dict.fromkeys(queue):
            code = view.codes.get(csa_id, -1)
            known = 0 <= code < len(view.active)
            if known and (bool(allowed[code]) if codes is None else code in allowed):  # type: ignore[index]
                found.append(csa_id)
                if len(found) == k:
                    break
        return found
    who: Iterable[int] = view.active.nonzero()[0].tolist() if codes is None else codes.tolist()
    if book is None:  # nobody was ever told of: all have waited for ever
        return [view.ids[code] for code in heapq.nsmallest(k, who)]
    return [view.ids[code] for code in heapq.nsmallest(k, who, key=lambda code: (*book.waited(code), code))]
