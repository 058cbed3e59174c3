"""Training runs where there is no faiss, as on a machine that only trains."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.train.runs import FILES, OPTIONS, digests


def test_a_run_needs_no_faiss(open_centre, tmp_path):
    code = (
        "import sys; sys.modules.update({'faiss': None, 'onnxruntime': None})\n"  # to import either is an error now
        "from twotower.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    arguments = ["train", "--data", str(open_centre), "--output", str(tmp_path / "run"), *OPTIONS]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments, "--trainer.max_epochs=1"],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert set(digests(tmp_path / "run")) == FILES
