"""A roster that learns while it serves: after each hand-over it is the roster that rolling the log forward makes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serve import live_rows
from serve import snapshot as snapshots
from serve.contact import clean, columns_of
from serve.matcher import Matcher
from serve.roll import Roll
from serve.rolling import RollingMatcher
from serve.seen import Seen
from tests.serve import fakes
from twotower.bundle.sessions import CONTACT_OUTPUTS, Encoded
from twotower.clock import DAY
from twotower.features.csa import CsaFeatures, of_past
from twotower.tables.log import Log

RANKS = ("success", "handled")
UNTIL, END = fakes.until_us(), fakes.until_us(34)
CONTACT = {"intent_text": "my refund please", "channel": "chat", "language": "en"}


@pytest.fixture
def rolling(folder: Path, data: Path) -> RollingMatcher:
    return RollingMatcher(Matcher.load(folder), Log.load(data))


def seen_of(rolling: RollingMatcher, position: int) -> Seen:
    """A contact of the log as it was read on its arrival."""
    encoded = Encoded(*(getattr(rolling._encoded, name)[position : position + 1] for name in CONTACT_OUTPUTS))
    contacts = fakes.tables()["contacts"]
    row = {name: contacts[name][position].as_py() for name in contacts.column_names}
    schema, fields = rolling._bundle.schema, clean(row)
    rows = schema.rows(columns_of([fields]))
    return Seen(rolling._bundle.manifest.id, fields, rows, schema.codes(rows), encoded)


def events(log: Log) -> Iterator[tuple[int, str, int]]:
    """What happens after the bundle's window: (moment, what, hand-over), in time."""
    moves = log.handovers
    found = [(int(at), "assigned", i) for i, at in enumerate(moves.assigned_at) if at >= UNTIL]
    found += [(int(at), "finished", i) for i, at in enumerate(moves.ended_at) if at >= UNTIL]
    found += [(int(at), "known", i) for i, at in enumerate(moves.known_at) if at >= UNTIL]
    yield from sorted(found)


def follow(matcher: Matcher, rolling: RollingMatcher) -> int:
    """Tell the matcher all that happened after its window; how many outcomes."""
    moves, ids, told = rolling.log.handovers, rolling.log.csas.ids.to_pylist(), 0
    for at, what, i in events(rolling.log):
        csa_id = ids[moves.csa[i]]
        if what != "known":
            (matcher.assigned if what == "assigned" else matcher.finished)(csa_id, at)
            continue
        csat, seconds = float(moves.csat[i]), float(moves.handle_time_s[i])
        outcome: dict[str, Any] = {
            "resolved": None if moves.resolved[i] < 0 else bool(moves.resolved[i]),
            "transferred": None if moves.transferred[i] < 0 else bool(moves.transferred[i]),
            "csat": None if np.isnan(csat) else csat,
            "handle_time_s": None if np.isnan(seconds) else seconds,
        }
        matcher.ended(seen_of(rolling, int(moves.contact[i])), csa_id, at, **outcome)
        told += 1
    return told


def test_scores_are_those_of_rolling_forward(folder: Path, rolling: RollingMatcher) -> None:
    """Memory to the bit; profile vectors, which training reads at snapshots, are put in from there."""
    matcher = Matcher.load(folder)
    assert follow(matcher, rolling) > 40
    everyone = np.arange(len(matcher.snapshot.ids))
    view = matcher.snapshot
    for position in (0, 5, 10):  # whose customer is not known
        one = rolling.contacts(np.array([position]))
        late = type(one)(**{**vars(one), "arrived_at": np.array([END])})
        assert late.customer[0] == -1
        for rank in RANKS:
            theirs = rolling.score(late, everyone, rank)  # type: ignore[arg-type]
            vectors = rolling._resumed.profiles(END)[everyone]
            mine = matcher._join.score(rank, late, view.memory, everyone, vectors)  # type: ignore[arg-type]
            np.testing.assert_array_equal(mine.contributions, theirs.contributions)


def test_after_a_refresh_features_and_vectors_are_those_of_a_snapshot(whole_bundle: Path, data: Path) -> None:
    """To the bit: all of them know the same of everyone, load included, and nobody's hiring is known."""
    matcher = Matcher.load(whole_bundle)
    rolling = RollingMatcher(Matcher.load(whole_bundle), Log.load(data))
    follow(matcher, rolling)
    matcher.refresh(END)
    roll: Roll = rolling._resumed
    vectors = roll.profiles(END)
    # The one who joined since has no past, and is not in the bundle.
    expected = CsaFeatures(rolling.log.csas, matcher.bundle.schema, roll._embed).at(END, roll._engine)[:-1]
    np.testing.assert_array_equal(matcher._started()._features, expected)
    view = matcher.snapshot
    np.testing.assert_array_equal(view.vectors_of(np.arange(len(view.ids))), vectors[:-1])
    rolled = roll.spread(END)
    np.testing.assert_array_equal(view.spread.trained.parts, rolled.trained.parts[:-1])
    taught = [code for code, root in enumerate(view.spread.roots) if root is not None]
    assert taught == [code for code, root in enumerate(rolled.roots) if root is not None]
    assert taught  # outcomes have taught something
    for code in taught:
        np.testing.assert_array_equal(view.spread.roots[code], rolled.roots[code])
    np.testing.assert_array_equal(view.own_of(np.arange(len(view.ids))), roll.own(END)[:-1])
    assert not np.array_equal(roll.own(END)[:-1], matcher.bundle.roster.own)
    np.testing.assert_array_equal(view.profiles.vectors, vectors[:-1])
    assert len(view.history.index) == int((view.memory.end - view.memory.begin).clip(max=fakes.PER_CSA).sum())


def test_an_outcome_teaches_how_good_its_csa_is_and_how_sure_that_is(folder: Path) -> None:
    matcher = Matcher.load(folder)

    def of_all() -> dict[str, tuple[float, float]]:
        found = matcher.match(CONTACT, k=len(matcher.snapshot.ids), rank="success")
        return {one.csa_id: (one.score, one.uncertainty or 0.0) for one in found}

    before = of_all()
    who = max(before, key=lambda csa_id: before[csa_id][1])
    assert before[who][1] > 0
    for i in range(5):
        matcher.ended(CONTACT, who, UNTIL + i * DAY, resolved=True)
    good = of_all()
    assert good[who][1] < before[who][1]
    profile = matcher.read(CONTACT).encoded.profile[0]
    place = matcher.snapshot.codes[who]
    learnt = matcher._started()._beliefs.vector(place, np.zeros_like(profile)) @ profile
    assert learnt > 0
    for i in range(5, 15):
        matcher.ended(CONTACT, who, UNTIL + i * DAY, resolved=False)
    assert matcher._started()._beliefs.vector(place, np.zeros_like(profile)) @ profile < learnt
    unknown = of_all()[who][1]
    matcher.ended(CONTACT, who, UNTIL + 15 * DAY, resolved=None)
    assert of_all()[who][1] == unknown
    others = [csa_id for csa_id in before if csa_id != who]
    assert all(of_all()[csa_id][1] == before[csa_id][1] for csa_id in others)


def test_a_contact_that_waited_still_finds_what_newer_outcomes_replaced(bundle_folder: Path, data: Path) -> None:
    """Rolling forward gives a contact the last rows before its arrival, however many came since."""
    matcher = Matcher.load(bundle_folder)
    rolling = RollingMatcher(Matcher.load(bundle_folder), Log.load(data))
    follow(matcher, rolling)
    everyone, moments = np.arange(len(matcher.snapshot.ids)), np.unique(rolling.log.handovers.known_at)
    one = rolling.contacts(np.array([0]))
    for moment in moments[moments > UNTIL]:
        at = type(one)(**{**vars(one), "arrived_at": np.array([moment])})
        theirs = rolling.score(at, everyone, "handled")
        vectors = rolling._resumed.profiles(int(moment))[everyone]
        mine = matcher._join.score("handled", at, matcher.snapshot.memory, everyone, vectors)
        np.testing.assert_array_equal(mine.contributions, theirs.contributions)


def test_a_hand_over_moves_its_csa_and_nobody_else(whole_bundle: Path) -> None:
    matcher = Matcher.load(whole_bundle)
    before = matcher.snapshot
    matcher.ended(CONTACT, "csa-03", UNTIL + DAY, resolved=True, handle_time_s=60, csat=5)
    after, live, code = matcher.snapshot, matcher._started(), before.codes["csa-03"]
    others = np.delete(np.arange(len(after.ids)), code)
    np.testing.assert_array_equal(after.vectors_of(others), before.vectors_of(others))
    assert (after.vectors_of(np.array([code])) != before.vectors_of(np.array([code]))).any()
    runs = after.memory.end - after.memory.begin
    assert (runs[others] == (before.memory.end - before.memory.begin)[others]).all()
    # As everyone would be read at that moment, with what numbers were shrunk towards before.
    whole = of_past(matcher.bundle.schema, live._engine, live.moment, priors=live._priors)
    np.testing.assert_array_equal(live._features[code, live._past], whole[code])


def test_who_did_well_ranks_higher_at_the_next_call(matcher: Matcher) -> None:
    def score(csa_id: str) -> float:
        found = matcher.match(CONTACT, k=100, at=UNTIL + 2 * DAY, rank="success")
        return next(one.score for one in found if one.csa_id == csa_id)

    before = {csa_id: score(csa_id) for csa_id in ("csa-04", "csa-05", "csa-06")}
    matcher.ended(CONTACT, "csa-04", UNTIL + DAY, resolved=True)
    matcher.ended(CONTACT, "csa-05", UNTIL + DAY + 1, resolved=False)
    assert score("csa-04") > before["csa-04"]
    assert score("csa-05") < before["csa-05"]
    assert score("csa-06") == before["csa-06"]


def test_a_contact_without_a_time_is_matched_now(matcher: Matcher) -> None:
    matcher.ended(CONTACT, "csa-04", UNTIL + DAY, resolved=True)
    assert matcher.match(CONTACT, k=100) == matcher.match(CONTACT, k=100, at=UNTIL + DAY + 1)


def test_what_read_made_is_matched_like_the_contact(matcher: Matcher) -> None:
    assert matcher.match(matcher.read(CONTACT), k=5) == matcher.match(CONTACT, k=5)


def test_a_held_snapshot_stays_what_it_was(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_rows, "LEAST_ROOM", 8)
    monkeypatch.setattr(live_rows, "SPARE", 1)
    matcher = Matcher.load(folder)
    seen = matcher.read(CONTACT)
    matcher.ended(seen, "csa-01", UNTIL + DAY, resolved=True)
    held, vectors = matcher.snapshot, matcher.vectors(seen.encoded, [UNTIL + 9 * DAY])

    def ranked() -> list[Any]:
        found = matcher.rank(vectors, 20, snapshot=held)
        return [found.codes.tolist(), found.score.tolist()]

    before = ranked()
    for i in range(200):
        matcher.ended(seen, f"csa-{i % 11:02}", UNTIL + DAY + i, resolved=bool(i % 2))
    matcher.refresh()
    assert ranked() == before
    assert len(matcher.snapshot.fresh[1]) == 0


@pytest.mark.parametrize("refreshed", [False, True])
def test_work_of_today_is_found_among_many(folder: Path, monkeypatch: pytest.MonkeyPatch, refreshed: bool) -> None:
    """With every search down to a single row, the CSA behind it is who has just done the like."""
    for name in ("EXACT_CSAS", "EXACT_HISTORY"):
        monkeypatch.setattr(snapshots, name, 0)
    for name in ("FROM_SURROGATE", "FROM_HISTORY_ROWS", "TIGHT"):
        monkeypatch.setattr(snapshots, name, 1)
    matcher = Matcher.load(folder)
    seen = matcher.read({"intent_text": "invoice invoice invoice"})
    matcher.ended(seen, "csa-07", UNTIL + DAY, resolved=True)
    if refreshed:
        matcher.refresh()
    vectors = matcher.vectors(seen.encoded, [UNTIL + DAY + 1])
    assert matcher.snapshot.codes["csa-07"] in matcher.snapshot.candidates(vectors, "handled", 1)
    others = np.array([code for csa_id, code in matcher.snapshot.codes.items() if csa_id != "csa-07"])
    assert matcher.snapshot.codes["csa-07"] not in matcher.snapshot.candidates(vectors, "handled", 1, others)
