"""A bundle's roster built anew is the running matcher's after the same changes."""

from __future__ import annotations

import json
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from serve.matcher import Matcher
from serve.rebuild import rebuild
from serve.watch import roster_changes
from tests.serve import fakes
from twotower.cli import run_verb
from twotower.errors import BundleError, DataError, OutputError

AT = fakes.until_us(26)
CONTACT = {"intent_text": "where is my refund", "language": "en", "channel": "chat"}


@pytest.fixture
def roster(data: Path, tmp_path: Path) -> Path:
    """The centre's CSAs: one joins, one is gone, one has learnt something."""
    rows = pq.read_table(data / "csas.parquet").to_pylist()
    rows = [row for row in rows if row["csa_id"] != "csa-03"]
    rows[1]["skills"] = [{"name": "invoice", "level": 1.0}]
    rows[1]["languages"] = ["fr"]
    new = {**rows[2], "csa_id": "new", "profile": "refund", "hired_at": None}
    later = {**rows[2], "csa_id": "not-yet", "hired_at": fakes.START.replace(year=2027)}
    table = pa.Table.from_pylist([*rows, new, later], pq.read_schema(data / "csas.parquet"))
    pq.write_table(table, tmp_path / "roster.parquet")
    return tmp_path / "roster.parquet"


def scores(matcher: Matcher, rank: str = "success") -> dict[str, float]:
    found = matcher.match({**CONTACT, "arrived_at": AT}, 99, rank=rank)  # type: ignore[arg-type]
    return {one.csa_id: one.score for one in found}


def test_it_is_the_running_matcher_after_the_same_changes(folder: Path, roster: Path, tmp_path: Path) -> None:
    done = rebuild(folder, roster, tmp_path / "bundle", AT)
    assert (done.joined, done.changed, done.left) == (2, 1, 2)  # csa-11 was hired on day 25, csa-00 left on day 22
    running = Matcher.load(folder)
    running.update_roster(roster_changes(running, roster, AT), AT)
    made = Matcher.load(tmp_path / "bundle", expect_digest=done.bundle)
    for rank in ("success", "handled"):
        assert scores(made, rank) == scores(running, rank)
    assert {"new", "csa-11"} <= set(scores(made))
    assert not {"csa-03", "not-yet", "csa-00"} & set(scores(made))
    assert dict(made.roster())["csa-01"].languages == ("fr",)
    assert roster_changes(made, roster, AT) == []


def test_who_did_not_change_stays_to_the_bit(folder: Path, roster: Path, tmp_path: Path) -> None:
    rebuild(folder, roster, tmp_path / "bundle", AT)
    before, made = Matcher.load(folder).bundle, Matcher.load(tmp_path / "bundle").bundle
    same = [i for i, csa_id in enumerate(before.roster.ids) if csa_id not in ("csa-01", "csa-11")]
    for name in ("vectors", "features", "own", "identity"):
        assert np.array_equal(getattr(made.roster, name)[same], getattr(before.roster, name)[same])
    for name in ("parts", "scale"):
        assert np.array_equal(*(getattr(one.roster.spread, name)[same] for one in (made, before)))
    assert made.roster.ids[: len(before.roster.ids)] == before.roster.ids
    for name in ("contact_tower.onnx", "history.parquet", "history.faiss", "calibration.json"):
        assert made.manifest.files[name] == before.manifest.files[name]
    plain, ids = np.load(tmp_path / "bundle" / "vectors.npy"), (tmp_path / "bundle" / "ids.json").read_text()
    assert json.loads(ids) == [one for one, on in zip(made.roster.ids, made.roster.active, strict=True) if on]
    assert len(plain) == int(made.roster.active.sum()) == made.manifest.reduced["csas"]
    assert made.manifest.model["rebuilt"]["from"] == before.manifest.id
    assert "Roster rebuilt" in (tmp_path / "bundle" / "MODEL_CARD.md").read_text()


def test_the_made_bundle_learns_and_changes_on(bundle_folder: Path, roster: Path, tmp_path: Path) -> None:
    rebuild(bundle_folder, roster, tmp_path / "bundle", AT)
    made = Matcher.load(tmp_path / "bundle")
    before = scores(made)["new"]
    made.ended({**CONTACT, "arrived_at": AT}, "new", AT + 5, resolved=False)
    assert scores(made)["new"] < before
    made.refresh()
    rebuild(tmp_path / "bundle", roster, tmp_path / "again", AT)
    assert scores(Matcher.load(tmp_path / "again")) == scores(Matcher.load(tmp_path / "bundle"))


def test_the_same_gives_the_same_bytes(bundle_folder: Path, roster: Path, tmp_path: Path) -> None:
    made = [rebuild(bundle_folder, roster, tmp_path / name, AT).bundle for name in ("a", "b")]
    assert made[0] == made[1]
    assert (tmp_path / "a" / "manifest.json").read_bytes() == (tmp_path / "b" / "manifest.json").read_bytes()


def test_the_search_is_built_as_deep_as_before(
    bundle_folder: Path, roster: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rebuild(bundle_folder, roster, tmp_path / "flat", AT)
    assert Matcher.load(tmp_path / "flat").bundle.manifest.indexes["profiles"]["kind"] == "flat"
    monkeypatch.setattr("serve.rebuild.build_profile_index", _small_index)
    rebuild(bundle_folder, roster, tmp_path / "graph", AT)
    facts = Matcher.load(tmp_path / "graph").bundle.manifest.indexes["profiles"]
    assert facts["kind"] == "hnsw"
    assert facts["recall"] >= 0.99


def _small_index(vectors: np.ndarray, queries: np.ndarray) -> object:
    from twotower.index.build import build_profile_index

    assert len(queries) >= 6
    return build_profile_index(vectors, queries, flat_components=0)


def test_a_file_that_is_not_whole_is_refused(bundle_folder: Path, roster: Path, tmp_path: Path) -> None:
    table = pq.read_table(roster)
    few = tmp_path / "few.parquet"
    pq.write_table(table.filter(pc.is_in(table["csa_id"], pa.array(["csa-01", "new"]))), few)
    with pytest.raises(DataError, match="is the file whole"):
        rebuild(bundle_folder, few, tmp_path / "bundle", AT)
    assert rebuild(bundle_folder, few, tmp_path / "bundle", AT, most_gone=1.0).active == 2
    with pytest.raises(OutputError):
        rebuild(bundle_folder, roster, tmp_path / "bundle", AT)
    with pytest.raises(BundleError, match="expected"):
        rebuild(bundle_folder, roster, tmp_path / "other", AT, "0" * 64)
    (tmp_path / "bad.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError):
        rebuild(bundle_folder, tmp_path / "bad.parquet", tmp_path / "other", AT)
    assert not (tmp_path / "other").exists()


def test_the_verb(bundle_folder: Path, roster: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    verb = EntryPoint("index", "serve.rebuild_verb:VERB", "twotower.verbs")
    words = ["rebuild", str(bundle_folder), "--roster", str(roster), "--output", str(tmp_path / "made")]
    assert run_verb("index", [*words, "--at", "2026-01-27T00:00:00Z"], verb) == 0
    assert "2 joined, 1 changed, 2 left" in capsys.readouterr().out
    assert run_verb("index", words, verb) == 1
    assert "exists already" in capsys.readouterr().err
