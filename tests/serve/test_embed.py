"""`twotower embed`: a file's vectors, which are the matcher's, from any engine to the bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from serve import contact_file
from serve.embed_verb import VERB
from serve.matcher import Matcher
from twotower.cli import run_verb


class Entry:
    """An installed entry point."""

    value = "serve.embed_verb:VERB"

    def load(self) -> Any:
        return VERB


def run(*argv: Any) -> int:
    return run_verb("embed", [str(a) for a in argv], Entry())  # type: ignore[arg-type]


@pytest.fixture
def contacts(tmp_path: Path) -> Path:
    """Contacts of whom one says nothing, and lists with CSAs that nobody knows, which are not asked for."""
    texts = ["refund", "lost card", None, "late order and a refund", "refund"]
    table = {"contact_id": list("abcde"), "intent_text": texts, "eligible": [["nobody"], None, [], None, None]}
    pq.write_table(pa.table(table), tmp_path / "contacts.parquet")
    return tmp_path / "contacts.parquet"


def test_vectors_are_those_of_the_matcher(
    bundle_folder: Path, matcher: Matcher, contacts: Path, tmp_path: Path
) -> None:
    assert run(bundle_folder, "--contacts", contacts, "--output", tmp_path / "out.parquet") == 0
    found = pq.read_table(tmp_path / "out.parquet")
    assert found["contact_id"].to_pylist() == list("abcde")
    for i, text in enumerate(["refund", "lost card", None]):
        one = matcher.bundle.contact_encoder.encode_one({"intent_text": text})
        for name in ("profile", "memory", "base"):
            assert np.array(found[name][i].as_py(), np.float32).tobytes() == getattr(one, name)[0].tobytes()
        assert found["level"][i].as_py() == one.level[0]
    assert found.slice(0, 1).drop_columns("contact_id").equals(found.slice(4, 1).drop_columns("contact_id"))
    assert not found.slice(0, 1).drop_columns("contact_id").equals(found.slice(1, 1).drop_columns("contact_id"))


@pytest.mark.parametrize("engine", ["ray", "local"])
def test_engines_and_batches_change_nothing(
    engine: str, cluster: str, bundle_folder: Path, contacts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(bundle_folder, "--contacts", contacts, "--output", tmp_path / "here.parquet") == 0
    monkeypatch.setattr(contact_file, "BATCH", 2)
    assert run(bundle_folder, "--contacts", contacts, "--output", tmp_path / "there.parquet", "--engine", engine) == 0
    assert pq.read_table(tmp_path / "there.parquet").equals(pq.read_table(tmp_path / "here.parquet"))


def test_a_file_with_an_error_leaves_nothing(bundle_folder: Path, tmp_path: Path, capsys: Any) -> None:
    pq.write_table(pa.table({"contact_id": ["a", "a"]}), tmp_path / "twice.parquet")
    assert run(bundle_folder, "--contacts", tmp_path / "twice.parquet", "--output", tmp_path / "out.parquet") == 1
    assert "row 1, column contact_id: 'a' stands there twice" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["twice.parquet"]
