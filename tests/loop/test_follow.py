"""A link follows an alias: promotions and rollbacks arrive, and nothing that fails takes the link away."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from loop.registry.follow import follow, served, set_link
from loop.registry.registry import Registry
from tests.serve import fakes
from twotower.bundle.manifest import NAME
from twotower.cli import main
from twotower.errors import BundleError, OutputError


class Enough(Exception):
    """How a test ends what goes on for ever."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A registry with a champion and another version."""
    folder = tmp_path_factory.mktemp("follow")
    data = fakes.write_tables(fakes.tables(), folder / "data")
    registry = Registry(folder / "registry")
    for name, families in (("first", fakes.DEFAULT), ("second", fakes.ALL)):
        run = fakes.write_run(data, folder / f"{name}-run", families=families)
        registry.register(fakes.fake_bundle(run, folder / name))
    registry.promote(1)
    return folder / "registry"


@pytest.fixture
def registry(made: Path, tmp_path: Path) -> Registry:
    """Bundles lie where they were registered."""
    place = tmp_path / "registry"
    shutil.copytree(made, place)
    return Registry(place)


def digests(registry: Registry) -> list[str]:
    return [one.digest for one in registry.versions()]


def test_promotion_and_rollback_arrive(registry: Registry, tmp_path: Path) -> None:
    link, (first, second), said, seen = tmp_path / "served", digests(registry), [], []

    def look(_: float) -> None:
        seen.append(served(link))
        if len(seen) == 1:
            registry.promote(2)
        elif len(seen) == 2:
            registry.rollback()
        elif len(seen) == 4:
            raise Enough

    with pytest.raises(Enough):
        follow(registry, link, say=said.append, sleep=look)
    assert seen == [first, second, first, first]
    assert said == [f"{link}: version {n}, bundle {one[:12]}" for n, one in ((1, first), (2, second), (1, first))]
    assert link.is_symlink()
    assert link.resolve().name == first
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".served")] == []


def test_what_fails_leaves_the_link_and_is_said_once(registry: Registry, tmp_path: Path) -> None:
    link, (first, second), said, looks = tmp_path / "served", digests(registry), [], []
    broken = registry.folder / "bundles" / second / NAME if registry.folder else Path()
    whole = broken.read_bytes()

    def look(_: float) -> None:
        looks.append(served(link))
        if len(looks) == 1:
            broken.write_bytes(whole[:-9])
            registry.promote(2)
        elif len(looks) == 4:
            broken.write_bytes(whole)
        elif len(looks) == 5:
            raise Enough

    with pytest.raises(Enough):
        follow(registry, link, say=said.append, sleep=look)
    assert looks == [first] * 4 + [second]
    assert [line.split(":")[1].strip() for line in said] == [f"version 1, bundle {first[:12]}", "stays as it is",
                                                             f"version 2, bundle {second[:12]}"]  # fmt: skip


def test_once_sets_it_and_ends(registry: Registry, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    link = tmp_path / "deep" / "served"
    words = ["models", "follow", "--registry", registry.place, "--link", str(link), "--once"]
    assert main(words) == 0
    assert served(link) == digests(registry)[0]
    capsys.readouterr()
    assert main([*words, "--alias", "challenger"]) == 1
    assert "nobody has the alias 'challenger'" in capsys.readouterr().err
    assert served(link) == digests(registry)[0]


def test_what_is_no_link_is_not_replaced(registry: Registry, tmp_path: Path) -> None:
    (tmp_path / "served").mkdir()
    with pytest.raises(OutputError, match="is no link"):
        follow(registry, tmp_path / "served", once=True)
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="cannot be set"):
        set_link(tmp_path / "file" / "served", tmp_path)
    (tmp_path / "dangling").symlink_to(tmp_path / "nothing")
    assert served(tmp_path / "dangling") is None
    assert follow(registry, tmp_path / "dangling", once=True) == digests(registry)[0]


def test_a_registry_without_anybody_is_said(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="nobody has the alias 'champion'"):
        follow(Registry(tmp_path / "empty"), tmp_path / "served", once=True)


def test_options_belong_to_their_action(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "list", "--registry", str(tmp_path), "--link", "x"]) == 1
    assert "list: --link does not belong to it, but to follow" in capsys.readouterr().err
    assert main(["models", "follow", "--registry", str(tmp_path)]) == 1
    assert "--link is missing" in capsys.readouterr().err
    assert main(["models", "follow", "--registry", str(tmp_path), "--link", "x", "--every", "0"]) == 1
    assert "more than 0 s expected" in capsys.readouterr().err
