"""`twotower explain`: the score that `twotower match` gives, explained; one clear line for everything that is wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from serve.match_file import match_file
from serve.pairs_file import NOT_ELIGIBLE, explain_file
from serve.pairs_verb import VERB
from tests.serve import fakes, returning
from tests.serve.returning import SECRET
from tests.serve.returning import bundle as bundle
from tests.serve.returning import file as file
from tests.serve.returning import returning_data as returning_data
from tests.serve.test_pairs import CLOSE, adds_up
from twotower.cli import run_verb


class Entry:
    """An installed entry point."""

    value = "serve.pairs_verb:VERB"

    def load(self) -> Any:
        return VERB


def run(*argv: Any) -> int:
    return run_verb("explain", [str(a) for a in argv], Entry())  # type: ignore[arg-type]


@pytest.mark.parametrize("rank", ["success", "handled"])
@pytest.mark.parametrize("rolled", [False, True], ids=["bundle", "rolled"])
def test_the_score_is_that_of_match(folder: Path, data: Path, tmp_path: Path, rank: Any, rolled: bool) -> None:
    contacts, tables = data / "contacts.parquet", data if rolled else None
    match_file(folder, contacts, tmp_path / "out.parquet", data=tables, rank=rank, k=50)
    rows = pq.read_table(tmp_path / "out.parquet").to_pylist()
    inside = [row for row in rows if int(row["contact_id"][1:]) in (90, 119)]
    after = [row for row in rows if int(row["contact_id"][1:]) in (140, 159)]
    assert len(inside) > 4
    assert len(after) > 4
    for row in (*inside[::3], *after[::3]):
        found = explain_file(folder, contacts, row["contact_id"], row["csa_id"], tables, rank, top=3)
        assert found.score == pytest.approx(row["score"], abs=CLOSE)
        assert found.p_resolved == pytest.approx(row["p_resolved"], abs=CLOSE)
        assert NOT_ELIGIBLE not in found.notes
        adds_up(found)


def test_nothing_that_became_known_later_is_told(bundle_folder: Path, data: Path) -> None:
    contacts = data / "contacts.parquet"
    table = pq.read_table(contacts, columns=["contact_id", "arrived_at"]).to_pylist()
    arrived = {row["contact_id"]: row["arrived_at"] for row in table}
    known = {
        row["contact_id"]: row["known_at"]
        for row in pq.read_table(data / "interactions.parquet", columns=["contact_id", "known_at"]).to_pylist()
    }
    named = 0
    for contact in ("c0100", "c0150"):
        found = explain_file(bundle_folder, contacts, contact, "csa-03", data, "handled", top=100)
        for one in (one for past in found.past for one in past.top if one.contact_id):
            named += 1
            assert known[one.contact_id] < arrived[contact]
    assert named > 4


def test_a_customer_of_the_store_is_told_as_match_scores_them(
    bundle: Path, file: Path, returning_data: Path, tmp_path: Path
) -> None:
    from serve.customers import Customers

    store = Customers.load(file, SECRET)
    table = pq.read_table(returning_data / "contacts.parquet")
    late = np.flatnonzero(np.array(table["arrived_at"].cast("int64").to_pylist()) >= returning.T)[:30]
    pq.write_table(table.take(late), tmp_path / "in.parquet")
    match_file(bundle, tmp_path / "in.parquet", tmp_path / "out.parquet", k=2, customers=store)
    for row in pq.read_table(tmp_path / "out.parquet").to_pylist()[::7]:
        given = row["contact_id"], row["csa_id"]
        found = explain_file(bundle, tmp_path / "in.parquet", *given, customers=store)
        assert found.score == pytest.approx(row["score"], abs=CLOSE)
        adds_up(found)


def test_the_verb_speaks_to_people_and_machines(
    bundle_folder: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = [bundle_folder, "--contacts", data / "contacts.parquet", "--contact", "c0150", "--csa", "csa-03"]
    assert run(*argv) == 0
    words = capsys.readouterr().out
    assert words.startswith("csa-03 is expected to resolve contact c0150")
    assert run(*argv, "--data", data, "--top", 1, "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["contact_id"], said["csa_id"], len(said["past"][0]["top"])) == ("c0150", "csa-03", 1)


def test_who_may_not_take_the_contact_is_noted(bundle_folder: Path, data: Path) -> None:
    table = pq.read_table(data / "contacts.parquet")
    row = next(row for row in table.to_pylist()[100:] if row["eligible"])
    other = next(f"csa-{j:02}" for j in range(1, 11) if f"csa-{j:02}" not in row["eligible"])
    found = explain_file(bundle_folder, data / "contacts.parquet", row["contact_id"], other)
    assert NOT_ELIGIBLE in found.words()


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (["--contact", "nobody"], "no contact 'nobody'"),
        (["--csa", "nobody"], "--csa 'nobody': not in the roster"),
        (["--top", "-1"], "--top: at least 0 expected"),
        (["--expect-digest", "f" * 64], "expected ffffffffffff"),
        (["--secret", "x"], "--secret: is for --customers"),
        (["--contacts", "nowhere.parquet"], "no such file"),
    ],
)
def test_what_cannot_be_is_one_line(
    bundle_folder: Path, data: Path, capsys: pytest.CaptureFixture[str], options: list[str], line: str
) -> None:
    argv = [bundle_folder, "--contacts", data / "contacts.parquet", "--contact", "c0150", "--csa", "csa-03"]
    assert run(*argv, *options) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert line in captured.err
    assert captured.err.count("\n") == 1


def test_a_bundle_without_that_rank_says_so(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    only = fakes.fake_bundle(fakes.write_run(data, tmp_path / "run", handled=False), tmp_path / "bundle")
    argv = [only, "--contacts", data / "contacts.parquet", "--contact", "c0150", "--csa", "csa-03"]
    assert run(*argv, "--rank", "handled") == 1
    assert "it ranks by success" in capsys.readouterr().err
