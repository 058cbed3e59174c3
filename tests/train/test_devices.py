"""Several processes on one machine: by flags alone, one run folder."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import load_file

from tests.train.runs import FILES, OPTIONS, digests, train, work_of


def test_two_processes_train_one_run(open_centre, tmp_path):
    run = tmp_path / "run"
    small = ("--trainer.max_epochs=1", "--data.batch_size=64")
    command = [sys.executable, "-m", "train", "--data", str(open_centre), "--output", str(run), *OPTIONS, *small]
    distributed = ["--trainer.devices=2", "--trainer.strategy=ddp"]
    done = subprocess.run(
        [*command, *distributed],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("objective corrected_softmax") == 1
    assert set(digests(run)) == FILES
    assert not work_of(run).exists()
    assert all(np.isfinite(values).all() for values in load_file(run / "model.safetensors").values())


@pytest.mark.parametrize("precision", ["bf16-mixed", "16-mixed"])
def test_mixed_precision_trains_with_clipped_gradients(precision, centre, tmp_path):
    assert train(centre, tmp_path / "run", f"--trainer.precision={precision}", "--trainer.max_epochs=1") == 0
    assert "sigmoid" in (tmp_path / "run" / "run.json").read_text()
