"""A bundle of the small centre, and a copy of it to spoil."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.serve import fakes


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run over the first twenty days."""
    root = tmp_path_factory.mktemp("centre")
    return fakes.write_run(fakes.write_tables(fakes.tables(), root / "data"), root / "run")


@pytest.fixture(scope="session")
def bundle_folder(run_folder: Path) -> Path:
    """Its bundle."""
    return fakes.fake_bundle(run_folder, run_folder.parent / "bundle")


@pytest.fixture
def copy(bundle_folder: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(bundle_folder, tmp_path / "copy"))
