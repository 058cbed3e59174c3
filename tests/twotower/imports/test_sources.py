"""What lies in a source, and its bytes: compressed, cut off, damaged, linked, hidden."""

from __future__ import annotations

import gzip
import os
import zlib
from pathlib import Path

import pytest

from twotower.errors import DataError
from twotower.imports import sources
from twotower.imports.notes import LEFT_OUT, Notes
from twotower.imports.sources import Stream, list_files

TEXT = b"".join(b"%d a line of some length\n" % n for n in range(200_000))


def everything(path: Path, offset: int = 0) -> tuple[bytes, str | None]:
    stream = Stream(path, offset)
    found = b""
    while block := stream.read():
        assert len(block) <= 2 * sources.STEP
        found += block
    stream.close()
    return found, stream.damage


def listed(source: Path) -> tuple[list[str], dict[str, str]]:
    notes = Notes()
    names = [file.name for file in list_files(source, notes)]
    assert all(kind == LEFT_OUT for kind, *_ in notes.rows())
    return names, {reason: example for _, reason, _, example in notes.rows()}


def test_files_come_in_the_order_of_their_names(tmp_path: Path) -> None:
    for name in ("b/2.json", "a/1.json", "b/10.json", "c.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("{}")
    assert listed(tmp_path)[0] == ["a/1.json", "b/10.json", "b/2.json", "c.json"]


def test_what_is_left_out_is_told(tmp_path: Path) -> None:
    (tmp_path / "good.json").write_text("{}")
    (tmp_path / "empty.json").touch()
    (tmp_path / ".hidden").write_text("{}")
    (tmp_path / "_SUCCESS").write_text("{}")
    (tmp_path / "call.wav").write_text("RIFF")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "circle").symlink_to(tmp_path)
    (tmp_path / "passwords").symlink_to("/etc/passwd")
    names, left = listed(tmp_path)
    assert names == ["good.json"]
    assert left == {
        "hidden files, whose names begin with . or _": ".hidden",
        "recordings and pictures": "call.wav",
        "links, which are not followed": "circle",
        "devices and pipes": "pipe",
        "files without a byte": "empty.json",
    }


def test_a_source_may_be_a_file_or_a_link_to_one(tmp_path: Path) -> None:
    (tmp_path / "one.json").write_text("{}")
    (tmp_path / "link.json").symlink_to(tmp_path / "one.json")
    assert listed(tmp_path / "one.json")[0] == ["one.json"]
    assert listed(tmp_path / "link.json")[0] == ["link.json"]


def test_a_source_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere: no such file or folder"):
        list_files(tmp_path / "nowhere", Notes())


@pytest.mark.parametrize("offset", [0, 1, 1_000_001])
def test_plain_bytes_from_an_offset(tmp_path: Path, offset: int) -> None:
    (tmp_path / "a").write_bytes(TEXT)
    assert everything(tmp_path / "a", offset) == (TEXT[offset:], None)


@pytest.mark.parametrize("offset", [0, 1, 1_000_001])
def test_gzip_is_told_by_its_bytes_from_an_offset(tmp_path: Path, offset: int) -> None:
    (tmp_path / "a.json").write_bytes(gzip.compress(TEXT))
    assert everything(tmp_path / "a.json", offset) == (TEXT[offset:], None)


def test_gzip_members_follow_each_other_with_padding_behind(tmp_path: Path) -> None:
    (tmp_path / "a.gz").write_bytes(gzip.compress(b"one\n") + gzip.compress(TEXT) + b"\0" * 700)
    assert everything(tmp_path / "a.gz") == (b"one\n" + TEXT, None)


def test_a_gzip_file_that_is_cut_off_gives_what_is_there(tmp_path: Path) -> None:
    whole = gzip.compress(TEXT)
    (tmp_path / "a.gz").write_bytes(whole[: len(whole) // 2])
    found, damage = everything(tmp_path / "a.gz")
    assert TEXT.startswith(found)
    assert len(found) > len(TEXT) // 3
    assert damage == "gzip files that are cut off: what is there was read"


def test_a_gzip_file_that_is_damaged_gives_what_came_before(tmp_path: Path) -> None:
    spoilt = bytearray(gzip.compress(TEXT))
    spoilt[len(spoilt) // 2] ^= 0xFF
    (tmp_path / "a.gz").write_bytes(spoilt)
    found, damage = everything(tmp_path / "a.gz")
    good = next((n for n, (one, other) in enumerate(zip(TEXT, found, strict=False)) if one != other), len(found))
    assert good > len(TEXT) // 3
    assert damage == "gzip files with damaged content: what came before was read"


def test_a_swelling_gzip_file_is_read_in_steps(tmp_path: Path) -> None:
    """200 MB of zeros in 200 kB: no block is larger than two steps, which `everything` looks at."""
    swelling = zlib.compressobj(9, zlib.DEFLATED, 31)
    blocks = [swelling.compress(b"\0" * (1 << 20)) for _ in range(20)]
    (tmp_path / "a.gz").write_bytes(b"".join([*blocks, swelling.flush()]))
    found, damage = everything(tmp_path / "a.gz")
    assert (len(found), damage) == (20 << 20, None)


@pytest.mark.parametrize("coding", ["utf-16-le", "utf-16-be"])
def test_utf16_with_a_mark_becomes_utf8(tmp_path: Path, coding: str) -> None:
    (tmp_path / "a").write_bytes("\ufeffñandú\n".encode(coding))
    assert everything(tmp_path / "a") == ("ñandú\n".encode(), None)
    assert everything(tmp_path / "a", 3)[0] == "andú\n".encode()[0:0] + "ñandú\n".encode()[3:]


@pytest.mark.parametrize(("head", "what"), [(b"PK\x03\x04", "a zip archive"), (b"BZh9", "a bzip2 file")])
def test_archives_are_told_and_not_read(tmp_path: Path, head: bytes, what: str) -> None:
    (tmp_path / "a").write_bytes(head + b"x" * 100)
    assert everything(tmp_path / "a") == (b"", f"files that are {what}: unpack them first")
