"""int8 for the contact tower, behind a gate measured on the exporting host.

Notable: int8 arithmetic differs between CPUs (with and without VNNI), so the decision is made where the graph was made
and its figures are written into the manifest. The gate looks at what a router would notice: the top ten CSAs, the
ranking metric, what histories read of a contact (its base embedding and predicted intent), and the levels of other
outcomes. A graph that misses one of the limits is not kept, and the bundle says so.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from export.run import Probe
from twotower.bundle.sessions import CONTACT_INPUTS, CONTACT_OUTPUTS, open_session
from twotower.progress import track
from twotower.scoring.join import ContactVectors, Join, Rank
from twotower.scoring.memory import Memory

LEAST_OVERLAP = 0.95
MOST_LOSS = 0.01
LEAST_BASE = 0.99  # mean cosine of base embeddings
LEAST_INTENT = 0.97  # share of contacts with the same predicted intent
MOST_OUTCOME = 0.25  # error of an outcome's level, as a share of its deviation over contacts
TOP = 10
BATCH = 32
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Judge:
    """What the gate scores with: the join, the memory and the CSA vectors (J, P) of the bundle in the making."""

    join: Join
    memory: Memory
    vectors: Floats
    probe: Probe

    def scores(self, contacts: ContactVectors, rank: Rank) -> Floats:
        """Joint scores (N, J) of the probe's contacts against the whole roster."""
        everyone = np.arange(len(self.vectors))
        return np.stack(
            [
                self.join.score(rank, contacts.take(np.array([i])), self.memory, everyone, self.vectors).score
                for i in track(range(len(contacts)), "measuring int8")
            ]
        )


def quantise(source: Path, target: Path) -> None:
    """Write the int8 form of a graph: weights quantised, activations at run time."""
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    from export.onnx import strip

    root = logging.getLogger()
    root.addFilter(_no_advice)
    try:
        quantize_dynamic(str(source), str(target), weight_type=QuantType.QInt8, per_channel=False)
    finally:
        root.removeFilter(_no_advice)
    onnx.save(strip(onnx.load(target)), target)


def _no_advice(record: logging.LogRecord) -> bool:
    """Drop the quantiser's advice to pre-process: it is about convolutions."""
    return "pre-processing" not in record.getMessage()


def encode_probe(path: Path, probe: Probe) -> ContactVectors:
    """Vectors of the probe's contacts by the graph at `path`."""
    outputs = run_probe(path, probe)
    strangers = np.full(len(probe), -1, dtype=np.int32)
    profile, memory, level, base = (outputs[name] for name in ("profile", "memory", "level", "base"))
    return ContactVectors(profile, memory, level, base, probe.arrived_at, strangers)


def run_probe(path: Path, probe: Probe) -> dict[str, npt.NDArray[Any]]:
    """Outputs of the graph at `path` for the probe's contacts, by name."""
    session = open_session(path, CONTACT_INPUTS, CONTACT_OUTPUTS)
    parts = []
    for start in range(0, len(probe), BATCH):
        part = slice(start, start + BATCH)
        feeds = dict(
            zip(CONTACT_INPUTS, (probe.tokens[part], probe.categories[part], probe.numbers[part]), strict=True)
        )
        parts.append(session.run(list(CONTACT_OUTPUTS), feeds))
    columns = (np.concatenate(column) for column in zip(*parts, strict=True))
    return dict(zip(CONTACT_OUTPUTS, columns, strict=True))


def apply_gate(folder: Path, judge: Judge | None) -> dict[str, Any]:
    """Quantise `contact_tower.onnx` in place if the gate passes; the figures and the decision, for the manifest."""
    facts: dict[str, Any] = {"asked": "int8", "kept": "fp32", "least_overlap": LEAST_OVERLAP, "most_loss": MOST_LOSS}
    if judge is None or not len(judge.probe):
        return {**facts, "reason": "the run keeps no contacts to measure on"}
    plain, small = folder / "contact_tower.onnx", folder / "contact_tower.int8.onnx"
    quantise(plain, small)
    rank = judge.join.default
    before, after = (judge.scores(encode_probe(path, judge.probe), rank) for path in (plain, small))
    facts |= {"contacts": len(judge.probe), "top10_overlap": round(overlap(before, after), 4)}
    name, worth = metric(judge, before, rank)
    facts |= {"metric": name, "fp32": round(worth, 4), "int8": round(metric(judge, after, rank)[1], 4)}
    loss = 1 - facts["int8"] / facts["fp32"] if facts["fp32"] > 0 else 0.0
    facts |= told_alike(*(run_probe(path, judge.probe) for path in (plain, small)))
    if facts["top10_overlap"] < LEAST_OVERLAP:
        small.unlink()
        return {**facts, "reason": f"top-10 overlap {facts['top10_overlap']} is below {LEAST_OVERLAP}"}
    if loss > MOST_LOSS:
        small.unlink()
        return {**facts, "reason": f"{name} falls by {loss:.1%}, more than {MOST_LOSS:.0%}"}
    if facts["base_cosine"] < LEAST_BASE or facts["same_intent"] < LEAST_INTENT:
        small.unlink()
        reason = f"base embeddings agree by {facts['base_cosine']}, predicted intents by {facts['same_intent']}"
        return {**facts, "reason": f"{reason}: {LEAST_BASE} and {LEAST_INTENT} are the least"}
    if facts["outcome_error"] > MOST_OUTCOME:
        small.unlink()
        reason = f"an outcome's level is off by {facts['outcome_error']} deviations, {MOST_OUTCOME} are the most"
        return {**facts, "reason": reason}
    small.replace(plain)
    return {**facts, "kept": "int8", "reason": "all limits are kept"}


def told_alike(before: dict[str, npt.NDArray[Any]], after: dict[str, npt.NDArray[Any]]) -> dict[str, float]:
    """How alike two graphs tell of contacts what histories read: mean cosine of `base`, share of equal `intent`.

    `outcome_error`: the largest root mean square error of an outcome's level over its deviation.
    """
    cosine = float((before["base"] * after["base"]).sum(axis=1).mean())
    spread = before["outcomes"].std(axis=0)
    off = np.sqrt(np.square(after["outcomes"] - before["outcomes"]).mean(axis=0))
    error = np.divide(off, spread, out=np.zeros_like(off), where=spread > 0)
    return {
        "base_cosine": round(cosine, 4),
        "same_intent": round(float((before["intent"] == after["intent"]).mean()), 4),
        "outcome_error": round(float(error.max()), 4),
    }


def overlap(before: Floats, after: Floats) -> float:
    """Mean share of the ten best columns (of fewer, where there are fewer) that two score matrices (N, J) share."""
    k = min(TOP, before.shape[1])
    first, second = (np.argsort(-s, axis=1, kind="stable")[:, :k] for s in (before, after))
    return float(np.mean([len(np.intersect1d(a, b)) / k for a, b in zip(first, second, strict=True)]))


def metric(judge: Judge, scores: Floats, rank: Rank) -> tuple[str, float]:
    """The ranking metric of scores (N, J): area under the ROC curve of outcomes for `success` where the probe holds
    both outcomes, else the mean reciprocal rank of who took the contact."""
    taken = scores[np.arange(len(scores)), judge.probe.csa]
    good, bad = taken[judge.probe.resolved == 1], taken[judge.probe.resolved == 0]
    if rank == "success" and len(good) and len(bad):
        wins = (good[:, None] > bad[None, :]).mean() + 0.5 * (good[:, None] == bad[None, :]).mean()
        return "auc", float(wins)
    ahead = (scores > taken[:, None]).sum(axis=1)
    return "mrr", float(np.mean(1 / (1 + ahead)))
