"""The teacher of a distillation: a finished run, refused where it learnt from something else, read once.

Notable: a teacher is asked about every contact of the log before the first step, so a step costs no pass through its
text backbone; its CSA tower, which is small, is run on each step's own CSAs. What it said of the contacts is kept
beside the checkpoints of the unfinished run, so that a run that is continued does not ask again, and goes with them. A
teacher must have read what the student reads (the same log up to the same moment, the same tokens and features),
because its outputs are compared row by row, and one that knew later outcomes would carry them into the student.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from train.data import MatcherData
from train.encode import text_vectors
from train.gather import Gather
from train.prepare import TrainingSet
from twotower.clock import format_time
from twotower.errors import ConfigError
from twotower.features.schema import FeatureSchema
from twotower.files import atomic_file, sha256_file
from twotower.towers.store import load
from twotower.towers.two_tower import ContactOutput, CsaTower, TwoTower

Floats = npt.NDArray[np.float32]
NEEDED = ("model.safetensors", "model.json", "features.json", "probe.npz", "run.json")
SAME_TOWERS = ("encoder", "max_tokens", "text_dim", "view_dim", "topics", "base_dim")
"""Fields of `TowerConfig` that decide what the towers read."""
CPU = torch.device("cpu")
CHUNK = 4096  # contacts whose vectors are computed at once
TOLERANCE = 1e-3  # of fitted band edges, which another machine sums in another order


class Said(NamedTuple):
    """What a teacher says of N contacts: `profile` (N, P), `memory` (N, Q), `level` (N,)."""

    profile: Floats
    memory: Floats
    level: Floats


@dataclass(frozen=True)
class Teacher:
    """`facts` name it in run.json; `said` of all contacts; its CSA tower, (features, identity) → members; `kernel`, the
    scalars of its memory mixture by name, empty where it trained none."""

    facts: dict[str, Any]
    said: Said
    csa_tower: CsaTower
    kernel: dict[str, float]


def run_digest(folder: Path) -> str:
    """SHA-256, in hexadecimal, over names and digests of all files of a run. Raises ConfigError where it is none."""
    if missing := [name for name in NEEDED if not (folder / name).is_file()]:
        raise ConfigError(
            f"model.teacher {folder}: not a finished training run ({missing[0]} is missing); train one with "
            "--config configs/transformer.yaml"
        )
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.iterdir() if path.is_file()):
        digest.update(f"{path.name} {sha256_file(path)}\n".encode())
    return digest.hexdigest()


def named(teacher: str | None) -> str | None:
    """How a configuration that is written down names a teacher: by its run's digest, not by its place."""
    return None if teacher is None else f"sha256:{run_digest(Path(teacher))}"


def load_teacher(folder: Path, data: MatcherData, kept: Path, device: torch.device) -> Teacher:
    """Open the run in `folder` as the teacher of a run on `data`; what it says is kept in the folder `kept`.

    device: where its text backbone runs.

    Raises ConfigError, one line, where it is no finished run or did not read what this run reads.
    """
    digest = run_digest(folder)
    try:
        facts = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        card = teacher_facts(facts, digest)
        refuse_other_log(folder, facts, data)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"model.teacher {folder}: its run.json is not of this program ({error})") from None
    model = load(folder)
    refuse_other_inputs(folder, model, data)
    found = recalled(kept / f"teacher-{digest[:16]}.npz", model, data.training_set, device)
    return Teacher(card, found, model.csa_tower, {k: float(v) for k, v in (facts["kernel"] or {}).items()})


def teacher_facts(facts: dict[str, Any], digest: str) -> dict[str, Any]:
    """What a student's run.json says of a teacher with these facts; no path."""
    names = ("backbone", "encoder", "text", "max_tokens", "seed", "metrics")
    return {"digest": digest, **{name: facts[name] for name in names}}


def refuse_other_log(folder: Path, facts: dict[str, Any], data: MatcherData) -> None:
    """Raises ConfigError where the teacher's log, window or task, by its run.json and probe, is not this run's."""
    mine, sizes, window = data.training_set, facts["data"], facts["window"]
    memory = "trained" if data.with_memory else "not trained"
    compared = [
        ("contacts", sizes["contacts"], len(mine.arrived_at)),
        ("hand-overs", sizes["handovers"], len(mine.contact)),
        ("CSAs", sizes["csas"], len(mine.identity)),
        ("data until", window["until_time"], format_time(mine.end)),
        ("validation from", window["validation_from_time"], format_time(mine.split)),
        ("objective", facts["objective"], data.objective.name),
        ("memory", "trained" if facts["memory"] == "trained" else "not trained", memory),
    ]
    if facts["solver"] == "sampling":
        raise ConfigError(
            f"model.teacher {folder}: its posterior was sampled, in the end over the validation window too; train it "
            "with --model.solver gradient"
        )
    for what, its, own in compared:
        if its != own:
            raise refused(folder, f"{what} {its!r} there, {own!r} here")
    with np.load(folder / "probe.npz", allow_pickle=False) as probe:
        late = mine.validation()[-len(probe["csa"]) :]
        same = (
            np.array_equal(probe["csa"], mine.csa[late])
            and np.array_equal(probe["arrived_at"], mine.arrived_at[mine.contact[late]])
            and np.array_equal(probe["resolved"], mine.resolved[late])
        )
    if not same:
        raise refused(folder, "its latest hand-overs are not those of this log")


def refuse_other_inputs(folder: Path, model: TwoTower, data: MatcherData) -> None:
    """Raises ConfigError where the teacher's vocabulary, features or tokens are not this run's."""
    its, own = FeatureSchema.load(folder / "features.json"), data.training_set.schema
    for name in FeatureSchema.__dataclass_fields__:
        there, here = getattr(its, name), getattr(own, name)
        close = name == "bands" and len(there) == len(here) and np.allclose(there, here, rtol=TOLERANCE)
        if there != here and not close:
            raise refused(folder, f"{name} of its features.json {short(there)} there, {short(here)} here")
    config = model.contact_tower.config
    for name in SAME_TOWERS:
        there, here = getattr(config, name), getattr(data.towers, name)
        if there != here:
            raise refused(folder, f"data.towers.{name} {there!r} there, {here!r} here")


def refused(folder: Path, why: str) -> ConfigError:
    """The one line that says why a teacher is not this student's."""
    return ConfigError(
        f"model.teacher {folder}: it learnt from something else ({why}); "
        "train teacher and student on the same --data, --until and data options"
    )


def short(value: object) -> str:
    """A value as text of at most 60 characters."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def recalled(path: Path, model: TwoTower, data: TrainingSet, device: torch.device) -> Said:
    """What the model says of all contacts, read from `path` if it was asked before, else kept there."""
    if path.is_file():
        with np.load(path, allow_pickle=False) as kept:
            return Said(*(kept[name] for name in Said._fields))
    found = said(model, data, device)
    with atomic_file(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **found._asdict())
    return found


@torch.inference_mode()
def said(model: TwoTower, data: TrainingSet, device: torch.device = CPU) -> Said:
    """What a model in evaluation mode says of all contacts: one pass of its text backbone over the log, on `device`.

    Complexity is read as it was known on arrival, as a student in training reads it.
    """
    read = replace(data, frozen_text=text_vectors(model.to(device), data))
    model.to(CPU)
    texts = Gather(read).texts
    pieces = [
        texts(np.arange(start, min(start + CHUNK, len(data.arrived_at)))).outputs(model)
        for start in range(0, len(data.arrived_at), CHUNK)
    ]
    whole = ContactOutput(*(torch.cat(parts) for parts in zip(*pieces, strict=True)))
    return Said(model.contact_tower.profile(whole).numpy(), whole.memory.numpy(), whole.level.numpy())
