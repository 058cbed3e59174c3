"""The judge of P(resolved): AUC, log loss and calibration on the hand-overs of the test contacts.

Notable: intervals resample contacts, not hand-overs, because the hand-overs of one contact share its difficulty.
*Concordance* looks within a contact that several people tried with different outcomes: how often the one who resolved
it was ranked above one who did not. It needs no probability, so every ranker has it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from evaluation.baselines_rates import Outcomes
from evaluation.ranking import Positions, Ranker, Scores
from twotower.errors import DataError
from twotower.metrics import Bootstrap, Interval, Reliability, auc_of_levels, log_losses, reliability
from twotower.tables.log import Log


@dataclass(frozen=True)
class Judgement:
    """What a ranker said of m hand-overs of the n test contacts at `positions`.

    `contact` i8[m] row of the contact, `outcome` bool[m], `score` f4[m], `p` f4[m] or None where the ranker knows no
    probability, `csa` i8[m] who took it; `outside` hand-overs to no candidate were left out.
    """

    name: str
    positions: Positions
    contact: npt.NDArray[np.int64]
    outcome: npt.NDArray[np.bool_]
    score: npt.NDArray[np.float32]
    p: npt.NDArray[np.float32] | None
    outside: int = 0
    csa: npt.NDArray[np.int64] | None = None

    @property
    def n(self) -> int:
        """Test contacts, those without an outcome included."""
        return len(self.positions)

    def metrics(self, bootstrap: Bootstrap) -> dict[str, Interval | float]:
        """Concordance and, where there are probabilities, AUC, log loss and ECE; intervals over n contacts."""
        found: dict[str, Interval | float] = {"concordance": bootstrap.mean(self.concordance)}
        if self.p is None or not len(self.p):
            return found
        found["auc"] = self._auc(bootstrap)
        found["log loss"] = self._per_handover(log_losses(self.p, self.outcome), bootstrap)
        found["ece"] = self.reliability.error
        return found

    @property
    def reliability(self) -> Reliability:
        """Ten bins of nearly equal count; empty without probabilities."""
        p = np.zeros(0) if self.p is None else self.p
        return reliability(p, self.outcome[: len(p)])

    @property
    def losses(self) -> npt.NDArray[np.float64]:
        """Sum of the log losses over each contact's hand-overs, f8 (n,); zeros without probabilities."""
        each = np.zeros(len(self.contact)) if self.p is None else log_losses(self.p, self.outcome)
        return np.bincount(self.contact, each, minlength=self.n).astype(np.float64)

    @property
    def likelihood(self) -> npt.NDArray[np.float64]:
        """exp(−mean log loss) of each contact's hand-overs: what P gave to the outcomes that came, as a geometric mean,
        within 0..1; f8 (n,), 1 for contacts without an outcome."""
        likelihood: npt.NDArray[np.float64] = np.exp(-self.losses / np.maximum(self.counts, 1))
        return likelihood

    @property
    def counts(self) -> npt.NDArray[np.int64]:
        """Hand-overs of each contact, i8 (n,)."""
        return np.bincount(self.contact, minlength=self.n)

    @property
    def concordance(self) -> npt.NDArray[np.float64]:
        """Per contact, P(a hand-over that resolved it scores above one that did not), ties half; NaN where the
        outcomes of a contact are all alike; f8 (n,)."""
        out = np.full(self.n, np.nan)
        good = np.bincount(self.contact, self.outcome, minlength=self.n)
        for contact in np.flatnonzero((good > 0) & (good < self.counts)):
            here = slice(*np.searchsorted(self.contact, [contact, contact + 1]))
            score, good_one = self.score[here], self.outcome[here]
            up, down = score[good_one], score[~good_one]
            out[contact] = np.mean((up[:, None] > down) + (up[:, None] == down) / 2)
        return out

    def _auc(self, bootstrap: Bootstrap) -> Interval:
        level = np.unique(np.asarray(self.p), return_inverse=True)[1].reshape(-1)
        return bootstrap.statistic(
            lambda weights: auc_of_levels(level, self.outcome, weights[:, self.contact])[:, None]
        )[0]

    def _per_handover(self, values: npt.NDArray[np.float64], bootstrap: Bootstrap) -> Interval:
        """Mean over hand-overs, resampled by contact."""
        return mean_of_ratio(np.bincount(self.contact, values, minlength=self.n), self.counts, bootstrap)


def mean_of_ratio(total: npt.NDArray[Any], count: npt.NDArray[Any], bootstrap: Bootstrap) -> Interval:
    """Σ total / Σ count over contacts, with its interval."""

    def ratio(weights: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        size = weights @ count.astype(np.float64)
        out = np.full(len(weights), np.nan)
        np.divide(weights @ total, size, out=out, where=size > 0)
        return out[:, None]

    return bootstrap.statistic(ratio)[0]


class Said:
    """Collects, block by block, what a ranker says of the test contacts' hand-overs whose outcome the log tells.

    Hand-overs to people who were no candidates (not eligible, not working) are left out and counted in `outside`.
    """

    def __init__(self, ranker: Ranker, log: Log, positions: Positions, outcomes: Outcomes) -> None:
        self._ranker, self._log, self._positions = ranker, log, positions
        chosen = outcomes.among(positions)
        chosen = chosen[np.argsort(outcomes.contact[chosen], kind="stable")]
        self._row, self._csa = np.searchsorted(positions, outcomes.contact[chosen]), outcomes.csa[chosen]
        self._resolved = outcomes.resolved[chosen]
        self._score, self._p = np.zeros(len(chosen), dtype=np.float32), np.zeros(len(chosen), dtype=np.float32)
        self._inside = np.ones(len(chosen), dtype=np.bool_)
        self._start, self._probable = 0, True

    def hear(self, block: Positions, scores: Scores, candidates: npt.NDArray[np.bool_] | None) -> None:
        """Take the next block: its `scores` (B, J) and, where the ranker has `p_resolved`, its probabilities."""
        low, high = np.searchsorted(self._row, [self._start, self._start + len(block)])
        row, csa = self._row[low:high] - self._start, self._csa[low:high]
        self._start += len(block)
        if high == low:
            return
        self._score[low:high] = scores[row, csa]
        if candidates is not None:
            self._inside[low:high] = candidates[row, csa]
        p = probabilities(self._ranker, self._log, block) if self._probable else None
        self._probable = p is not None
        if p is not None:
            self._p[low:high] = p[row, csa]

    def judgement(self) -> Judgement:
        """What was heard.

        Raises:
            DataError: a probability lies outside 0..1 or is not a number.
        """
        kept = self._inside
        p = self._p[kept] if self._probable else None
        if p is not None and not bool(((p >= 0) & (p <= 1)).all()):
            raise DataError(f"{self._ranker.name}: a probability of being resolved lies outside 0..1")
        return Judgement(
            self._ranker.name,
            self._positions,
            self._row[kept],
            self._resolved[kept],
            self._score[kept],
            p,
            int((~kept).sum()),
            self._csa[kept].astype(np.int64),
        )


def probabilities(ranker: Ranker, log: Log, positions: Positions) -> Scores | None:
    """P(resolved) (B, J) where the ranker knows it; such a ranker has `p_resolved(log, positions)`."""
    ask = getattr(ranker, "p_resolved", None)
    said: Scores | None = None if ask is None else ask(log, positions)
    return said
