"""Opening a bundle: whole ones open, every other is refused in one line that says what to do."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from twotower.bundle.bundle import Bundle
from twotower.bundle.manifest import REQUIRED, Manifest, describe_files
from twotower.errors import BundleError


def refusal(folder: Path, digest: str | None = None) -> str:
    """The one line with which a folder is refused."""
    with pytest.raises(BundleError) as caught:
        Bundle.open(folder, digest)
    line = str(caught.value)
    assert "\n" not in line
    return line


def rewrite(folder: Path, **changes: Any) -> None:
    """Change the manifest's fields and give it a fitting id, as someone who wants to be believed would."""
    data = json.loads((folder / "manifest.json").read_text())
    del data["id"]
    Manifest(**{**data, **changes}).write(folder)


def test_a_whole_bundle_opens(bundle_folder: Path) -> None:
    bundle = Bundle.open(bundle_folder)
    assert set(REQUIRED) <= set(bundle.manifest.files)
    assert len(bundle.roster) == len(bundle.roster.vectors) == 11
    assert len(bundle.history) == bundle.manifest.history["rows"] == len(bundle.history_contacts)


def test_the_expected_digest_is_the_id(bundle_folder: Path) -> None:
    digest = Bundle.open(bundle_folder).manifest.id
    assert Bundle.open(bundle_folder, expect_digest=digest).manifest.id == digest
    assert "expected 000000000000" in refusal(bundle_folder, "0" * 64)


@pytest.mark.parametrize("name", [*REQUIRED, "MODEL_CARD.md", "vectors.npy"])
def test_one_changed_byte_is_found_in_every_file(copy: Path, name: str) -> None:
    content = bytearray((copy / name).read_bytes())
    content[len(content) // 2] ^= 1
    (copy / name).write_bytes(content)
    assert f"{name}: changed since the bundle was written" in refusal(copy)


@pytest.mark.parametrize("name", REQUIRED)
def test_a_missing_file_is_named(copy: Path, name: str) -> None:
    (copy / name).unlink()
    assert f"{name}: missing from the bundle" in refusal(copy)


def test_a_changed_manifest_is_found(copy: Path) -> None:
    text = (copy / "manifest.json").read_text()
    (copy / "manifest.json").write_text(text.replace('"default": "success"', '"default": "handled"'))
    assert "its id does not match" in refusal(copy)


def test_a_truncated_manifest_is_refused(copy: Path) -> None:
    (copy / "manifest.json").write_text((copy / "manifest.json").read_text()[:100])
    assert "not a readable manifest" in refusal(copy)


def test_another_format_is_refused(copy: Path) -> None:
    rewrite(copy, format=99)
    assert "bundle format 99, this version reads 4" in refusal(copy)


def test_an_unknown_feature_schema_is_refused(copy: Path) -> None:
    data = json.loads((copy / "features.json").read_text())
    (copy / "features.json").write_text(json.dumps({**data, "version": 77}))
    rewrite(copy, files=describe_files(copy))
    assert "feature schema 77, this program reads 2" in refusal(copy)


def test_a_feature_schema_that_is_not_the_manifests_is_refused(copy: Path) -> None:
    data = json.loads((copy / "features.json").read_text())
    (copy / "features.json").write_text(json.dumps({**data, "max_tokens": 3}))
    rewrite(copy, files=describe_files(copy))
    assert "not the feature schema of the manifest" in refusal(copy)


def test_a_folder_that_is_no_bundle_is_refused(tmp_path: Path) -> None:
    assert "not a bundle" in refusal(tmp_path)
    assert "no such folder" in refusal(tmp_path / "nowhere")


def test_a_file_outside_the_folder_is_not_followed(copy: Path) -> None:
    files = {**describe_files(copy), "../secret": {"sha256": "0", "bytes": 0}}
    rewrite(copy, files=files)
    assert "not a plain file name" in refusal(copy)


ODD_NAMES = (
    "..", ".", "", "/etc/passwd", "../x", "a/../x", "./roster.parquet", "sub/file", "sub\\file", "C:file", "~x",
    ".hidden", "a\0b", "a\nb", "é.bin", "ﬁle", "x" * 200, "Roster.parquet", "ROSTER.PARQUET", "manifest.json",
    "Manifest.JSON",
)  # fmt: skip


@pytest.mark.parametrize("name", ODD_NAMES)
def test_a_name_that_is_not_plain_or_stands_twice_is_refused(copy: Path, name: str) -> None:
    """Though a file may lie there, with the checksum that the manifest says."""
    facts = describe_files(copy)["roster.parquet"]
    rewrite(copy, files={**describe_files(copy), name: facts})
    assert "do not trust it" in refusal(copy)


def test_a_link_to_outside_is_refused_and_one_inside_is_not(copy: Path, tmp_path: Path) -> None:
    target = copy / "vectors.npy"
    (tmp_path / "elsewhere").write_bytes(target.read_bytes())
    target.rename(copy / "kept.npy")
    target.symlink_to("kept.npy")
    Bundle.open(copy)
    target.unlink()
    target.symlink_to(tmp_path / "elsewhere")
    assert "vectors.npy: a link to outside of the bundle" in refusal(copy)
    target.unlink()
    target.symlink_to(target.name)
    assert "vectors.npy" in refusal(copy)


def test_a_bundle_behind_a_link_opens(copy: Path, tmp_path: Path) -> None:
    (tmp_path / "champion").symlink_to(copy)
    Bundle.open(tmp_path / "champion")


@pytest.mark.parametrize("kind", ["folder", "pipe"])
def test_what_is_no_file_is_refused(copy: Path, kind: str) -> None:
    (copy / "vectors.npy").unlink()
    if kind == "folder":
        (copy / "vectors.npy").mkdir()
    else:
        os.mkfifo(copy / "vectors.npy")
    assert "vectors.npy: missing from the bundle" in refusal(copy)


@pytest.mark.parametrize(
    "facts", [None, [], {}, {"sha256": "0"}, {"bytes": "9", "sha256": "0"}, {"bytes": 9, "sha256": "0", "path": "/"}]
)
def test_a_file_without_size_and_checksum_is_refused(copy: Path, facts: Any) -> None:
    rewrite(copy, files={**describe_files(copy), "vectors.npy": facts})
    assert "does not give size and checksum of vectors.npy" in refusal(copy)


@pytest.mark.parametrize(
    "text", ['{"id": "0", "format": 2, "format": 2}', "[" * 100_000, "[]", '{"id": "0", "format": 4}', "\xff"]
)
def test_a_manifest_that_is_none_is_one_line(copy: Path, text: str) -> None:
    (copy / "manifest.json").write_bytes(text.encode("latin-1"))
    assert "damaged" in refusal(copy)


def test_a_key_that_stands_twice_is_refused(copy: Path) -> None:
    text = (copy / "manifest.json").read_text()
    (copy / "manifest.json").write_text(text.replace('"vectors.npy": {', '"vectors.npy": {}, "vectors.npy": {'))
    assert "not a readable manifest" in refusal(copy)


def test_a_number_that_json_does_not_know_is_refused(copy: Path) -> None:
    text = (copy / "manifest.json").read_text()
    (copy / "manifest.json").write_text(text.replace('"metrics": {', '"metrics": {"mrr": NaN, '))
    assert "its id does not match" in refusal(copy)


def test_a_manifest_that_lists_too_little_is_refused(copy: Path) -> None:
    files = describe_files(copy)
    del files["history.faiss"]
    rewrite(copy, files=files)
    assert "does not list history.faiss" in refusal(copy)


def test_a_file_that_the_manifest_does_not_list_is_not_read(copy: Path) -> None:
    (copy / "notes.txt").write_text("mine")
    bundle = Bundle.open(copy)
    with pytest.raises(BundleError, match=r"has no notes\.txt"):
        bundle.file("notes.txt")


def test_the_manifest_says_nothing_of_when_where_or_who(bundle_folder: Path, run_folder: Path) -> None:
    text = (bundle_folder / "manifest.json").read_text()
    assert str(run_folder.parent) not in text
    assert not {"created_at", "host", "path", "user"} & set(json.loads(text))


def test_history_rows_survive_the_file(bundle_folder: Path, run_folder: Path) -> None:
    rows = Bundle.open(bundle_folder).history
    with np.load(run_folder / "history.npz") as saved:
        counts = saved["until"] == np.iinfo(np.int64).max
        for name in ("csa", "known_at", "residual", "outcome", "weight", "code", "scale"):
            np.testing.assert_array_equal(getattr(rows, name), saved[name][counts])
    assert (rows.customer == -1).all()


def test_customers_are_nowhere_in_the_bundle(bundle_folder: Path) -> None:
    assert not [p.name for p in bundle_folder.iterdir() if b"customer-3" in p.read_bytes()]


def test_the_plain_vector_file_names_who_is_there(bundle_folder: Path) -> None:
    bundle = Bundle.open(bundle_folder)
    active = [one for one, there in zip(bundle.roster.ids, bundle.roster.active, strict=True) if there]
    assert json.loads((bundle_folder / "ids.json").read_text()) == active
    vectors = np.load(bundle_folder / "vectors.npy", allow_pickle=False)
    assert vectors.shape == (len(active), bundle.manifest.reduced["width"])
