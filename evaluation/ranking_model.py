"""A bundle as a ranker: the router's own code, its history rolled forward through the log.

Notable: score and P(resolved) of a contact come from one evaluation of the join; the last block is kept, so that asking
for both costs one pass.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from evaluation.ranking import Positions, Scores
from serve.matcher import Matcher
from serve.rolling import RollingMatcher
from twotower.scoring.join import Rank
from twotower.tables.log import Log


@dataclass
class ModelRanker:
    """A `Ranker` around a `RollingMatcher`; `until` is the end of the bundle's data window, µs UTC."""

    name: str
    rolling: RollingMatcher
    rank: Rank
    until: int
    digest: str = ""
    _last: tuple[bytes, Scores, Scores | None] | None = field(default=None, repr=False)

    @classmethod
    def load(
        cls, bundle: str | Path, log: Log, rank: Rank | None = None, name: str | None = None, digest: str | None = None
    ) -> ModelRanker:
        """Open a bundle beside a log.

        Args:
            bundle: folder.
            log: a whole log.
            rank: what a rank means; None: the bundle's default.
            name: how tables call it; None: the folder's name.
            digest: that the bundle must have; None: any.

        Raises:
            BundleError: the bundle cannot be trusted.
        """
        matcher = Matcher.load(bundle, digest)
        manifest = matcher.bundle.manifest
        rolling = RollingMatcher(matcher, log)
        until = int(manifest.window["until"])
        return cls(name or Path(bundle).resolve().name, rolling, rank or rolling.default_rank, until, manifest.id)

    def scores(self, log: Log, positions: Positions) -> Scores:
        """Float32 (B, J), -inf for who is no candidate."""
        return self._both(positions)[0]

    def p_resolved(self, log: Log, positions: Positions) -> Scores | None:
        """Float32 (B, J), NaN for who is no candidate; None where the bundle knows no probability."""
        return self._both(positions)[1]

    def _both(self, positions: Positions) -> tuple[Scores, Scores | None]:
        key = positions.tobytes()
        if self._last is None or self._last[0] != key:
            self._last = (key, *self._evaluate(positions))
        return self._last[1], self._last[2]

    def _evaluate(self, positions: Positions) -> tuple[Scores, Scores | None]:
        shape = (len(positions), len(self.rolling.log.csas))
        scores = np.full(shape, -np.inf, dtype=np.float32)
        p = np.full(shape, np.nan, dtype=np.float32) if self.rolling.calibrated else None
        contacts = self.rolling.contacts(positions)
        for row in range(len(positions)):
            codes = self.rolling.candidates(int(positions[row]))
            if not len(codes):
                continue
            scored = self.rolling.score(contacts.take(np.array([row])), codes, self.rank)
            scores[row, codes] = scored.score
            if p is not None and scored.p_resolved is not None:
                p[row, codes] = scored.p_resolved
        return scores, p
