"""Why one CSA gets one contact, or does not: the parts of their score, and what stands behind each part.

Notable: nothing is estimated. The parts are the terms of the joint score (`twotower/scoring/join.py`) and sum to it;
the hand-overs' shares sum to their parts (`pairs_memory.py`), the families' shares to the profile part
(`pairs_families.py`). An explanation tells of one CSA, so it is personal data: it is made when it is asked for and
nowhere kept (docs/explanations.md).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from serve.pairs_families import Side, shares
from serve.pairs_memory import Remembered, remembered
from twotower.clock import DAY, SECOND, format_time
from twotower.scoring.calibration import EXTREME
from twotower.scoring.join import ContactVectors, Join, Rank, RankWeights, Scored
from twotower.scoring.kernels import empty_value
from twotower.scoring.memory import Memory

Kind = Literal["level", "profile", "success", "like work", "amount of work", "pairing", "amount of pairing"]
Floats = npt.NDArray[np.float32]
TOP = 5
DEVIATIONS = 2.0  # on each side of P(resolved), about 95 % of a Gaussian
_KINDS: dict[tuple[str, str], Kind] = {
    ("csa", "residual"): "like work",
    ("csa", "mass"): "amount of work",
    ("pair", "residual"): "pairing",
    ("pair", "mass"): "amount of pairing",
}


@dataclass(frozen=True)
class Part:
    """One term of the score: its `name` in `calibration.json`, its `kind`, its `value`, and of that what it would be
    `without` a hand-over, or for a neutral pair (the profile)."""

    name: str
    kind: Kind
    value: float
    without: float


@dataclass(frozen=True)
class Handover:
    """A remembered hand-over. `known_at` when its outcome was known, `days_ago`; `outcome` `resolved`, `not resolved`
    or `unknown`, None where it stands for several; `stands_for` how many hand-overs (more than 1: a medoid of older
    ones, of which `better` is the mean of outcome − expectation); `likeness` −1 … 1 of its contact to this one;
    `contact_id` where it is known; `shares` of the parts it is in, by name, and their sum, `share`."""

    known_at: str
    days_ago: float
    outcome: str | None
    stands_for: float
    better: float
    likeness: float
    contact_id: str | None
    shares: dict[str, float]
    share: float


@dataclass(frozen=True)
class Past:
    """The hand-overs behind the parts of a scope: `csa` all that are remembered of the CSA, `pair` those with this
    customer. `count` of them; the `top` by absolute share, and the shares of the `others`, by part and together."""

    scope: str
    count: int
    top: tuple[Handover, ...]
    others: dict[str, float]
    others_share: float


@dataclass(frozen=True)
class Family:
    """Features that belong together, of the `contact` or of the `csa` (`side`); their `share` of the profile part."""

    name: str
    side: str
    share: float


@dataclass(frozen=True)
class Explanation:
    """Why a pair has its `score`.

    `parts` sum to it. `past`: `without` of a part, its shares over `top` and its `others` sum to the part. `families`,
    strongest first: their shares and `without` of the profile part sum to that. `p_resolved`, with the posterior
    standard deviation of its logit, `uncertainty`, and `between` the two probabilities that lie `DEVIATIONS` of them
    away; all None where the log had no failures. `at`: the moment that ages are counted from.
    """

    contact_id: str | None
    csa_id: str
    rank: Rank
    at: str
    score: float
    p_resolved: float | None
    uncertainty: float | None
    between: tuple[float, float] | None
    parts: tuple[Part, ...]
    past: tuple[Past, ...]
    families: tuple[Family, ...]
    notes: tuple[str, ...] = ()

    def noted(self, note: str) -> Explanation:
        """The same with one more thing to know."""
        return replace(self, notes=(*self.notes, note))

    def words(self) -> list[str]:
        """The explanation in sentences."""
        from serve.pairs_words import sentences

        return sentences(self)

    def to_json(self) -> dict[str, Any]:
        """The explanation as plain JSON values, with its sentences."""
        return {**asdict(self), "words": self.words()}


@dataclass(frozen=True)
class Pair:
    """What an explanation reads: a contact (of length 1) and a CSA of a memory, `code`, with their profile vector (P,),
    its posterior deviation for the contact, both vectors by families, and the ids that memory rows refer to."""

    contact_id: str | None
    csa_id: str
    code: int
    contact: ContactVectors
    memory: Memory
    vector: Floats
    deviation: Floats
    of_contact: Side
    of_csa: Side
    contact_ids: pa.Array
    notes: tuple[str, ...] = ()


def explain_pair(join: Join, rank: Rank, pair: Pair, top: int = TOP) -> Explanation:
    """Explain a pair by a meaning of a rank. `top`: hand-overs that are told one by one, of each scope."""
    weights, moment = join.ranks[rank], int(pair.contact.arrived_at[0])
    scored = join.score(rank, pair.contact, pair.memory, np.array([pair.code]), pair.vector[None])
    found = {scope: remembered(weights, scope, pair.memory, pair.contact, pair.code) for scope in ("csa", "pair")}
    names = [kernel.name for kernel in weights.kernels]
    past = tuple(
        _past(scope, [names[i] for i in places], rows, moment, pair.contact_ids, top)
        for scope, (places, rows) in found.items()
        if rows is not None
    )
    neutral, of_contact, of_csa = shares(pair.of_contact, pair.of_csa)
    families = [
        Family(name, side, weights.profile * share)
        for side, some in (("contact", of_contact), ("csa", of_csa))
        for name, share in some.items()
    ]
    p, uncertainty, between = _sure(join, scored, pair.deviation)
    return Explanation(
        contact_id=pair.contact_id,
        csa_id=pair.csa_id,
        rank=rank,
        at=format_time(moment),
        score=float(scored.score[0]),
        p_resolved=p,
        uncertainty=uncertainty,
        between=between,
        parts=_parts(scored, weights, weights.profile * neutral),
        past=past,
        families=tuple(sorted(families, key=lambda family: -abs(family.share))),
        notes=pair.notes,
    )


def _parts(scored: Scored, weights: RankWeights, neutral: float) -> tuple[Part, ...]:
    """The terms of the score in their order, the kernels last."""
    values = [float(value) for value in scored.contributions[0]]
    named: list[tuple[Kind, float]] = [
        (name, neutral if name == "profile" else 0.0)  # type: ignore[misc]
        for name in scored.names[: len(values) - len(weights.kernels)]
    ]
    for kernel, weight in zip(weights.kernels, weights.kernel_weights, strict=True):
        named.append((_KINDS[kernel.scope, kernel.statistic], weight * empty_value(kernel)))
    return tuple(
        Part(name, kind, value, without)
        for name, value, (kind, without) in zip(scored.names, values, named, strict=True)
    )


def _past(scope: str, names: Sequence[str], rows: Remembered, moment: int, contact_ids: pa.Array, top: int) -> Past:
    """The hand-overs of a scope, the strongest one by one; of equals the newest."""
    whole = rows.shares.sum(axis=1)
    order = np.lexsort([rows.age_s, -np.abs(whole)])
    told, others = order[:top], order[top:]
    rest = rows.shares[others].sum(axis=0)
    return Past(
        scope,
        len(whole),
        tuple(_handover(rows, int(i), names, moment, contact_ids) for i in told),
        dict(zip(names, rest.tolist(), strict=True)),
        float(rest.sum()),
    )


def _handover(rows: Remembered, i: int, names: Sequence[str], moment: int, contact_ids: pa.Array) -> Handover:
    row, stands_for = rows.rows, max(1.0, float(rows.rows.outcome[i]), float(rows.rows.weight[i]))
    known, reference = int(row.known_at[i]), int(row.contact[i])
    outcome = "unknown" if not row.outcome[i] else "resolved" if row.weight[i] > 0 else "not resolved"
    return Handover(
        known_at=format_time(known // SECOND * SECOND),
        days_ago=(moment - known) / DAY,
        outcome=outcome if stands_for == 1 else None,
        stands_for=stands_for,
        better=float(row.residual[i]),
        likeness=float(rows.likeness[i]),
        contact_id=contact_ids[reference].as_py() if 0 <= reference < len(contact_ids) else None,
        shares=dict(zip(names, rows.shares[i].tolist(), strict=True)),
        share=float(rows.shares[i].sum()),
    )


def _sure(
    join: Join, scored: Scored, deviation: Floats
) -> tuple[float | None, float | None, tuple[float, float] | None]:
    """P(resolved), the deviation of its logit, and the probabilities `DEVIATIONS` of these away."""
    uncertainty = join.uncertainty(scored.logit, deviation)
    if scored.p_resolved is None or uncertainty is None:
        return None, None, None
    p, s = float(scored.p_resolved[0]), float(uncertainty[0])
    held = min(max(p, EXTREME), 1 - EXTREME)
    logit = math.log(held / (1 - held))
    low, high = (1 / (1 + math.exp(-(logit + sign * DEVIATIONS * s))) for sign in (-1, 1))
    return p, s, (low, high)
