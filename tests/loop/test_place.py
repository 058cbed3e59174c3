"""A folder that is replaced only by the program that made it."""

from __future__ import annotations

from pathlib import Path

import pytest

from loop.place import owned_directory
from twotower.errors import OutputError

MARKER = "made.json"


def make(path: Path, content: str) -> None:
    with owned_directory(path, MARKER) as folder:
        (folder / MARKER).write_text("{}")
        (folder / "content").write_text(content)


def test_what_the_program_made_it_replaces(tmp_path: Path) -> None:
    make(tmp_path / "demo", "old")
    (tmp_path / "demo" / "left over").write_text("from the old run")
    make(tmp_path / "demo", "new")
    assert {path.name for path in (tmp_path / "demo").iterdir()} == {MARKER, "content"}
    assert (tmp_path / "demo" / "content").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["demo"]


def test_what_somebody_else_made_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "thesis.txt").write_text("years of work")
    with pytest.raises(OutputError, match=r"holds no made\.json.*another --output"):
        make(tmp_path / "demo", "new")
    assert (tmp_path / "demo" / "thesis.txt").read_text() == "years of work"


def test_a_file_or_a_link_of_that_name_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("a file")
    make(tmp_path / "elsewhere", "real")
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    for name in ("file", "link"):
        with pytest.raises(OutputError):
            make(tmp_path / name, "new")
    assert (tmp_path / "elsewhere" / "content").read_text() == "real"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_interruption_leaves_what_was_there(tmp_path: Path, error: type[BaseException]) -> None:
    make(tmp_path / "demo", "old")
    with pytest.raises(error), owned_directory(tmp_path / "demo", MARKER) as folder:
        (folder / MARKER).write_text("{}")
        raise error
    assert (tmp_path / "demo" / "content").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["demo"]


def test_somebody_who_took_the_name_meanwhile_keeps_it(tmp_path: Path) -> None:
    with pytest.raises(OutputError), owned_directory(tmp_path / "demo", MARKER) as folder:
        (folder / MARKER).write_text("{}")
        (tmp_path / "demo").mkdir()
    assert [path.name for path in tmp_path.iterdir()] == ["demo"]
    assert not list((tmp_path / "demo").iterdir())


def test_without_its_marker_a_folder_is_not_finished(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"made\.json was not written"), owned_directory(tmp_path / "demo", MARKER):
        pass
    assert not list(tmp_path.iterdir())


def test_a_parent_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        make(tmp_path / "file" / "demo", "new")
