"""The benchmark of canaries counts how each ended, as the steps would have ended it."""

from __future__ import annotations

import json
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from evaluation.experiment.schedule import draw
from loop.rollout.judge import judge, plan_of
from loop.rollout.spec import CanarySpec, Least
from loop.rollout.told import Looked
from twotower.clock import DAY, HOUR

SPEC = CanarySpec(
    block_hours=4.0, days=6, contacts=100, guardrails=(Least(metric="wait_s", margin=0.5, relative=True),)
)


def test_a_quick_run_writes_its_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    benchmark, out = import_module("rollout"), tmp_path / "rollout.json"
    given = json.dumps(SPEC.model_dump(mode="json"))
    words = ["--runs", "2", "--harms", "2", "--a-day", "200", "--canary", given, "--output", str(out)]
    monkeypatch.setattr(sys, "argv", ["rollout.py", *words])
    benchmark.main()
    found = json.loads(out.read_text())["rollout"]["found"]
    assert [one["harm"]["name"] for one in found] == ["none (A/A)", "resolves 1 point less"]
    for one in found:
        assert sum(one[how]["share"] for how in ("taken back", "goes on", "not shown")) == pytest.approx(1)
    assert "taken back" in capsys.readouterr().out


def test_one_judgement_at_the_end_tells_when_a_step_would_have_taken_it_back() -> None:
    benchmark = import_module("rollout")
    harm = benchmark.Harm("broken", -0.3, 2.0)
    told = benchmark.run(harm, 3, 300, SPEC)
    assert (told.how, told.days < SPEC.days) == ("taken back", True)
    spec = SPEC.model_copy(update={"seed": 3})
    plan = plan_of(spec, *benchmark.BOTH, benchmark.BEGINS)
    schedule = draw(plan, [plan.unit])
    frame = benchmark.frame(plan, schedule, harm, 300, np.random.default_rng((3, 7)))
    arrived = frame["arrived_at"].astype("int64").to_numpy()
    for at in range(benchmark.BEGINS + 4 * HOUR, benchmark.BEGINS + spec.days * DAY + 1, 4 * HOUR):
        known = frame[arrived < at].reset_index(drop=True)
        if judge(plan, schedule, spec, Looked(known, None, at), at).broken:
            break
    assert (at - benchmark.BEGINS) / DAY == pytest.approx(told.days)
