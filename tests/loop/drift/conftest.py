"""A generated centre of twelve calm weeks, and the ways in which `benchmarks/drift.py` spoils one."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from twotower.tables.log import Log

BENCHMARKS = Path(__file__).resolve().parents[3] / "benchmarks"


@pytest.fixture(scope="session")
def spoil() -> Any:
    """The benchmark as a module."""
    sys.path.insert(0, str(BENCHMARKS))
    try:
        return import_module("drift")
    finally:
        sys.path.remove(str(BENCHMARKS))


@pytest.fixture(scope="session")
def drift_data(spoil: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tables of the centre."""
    folder = tmp_path_factory.mktemp("drift")
    spoil.centre(folder, 0)
    return folder / "centre-0"


@pytest.fixture(scope="session")
def drift_log(drift_data: Path) -> Log:
    """The same in memory."""
    return Log.load(drift_data)
