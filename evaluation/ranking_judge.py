"""The judge of any ranker: one pass over the test contacts, ranks and probabilities together.

Notable: each contact is ranked against everybody who could have taken it; contacts that nobody handled have no rank,
and are the caller's to leave out and to count.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from evaluation.baselines_rates import Outcomes
from evaluation.ranking import Positions, Ranker, blocks, candidate_mask, checked, choose, positive_csas
from evaluation.ranking_outcomes import Judgement, Said
from twotower.metrics import HITS, Bootstrap, Interval, hit, rank_positives, reciprocal
from twotower.progress import bar
from twotower.tables.log import Log
from twotower.tables.ragged import Ragged


@dataclass(frozen=True)
class Judged:
    """How a ranker did on n contacts: `first` f8[n] rank of the best positive, `ndcg` f8[n], `top` i4[n] its choice,
    `outcomes` what it said of hand-overs whose outcome the log tells (None where that was not asked)."""

    name: str
    positions: Positions
    first: npt.NDArray[np.float64]
    ndcg: npt.NDArray[np.float64]
    top: npt.NDArray[np.int32]
    outcomes: Judgement | None = None

    def only(self, kept: npt.NDArray[np.bool_]) -> Judged:
        """The contacts where `kept` (n,) holds, for ranking metrics; what was said of outcomes stays whole."""
        chosen = (self.positions[kept], self.first[kept], self.ndcg[kept], self.top[kept])
        return Judged(self.name, *chosen, self.outcomes)

    @property
    def reciprocal(self) -> npt.NDArray[np.float64]:
        """1 / rank cut at 10, whose mean is MRR@10."""
        return reciprocal(self.first)

    def columns(self) -> dict[str, npt.NDArray[np.float64]]:
        """Each metric as one number per contact."""
        hits = {f"hit@{k}": hit(self.first, k) for k in HITS}
        return hits | {"mrr": reciprocal(self.first, None), "mrr@10": self.reciprocal, "ndcg@10": self.ndcg}

    def metrics(self, bootstrap: Bootstrap) -> dict[str, Interval]:
        """Each metric with its interval."""
        columns = self.columns()
        return dict(zip(columns, bootstrap.means(np.stack(list(columns.values()), axis=1)), strict=True))


def judge(
    ranker: Ranker,
    log: Log,
    positions: Positions,
    positives: Ragged | None = None,
    outcomes: Outcomes | None = None,
    seed: int = 0,
) -> Judged:
    """Rank the roster for each contact and look where the people are who handled it.

    Args:
        ranker: what is judged.
        log: a whole log.
        positions: (n,) ascending contacts.
        positives: `positive_csas(log)` if already at hand.
        outcomes: `Outcomes(log)` to judge P(resolved) as well.
        seed: of the draw that decides whom a tie at the top chooses.

    Raises:
        DataError: the ranker's scores have a wrong shape or hold a NaN, or a probability lies outside 0..1.
    """
    positives = positive_csas(log) if positives is None else positives
    width = len(log.csas)
    first, ndcg = np.full(len(positions), np.inf), np.full(len(positions), np.nan)
    top, done = np.zeros(len(positions), dtype=np.int32), 0
    said = None if outcomes is None else Said(ranker, log, positions, outcomes)
    generator = np.random.default_rng(seed)
    with bar(f"ranking: {ranker.name}", len(positions), "contacts") as advance:
        for block in blocks(positions, width):
            scores, candidates = checked(ranker, log, block), candidate_mask(log, block)
            ranked = rank_positives(scores, positives.mask(block, width), candidates)
            here = slice(done, done + len(block))
            first[here], ndcg[here] = ranked.first, ranked.ndcg
            top[here] = choose(scores, candidates, generator)
            if said is not None:
                said.hear(block, scores, candidates)
            done += len(block)
            advance(len(block))
    return Judged(ranker.name, positions, first, ndcg, top, said.judgement() if said is not None else None)
