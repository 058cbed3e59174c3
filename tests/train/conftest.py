"""Two small generated centres and what training reads of them, made once."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from evaluation.generate.centre import generate
from evaluation.generate.settings import Settings
from train.prepare import TrainingSet, prepare
from twotower.features.registry import FAMILIES
from twotower.tables.log import Log
from twotower.towers.config import TowerConfig

SMALL = TowerConfig(max_tokens=24, view_dim=32, families=tuple(FAMILIES))


@pytest.fixture(scope="session")
def centre(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """3,000 contacts, 40 CSAs, outcomes good and bad, eligible lists."""
    folder = tmp_path_factory.mktemp("centres") / "centre"
    generate(Settings(contacts=3000, csas=40, languages=("en", "es"), seed=3, days=90, eligible=12), folder)
    return folder


@pytest.fixture(scope="session")
def open_centre(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """800 contacts that whoever liked took: successes only, no eligible lists."""
    return without_lists(800, tmp_path_factory.mktemp("centres") / "open")


@pytest.fixture(scope="session")
def tiny_open(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with 300 contacts: 24 steps an epoch, for tests of how runs go."""
    return without_lists(300, tmp_path_factory.mktemp("centres") / "tiny-open")


def without_lists(contacts: int, folder: Path) -> Path:
    """So many contacts that whoever liked took, in a folder."""
    generate(Settings(contacts=contacts, csas=12, languages=("en",), seed=4, days=28, resolved_only=True), folder)
    table = pq.read_table(folder / "contacts.parquet")
    pq.write_table(table.drop_columns(["eligible"]), folder / "contacts.parquet")
    return folder


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """500 contacts, 12 CSAs, outcomes and eligible lists: enough to train on, for tests of how runs go."""
    folder = tmp_path_factory.mktemp("centres") / "tiny"
    generate(Settings(contacts=500, csas=12, languages=("en", "es"), seed=3, days=30, eligible=4), folder)
    return folder


@pytest.fixture(scope="session")
def prepared(centre: Path) -> TrainingSet:
    """The centre as training reads it."""
    return prepare(Log.load(centre), SMALL, 0.1)


@pytest.fixture(scope="session")
def open_prepared(open_centre: Path) -> TrainingSet:
    """The open centre as training reads it."""
    return prepare(Log.load(open_centre), SMALL, 0.1)
