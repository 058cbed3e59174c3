"""Whom the queue would take: the order that a router falls back to."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence

from serve.roster.book import Book
from serve.roster.eligibility import Codes
from serve.snapshot import Snapshot


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
