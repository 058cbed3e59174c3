"""The declaration of the complexity heads."""

from __future__ import annotations

import subprocess
import sys

import pytest

from twotower.features.complexity import COMPLEXITY


def test_the_order_is_a_contract():
    names = ["handle_time", "handle_time_spread", "transfer_risk", "repeat_risk", "failure_risk"]
    assert [c.name for c in COMPLEXITY] == names


@pytest.mark.parametrize("complexity", COMPLEXITY, ids=lambda c: c.name)
def test_each_says_its_unit_its_bounds_and_its_meaning(complexity):
    assert complexity.unit
    assert complexity.meaning
    assert complexity.low == 0 < complexity.high
    assert (complexity.high == 1) == complexity.name.endswith("_risk")


def test_the_declaration_brings_no_library_along():
    code = "import sys, twotower.features.complexity; print(*sorted({m.split('.')[0] for m in sys.modules}))"
    loaded = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True, check=True, cwd=".")
    assert not {"numpy", "pyarrow", "scipy", "pandas", "torch"} & set(loaded.stdout.split())
