"""New bundles and rosters while a service runs: what is whole takes its place, what is not is refused once."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from serve.http.running import Running
from serve.http.service import Service, Serving
from serve.http.settings import Limits, Settings
from serve.matcher import Matcher
from serve.store.tables import decisions
from tests.serve.http.conftest import CONTACT, Asking, order
from tests.serve.store import told


@pytest.fixture
def linked(settings: Settings, bundle_folder: Path, tmp_path: Path) -> Callable[[Path], None]:
    """Sets the link that a service was started with to another folder."""
    link = Path(settings.bundle)

    def to(folder: Path) -> None:
        other = tmp_path / "other"
        other.symlink_to(folder)
        other.replace(link)

    return to


class TestSwap:
    """A new bundle or roster file while the service runs."""

    @pytest.fixture
    def settings(self, bundle_folder: Path, tmp_path: Path) -> Settings:
        link = tmp_path / "served"
        link.symlink_to(bundle_folder)
        limits = Limits(deadline_s=10.0)
        return Settings(str(link), budget_s=5.0, limits=limits, roster=str(tmp_path / "csas.parquet"))

    @pytest.fixture
    def running(self, service: Service, tmp_path: Path) -> Running:
        return Running(service, tmp_path / "roster.journal")

    def test_a_good_bundle_takes_its_place_with_the_roster_and_what_ended(
        self, ask: Asking, service: Service, running: Running, linked: Any, whole_bundle: Path
    ) -> None:
        ask.post("/v1/roster", {"changes": [{"op": "join", "csa_id": "new"}, {"op": "leave", "csa_id": "csa-02"}]})
        contact = {**CONTACT, "contact_id": "c-9", "arrived_at": "2026-01-25T00:00:00Z"}
        ask.post("/v1/match", {"contact": contact})
        fact = {
            "contact_id": "c-9", "csa_id": "csa-01", "assigned_at": "2026-01-25T00:01:00Z",
            "ended_at": "2026-01-25T00:09:00Z", "resolved": False,
        }  # fmt: skip
        assert ask.post("/v1/feedback", {"facts": [fact]}).json()["new"] == 1
        assert service.store is not None
        service.store.log.flush()
        running.look()
        assert not service.metrics.swaps.collect()[0].samples  # nothing is new
        linked(whole_bundle)
        running.look()
        answer = ask.post("/v1/match", {"contact": CONTACT, "k": 50}).json()
        assert answer["model"] == Matcher.load(whole_bundle).bundle.manifest.id
        ids = {one["csa_id"] for one in answer["candidates"]}
        assert "new" in ids
        assert "csa-02" not in ids
        assert answer["roster_version"] == 1
        told = service.serving.matcher.snapshot.memory.end - service.serving.matcher.snapshot.memory.begin
        fresh = Matcher.load(whole_bundle).snapshot
        code = fresh.codes["csa-01"]
        assert told[code] == fresh.memory.end[code] - fresh.memory.begin[code] + 1

    @pytest.mark.parametrize("begun", ["before", "after"])
    def test_feedback_that_comes_while_a_bundle_takes_its_place_is_learnt_once(
        self, ask: Asking, service: Service, running: Running, linked: Any, whole_bundle: Path,
        monkeypatch: pytest.MonkeyPatch, begun: str,
    ) -> None:  # fmt: skip
        """When the new one was told already what ended, before it is served; and just afterwards."""
        ask.post("/v1/match", {"contact": {**CONTACT, "contact_id": "c-9", "arrived_at": "2026-01-25T00:00:00Z"}})
        assert service.store is not None
        service.store.log.flush()
        fact = {
            "contact_id": "c-9", "csa_id": "csa-01", "assigned_at": "2026-01-25T00:01:00Z",
            "ended_at": "2026-01-25T00:09:00Z", "resolved": False,
        }  # fmt: skip
        told, whole = [], Service.swap

        def swapped(self: Service, made: Serving) -> None:
            if begun == "after":
                whole(self, made)
            told.append(ask.post("/v1/feedback", {"facts": [fact]}).json()["new"])
            if begun == "before":
                whole(self, made)

        monkeypatch.setattr(Service, "swap", swapped)
        linked(whole_bundle)
        running.look()
        assert told == [1]
        memory, fresh = service.serving.matcher.snapshot.memory, Matcher.load(whole_bundle).snapshot
        code = fresh.codes["csa-01"]
        before = fresh.memory.end[code] - fresh.memory.begin[code]
        assert memory.end[code] - memory.begin[code] == before + 1

    @pytest.mark.parametrize("how", ["checksum", "missing", "no bundle", "empty", "no folder", "raises", "nan"])
    def test_a_bad_bundle_is_refused_once_and_the_old_one_stays(
        self,
        ask: Asking,
        service: Service,
        running: Running,
        linked: Any,
        whole_bundle: Path,
        bundle_folder: Path,
        tmp_path: Path,
        how: str,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        bad = tmp_path / "bad"
        if how == "empty":
            bad.mkdir()
        elif how != "no folder":
            shutil.copytree(whole_bundle, bad)
        if how == "checksum":
            (bad / "csa_tower.onnx").write_bytes(b"x" * (bad / "csa_tower.onnx").stat().st_size)
        elif how == "missing":
            (bad / "history.faiss").unlink()
        elif how == "no bundle":
            (bad / "manifest.json").write_text("{}")
        elif how in ("raises", "nan"):
            score = {"raises": None, "nan": float("nan")}[how]
            whole = Matcher.match

            def broken(self: Matcher, *args: Any, **options: Any) -> Any:
                if self.bundle.path != bad.resolve():
                    return whole(self, *args, **options)
                if score is None:
                    raise RuntimeError("onnxruntime")
                return [replace(one, score=score) for one in whole(self, *args, **options)]

            monkeypatch.setattr(Matcher, "match", broken)
        before = service.serving
        linked(bad)
        running.look()
        running.look()
        assert service.serving is before
        assert [line.startswith("bundle refused, what is served stays") for line in caplog.messages].count(True) == 1
        assert ask.post("/v1/match", {"contact": CONTACT}).json()["fallback"] is None
        assert 'twotower_swaps_total{outcome="bundle refused"} 1.0' in ask.get("/metrics").text
        linked(whole_bundle)
        running.look()
        assert service.serving is not before

    def test_what_was_put_there_while_a_service_started_is_seen(
        self, service: Service, linked: Any, whole_bundle: Path, tmp_path: Path
    ) -> None:
        before = service.serving
        linked(whole_bundle)
        running = Running(service, tmp_path / "roster.journal")
        running.look()
        assert service.serving is not before
        linked(tmp_path / "nowhere")
        Running(service, tmp_path / "roster.journal").look()
        assert 'outcome="bundle refused"} 1.0' in service.metrics.text().decode()

    def test_a_roster_file_becomes_changes(
        self, ask: Asking, service: Service, running: Running, data: Path, settings: Settings
    ) -> None:
        table = pq.read_table(data / "csas.parquet")
        pq.write_table(table.filter(pc.not_equal(table["csa_id"], "csa-05")), str(settings.roster))
        running.look()
        found = order(ask.post("/v1/match", {"contact": CONTACT, "k": 50}))
        assert "csa-05" not in found
        assert "csa-11" in found
        version = service.serving.matcher.roster().version
        running.look()
        assert service.serving.matcher.roster().version == version

    @pytest.mark.parametrize("content", [b"", b"PAR1 and then nothing"])
    def test_a_bad_roster_file_changes_nothing(
        self, ask: Asking, service: Service, running: Running, settings: Settings, content: bytes
    ) -> None:
        Path(str(settings.roster)).write_bytes(content)
        running.look()
        assert service.serving.matcher.roster().version == 0
        assert 'twotower_swaps_total{outcome="roster refused"} 1.0' in ask.get("/metrics").text

    def test_a_roster_file_that_lost_most_is_refused(
        self, service: Service, running: Running, data: Path, settings: Settings
    ) -> None:
        pq.write_table(pq.read_table(data / "csas.parquet").slice(0, 2), str(settings.roster))
        running.look()
        assert service.serving.matcher.roster().active == 11

    def test_readers_go_on_while_a_bundle_is_loaded(
        self, ask: Asking, service: Service, running: Running, linked: Any, whole_bundle: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:  # fmt: skip
        loading, go_on = threading.Event(), threading.Event()
        whole = Matcher.load

        def slowly(*args: Any, **options: Any) -> Matcher:
            loading.set()
            assert go_on.wait(30)
            return whole(*args, **options)

        monkeypatch.setattr("serve.http.build.Matcher.load", slowly)
        linked(whole_bundle)
        thread = threading.Thread(target=running.look)
        thread.start()
        assert loading.wait(30)
        before = service.serving.matcher.bundle.manifest.id
        assert ask.post("/v1/match", {"contact": CONTACT}).json()["model"] == before
        # Who leaves now has left in the new one, too.
        assert ask.post("/v1/roster", {"changes": [{"op": "leave", "csa_id": "csa-01"}]}).status_code == 200
        go_on.set()
        thread.join()
        answer = ask.post("/v1/match", {"contact": CONTACT, "k": 50})
        assert answer.json()["model"] != before
        assert "csa-01" not in order(answer)

    def test_a_request_under_way_is_answered_by_the_bundle_that_it_began_with(
        self, ask: Asking, service: Service, running: Running, linked: Any, whole_bundle: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:  # fmt: skip
        """Swapped between reading the contact and ranking for it; what is logged names that bundle, too."""
        before, whole = service.serving.matcher, Matcher.read
        wanted = [one.csa_id for one in before.match(CONTACT, 5)]

        def swapped(self: Matcher, *args: Any, **options: Any) -> Any:
            if self is before:
                linked(whole_bundle)
                running.look()
                assert service.serving.matcher is not before
            return whole(self, *args, **options)

        monkeypatch.setattr(Matcher, "read", swapped)
        answer = ask.post("/v1/match", {"contact": CONTACT, "k": 5})
        assert answer.json()["model"] == before.bundle_id
        assert order(answer) == wanted
        assert service.store is not None
        service.store.log.flush()
        assert [row["model"] for row in told.rows(service.store, decisions)] == [before.bundle_id]
        assert ask.post("/v1/match", {"contact": CONTACT}).json()["model"] != before.bundle_id

    def test_searches_are_built_anew_when_much_has_come_beside_them(
        self, ask: Asking, service: Service, running: Running, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        matcher, searches = service.serving.matcher, service.serving.matcher.snapshot.profiles
        running.rebuild()
        assert matcher.snapshot.profiles is searches
        monkeypatch.setattr("serve.snapshot.MOST_UNINDEXED", 1)
        ask.post("/v1/roster", {"changes": [{"op": "join", "csa_id": "new"}, {"op": "join", "csa_id": "other"}]})
        running.rebuild()
        assert matcher.snapshot.profiles is not searches
        assert not matcher.snapshot.due
        assert "new" in order(ask.post("/v1/match", {"contact": CONTACT, "k": 50}))
