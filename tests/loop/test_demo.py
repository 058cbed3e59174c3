"""The demo on a tiny centre: every stage ran, what is said is what was measured, and a second run gives the same."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from evaluation.experiment.plan import read_plan
from evaluation.truth import Truth
from loop.demo import (
    BUNDLE,
    CENTRE,
    EXPERIMENT,
    MARKER,
    PEER,
    REPORT,
    SIMULATION,
    Demo,
    experiment,
    judge,
    make_centre,
    run_demo,
    simulate,
)
from loop.demo_text import json_report, text_report
from loop.examples import in_words
from loop.gate.rules import GateSpec
from loop.registry.registry import CHAMPION, Registry
from loop.retrain.pipeline import Sources
from loop.retrain.run import retrain
from loop.retrain.spec import RetrainSpec, Training
from loop.stages import Stages
from loop.turn import REGISTRY, WORK
from loop.verb import VERB, one_thread
from serve.matcher import Matcher, Ranked
from serve.rolling import RollingMatcher
from twotower.cli import main, plain
from twotower.clock import DAY, parse_time
from twotower.errors import ConfigError, OutputError
from twotower.scoring.join import Scored
from twotower.scoring.kernels import Kernel
from twotower.tables.log import Log

QUICK = ("--trainer.max_epochs=1",)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    return run_demo(tmp_path_factory.mktemp("loop") / "demo", contacts=1400, csas=14, seed=1, options=QUICK)


def test_everything_lies_in_one_folder(demo: Demo) -> None:
    assert {path.name for path in demo.folder.iterdir()} == {
        CENTRE, "run", "peer-run", BUNDLE, PEER, REPORT, SIMULATION, EXPERIMENT, REGISTRY, WORK, MARKER,
    }  # fmt: skip
    assert [path.name for path in demo.folder.parent.iterdir()] == ["demo"]
    assert (demo.folder / REPORT / "report.html").is_file()


def test_training_saw_nothing_of_the_test(demo: Demo) -> None:
    arrived = Log.load(demo.folder / CENTRE).contacts.arrived_at
    assert parse_time(demo.until, "until") == arrived[-140]
    for bundle in (BUNDLE, PEER):
        assert int(Matcher.load(demo.folder / bundle).bundle.manifest.window["until"]) <= arrived[-140]
    assert not [line for line in demo.evaluation.warnings if "has seen" in line]


def test_the_model_stands_beside_the_naive_peer(demo: Demo) -> None:
    assert demo.facts["objective"] == "sigmoid"
    assert json.loads((demo.folder / "peer-run" / "run.json").read_text())["objective"] == "in_batch"
    truth = demo.evaluation.truth
    assert truth is not None
    text = text_report(demo)
    for name in (BUNDLE, PEER):
        assert f"{truth.captured[name].captured:.3f} [" in text
        assert f"{truth.of_ceiling(name):.3f}" in text
    assert truth.captured[BUNDLE].contacts > 125


def test_examples_are_what_the_router_would_say(demo: Demo) -> None:
    log = Log.load(demo.folder / CENTRE)
    rolling = RollingMatcher(Matcher.load(demo.folder / BUNDLE), log)
    assert len(demo.examples) == 3
    for example in demo.examples:
        position = log.contacts.ids.to_pylist().index(example.contact_id)
        assert position >= 1260
        scores = rolling.scores(np.array([position]))[0]
        best = [log.csas.ids[int(code)].as_py() for code in np.argsort(-scores, kind="stable")[:3]]
        assert [candidate.csa_id for candidate in example.candidates] == best
        assert all(
            candidate.p_resolved is not None and 0 < candidate.p_resolved < 1 for candidate in example.candidates
        )
        assert example.text


def test_the_truth_beside_the_examples_is_the_centres(demo: Demo) -> None:
    truth = Truth.load(demo.folder / CENTRE)
    pairs = pq.read_table(demo.folder / CENTRE / "truth.parquet").to_pylist()
    for example in demo.examples:
        mine = {pair["csa_id"]: pair["p_resolved"] for pair in pairs if pair["contact_id"] == example.contact_id}
        assert example.true == mine
        assert mine[example.best] == max(mine.values())
        chosen = truth.latents.assigned[truth.latents.contact_id.tolist().index(example.contact_id)]
        assert example.chosen == (None if chosen < 0 else truth.latents.csa_id[chosen])


def test_the_report_says_where_everything_is_and_how_long_it_took(demo: Demo) -> None:
    text, data = text_report(demo), json_report(demo)
    assert str(demo.folder / BUNDLE) in text
    assert str(demo.folder / REPORT / "report.html") in text
    for stage in (
        "generate",
        "check",
        "train",
        "train the naive peer",
        "export",
        "match",
        "evaluate",
        "simulate",
        "design",
        "experiment",
        "retrain",
        "total",
    ):
        assert stage in text
        assert data["seconds"][stage] > 0
    assert all(example.text[:20] in text for example in demo.examples)
    json.dumps(plain(data), allow_nan=False)
    assert data["bundle_id"] == Matcher.load(demo.folder / BUNDLE).bundle.manifest.id


def test_the_bundle_is_tried_in_a_simulated_centre(demo: Demo) -> None:
    found = demo.simulation
    assert found.names == ("FIFO, longest idle", "sets, by the bundle", "oracle")
    assert all(0.1 < found.of(name, "resolved").mean < 1 for name in found.names)
    text = text_report(demo)
    for name in found.names:
        assert f"{found.of(name, 'resolved').mean:.3f}" in text
    assert "Who waits longer than" in (demo.folder / SIMULATION / "report.html").read_text()


def test_it_ends_with_an_experiment_designed_and_read_out(demo: Demo) -> None:
    tried, folder = demo.experiment, demo.folder / EXPERIMENT
    assert {path.name for path in folder.iterdir()} == {"plan", "tables", "analysis"}
    assert read_plan(folder / "plan" / "plan.yaml") == tried.plan
    assert parse_time(tried.plan.begins) >= parse_time(demo.until)
    assert tried.analysis.refusals == ()
    assert tried.analysis.found is not None
    before, after = tried.rehearsed.truth["resolved"]
    assert 0.1 < before < 1
    assert 0.1 < after < 1
    text = text_report(demo)
    assert f"{100 * (after - before):+.2f} points of resolution" in text
    assert tried.analysis.verdict.paragraph in " ".join(text.split())
    for page in ("plan", "analysis"):
        assert str(folder / page / "report.html") in text
        assert "<svg" in (folder / page / "report.html").read_text()


def test_the_wheel_turns_once_from_the_champions_run(demo: Demo) -> None:
    found = demo.turned
    assert found.outcome in ("promoted", "kept out")
    assert found.champion == demo.bundle_id
    trained = found.steps["train"].said
    assert trained["from"] == demo.bundle_id
    assert trained["in_a_row"] == 1
    assert found.steps["check"].said["contacts"] > 1300
    assert not [name for name, step in found.steps.items() if step.skipped and name not in ("promote", "drift")]
    served = Registry(demo.folder / REGISTRY).alias(CHAMPION)
    assert served is not None
    new = str(found.steps["export"].said["bundle"])
    assert served.digest == (new if found.outcome == "promoted" else demo.bundle_id)
    text = text_report(demo)
    assert all(line in text for line in found.lines)
    assert (demo.folder / WORK / "report.html").is_file()
    assert json_report(demo)["turn"]["outcome"] == found.outcome


def spoilt(demo: Demo, what: str, folder: Path) -> Path:
    """Feedback in which one day's job tells all earlier hand-overs again the wrong way round, or all earlier contacts
    with each other's texts."""
    name, at = ("interactions", "assigned_at") if what == "labels" else ("contacts", "arrived_at")
    table = pq.read_table(demo.folder / CENTRE / f"{name}.parquet")
    before = parse_time(demo.until, "until")
    early = table.filter(pc.less(table[at], pa.scalar(before, pa.int64()).cast(table[at].type)))
    if what == "labels":
        early = early.set_column(early.column_names.index("resolved"), "resolved", pc.invert(early["resolved"]))
    else:
        order = pa.array(np.random.default_rng(0).permutation(len(early)))
        for column in ("intent", "intent_text", "transcript"):
            early = early.set_column(early.column_names.index(column), column, early[column].take(order))
    folder.mkdir()
    pq.write_table(early, folder / f"{name}.parquet")
    return folder


@pytest.mark.parametrize("what", ["labels", "texts"])
def test_a_poisoned_day_is_stopped_by_the_gate_and_the_champion_stays(demo: Demo, what: str, tmp_path: Path) -> None:
    """Trained on it, a challenger is not as good on days that are sound; one that was not poisoned is."""
    for name in (REGISTRY, WORK):
        shutil.copytree(demo.folder / name, tmp_path / name)
    registry = Registry(tmp_path / REGISTRY)
    champion = registry.alias(CHAMPION)
    assert champion is not None
    days = 18  # what came after the poison
    last = int(Log.load(demo.folder / CENTRE).contacts.arrived_at[-1]) // DAY * DAY
    spec = RetrainSpec(window_days=days, in_a_row=0, train=Training(options=QUICK), gate=GateSpec(waits=None))
    feedback = str(spoilt(demo, what, tmp_path / "feedback"))
    found = retrain(Sources(demo.folder / CENTRE, feedback, registry, last), spec, tmp_path / WORK)
    assert found.outcome == "kept out"
    checks = {row["rule"]: row for row in found.steps["gate"].said["checks"]}
    assert not checks["outcomes"]["passed"]
    sound = {row["rule"]: row for row in demo.turned.steps["gate"].said["checks"]}["outcomes"]["worse"]
    assert checks["outcomes"]["worse"] > sound + (0.03 if what == "labels" else 0.0)
    assert Registry(tmp_path / REGISTRY).alias(CHAMPION) == champion
    # Nobody goes on from what it learnt.
    assert not (tmp_path / WORK / "runs" / found.steps["export"].said["bundle"]).exists()
    assert found.lines[-1].startswith("the challenger is kept out by ")


def test_the_command_that_it_names_says_the_same(demo: Demo, capsys: pytest.CaptureFixture[str]) -> None:
    [line] = [line for line in text_report(demo).splitlines() if line.startswith("again ")]
    words = line.split("twotower ")[1].split()
    assert main([*words, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["verdict"] == json_report(demo)["experiment"]["verdict"]


def test_the_same_seed_gives_the_same_bytes(demo: Demo, tmp_path: Path) -> None:
    """What is made of the bundles; that training and export repeat themselves is shown where they are tested."""
    again, stages = tmp_path / "demo", Stages()
    make_centre(stages, again, contacts=1400, csas=14, seed=1)
    for name in (BUNDLE, PEER):
        shutil.copytree(demo.folder / name, again / name)
    judge(stages, again)
    simulate(stages, again, demo.until, seed=1)
    experiment(stages, again, demo.until, seed=1)
    files = [path.relative_to(again) for path in again.rglob("*") if path.is_file()]
    assert {file.parts[0] for file in files} == {CENTRE, BUNDLE, PEER, REPORT, SIMULATION, EXPERIMENT}
    assert len(files) > 40
    other = [str(file) for file in files if (demo.folder / file).read_bytes() != (again / file).read_bytes()]
    assert not other


def test_somebody_elses_folder_is_refused_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "demo").mkdir()
    with pytest.raises(OutputError, match="somebody else's"):
        run_demo(tmp_path / "demo", contacts=1000, csas=14)
    assert not list((tmp_path / "demo").iterdir())


def test_a_size_that_cannot_be_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--csas 3: must be at least 10"):
        run_demo(tmp_path / "demo", contacts=1000, csas=3)
    assert not list(tmp_path.iterdir())


def test_the_verb_has_the_defaults_of_its_help() -> None:
    import argparse

    parser = argparse.ArgumentParser()
    VERB.configure(parser)
    args = parser.parse_args([])
    assert (args.output, args.contacts, args.csas, args.seed) == (Path("demo"), 12_000, 80, 0)


def test_one_thread_unless_the_environment_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    one_thread()
    assert (os.environ["OMP_NUM_THREADS"], os.environ["OPENBLAS_NUM_THREADS"]) == ("3", "1")


def test_parts_that_mean_the_same_are_one_reason_and_add_up() -> None:
    kernels = [Kernel("csa", "residual", 2.0), Kernel("csa", "residual", 8.0), Kernel("pair", "residual", 0.0)]
    parts = np.array([[0.0, 0.5, 0.4, -0.1, 0.0], [0.0, 0.1, 0.0, 0.1, 0.0]], dtype=np.float32)
    names = ("level", "profile", *(kernel.name for kernel in kernels))
    scored = Scored(parts.sum(axis=1), None, parts, names)
    ranked = Ranked(np.array([7, 9]), np.array([0, 1]), scored, None, np.zeros((2, 4), np.float32))
    first, second = in_words(ranked, kernels)
    assert [(reason.part, round(reason.effect, 6)) for reason in first] == [
        ("profile", 0.2), ("outcomes of like work", 0.1),
    ]  # fmt: skip
    above = scored.score - scored.score.mean()
    for reasons, excess in zip((first, second), above, strict=True):
        assert sum(reason.effect for reason in reasons) == pytest.approx(excess, abs=1e-6)
        assert sum(abs(reason.share) for reason in reasons) == pytest.approx(1)
