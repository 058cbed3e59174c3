"""One CSA for each of several contacts: in order of arrival, each gets the best who is left.

Notable: a CSA takes one contact of a call unless `capacity` says otherwise. A contact asks for as many candidates as
there are CSAs who are taken, and one more, so the best who is left is among them whatever the others took.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from serve.answer import Candidate
from serve.contact import MatchError, given, moment_of

Who = TypeVar("Who")


def one_each(eligible: Sequence[Who] | None, contacts: int) -> Sequence[Who | None]:
    """Who may take each contact, None for everyone. Raises MatchError where there is not one entry a contact."""
    if eligible is None:
        return [None] * contacts
    if len(eligible) != contacts:
        raise MatchError(f"eligible: {len(eligible)} lists for {contacts} contacts; give one a contact")
    return eligible


def assign_greedily(
    contacts: Sequence[Mapping[str, Any]],
    best: Callable[[int, int], Sequence[Candidate]],
    capacity: Mapping[str, int] | None = None,
) -> list[Candidate | None]:
    """A candidate or None for each contact, in the order given.

    best: the best k for contact i, best first; it is asked in order of `arrived_at`, those who name none last.
    capacity: how many contacts of this call a CSA takes, by id; others take one. Raises MatchError for a capacity that
    is no whole number of 0 or more.
    """
    left = dict(capacity or {})
    for csa_id, many in left.items():
        if isinstance(many, bool) or not isinstance(many, int) or many < 0:
            raise MatchError(f"capacity of {csa_id!r}: a whole number of 0 or more expected")
    taken: Counter[str] = Counter()
    full = {csa_id for csa_id, many in left.items() if not many}
    found: list[Candidate | None] = [None] * len(contacts)
    for i in _by_arrival(contacts):
        for one in best(i, len(full) + 1):
            if one.csa_id not in full:
                found[i] = one
                taken[one.csa_id] += 1
                if taken[one.csa_id] >= left.get(one.csa_id, 1):
                    full.add(one.csa_id)
                break
    return found


def _by_arrival(contacts: Sequence[Mapping[str, Any]]) -> list[int]:
    moments = [given(contact, "arrived_at") for contact in contacts]
    known = {i: moment_of(moment, "arrived_at") for i, moment in enumerate(moments) if moment is not None}
    return sorted(range(len(contacts)), key=lambda i: (i not in known, known.get(i, 0), i))
