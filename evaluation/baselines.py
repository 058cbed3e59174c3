"""Rolling baselines that any matcher has to be held against: recent popularity, like work, the customer's own history.

Notable: each is one weighted sum of the same three parts, scaled per contact to a greatest value of 1, so that the best
blend is nothing but a choice of three weights, one time scale and one number of neighbours. All are chosen on the tenth
of contacts just before the test, rolled forward as the test is; what is best there need not be best on the test.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from evaluation.baselines_history import NEAREST, History
from evaluation.ranking import Positions, Scores, Split, blocks, candidate_mask, positive_csas
from twotower.metrics import rank_positives, reciprocal
from twotower.progress import bar
from twotower.tables.log import Log

Weights = tuple[float, float, float]
Setting = tuple[str, float, int, Weights]

NEIGHBOURS = (50, NEAREST)
TAUS = (0.01, 0.03, 0.1, 0.3, 1.0)
FAMILIES: dict[str, tuple[Weights, ...]] = {
    "popularity": ((1.0, 0.0, 0.0),),
    "tfidf-knn": ((0.02, 1.0, 0.0),),
    "customer": ((0.02, 0.0, 1.0),),
    "blend": tuple(product((0.02, 0.1, 0.3), (0.2, 0.5, 1.0), (0.0, 0.5, 1.0))),
}
FAINT = np.float32(1e-6)  # evidence below this share of one fresh hand-over is not scaled up: it is as good as none
UNTUNED: dict[str, Weights] = {name: grid[0] for name, grid in FAMILIES.items()} | {"blend": (0.1, 0.5, 1.0)}
UNTUNED_TAU = 0.03
TUNING_CELLS = 20_000_000  # contacts × CSAs at most; more validation contacts are thinned evenly


@dataclass(frozen=True)
class Blend:
    """w₀ popularity + w₁ like work + w₂ own history, each fading with time scale τ; a `Ranker`.

    `tau` is a share of the log's contacts. `validation` is the MRR@10 that chose it, NaN where nothing could.
    """

    name: str
    history: History
    tau: float
    weights: Weights
    neighbours: int = NEIGHBOURS[0]
    validation: float = float("nan")

    def scores(self, log: Log, positions: Positions) -> Scores:
        """Float32 (B, J); the log is the one the history was made of."""
        parts = Parts(self.history, positions, self.weights, (self.neighbours,))
        return weigh(parts.at(self.tau, self.neighbours), self.weights)

    def as_json(self) -> dict[str, object]:
        """What was chosen, for the report."""
        chosen: dict[str, object] = {"tau": self.tau, "weights": list(self.weights)}
        if self.weights[1]:
            chosen["neighbours"] = self.neighbours
        return chosen | {"validation mrr@10": self.validation}


class Parts:
    """The three parts for one block of contacts: evidence gathered once, then faded at any τ.

    Parts whose weight in `used` is 0 are not gathered; `neighbours` are the numbers that may be asked for.
    """

    def __init__(self, history: History, positions: Positions, used: Weights, neighbours: Sequence[int]) -> None:
        self.history, self.positions = history, positions
        self.candidates = candidate_mask(history.log, positions)
        widest = history.nearest(positions) if used[1] else None
        self._like = {k: widest and widest.strongest(k) for k in neighbours}
        self._own = history.same_customer(positions) if used[2] else None

    def at(self, tau: float, neighbours: int) -> list[Scores | None]:
        """Popularity, like work and own history, each float32 (B, J) with 1 for the best candidate of a contact."""
        scale, width = tau * len(self.history.log.contacts), len(self.history.log.csas)
        parts: list[Scores | None] = [self._scaled(self.history.popularity(self.positions, scale))]
        for evidence in (self._like[neighbours], self._own):
            summed = None if evidence is None else evidence.summed(self.positions, scale, width)
            parts.append(None if summed is None else self._scaled(summed))
        return parts

    def _scaled(self, part: Scores) -> Scores:
        if self.candidates is not None:
            part = np.where(self.candidates, part, np.float32(0))
        scaled: Scores = part / np.maximum(part.max(axis=1, keepdims=True), FAINT)
        return scaled


def weigh(parts: Sequence[Scores | None], weights: Weights) -> Scores:
    """Σ w · part over the parts that are there; float32 (B, J)."""
    chosen = [np.float32(w) * part for w, part in zip(weights, parts, strict=True) if w and part is not None]
    total: Scores = np.sum(chosen, axis=0, dtype=np.float32)
    return total


def tune(history: History, split: Split) -> list[Blend]:
    """Choose each family's time scale and weights by MRR@10 on the validation contacts.

    Returns:
        One `Blend` per family in the order of `FAMILIES`; untuned ones (`UNTUNED`) where no validation contact was
        handled by anybody.
    """
    log = history.log
    positives = positive_csas(log)
    asked = split.validation[positives.lengths[split.validation] > 0]
    most = max(500, TUNING_CELLS // max(1, len(log.csas)))
    if len(asked) > most:
        asked = asked[np.linspace(0, len(asked) - 1, most).astype(np.int64)]
    if not len(asked):
        return [Blend(name, history, UNTUNED_TAU, UNTUNED[name]) for name in FAMILIES]
    total: dict[Setting, float] = {}
    with bar("tuning baselines", len(asked), "contacts") as advance:
        for block in blocks(asked, len(log.csas)):
            parts = Parts(history, block, (1.0, 1.0, 1.0), NEIGHBOURS)
            mask = positives.mask(block, len(log.csas))
            for setting, scores in _grid(parts):
                reached = reciprocal(rank_positives(scores, mask, parts.candidates).first)
                total[setting] = total.get(setting, 0.0) + float(reached.sum())
            advance(len(block))
    chosen = (max((s for s in total if s[0] == name), key=lambda s: total[s]) for name in FAMILIES)
    return [Blend(s[0], history, s[1], s[3], s[2], total[s] / len(asked)) for s in chosen]


def _grid(parts: Parts) -> Iterator[tuple[Setting, Scores]]:
    """Every setting (family, τ, neighbours, weights) with its scores."""
    for tau, neighbours in product(TAUS, NEIGHBOURS):
        at = parts.at(tau, neighbours)
        for name, grid in FAMILIES.items():
            for weights in grid:
                if weights[1] or neighbours == NEIGHBOURS[0]:
                    yield (name, tau, neighbours, weights), weigh(at, weights)


def best(baselines: Sequence[Blend]) -> Blend:
    """The baseline with the best validation figure; the first of equals, or where none was tuned."""
    return max(baselines, key=lambda baseline: -1.0 if np.isnan(baseline.validation) else baseline.validation)
