"""The small centre of `worlds`, written once, with a bundle of its first twenty days."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.evaluation.ope import worlds
from tests.serve import fakes
from twotower.tables.log import Log


@pytest.fixture(scope="session")
def ope_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tables with logged propensities."""
    return worlds.write(worlds.tables(), tmp_path_factory.mktemp("ope") / "data")


@pytest.fixture(scope="session")
def ope_log(ope_data: Path) -> Log:
    """The same in memory."""
    return Log.load(ope_data)


@pytest.fixture(scope="session")
def ope_bundle(ope_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of the first twenty days."""
    place = tmp_path_factory.mktemp("ope-bundle")
    return fakes.fake_bundle(fakes.write_run(ope_data, place / "run"), place / "bundle")
