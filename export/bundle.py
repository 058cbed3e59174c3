"""From a training run to a bundle folder that appears whole or not at all.

Notable: order matters. Graphs first (they prove themselves against torch), then the vectors that the *graphs* give,
so index, roster and router agree to the last bit, then the card, and the manifest over everything at the end.
"""

from __future__ import annotations

import shutil
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from export.card import model_card
from export.quantise import Judge, apply_gate, encode_probe
from export.reduced import write_reduced
from export.run import ExportError, Run
from twotower.bundle.manifest import FORMAT, Manifest, describe_files
from twotower.bundle.sessions import CSA_INPUTS, CSA_OUTPUTS, CsaEncoder, open_session
from twotower.bundle.tables import Roster, write_history, write_roster
from twotower.files import atomic_directory, sha256_file
from twotower.index.build import build_history_index, build_profile_index, write_index
from twotower.index.history import history_queries, history_vectors, staleness_rate
from twotower.index.standins import fit_standins, write_standins
from twotower.index.vectors import VectorIndex
from twotower.scoring.memory import Memory

COPIED = ("tokenizer.json", "features.json", "calibration.json", "features.state", "csas.parquet")
PACKAGES = {"twotower": "twotower-matcher", "torch": "torch", "onnx": "onnx", "faiss": "faiss-cpu"}
# What the manifest records apart; the rest of run.json describes the model.
APART = ("window", "metrics", "history_per_csa")


def export_bundle(run_folder: str | Path, output: str | Path, quantise: bool = False) -> Manifest:
    """Write the bundle of a run to `output`, which must not exist, and return its manifest.

    The same run gives the same bytes. Raises ConfigError for an unfinished run, ExportError where a graph disagrees
    with torch, OutputError where `output` exists; in every case nothing is left under that name.
    """
    run = Run.load(run_folder)
    with atomic_directory(output) as folder:
        write_towers(run, folder, halve=not quantise)
        for name in COPIED:
            shutil.copyfile(run.folder / name, folder / name)
        roster = _roster(run, folder)
        judge = None if run.probe is None else Judge(run.join, _memory(run), roster.vectors, run.probe)
        quantisation: dict[str, Any] = {"asked": "fp32", "kept": "fp32"}
        if quantise:
            quantisation = apply_gate(folder, judge)
        profiles, history = _write_indexes(run, roster, folder)
        reduced = write_reduced(run, roster, judge, folder)
        fields = _fields(run, roster, {"profiles": profiles, "history": history}, quantisation, reduced)
        (folder / "MODEL_CARD.md").write_text(model_card(run, fields), encoding="utf-8")
        manifest = Manifest(**fields, files=describe_files(folder))
        manifest.write(folder)
    return manifest


def write_towers(run: Run, folder: Path, halve: bool) -> None:
    """Both graphs, proven against torch; halve: with tables in half floats, which int8 cannot be made of.

    Raises ExportError where they disagree.
    """
    from export.onnx import export_towers
    from twotower.towers.store import load

    model = load(run.folder)
    features = len(run.schema.csa_numbers)
    if run.features.shape != (len(run.csa_ids), features):
        raise ExportError(f"{run.folder}: csas.npz is {run.features.shape}, expected ({len(run.csa_ids)}, {features})")
    export_towers(model, run.schema, folder, halve)


def _roster(run: Run, folder: Path) -> Roster:
    """Profile vectors by the exported graph; `roster.parquet`."""
    encoder = CsaEncoder(open_session(folder / "csa_tower.onnx", CSA_INPUTS, CSA_OUTPUTS))
    given = run.features, run.identity
    vectors, own = encoder.encode(*given)
    roster = Roster(run.csa_ids, vectors, encoder.spread(*given), own, *given, run.active)
    write_roster(roster, folder / "roster.parquet")
    return roster


def _memory(run: Run) -> Memory:
    return Memory(run.history, len(run.csa_ids))


def _write_indexes(run: Run, roster: Roster, folder: Path) -> tuple[VectorIndex, VectorIndex]:
    """Build both indexes; their recall is measured on the probe's contacts, which no index holds as CSA vectors."""
    queries = None if run.probe is None else encode_probe(folder / "contact_tower.onnx", run.probe)
    none = np.zeros((0, 1), dtype=np.float32)
    profiles = build_profile_index(roster.vectors, none if queries is None else queries.profile)
    until, rate = int(run.facts["window"]["until"]), staleness_rate(run.join)
    asked = none if queries is None else history_queries(queries.memory, run.join.default)
    history = build_history_index(history_vectors(run.history, until, rate), asked)
    write_history(run.history, run.csa_ids, run.contact_ids, folder / "history.parquet")
    write_standins(fit_standins(run.join, roster.vectors, run.history, until), folder / "standins.npz")
    write_index(profiles, folder / "profiles.faiss")
    write_index(history, folder / "history.faiss")
    return profiles, history


def _fields(
    run: Run,
    roster: Roster,
    indexes: dict[str, VectorIndex],
    quantisation: dict[str, Any],
    reduced: dict[str, Any],
) -> dict[str, Any]:
    """The manifest's fields but `files`."""
    facts = run.facts
    return {
        "format": FORMAT,
        "versions": {name: _version(package) for name, package in PACKAGES.items()},
        "features": {"schema": run.schema.version, "digest": sha256_file(run.folder / "features.json")},
        "ranks": {
            "default": run.join.default,
            "available": sorted(run.join.ranks),
            "calibrated": run.join.calibrated,
        },
        "model": {**{k: v for k, v in facts.items() if k not in APART}, "profile_width": roster.vectors.shape[1]},
        "history": {
            "per_csa": int(facts["history_per_csa"]),
            "granularity_s": run.schema.granularity_us / 1e6,
            "rows": len(run.history),
            "staleness_rate": staleness_rate(run.join),
        },
        "window": facts["window"],
        "metrics": facts.get("metrics", {}),
        "indexes": {name: index.choice.to_json() for name, index in indexes.items()},
        "quantisation": quantisation,
        "reduced": reduced,
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"
