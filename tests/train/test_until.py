"""Training with `--until T` and training on tables that were cut at T by other means give the same bundle."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from tests.train.runs import cut, digests, short
from twotower.bundle.manifest import Manifest
from twotower.cli import main

UNTIL = pd.Timestamp("2026-06-20T12:00:00Z")


@pytest.fixture(scope="module")
def bundles(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """One trained with the option, one on the cut tables."""
    root = tmp_path_factory.mktemp("until")
    once = "--trainer.max_epochs=1"
    assert short(tiny, root / "by-option", "--until", UNTIL.isoformat(), once) == 0
    assert short(cut(tiny, root / "tables", UNTIL), root / "by-hand", once) == 0
    for name in ("by-option", "by-hand"):
        assert main(["export", str(root / name), "--output", str(root / f"{name}-bundle")]) == 0
    return root / "by-option", root / "by-hand"


def test_the_cut_takes_something_of_everything(tiny, tmp_path):
    whole, rest = tiny, cut(tiny, tmp_path / "cut", UNTIL)
    lost = {
        f.stem: 1 - pq.read_metadata(f).num_rows / pq.read_metadata(whole / f.name).num_rows
        for f in rest.glob("*.parquet")
    }
    assert all(0 < share < 0.6 for share in lost.values()), lost
    contacts = pq.read_table(rest / "contacts.parquet").to_pandas()
    done = pq.read_table(whole / "interactions.parquet").to_pandas()
    of_kept = done[done["contact_id"].isin(contacts["contact_id"])]
    assert (of_kept["known_at"] >= UNTIL).any()  # known too late for contacts that had arrived
    listed = np.concatenate(contacts["eligible"].dropna().to_list())
    assert set(listed) <= set(pq.read_table(rest / "csas.parquet")["csa_id"].to_pylist())


def test_the_runs_differ_in_nothing_but_the_option(bundles):
    option, hand = map(digests, bundles)
    assert {name for name in option if option[name] != hand[name]} == {"config.yaml"}


def test_the_bundles_have_one_hash(bundles):
    option, hand = (run.with_name(f"{run.name}-bundle") for run in bundles)
    assert Manifest.read(option).id == Manifest.read(hand).id
    assert digests(option) == digests(hand)


def test_nothing_in_the_run_is_later_than_the_cut(bundles):
    with np.load(bundles[0] / "history.npz", allow_pickle=False) as history:
        assert history["known_at"].max() < UNTIL.value // 1000
    with np.load(bundles[0] / "probe.npz", allow_pickle=False) as probe:
        assert probe["arrived_at"].max() < UNTIL.value // 1000
