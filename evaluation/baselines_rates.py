"""Baselines for P(resolved): how often a CSA's hand-overs were resolved so far, shrunken, overall and within an intent.

Notable: counts are exact as of each contact's arrival (hand-overs known strictly before), for every contact × CSA, by
binary search in sorted keys; nothing is updated in a loop. A CSA without history gets the centre's rate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from evaluation.ranking import Positions, Scores, Split, blocks
from twotower.metrics import log_losses
from twotower.tables.log import Log

Rates = npt.NDArray[np.float64]

PRIORS = (1.0, 3.0, 10.0, 30.0, 100.0)
UNTUNED_PRIOR = 10.0


class Tally:
    """Counts of hand-overs with a known outcome, by group, as of any moment.

    Args:
        group: i8 (M,) >= 0, in known-at order.
        resolved: bool (M,).
    """

    def __init__(self, group: npt.NDArray[np.int64], resolved: npt.NDArray[np.bool_]) -> None:
        self._size = len(group)
        order = np.argsort(group, kind="stable")
        self._key = group[order] * (self._size + 1) + order
        self._good = np.concatenate([[0], np.cumsum(resolved[order])])

    def at(self, group: npt.NDArray[np.int64], known: npt.NDArray[np.int64]) -> tuple[Rates, Rates]:
        """Resolved ones and all among the first `known` hand-overs, for groups of the same (broadcast) shape."""
        base = group * (self._size + 1)
        start = np.searchsorted(self._key, base)
        stop = np.searchsorted(self._key, base + known)
        return (self._good[stop] - self._good[start]).astype(np.float64), (stop - start).astype(np.float64)


class Outcomes:
    """The hand-overs of a log whose outcome is known at some time, tallied by centre, CSA, intent, and CSA × intent."""

    def __init__(self, log: Log) -> None:
        self.log = log
        told = np.flatnonzero(log.handovers.resolved >= 0)
        self.known_at = log.handovers.known_at[told]
        self.contact = log.handovers.contact[told].astype(np.int64)
        self.csa = log.handovers.csa[told].astype(np.int64)
        self.resolved = log.handovers.resolved[told] == 1
        codes = log.contacts.intent.dictionary_encode(null_encoding="encode").indices
        self.intent = codes.to_numpy(zero_copy_only=False).astype(np.int64)

    @property
    def has_failures(self) -> bool:
        """Whether anything was learnt from outcomes: some were resolved and some were not."""
        return bool(self.resolved.any() and not self.resolved.all())

    def among(self, positions: Positions) -> npt.NDArray[np.int64]:
        """Indices of the hand-overs whose contact is at one of the (ascending) positions."""
        return np.flatnonzero(np.isin(self.contact, positions))

    @cached_property
    def _tallies(self) -> dict[str, Tally]:
        intent, width = self.intent[self.contact], len(self.log.csas)
        groups = {
            "centre": np.zeros_like(self.csa),
            "csa": self.csa,
            "intent": intent,
            "csa × intent": intent * width + self.csa,
        }
        return {name: Tally(group, self.resolved) for name, group in groups.items()}

    def rate(self, positions: Positions, by: str, prior: float) -> Rates:
        """Shrunken rates as of each contact, float64 (B, J).

        With s of n resolved, the centre's rate is m = (s + 1) / (n + 2), a CSA's (s + κm) / (n + κ). Within an intent,
        the CSA's rate there is shrunken towards σ(logit csa + logit intent − logit m).

        Args:
            positions: (B,) contacts.
            by: `centre`, `csa` or `csa × intent`.
            prior: κ > 0, hand-overs that the prior is worth.
        """
        width = len(self.log.csas)
        known = np.searchsorted(self.known_at, self.log.contacts.arrived_at[positions], side="left")[:, None]
        intent, everyone = self.intent[positions][:, None], np.arange(width)[None]
        good, all_ = self._tallies["centre"].at(np.zeros_like(known), known)
        centre = (good + 1) / (all_ + 2)
        if by == "centre":
            return np.broadcast_to(centre, (len(positions), width))
        csa = _shrunken(self._tallies["csa"].at(everyone, known), centre, prior)
        if by == "csa":
            return csa
        topic = _shrunken(self._tallies["intent"].at(intent, known), centre, prior)
        expected = 1 / (1 + np.exp(-(_logit(csa) + _logit(topic) - _logit(centre))))
        return _shrunken(self._tallies["csa × intent"].at(intent * width + everyone, known), expected, prior)


def _shrunken(counts: tuple[Rates, Rates], towards: Rates, prior: float) -> Rates:
    good, all_ = counts
    rate: Rates = (good + prior * towards) / (all_ + prior)
    return rate


def _logit(p: Rates) -> Rates:
    clipped = np.clip(p, 1e-6, 1 - 1e-6)
    logit: Rates = np.log(clipped) - np.log1p(-clipped)
    return logit


@dataclass(frozen=True)
class RateBaseline:
    """A CSA's shrunken rate as a ranker; `validation` is the log loss that chose its prior, NaN where nothing could."""

    name: str
    outcomes: Outcomes
    by: str
    prior: float
    validation: float = float("nan")

    def scores(self, log: Log, positions: Positions) -> Scores:
        """Float32 (B, J): the rates themselves."""
        return self.p_resolved(log, positions)

    def p_resolved(self, log: Log, positions: Positions) -> Scores:
        """Float32 (B, J)."""
        return self.outcomes.rate(positions, self.by, self.prior).astype(np.float32)

    def as_json(self) -> dict[str, object]:
        """What was chosen, for the report."""
        return {"by": self.by, "prior": self.prior, "validation log loss": self.validation}


FAMILIES = {"centre's rate": "centre", "CSA's rate": "csa", "CSA's rate in intent": "csa × intent"}


def tune_rates(outcomes: Outcomes, split: Split) -> list[RateBaseline]:
    """Choose each family's prior by the log loss of the validation contacts' hand-overs; one baseline per family."""
    asked = outcomes.among(split.validation)
    out = []
    for name, by in FAMILIES.items():
        if not len(asked):
            out.append(RateBaseline(name, outcomes, by, UNTUNED_PRIOR))
            continue
        grid = PRIORS if by != "centre" else (1.0,)
        losses = {prior: _loss(outcomes, asked, by, prior) for prior in grid}
        prior = min(losses, key=lambda prior: losses[prior])
        out.append(RateBaseline(name, outcomes, by, prior, losses[prior]))
    return out


def _loss(outcomes: Outcomes, asked: npt.NDArray[np.int64], by: str, prior: float) -> float:
    """Mean log loss of the hand-overs `asked`."""
    total = 0.0
    order = asked[np.argsort(outcomes.contact[asked], kind="stable")]
    contacts, row = np.unique(outcomes.contact[order], return_inverse=True)
    start = 0
    for block in blocks(contacts, len(outcomes.log.csas)):
        inside = (row >= start) & (row < start + len(block))
        rates = outcomes.rate(block, by, prior)[row[inside] - start, outcomes.csa[order[inside]]]
        total += float(log_losses(rates, outcomes.resolved[order[inside]]).sum())
        start += len(block)
    return total / len(asked)


def best_rate(baselines: Sequence[RateBaseline]) -> RateBaseline:
    """The rate with the least validation log loss; the last family where none was tuned."""
    return min(
        reversed(baselines), key=lambda baseline: np.inf if np.isnan(baseline.validation) else baseline.validation
    )
