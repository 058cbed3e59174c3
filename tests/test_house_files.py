"""Files appear whole or not at all."""

from __future__ import annotations

import hashlib
import os

import pytest

from twotower.errors import OutputError
from twotower.files import atomic_directory, atomic_file, atomic_write, sha256_file


def test_a_folder_appears_when_it_is_complete(tmp_path):
    target = tmp_path / "deep" / "bundle"
    with atomic_directory(target) as folder:
        (folder / "towers").mkdir()
        (folder / "towers" / "a.onnx").write_text("a")
        assert not target.exists()
    assert (target / "towers" / "a.onnx").read_text() == "a"
    assert [path.name for path in target.parent.iterdir()] == ["bundle"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_a_folder_that_was_interrupted_never_appears(tmp_path, error):
    with pytest.raises(error), atomic_directory(tmp_path / "bundle") as folder:
        (folder / "half").write_text("half")
        raise error
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("there", ["folder", "empty folder", "file", "dangling link"])
def test_what_exists_is_not_written_over(tmp_path, there):
    target = tmp_path / "bundle"
    if there == "file":
        target.write_text("mine")
    elif there == "dangling link":
        target.symlink_to(tmp_path / "elsewhere")
    else:
        target.mkdir()
        if there == "folder":
            (target / "mine").touch()
    with pytest.raises(OutputError, match="bundle: exists already; name a new --output"), atomic_directory(target):
        pytest.fail("the block must not run")
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_of_two_writers_the_second_is_refused(tmp_path):
    second = atomic_directory(tmp_path / "bundle")
    second.__enter__()
    with atomic_directory(tmp_path / "bundle") as first:
        (first / "winner").touch()
    with pytest.raises(OutputError):
        second.__exit__(None, None, None)
    assert len(list(tmp_path.iterdir())) == 1
    assert [path.name for path in (tmp_path / "bundle").iterdir()] == ["winner"]


def test_a_place_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot be written"), atomic_directory(tmp_path / "file" / "bundle"):
        pytest.fail("the block must not run")


def test_a_file_keeps_its_old_content_until_the_new_is_complete(tmp_path):
    target = tmp_path / "roster.json"
    atomic_write(target, "old")
    with pytest.raises(ValueError, match="stop"), atomic_file(target) as partial:
        partial.write_text("ne")
        raise ValueError("stop")
    assert target.read_text() == "old"
    atomic_write(target, "new é".encode())
    assert target.read_text(encoding="utf-8") == "new é"
    assert [path.name for path in tmp_path.iterdir()] == ["roster.json"]


def test_the_checksum_is_that_of_the_bytes(tmp_path):
    content = os.urandom(3_000_000)
    (tmp_path / "x").write_bytes(content)
    assert sha256_file(tmp_path / "x") == hashlib.sha256(content).hexdigest()
