"""The benchmark of training speed: what is timed and counted, what is said where something is missing, a tiny run."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from evaluation.generate.centre import generate
from evaluation.generate.settings import Settings
from evaluation.truth import Truth
from train import ceilings
from train.ceilings import Ceilings, Rate
from twotower.tables.log import Log

CPU = torch.device("cpu")
CEILINGS = Ceilings("cpu", 1, "highest", Rate(100.0, 110.0, 1), Rate(400.0, 500.0, 1), Rate(80.0, 90.0, 1))


@pytest.fixture
def benchmark_() -> Any:
    """The benchmark, which is no package."""
    return import_module("train_throughput")


@pytest.fixture
def sides() -> Any:
    """Its two sides."""
    return import_module("train_throughput_sides")


@pytest.fixture(scope="module")
def centre(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small centre in English."""
    folder = tmp_path_factory.mktemp("throughput") / "centre"
    generate(Settings(contacts=400, csas=20, languages=("en",), seed=3, days=30, eligible=6), folder)
    return folder


@pytest.fixture
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ceilings are measured on little; what they are is no matter here."""
    monkeypatch.setattr(ceilings, "CPU_SIZES", (64,))
    monkeypatch.setattr(ceilings, "CPU_LEAST", 1 << 22)
    monkeypatch.setattr(ceilings, "SAMPLE_S", 1e-3)


def leg(sides: Any, per_s: float, flops: float = 10.0) -> Any:
    """A leg of so many contacts a second."""
    return sides.Leg(contacts=int(per_s * 2), seconds=2.0, flops=int(flops * 4), counted=4)


def test_the_clock_runs_between_the_ends_of_steps_and_the_first_step_is_counted(sides, monkeypatch):
    moments = iter([100.0, 104.0])
    monkeypatch.setattr(sides.time, "perf_counter", lambda: next(moments))
    watch = sides.Stopwatch(3, CPU)
    for step in range(sides.WARM + 3):
        watch.rows += 10 + step
        watch.begin()
        torch.ones(2, 3) @ torch.ones(3, 4)
        watch.end()
    found = watch.finished()
    assert (found.contacts, found.seconds) == (12 + 13 + 14, 4.0)
    assert (found.flops, found.counted) == (2 * 2 * 3 * 4, 10)
    assert found.per_s == pytest.approx(39 / 4)
    assert found.flops_per_contact == pytest.approx(4.8)


def test_a_leg_that_was_cut_short_or_trained_no_text_is_refused(sides):
    watch = sides.Stopwatch(3, CPU)
    with pytest.raises(SystemExit, match=r"0 steps were taken, 5 were expected"):
        watch.finished()
    for _ in range(5):
        watch.begin()
        watch.end()
    with pytest.raises(SystemExit, match="had no contacts"):
        watch.finished()


def test_frozen_text_is_refused(sides):
    tower = SimpleNamespace(backbone=torch.nn.Linear(2, 2).requires_grad_(False))
    module = SimpleNamespace(towers=SimpleNamespace(contact_tower=tower))
    with pytest.raises(SystemExit, match="the text is frozen"):
        sides.Clock(sides.Stopwatch(1, CPU)).on_train_start(None, module)


def test_legs_alternate_and_who_begins_changes(benchmark_, sides):
    order: list[str] = []

    class Side:
        def __init__(self, name: str) -> None:
            self.name = name

        def leg(self, load: Any) -> Any:
            order.append(self.name)
            return leg(sides, 1.0)

    load = sides.Load("static", "cpu", "fp32", 4, 2)
    legs = benchmark_.paired(load, 3, Side("ours"), lambda: Side("peer"))
    assert order == ["ours", "peer", "peer", "ours", "ours", "peer"]
    assert [len(one) for one in legs] == [3, 3]
    assert [len(one) for one in benchmark_.paired(load, 2, Side("ours"), None)] == [2, 0]


def test_the_ratio_is_the_median_of_the_rounds_and_shares_are_of_the_ceilings(benchmark_, sides):
    ours = [leg(sides, 30.0), leg(sides, 8.0), leg(sides, 20.0)]
    peer = [leg(sides, 10.0), leg(sides, 4.0), leg(sides, 5.0)]
    row = benchmark_.speeds((ours, peer), CEILINGS)
    assert row["ratios"] == [3.0, 2.0, 4.0]
    assert row["ratio"] == 3.0  # of medians alone it would be 4
    assert row["ours"]["contacts_per_s"] == 20.0
    assert row["ours"]["share_of_bf16"] == pytest.approx(20 * 10 / 400)
    assert row["peer"]["share_of_fp32"] == pytest.approx(5 * 10 / 100)
    alone = benchmark_.speeds((ours, []), CEILINGS)
    assert (alone["peer"], alone["ratio"], alone["ratios"]) == (None, None, [])


def test_a_comparison_says_what_was_not_measured(benchmark_, sides):
    both = benchmark_.speeds(([leg(sides, 30.0)], [leg(sides, 10.0)]), CEILINGS)
    row = {"tower": "static", "device": "cpu", "precision": "fp32", "batch": 4, "steps": 2, "rounds": 1, "threads": 1}
    row |= {"seen": 0, "captured": {}, "peer_missing": [], **both}
    text = benchmark_.told(row)
    assert "ours / peer: 3.00" in text
    assert text.count("not measured: --seen") == 2
    row |= benchmark_.speeds(([leg(sides, 30.0)], []), CEILINGS)
    row |= {"seen": 8, "captured": {"ours": 0.25}, "peer_missing": ["datasets"]}
    text = benchmark_.told(row)
    assert "0.250" in text
    assert "peer not measured: its trainer needs pip install datasets" in text


def test_a_device_that_is_not_there_is_told_and_not_measured(benchmark_, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    args, options = benchmark_.parsed(["--epoch", "1000", "--rosters", "50"])
    found = benchmark_.Benchmark(args, options, tmp_path)
    assert list(found.parts()) == [
        "static cpu", "transformer cpu", "rosters cpu", "epoch cpu",
        "static cuda", "transformer cuda", "rosters cuda", "epoch cuda",
    ]  # fmt: skip
    rows, text = found.measure("static cuda")
    assert rows == [{"part": "static cuda", "not_measured": "no GPU"}]
    assert text == "static cuda: not measured: no GPU"


def test_both_sides_are_asked_for_the_same_and_options_go_to_training(benchmark_, tmp_path):
    args, options = benchmark_.parsed(["--batch", "32", "--precision", "bf16", "--plot", "x.svg", "--model.lr=0.001"])
    assert options == ["--model.lr=0.001"]
    assert args.batches
    assert args.rosters
    load = benchmark_.Benchmark(args, options, tmp_path).load("transformer", "cpu")
    assert (load.batch, load.precision) == (32, "bf16")
    flags = load.flags(5)
    assert {"--data.batch_size=32", "--trainer.precision=bf16-mixed", "--trainer.max_steps=5"} <= set(flags)
    assert flags[-1] == "--model.lr=0.001"
    assert benchmark_.Benchmark(args, [], tmp_path).load("static", "cuda").flags(1)[0] == "--trainer.accelerator=gpu"


def test_pairs_are_resolved_hand_overs_that_were_known_and_every_csa_has_a_text(sides, centre):
    until = import_module("worlds").test_begins(Truth.load(centre))
    pairs, log = sides.resolved_pairs(centre, until), Log.load(centre, until)
    assert len(pairs.contact) == len(pairs.profile) == int((log.handovers.resolved == 1).sum()) > 100
    texts, profiles = sides.contact_texts(log), sides.profile_texts(log)
    assert set(pairs.contact) <= set(texts)
    assert set(pairs.profile) <= set(profiles)
    good = int(np.flatnonzero(log.handovers.resolved == 1)[0])
    first = texts[log.handovers.contact[good]], profiles[log.handovers.csa[good]]
    assert (pairs.contact[0], pairs.profile[0]) == first
    assert all(profiles)


def test_cosines_are_those_of_the_truths_pairs(centre):
    quality, truth = import_module("train_throughput_quality"), Truth.load(centre)

    class Model:
        def eval(self) -> Model:
            return self

        def encode(self, texts: list[str], **options: Any) -> Any:
            return np.array([[len(text), 1.0] for text in texts])

    contacts = ["x" * (i + 1) for i in range(len(truth.contact))]
    profiles = ["y" * (i + 1) for i in range(len(truth.latents.csa_id))]
    found = quality.cosines(Model(), contacts, profiles, truth)
    assert found == pytest.approx((truth.rows + 1) * (truth.csa + 1.0) + 1)


def test_the_plot_has_the_same_bytes_for_the_same_rows(sides):
    plot = import_module("train_throughput_plot").plot
    one = {"contacts_per_s": 10.0}
    rows = [
        {"part": "batches static cpu", "tower": "static", "device": "cpu", "batch": batch, "ours": one, "peer": None}
        for batch in (8, 32)
    ]
    rows += [
        {
            "part": "rosters cpu",
            "device": "cpu",
            "csas": 50,
            "contacts_per_s": 5.0,
            "peak_bytes": 10**9,
            "before_bytes": 10**8,
        }
    ]
    rows += [{"part": "rosters cuda", "not_measured": "no GPU"}, {"part": "static cpu", "batch": 4}]
    svg = plot(rows)
    assert svg == plot(rows)
    assert "static, cpu, ours" in svg
    assert "peer" not in svg


@pytest.mark.usefixtures("_quick")
def test_a_tiny_run_compares_and_writes_its_figures(benchmark_, sides, tmp_path, monkeypatch, capsys):
    if missing := sides.missing_for_peer():
        pytest.skip(f"sentence-transformers' trainer needs {', '.join(missing)}")
    output = tmp_path / "figures.json"
    words = (
        "--device cpu --towers static --contacts 400 --csas 20 --batch 32 --steps 2 --rounds 2 --seen 64 "
        f"--output {output} --data.towers.view_dim=32"
    ).split()
    monkeypatch.setattr("sys.argv", ["train_throughput.py", *words])
    benchmark_.main()
    said = capsys.readouterr().out
    [row] = json.loads(output.read_text())["rows"]
    assert (row["part"], row["rounds"], row["batch"], row["seen"]) == ("static cpu", 2, 32, 64)
    legs = zip(row["ours"]["legs"], row["peer"]["legs"], strict=True)
    assert row["ratio"] == pytest.approx(np.median([mine / its for mine, its in legs]))
    assert min(row["ours"]["contacts_per_s"], row["peer"]["contacts_per_s"]) > 0
    assert row["ours"]["flops_per_contact"] > 0
    assert set(row["captured"]) == {"ours", "peer"}
    assert all(-5 < value <= 1 for value in row["captured"].values())
    assert f"ours / peer: {row['ratio']:.2f}" in said


@pytest.mark.usefixtures("_quick")
def test_epoch_memory_and_a_whole_run_are_timed_apart_from_reading(benchmark_, tmp_path, monkeypatch):
    output = tmp_path / "figures.json"
    words = (
        "--device cpu --towers --contacts 400 --csas 20 --batch 64 --steps 2 --rosters 20 --epoch 400 "
        f"--cached 16 --layers 1 --until-trained 400 --output {output} --data.towers.view_dim=32 "
        "--data.towers.max_tokens=48"
    ).split()
    monkeypatch.setattr("sys.argv", ["train_throughput.py", *words])
    monkeypatch.setattr("train.run.SAMPLED_EPOCHS", 1)
    benchmark_.main()
    rows = {row["part"]: row for row in json.loads(output.read_text())["rows"]}
    assert set(rows) == {"cached cpu", "rosters cpu", "epoch cpu", "until trained cpu"}
    for part in ("rosters cpu", "cached cpu"):
        assert rows[part]["peak_bytes"] >= rows[part]["before_bytes"] > 10**8
    assert (rows["cached cpu"]["batch"], rows["cached cpu"]["layers"]) == (16, 1)
    assert rows["rosters cpu"]["csas"] == 20
    epoch, whole = rows["epoch cpu"], rows["until trained cpu"]
    assert 300 < epoch["contacts"] <= 500  # some contacts are handed over twice
    assert min(epoch["seconds"], epoch["prepared_s"], whole["seconds"], whole["prepared_s"]) > 0
    assert whole["contacts"] == 400
    assert whole["run"]["solver"] == "sampling"
