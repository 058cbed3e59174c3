"""One CSA for each of several contacts: all of them together, or in order of arrival the best who is left.

Notable: a CSA takes one contact of a call unless `capacity` says otherwise. Together, as many contacts as possible are
taken up, those past their guarantee first, then by priority where that is asked for, and of all such assignments the
one of the largest sum (`serve/sets/`); each contact asks for as many candidates as there are contacts, since the others
cannot take more CSAs than that. In order of arrival a contact asks for as many as are taken, and one more: quick, and
what is left when time runs short.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, TypeVar

import numpy as np

from serve.answer import Candidate
from serve.contact import MatchError, given, moment_of, priority_of
from serve.sets.given import Candidates
from serve.sets.wait import Waiting
from serve.sets.window import settle

Who = TypeVar("Who")
Method = Literal["sets", "greedy"]
METHODS: tuple[Method, ...] = ("sets", "greedy")
Best = Callable[[int, int], Sequence[Candidate]]
WAIT = Waiting(per_s=0.001)
"""Unless a call says otherwise 100 s of waiting weigh as much as 0.1 in the probability of being resolved."""
MOST = 256  # candidates of one contact; who is left without in a larger call asks for more
TIE = 1e-6  # how far the logit tells apart whom calibration gives the same probability


def one_each(eligible: Sequence[Who] | None, contacts: int) -> Sequence[Who | None]:
    """Who may take each contact, None for everyone. Raises MatchError where there is not one entry a contact."""
    if eligible is None:
        return [None] * contacts
    if len(eligible) != contacts:
        raise MatchError(f"eligible: {len(eligible)} lists for {contacts} contacts; give one a contact")
    return eligible


def assign_greedily(
    contacts: Sequence[Mapping[str, Any]], best: Best, capacity: Mapping[str, int] | None = None
) -> list[Candidate | None]:
    """A candidate or None for each contact, in the order given.

    best: the best k for contact i, best first; it is asked in order of `arrived_at`, those who name none last.
    capacity: how many contacts of this call a CSA takes, by id; others take one. Raises MatchError for a capacity that
    is no whole number of 0 or more.
    """
    found: list[Candidate | None] = [None] * len(contacts)
    return _left(by_arrival(contacts), best, checked(capacity), found)


def assign_together(
    contacts: Sequence[Mapping[str, Any]],
    best: Best,
    capacity: Mapping[str, int] | None = None,
    wait: Waiting | None = None,
    at: datetime | int | None = None,
) -> list[Candidate | None]:
    """As `assign_greedily`, of the largest sum of P(resolved) and of what waits are worth.

    Where candidates have no calibrated probability, or are ranked by something else, their scores are compared within a
    contact alone: the sum is that of how far each falls short of the contact's best. wait: what waiting is worth, and
    the guarantee, in place of `WAIT`. A contact may say how long it has waited, `wait_s`, in place of `at` (default:
    the latest arrival) less `arrived_at`; its own `guarantee_s`; and its `priority`, which counts where `wait` says
    which comes first. Raises MatchError for such a number that is none.
    """
    room, waiting = checked(capacity), wait or WAIT
    many = enough(len(contacts), capacity)
    found = [[one for one in best(i, many) if room.get(one.csa_id, 1)] for i in range(len(contacts))]
    waited, guarantees = waits(contacts, at), [_seconds(one, "guarantee_s") for one in contacts]
    guarantee = np.array([waiting.guarantee_s if one is None else one for one in guarantees])
    csas = {csa_id: j for j, csa_id in enumerate(dict.fromkeys(one.csa_id for few in found for one in few))}
    window = Candidates(
        np.cumsum([0, *map(len, found)]), np.array([csas[one.csa_id] for few in found for one in few], np.int64),
        np.array([value for few in found for value in values(few)]), len(csas),
        np.array([room.get(csa_id, 1) for csa_id in csas], np.int64), age=waiting.age(waited),
        overdue_s=waiting.overdue_s(waited, guarantee), priority=waiting.ranks(priorities(contacts)), fill=True,
    )  # fmt: skip
    places = {(i, csas[one.csa_id]): one for i, few in enumerate(found) for one in few}
    chosen = [None if j < 0 else places[i, j] for i, j in enumerate(settle(window).csa.tolist())]
    left = [i for i in by_arrival(contacts) if chosen[i] is None and len(contacts) > MOST]
    return _left(left, best, room, chosen)


def assigned_by(
    method: Method,
    contacts: Sequence[Mapping[str, Any]],
    best: Best,
    capacity: Mapping[str, int] | None,
    wait: Waiting | None,
    at: datetime | int | None,
) -> list[Candidate | None]:
    """By either method; in order of arrival waits do not count. Raises MatchError for another one."""
    if method not in METHODS:
        raise MatchError(f"method: {method!r}; {' or '.join(METHODS)} expected")
    if method == "greedy":
        return assign_greedily(contacts, best, capacity)
    return assign_together(contacts, best, capacity, wait, at)


def enough(contacts: int, capacity: Mapping[str, int] | None) -> int:
    """How many candidates a contact asks for: whoever else is assigned, one of so many has room."""
    return max(1, min(contacts, MOST) + sum(not many for many in checked(capacity).values()))


def values(few: Sequence[Candidate]) -> list[float]:
    """What each of a contact's candidates is worth, comparable between contacts."""
    if all(one.p_resolved is not None and one.logit is not None and one.score == one.logit for one in few):
        return [float(one.p_resolved or 0.0) + TIE * math.tanh(one.score) for one in few]
    most = max((one.score for one in few), default=0.0)
    return [float(one.score - most) for one in few]


def waits(contacts: Sequence[Mapping[str, Any]], at: datetime | int | None) -> list[float]:
    """Seconds that each contact has waited, 0 where nothing tells. Raises MatchError."""
    moments = _moments(contacts)
    now = max(moments.values(), default=0) if at is None else moment_of(at, "at")
    found = []
    for i, contact in enumerate(contacts):
        told = _seconds(contact, "wait_s")
        found.append(max(0.0, (now - moments.get(i, now)) / 1e6) if told is None else told)
    return found


def priorities(contacts: Sequence[Mapping[str, Any]]) -> list[float]:
    """What each contact says of its own, NaN: nothing. Raises MatchError."""
    found = [priority_of(given(contact, "priority")) for contact in contacts]
    return [math.nan if one is None else one for one in found]


def checked(capacity: Mapping[str, int] | None) -> dict[str, int]:
    """How many contacts CSAs take, by id. Raises MatchError for what is no whole number of 0 or more."""
    room = dict(capacity or {})
    for csa_id, many in room.items():
        if isinstance(many, bool) or not isinstance(many, int) or many < 0:
            raise MatchError(f"capacity of {csa_id!r}: a whole number of 0 or more expected")
    return room


def by_arrival(contacts: Sequence[Mapping[str, Any]]) -> list[int]:
    """Positions in order of `arrived_at`, those who name none last."""
    known = _moments(contacts)
    return sorted(range(len(contacts)), key=lambda i: (i not in known, known.get(i, 0), i))


def _left(
    order: Sequence[int], best: Best, room: Mapping[str, int], found: list[Candidate | None]
) -> list[Candidate | None]:
    """With the best who is left for each of these contacts, in this order."""
    taken = Counter(one.csa_id for one in found if one is not None)
    full = {csa_id for csa_id, many in {**dict.fromkeys(taken, 1), **room}.items() if taken[csa_id] >= many}
    for i in order:
        for one in best(i, len(full) + 1):
            if one.csa_id not in full:
                found[i] = one
                taken[one.csa_id] += 1
                if taken[one.csa_id] >= room.get(one.csa_id, 1):
                    full.add(one.csa_id)
                break
    return found


def _moments(contacts: Sequence[Mapping[str, Any]]) -> dict[int, int]:
    moments = [given(contact, "arrived_at") for contact in contacts]
    return {i: moment_of(moment, "arrived_at") for i, moment in enumerate(moments) if moment is not None}


def _seconds(contact: Mapping[str, Any], name: str) -> float | None:
    value = given(contact, name)
    if value is None:
        return None
    number = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
    if not number or not value >= 0 or (name == "wait_s" and not math.isfinite(value)):
        raise MatchError(f"contact field {name!r}: a number of 0 or more, or None, expected")
    return float(value)
