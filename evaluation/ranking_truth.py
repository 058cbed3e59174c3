"""What a ranker's first choices are worth where the truth is known: the share of the oracle's uplift over the queue.

Notable: all contacts of the test count here, handled or not, since a choice has a value whoever made another. The
ceiling is what could be learnt from the same hand-overs by one who knows the true needs; it is the fair yardstick.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from evaluation.ceiling import ceiling
from evaluation.ranking_judge import Judged
from evaluation.truth import Captured, Truth
from twotower.tables.log import Log


@dataclass(frozen=True)
class TruthReport:
    """`captured` by ranker, and the `ceiling`."""

    captured: dict[str, Captured]
    ceiling: Captured

    def of_ceiling(self, name: str) -> float:
        """A ranker's captured share over the ceiling's; NaN where the ceiling captures nothing."""
        return self.captured[name].captured / self.ceiling.captured if self.ceiling.captured > 0 else float("nan")


def judge_by_truth(folder: Path, log: Log, judged: Sequence[Judged], seed: int = 0) -> TruthReport:
    """Captured uplift of each ranker's first choices.

    Args:
        folder: a generated centre.
        log: its whole log.
        judged: rankers judged on the same test contacts.
        seed: of the bootstrap.

    Raises:
        DataError: the truth cannot be read or does not belong to the log.
    """
    truth = Truth.load(folder)
    positions = judged[0].positions
    eligible = log.contacts.eligible
    # Nobody can be chosen for a contact that nobody could take.
    choosable = (
        positions if eligible is None else positions[eligible.all_[positions] | (eligible.lengths[positions] > 0)]
    )
    rows = np.searchsorted(positions, choosable)
    contact_ids = log.contacts.ids.take(pa.array(choosable))
    captured = {
        one.name: truth.captured_by_choices(contact_ids, log.csas.ids.take(pa.array(one.top[rows])), seed=seed)
        for one in judged
    }
    return TruthReport(captured, ceiling(folder).captured)
