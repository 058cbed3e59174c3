"""Rows of CSV and Parquet files: cut anywhere, quoted, damaged, in other encodings."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from twotower.errors import DataError
from twotower.imports import rows
from twotower.imports.rows import header_of, rows_of
from twotower.imports.sources import SourceFile


def source(path: Path, content: str | bytes) -> SourceFile:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    found = path.stat()
    return SourceFile(path.parent, path.name, found.st_size, found.st_mtime_ns)


def values(file: SourceFile, **more: Any) -> list[Any]:
    return [None if row.values is None else tuple(row.values.values()) for row in rows_of(file, **more)]


def test_quotes_line_breaks_and_empty_lines(tmp_path: Path) -> None:
    file = source(tmp_path / "a.csv", 'id,text\n1,"a, ""b""\nand c"\n\n2,\n')
    found = list(rows_of(file))
    assert [(row.values, row.line) for row in found] == [
        ({"id": "1", "text": 'a, "b"\nand c'}, 2),
        ({"id": "2", "text": ""}, 5),
    ]


@pytest.mark.parametrize("sign", [",", ";", "\t", "|"])
def test_the_sign_between_cells_is_told_by_the_header(tmp_path: Path, sign: str) -> None:
    file = source(tmp_path / "a.csv", f'id{sign}"a,b;c"\n1{sign}x\n')
    assert header_of(file) == ["id", "a,b;c"]
    assert values(file) == [("1", "x")]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_ends_of_lines(tmp_path: Path, end: str) -> None:
    assert values(source(tmp_path / "a.csv", f"id,x{end}1,a{end}2,b")) == [("1", "a"), ("2", "b")]


@pytest.mark.parametrize(
    ("content", "encoding"),
    [
        ("\ufeffid,x\n1,ñ\n".encode(), "utf-8"),
        ("id,x\n1,ñ\n".encode("cp1252"), "cp1252"),
        ("\ufeffid\tx\n1\tñ\n".encode("utf-16-le"), "utf-8"),
        ("\ufeffid\tx\n1\tñ\n".encode("utf-16-be"), "utf-16"),
        (gzip.compress("id,x\n1,ñ\n".encode(), mtime=0), "utf-8"),
    ],
)
def test_encodings(tmp_path: Path, content: bytes, encoding: str) -> None:
    file = source(tmp_path / "a.csv", content)
    assert header_of(file, None, encoding) == ["id", "x"]
    assert values(file, encoding=encoding) == [("1", "ñ")]


def test_bytes_of_another_encoding_are_replaced_and_told(tmp_path: Path) -> None:
    found = list(rows_of(source(tmp_path / "a.csv", b"id,x\n1,\xf1\n2,y\n")))
    assert [(row.values, row.mended) for row in found] == [
        ({"id": "1", "x": "\ufffd"}, True),
        ({"id": "2", "x": "y"}, False),
    ]


@pytest.mark.parametrize(
    "damage",
    ["2", "2,b,c", '2,"b', 'x"y,z"', '"2","b" c,"d', '2,"b""'],
    ids=["few", "many", "open", "inside", "odd", "half"],
)
def test_a_damaged_line_costs_itself(tmp_path: Path, damage: str) -> None:
    lines = [f"{n},text {n}" for n in range(3, 40)]
    file = source(tmp_path / "a.csv", "\n".join(["id,x", "1,a", damage, *lines]) + "\n")
    found = list(rows_of(file))
    good = [row.values["id"] for row in found if row.values is not None]
    if damage != 'x"y,z"':  # two cells: what they mean is not for the reader to say
        assert good == ["1", *(str(n) for n in range(3, 40))]
        assert [row.line for row in found if row.values is None] == [3]


def test_a_line_that_is_too_long_costs_itself(tmp_path: Path) -> None:
    file = source(tmp_path / "a.csv", "id,x\n1,a\n2," + "y" * 300_000 + "\n3,c\n")
    found = list(rows_of(file, largest=100_000))
    assert [(row.why, row.line) for row in found] == [(None, 2), (rows.TOO_LONG, 3), (None, 4)]
    assert found[-1].values == {"id": "3", "x": "c"}


def test_nul_bytes_are_read(tmp_path: Path) -> None:
    assert values(source(tmp_path / "a.csv", b"id,x\n1,a\0b\n")) == [("1", "a\0b")]


def test_reading_goes_on_behind_any_row(tmp_path: Path) -> None:
    content = 'id,text\n1,"a\nb"\n2,c\n3,"x\n4,d\n\n5,"é, f"\n' + "".join(f"{n},x\n" for n in range(6, 30))
    for content_bytes in (content.encode(), gzip.compress(content.encode())):
        file = source(tmp_path / "a.csv", content_bytes)
        whole = list(rows_of(file))
        for n, row in enumerate(whole):
            rest = list(rows_of(file, list(row.after)))
            assert [(one.values, one.why, one.line) for one in rest] == [
                (one.values, one.why, one.line) for one in whole[n + 1 :]
            ]


def test_a_gzip_file_that_is_cut_off_is_told(tmp_path: Path) -> None:
    whole = gzip.compress(b"id,x\n" + b"".join(b"%d,%d\n" % (n, n * n) for n in range(30_000)))
    found = list(rows_of(source(tmp_path / "a.csv", whole[: len(whole) // 2])))
    assert found[-1].why == "gzip files that are cut off: what is there was read"
    assert len(found) > 5_000


@pytest.mark.parametrize(("content", "line"), [("a,b,a\n1,2,3\n", "the column 'a' stands there twice"),
                                             ("\n1,2\n", "has no header")])  # fmt: skip
def test_headers_that_cannot_be(tmp_path: Path, content: str, line: str) -> None:
    with pytest.raises(DataError, match=line):
        header_of(source(tmp_path / "a.csv", content))


def test_parquet_from_any_row(tmp_path: Path) -> None:
    table = pa.table({"id": list(range(100)), "x": [f"t{n}" for n in range(100)]})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=30)
    file = source(tmp_path / "a.parquet", (tmp_path / "a.parquet").read_bytes())
    assert header_of(file) == ["id", "x"]
    found = list(rows_of(file))
    assert [row.values for row in found] == table.to_pylist()
    assert [row.line for row in found] == list(range(1, 101))
    for at in (0, 29, 30, 59, 99):
        assert [row.values for row in rows_of(file, list(found[at].after))] == table.to_pylist()[at + 1 :]


def test_a_parquet_file_that_is_cut_off_is_one_line(tmp_path: Path) -> None:
    pq.write_table(pa.table({"id": [1]}), tmp_path / "a.parquet")
    file = source(tmp_path / "a.parquet", (tmp_path / "a.parquet").read_bytes()[:-20])
    with pytest.raises(DataError, match=r"a\.parquet: is no Parquet file"):
        header_of(file)
