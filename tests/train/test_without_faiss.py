"""Training needs neither faiss nor onnxruntime."""

from __future__ import annotations

import subprocess
import sys

from tests.forked import ROOT
from tests.train.runs import SAMPLED_FILES, digests

SCRIPT = """
import sys
sys.modules.update(dict.fromkeys(("faiss", "onnxruntime")))  # whoever imports one of them fails
from pathlib import Path
from tests.train.runs import short
sys.exit(short(Path(sys.argv[1]), Path(sys.argv[2]), "--trainer.max_epochs=1"))
"""


def test_a_run_needs_no_faiss(tiny, tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tiny), str(tmp_path / "run")], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert set(digests(tmp_path / "run")) == SAMPLED_FILES
