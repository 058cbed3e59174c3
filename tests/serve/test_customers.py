"""The store of customers: what it knows as of when, that it forgets, and that it is built as it is updated."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.customers import Customers
from serve.customers_build import style_of_contact
from serve.matcher import Matcher
from serve.rolling import RollingMatcher
from tests.serve import fakes, returning
from tests.serve.graphs import MEMORY
from tests.serve.returning import SECRET, T
from tests.serve.returning import bundle as bundle
from tests.serve.returning import file as file
from tests.serve.returning import returning_data as returning_data
from twotower.clock import NEVER, NULL_TIME
from twotower.errors import DataError
from twotower.features.customer import STYLE
from twotower.scoring.join import ContactVectors
from twotower.tables.log import Log

HOUR = fakes.days(1 / 24)
BUNDLE = "b" * 64


def nobody_yet() -> Customers:
    return Customers.empty(SECRET, BUNDLE, 2)


def contact(level: float = 0.0, memory: tuple[float, float] = (1.0, 0.0)) -> ContactVectors:
    one = np.array([memory], np.float32)
    where = np.array([0]), np.zeros(1, np.int32)
    return ContactVectors(one, one, np.array([level], np.float32), one, *where)


def past(found: Customers, customer_id: str, arrived_at: int, moment: int | None = None):
    arrived, at = np.array([arrived_at]), np.array([arrived_at if moment is None else moment])
    return found.past(found.codes([customer_id]), arrived, at).reading


def is_exact(found: Customers, customer_id: str, arrived_at: int) -> bool:
    return bool(found.exact(found.codes([customer_id]), np.array([arrived_at]), np.array([arrived_at]))[0])


def written(found: Customers, path: Path) -> bytes:
    found.save(path)
    return path.read_bytes()


@pytest.mark.parametrize("customer_id", ["customer-3", "customer-12"])
def test_the_file_of_an_erased_customer_is_that_of_a_centre_they_never_called(
    bundle: Path, returning_data: Path, file: Path, tmp_path: Path, customer_id: str
) -> None:
    never = fakes.write_tables(returning.without(returning.tables(), customer_id), tmp_path / "never")
    found = Customers.load(file, SECRET)
    assert found.erase(customer_id)
    assert not found.erase(customer_id)
    assert written(found, tmp_path / "erased") == written(returning.build(bundle, never), tmp_path / "built")
    assert written(found, tmp_path / "erased") != file.read_bytes()
    assert b"pt-BR" in file.read_bytes()  # the language of customer-3 alone
    assert (b"pt-BR" in written(found, tmp_path / "erased")) == (customer_id != "customer-3")


def test_who_came_after_the_build_is_erased_without_a_trace(file: Path, tmp_path: Path) -> None:
    """Neither their time, the latest of all, nor the CSA whom they alone met, nor their language stays behind."""
    found = Customers.load(file, SECRET)
    before = written(found, tmp_path / "before")
    found.update_arrival("anna", T + HOUR, np.ones(len(STYLE), np.float32), since=T, language="fi-FI")
    found.update_arrival("anna", T + 2 * HOUR)
    vectors = replace(contact(), memory=np.ones((1, MEMORY), np.float32))
    found.update_handover("anna", "zed", T + 3 * HOUR, True, vectors, found.bundle)
    assert b"zed" in written(found, tmp_path / "with")
    assert b"fi-FI" in written(found, tmp_path / "with")
    found.erase("anna")
    assert written(found, tmp_path / "after") == before


def test_a_position_that_was_kept_finds_nobody_after_an_erasure(file: Path) -> None:
    found = Customers.load(file, SECRET)
    codes, now = found.codes(["customer-3"]), np.array([T + HOUR])
    assert found.past(codes, now, now).reading.count[0] > 0
    found.erase("customer-3")
    found.update_arrival("somebody else", T, language="fi")
    assert found.past(codes, now, now).reading.count.tolist() == [0]
    assert found.since(codes).tolist() == [NULL_TIME]
    assert found.languages(codes) == [None]
    kept = found.pairs(int(codes[0]), T + HOUR, {"csa-03": 0}, found.bundle)
    assert kept.rows is not None
    assert (len(kept.rows), kept.codes.tolist()) == (0, [])


def test_the_file_holds_no_customers_id_and_nothing_pickled(file: Path) -> None:
    content = file.read_bytes()
    assert b"customer-" not in content
    with np.load(file, allow_pickle=False) as data:
        assert {data[name].dtype.kind for name in data.files} <= {"i", "u", "f"}


def test_what_was_loaded_is_saved_as_the_same_bytes(file: Path, tmp_path: Path) -> None:
    assert written(Customers.load(file, SECRET), tmp_path / "again") == file.read_bytes()


def test_a_store_that_was_told_of_all_is_the_store_built_later(
    bundle: Path, returning_data: Path, tmp_path: Path
) -> None:
    """A third of the centre's days told as it became known is, to the byte, what building all of them gives."""
    log, half = Log.load(returning_data), fakes.write_tables(returning.cut(returning.tables()), tmp_path / "half")
    found = returning.build(bundle, half, None)
    tell(found, Matcher.load(bundle), log)
    assert written(found, tmp_path / "told") == written(returning.build(bundle, returning_data, None), tmp_path / "all")


def tell(found: Customers, matcher: Matcher, log: Log) -> None:
    """Everything of a log from T on, in the order in which it became known."""
    moves, schema, known_to = log.handovers, matcher.bundle.schema, Matcher(matcher.bundle, found)
    encoded = RollingMatcher(matcher, log).contacts(np.arange(len(log.contacts)))
    events = [(int(log.contacts.arrived_at[i]), 0, int(i)) for i in np.flatnonzero(log.contacts.arrived_at >= T)]
    known = np.flatnonzero((moves.known_at >= T) & (moves.known_at < NEVER))
    for at, kind, i in sorted([*events, *((int(moves.known_at[i]), 1, int(i)) for i in known)]):
        position = int(moves.contact[i]) if kind else i
        [one] = returning.contacts_of(log, [position])
        vectors = encoded.take(np.array([position]))
        if kind:
            csa_id, resolved = log.csas.ids[moves.csa[i]].as_py(), bool(moves.resolved[i])
            found.update_handover(one["customer_id"], csa_id, at, resolved, vectors, matcher.bundle.manifest.id)
            continue
        met = known_to.encode({k: [v] for k, v in one.items()}, [one["customer_id"]], [at])
        np.testing.assert_array_equal(met.memory, vectors.memory)
        np.testing.assert_array_equal(met.level, vectors.level)
        since, language = NULL_TIME, None
        if one["customer_id"]:
            customer = int(log.contacts.customer[i])
            since, language = int(log.customer_since[customer]), log.customer_language[customer].as_py()
        told = None if since == NULL_TIME else since
        found.update_arrival(one["customer_id"], at, style_of_contact(schema, one, found), told, language)


def test_a_contact_is_not_its_own_past(file: Path) -> None:
    found, arrived = Customers.load(file, SECRET), T + HOUR
    before = past(found, "customer-3", arrived)
    found.update_arrival("customer-3", arrived, np.ones(len(STYLE), np.float32))
    assert is_exact(found, "customer-3", arrived)
    for moment in (arrived, arrived + HOUR):  # matched, and matched again after it has waited
        again = past(found, "customer-3", arrived, moment)
        assert (again.count[0], again.last[0]) == (before.count[0], before.last[0])
        assert again.style.tobytes() == before.style.tobytes()
    later = past(found, "customer-3", arrived + 1)
    assert (later.count[0], later.last[0]) == (before.count[0] + 1, arrived)


def test_what_was_counted_since_is_left_out_as_a_whole() -> None:
    found = nobody_yet()
    for at in (T, T + 2 * HOUR, T + 3 * HOUR):
        found.update_arrival("anna", at, np.ones(len(STYLE), np.float32))
    found.update_handover("anna", "csa-1", T + 1, True)
    found.update_handover("anna", "csa-2", T + 2 * HOUR, False)
    early = past(found, "anna", T + HOUR)
    assert (early.count[0], early.last[0], early.style.sum()) == (0, NULL_TIME, 0)
    assert early.pair_csa[0].tolist() == [0, -1, -1, -1]
    assert early.pair_sums[0, 1:].sum() == 0
    assert not is_exact(found, "anna", T + HOUR)
    assert not is_exact(found, "anna", T + 2 * HOUR)
    assert is_exact(found, "anna", T + 2 * HOUR + 1)
    assert past(found, "anna", T + 2 * HOUR + 1).count[0] == 2
    kept = found.pairs(0, T + HOUR, {"csa-1": 7, "csa-2": 8}, BUNDLE)
    assert kept.codes.tolist() == [7]


def test_a_contact_that_is_told_late_counts_with_its_own_time() -> None:
    early, late = nobody_yet(), nobody_yet()
    for found, order in ((early, (0, 1, 2)), (late, (1, 2, 0))):
        for i in order:
            found.update_arrival("anna", T + i * HOUR, np.full(len(STYLE), i, np.float32))
    one, other = (past(found, "anna", T + fakes.days(30)) for found in (early, late))
    assert (other.count[0], other.last[0]) == (one.count[0], one.last[0]) == (3, T + 2 * HOUR)
    np.testing.assert_allclose(other.style, one.style, rtol=1e-12)


@given(st.lists(st.integers(0, 40), min_size=1, max_size=90))
def test_the_latest_hand_overs_are_remembered_in_the_order_of_their_times(hours: list[int]) -> None:
    found = nobody_yet()
    for i, hour in enumerate(hours):
        found.update_handover("anna", f"csa-{i:02}", T + hour * HOUR, i % 3 == 0, contact(0.0, (i, 1)), BUNDLE)
    kept = found.pairs(0, NEVER, {f"csa-{i:02}": i for i in range(90)}, BUNDLE).rows
    assert kept is not None
    latest: list[int] = []
    for i in range(len(hours)):
        latest = sorted([*latest, i], key=lambda j: hours[j])[-64:]
    assert kept.csa.tolist() == latest
    assert kept.known_at.tolist() == [T + hours[i] * HOUR for i in latest]
    assert np.rint(kept.vectors()[:, 0]).tolist() == latest
    assert kept.residual.tolist() == [0.5 if i % 3 == 0 else -0.5 for i in latest]
    assert kept.weight.tolist() == [float(i % 3 == 0) for i in latest]


def test_an_outcome_that_is_not_known_has_no_residual_and_counts_as_not_failed() -> None:
    found = nobody_yet()
    found.update_handover("anna", "csa-1", T, None, contact(3.0), BUNDLE)
    kept = found.pairs(0, NEVER, {"csa-1": 0}, BUNDLE).rows
    assert kept is not None
    assert (kept.residual.tolist(), kept.outcome.tolist(), kept.weight.tolist()) == ([0.0], [False], [1.0])


def test_csas_follow_the_roster_by_their_id() -> None:
    found = nobody_yet()
    for name in ("ada", "bob", "cy"):
        found.update_handover("anna", name, T, True, contact(), BUNDLE)
    kept = found.pairs(0, NEVER, {"new": 0, "cy": 1, "ada": 2}, BUNDLE)
    assert kept.codes.tolist() == [1, 2]
    assert kept.rows is not None
    assert sorted(kept.rows.csa.tolist()) == [1, 2]


def test_vectors_of_another_bundle_are_neither_read_nor_taken(tmp_path: Path) -> None:
    found = nobody_yet()
    found.update_handover("anna", "ada", T, True, contact(), BUNDLE)
    found.update_handover("anna", "bob", T, True, contact(), "another")
    found.update_handover("anna", "cy", T, True)
    assert found.pairs(0, NEVER, {"ada": 0, "bob": 1, "cy": 2}, "another").rows is None
    kept = found.pairs(0, NEVER, {"ada": 0, "bob": 1, "cy": 2}, BUNDLE)
    assert kept.codes.tolist() == [0, 1, 2]
    assert kept.rows is not None
    assert kept.rows.csa.tolist() == [0]


def test_another_bundle_is_gone_on_with(tmp_path: Path) -> None:
    found = nobody_yet()
    found.update_arrival("anna", T)
    found.update_handover("anna", "ada", T, True, contact(), BUNDLE)
    found.adopt("another", 3)
    found.save(tmp_path / "customers")
    found = Customers.load(tmp_path / "customers", SECRET)
    assert (found.bundle, found.counts()["handovers"], found.counts()["contacts"]) == ("another", 0, 1)
    assert found.pairs(0, NEVER, {"ada": 0}, "another").codes.tolist() == [0]
    wide = replace(contact(), memory=np.ones((1, 3), np.float32))
    found.update_handover("anna", "bob", T, True, wide, "another")
    assert found.counts()["handovers"] == 1


def vectors_of(found: Customers, bundle: str) -> list[int]:
    rows = found.pairs(0, NEVER, {"ada": 0, "bob": 1, "cy": 2}, bundle).rows
    return [] if rows is None else rows.csa.tolist()


@pytest.mark.parametrize("saved", [False, True], ids=["in memory", "through the file"])
def test_a_bundle_that_comes_back_has_its_vectors_again(saved: bool, tmp_path: Path) -> None:
    """As in a canary, which goes to and fro between two; the service may start anew in any block."""

    def again(one: Customers) -> Customers:
        if not saved:
            return one
        one.save(tmp_path / "customers")
        return Customers.load(tmp_path / "customers", SECRET)

    found, wide = nobody_yet(), replace(contact(), memory=np.ones((1, 3), np.float32))
    found.update_handover("anna", "bob", T, True, contact(), BUNDLE)
    found.adopt("challenger", 3)
    found = again(found)
    assert vectors_of(found, "challenger") == []
    found.update_handover("anna", "cy", T + 1, True, wide, "challenger")
    found.update_handover("anna", "ada", T + 2, True, contact(), BUNDLE)  # began before the block did
    found = again(found)
    found.adopt(BUNDLE, contact().memory.shape[1])
    found = again(found)
    assert vectors_of(found, BUNDLE) == [1, 0]
    found.adopt("challenger", 3)
    assert vectors_of(found, "challenger") == [2]
    found.adopt("third", 3)
    found.adopt(BUNDLE, contact().memory.shape[1])  # of two, not of three
    assert vectors_of(found, BUNDLE) == []


def test_a_start_with_the_bundle_before_has_its_vectors() -> None:
    found = nobody_yet()
    found.update_handover("anna", "bob", T, True, contact(), BUNDLE)
    found.adopt("challenger", 3)
    assert not found.bring_back("third")
    assert found.bundle == "challenger"
    assert found.bring_back(BUNDLE)
    assert vectors_of(found, BUNDLE) == [1]
    assert found.bring_back(BUNDLE)
    assert vectors_of(found, BUNDLE) == [1]


def test_what_is_put_by_is_erased_too(tmp_path: Path) -> None:
    files = []
    for who in (["anna", "ben"], ["ben"]):
        found = nobody_yet()
        for customer in who:
            found.update_handover(customer, "ada" if customer == "ben" else "bob", T, True, contact(), BUNDLE)
        found.adopt("challenger", 3)
        found.save(tmp_path / "customers")
        found = Customers.load(tmp_path / "customers", SECRET)
        found.erase("anna")
        files.append(written(found, tmp_path / "erased"))
    assert files[0] == files[1]
    found.adopt(BUNDLE, contact().memory.shape[1])
    assert found.counts()["handovers"] == 1


def test_another_bundle_with_the_same_tower_keeps_the_vectors(tmp_path: Path) -> None:
    found = nobody_yet()
    found.update_handover("anna", "ada", T, True, contact(), BUNDLE)
    found.adopt("another", None)
    kept = found.pairs(0, NEVER, {"ada": 0}, "another").rows
    assert kept is not None
    np.testing.assert_allclose(kept.vectors(), contact().memory, rtol=0.01)


def test_nothing_is_kept_of_nobody(tmp_path: Path) -> None:
    found = nobody_yet()
    empty = written(found, tmp_path / "empty")
    found.update_arrival(None, T)
    found.update_handover(None, "ada", T, True, contact(), BUNDLE)
    assert written(found, tmp_path / "still") == empty
    loaded = Customers.load(tmp_path / "empty", SECRET)
    assert (len(loaded), loaded.moment, loaded.codes(["anna", None]).tolist()) == (0, NULL_TIME, [-1, -1])
    assert loaded.exact(loaded.codes(["anna"]), np.array([T]), np.array([T])).tolist() == [True]


@pytest.mark.parametrize("style", [[1.0] * 3, [1.0] * 6 + [np.nan], [np.inf] * 7])
def test_a_style_that_cannot_be_is_refused_and_leaves_nobody(style: list[float]) -> None:
    found = nobody_yet()
    with pytest.raises(DataError, match="7 numbers, or NaN for all, are expected"):
        found.update_arrival("anna", T, np.array(style, np.float32))
    assert len(found) == 0


def test_vectors_of_another_width_are_refused_and_leave_nobody() -> None:
    found = nobody_yet()
    with pytest.raises(DataError, match=r"memory \(1, 3\); \(1, 2\) is expected"):
        found.update_handover("anna", "ada", T, True, replace(contact(), memory=np.ones((1, 3), np.float32)), BUNDLE)
    assert len(found) == 0


@pytest.mark.parametrize("at", [NEVER, NULL_TIME])
def test_a_time_outside_of_time_is_refused_and_leaves_nobody(at: int) -> None:
    found = nobody_yet()
    with pytest.raises(DataError, match=r"arrived_at: .* lies outside time"):
        found.update_arrival("anna", at)
    with pytest.raises(DataError, match=r"known_at: .* lies outside time"):
        found.update_handover("anna", "ada", at)
    assert len(found) == 0


def test_all_that_is_known_of_one_is_told(bundle: Path, returning_data: Path, file: Path) -> None:
    log = Log.load(returning_data, T)
    code = log.customer_ids.to_pylist().index("customer-4")
    mine = log.contacts.customer == code
    known = Customers.load(file, SECRET).known_of("customer-4")
    assert known is not None
    assert known["contacts"] == int(mine.sum())
    assert known["last_contact"] == int(log.contacts.arrived_at[mine].max())
    assert known["since"] == T - fakes.days(44)
    assert known["language"] == "en"
    assert len(known["handovers"]) == int((mine[log.handovers.contact] & (log.handovers.known_at < T)).sum())
    assert len(known["met"]) == 4
    assert Customers.load(file, SECRET).known_of("nobody we know") is None


def test_a_reader_never_sees_half_of_an_update() -> None:
    """Every contact shows style, so as many are counted as show it."""
    found, done = nobody_yet(), threading.Event()
    found.update_arrival("anna", T, np.ones(len(STYLE), np.float32))

    def tell() -> None:
        for i in range(1, 300):
            found.update_arrival("anna", T + i, np.ones(len(STYLE), np.float32))
            found.update_arrival(f"other {i}", T + i)
        done.set()

    teller = threading.Thread(target=tell)
    teller.start()
    seen, last = [], False
    while not last:  # once more when all is told, so that a busy machine looks at least once
        last = done.is_set()
        reading = past(found, "anna", T + 10_000)
        seen.append((int(reading.count[0]), round(float(reading.style[0, 1, 1]))))
    teller.join()
    assert seen
    assert all(count == shown for count, shown in seen)
    assert past(found, "anna", T + 10_000).count[0] == 300
