"""Running `twotower train` in tests."""

from __future__ import annotations

import signal
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from train.module import MatcherModule
from twotower.cli import main
from twotower.files import sha256_file

# Small and quick; every test that compares runs compares these.
OPTIONS = (
    "--trainer.max_epochs=2",
    "--trainer.accelerator=cpu",
    "--data.towers.max_tokens=24",
    "--data.towers.view_dim=32",
    "--data.batch_size=256",
    "--data.memory_rows=256",
)
# On the centre `tiny`: seven steps, or ten sweeps, an epoch.
SHORT = (
    "--trainer.max_epochs=2",
    "--data.batch_size=64",
    "--data.memory_batch=64",
    "--data.memory_rows=64",
    "--data.validation_share=0.1",
)
FILES = {
    "calibration.json",
    "config.yaml",
    "csas.npz",
    "csas.parquet",
    "features.json",
    "features.state",
    "history.npz",
    "model.json",
    "model.safetensors",
    "probe.npz",
    "run.json",
    "tokenizer.json",
}
SAMPLED_FILES = FILES | {"chain.safetensors"}


def train(data: Path, output: Path, *options: str) -> int:
    """The exit status of `twotower train`."""
    return main(["train", "--data", str(data), "--output", str(output), *OPTIONS, *options])


def short(data: Path, output: Path, *options: str) -> int:
    """The exit status of `twotower train` on the centre `tiny`."""
    return train(data, output, *SHORT, *options)


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every file by its name."""
    return {str(file.relative_to(folder)): sha256_file(file) for file in folder.rglob("*") if file.is_file()}


def work_of(output: Path) -> Path:
    """Where checkpoints of an unfinished run are kept."""
    return output.with_name(f".{output.name}.training")


def interrupt_at(patch: pytest.MonkeyPatch, step: int) -> None:
    """Ctrl+C in the training step of that number, counted from 0."""
    whole, taken = MatcherModule.training_step, iter(range(10**6))

    def step_or_stop(self: MatcherModule, *args: object) -> object:
        if next(taken) == step:
            raise KeyboardInterrupt
        return whole(self, *args)  # type: ignore[arg-type]

    patch.setattr(MatcherModule, "training_step", step_or_stop)


def interrupted(data: Path, output: Path, step: int, *options: str) -> int:
    """The exit status of a run that is interrupted at a step."""
    before = signal.getsignal(signal.SIGINT)
    with pytest.MonkeyPatch.context() as patch:
        interrupt_at(patch, step)
        try:
            return train(data, output, *options)
        except SystemExit as stopped:
            return int(stopped.code or 0)
        finally:
            signal.signal(signal.SIGINT, before)  # Lightning turns it off while it shuts down


def cut(folder: Path, output: Path, t: pd.Timestamp) -> Path:
    """What was known before `t`, by pandas, from the contract alone."""
    output.mkdir()
    frames = {f.stem: pq.read_table(f).to_pandas() for f in folder.glob("*.parquet") if f.stem != "truth"}
    contacts, csas, done = frames["contacts"], frames["csas"], frames["interactions"]
    contacts = contacts[contacts["arrived_at"] < t].copy()
    contacts.loc[contacts["abandoned_at"] >= t, "abandoned_at"] = pd.NaT
    csas = csas[csas[["valid_from", "hired_at"]].max(axis=1).fillna(pd.Timestamp.min.tz_localize("UTC")) < t].copy()
    csas.loc[csas["left_at"] >= t, "left_at"] = pd.NaT
    here = set(csas["csa_id"])
    contacts["eligible"] = [None if who is None else [a for a in who if a in here] for who in contacts["eligible"]]
    known = done["known_at"].fillna(done["ended_at"])
    done = done[(known < t) & done["contact_id"].isin(contacts["contact_id"]) & done["csa_id"].isin(here)]
    customers, shifts = frames["customers"], frames["shifts"]
    customers = customers[customers["customer_id"].isin(contacts["customer_id"])].copy()
    customers.loc[customers["since"] >= t, "since"] = pd.NaT
    shifts = shifts[(shifts["starts_at"] < t) & shifts["csa_id"].isin(here)]
    kept = {"contacts": contacts, "csas": csas, "interactions": done, "customers": customers, "shifts": shifts}
    for name, frame in kept.items():
        schema = pq.read_schema(folder / f"{name}.parquet")
        pq.write_table(pa.Table.from_pandas(frame, schema, preserve_index=False), output / f"{name}.parquet")
    return output
