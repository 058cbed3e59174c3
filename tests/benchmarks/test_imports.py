"""The export that `benchmarks/imports.py` measures: contacts, transfers, repeats, transcripts, and nothing damaged."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from twotower.imports.mapping import ImportMap
from twotower.imports.run import Job, run_import


def test_the_export_is_imported_whole(tmp_path: Path) -> None:
    import_module("imports").write(tmp_path / "export", 1)
    size = sum(file.stat().st_size for file in (tmp_path / "export" / "records").iterdir())
    assert 1_000_000 <= size < 1_020_000
    done = run_import(Job(tmp_path / "export", tmp_path / "tables", ImportMap("connect"), tolerate=0.0))
    assert done.damaged == 0
    assert done.handovers > done.contacts > 200  # some were transferred
    reasons = {one["reason"] for one in done.notes["left out"]}
    assert reasons == {"older deliveries of a contact record"}
    assert done.filled["contacts"]["abandoned_at"] > 0
    assert done.notes["guessed"]


def test_the_same_export_is_written_again(tmp_path: Path) -> None:
    for name in ("one", "two"):
        import_module("imports").write(tmp_path / name, 1)
    for kind in ("records/00000", "lens/00000.json"):
        assert (tmp_path / "one" / kind).read_bytes() == (tmp_path / "two" / kind).read_bytes()
