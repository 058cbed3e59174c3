"""What a journal keeps when it is compacted comes to the same, on any bundle."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from serve.contact import MatchError
from serve.roster.book import Book, Keyed
from serve.roster.changes import Block, Change, Join, Leave, RosterChange, Shift, State, Unblock
from serve.roster.compact import compacted
from serve.roster.journal import Record

IDS = st.sampled_from(["here", "gone", "new"])
COLUMNS = st.dictionaries(st.sampled_from(["site", "capacity", "hired_at"]), st.integers(0, 3), max_size=2).map(
    lambda found: {k: _value(k, v) for k, v in found.items()}
)
CUSTOMERS = st.sampled_from([Keyed(b"a" * 32), Keyed(b"b" * 32)])
CHANGES: st.SearchStrategy[RosterChange] = st.one_of(
    st.builds(Join, IDS, COLUMNS),
    st.builds(Change, IDS, COLUMNS),
    st.builds(Leave, IDS),
    st.builds(Shift, IDS, st.booleans()),
    st.builds(State, IDS, st.sampled_from(["idle", "busy", "away"])),
    st.builds(Block, IDS, CUSTOMERS),
    st.builds(Unblock, IDS, CUSTOMERS),
)


def _value(name: str, value: int) -> object:
    if name == "site":
        return f"site {value}"
    return None if name == "hired_at" and not value else value


def replayed(records: Sequence[Record], active: bool) -> Book:
    """A bundle's roster of two, of whom one may be gone, after some records."""
    book = Book(["here", "gone"], [True, active], {})
    for record in records:
        book.apply(record.changes, record.at)
    return book


def accepted(groups: Sequence[Sequence[RosterChange]]) -> list[Record]:
    """The groups that a roster takes."""
    book, found = Book(["here", "gone"], [True, True], {}), []
    for i, group in enumerate(groups):
        try:
            book.apply(group, 1000 + i)
        except MatchError:
            continue
        found.append(Record(book.version, 1000 + i, tuple(group)))
    return found


@given(st.lists(st.lists(CHANGES, min_size=1, max_size=3), max_size=24), st.booleans())
def test_it_comes_to_the_same(groups: list[list[RosterChange]], active: bool) -> None:
    records = accepted(groups)
    fewer = compacted(records)
    before, after = replayed(records, active), replayed(fewer, active)
    assert dict(after.view()) == dict(before.view())
    assert {i: after.entry(after.codes[i]) for i in after.ids} == {i: before.entry(before.codes[i]) for i in before.ids}
    named = [{key: {book.ids[c] for c in who} for key, who in book.blocked.items()} for book in (before, after)]
    assert named[0] == named[1]
    assert {before.ids[c] for c in before.left} == {after.ids[c] for c in after.left}
    assert compacted(fewer) == fewer
    assert all(one.version in {r.version for r in records} for one in fewer)


def test_what_was_replaced_is_left_out() -> None:
    states = [Record(i, i, (State("here", "busy" if i % 2 else "idle"),)) for i in range(1, 200)]
    assert compacted(states) == [Record(199, 199, (State("here", "idle"), State("here", "busy")))]
