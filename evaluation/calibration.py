"""Is P(resolved) right, overall and in every band of queue, language and the CSA's tenure?

Notable: a small band looks miscalibrated by chance alone, since shares in bins scatter about their mean. So beside each
expected calibration error stands what a perfectly calibrated model would show in the same bins, *by chance*
(E|N(0, s²)| = s √(2/π), s² = Σ p (1 − p) / count²); compare Kumar, Liang and Ma, "Verified uncertainty calibration",
NeurIPS 2019. Where the truth is known, probabilities stand in for outcomes and nothing is left to chance.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from evaluation.truth import Truth
from twotower.clock import DAY, NULL_TIME
from twotower.metrics import reliability
from twotower.tables.log import Log

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Names = npt.NDArray[np.object_]

LEAST = 200
"""Pairs of a band; smaller ones are put together as `OTHERS`."""
BINS = 10
NONE, OTHERS = "(none)", "(others)"
TENURE_DAYS = (90, 365, 1095)
TENURES = ("below 90 days", "90 days to a year", "one to three years", "three years or more")
CHANCES = 4.0
"""Standard errors behind which no band is called wrong; some dozens are looked at."""


@dataclass(frozen=True)
class Band:
    """Pairs with one value of one property: how many, mean P and mean outcome, expected calibration error over ten
    bins of nearly equal count, and what chance alone would make of it."""

    kind: str
    value: str
    pairs: int
    predicted: float
    observed: float
    error: float
    chance: float


def bands(p: Floats, outcome: Floats, properties: dict[str, Names], known: bool = False) -> list[Band]:
    """The whole, then every band.

    p (n,) and outcomes (n,) of pairs; properties: of each pair, by name, values (n,); known: outcomes are true
    probabilities, which nothing scatters about.
    """
    found = [_band("all", "all", p, outcome, known)]
    for kind, values in properties.items():
        for value, member in _members(values):
            found.append(_band(kind, value, p[member], outcome[member], known))
    return found


def _members(values: Names) -> Iterator[tuple[str, npt.NDArray[np.bool_]]]:
    names, place, count = np.unique(values.astype(str), return_inverse=True, return_counts=True)
    large = count >= LEAST
    for i in np.flatnonzero(large):
        yield str(names[i]), place == i
    if (count[~large]).sum() >= LEAST:
        yield OTHERS, ~large[place]


def _band(kind: str, value: str, p: Floats, outcome: Floats, known: bool) -> Band:
    bins = reliability(p, outcome, BINS)
    share = bins.predicted * (1 - bins.predicted) / bins.count
    chance = 0.0 if known else float((bins.count * np.sqrt(2 / np.pi * share)).sum() / bins.count.sum())
    return Band(kind, value, len(p), float(p.mean()), float(outcome.mean()), bins.error, chance)


def properties(log: Log, contact: Ints, csa: Ints) -> dict[str, Names]:
    """Queue and language of contacts (n,) of a log, and tenure of the CSAs (n,) when these arrived."""
    contacts, moment = log.contacts, log.contacts.arrived_at[contact]
    named = {
        kind: np.asarray(pc.fill_null(getattr(contacts, kind).take(pa.array(contact)), NONE).to_pylist(), dtype=object)
        for kind in ("queue", "language")
    }
    # The latest dated row says when somebody was hired; rows of one CSA differ in what they declare.
    hired = np.full(len(log.csas), NULL_TIME)
    hired[log.csas.csa] = log.csas.hired_at
    days = (moment - hired[csa]) / DAY
    tenure = np.array(TENURES, dtype=object)[np.searchsorted(TENURE_DAYS, days, side="right")]
    tenure[hired[csa] == NULL_TIME] = NONE
    return {**named, "tenure": tenure}


def against_truth(truth: Truth, log: Log, p: Floats, chosen: npt.NDArray[np.bool_]) -> dict[str, list[Band]]:
    """Bands of all eligible pairs of a generated centre's test contacts, and of those that are `chosen` (pairs,).

    p (pairs,) in the order of the truth's pairs; chosen: first choices, of whom P is too high wherever noise chose.
    """
    place = {name: i for i, name in enumerate(log.contacts.ids.to_pylist())}
    contact = np.array([place[name] for name in truth.latents.contact_id[truth.contact].tolist()])[truth.rows]
    codes = {name: i for i, name in enumerate(log.csas.ids.to_pylist())}
    csa = np.array([codes[name] for name in truth.latents.csa_id.tolist()])[truth.csa]
    found = {}
    for name, kept in (("eligible", np.ones(len(p), np.bool_)), ("first choices", chosen)):
        own = properties(log, contact[kept], csa[kept])
        found[name] = bands(p[kept], truth.p_resolved[kept], own, known=True)
    return found


def worst(found: Sequence[Band]) -> Band:
    """The band, not the whole, of the largest error beyond chance."""
    return max(found[1:], key=lambda band: band.error - band.chance)


def in_words(found: Sequence[Band]) -> list[str]:
    """A line for every band whose mean is off by more than chance can make it."""
    lines = []
    for band in found:
        off = band.observed - band.predicted
        error = np.sqrt(max(band.predicted * (1 - band.predicted), 1e-9) / band.pairs)
        if abs(off) > CHANCES * error:
            side = "high" if off < 0 else "low"
            lines.append(
                f"P(resolved) is {abs(off):.3f} too {side} for {band.kind} {band.value} ({band.pairs:,} pairs)"
            )
    return lines
