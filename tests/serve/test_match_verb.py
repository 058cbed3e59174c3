"""`twotower match`: a file of contacts in, ranked rows out, and one clear line for everything that is wrong."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from serve import contact_file
from serve.match_file import match_file
from serve.matcher import Matcher
from serve.rolling import RollingMatcher
from serve.verb import VERB
from tests.serve import fakes
from twotower.cli import run_verb
from twotower.tables.log import Log


class Entry:
    """An installed entry point."""

    value = "serve.verb:VERB"

    def load(self) -> Any:
        return VERB


def run(*argv: Any) -> int:
    return run_verb("match", [str(a) for a in argv], Entry())  # type: ignore[arg-type]


def contacts(**columns: Any) -> pa.Table:
    """Three contacts, changed."""
    base: dict[str, Any] = {
        "contact_id": ["a", "b", "c"],
        "intent_text": ["refund", "lost card", None],
        "eligible": pa.array([None, ["csa-02", "csa-01"], []], pa.list_(pa.string())),
    }
    return pa.table({k: v for k, v in {**base, **columns}.items() if v is not None})


def test_rows_are_those_of_the_matcher(bundle_folder: Path, matcher: Matcher, tmp_path: Path) -> None:
    pq.write_table(contacts(), tmp_path / "in.parquet")
    done = match_file(bundle_folder, tmp_path / "in.parquet", tmp_path / "out.parquet", k=3)
    assert (done.contacts, done.rows, done.without, done.rank) == (3, 5, 1, "success")
    table = pq.read_table(tmp_path / "out.parquet")
    assert table.schema.names == ["contact_id", "rank", "csa_id", "score", "p_resolved"]
    rows = table.to_pylist()
    assert [(r["contact_id"], r["rank"]) for r in rows] == [("a", 1), ("a", 2), ("a", 3), ("b", 1), ("b", 2)]
    assert {r["csa_id"] for r in rows[3:]} == {"csa-01", "csa-02"}
    for row, candidate in zip(rows, matcher.match({"intent_text": "refund"}, k=3), strict=False):
        assert row["csa_id"] == candidate.csa_id
        assert row["score"] == pytest.approx(candidate.score)
        assert row["p_resolved"] == pytest.approx(candidate.p_resolved)


@pytest.mark.parametrize("bundle", ["bundle_folder", "whole_bundle"], ids=["default", "every family"])
def test_rolled_rows_are_those_of_the_rolling_matcher(
    request: pytest.FixtureRequest, bundle: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is read in several batches and stands in another order than time."""
    folder = request.getfixturevalue(bundle)
    monkeypatch.setattr(contact_file, "BATCH", 37)
    table = pq.read_table(data / "contacts.parquet").slice(70)
    shuffled = table.take(np.random.default_rng(0).permutation(len(table)))
    pq.write_table(shuffled, tmp_path / "in.parquet")
    match_file(folder, tmp_path / "in.parquet", tmp_path / "out.parquet", data=data, rank="handled", k=50)
    rolling = RollingMatcher(Matcher.load(folder), Log.load(data))
    scores, p = rolling.scores(np.arange(160), "handled"), rolling.p_resolved(np.arange(160))
    assert p is not None
    position = {i: n for n, i in enumerate(rolling.log.contacts.ids.to_pylist())}
    code = {i: n for n, i in enumerate(rolling.log.csas.ids.to_pylist())}
    rows = pq.read_table(tmp_path / "out.parquet").to_pylist()
    assert len(rows) == int(np.isfinite(scores[70:]).sum())
    for row in rows:
        place = position[row["contact_id"]], code[row["csa_id"]]
        assert (row["score"], row["p_resolved"]) == (scores[place], p[place])
    assert list(dict.fromkeys(r["contact_id"] for r in rows)) == shuffled["contact_id"].to_pylist()


def test_the_verb_reports_and_writes(
    bundle_folder: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pq.write_table(contacts(), tmp_path / "in.parquet")
    out = tmp_path / "out.parquet"
    assert run(bundle_folder, "--contacts", tmp_path / "in.parquet", "--output", out) == 0
    assert "1 contacts have no eligible candidate" in capsys.readouterr().out
    assert run(bundle_folder, "--contacts", data / "contacts.parquet", "--data", data, "--output", out, "--json") == 0
    assert json.loads(capsys.readouterr().out)["contacts"] == 160


def test_without_failures_p_resolved_is_null(data: Path, tmp_path: Path) -> None:
    run_folder = fakes.write_run(data, tmp_path / "run", calibrated=False)
    bundle = fakes.fake_bundle(run_folder, tmp_path / "bundle")
    pq.write_table(contacts(), tmp_path / "in.parquet")
    assert match_file(bundle, tmp_path / "in.parquet", tmp_path / "out.parquet").rank == "handled"
    column = pq.read_table(tmp_path / "out.parquet")["p_resolved"]
    assert column.null_count == len(column) > 0


def test_types_of_every_user_are_taken(bundle_folder: Path, tmp_path: Path) -> None:
    """Large strings, dictionaries, all-null columns, columns nobody asked for, ids alone."""
    wide = contacts(
        contact_id=pa.array(["a", "b", "c"], pa.large_string()),
        language=pa.nulls(3),
        channel=pa.array(["chat", "call", "chat"]).dictionary_encode(),
        eligible=pa.nulls(3),
        mood=["x", "y", "z"],
    )
    for name, table in (("wide", wide), ("ids", wide.select(["contact_id"]))):
        pq.write_table(table, tmp_path / f"{name}.parquet")
        assert match_file(bundle_folder, tmp_path / f"{name}.parquet", tmp_path / "out", k=2).rows == 6


ZONED = pa.array([datetime(2026, 2, 1), None, datetime(2026, 2, 1)], pa.timestamp("us", "UTC"))
BAD: list[tuple[str, pa.Table, list[str], str]] = [
    ("twice", contacts(contact_id=["a", "b", "a"]), [], "row 2, column contact_id: 'a' stands there twice"),
    ("null id", contacts(contact_id=["a", None, "c"]), [], "row 1, column contact_id: null"),
    ("unknown csa", contacts(eligible=[None, ["csa-01"], ["eve"]]), [], "row 2, column eligible: unknown csa_id 'eve'"),
    ("wrong type", contacts(intent_text=[1, 2, 3]), [], "column intent_text: wrong type int64; expected string"),
    ("no ids", contacts(contact_id=None), [], "column contact_id: missing"),
    ("no zone", contacts(arrived_at=pa.array([1, 2, 3], pa.timestamp("us"))), [], "times without a time zone"),
    ("empty", contacts().slice(0, 0), [], "the table is empty"),
    ("no arrivals", contacts(), ["--data"], "column arrived_at: missing"),
    ("null arrival", contacts(arrived_at=ZONED), ["--data"], "row 1, column arrived_at: null"),
]


@pytest.mark.parametrize(("name", "table", "more", "message"), BAD, ids=[b[0] for b in BAD])
def test_a_bad_file_is_one_line_and_no_output(
    bundle_folder: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    name: str, table: pa.Table, more: list[str], message: str,
) -> None:  # fmt: skip
    pq.write_table(table, tmp_path / "in.parquet")
    options = [*more, data] if more else []
    assert run(bundle_folder, "--contacts", tmp_path / "in.parquet", "--output", tmp_path / "out", *options) == 1
    line = capsys.readouterr().err.strip()
    assert message in line
    assert line.startswith("twotower match: ")
    assert "\n" not in line
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.parquet"]


def test_a_file_that_is_none_is_one_line(
    bundle_folder: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = (data / "contacts.parquet").read_bytes()
    (tmp_path / "cut.parquet").write_bytes(whole[: len(whole) // 2])
    for file, message in (("cut.parquet", "is truncated or no Parquet file"), ("none.parquet", "no such file")):
        assert run(bundle_folder, "--contacts", tmp_path / file, "--output", tmp_path / "out") == 1
        assert message in capsys.readouterr().err


def test_options_a_bundle_cannot_serve_are_one_line(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = fakes.fake_bundle(fakes.write_run(data, tmp_path / "run", handled=False), tmp_path / "bundle")
    pq.write_table(contacts(), tmp_path / "in.parquet")
    rest = ["--contacts", tmp_path / "in.parquet", "--output", tmp_path / "out"]
    for options, message in (
        (["--rank", "handled"], "it ranks by success"),
        (["--k", "0"], "--k: at least 1 expected"),
        (["--digest", "f" * 64], "expected ffffffffffff"),
        (["--expect-digest", "f" * 64], "expected ffffffffffff"),
        (["--signature", tmp_path / "none", "--public-key", tmp_path / "none"], "cannot be read"),
    ):
        assert run(bundle, *rest, *options) == 1
        assert message in capsys.readouterr().err
