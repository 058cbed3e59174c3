"""Tables of thirty days, loaded, and a bundle of theirs that reads every family; files with others make their own."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.serve import fakes
from tests.twotower.features.provenance_cases import full_bundle
from twotower.bundle.bundle import Bundle
from twotower.tables import Log


@pytest.fixture(scope="package")
def centre(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tables of thirty days."""
    return fakes.write_tables(fakes.tables(), tmp_path_factory.mktemp("centre"))


@pytest.fixture(scope="package")
def log(centre: Path) -> Log:
    """The same, loaded."""
    return Log.load(centre)


@pytest.fixture(scope="package")
def bundle(centre: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A bundle that reads every family."""
    return Bundle.open(full_bundle(centre, tmp_path_factory.mktemp("full")))
