"""Rolling history forward: everything known strictly before an arrival counts, nothing later takes part."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from serve.matcher import Matcher
from serve.roll import Roll
from serve.rolling import Floats, RollingMatcher
from tests.serve import fakes
from tests.support import replaced
from twotower.features.schema import log_columns
from twotower.scoring.join import Rank
from twotower.scoring.rows import build_rows
from twotower.tables.log import Log

RANKS: tuple[Rank, ...] = ("success", "handled")
OUTCOME = ("resolved", "handle_time_s", "transferred", "csat")  # what is known of a hand-over at `known_at`


@pytest.fixture(scope="module", params=["bundle_folder", "whole_bundle"], ids=["default", "every family"])
def matcher(request: pytest.FixtureRequest) -> Matcher:
    """The bundle, loaded: with the features that are on by default, and with all there are."""
    return Matcher.load(request.getfixturevalue(request.param))


@pytest.fixture
def rolling(matcher: Matcher, data: Path) -> RollingMatcher:
    return RollingMatcher(matcher, Log.load(data))


def removed_from(content: dict[str, pa.Table], contact_id: str) -> dict[str, pa.Table]:
    """The tables without anything known at or after a contact's arrival, the contact itself kept.

    A hand-over that was assigned before is known to have been, but not what came of it.
    """
    contacts, moves, csas = (content[name] for name in ("contacts", "interactions", "csas"))
    place = contacts["contact_id"].to_pylist().index(contact_id)
    arrived = contacts["arrived_at"][place]
    keep = pc.or_(pc.less(contacts["arrived_at"], arrived), pc.equal(contacts["contact_id"], contact_id))
    contacts = contacts.filter(keep)
    begun = pc.and_(pc.less(moves["assigned_at"], arrived), pc.is_in(moves["contact_id"], contacts["contact_id"]))
    moves = moves.filter(begun)
    known, ended = (pc.less(moves[name], arrived) for name in ("known_at", "ended_at"))
    for name, there in (("ended_at", ended), *((name, known) for name in OUTCOME)):
        moves = replaced(moves, name, pc.if_else(there, moves[name], pa.scalar(None, moves[name].type)))
    hired = pc.fill_null(pc.less_equal(csas["hired_at"], arrived), True)
    return {"contacts": contacts, "interactions": moves, "csas": csas.filter(hired)}


ASKED = pytest.mark.parametrize("contact_id", ["c0040", "c0090", "c0110", "c0125", "c0159"])


@ASKED
def test_removing_what_became_known_later_changes_no_bit(
    matcher: Matcher, rolling: RollingMatcher, tmp_path: Path, contact_id: str
) -> None:
    """From inside the data window (the log is replayed) and from after it (the bundle is resumed)."""
    rolling.scores(np.arange(160))  # everything else asked for before must not matter either
    past = Log.load(fakes.write_tables(removed_from(fakes.tables(), contact_id), tmp_path / "past"))
    assert len(past.handovers) < len(rolling.log.handovers)
    assert (past.handovers.resolved < 0).any()
    assert_same_scores(rolling, RollingMatcher(matcher, past), contact_id)


def assert_same_scores(whole: RollingMatcher, other: RollingMatcher, contact_id: str) -> None:
    """To the bit, for a contact of two logs, over the CSAs of the second, who are in the first."""
    here, there = (np.array([log.contacts.ids.to_pylist().index(contact_id)]) for log in (whole.log, other.log))
    columns = [whole.log.csas.ids.to_pylist().index(i) for i in other.log.csas.ids.to_pylist()]
    for rank in RANKS:
        np.testing.assert_array_equal(whole.scores(here, rank)[:, columns], other.scores(there, rank))
    p, other_p = whole.p_resolved(here), other.p_resolved(there)
    assert p is not None
    assert other_p is not None
    np.testing.assert_array_equal(p[:, columns], other_p)


def added_to(content: dict[str, pa.Table], contact_id: str, late: timedelta) -> dict[str, pa.Table]:
    """The tables with more that its customer does, and with more outcomes of theirs, so long after a contact's arrival.

    The customer comes again three times, and everybody who ever served them is told to have failed.
    """
    contacts, moves = content["contacts"], content["interactions"]
    rows = contacts.to_pylist()
    one = next(row for row in rows if row["contact_id"] == contact_id)
    assert one["customer_id"] is not None
    at = one["arrived_at"] + late
    again = [{**one, "contact_id": f"{name}{contact_id}", "arrived_at": at} for name in ("a", "cc", "z")]
    again = [{**row, "intent_text": "furious furious cancel", "eligible": None} for row in again]
    earlier = {row["contact_id"] for row in rows if row["customer_id"] == one["customer_id"]}
    known = {"assigned_at": at, "ended_at": at, "known_at": at, "resolved": False, "handle_time_s": 9000.0}
    more = [{**row, **known, "transferred": True, "csat": 1.0} for row in moves.to_pylist()
            if row["contact_id"] in earlier and row["assigned_at"] <= at]  # fmt: skip
    assert more
    return {
        **content,
        "contacts": pa.Table.from_pylist([*rows, *again], contacts.schema),
        "interactions": pa.Table.from_pylist([*moves.to_pylist(), *more], moves.schema),
    }


@pytest.mark.parametrize("late", [timedelta(0), timedelta(microseconds=1), timedelta(days=2)])
@pytest.mark.parametrize("contact_id", ["c0041", "c0091", "c0127", "c0158"])
def test_adding_what_becomes_known_of_the_customer_later_changes_no_bit(
    matcher: Matcher, rolling: RollingMatcher, tmp_path: Path, contact_id: str, late: timedelta
) -> None:
    """At the very microsecond of the arrival too: contacts of one instant do not see each other."""
    future = Log.load(fakes.write_tables(added_to(fakes.tables(), contact_id, late), tmp_path / "future"))
    assert_same_scores(RollingMatcher(matcher, future), rolling, contact_id)


def test_what_a_customer_did_a_microsecond_before_does_count(whole_bundle: Path, data: Path, tmp_path: Path) -> None:
    """So the test above looked at something: features of the customer and of the CSAs, each by its own rule."""
    matcher = Matcher.load(whole_bundle)
    just_before = added_to(fakes.tables(), "c0158", timedelta(microseconds=-1))
    before, after = (
        RollingMatcher(matcher, Log.load(folder))
        for folder in (data, fakes.write_tables(just_before, tmp_path / "more"))
    )
    numbers, encoded = matcher.bundle.schema.numbers, []
    for rolling in (before, after):
        place = rolling.log.contacts.ids.to_pylist().index("c0158")
        past = rolling.customers.at(rolling.log.contacts.customer[[place]], rolling.log.contacts.arrived_at[[place]])
        encoded.append(matcher.bundle.schema.contact_inputs(log_columns(rolling.log, np.array([place])), past)[1][0])
    moved = {name for name, a, b in zip(numbers, *encoded, strict=True) if a != b}
    assert {"contacts", "frequency_14d", "since_last", "style_n", "style_upset", "drift_upset", "met_bad_0"} <= moved
    assert not moved & {"hour_sin", "said_upset", "customer_known"}
    scores = [
        rolling.scores(np.array([rolling.log.contacts.ids.to_pylist().index("c0158")])) for rolling in (before, after)
    ]
    assert not np.array_equal(*scores)


def test_what_became_known_before_the_arrival_does_count(matcher: Matcher, tmp_path: Path) -> None:
    """The same log, but one earlier outcome of the best CSA is turned round: the last contact's scores move."""
    content = fakes.tables()
    before = RollingMatcher(matcher, Log.load(fakes.write_tables(content, tmp_path / "before")))
    moves = content["interactions"]
    late = int(before.log.contacts.arrived_at[-1]) - fakes.days(3)
    known = moves["known_at"].to_numpy().astype("datetime64[us]").astype(np.int64)
    flip = (known > fakes.until_us()) & (known < late)
    assert flip.any()
    turned = [bool(r) ^ bool(f) for r, f in zip(moves["resolved"].to_pylist(), flip, strict=True)]
    content["interactions"] = moves.set_column(moves.schema.get_field_index("resolved"), "resolved", pa.array(turned))
    after = RollingMatcher(matcher, Log.load(fakes.write_tables(content, tmp_path / "after")))
    last = np.array([159])
    assert not np.array_equal(before.scores(last, "success"), after.scores(last, "success"))


def test_known_means_strictly_before(matcher: Matcher, tmp_path: Path) -> None:
    """An outcome known in the very microsecond of an arrival changes nothing; one microsecond earlier it does."""

    def last_scores(offset_us: int, name: str) -> np.ndarray:
        content = fakes.tables()
        arrived = content["contacts"]["arrived_at"][159].as_py()
        moves = content["interactions"]
        known = moves["known_at"].to_pylist()
        known[150] = arrived + timedelta(microseconds=offset_us)
        moves = moves.set_column(
            moves.schema.get_field_index("known_at"), "known_at", pa.array(known, pa.timestamp("us", "UTC"))
        )
        content["interactions"] = moves
        log = Log.load(fakes.write_tables(content, tmp_path / name))
        return RollingMatcher(matcher, log).scores(np.array([159]), "handled")

    never, now, just_before = (last_scores(us, str(us)) for us in (10**9, 0, -1))
    np.testing.assert_array_equal(never, now)
    assert not np.array_equal(never, just_before)


def test_the_order_of_asking_does_not_matter(matcher: Matcher, data: Path) -> None:
    forward, backward = (RollingMatcher(matcher, Log.load(data)) for _ in range(2))
    positions = np.arange(60, 160)
    whole = forward.scores(positions, "handled")
    pieces = [backward.scores(np.array([p]), "handled")[0] for p in positions[::-1]]
    np.testing.assert_array_equal(whole, np.stack(pieces[::-1]))


def test_candidates_are_the_eligible_list_or_everyone_active(rolling: RollingMatcher) -> None:
    names = rolling.log.csas.ids.to_pylist()
    scores = rolling.scores(np.arange(160), "handled")
    for i in range(160):
        eligible = rolling.log.contacts.eligible
        assert eligible is not None
        row = eligible.row(i)
        expected = set(rolling.active(int(rolling.log.contacts.arrived_at[i])) if row is None else row)
        assert set(np.flatnonzero(np.isfinite(scores[i]))) == expected
    without_list = [i for i in range(160) if i % 2]
    on_day_23 = [i for i in without_list if rolling.log.contacts.arrived_at[i] > fakes.until_us(23)]
    assert not np.isfinite(scores[on_day_23][:, names.index("csa-00")]).any()
    assert np.isfinite(scores[without_list[0], names.index("csa-00")])


def test_a_csa_whom_the_bundle_never_saw_is_ranked(rolling: RollingMatcher, matcher: Matcher) -> None:
    """csa-11 was hired on day 25, five days after the bundle's window."""
    assert "csa-11" not in matcher.snapshot.codes
    late = np.flatnonzero(rolling.log.contacts.arrived_at > fakes.until_us(26))
    assert np.isfinite(rolling.scores(late, "success")[:, rolling.log.csas.ids.to_pylist().index("csa-11")]).any()


def test_p_resolved_is_a_probability_of_the_same_candidates(rolling: RollingMatcher) -> None:
    positions = np.arange(100, 160)
    scores, p = rolling.scores(positions, "success"), rolling.p_resolved(positions)
    assert p is not None
    np.testing.assert_array_equal(np.isfinite(scores), np.isfinite(p))
    found = np.isfinite(p)
    np.testing.assert_allclose(p[found], 1 / (1 + np.exp(-scores[found].astype(np.float64))), rtol=1e-5)


def test_at_the_end_of_the_window_the_roll_is_the_bundle(rolling: RollingMatcher, matcher: Matcher) -> None:
    """With nothing known since, rows, vectors and so the scores (but for the customer's own past) are the bundle's."""
    one = matcher.vectors(matcher.bundle.contact_encoder.encode_one({"intent_text": "lost card"}), [None])
    codes = np.arange(len(matcher.snapshot.ids))
    served = matcher.bundle.join.score("handled", one, matcher.snapshot.memory, codes, matcher.bundle.roster.vectors)
    rolled = rolling.score(one, codes, "handled")
    np.testing.assert_allclose(rolled.score, served.score, atol=1e-5)


def test_resumed_rows_are_those_of_the_whole_log(rolling: RollingMatcher, matcher: Matcher) -> None:
    """Bundle plus later hand-overs hold, at every later moment, what a memory over the whole log holds."""
    log, encoded = rolling.log, rolling._encoded
    moves = log.handovers
    whole = build_rows(
        moves.csa, moves.known_at, encoded.memory[moves.contact], np.zeros(len(moves), np.float32), moves.resolved,
        log.contacts.customer[moves.contact], moves.contact.astype(np.int64), fakes.PER_CSA,
    )  # fmt: skip
    merged = rolling._resumed.memory.rows
    for day in (20, 23, 27, 31):
        moment = fakes.until_us(day)
        a, b = whole.take(whole.visible(moment)), merged.take(merged.visible(moment))
        np.testing.assert_array_equal(a.csa, b.csa)
        np.testing.assert_array_equal(a.known_at, b.known_at)
        np.testing.assert_array_equal(a.vectors(), b.vectors())


def test_resumed_csas_are_described_as_replayed_ones(rolling: RollingMatcher) -> None:
    for day in (20, 22, 29):
        resumed, replayed = (
            _features(roll, fakes.until_us(day) + 12345) for roll in (rolling._resumed, rolling._replayed)
        )
        np.testing.assert_allclose(resumed, replayed, atol=1e-5)
    profiles = rolling._resumed.profiles
    assert not np.allclose(profiles(fakes.until_us(20)), profiles(fakes.until_us(29)))


def _features(roll: Roll, moment: int) -> Floats:
    """CSA features (J, G) behind the vectors of a moment that has not been asked for yet."""
    roll.profiles(moment)
    return roll._features.at(roll._engine.moment, roll._engine)


def test_a_returning_customer_is_remembered(rolling: RollingMatcher) -> None:
    """The pairing part speaks for those who served this customer before, and for nobody else's customer."""
    vectors = rolling.contacts(np.array([159]))
    log = rolling.log
    mine = log.contacts.customer[log.handovers.contact] == vectors.customer[0]
    before = set(log.handovers.csa[mine & (log.handovers.known_at < vectors.arrived_at[0])].tolist())
    codes = rolling.active(int(vectors.arrived_at[0]))
    scored = rolling.score(vectors, codes, "handled")
    part = scored.contributions[:, list(scored.names).index("pair mass β=0 h=∞")]
    assert {int(c) for c, value in zip(codes, part, strict=True) if value > part.min()} == before & set(codes.tolist())
