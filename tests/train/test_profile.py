"""`twotower train --profile`: the run is the same, and its folder says where the steps' time went."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile
from torch.utils.checkpoint import checkpoint

from tests.forked import ranks
from tests.train.runs import FILES, digests, train
from train import ceilings
from train.ceilings import Ceilings, Rate
from train.costs import Costs
from train.profile import BOUNDLESS, FULL, Marks, StepProfile, plan
from train.profile_report import Measured, facts_of, table_of
from train.profile_trace import Parts
from train.ranges import BACKWARD, DATA, OBJECTIVE, OPTIMISER, PREFIX, STEP, STEP_PARTS, SWEEP_PARTS, TEXT, TOWERS

# The text is trained, so that all parts take some time.
GRADIENT = ("--trainer.max_epochs=1", "--model.solver=gradient", "--model.text_lr=0.0003", "--data.batch_size=12")
SAMPLED = ("--trainer.max_epochs=4",)


LITTLE = {"CPU_SIZES": (64,), "CPU_LEAST": 1 << 22, "SAMPLE_S": 1e-3, "TIMES_CACHE": 1}


@pytest.fixture(scope="module", autouse=True)
def _quick() -> Any:
    """Ceilings are measured on little; what they are is no matter here."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in LITTLE.items():
            patch.setattr(ceilings, name, value)
        yield


def quick_train(data: Path, output: Path, *options: str) -> int:
    """The same in a process of its own."""
    vars(ceilings).update(LITTLE)
    return train(data, output, *options)


@pytest.fixture(scope="module")
def steps(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run by gradients with a profile beside it."""
    run: Path = tmp_path_factory.mktemp("profiled") / "run"
    assert train(tiny, run, *GRADIENT, "--profile") == 0
    return run


@pytest.fixture(scope="module")
def sweeps(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sampled run with a profile beside it."""
    run: Path = tmp_path_factory.mktemp("profiled") / "run"
    assert train(tiny, run, *SAMPLED, "--profile") == 0
    return run


def beside(run: Path) -> Path:
    """Where the profile of a run is."""
    return run.with_name(f"{run.name}.profile")


def facts(run: Path) -> dict[str, Any]:
    """What profile.json says."""
    found: dict[str, Any] = json.loads((beside(run) / "profile.json").read_text(encoding="utf-8"))
    return found


def traced(run: Path) -> list[str]:
    """Names of all ranges of ours in the trace, by the trace's own order."""
    trace = json.loads((beside(run) / "trace.json").read_text(encoding="utf-8"))
    names = [e["name"] for e in trace["traceEvents"] if e.get("cat") == "user_annotation"]
    return [name.removeprefix(PREFIX) for name in names if name.startswith(PREFIX)]


def test_a_run_by_gradients_has_the_same_bytes_without_a_profile(tiny, steps, tmp_path):
    assert train(tiny, tmp_path / "run", *GRADIENT) == 0
    assert digests(steps) == digests(tmp_path / "run")
    assert set(digests(steps)) == FILES
    assert not beside(tmp_path / "run").exists()


def test_a_sampled_run_has_the_same_bytes_without_a_profile(tiny, sweeps, tmp_path):
    assert train(tiny, tmp_path / "run", *SAMPLED) == 0
    assert digests(sweeps) == digests(tmp_path / "run")


def test_a_profile_is_three_files_beside_the_run_and_names_no_place(steps):
    assert sorted(path.name for path in beside(steps).iterdir()) == ["profile.json", "profile.txt", "trace.json"]
    assert sorted(path.name for path in steps.parent.iterdir()) == ["run", "run.profile"]
    assert str(steps.parent) not in "".join(
        (beside(steps) / name).read_text() for name in ("profile.json", "trace.json")
    )


def test_the_shares_of_a_step_are_one_in_sum_and_every_part_is_there(steps):
    parts = facts(steps)["parts"]
    assert [row["part"] for row in parts["rows"]] == list(STEP_PARTS)
    assert sum(row["share"] for row in parts["rows"]) == pytest.approx(1, abs=1e-9)
    assert sum(row["s"] for row in parts["rows"]) == pytest.approx(parts["s"])
    assert parts["steps"] == FULL.traced
    seconds = {row["part"]: row["s"] for row in parts["rows"]}
    assert all(seconds[part] > 0 for part in STEP_PARTS)


def test_the_trace_holds_the_parts_of_as_many_steps_as_were_traced(steps):
    names = traced(steps)
    assert {STEP, DATA, TEXT, TOWERS, OBJECTIVE, BACKWARD, OPTIMISER} <= set(names)
    assert names.count(STEP) == names.count(BACKWARD) == names.count(OPTIMISER) == FULL.traced


def test_steps_are_counted_timed_and_held_against_the_ceilings(steps):
    found = facts(steps)
    assert {name: count["done"] for name, count in found["steps"].items()} == FULL._asdict()
    speed, costs = found["speed"], found["costs"]
    assert speed["from"] == "timed steps"
    assert 11 <= speed["contacts"] <= 12
    assert speed["contacts_per_s"] == pytest.approx(speed["contacts"] / speed["s"])
    assert costs["flops_per_s"] == pytest.approx(costs["flops"] / costs["contacts"] * speed["contacts_per_s"])
    assert costs["share_of_product"] == pytest.approx(costs["flops_per_s"] / found["ceilings"]["fp32"]["per_s"])
    assert costs["share_of_copy"] == pytest.approx(costs["bytes_per_s"] / found["ceilings"]["copy"]["per_s"])
    assert costs["ceiling"] == "fp32"
    # The optimiser alone reads four arrays of the text's table and writes three.
    assert costs["largest"]["_fused_adamw_"] > 7 * 4 * 30_000 * 64


def test_a_sampled_run_is_profiled_by_sweeps_over_all_hand_overs(sweeps):
    found = facts(sweeps)
    assert found["kind"] == "sweep"
    assert [row["part"] for row in found["parts"]["rows"]] == list(SWEEP_PARTS)
    assert sum(row["share"] for row in found["parts"]["rows"]) == pytest.approx(1, abs=1e-9)
    assert {"products", "skills", "side", "maps", "pair", "augmentation", "logits"} <= set(traced(sweeps))
    assert found["speed"]["contacts"] > 400
    assert found["costs"]["flops"] > 0


def test_the_table_is_printed_and_the_figures_are_in_the_report(tiny, tmp_path, capsys):
    options = ("--trainer.max_epochs=1", "--model.solver=gradient", "--data.batch_size=4096", "--profile", "--json")
    assert train(tiny, tmp_path / "run", *options) == 0
    said = json.loads(capsys.readouterr().out)["profile"]
    assert said == facts(tmp_path / "run")
    # A single step: it is traced, and nothing could be counted or timed beside it.
    assert {name: count["done"] for name, count in said["steps"].items() if count["done"]} == {"traced": 1}
    assert said["speed"]["from"] == "traced steps"
    text = (beside(tmp_path / "run") / "profile.txt").read_text(encoding="utf-8")
    assert text == table_of(said) + "\n"
    assert "no step was counted" in text


def test_two_processes_are_profiled_in_the_first(tiny_open, tmp_path):
    run = tmp_path / "run"
    more = ("--trainer.max_epochs=1", "--data.batch_size=64", "--trainer.devices=2", "--trainer.strategy=ddp")
    store = f"--data.tokens={tmp_path / 'tokens'}"
    both = ranks(2, quick_train, tiny_open, run, "--profile", *more, store)
    assert [done.status for done in both] == [0, 0], both[0].err + both[1].err
    assert "".join(done.out for done in both).count("profile: ") == 1
    found = facts(run)
    assert found["processes"] == 2
    assert sum(row["share"] for row in found["parts"]["rows"]) == pytest.approx(1, abs=1e-9)


class Text(nn.Module):
    """A backbone that reads again in its backward pass; `read` is how often it did."""

    read = 0

    def forward(self, values: Tensor) -> Tensor:
        """The same."""
        return checkpoint(self.encode, values, use_reentrant=False)  # type: ignore[no-any-return]

    def encode(self, values: Tensor) -> Tensor:
        """The same."""
        self.read += 1
        return values.exp()


def test_text_that_is_read_again_belongs_to_the_backward_pass(tmp_path):
    profiled, text = StepProfile(tmp_path / "run.profile"), Text()
    marks = profiled._marks = Marks(profiled)
    nobody = SimpleNamespace(reader=None, topics=None, outputs=len, head=len, members=len, backbone=text)
    profiled._wrap(SimpleNamespace(contact_tower=nobody, csa_tower=nobody))  # type: ignore[arg-type]
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        profiled.next_step()
        out = text(torch.ones(3, requires_grad=True)).sum()
        marks.start("[Strategy]Any.backward")
        out.backward()
        marks.stop("[Strategy]Any.backward")
        profiled.close(goes_on=False)
    times = {name: [e.time_range for e in seen.events() if e.name == PREFIX + name] for name in (TEXT, BACKWARD)}
    assert text.read == 2
    assert times[TEXT]
    assert max(time.end for time in times[TEXT]) < min(time.start for time in times[BACKWARD])
    profiled._leave(SimpleNamespace(profiler=marks))
    assert "encode" not in vars(text)


def test_a_folder_in_the_way_or_another_profiler_is_refused_in_a_line(tiny, tmp_path, capsys):
    beside(tmp_path / "run").mkdir()
    assert train(tiny, tmp_path / "run", "--profile") == 1
    assert "run.profile: exists already" in capsys.readouterr().err.splitlines()[-1]
    assert train(tiny, tmp_path / "other", "--profile", "--trainer.profiler=simple") == 1
    assert "--trainer.profiler" in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "run").exists()
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("steps", [*range(1, 80), 160, BOUNDLESS])
def test_a_plan_fits_into_the_run_and_always_traces(steps):
    found = plan(steps)
    assert sum(found) <= steps
    assert found.traced >= 1
    assert found.counted == (steps > 1)
    assert found.timed >= (steps > 2)
    assert found == (FULL if steps >= sum(FULL) else found)
    phases = [found.phase(step) for step in range(sum(found) + 1)]
    assert phases == [name for name, count in found._asdict().items() for _ in range(count)] + [None]


def test_what_comes_first_is_left_out_where_there_is_room():
    assert plan(160, 16).warm_up == FULL.warm_up + 16
    assert sum(plan(40, 16)) <= 40


CEILINGS = Ceilings("H", 1, "highest", Rate(50.0, 60.0, 1), Rate(400.0, 500.0, 1), Rate(80.0, 90.0, 1))


def measured(**changed: Any) -> Measured:
    """Ten timed steps of 2 s with 30 contacts each on a device."""
    zero = dict.fromkeys(STEP_PARTS, 0.0)
    parts = Parts(2, 6.0, {**zero, BACKWARD: 4.0, DATA: 2.0}, {**zero, BACKWARD: 3.0, TEXT: 1.5})
    given: dict[str, Any] = {
        "kind": "step", "labels": STEP_PARTS, "plan": FULL._asdict(), "done": {"timed": 10, "counted": 1},
        "rows": {"timed": 300, "counted": 20}, "seconds": {"timed": 20.0}, "costs": Costs(flops=400), "parts": parts,
        "precision": "bf16-mixed", "processes": 1,
    }  # fmt: skip
    return Measured(**{**given, **changed})


def test_rates_are_by_contact_and_half_precision_is_held_against_its_own_product():
    costs = Costs(flops=400)
    costs.moved_by["mm"] = 40
    found = facts_of(measured(costs=costs), CEILINGS)
    assert found["speed"]["contacts_per_s"] == 15
    assert found["costs"]["flops_per_s"] == 400 / 20 * 15
    assert found["costs"]["share_of_product"] == 400 / 20 * 15 / 400
    assert found["costs"]["share_of_copy"] == 40 / 20 * 15 / 80
    assert found["costs"]["ceiling"] == "bf16"


def test_sweeps_are_held_against_the_product_in_single_precision():
    """They are never taken in half of it (`train.module.training_step`)."""
    found = facts_of(measured(kind="sweep", labels=SWEEP_PARTS, parts=None), CEILINGS)
    assert found["costs"]["ceiling"] == "fp32"
    assert found["costs"]["share_of_product"] == 400 / 20 * 15 / 50


def test_shares_of_the_device_are_one_in_sum_with_what_it_idled():
    found = facts_of(measured(), CEILINGS)
    parts = found["parts"]
    assert sum(row["device_share"] for row in parts["rows"]) + parts["device_idle"]["share"] == pytest.approx(1)
    assert parts["device_idle"]["share"] == pytest.approx(1.5 / 6)
    assert parts["slower"] == pytest.approx(1.5)
    assert "device idle" in table_of(found)


def test_a_run_that_ended_early_says_what_is_missing():
    found = facts_of(measured(done={}, rows={}, seconds={}, costs=None, parts=None), CEILINGS)
    assert found["speed"]["contacts_per_s"] is None
    text = table_of(found)
    assert "no step was timed" in text
    assert "no step was traced" in text
