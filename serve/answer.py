"""What a match answers: candidates with their scores, and the parts that set each apart.

Notable: candidates are named tuples, which are made three times sooner than frozen dataclasses of so many fields."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import repeat
from typing import Any, NamedTuple, overload

import numpy as np
import numpy.typing as npt

from serve.snapshot import Snapshot
from twotower.scoring.join import Scored
from twotower.scoring.outcomes import Expected

REASONS = 3
# Parts below this share of the whole explain nothing.
LEAST_SHARE = 0.01


class Reason(NamedTuple):
    """One part of a score: `part` its name, `effect` how much it raises (or lowers) this CSA above the mean of the
    candidates, in score units, `share` the effect's share of all parts' absolute effects (−1 … 1)."""

    part: str
    effect: float
    share: float


class Candidate(NamedTuple):
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
    reasons: Sequence[Reason]
    expected: Expected = Expected()
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


class Reasons(Sequence[Reason]):
    """The reasons of one candidate. Those of an answer are worked out together when the first of them is read, since a
    router reads few."""

    __slots__ = ("_answer", "_place")

    def __init__(self, answer: _Answer, place: int) -> None:
        self._answer, self._place = answer, place

    @overload
    def __getitem__(self, index: int) -> Reason: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Reason]: ...

    def __getitem__(self, index: int | slice) -> Reason | Sequence[Reason]:
        return self._answer.reasons[self._place][index]

    def __len__(self) -> int:
        return len(self._answer.reasons[self._place])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and tuple(self) == tuple(other)

    def __hash__(self) -> int:
        return hash(tuple(self))

    def __repr__(self) -> str:
        return repr(tuple(self))


class _Answer:
    """What all candidates of an answer share."""

    def __init__(self, ranked: Ranked) -> None:
        self._ranked = ranked

    @cached_property
    def reasons(self) -> list[tuple[Reason, ...]]:
        return explain(self._ranked)


def as_candidates(snapshot: Snapshot, ranked: Ranked) -> list[Candidate]:
    """The best k of one contact, best first."""
    answer, ids, many = _Answer(ranked), snapshot.ids, len(ranked.codes)
    who, scores = [ids[code] for code in ranked.codes.tolist()], ranked.score.tolist()
    resolved, uncertainty, logits = (
        _listed(one, many) for one in (ranked.p_resolved, ranked.uncertainty, ranked.logit)
    )
    # What is not itself is NaN.
    heads = [[None if value != value else value for value in head] for head in ranked.expected.T.tolist()]
    reasons, expected = map(Reasons, repeat(answer), range(many)), map(Expected, resolved, *heads)
    return list(map(Candidate, who, scores, resolved, uncertainty, reasons, expected, logits))


def _listed(values: npt.NDArray[np.float32] | None, many: int) -> list[Any]:
    return [None] * many if values is None else values.tolist()


def explain(ranked: Ranked) -> list[tuple[Reason, ...]]:
    """The parts that set each of the best k apart from the mean of the scored candidates, strongest first."""
    parts = ranked.scored.contributions
    if not len(ranked.places):
        return []
    effects = parts[ranked.places] - parts.mean(axis=0)
    sizes = np.abs(effects)
    order = np.argsort(-sizes, axis=1, kind="stable")[:, :REASONS]
    effect = np.take_along_axis(effects, order, axis=1)
    share = effect / np.maximum(sizes.sum(axis=1, keepdims=True), 1e-12)
    names = ranked.scored.names
    return [
        tuple(Reason(names[j], e, s) for j, e, s in zip(*row, strict=True) if abs(s) >= LEAST_SHARE)
        for row in zip(order.tolist(), effect.tolist(), share.tolist(), strict=True)
    ]
