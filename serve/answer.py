"""What a match answers: candidates with their scores, and the parts that set each apart."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from serve.snapshot import Snapshot
from twotower.scoring.join import Scored
from twotower.scoring.outcomes import Expected, expected_of

REASONS = 3
# Parts below this share of the whole explain nothing.
LEAST_SHARE = 0.01


@dataclass(frozen=True)
class Reason:
    """One part of a score: `part` its name, `effect` how much it raises (or lowers) this CSA above the mean of the
    candidates, in score units, `share` the effect's share of all parts' absolute effects (−1 … 1)."""

    part: str
    effect: float
    share: float


@dataclass(frozen=True)
class Candidate:
    """A CSA for a contact: the joint `score` (larger is better; comparable within one contact), `p_resolved` (None
    where the log had no failures), `uncertainty`, the posterior standard deviation of the logit of `p_resolved`, as
    calibrated (None likewise), the parts that set it apart, strongest first, what is `expected` of the hand-over, and
    `logit`, the joint logit of success before calibration (None likewise): it orders those whom an isotonic map gives
    the same `p_resolved`. Under rank `success` it is the score; under a utility `score` is U and the parts are its
    weighted outcomes."""

    csa_id: str
    score: float
    p_resolved: float | None
    uncertainty: float | None
    reasons: tuple[Reason, ...]
    expected: Expected = field(default_factory=Expected)
    logit: float | None = None


@dataclass(frozen=True)
class Ranked:
    """The best k of one contact's candidates: codes i8[k], where they stand in what was scored, the posterior standard
    deviations of the logits of P(resolved), `uncertainty` f4[k] or None, and `expected` outcomes f4[k, T], NaN where no
    head is."""

    codes: npt.NDArray[np.int64]
    places: npt.NDArray[np.int64]
    scored: Scored
    uncertainty: npt.NDArray[np.float32] | None
    expected: npt.NDArray[np.float32]

    @property
    def score(self) -> npt.NDArray[np.float32]:
        """Scores f4[k], best first."""
        return self.scored.score[self.places]

    @property
    def p_resolved(self) -> npt.NDArray[np.float32] | None:
        """P(resolved) f4[k] or None."""
        return None if self.scored.p_resolved is None else self.scored.p_resolved[self.places]

    @property
    def logit(self) -> npt.NDArray[np.float32] | None:
        """Joint logits of success f4[k], before calibration, or None."""
        return None if self.scored.logit is None else self.scored.logit[self.places]


def as_candidates(snapshot: Snapshot, ranked: Ranked) -> list[Candidate]:
    """The best k of one contact, best first."""
    reasons, found = explain(ranked), []
    for i, (code, score) in enumerate(zip(ranked.codes, ranked.score, strict=True)):
        p, uncertainty, logit = (_at(values, i) for values in (ranked.p_resolved, ranked.uncertainty, ranked.logit))
        expected = expected_of(p, ranked.expected[i])
        found.append(Candidate(snapshot.ids[code], float(score), p, uncertainty, reasons[i], expected, logit))
    return found


def _at(values: npt.NDArray[np.float32] | None, i: int) -> float | None:
    return None if values is None else float(values[i])


def explain(ranked: Ranked) -> list[tuple[Reason, ...]]:
    """The parts that set each of the best k apart from the mean of the scored candidates, strongest first."""
    parts = ranked.scored.contributions
    if not len(ranked.places):
        return []
    effects = parts[ranked.places] - parts.mean(axis=0)
    whole = np.maximum(np.abs(effects).sum(axis=1, keepdims=True), 1e-12)
    shares = effects / whole
    order = np.argsort(-np.abs(shares), axis=1, kind="stable")[:, :REASONS]
    names = ranked.scored.names
    return [
        tuple(
            Reason(names[j], float(effects[i, j]), float(shares[i, j]))
            for j in order[i]
            if abs(shares[i, j]) >= LEAST_SHARE
        )
        for i in range(len(order))
    ]
