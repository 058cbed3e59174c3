"""One small centre and its bundle for all tests of this folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from serve.matcher import Matcher
from tests.serve import fakes


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tables of thirty days."""
    return fakes.write_tables(fakes.tables(), tmp_path_factory.mktemp("centre") / "data")


@pytest.fixture(scope="session")
def run_folder(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run over the first twenty days."""
    return fakes.write_run(data, tmp_path_factory.mktemp("run") / "run")


@pytest.fixture(scope="session")
def bundle_folder(run_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its bundle."""
    return fakes.fake_bundle(run_folder, tmp_path_factory.mktemp("bundle") / "bundle")


@pytest.fixture
def matcher(bundle_folder: Path) -> Matcher:
    """The bundle, loaded."""
    return Matcher.load(bundle_folder)


@pytest.fixture(scope="session")
def whole_bundle(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle whose towers read every family of features."""
    folder = tmp_path_factory.mktemp("whole")
    return fakes.fake_bundle(fakes.write_run(data, folder / "run", families=fakes.ALL), folder / "bundle")


@pytest.fixture(params=["bundle_folder", "whole_bundle"], ids=["default", "every family"])
def folder(request: pytest.FixtureRequest) -> Path:
    """The bundle with the features that are on by default, and with all there are."""
    found: Path = request.getfixturevalue(request.param)
    return found
