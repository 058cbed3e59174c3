"""A roster that changes while it serves: who joins can be found at the next call, who left is gone, whatever the caller
lists; what is declared moves a CSA's vector to where a bundle that was made with it has it."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pytest

from serve import snapshot as snapshots
from serve.contact import MatchError
from serve.matcher import Matcher
from serve.roster.changes import Block, Change, Join, Leave, RosterChange, Shift, State, Unblock, from_json, to_json
from serve.roster.eligibility import Need
from tests.serve import fakes

CONTACT = {"intent_text": "my refund please", "channel": "chat", "language": "en", "customer_id": "someone"}
NEW = {"languages": ["en-GB", "de"], "skills": [{"name": "refund", "level": 0.9}], "profile": "refund refund"}


def who(matcher: Matcher, **options: object) -> list[str]:
    """Ids of all candidates of a contact, best first."""
    return [found.csa_id for found in matcher.match(CONTACT, k=100, **options)]  # type: ignore[arg-type]


@pytest.fixture(params=[False, True], ids=["exact", "searched"])
def searched(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """With everyone scored, and with as few as searches leave."""
    if request.param:
        monkeypatch.setattr(snapshots, "EXACT_CSAS", 2)
        monkeypatch.setattr(snapshots, "FROM_SURROGATE", 2)
        monkeypatch.setattr(snapshots, "FROM_HISTORY_ROWS", 2)


def test_who_joins_is_found_at_the_next_call_and_who_leaves_is_gone(matcher, searched):
    before = who(matcher)
    assert matcher.update_roster([Join("new", NEW)]) == 1
    assert "new" in who(matcher)
    assert "new" in who(matcher, eligible=["new", before[0]])
    assert matcher.update_roster([Leave("new"), Leave(before[0])]) == 2
    assert not {"new", before[0]} & set(who(matcher))
    assert who(matcher, eligible=["new", before[0], before[1]]) == [before[1]]
    matcher.refresh()
    assert not {"new", before[0]} & set(who(matcher))
    matcher.update_roster([Join(before[0])])
    assert before[0] in who(matcher)
    assert "new" not in who(matcher)


@pytest.mark.parametrize("families", [None, fakes.ALL], ids=["default", "every family"])
def test_a_joiner_is_who_a_bundle_made_with_them_would_have(tmp_path, families):
    """One who has handled nothing: in the roster of a bundle, and joined to one that does not know them."""
    tables, late = fakes.tables(), "csa-10"
    moves = tables["interactions"]
    tables["interactions"] = moves.filter(pc.not_equal(moves["csa_id"], late))
    csas = tables["csas"]
    row = next(row for row in csas.to_pylist() if row["csa_id"] == late)
    options = {} if families is None else {"families": families}
    matchers = []
    for name, rows in (("with", csas), ("without", csas.filter(pc.not_equal(csas["csa_id"], late)))):
        contacts = tables["contacts"]
        bare = contacts.drop_columns("eligible")
        place = fakes.write_tables({**tables, "csas": rows, "contacts": bare}, tmp_path / name / "data")
        run = fakes.write_run(place, tmp_path / name / "run", **options)
        matchers.append(Matcher.load(fakes.fake_bundle(run, tmp_path / name / "bundle")))
    other, matcher = matchers
    columns = {k: v for k, v in row.items() if k not in ("csa_id", "valid_from", "left_at") and v is not None}
    matcher.update_roster([Join(late, columns)])
    code, there = matcher.snapshot.codes[late], other.snapshot.codes[late]
    features, expected = matcher._started()._features[code], other.bundle.roster.features[there]
    assert features == pytest.approx(expected, abs=1e-5)
    # Whom training never saw has no identity of their own.
    stranger = matcher.bundle.csa_encoder.encode(expected[None], np.zeros(1, np.int64))[0]
    assert matcher.snapshot.vectors_of(np.array([code])) == pytest.approx(stranger, abs=1e-4)
    assert late in who(matcher)


def test_what_is_declared_anew_moves_the_vector_and_is_scored_though_no_index_knows(matcher, searched):
    ids = who(matcher)
    last = ids[-1]
    code = np.array([matcher.snapshot.codes[last]])
    before = matcher.snapshot.vectors_of(code).copy()
    matcher.update_roster([Change(last, {"skills": [{"name": "refund", "level": 1.0}], "profile": "refund me"})])
    assert not np.allclose(matcher.snapshot.vectors_of(code), before)
    assert last in who(matcher)
    matcher.update_roster([Change(last, {"capacity": 3})])
    moved = matcher.snapshot.vectors_of(code).copy()
    matcher.refresh()
    assert np.allclose(matcher.snapshot.vectors_of(code), moved, atol=1e-5)
    assert not len(matcher.snapshot.unindexed)


def test_hand_overs_of_a_joiner_are_remembered_and_stay_theirs(matcher):
    matcher.update_roster([Join("new", NEW)])
    seen = matcher.read(CONTACT)
    cold = next(c for c in matcher.match(seen, k=100) if c.csa_id == "new")
    for day in range(3):
        matcher.ended(seen, "new", fakes.until_us(21 + day), resolved=True, handle_time_s=60)
    warm = next(c for c in matcher.match(seen, k=100) if c.csa_id == "new")
    assert warm.p_resolved > cold.p_resolved
    assert warm.uncertainty < cold.uncertainty
    matcher.update_roster([Leave("new")])
    matcher.update_roster([Join("another"), Join("new")])
    back = {c.csa_id: c for c in matcher.match(seen, k=100)}
    assert back["new"].p_resolved == pytest.approx(warm.p_resolved, abs=1e-5)
    assert back["another"].p_resolved < warm.p_resolved
    matcher.refresh()
    again = {c.csa_id: c for c in matcher.match(seen, k=100)}
    assert set(again) == set(back)


def test_a_roster_may_grow_far_past_the_room_it_had(matcher):
    before = len(matcher.snapshot.ids)
    changes: list[RosterChange] = [Join(f"new-{i:03}", NEW) for i in range(200)]
    assert matcher.update_roster(changes) == 1
    found = who(matcher)
    assert {f"new-{i:03}" for i in range(200)} <= {c.csa_id for c in matcher.match(CONTACT, k=1000)}
    assert len(found) == 100
    assert len(matcher.roster()) == before + 200
    matcher.refresh()
    assert len(matcher.match(CONTACT, k=1000)) == matcher.roster().active


def test_needs_are_answered_by_what_is_declared_and_known(matcher):
    ids = who(matcher)
    a, b, c = ids[:3]
    matcher.update_roster(
        [
            Change(a, {"languages": ["de-AT"], "channels": ["voice"]}),
            Change(b, {"languages": ["de"], "channels": ["chat", "voice"]}),
            Change(c, {"languages": []}),
        ]
    )
    spoken = set(who(matcher, eligible=Need("de-CH", "chat")))
    assert b in spoken
    assert c in spoken  # of whom no language is declared
    assert a not in spoken
    assert a in who(matcher, eligible=Need("de", "voice"))
    matcher.update_roster([State(b, "busy")])
    assert b not in who(matcher, eligible=Need("de", "chat"))
    assert b in who(matcher, eligible=Need("de", "chat", states=("idle", "busy")))
    matcher.update_roster([State(b, "idle"), Shift(b, False)])
    assert b not in who(matcher, eligible=Need("de", "chat"))
    assert b in who(matcher, eligible=Need("de", "chat", on_shift=False))
    assert who(matcher, eligible=Need("xx", "pigeon", states=("away",))) == []
    with pytest.raises(MatchError, match="state 'asleep'; idle, busy, away are known"):
        Need(states=("asleep",))


def test_a_customer_does_not_meet_whom_they_must_not(matcher):
    ids = who(matcher)
    matcher.update_roster([Block(ids[0], "someone"), Block(ids[1], "someone"), Block(ids[2], "other")])
    assert who(matcher) == ids[2:]
    assert who(matcher, eligible=ids[:3]) == [ids[2]]
    assert ids[0] not in who(matcher, eligible=Need())
    batch = matcher.match_batch([CONTACT, {**CONTACT, "customer_id": None}], k=100, eligible=[Need(), None])
    assert ids[0] not in [c.csa_id for c in batch[0]]
    assert ids[0] in [c.csa_id for c in batch[1]]
    matcher.update_roster([Unblock(ids[0], "someone")])
    assert who(matcher) == [ids[0], *ids[2:]]
    assert "someone" not in repr(vars(matcher._books()))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ([Join("new"), Leave("nobody")], r"change 1 \(leave 'nobody'\): the roster does not hold this CSA"),
        ([Join("new", {"shoe": 3})], r"change 0 \(join 'new'\): unknown column 'shoe'; known are site"),
        ([Join("new", {"languages": ["???"]})], r"languages: '\?\?\?' is no language tag"),
        ([Join("new", {"languages": ["en\n"]})], r"languages: 'en\\n' is no language tag"),
        ([Join("new", {"skills": [{"name": "x", "level": 7}]})], r"skills 'x', level: a number from 0 to 1 expected"),
        ([Join("new", {"capacity": -1})], "capacity: a whole number of at least 0 expected"),
        ([Join("new"), State("new", "asleep")], "state must be one of idle, busy, away"),
        ([Join("")], "csa_id must be text of 1 to 512 characters"),
    ],
)
def test_of_changes_that_cannot_be_none_is_made(matcher, changes, message):
    before, version = who(matcher), matcher.roster().version
    with pytest.raises(MatchError, match=message):
        matcher.update_roster(changes)
    assert who(matcher) == before
    assert matcher.roster().version == version
    assert "new" not in matcher.roster().ids


def test_a_fault_inside_leaves_the_roster_as_it_was(matcher, monkeypatch):
    before = who(matcher)
    matcher.update_roster([Shift(before[0], True)])
    monkeypatch.setattr(matcher._started(), "_embed", lambda texts: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        matcher.update_roster([Leave(before[0]), Join("new", NEW), Block(before[1], "someone")])
    assert who(matcher) == before
    assert matcher.roster().version == 1
    monkeypatch.undo()
    matcher.update_roster([Join("new", NEW)])
    assert "new" in who(matcher)


def test_changes_cross_as_json():
    changes: list[RosterChange] = [
        Join("a", {"languages": ["en"]}), Leave("a"), Change("a", {"profile": "x"}), Shift("a", False),
        State("a", "away"), Block("a", "c"), Unblock("a", "c"),
    ]  # fmt: skip
    for change in changes:
        assert from_json(to_json(change)) == change
    for value, message in (
        ([], "an object expected"),
        ({"op": "fire", "csa_id": "a"}, "op 'fire'; join, leave"),
        ({"op": "shift", "csa_id": "a"}, "field 'on' is missing"),
        ({"op": "leave", "csa_id": "a", "why": "x"}, "unknown field 'why'"),
        ({"op": "shift", "csa_id": "a", "on": "yes"}, "on must be true or false"),
        ({"op": "leave", "csa_id": 7}, "csa_id must be text"),
    ):
        with pytest.raises(MatchError, match=message):
            from_json(value)


def test_no_answer_that_begins_after_the_call_holds_who_left(matcher):
    """Matching in two threads while CSAs leave and come back."""
    ids = who(matcher)
    away: dict[str, float] = {}
    wrong: list[str] = []
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set():
            gone = set(away)
            found = set(who(matcher))
            # Who was away before the call and is still away after it was away all the time.
            wrong.extend(gone & set(away) & found)

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    for turn in range(60):
        name = ids[turn % len(ids)]
        matcher.update_roster([Leave(name)])
        away[name] = turn
        if turn >= 3:
            back = ids[(turn - 3) % len(ids)]
            del away[back]
            matcher.update_roster([Join(back)])
    stop.set()
    for thread in threads:
        thread.join()
    assert not wrong


def test_the_view_tells_who_is_in(matcher, tmp_path: Path):
    ids = who(matcher)
    matcher.update_roster([Join("new", NEW), State(ids[0], "busy")], at=fakes.until_us(21))
    view = matcher.roster()
    rows = dict(view)
    assert view.version == 1
    assert rows["new"].joined
    assert rows["new"].languages == ("en-GB", "de")
    assert (rows[ids[0]].state, rows[ids[0]].since) == ("busy", fakes.until_us(21))
    assert view.to_json()["csas"][-1]["csa_id"] == "new"
    matcher.update_roster([Leave("new")])
    assert rows["new"].active
    assert not dict(matcher.roster())["new"].active
