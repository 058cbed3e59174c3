"""A turn of the wheel: what is done once, who is promoted, and that nothing is lost or half done when it is killed."""

from __future__ import annotations

import json
import multiprocessing
import shutil
import signal
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from loop.gate.rules import Margin
from loop.registry.registry import CHALLENGER, CHAMPION, Busy, Registry, locked
from loop.retrain.merge import merge
from loop.retrain.page import text_report
from loop.retrain.run import JSON, LOCK, REPORT
from loop.retrain.spec import RetrainSpec
from tests.forked import call
from tests.loop.retraining import LENIENT, NAMES, SPEC, UNTIL, killed_everywhere, turn
from tests.serve import fakes
from twotower.cli import main
from twotower.clock import DAY
from twotower.errors import ConfigError, DataError
from twotower.tables.log import Log


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tables, and a registry in which a first turn has promoted a bundle."""
    folder = tmp_path_factory.mktemp("served")
    fakes.write_tables(fakes.tables(), folder / "data")
    first = turn(folder)
    assert first.outcome == "promoted"
    assert first.lines == ["there is no champion: the first bundle is promoted"]
    assert [name for name in NAMES if first.steps[name].skipped] == ["judge", "value", "waits", "host"]
    return folder


@pytest.fixture
def folder(served: Path, tmp_path: Path) -> Path:
    shutil.copytree(served, tmp_path / "centre")
    return tmp_path / "centre"


def test_a_challenger_that_is_not_worse_takes_its_place(folder: Path) -> None:
    before = Registry(folder / "registry").alias(CHAMPION)
    assert before is not None
    found = turn(folder, 1)
    assert found.outcome == "promoted"
    assert tuple(found.steps) == NAMES
    now = Registry(folder / "registry").alias(CHAMPION)
    assert now is not None
    assert now.replaced == before.number
    assert now.digest == found.steps["export"].said["bundle"] != before.digest
    assert now.tags["twotower.gate"] == "passed"
    assert "2 windows of 10 days" in found.steps["drift"].said["not_known"]
    rules = [row["rule"] for row in found.steps["gate"].said["checks"]]
    assert rules == ["ranking", "outcomes", "calibration", "value", "waits"]
    page = (folder / "work" / REPORT).read_text()
    assert "Promoted: a new bundle is served" in page
    assert json.loads((folder / "work" / JSON).read_text())["outcome"] == "promoted"
    assert "the challenger is promoted" in text_report(found)


def test_what_is_done_is_not_done_again(folder: Path) -> None:
    turn(folder, 1)
    again = turn(folder, 1)  # the champion is another now, so who is judged against whom is
    assert again.outcome == "nothing new"
    assert [name for name in NAMES if again.steps[name].again] == ["ingest", "check", "train", "export"]
    assert again.steps["drift"].said["alarms"] == []
    assert [again.steps[name].skipped for name in ("judge", "promote")] == [
        "the new bundle is the champion's, to the bit", "the gate kept the challenger out",
    ]  # fmt: skip
    third = turn(folder, 1)
    assert all(done.again or done.skipped for done in third.steps.values())


def test_the_gate_keeps_out_who_is_worse_and_the_champion_stays(folder: Path) -> None:
    champion = Registry(folder / "registry").alias(CHAMPION)
    strict = SPEC.model_copy(update={"gate": LENIENT.model_copy(update={"ranking": Margin(margin=0.0)})})
    found = turn(folder, 1, strict)
    assert found.outcome == "kept out"
    assert found.lines[-1] == "the challenger is kept out by ranking"
    registry = Registry(folder / "registry")
    assert registry.alias(CHAMPION) == champion
    [made] = [one for one in registry.versions() if one.digest == found.steps["export"].said["bundle"]]
    assert made.tags["twotower.gate"] == "kept out"
    assert "Kept out: the champion stays" in (folder / "work" / REPORT).read_text()


def test_it_may_become_the_challenger_alone(folder: Path) -> None:
    champion = Registry(folder / "registry").alias(CHAMPION)
    found = turn(folder, 1, SPEC.model_copy(update={"alias": CHALLENGER}))
    registry = Registry(folder / "registry")
    now = registry.alias(CHALLENGER)
    assert now is not None
    assert now.number == found.steps["promote"].said["version"]
    was = registry.alias(CHAMPION)
    assert (was and was.number) == (champion and champion.number)


def test_killed_at_every_step_it_ends_in_the_same_bundle(folder: Path) -> None:
    expected = _expected(folder)
    shutil.rmtree(folder / "work")  # nothing is done yet
    done = call(killed_everywhere, str(folder), timeout=600)
    assert done.status == 0, done.out + done.err
    told = json.loads(done.out)
    assert set(told) == {f"{step} {where}" for step in NAMES for where in ("inside", "ends")}
    # Killed inside its last step the alias had moved, so the turn after that has nothing to promote.
    assert told.pop("promote ends") == 0
    assert set(told.values()) == {-signal.SIGKILL}, told
    found = turn(folder, 1)
    assert found.steps["export"].said["bundle"] == expected
    assert found.outcome == "nothing new"
    registry = Registry(folder / "registry")
    now = registry.alias(CHAMPION)
    assert now is not None
    assert now.digest == expected
    assert len(registry.versions()) == 2
    assert not list((folder / "work").glob(".*partial*"))


def _expected(folder: Path) -> str:
    """What a turn that nobody kills makes, in a copy."""
    copy = folder.with_name("copy")
    shutil.copytree(folder, copy)
    return str(turn(copy, 1).steps["export"].said["bundle"])


def _holds(path: str, ready: str) -> None:
    with locked(Path(path), 0.0, "held"):
        Path(ready).touch()
        time.sleep(60)


def test_two_at_once_never(folder: Path, tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    other = multiprocessing.get_context("spawn").Process(
        target=_holds, args=(str(folder / "work" / LOCK), str(ready)), daemon=True
    )
    other.start()
    try:
        while not ready.exists():
            time.sleep(0.05)
        with pytest.raises(Busy, match="another retraining works here"):
            turn(folder, 1)
    finally:
        other.kill()
        other.join()
    assert turn(folder, 1).outcome == "promoted"  # the lock of who died is gone


def test_somebody_else_promoted_in_between(folder: Path) -> None:
    """A promotion names whom it replaces; nothing moves where that is another by then."""
    registry = Registry(folder / "registry")
    made = fakes.fake_bundle(
        fakes.write_run(folder / "data", folder / "else", fakes.until_us(15)), folder / "else-bundle"
    )
    other = registry.register(made)

    def meanwhile(name: str, moment: str) -> None:
        if (name, moment) == ("register", "ends"):
            registry.promote(other.number)

    with pytest.raises(ConfigError, match=f"is version {other.number} by now"):
        turn(folder, 1, watch=meanwhile)
    now = registry.alias(CHAMPION)
    assert now is not None
    assert now.number == other.number
    report = json.loads((folder / "work" / JSON).read_text())
    assert (report["outcome"], "by now" in report["error"]) == ("failed", True)


def test_tables_that_break_the_contract_stop_it_before_training(folder: Path) -> None:
    moves = pq.read_table(folder / "data" / "interactions.parquet")
    ids = moves["csa_id"].to_pylist()
    place = moves.schema.get_field_index("csa_id")
    broken = moves.set_column(place, "csa_id", pa.array(["nobody", *ids[1:]]))
    pq.write_table(broken, folder / "data" / "interactions.parquet")
    with pytest.raises(DataError, match=r"the tables break the contract: .*interactions"):
        turn(folder, 1)
    report = json.loads((folder / "work" / JSON).read_text())
    assert (report["outcome"], list(report["steps"])) == ("failed", ["ingest"])


def test_drift_stands_in_the_report_or_stops_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import loop.drift.run

    def alarmed(*_: Any, **__: Any) -> Any:
        name = SimpleNamespace(name="input.intent")
        return SimpleNamespace(alarms=[name], as_json=lambda: {"findings": ["input.intent"]})

    monkeypatch.setattr(loop.drift.run, "drift", alarmed)
    told = turn(folder, 1)
    assert told.steps["drift"].said == {"alarms": ["input.intent"]}
    assert "alarms" in text_report(told)
    with pytest.raises(DataError, match=r"drift: input\.intent; `twotower drift` tells more"):
        turn(folder, 1, SPEC.model_copy(update={"drift": "stops"}))
    report = json.loads((folder / "work" / JSON).read_text())
    assert (report["outcome"], list(report["steps"])) == ("failed", ["ingest", "check"])


def test_feedback_completes_and_adds(tmp_path: Path) -> None:
    whole = fakes.tables()
    half = UNTIL - 15 * DAY
    fakes.write_tables(whole, tmp_path / "whole")
    early = Log.load(tmp_path / "whole", until=half)
    merged, old = tmp_path / "merged", tmp_path / "old"
    for output, until in ((old, half), (merged, UNTIL)):
        output.mkdir()
        merge([tmp_path / "whole"], output, until)
    found = Log.load(old)
    assert found.contacts.ids.equals(early.contacts.ids)
    assert (found.handovers.resolved[found.handovers.known_at >= half] == -1).all()
    for name in ("contact", "csa", "assigned_at", "ended_at", "known_at", "resolved"):
        assert (getattr(found.cut(half).handovers, name) == getattr(early.handovers, name)).all(), name
    again = tmp_path / "again"
    again.mkdir()
    rows = merge([old, tmp_path / "whole"], again, UNTIL)
    assert rows["contacts"] == len(whole["contacts"])
    assert rows["interactions"] == len(whole["interactions"])
    both = [pq.read_table(place / "interactions.parquet").sort_by([("contact_id", "ascending")]) for place in
            (again, merged)]  # fmt: skip
    assert both[0]["resolved"].to_pylist() == both[1]["resolved"].to_pylist()
    assert pc.sum(pq.read_table(old / "interactions.parquet")["resolved"].is_null()).as_py() > 0, "nothing was late"


def test_the_command_says_what_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch) -> None:
    monkeypatch.delenv("TWOTOWER_REGISTRY", raising=False)
    monkeypatch.delenv("TWOTOWER_STORE", raising=False)
    data, registry = str(tmp_path / "none"), str(tmp_path / "registry")
    work = ["--work", str(tmp_path / "work")]
    assert main(["retrain", "--data", data, *work]) == 1
    assert "--registry is missing" in capsys.readouterr().err
    assert main(["retrain", "--data", data, "--registry", registry, *work]) == 1
    assert f"--data {data}: no such folder" in capsys.readouterr().err
    (tmp_path / "bad.yaml").write_text("windows_days: 3\n")
    assert main(["retrain", "--data", data, "--registry", registry, "--config", str(tmp_path / "bad.yaml"), *work]) == 1
    assert "did you mean window_days?" in capsys.readouterr().err


def test_the_example_is_understood() -> None:
    from evaluation.simulate.scenario import read

    found = read(Path(__file__).parents[2] / "configs" / "retrain.yaml", RetrainSpec)
    assert found == RetrainSpec()
