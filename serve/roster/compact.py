"""Fewer changes that come to the same: what a journal keeps when it is compacted.

Notable: nothing is made up of a roster's present state, as the same journal is replayed on bundles that know other
CSAs. Only changes that later ones replaced are left out, and what stays keeps its version and moment. Values of
columns move to the first change that tells any. Of a run of equal states the first one counts, as it says since when;
where another state before it was left out, that one stands before it in the same record, so the moment stays.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from serve.roster.changes import STATES, Block, Change, Join, Leave, RosterChange, Shift, State, Unblock
from serve.roster.journal import Journal, Record


@dataclass
class _Kept:
    """Changes that stay, at their place among all."""

    of: dict[int, list[RosterChange]] = field(default_factory=dict)

    def put(self, place: int, *changes: RosterChange) -> None:
        self.of.setdefault(place, []).extend(changes)


def compacted(records: Sequence[Record]) -> list[Record]:
    """Records that lead any roster to the same state as these do, and to the same version but for a last one whose
    changes were all replaced."""
    flat = [(record, change) for record in records for change in record.changes]
    by_csa: dict[str, list[tuple[int, RosterChange]]] = {}
    for place, (_, change) in enumerate(flat):
        by_csa.setdefault(change.csa_id, []).append((place, change))
    kept = _Kept()
    for told in by_csa.values():
        _csa([(place, change) for place, change in told if not isinstance(change, Block | Unblock)], kept)
        _pairs(told, kept)
    found: dict[int, Record] = {}
    for place in sorted(kept.of):
        record = flat[place][0]
        before = found[record.version].changes if record.version in found else ()
        found[record.version] = Record(record.version, record.at, (*before, *kept.of[place]))
    return list(found.values())


def compact(journal: Journal) -> None:
    """Put fewer records that come to the same into a journal's place. Only under `locked`, with everything read. Raises
    JournalError: it stays as it was."""
    journal.compact(compacted(journal.whole()))


def _pairs(told: Iterable[tuple[int, RosterChange]], kept: _Kept) -> None:
    last = {change.customer_id: (place, change) for place, change in told if isinstance(change, Block | Unblock)}
    for place, change in last.values():
        if isinstance(change, Block):
            kept.put(place, change)


def _csa(told: list[tuple[int, RosterChange]], kept: _Kept) -> None:
    """What is told of one CSA, but for pairs."""
    joined = next((i for i, (_, change) in enumerate(told) if isinstance(change, Join)), None)
    leaves = [i for i, (_, change) in enumerate(told) if isinstance(change, Leave)]
    resets, gone = [], False  # joins after a leave, with which all begins anew
    for i, (_, change) in enumerate(told):
        if isinstance(change, Join) and gone:
            resets.append(i)
        gone = isinstance(change, Leave) or (gone and not isinstance(change, Join))
    back = resets[-1] if resets else None
    stays = {joined} if joined is not None else set()
    if back is not None:
        stays |= {max(i for i in leaves if i < back), back}
    if leaves and gone:
        stays.add(next(i for i in leaves if back is None or i > back))
    columns = _columns(told)
    for i, (place, change) in enumerate(told):
        if i in columns:
            kept.put(place, *columns[i])
        elif i in stays:
            kept.put(place, Join(change.csa_id) if isinstance(change, Join) else change)
    # Whether the first join makes all begin anew depends on the bundle, so what is told before and after it is kept.
    cut = [0 if back is None else back, *([joined] if back is None and joined else []), len(told)]
    for start, end in pairwise(cut):
        for kind in (Shift, State):
            _last([one for one in told[start:end] if isinstance(one[1], kind)], kept)


def _columns(told: Sequence[tuple[int, RosterChange]]) -> dict[int, list[RosterChange]]:
    """The first change that tells columns, with the values that count in the end."""
    named = [(i, change) for i, (_, change) in enumerate(told) if isinstance(change, Join | Change) and change.csa]
    if not named:
        return {}
    values = {name: value for _, change in named for name, value in change.csa.items()}
    first = next(i for i, (_, change) in enumerate(told) if isinstance(change, Join | Change))
    change = told[first][1]
    if not isinstance(change, Join):
        return {first: [Change(change.csa_id, values)]}
    # A null in the first join is the moment of joining, one that is told later is a null.
    told_later = [one.csa["hired_at"] for i, one in named if i != first and "hired_at" in one.csa]
    late = {"hired_at": None} if told_later and told_later[-1] is None else {}
    join = Join(change.csa_id, {name: value for name, value in values.items() if name not in late})
    return {first: [join, Change(change.csa_id, late)] if late else [join]}


def _last(told: Sequence[tuple[int, RosterChange]], kept: _Kept) -> None:
    """Of what is told of a CSA's shift, or of their state, what counts."""
    if not told:
        return
    start = len(told) - 1
    while start and told[start - 1][1] == told[start][1]:
        start -= 1
    place, change = told[start]
    kept.put(place, *([_other(change)] if start else []), change)


def _other(change: RosterChange) -> RosterChange:
    if isinstance(change, Shift):
        return Shift(change.csa_id, not change.on)
    if isinstance(change, State):
        return State(change.csa_id, next(state for state in STATES if state != change.state))
    raise TypeError(change.op)
