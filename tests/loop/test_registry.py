"""Versions, aliases and the store of bundles: MLflow's own registry in a SQLite file, and fsspec's in memory."""

from __future__ import annotations

import json
import multiprocessing
import shutil
from pathlib import Path
from typing import Any

import pytest

from loop.registry import registry as registry_module
from loop.registry.diff import difference
from loop.registry.registry import CHALLENGER, CHAMPION, Busy, Registry, locked
from loop.registry.store import BundleStore
from tests.serve import fakes
from twotower.bundle.bundle import Bundle
from twotower.bundle.manifest import NAME
from twotower.cli import main
from twotower.errors import BundleError, ConfigError, OutputError


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two of them, of one run: the second remembers less."""
    folder = tmp_path_factory.mktemp("registry")
    data = fakes.write_tables(fakes.tables(), folder / "data")
    first = fakes.fake_bundle(fakes.write_run(data, folder / "run"), folder / "first")
    whole = fakes.fake_bundle(fakes.write_run(data, folder / "other", families=fakes.ALL), folder / "second")
    return first, whole


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A registry without a version: MLflow takes seconds to make its tables."""
    folder = tmp_path_factory.mktemp("empty") / "registry"
    assert Registry(folder).versions() == []
    return folder


@pytest.fixture
def made(empty: Path, tmp_path: Path) -> Registry:
    return Registry(shutil.copytree(empty, tmp_path / "registry"))


def test_a_bundle_is_one_version_however_often_it_is_registered(made: Registry, bundles: tuple[Path, Path]) -> None:
    one, again, other = made.register(bundles[0]), made.register(bundles[0]), made.register(bundles[1], parent=1)
    assert (one.number, again.number, other.number) == (1, 1, 2)
    assert [two.digest for two in made.versions()] == [Bundle.open(path).manifest.id for path in bundles]
    assert other.tags["twotower.parent"] == "1"
    assert made.open(other.digest[:12]).manifest == Bundle.open(bundles[1]).manifest
    assert Path(one.source) == made.store.fetch(one.digest, Path("unused")).path


def test_the_alias_moves_and_goes_back(made: Registry, bundles: tuple[Path, Path]) -> None:
    first, second = (made.register(path) for path in bundles)
    assert made.alias(CHAMPION) is None
    assert made.promote(first.number).aliases == (CHAMPION,)
    assert made.promote(second.number, CHALLENGER, instead_of=None).aliases == (CHALLENGER,)
    champion = made.promote("challenger", instead_of=first.number)
    assert champion.aliases == (CHAMPION,)  # no longer a challenger
    assert champion.replaced == first.number
    with pytest.raises(ConfigError, match="champion: is version 2 by now, not 1; look again"):
        made.promote(first.number, instead_of=first.number)
    back, was = made.rollback("waits grew")
    assert (back.number, was.number, was.rolled_back) == (1, 2, "waits grew")
    with pytest.raises(ConfigError, match="nothing to roll back to"):
        made.rollback()


def test_a_promotion_cut_off_between_its_steps_has_not_happened(
    made: Registry, bundles: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = (made.register(path) for path in bundles)
    made.promote(first.number)

    class Killed(BaseException):
        pass

    def die(*_: Any) -> None:
        raise Killed

    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(made.client, "set_registered_model_alias", die)
        made.promote(second.number)
    assert made.version(first.number).aliases == (CHAMPION,)
    made.promote(second.number)
    assert made.rollback()[0].number == first.number


def test_what_is_not_there_is_said(made: Registry, bundles: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="7: no version, alias or digest of contact-matcher; the latest versions: no"):
        made.version(7)
    one = made.register(bundles[0])
    shutil.rmtree(one.source)
    with pytest.raises(BundleError, match="no such bundle in the store"):
        made.open(1)
    made.register(bundles[0])  # puts it there again, as the same version
    (Path(one.source) / "features.json").write_text("{}")
    with pytest.raises(BundleError, match="changed since the bundle was written"):
        made.open(1)
    with pytest.raises(BundleError, match="not a bundle"):
        made.register(tmp_path)
    assert [version.number for version in made.versions()] == [1]


def test_a_copy_that_was_cut_off_is_made_again(bundles: tuple[Path, Path], tmp_path: Path) -> None:
    store, bundle = BundleStore(tmp_path / "bundles"), Bundle.open(bundles[0])
    half = tmp_path / "bundles" / bundle.manifest.id
    half.mkdir(parents=True)
    (half / "features.json").write_text("{")
    assert not store.has(bundle.manifest.id)
    store.put(bundle)
    assert store.fetch(bundle.manifest.id, tmp_path).manifest == bundle.manifest
    (bundle.path / "notes.txt").write_text("not the bundle's")
    shutil.rmtree(half)
    store.put(bundle)
    (bundle.path / "notes.txt").unlink()
    assert not (half / "notes.txt").exists()


def test_a_store_may_be_a_url(bundles: tuple[Path, Path], tmp_path: Path) -> None:
    store, bundle = BundleStore("memory://bundles/here"), Bundle.open(bundles[0])
    assert store.put(bundle) == f"memory://bundles/here/{bundle.manifest.id}"
    fetched = store.fetch(bundle.manifest.id, tmp_path)
    assert fetched.manifest == bundle.manifest
    assert fetched.path == tmp_path / bundle.manifest.id
    import fsspec

    held = fsspec.filesystem("memory")
    with held.open(f"/bundles/here/{bundle.manifest.id}/features.json", "wb") as file:
        file.write(b"{}")
    assert store.fetch(bundle.manifest.id, tmp_path).manifest == bundle.manifest  # what was verified stays
    with pytest.raises(BundleError, match="changed since"):
        store.fetch(bundle.manifest.id, tmp_path / "other")
    manifest = json.loads((bundle.path / NAME).read_text())
    assert manifest["id"] == bundle.manifest.id
    with pytest.raises(ConfigError, match="nowhere"):
        BundleStore("nowhere://bucket")
    with pytest.raises(ConfigError, match="--store"):
        Registry("https://mlflow.example")


def _hold(path: Path, held: Any, done: Any) -> None:
    with locked(path, 1.0, "busy"):
        held.set()
        done.wait(30)


def test_two_do_not_move_aliases_at_once(
    made: Registry, bundles: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    made.register(bundles[0])
    context = multiprocessing.get_context("spawn")
    held, done = context.Event(), context.Event()
    assert made.folder is not None
    process = context.Process(target=_hold, args=(made.folder / registry_module.LOCK, held, done))
    process.start()
    assert held.wait(60)
    lock = made.lock
    monkeypatch.setattr(made, "lock", lambda: lock(0.3))
    with pytest.raises(Busy, match="somebody else moves an alias"):
        made.promote(1)
    assert made.alias(CHAMPION) is None
    process.kill()  # the system lets go of a dead process's lock
    process.join()
    assert made.promote(1).aliases == (CHAMPION,)


def test_what_differs_is_told(bundles: tuple[Path, Path]) -> None:
    first, second = (Bundle.open(path) for path in bundles)
    found = difference(first, second)
    assert found.files["features.json"] == "changed"
    assert "features.digest" in found.fields
    assert not found.same
    assert difference(first, first).same
    assert (found.joined, found.left) == ((), ())


def test_the_verb(made: Registry, bundles: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    place = ["--registry", made.place]

    def asked(*args: str, status: int = 0) -> Any:
        assert main(["models", *args, *place, "--json"]) == status
        out = capsys.readouterr().out
        return json.loads(out) if out else None

    assert asked("list") == {"versions": []}
    for path in bundles:
        asked("register", str(path))
    asked("promote", "1")
    assert asked("diff", "2")["files"]["features.json"] == "changed"
    assert asked("promote", "2")["aliases"] == ["champion"]
    assert asked("rollback", "--why", "waits")["taken_back"]["rolled_back"] == "waits"
    assert [one["aliases"] for one in asked("list")["versions"]] == [["champion"], []]
    assert asked("show", "champion")["version"] == 1
    for wrong in (["show"], ["promote", "1", "2"], ["list", "--why", "x"], ["show", "9"]):
        assert asked(*wrong, status=1) is None
    main(["models", "list", *place])
    assert "taken back: waits" in capsys.readouterr().out


def test_the_verb_needs_a_place(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv("TWOTOWER_REGISTRY", raising=False)
    assert main(["models", "list"]) == 1
    assert "--registry is missing" in capsys.readouterr().err


def test_a_store_that_cannot_be_written(bundles: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        BundleStore(tmp_path / "file" / "bundles").put(Bundle.open(bundles[0]))
