"""A bundle with another roster: who joined, changed or left since it was made, and the search built anew.

Notable: nothing is trained and no torch is needed. Who joined, and of whom something else is declared, is read by the
bundle's own features and CSA tower, by the same code that a running matcher uses for a roster change; everyone else
stays to the bit, past hand-overs and all. Who left stays, inactive, so that they may come back. The search's recall is
measured on what CSAs' own texts look like to the contact tower, as a bundle holds no contacts; an index is never made
to look less far than the one before. The same bundle, file and moment give the same bytes.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from serve.matcher import Matcher
from serve.roster.changes import Change, Join, Leave
from serve.roster.declared import Declared, csas_table
from serve.searches import as_deep
from serve.watch import MOST_GONE, roster_changes
from twotower.bundle.bundle import Bundle
from twotower.bundle.manifest import Manifest, describe_files
from twotower.bundle.tables import Floats, Roster, write_roster
from twotower.clock import format_time
from twotower.features.engine.csa import CsaHistory
from twotower.features.engine.store import save_csas
from twotower.files import atomic_directory, system_errors
from twotower.index.build import QUERIES, build_profile_index, write_index
from twotower.index.standins import fit_standins, write_standins
from twotower.index.vectors import VectorIndex
from twotower.scoring.standin import csa_vectors

ANEW = (
    "roster.parquet", "csas.parquet", "features.state", "profiles.faiss", "standins.npz", "vectors.npy", "ids.json",
    "MODEL_CARD.md",
)  # fmt: skip
CARD = "MODEL_CARD.md"


@dataclass(frozen=True)
class Rebuilt:
    """What was done: how many `joined`, of how many something `changed`, how many `left`; `active` and all `csas` now;
    the new bundle's id."""

    joined: int
    changed: int
    left: int
    active: int
    csas: int
    bundle: str


def rebuild(
    bundle_dir: str | Path,
    roster_file: str | Path,
    output: str | Path,
    at: int | None = None,
    expect_digest: str | None = None,
    most_gone: float = MOST_GONE,
) -> Rebuilt:
    """Write a bundle with the roster of a file like `csas.parquet` as of a moment (µs, by default now).

    most_gone: a larger share of leavers is refused. Raises BundleError, DataError for a bad file, OutputError where
    `output` exists; in every case nothing is left under that name.
    """
    bundle = Bundle.open(bundle_dir, expect_digest)
    matcher = Matcher(bundle)
    changes = roster_changes(matcher, roster_file, at, most_gone)
    matcher.update_roster(changes, at)
    roster = matcher.exported()
    declared = _declared(matcher)
    kinds = [sum(isinstance(one, kind) for one in changes) for kind in (Join, Change, Leave)]
    facts = {**dict(zip(("joined", "changed", "left"), kinds, strict=True)), "from": bundle.manifest.id}
    with atomic_directory(output) as folder:
        with system_errors(folder):
            _copy(bundle, folder)
            _write_roster(bundle, roster, declared, folder)
            profiles = as_deep(
                build_profile_index(roster.vectors, _queries(bundle, declared)),
                bundle.index("profiles").choice,
                QUERIES - 1,
            )
            write_index(profiles, folder / "profiles.faiss")
            reduced = _write_reduced(bundle, roster, folder)
            _write_card(bundle, roster, facts, folder)
            manifest = _manifest(bundle, profiles, facts, reduced, folder)
            manifest.write(folder)
        Matcher(Bundle.open(folder)).match({})  # what a router would refuse does not come to exist
    joined, changed, left = kinds
    return Rebuilt(joined, changed, left, int(roster.active.sum()), len(roster), manifest.id)


def _declared(matcher: Matcher) -> dict[str, Declared]:
    ids = list(matcher.snapshot.ids)
    rows = matcher.declared(ids)
    return {row.pop("csa_id"): Declared().changed(row, "roster") for row in rows}


def _copy(bundle: Bundle, folder: Path) -> None:
    for name in bundle.manifest.files:
        if name not in ANEW:
            shutil.copyfile(bundle.path / name, folder / name)


def _write_roster(bundle: Bundle, roster: Roster, declared: dict[str, Declared], folder: Path) -> None:
    write_roster(roster, folder / "roster.parquet")
    table = csas_table(list(declared), list(declared.values())).drop_columns(["valid_from", "left_at", "channels"])
    pq.write_table(table, folder / "csas.parquet")
    saved = bundle.engine
    history = CsaHistory.restored(saved.settings, saved.state())
    history.grow(len(roster))
    save_csas(history, folder / "features.state")
    until = int(bundle.manifest.window["until"])
    write_standins(fit_standins(bundle.join, roster.vectors, bundle.history, until), folder / "standins.npz")


def _write_reduced(bundle: Bundle, roster: Roster, folder: Path) -> dict[str, Any]:
    """The plain vectors for routers in other languages, as the export writes them, where the bundle has them; the
    manifest's `reduced`."""
    facts = bundle.manifest.reduced
    if "vectors.npy" not in bundle.manifest.files:
        return facts
    active, until = np.flatnonzero(roster.active), int(bundle.manifest.window["until"])
    vectors = csa_vectors(bundle.join, roster.vectors, bundle.history, str(facts["vectors"]), until)[active]
    with (folder / "vectors.npy").open("wb") as file:
        np.save(file, np.ascontiguousarray(vectors), allow_pickle=False)
    ids = [roster.ids[code] for code in active]
    (folder / "ids.json").write_text(json.dumps(ids, indent=0) + "\n", encoding="utf-8")
    return {**facts, "csas": len(ids)}


def _queries(bundle: Bundle, declared: dict[str, Declared]) -> Floats:
    """Profile vectors (M, P) of contacts in CSAs' words."""
    texts = {one.profile for one in declared.values()} | {name for one in declared.values() for name, _ in one.skills}
    chosen = sorted(texts - {""})
    chosen = chosen[:: max(1, len(chosen) // QUERIES)][:QUERIES]
    if not chosen:
        return np.zeros((0, 1), np.float32)
    return bundle.contact_encoder.encode({"intent_text": chosen}, quiet=True).profile


def _write_card(bundle: Bundle, roster: Roster, facts: dict[str, Any], folder: Path) -> None:
    if CARD not in bundle.manifest.files:
        return
    text = (bundle.path / CARD).read_text(encoding="utf-8").rstrip("\n")
    until = format_time(int(bundle.manifest.window["until"]))
    text += (
        f"\n\n## Roster rebuilt\n\nFrom bundle `{facts['from']}`: {facts['joined']} CSAs joined, {facts['changed']} "
        f"changed, {facts['left']} left; {int(roster.active.sum())} of {len(roster)} are active. Towers, joint weights "
        f"and past hand-overs are those of the data up to {until}; the figures above were measured with the roster "
        "before.\n"
    )
    (folder / CARD).write_text(text, encoding="utf-8")


def _manifest(
    bundle: Bundle, profiles: VectorIndex, facts: dict[str, Any], reduced: dict[str, Any], folder: Path
) -> Manifest:
    before = bundle.manifest
    fields = {name: value for name, value in asdict(before).items() if name != "files"}
    fields["model"] = {**before.model, "rebuilt": facts}
    fields["reduced"] = reduced
    fields["indexes"] = {**before.indexes, "profiles": profiles.choice.to_json()}
    fields["versions"] = {**before.versions, "faiss": version("faiss-cpu")}
    return Manifest(**fields, files=describe_files(folder))
