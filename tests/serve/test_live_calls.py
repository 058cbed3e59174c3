"""What a router tells a roster that learns: load, outcomes that cannot be, refreshes, threads, stores, bundles."""

from __future__ import annotations

import re
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serve import live_rows
from serve.customers import Customers
from serve.live import Live
from serve.matcher import Matcher, MatchError
from tests.serve import fakes
from twotower.clock import DAY
from twotower.index.history import history_queries

UNTIL = fakes.until_us()
CONTACT = {"intent_text": "my refund please", "channel": "chat", "language": "en"}


def test_work_in_hand_counts_where_the_load_is_read(whole_bundle: Path) -> None:
    matcher = Matcher.load(whole_bundle)
    names = matcher.bundle.schema.csa_numbers

    def opened() -> float:
        return float(matcher._started()._features[3, names.index("open")])

    start = opened()
    assert start == 0
    matcher.finished("csa-03", UNTIL + 1)  # whose beginning nobody told
    for at in (5, 6, 7):
        matcher.assigned("csa-03", UNTIL + at)
    assert opened() == pytest.approx(np.log(4))
    matcher.ended(CONTACT, "csa-03", UNTIL + DAY, ended_at=UNTIL + 9)
    matcher.finished("csa-03", UNTIL + 10)
    assert opened() == pytest.approx(np.log(2))
    matcher.ended(CONTACT, "csa-03", UNTIL + DAY)  # its outcome, when its end is told already
    assert opened() == pytest.approx(np.log(2))
    matcher.assigned("csa-03", UNTIL - 1)  # which the bundle knows
    matcher.finished("csa-03", UNTIL - 1)
    assert opened() == pytest.approx(np.log(2))
    matcher.finished("csa-03", UNTIL)
    assert opened() == 0


WRONG: list[tuple[str, Any, dict[str, Any], str]] = [
    ("nobody", UNTIL, {}, "csa_id: 'nobody' is not in the roster"),
    ("csa-01", UNTIL - 1, {}, "known_at: 2026-01-20T23:59:59.999999Z is before 2026-01-21T00:00:00Z"),
    ("csa-01", "today", {}, "known_at: a datetime with a zone"),
    ("csa-01", UNTIL, {"resolvd": True}, "outcome field 'resolvd' is not known: resolved, transferred"),
    ("csa-01", 2**63, {}, "known_at: 9223372036854775808 lies outside of 1900 to 2200; microseconds"),
    ("csa-01", UNTIL * 1000, {}, "lies outside of 1900 to 2200"),  # nanoseconds
    ("csa-01", UNTIL, {"resolved": 1}, "outcome field 'resolved': True, False or None expected, got 1"),
    ("csa-01", UNTIL, {"handle_time_s": 1e39}, "outcome field 'handle_time_s': a number from 0 to 10000000"),
    ("csa-01", UNTIL, {"handle_time_s": 10**400}, "outcome field 'handle_time_s': a number from 0 to 10000000"),
    ("csa-01", UNTIL, {"csat": 6}, "outcome field 'csat': a number from 1 to 5 or None expected, got 6"),
    ("csa-01", UNTIL, {"handle_time_s": float("nan")}, "outcome field 'handle_time_s': a number from 0"),
    ("csa-01", UNTIL, {"ended_at": UNTIL + 1}, "ended_at: later than known_at"),
]


@pytest.mark.parametrize(("csa_id", "known_at", "outcome", "said"), WRONG)
def test_an_outcome_that_cannot_be_changes_nothing(
    matcher: Matcher, csa_id: str, known_at: Any, outcome: dict[str, Any], said: str
) -> None:
    before = matcher.snapshot
    with pytest.raises(MatchError, match=re.escape(said)):
        matcher.ended(CONTACT, csa_id, known_at, **outcome)
    assert matcher.snapshot is before


def test_numpys_own_numbers_are_numbers(matcher: Matcher) -> None:
    matcher.ended(
        CONTACT,
        "csa-01",
        np.int64(UNTIL),
        resolved=np.True_,
        handle_time_s=np.float32(60),
        csat=np.int64(4),  # type: ignore[arg-type]
    )
    found, before = matcher._started()._engine.read(), Matcher(matcher.bundle)._started()._engine.read()
    assert (found.counts[1] - before.counts[1]).tolist() == [1, 1, 1, 1, 0, 0, 1]


def test_a_refresh_does_not_go_back(matcher: Matcher) -> None:
    matcher.ended(CONTACT, "csa-04", UNTIL + DAY, resolved=True)
    for earlier in (UNTIL, UNTIL + 8 * DAY):
        with pytest.raises(MatchError, match="is earlier than what is known"):
            matcher.refresh(earlier)
        matcher.refresh(UNTIL + 9 * DAY)
    assert matcher.times([None])[1].tolist() == [UNTIL + 9 * DAY]


def test_a_refresh_that_fails_leaves_everything(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    matcher = Matcher.load(folder)
    for i in range(5):
        matcher.ended(CONTACT, "csa-04", UNTIL + DAY + i, resolved=True)
    before, live = matcher.snapshot, matcher._started()
    priors, features = live._priors, live._features.copy()

    def fail(*_: Any) -> None:
        raise MemoryError

    for name in ("fit_standins", "build_profile_index", "build_history_index", "history_vectors"):
        with monkeypatch.context() as patch:
            patch.setattr(f"serve.searches.{name}", fail)
            with pytest.raises(MemoryError):
                matcher.refresh(UNTIL + 9 * DAY)
        assert matcher.snapshot is before
        assert live._priors is priors
        assert live.moment == UNTIL + DAY + 5
        assert live._view().fresh[1].tolist() == [4] * 5
        np.testing.assert_array_equal(live._features, features)


def test_a_busy_csa_does_not_crowd_out_the_others(matcher: Matcher) -> None:
    seen = matcher.read({"intent_text": "invoice invoice"})
    for i in range(4):
        matcher.ended(
            matcher.read({"intent_text": "invoice refund"}), f"csa-{i + 4:02}", UNTIL + DAY + i, resolved=True
        )
    for i in range(300):
        matcher.ended(seen, "csa-09", UNTIL + 2 * DAY + i, resolved=True)
    view, vectors = matcher.snapshot, matcher.vectors(seen.encoded, [UNTIL + 3 * DAY])
    found = view._fresh(history_queries(vectors.memory, "handled"), None)
    assert sorted(found) == [4, 5, 6, 7, 9]


def test_what_another_bundle_read_is_read_anew(whole_bundle: Path, bundle_folder: Path) -> None:
    one, other = Matcher.load(whole_bundle), Matcher.load(bundle_folder)
    foreign, own = one.read(CONTACT), other.read(CONTACT)
    assert foreign.bundle != own.bundle
    assert other.match(foreign, k=5) == other.match(own, k=5)
    other.ended(foreign, "csa-01", UNTIL, resolved=True)
    twin = Matcher.load(bundle_folder)
    twin.ended(own, "csa-01", UNTIL, resolved=True)
    assert other.match(own, k=20) == twin.match(own, k=20)


def test_many_are_matched_as_they_were_read(matcher: Matcher) -> None:
    seen = matcher.read(CONTACT)
    assert matcher.match_batch([seen, CONTACT], k=3) == [matcher.match(seen, k=3)] * 2


def test_the_customers_store_hears_of_it(bundle_folder: Path) -> None:
    bundle = Matcher.load(bundle_folder).bundle
    width = bundle.history.width
    customers = Customers.empty(b"sixteen bytes or more", bundle.manifest.id, width)
    matcher = Matcher.load(bundle_folder, customers=customers)
    contact = {**CONTACT, "customer_id": "anna", "arrived_at": UNTIL}
    matcher.ended(contact, "csa-02", UNTIL + 5, resolved=False)
    matcher.ended(contact, "csa-03", UNTIL + 6)
    matcher.ended(contact, "csa-03", UNTIL + 7, tell_customers=False, resolved=True)
    matcher.ended(CONTACT, "csa-03", UNTIL + 8, resolved=True)  # of nobody
    assert len(customers) == 1
    known = customers.known_of("anna")
    assert known is not None
    told = [(one["csa_id"], one["known_at"], one["resolved"]) for one in known["handovers"]]
    assert told == [("csa-02", UNTIL + 5, False), ("csa-03", UNTIL + 6, None)]
    assert matcher.customers is not None
    assert matcher.customers.pairs(0, UNTIL + 9, matcher.snapshot.codes, bundle.manifest.id).rows is not None


def test_hand_overs_that_end_at_once_are_all_counted(matcher: Matcher) -> None:
    seen = matcher.read(CONTACT)

    def tell(first: int) -> None:
        for i in range(100):
            matcher.ended(seen, f"csa-{1 + i % 10:02}", UNTIL + DAY + first + i, resolved=True)

    before = Matcher(matcher.bundle)._started()._engine.read().counts[:, 0]
    threads = [threading.Thread(target=tell, args=(1000 * i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    counted = matcher._started()._engine.read().counts[:, 0] - before
    assert counted.tolist() == [0, *[40] * 10]
    assert matcher.snapshot.fresh[1].tolist().count(3) == 40


def test_matching_goes_on_while_hand_overs_end(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_rows, "LEAST_ROOM", 16)
    matcher = Matcher.load(folder)
    seen, failed, done = matcher.read(CONTACT), [], threading.Event()

    def ask() -> None:
        while not done.is_set():
            try:
                found = matcher.match(seen, k=20, at=UNTIL + 9 * DAY)
                assert len(found) == 11
                assert all(np.isfinite(one.score) for one in found)
            except Exception as error:  # told in the thread that waits
                failed.append(error)
                return

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    for i in range(300):
        matcher.ended(seen, f"csa-{1 + i % 10:02}", UNTIL + DAY + i, resolved=bool(i % 3))
        if i % 100 == 50:
            matcher.refresh()
    done.set()
    for thread in threads:
        thread.join()
    assert not failed


def test_the_bundles_own_parts_do_not_change(folder: Path) -> None:
    matcher = Matcher.load(folder)
    bundle = matcher.bundle
    state = {name: array.copy() for name, array in bundle.engine.state().items()}
    rows, features = bundle.history.known_at.copy(), bundle.roster.features.copy()
    for i in range(30):
        matcher.ended(CONTACT, "csa-02", UNTIL + i, resolved=True)
    assert isinstance(matcher._live, Live)
    assert all((bundle.engine.state()[name] == array).all() for name, array in state.items())
    assert (bundle.history.known_at == rows).all()
    assert (bundle.roster.features == features).all()
