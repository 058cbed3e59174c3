"""The manifest: what a bundle says of itself, and the name its content gives it.

Notable: `id` is the SHA-256 of the manifest without it, and the manifest holds the SHA-256 of every file, so one
digest pins the whole bundle. It holds no time of writing, no path and no host: the same run gives the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from twotower.errors import BundleError
from twotower.files import sha256_file

FORMAT = 4
# Of a file: no folder, nothing hidden, and no letters that file systems write in several ways.
PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,126}")
NAME = "manifest.json"
# What a router cannot do without. Further files are allowed and checked when the manifest lists them.
REQUIRED = (
    "contact_tower.onnx",
    "csa_tower.onnx",
    "tokenizer.json",
    "features.json",
    "calibration.json",
    "profiles.faiss",
    "roster.parquet",
    "csas.parquet",
    "standins.npz",
    "history.faiss",
    "history.parquet",
    "features.state",
)
OF_CONTACTS = ("contact_tower.onnx", "tokenizer.json", "features.json")  # what a contact's vectors follow from


@dataclass(frozen=True)
class Manifest:
    """The content of `manifest.json`; every field holds plain JSON values.

    `format`: version of the bundle's layout. `versions`: of this project and of the libraries that wrote the files.
    `features`: `schema` (version) and `digest` of `features.json`. `ranks`: `default`, `available` and `calibrated`
    (whether `p_resolved` is a probability). `model`: facts of the towers (widths, backbone, `max_tokens`). `history`:
    `per_csa` rows remembered, `granularity_s` of CSA feature snapshots, `staleness_rate` of the history index.
    `window`: `from` and `until` of the data, µs UTC. `metrics`: measured by the run. `indexes`: structure, effort and
    measured recall of `profiles.faiss` and `history.faiss`. `quantisation`: what was asked, the gate's figures and what
    was kept. `reduced`: for routers in other languages, the name of the graph that takes texts or why there is none,
    what `vectors.npy` holds, and what ranking by these two alone loses. `files`: `sha256` and `bytes` by name.
    """

    format: int
    versions: dict[str, str]
    features: dict[str, Any]
    ranks: dict[str, Any]
    model: dict[str, Any]
    history: dict[str, Any]
    window: dict[str, Any]
    metrics: dict[str, Any]
    indexes: dict[str, Any]
    quantisation: dict[str, Any]
    reduced: dict[str, Any]
    files: dict[str, dict[str, Any]]

    @property
    def id(self) -> str:
        """SHA-256 in hexadecimal over the canonical JSON of all fields."""
        canonical = json.dumps(asdict(self), sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
        return hashlib.sha256(canonical.encode("ascii")).hexdigest()

    def reads_like(self, other: Manifest) -> bool:
        """Whether contacts have the same vectors in both bundles."""
        return all(self.files[name] == other.files[name] for name in OF_CONTACTS)

    def write(self, folder: Path) -> None:
        """Write `manifest.json` with its `id`."""
        text = json.dumps({"id": self.id, **asdict(self)}, indent=1, sort_keys=True, allow_nan=False)
        (folder / NAME).write_text(text + "\n", encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """Read and check `manifest.json`; BundleError where it is absent, damaged, changed or of another format."""
        path = folder / NAME
        if not path.is_file():
            raise BundleError(f"{folder}: not a bundle (no {NAME}); name a folder that `twotower export` wrote")
        try:
            data = json.loads(path.read_bytes(), object_pairs_hook=_distinct)
            claimed = data.pop("id")
            version = data["format"]
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise BundleError(f"{path}: damaged, not a readable manifest; export the bundle again") from None
        if version != FORMAT:
            raise BundleError(f"{path}: bundle format {version!r}, this version reads {FORMAT}; use a matching version")
        if set(data) != {field.name for field in fields(cls)}:
            raise BundleError(f"{path}: damaged, fields missing or unknown; export the bundle again")
        manifest = cls(**data)
        try:
            same = manifest.id == claimed
        except ValueError:  # numbers that JSON does not know
            same = False
        if not same:
            raise BundleError(f"{path}: changed since it was written (its id does not match); export the bundle again")
        return manifest


def describe_files(folder: Path) -> dict[str, dict[str, Any]]:
    """`sha256` and `bytes` of every file of a folder but the manifest, by name."""
    found = sorted(p for p in folder.iterdir() if p.is_file() and p.name != NAME)
    return {p.name: {"sha256": sha256_file(p), "bytes": p.stat().st_size} for p in found}


def verify_files(folder: Path, manifest: Manifest) -> None:
    """Compare every listed file with its size and checksum. Raises BundleError naming the first that differs, and where
    the list names something other than plain files of the folder."""
    check_names(folder, manifest.files)
    if missing := [name for name in REQUIRED if name not in manifest.files]:
        raise BundleError(f"{folder}: its manifest does not list {missing[0]}; export the bundle again")
    inside = folder.resolve()
    for name, facts in sorted(manifest.files.items()):
        path = folder / name
        if not path.is_file():
            raise BundleError(f"{path}: missing from the bundle; copy or export it again")
        if path.is_symlink() and path.resolve().parent != inside:
            raise BundleError(f"{path}: a link to outside of the bundle; do not trust it, or copy the file itself")
        if path.stat().st_size != facts["bytes"] or sha256_file(path) != facts["sha256"]:
            raise BundleError(f"{path}: changed since the bundle was written (checksum); copy or export it again")


def check_names(folder: Path, files: dict[str, dict[str, Any]]) -> None:
    """Raises BundleError where a name is not a plain one of the folder, on whatever file system it comes to lie, or
    what is said of a file is not its size and checksum."""
    if not isinstance(files, dict):
        raise BundleError(f"{folder}: its manifest lists no files; export the bundle again")
    seen = {NAME}
    for name, facts in files.items():
        if not PLAIN.fullmatch(name):
            raise BundleError(f"{folder}: its manifest lists {name!r}, which is not a plain file name; do not trust it")
        if name.lower() in seen:
            raise BundleError(f"{folder}: its manifest lists {name!r} twice, or by another case; do not trust it")
        seen.add(name.lower())
        if not (isinstance(facts, dict) and set(facts) == {"bytes", "sha256"} and isinstance(facts["bytes"], int)):
            raise BundleError(f"{folder}: its manifest does not give size and checksum of {name}; export it again")


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON. Raises ValueError where a key stands twice, as readers differ on which of them counts."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key stands twice")
    return found
