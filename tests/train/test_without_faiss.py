"""Training runs where there is no faiss, as on a machine that only trains."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.forked import call
from tests.train.runs import SAMPLED_FILES, digests, short

BLOCKED = ("faiss", "onnxruntime")


def blocked(data: Path, output: Path) -> int:
    """A run in a process that has imported `train.run` and neither of both, and cannot any more."""
    if found := [name for name in BLOCKED if name in sys.modules]:
        sys.exit(f"{found}: imported by train.run, or by its tests")
    sys.modules.update(dict.fromkeys(BLOCKED))  # type: ignore[arg-type]
    return short(data, output, "--trainer.max_epochs=1")


def test_a_run_needs_no_faiss(tiny, tmp_path):
    done = call(blocked, tiny, tmp_path / "run")
    assert done.status == 0, done.err
    assert set(digests(tmp_path / "run")) == SAMPLED_FILES
