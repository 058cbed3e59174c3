"""A registry of two bundles of the fake centre, made once, and rollouts by it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from loop.registry.registry import Registry
from tests.loop import rolling
from tests.loop.rolling import Remembered, Rolled


@pytest.fixture(scope="session")
def registered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the registry, which nobody changes: a champion, and a challenger."""
    folder = tmp_path_factory.mktemp("rollout")
    rolling.registry_of(folder)
    return folder


@pytest.fixture
def roll(registered: Path, tmp_path: Path) -> Callable[..., Rolled]:
    """A rollout whose registry asks no database; each has the same one."""
    client, bundles = Remembered(Registry(registered / "registry")), tmp_path / "registry" / "bundles"
    bundles.parent.mkdir()
    bundles.symlink_to(registered / "registry" / "bundles")
    return lambda *given, **more: Rolled(tmp_path, *given, client=client, **more)
