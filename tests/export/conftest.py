"""A run folder over the small centre."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.serve import fakes


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run over the first twenty days."""
    root = tmp_path_factory.mktemp("centre")
    return fakes.write_run(fakes.write_tables(fakes.tables(), root / "data"), root / "run")
