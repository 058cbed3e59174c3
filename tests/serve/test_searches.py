"""What nominates candidates, built anew beside everything else: nothing waits for it, nothing that comes meanwhile is
lost."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serve import live_rows, searches, searches_apart
from serve import matcher as matchers
from serve import snapshot as snapshots
from serve.live_rows import Fresh
from serve.matcher import Matcher
from serve.roster.changes import Change, Join, Leave
from tests.serve import fakes
from twotower.clock import DAY
from twotower.index.build import write_index

UNTIL = fakes.until_us()
CONTACT = {"intent_text": "my refund please", "channel": "chat", "language": "en"}
PLACES = {"profile": "refund refund", "languages": ["en"]}


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every search down to a single row, so that who is found was nominated."""
    for name in ("EXACT_CSAS", "EXACT_HISTORY"):
        monkeypatch.setattr(snapshots, name, 0)
    for name in ("FROM_SURROGATE", "NOMINATED", "FROM_HISTORY_ROWS", "TIGHT", "TIGHT_NOMINATED"):
        monkeypatch.setattr(snapshots, name, 1)


@pytest.fixture
def meanwhile(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], Any]], None]:
    """Sets what another thread does while searches are built; it must not have to wait."""
    build = searches_apart.build_searches

    def sets(work: Callable[[], Any]) -> None:
        def building(*args: Any) -> searches.Searches:
            monkeypatch.setattr(matchers, "build_searches", build)
            thread = threading.Thread(target=work, daemon=True)
            thread.start()
            thread.join(20)
            assert not thread.is_alive(), "it waits for the searches"
            return build(*args)

        monkeypatch.setattr(matchers, "build_searches", building)

    return sets


def scores(matcher: Matcher) -> dict[str, float]:
    return {one.csa_id: one.score for one in matcher.match(CONTACT, k=100)}


def test_nobodys_score_moves(folder: Path) -> None:
    matcher = Matcher.load(folder)
    for i in range(40):
        matcher.ended(CONTACT, f"csa-{i % 11:02}", UNTIL + DAY + i, resolved=bool(i % 3))
    matcher.update_roster([Join("new", PLACES), Change("csa-02", PLACES)])
    before, held = scores(matcher), matcher.snapshot
    matcher.rebuild()
    view = matcher.snapshot
    assert scores(matcher) == pytest.approx(before, abs=1e-6)
    assert (len(view.unindexed), len(view.fresh[1])) == (0, 0)
    assert (len(held.unindexed), len(held.fresh[1])) == (2, 26)
    assert len(view.history.csa) > len(held.history.csa)


def test_who_came_and_what_ended_is_nominated_by_the_searches_themselves(folder: Path, narrow: None) -> None:
    matcher = Matcher.load(folder)
    seen = matcher.read({"intent_text": "invoice invoice invoice"})
    matcher.update_roster([Join("new", PLACES)])
    matcher.ended(seen, "new", UNTIL + DAY, resolved=True)
    matcher.rebuild()
    vectors = matcher.vectors(seen.encoded, [UNTIL + DAY + 1])
    assert matcher.snapshot.codes["new"] in matcher.snapshot.candidates(vectors, "handled", 1)


def test_what_comes_meanwhile_waits_for_nothing_and_is_kept(
    folder: Path, narrow: None, meanwhile: Callable[..., None]
) -> None:
    matcher = Matcher.load(folder)
    seen = matcher.read({"intent_text": "invoice invoice invoice"})
    matcher.ended(CONTACT, "csa-03", UNTIL + DAY, resolved=True)
    matcher.update_roster([Change("csa-02", PLACES), Change("csa-05", PLACES)])

    def work() -> None:
        matcher.ended(seen, "csa-07", UNTIL + 2 * DAY, resolved=True)
        matcher.update_roster([Join("new"), Change("csa-05", {"capacity": 2}), Leave("csa-00")])
        matcher.update_roster([Join(f"more-{i:03}") for i in range(200)])  # past the room that there was

    meanwhile(work)
    matcher.rebuild()
    view = matcher.snapshot
    named = {view.ids[code] for code in view.unindexed}
    assert named == {"new", "csa-05", *(f"more-{i:03}" for i in range(200))}
    assert [view.ids[code] for code in view.fresh[1]] == ["csa-07"]
    found = view.candidates(matcher.vectors(seen.encoded, [UNTIL + 3 * DAY]), "handled", 1)
    assert {view.codes["csa-07"], view.codes["new"]} <= set(found.tolist())
    assert view.codes["csa-00"] not in found
    assert "csa-00" not in scores(matcher)
    matcher.rebuild()
    assert not len(matcher.snapshot.unindexed)


def test_a_refresh_meanwhile_is_newer_and_stays(folder: Path, meanwhile: Callable[..., None]) -> None:
    matcher = Matcher.load(folder)
    matcher.ended(CONTACT, "csa-03", UNTIL + DAY, resolved=True)
    meanwhile(lambda: matcher.refresh(UNTIL + 9 * DAY))
    matcher.rebuild()
    live = matcher._started()
    assert matcher.snapshot.history.index.vectors.moment == live._indexed_at == UNTIL + 9 * DAY  # type: ignore[union-attr]


def test_when_it_is_due(matcher: Matcher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshots, "MOST_UNINDEXED", 2)
    monkeypatch.setattr(snapshots, "MOST_BESIDE", 3)
    matcher.update_roster([Join("one"), Join("two")])
    for i in range(3):
        matcher.ended(CONTACT, "csa-03", UNTIL + DAY + i, resolved=True)
    assert not matcher.snapshot.due
    matcher.update_roster([Join("three")])
    assert matcher.snapshot.due
    matcher.rebuild()
    for i in range(4):
        assert not matcher.snapshot.due
        matcher.ended(CONTACT, "csa-03", UNTIL + 2 * DAY + i, resolved=True)
    assert matcher.snapshot.due


@pytest.mark.parametrize("before", [0, 1, 255, 256, 257, 600])
@pytest.mark.parametrize("after", [0, 1, 127, 128, 129, 300])
def test_what_is_fresh_since_a_moment(monkeypatch: pytest.MonkeyPatch, before: int, after: int) -> None:
    """Also where older ones are forgotten before or after it."""
    monkeypatch.setattr(live_rows, "MOST_FRESH", 256)
    fresh, whole = Fresh(4), list(range(before + after))
    for i in whole[:before]:
        fresh.add(i, np.full(4, i, np.float32))
    told = fresh.told
    for i in whole[before:]:
        fresh.add(i, np.full(4, i, np.float32))
    kept = fresh.view()[1].tolist()
    since = fresh.since(told)
    assert since.view()[1].tolist() == [i for i in kept if i >= before]
    assert since.view()[0][:, 0].tolist() == since.view()[1].tolist()
    since.add(999, np.zeros(4, np.float32))
    assert since.since(since.told - 1).view()[1].tolist() == [999]


def whole(made: searches.Searches, folder: Path) -> list[object]:
    """All of it, to the bit."""
    found: list[object] = [made.history.csa.tolist(), made.history.starts.tolist()]
    for name, index in (("profiles", made.profiles), ("history", made.history.index)):
        write_index(index, folder / name)
        found += [(folder / name).read_bytes(), index.choice]
    return found + [(rank, len(one), one.components, one._basis.tobytes()) for rank, one in made.surrogates.items()]


def test_a_process_of_its_own_builds_the_same(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    matcher = Matcher.load(folder)
    matcher.update_roster([Join("new", PLACES)])
    for _ in range(5):
        matcher.match(CONTACT)
    material, _ = matcher._started().material()
    given = matcher.bundle.join, material, matcher._started().asked(), matcher.snapshot
    here = whole(searches_apart.build_searches(*given), tmp_path)
    monkeypatch.setattr(searches_apart, "APART", 0)
    monkeypatch.setattr(searches_apart, "build", lambda *_: pytest.fail("it is built in this process"))
    assert whole(searches_apart.build_searches(*given), tmp_path) == here
    assert not caplog.records


def test_where_no_process_can_be_started_this_one_builds(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    matcher = Matcher.load(folder)
    matcher.update_roster([Join("new", PLACES)])
    monkeypatch.setattr(searches_apart, "APART", 0)
    for executable in ("/nowhere/python", "/bin/false"):
        monkeypatch.setattr(searches_apart.sys, "executable", executable)
        matcher.rebuild()
        assert "no other could be started" in caplog.text
        caplog.clear()
    assert not len(matcher.snapshot.unindexed)


def test_who_ends_does_not_wait_for_searches() -> None:
    raised: list[Exception] = []

    def work() -> None:
        try:
            with searches_apart._job() as job:
                searches_apart._run(job, [sys.executable, "-c", "import time; time.sleep(60)"])
        except searches_apart.Stopped as error:
            raised.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    while thread.is_alive():
        searches_apart.stop()
        thread.join(0.05)
    assert len(raised) == 1
    assert not searches_apart._running


def test_who_ends_while_files_are_written_starts_no_process(tmp_path: Path) -> None:
    left = tmp_path / "started"
    with pytest.raises(searches_apart.Stopped), searches_apart._job() as job:
        searches_apart.stop()
        searches_apart._run(job, [sys.executable, "-c", f"open({str(left)!r}, 'w')"])
    assert not left.exists()
