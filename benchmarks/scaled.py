"""A bundle's towers under a roster of any size: what a large centre would serve, without years of its log.

Notable: CSAs are drawn from those of a trained bundle, each with a little noise on what they are read by, and encoded
by its CSA tower; what they remember is drawn from the bundle's memory, most of it from one CSA's, and turned a little,
so that near and almost as near neighbours are as frequent as in the bundle. Scores, graphs, indexes and files are those
of a bundle that was exported; what such a roster is good at nobody measured, and no figure of quality comes from it.
"""

from __future__ import annotations

import shutil
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from serve.roster.declared import csas_table, declared_of
from twotower.bundle.bundle import Bundle
from twotower.bundle.manifest import Manifest, describe_files
from twotower.bundle.tables import Floats, Roster, write_history, write_roster
from twotower.clock import DAY
from twotower.features.engine.csa import CsaHistory
from twotower.features.engine.store import save_csas
from twotower.files import atomic_directory
from twotower.index.build import build_history_index, build_profile_index, write_index
from twotower.index.history import history_queries, history_vectors
from twotower.index.standins import fit_standins, write_standins
from twotower.scoring.join import ContactVectors
from twotower.scoring.rows import HistoryRows, quantised

Codes = npt.NDArray[np.int64]
COPIED = ("contact_tower.onnx", "csa_tower.onnx", "tokenizer.json", "features.json", "calibration.json")
NOISE = 0.3  # of features, in their own deviations
TURN = 0.3  # of a memory vector, in lengths
OWN = 0.8  # of a CSA's memory that is drawn from one CSA's


def scaled_bundle(bundle: Bundle, csas: int, per_csa: int, asked: ContactVectors, output: Path, seed: int = 0) -> Path:
    """Write a bundle of `csas` CSAs with about `per_csa` remembered hand-overs each, at most as many as the bundle
    allows; asked: contacts by which indexes are tuned."""
    rng = np.random.default_rng(seed)
    whose = rng.integers(0, len(bundle.roster), csas)
    ids = tuple(f"csa-{code:07}" for code in range(csas))
    with atomic_directory(output) as folder:
        for name in COPIED:
            shutil.copyfile(bundle.file(name), folder / name)
        roster = scaled_roster(bundle, ids, whose, rng)
        rows = scaled_history(bundle, whose, per_csa, rng)
        write_roster(roster, folder / "roster.parquet")
        names = list(declared_of(bundle.declared).values())
        pq.write_table(csas_table(ids, [names[code % len(names)] for code in whose]), folder / "csas.parquet")
        write_history(rows, ids, pa.array([f"contact-{i}" for i in range(len(rows))]), folder / "history.parquet")
        history = CsaHistory(bundle.engine.settings, csas, int(bundle.manifest.window["until"]))
        save_csas(history, folder / "features.state")
        indexes = write_indexes(bundle, roster, rows, asked, folder)
        fields = {k: v for k, v in asdict(bundle.manifest).items() if k not in ("files", "indexes")}
        fields["history"] = {**fields["history"], "rows": len(rows)}
        (folder / "MODEL_CARD.md").write_text("A roster scaled for measuring speed.\n", encoding="utf-8")
        Manifest(**fields, indexes=indexes, files=describe_files(folder)).write(folder)
    return output


def scaled_roster(bundle: Bundle, ids: tuple[str, ...], whose: Codes, rng: np.random.Generator) -> Roster:
    """CSAs like those at `whose` of a bundle."""
    features = bundle.roster.features
    noise = NOISE * features.std(axis=0) * rng.standard_normal((len(ids), features.shape[1]))
    moved = (features[whose] + noise).astype(np.float32)
    identity = bundle.roster.identity[whose]
    vectors, own = bundle.csa_encoder.encode(moved, identity)
    spread = bundle.roster.spread.take(whose)
    return Roster(ids, vectors, spread, own, moved, identity, np.ones(len(ids), np.bool_))


def scaled_history(bundle: Bundle, whose: Codes, per_csa: int, rng: np.random.Generator) -> HistoryRows:
    """Hand-overs that CSAs like those at `whose` remember, sorted as a bundle's."""
    rows, most = bundle.history, int(bundle.manifest.history["per_csa"])
    counts = np.minimum(rng.integers(per_csa // 2, per_csa * 3 // 2 + 1, len(whose)), most)
    owner = np.repeat(np.arange(len(whose)), counts)
    starts = np.searchsorted(rows.csa, np.arange(len(bundle.roster) + 1))
    begin, length = starts[whose[owner]], np.diff(starts)[whose[owner]]
    own = (rng.random(len(owner)) < OWN) & (length > 0)
    of_own = begin + (rng.random(len(owner)) * length).astype(np.int64)
    drawn = np.where(own, of_own, rng.integers(0, len(rows), len(owner)))
    known = rows.known_at[drawn] - rng.integers(0, DAY, len(owner))
    order = np.lexsort((known, owner))
    found = rows.take(drawn[order])
    vectors = turned(found.vectors(), rng)
    code, scale = quantised(vectors)
    moved = {"code": code, "scale": scale, "csa": owner.astype(np.int32), "known_at": known[order]}
    return replace(found, **moved, contact=np.arange(len(owner)))


def turned(vectors: Floats, rng: np.random.Generator) -> Floats:
    """Unit vectors near unit vectors."""
    scale = TURN * vectors.std(axis=0)
    moved = vectors + scale * rng.standard_normal(vectors.shape).astype(np.float32)
    return np.asarray(moved / np.linalg.norm(moved, axis=1, keepdims=True), np.float32)


def write_indexes(
    bundle: Bundle, roster: Roster, rows: HistoryRows, asked: ContactVectors, folder: Path
) -> dict[str, dict[str, object]]:
    """Both indexes, as an export writes them; their choices."""
    until, rate = int(bundle.manifest.window["until"]), float(bundle.manifest.history["staleness_rate"])
    queries = history_queries(asked.memory, bundle.join.default)
    profiles = build_profile_index(roster.vectors, asked.profile)
    history = build_history_index(history_vectors(rows, until, rate), queries)
    write_standins(fit_standins(bundle.join, roster.vectors, rows, until), folder / "standins.npz")
    write_index(profiles, folder / "profiles.faiss")
    write_index(history, folder / "history.faiss")
    return {"profiles": profiles.choice.to_json(), "history": history.choice.to_json()}
