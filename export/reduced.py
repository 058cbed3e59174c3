"""The reduced mode: a router without this program ranks by one matrix product, and the bundle says what that loses.

Notable: `vectors.npy` holds either the profile vectors or the linear stand-in for the whole score, which knows of each
CSA's history as well (`twotower/scoring/standin.py`); both are measured on the run's late contacts, and the one that
ranks more like the full score is written: where kernels are sharp, the stand-in is a poor ranking by itself. It is
frozen, so it is measured as of the first of these contacts, while the full score beside it follows the history.
Outcomes of these contacts have been seen by a run that was fitted again on everything, so what is kept is told by the
full score's own belief first. It is told for the text alone, and for the text with the labels that the graph takes.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from export.quantise import Judge, encode_probe, metric, overlap
from export.run import Probe, Run
from twotower.bundle.tables import Roster
from twotower.scoring.standin import KINDS, csa_vectors, surrogate_queries
from twotower.text.tokens import Tokenizer

Floats = npt.NDArray[np.float32]
PROVED_ON = 64  # texts of the probe that the graph is proven on


def write_reduced(run: Run, roster: Roster, judge: Judge | None, folder: Path) -> dict[str, Any]:
    """Write `vectors.npy`, `ids.json` and, where that can be, `contact_tower_text.onnx`; the manifest's `reduced`.

    Raises ExportError where the graph does not say what the router's encoder says.
    """
    facts = _measure(run, judge, folder)
    active = np.flatnonzero(roster.active)
    moment = int(run.facts["window"]["until"])
    vectors = csa_vectors(run.join, roster.vectors, run.history, facts["vectors"], moment)[active]
    with (folder / "vectors.npy").open("wb") as file:
        np.save(file, np.ascontiguousarray(vectors), allow_pickle=False)
    ids = [roster.ids[i] for i in active]
    (folder / "ids.json").write_text(json.dumps(ids, indent=0) + "\n", encoding="utf-8")
    return {"graph": _graph(run, folder), "csas": len(ids), "width": vectors.shape[1], **facts}


def _graph(run: Run, folder: Path) -> str:
    """Write the graph that takes texts; its name, or why there is none."""
    from export.text_graph import Unsupported
    from export.text_tower import FILE, available, write_text_tower

    if not available():
        return "left out: onnxruntime-extensions is not installed where this was exported (extra [train])"
    tokenizer = Tokenizer.load(folder / "tokenizer.json", run.schema.max_tokens)
    try:
        write_text_tower(folder, tokenizer, run.schema, _texts(run.probe, tokenizer))
    except Unsupported as reason:
        return f"left out: {reason}"
    return FILE


def _texts(probe: Probe | None, tokenizer: Tokenizer) -> list[str]:
    """Texts of the first contacts of the probe, as far as their tokens tell them."""
    return [] if probe is None else [tokenizer.decode(row) for row in probe.tokens[:PROVED_ON]]


def _measure(run: Run, judge: Judge | None, folder: Path) -> dict[str, Any]:
    """Which vectors rank more like the full score, and what is lost: by the score's own belief, and by outcomes."""
    if judge is None or not len(judge.probe):
        return {"vectors": "profile", "measured": "not: the run keeps no contacts to measure on"}
    rank, probe, path = run.join.default, judge.probe, folder / "contact_tower.onnx"
    full = judge.scores(encode_probe(path, probe), rank)
    name, best = metric(judge, full, rank)
    began, weights = int(probe.arrived_at.min()), run.join.ranks[rank]
    tables = {kind: csa_vectors(run.join, judge.vectors, run.history, kind, began) for kind in KINDS}
    worth: dict[str, dict[str, dict[str, float]]] = {kind: {} for kind in KINDS}
    for known in ("text", "labels"):
        contacts = encode_probe(path, _knowing(probe, run, known == "labels"))
        for kind, vectors in tables.items():
            scores = surrogate_queries(contacts) @ vectors.T + weights.level * contacts.level[:, None]
            figures = {"kept": kept(full, scores), "top10_overlap": overlap(full, scores)}
            worth[kind][known] = {k: round(v, 4) for k, v in {**figures, name: metric(judge, scores, rank)[1]}.items()}
    kind = max(KINDS, key=lambda one: worth[one]["text"]["kept"])
    others = {f"with_{one}": worth[one] for one in KINDS if one != kind}
    return {"vectors": kind, "contacts": len(probe), "full": {name: round(best, 4)}, **worth[kind], **others}


def kept(full: Floats, scores: Floats) -> float:
    """Which share of what the first choices by `full` (N, J) gain over a mean choice those by `scores` (N, J) gain, by
    `full` itself; 1 where there is nothing to gain."""
    mean, best = full.mean(dtype=np.float64), full.max(axis=1).mean(dtype=np.float64)
    found = full[np.arange(len(full)), scores.argmax(axis=1)].mean(dtype=np.float64)
    return float((found - mean) / (best - mean)) if best > mean else 1.0


def _knowing(probe: Probe, run: Run, labels: bool) -> Probe:
    """The probe's contacts with no more known than their text, or their text and labels."""
    held = run.schema.neutral(len(probe))
    return replace(probe, numbers=held["numbers"], **({} if labels else {"categories": held["categories"]}))
