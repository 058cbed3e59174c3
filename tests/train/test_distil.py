"""Distillation: what is matched is nothing where student and teacher are one, and else falls; no gradient reaches the
teacher; a teacher that read something else is refused; the run and its bundle name the teacher."""

from __future__ import annotations

import json
import shutil
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from scipy.special import expit, log_softmax, rel_entr

from export.bundle import export_bundle
from tests.train.conftest import SMALL
from tests.train.runs import digests, interrupted, train, work_of
from train.batches import Step
from train.distil import Distillation, Matching, bernoulli_kl, identity_map, softmax_kl
from train.distil_teacher import Said, Teacher, run_digest, said
from train.draws import Sampling, StepDataset
from train.encode import encode
from train.gather import Gather
from train.objectives.memory import MemoryMixture
from train.prepare import TrainingSet
from twotower.towers.store import build
from twotower.towers.two_tower import TwoTower

KINDS: list[tuple[Sampling | None, bool]] = [
    ("shuffled", False), ("by_snapshot", False), ("sampled", False), (None, True), ("by_snapshot", True),
]  # fmt: skip
TEACHER = ("--data.towers.backbone=transformer", "--model.text_lr=0", "--trainer.max_epochs=1")
STUDENT = ("--trainer.max_epochs=1", "--data.batch_size=128")


def towers(data: TrainingSet, seed: int) -> TwoTower:
    """Towers whose maps are all away from where they start, so that every part of a score differs between seeds."""
    torch.manual_seed(seed)
    config = replace(SMALL, members=2, profile_dim=4)
    model = build(config, data.schema, data.table, data.log_weight, data.tokenizer.pad_id, deepcopy(data.heads))
    for values in (
        model.contact_tower.to_memory.weight,
        model.contact_tower.to_level.weight,
        model.csa_tower.identities,
    ):
        values.data.add_(torch.randn_like(values) * 0.1)
    return model.eval()


def mixture(seed: int) -> MemoryMixture:
    """A memory kernel of its own."""
    torch.manual_seed(seed)
    memory = MemoryMixture(30.0)
    for value in memory.parameters():
        value.data.add_(0.3 * torch.randn_like(value))
    return memory


def as_teacher(model: TwoTower, memory: MemoryMixture, data: TrainingSet) -> Teacher:
    kernel = {name: float(value) for name, value in memory.state_dict().items()}
    return Teacher({}, said(model, data), deepcopy(model.csa_tower), kernel)


def one_step(data: TrainingSet, profile: Sampling | None, memory: bool) -> Step:
    return Gather(data).step(StepDataset(data, data.training(), profile, memory, 64, 32, 100, seed=5, sampled=7)[0])


def loss_of(taught: Distillation, model: TwoTower, memory: MemoryMixture, step: Step) -> torch.Tensor:
    loss: torch.Tensor = taught(model, taught.read(model, step), memory)
    return loss


@pytest.mark.parametrize(("profile", "memory"), KINDS)
def test_nothing_is_left_to_match_where_student_and_teacher_are_one(open_prepared, profile, memory):
    model, kernel = towers(open_prepared, 1), mixture(1)
    taught = Distillation(as_teacher(model, kernel, open_prepared), model.contact_tower.config, Matching(), memory)
    step = one_step(open_prepared, profile, memory)
    assert loss_of(taught, model, kernel, step).item() == pytest.approx(0, abs=1e-5)
    other = towers(open_prepared, 2)
    assert loss_of(taught, other, mixture(2), step).item() > 0.01


@pytest.mark.parametrize(("profile", "memory"), KINDS)
@pytest.mark.parametrize("matching", [Matching(1, 0), Matching(0, 1)], ids=["scores", "embeddings"])
def test_the_students_loss_falls_towards_the_teacher(open_prepared, profile, memory, matching):
    teacher = as_teacher(towers(open_prepared, 1), mixture(1), open_prepared)
    model, kernel = towers(open_prepared, 2), mixture(2)
    taught = Distillation(teacher, model.contact_tower.config, matching, memory)
    learns = [p for module in (model, kernel, taught) for p in module.parameters() if p.requires_grad]
    optimiser, step = torch.optim.Adam(learns, lr=0.02, fused=True), one_step(open_prepared, profile, memory)
    found = []
    for _ in range(40):
        optimiser.zero_grad()
        loss = loss_of(taught, model, kernel, step)
        loss.backward()
        optimiser.step()
        found.append(loss.item())
    assert found[-1] < 0.3 * found[0]


def test_no_gradient_reaches_the_teacher_and_it_is_not_written_down(open_prepared):
    teacher = as_teacher(towers(open_prepared, 1), mixture(1), open_prepared)
    model, kernel = towers(open_prepared, 2), mixture(2)
    taught = Distillation(teacher, model.contact_tower.config, Matching(), memory=True).train()
    before = [value.clone() for value in (*teacher.csa_tower.state_dict().values(), *taught.buffers())]
    loss_of(taught, model, kernel, one_step(open_prepared, "by_snapshot", True)).backward()
    after = [*teacher.csa_tower.state_dict().values(), *taught.buffers()]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    of_teacher = [p for name, p in taught.named_parameters() if name.startswith(("csa_tower.", "kernel."))]
    assert of_teacher
    assert all(p.grad is None and not p.requires_grad for p in of_teacher)
    assert not taught.csa_tower.training
    tower = model.contact_tower
    reached = [tower.weight, tower.to_memory.weight, tower.backbone.table, model.csa_tower.identities]
    reached += [kernel.log_sharpness, taught.to_memory.weight, taught.to_profile.weight]
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in reached)
    assert not {"profile", "memory", "level"} & set(taught.state_dict())


@given(st.integers(0, 2**31), st.integers(1, 6), st.integers(1, 5), st.floats(0.5, 4))
def test_the_divergences_are_those_of_their_formulas(seed, rows, columns, temperature):
    rng = np.random.default_rng(seed)
    student, teacher = rng.normal(size=(2, rows, columns)) * 3
    mask = rng.random((rows, columns)) < 0.6
    expected = [
        temperature**2 * rel_entr(*np.exp([log_softmax(x[i, mask[i]] / temperature) for x in (teacher, student)])).sum()
        for i in range(rows)
        if mask[i].any()
    ]
    found = softmax_kl(*map(torch.from_numpy, (student, teacher, mask)), temperature)
    assert found.item() == pytest.approx(np.mean(expected) if expected else 0, abs=1e-9)
    p, q = expit(teacher[:, 0] / temperature), expit(student[:, 0] / temperature)
    pairs = bernoulli_kl(torch.from_numpy(student[:, 0]), torch.from_numpy(teacher[:, 0]), temperature)
    expected_pairs = temperature**2 * (rel_entr(p, q) + rel_entr(1 - p, 1 - q)).mean()
    assert pairs.item() == pytest.approx(expected_pairs, abs=1e-9)


def test_a_row_in_which_nothing_is_visible_sends_no_gradient():
    student = torch.randn(3, 4, requires_grad=True)
    mask = torch.tensor([[True] * 4, [False] * 4, [True, False, True, False]])
    softmax_kl(student, torch.randn(3, 4), mask, 1.0).backward()
    assert torch.isfinite(student.grad).all()
    assert (student.grad[~mask] == 0).all()
    assert (student.grad[0] != 0).all()


def test_a_map_between_widths_starts_as_the_identity_on_what_both_have():
    vectors = torch.randn(5, 3)
    assert torch.equal(identity_map(3, 3)(vectors), vectors)
    assert torch.equal(identity_map(3, 5)(vectors), torch.nn.functional.pad(vectors, (0, 2)))
    assert torch.equal(identity_map(3, 2)(vectors), vectors[:, :2])


@pytest.fixture(scope="module")
def teacher(tiny_open: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the transformer tower, its text frozen."""
    run: Path = tmp_path_factory.mktemp("teachers") / "teacher"
    assert train(tiny_open, run, *TEACHER) == 0
    return run


@pytest.fixture(scope="module")
def student(tiny_open: Path, teacher: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A static run beside it."""
    run: Path = tmp_path_factory.mktemp("students") / "student"
    assert train(tiny_open, run, *STUDENT, f"--model.teacher={teacher}") == 0
    return run


def test_the_run_and_its_bundle_name_the_teacher_and_no_place(teacher, student, tmp_path):
    its = json.loads((teacher / "run.json").read_text())
    facts = json.loads((student / "run.json").read_text())
    assert (its["backbone"], its["text"], its["teacher"]) == ("transformer", "frozen", None)
    assert (facts["backbone"], facts["text"]) == ("static", "trained")
    digest = run_digest(teacher)
    assert facts["teacher"]["digest"] == digest
    assert (facts["teacher"]["backbone"], facts["teacher"]["encoder"]) == ("transformer", "minilm")
    assert facts["teacher"]["metrics"] == its["metrics"]
    assert 0 < facts["teacher"]["metrics"]["val_memory_mrr"] <= 1
    assert digest in (student / "config.yaml").read_text()
    manifest = export_bundle(student, tmp_path / "bundle")
    assert manifest.model["teacher"] == facts["teacher"]
    written = [p.read_bytes() for folder in (student, tmp_path / "bundle") for p in folder.iterdir()]
    assert not any(str(teacher).encode() in content for content in written)
    assert digest in (tmp_path / "bundle" / "MODEL_CARD.md").read_text()


def test_the_teacher_changes_the_student_and_its_maps_are_thrown_away(tiny_open, student, tmp_path):
    assert train(tiny_open, tmp_path / "alone", *STUDENT) == 0
    assert json.loads((tmp_path / "alone" / "run.json").read_text())["teacher"] is None
    own, alone = digests(student), digests(tmp_path / "alone")
    assert own["model.safetensors"] != alone["model.safetensors"]
    assert own["model.json"] == alone["model.json"]
    assert own["features.json"] == alone["features.json"]


def test_an_interrupted_student_ends_in_the_same_bytes_and_asks_its_teacher_once(
    tiny_open, teacher, tmp_path, monkeypatch, capsys
):
    options = ("--data.batch_size=128", f"--model.teacher={teacher}")
    asked = []

    def counted(model: TwoTower, data: TrainingSet, device: torch.device) -> Said:
        asked.append(len(data.arrived_at))
        return said(model, data, device)

    monkeypatch.setattr("train.distil_teacher.said", counted)
    assert train(tiny_open, tmp_path / "whole", *options) == 0
    run = tmp_path / "run"
    assert interrupted(tiny_open, run, 30, *options) != 0  # in the second epoch
    assert (work_of(run) / "last.ckpt").is_file()
    assert [p.name for p in work_of(run).glob("teacher-*.npz")] == [f"teacher-{run_digest(teacher)[:16]}.npz"]
    assert train(tiny_open, run, *options) == 0
    assert "(continued)" in capsys.readouterr().out
    assert digests(run) == digests(tmp_path / "whole")
    assert not work_of(run).exists()
    assert asked == [300, 300]


def test_another_teacher_is_another_run(tiny_open, teacher, tmp_path, capsys):
    other, run = tmp_path / "other", tmp_path / "run"
    shutil.copytree(teacher, other)
    weights = load_file(other / "model.safetensors")
    weights["csa_tower.identities"] += 0.1
    save_file(weights, other / "model.safetensors")
    assert interrupted(tiny_open, run, 30, f"--model.teacher={teacher}") != 0
    capsys.readouterr()
    assert train(tiny_open, run, f"--model.teacher={other}") == 1
    assert "an unfinished run on other data or options is there" in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    ("options", "said_so"),
    [
        (["--data.towers.max_tokens=16"], "max_tokens of its features.json 24 there, 16 here"),
        (["--data.towers.families=[form,profile,tenure]"], "families of its features.json"),
        (["--data.towers.base_dim=32"], "base_dim of its features.json 48 there, 32 here"),
        (["--data.towers.view_dim=16"], "data.towers.view_dim 32 there, 16 here"),
        (["--data.memory=off"], "memory 'trained' there, 'not trained' here"),
        (["--data.objective=in_batch"], "objective 'corrected_softmax' there, 'in_batch' here"),
        (["--data.validation_share=0.2"], "validation from '"),
        (["--until", "2026-06-28T00:00:00Z"], "contacts 300 there, "),
    ],
)
def test_a_teacher_that_read_something_else_is_refused_in_a_line(
    tiny_open, teacher, tmp_path, capsys, options, said_so
):
    assert train(tiny_open, tmp_path / "run", f"--model.teacher={teacher}", *options) == 1
    [line] = [line for line in capsys.readouterr().err.splitlines() if line.startswith("twotower train:")]
    assert said_so in line
    assert "it learnt from something else" in line
    assert "train teacher and student on the same --data, --until and data options" in line
    assert not (tmp_path / "run").exists()


def test_a_teacher_of_other_hand_overs_is_refused_though_all_sizes_agree(tiny_open, teacher, tmp_path, capsys):
    changed = tmp_path / "teacher"
    changed.mkdir()
    for path in teacher.iterdir():
        (changed / path.name).write_bytes(path.read_bytes())
    with np.load(teacher / "probe.npz", allow_pickle=False) as probe:
        arrays = {**probe, "csa": probe["csa"][::-1]}
    np.savez(changed / "probe.npz", **arrays)
    assert train(tiny_open, tmp_path / "run", f"--model.teacher={changed}") == 1
    assert "its latest hand-overs are not those of this log" in capsys.readouterr().err


def test_a_teacher_that_took_in_the_validation_window_is_refused(tiny_open, teacher, tmp_path, capsys):
    sampled = tmp_path / "teacher"
    shutil.copytree(teacher, sampled)
    facts = json.loads((sampled / "run.json").read_text(encoding="utf-8"))
    (sampled / "run.json").write_text(json.dumps(facts | {"solver": "sampling"}), encoding="utf-8")
    assert train(tiny_open, tmp_path / "run", f"--model.teacher={sampled}") == 1
    assert "over the validation window too; train it with --model.solver gradient" in capsys.readouterr().err


def test_levels_are_not_matched_where_lists_tell_who_could_have_taken_what(open_prepared):
    """The objectives hold them there, so a teacher's would only saturate what is compared."""
    teacher, model = as_teacher(towers(open_prepared, 1), mixture(1), open_prepared), towers(open_prepared, 2)
    taught = Distillation(teacher, model.contact_tower.config, Matching(1, 0), memory=False)
    step, found = one_step(open_prepared, "by_snapshot", False), {True: [], False: []}
    assert step.profile is not None
    for step.profile.listed, losses in found.items():
        for _ in range(2):
            losses.append(loss_of(taught, model, mixture(2), step).item())
            taught.level += 3
        taught.level -= 6
    assert found[True][1] == pytest.approx(found[True][0], rel=1e-3)
    assert abs(found[False][1] / found[False][0] - 1) > 0.01


def test_what_is_no_finished_run_is_no_teacher(tiny_open, tmp_path, capsys):
    for folder in (tmp_path / "nowhere", tmp_path):
        assert train(tiny_open, tmp_path / "run", f"--model.teacher={folder}") == 1
        assert "not a finished training run (model.safetensors is missing)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "said_so"),
    [
        (["--model.score_matching=-1"], "score_matching and embedding_matching must not be negative"),
        (["--model.temperature=0"], "temperature positive"),
        (["--model.solver=sampling"], "no teacher; use --model.solver gradient"),
    ],
)
def test_options_of_the_matching_are_checked(tiny, teacher, tmp_path, capsys, options, said_so):
    assert train(tiny, tmp_path / "run", f"--model.teacher={teacher}", *options) == 1
    assert said_so in capsys.readouterr().err


def test_a_frozen_transformer_is_run_once_and_read_from_then_on(open_prepared, monkeypatch):
    config = replace(SMALL, backbone="transformer", members=2, profile_dim=4)
    data = open_prepared
    model = build(config, data.schema, data.table, data.log_weight, data.tokenizer.pad_id, deepcopy(data.heads)).eval()
    contacts = np.array([5, 3, 200, 41])
    from_tokens = encode(model, data, contacts)
    with torch.inference_mode():
        text = model.contact_tower.backbone(torch.from_numpy(data.tokens.pad(np.arange(len(data.tokens)))))
    once = replace(data, frozen_text=text.numpy())
    monkeypatch.setattr(model.contact_tower.backbone, "forward", None)
    read = encode(model, once, contacts)
    for name in ("profile", "memory", "level", "base"):
        assert np.allclose(getattr(read, name), getattr(from_tokens, name), atol=1e-5), name
