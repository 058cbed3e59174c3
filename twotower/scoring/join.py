"""The join: a few weights that turn the parts of a match into one score, for each meaning of a rank.

Notable: this is the only place where a score is computed. Training fits the weights, the router and the evaluation
call the same function with the same rows. For *success*,

    z(x, a) = b + w_level · level(x) + w_profile · profile(x)·vector(a) + Σ_k w_k residual_k(x, a)

is the logit of P(resolved | contact, CSA), which a monotone map (`calibration.py`) makes a probability. For *handled*,

    log P(a takes x and resolves it)
        = const(x) + w_profile · profile(x)·vector(a) + w_success · log σ(z(x, a)) + Σ_k w_k mass_k(x, a)

is log-linear; the constant per contact is never needed to rank. A third way to rank is by a utility that the caller
states (`utility.py`), of P(resolved) and the other outcomes that are expected.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from twotower.errors import BundleError, ConfigError
from twotower.scoring.calibration import Calibration
from twotower.scoring.calibration import sigmoid as sigmoid
from twotower.scoring.kernels import Floats, Kernel
from twotower.scoring.memory import Memory
from twotower.scoring.outcomes import Outcomes
from twotower.scoring.utility import Utility

Rank = Literal["success", "handled"]
RANKS: tuple[Rank, ...] = ("success", "handled")


@dataclass(frozen=True)
class ContactVectors:
    """What the contact tower says of B contacts: `profile` (B, P), `memory` (B, Q), `level` (B,), `base` (B, K) f4,
    with `arrived_at` i8[B] µs and `customer` i4[B] (codes of the pairing memory, −1 unknown); `outcomes` (B, T) their
    levels, None where nobody asks for outcomes."""

    profile: Floats
    memory: Floats
    level: Floats
    base: Floats
    arrived_at: npt.NDArray[np.int64]
    customer: npt.NDArray[np.int32]
    outcomes: Floats | None = None

    def __len__(self) -> int:
        return len(self.level)

    def take(self, index: npt.NDArray[np.int64]) -> ContactVectors:
        """The contacts at `index`."""
        columns = ((name, getattr(self, name)) for name in self.__dataclass_fields__)
        taken: dict[str, Any] = {name: None if part is None else part[index] for name, part in columns}
        return ContactVectors(**taken)


@dataclass(frozen=True)
class RankWeights:
    """Weights of one meaning of a rank. `weights[i]` belongs to `names[i]`; kernels follow the named parts."""

    kernels: tuple[Kernel, ...]
    profile: float
    level: float = 0.0
    success: float = 0.0
    intercept: float = 0.0
    kernel_weights: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if len(self.kernels) != len(self.kernel_weights):
            raise BundleError(f"{len(self.kernels)} kernels but {len(self.kernel_weights)} weights in the join")


@dataclass(frozen=True)
class Scored:
    """Scores f4[C] of the candidates, P(resolved) f4[C] or None, and the weighted parts f4[C, n] named by `names`.

    `keys` f4[C]: what they are ordered by, the first of them first; none: the score. `logit` f4[C]: the joint logit of
    success, which `p_resolved` is the calibrated map of; None where that is None.
    """

    score: Floats
    p_resolved: Floats | None
    contributions: Floats
    names: tuple[str, ...]
    keys: tuple[Floats, ...] = ()
    logit: Floats | None = None

    def best(self, k: int) -> npt.NDArray[np.int64]:
        """Positions of the k best, best first; equals in the order of the candidates."""
        return np.lexsort([-key for key in reversed(self.keys or (self.score,))])[:k]


@dataclass(frozen=True)
class Join:
    """Weights for each meaning of a rank. `calibrated`: the log had failures, so success is a probability, by
    `calibration`. `outcomes`: what else is expected of a pair."""

    ranks: dict[Rank, RankWeights]
    default: Rank
    calibrated: bool
    calibration: Calibration = field(default_factory=Calibration)
    outcomes: Outcomes = field(default_factory=Outcomes)

    def score(
        self,
        rank: Rank,
        contact: ContactVectors,
        memory: Memory,
        candidates: npt.NDArray[np.int64],
        vectors: Floats,
    ) -> Scored:
        """Score one contact against C candidates.

        contact: ContactVectors of length 1; candidates i8[C] distinct CSA codes; vectors (C, P), the profile vectors
        of the candidates in that order. Raises BundleError where the bundle has no such rank.
        """
        if rank not in self.ranks:
            raise BundleError(f"this bundle does not rank by {rank!r}: it has {', '.join(sorted(self.ranks))}")
        fit = vectors @ contact.profile[0]
        z = success = None
        if "success" in self.ranks:
            success = self._success(contact, memory, candidates, fit)
            z = success[0]
        p = self.calibration(z) if z is not None and self.calibrated else None
        if rank == "success" and success is not None and z is not None:
            return Scored(z, p, success[1], success[2], logit=None if p is None else z)
        score, parts, names = self._handled(contact, memory, candidates, fit, z)
        return Scored(score, p, parts, names, logit=None if p is None else z)

    def worth(
        self,
        utility: Utility,
        contact: ContactVectors,
        memory: Memory,
        candidates: npt.NDArray[np.int64],
        vectors: Floats,
        own: Floats,
    ) -> Scored:
        """Score one contact against C candidates by a utility: `score` is U; equals in U stand by success.

        own (C, T): what the candidates add to outcomes; the rest as in `score`. Raises BundleError where the bundle
        cannot tell what has a weight.
        """
        utility.check(self.outcomes, self.calibrated)
        success = self.score("success", contact, memory, candidates, vectors)
        parts, names = utility.parts(success.p_resolved, self.expected(contact, vectors, own))
        score = parts.sum(axis=1)
        # P(resolved) rises with the logit, but two logits may share one.
        keys = (success.score,) if utility.by_success_alone else (score, success.score)
        return Scored(score, success.p_resolved, parts, names, keys, success.logit)

    def expected(self, contact: ContactVectors, vectors: Floats, own: Floats) -> Floats:
        """Expected outcomes (C, T) of one contact with CSAs of vectors (C, P) who add own (C, T); NaN: no head."""
        if contact.outcomes is None:
            return np.full(own.shape, np.nan, np.float32)
        return self.outcomes.expected(contact.outcomes[0], own, vectors @ contact.profile[0])

    def uncertainty(self, logit: Floats | None, deviations: Floats) -> Floats | None:
        """Posterior standard deviations (C,) of the logit of P(resolved), from joint logits z (C,), as in `Scored`, and
        the deviations (C,) of profile · vector; None where there is no such probability."""
        if logit is None:
            return None
        return self.calibration.deviations(logit, np.float32(self.ranks["success"].profile) * deviations)

    def weighed(self, profile: Floats, level: float) -> tuple[Floats, float]:
        """What meets a CSA's vector in z, and what does not, the memory aside: profile (P,) and level under the weights
        of success."""
        w = self.ranks["success"]
        return np.float32(w.profile) * profile, w.intercept + w.level * level

    def _success(
        self, contact: ContactVectors, memory: Memory, candidates: npt.NDArray[np.int64], fit: Floats
    ) -> tuple[Floats, Floats, tuple[str, ...]]:
        w = self.ranks["success"]
        level = np.full(len(fit), w.intercept + w.level * contact.level[0], dtype=np.float32)
        parts = self._kernels(w, contact, memory, candidates)
        columns = np.column_stack([level, np.float32(w.profile) * fit, parts])
        return columns.sum(axis=1), columns, ("level", "profile", *(k.name for k in w.kernels))

    def _handled(
        self,
        contact: ContactVectors,
        memory: Memory,
        candidates: npt.NDArray[np.int64],
        fit: Floats,
        z: Floats | None,
    ) -> tuple[Floats, Floats, tuple[str, ...]]:
        w = self.ranks["handled"]
        log_p = np.zeros_like(fit) if z is None else log_sigmoid(z)
        parts = self._kernels(w, contact, memory, candidates)
        columns = np.column_stack([np.float32(w.profile) * fit, np.float32(w.success) * log_p, parts])
        return columns.sum(axis=1), columns, ("profile", "success", *(k.name for k in w.kernels))

    @staticmethod
    def _kernels(w: RankWeights, contact: ContactVectors, memory: Memory, candidates: npt.NDArray[np.int64]) -> Floats:
        parts = memory.parts(
            w.kernels, contact.memory[0], int(contact.customer[0]), int(contact.arrived_at[0]), candidates
        )
        return parts * np.asarray(w.kernel_weights, dtype=np.float32)

    def to_json(self) -> dict[str, Any]:
        """The serialised form, as in `calibration.json`."""
        return {
            "default": self.default,
            "calibrated": self.calibrated,
            "calibration": asdict(self.calibration),
            "outcomes": self.outcomes.to_json(),
            "ranks": {rank: asdict(weights) for rank, weights in self.ranks.items()},
        }

    def save(self, path: Path | str) -> None:
        """Write `calibration.json`."""
        Path(path).write_text(json.dumps(self.to_json(), indent=1, sort_keys=True) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path | str) -> Join:
        """Read `calibration.json`. Raises BundleError where a field is missing or unknown."""
        try:
            data = json.loads(Path(path).read_text(encoding="utf-8"))
            ranks = {rank: _weights(fields) for rank, fields in data["ranks"].items() if rank in RANKS}
            if data["default"] not in ranks:
                raise ValueError(f"the default rank {data['default']!r} is not among its ranks")
            calibration = Calibration.from_json(data["calibration"])
            outcomes = Outcomes.from_json(data["outcomes"])
            return cls(ranks, data["default"], bool(data["calibrated"]), calibration, outcomes)
        except (AttributeError, KeyError, TypeError, ValueError, OSError, ConfigError, BundleError) as error:
            raise BundleError(f"{path}: not a calibration.json of this version ({error})") from None


def _weights(fields: dict[str, Any]) -> RankWeights:
    kernels = tuple(Kernel(**kernel) for kernel in fields["kernels"])
    return RankWeights(**{**fields, "kernels": kernels, "kernel_weights": tuple(fields["kernel_weights"])})


def log_sigmoid(z: Floats) -> Floats:
    """log σ(z) without overflow."""
    return (-np.logaddexp(np.float32(0), -z)).astype(np.float32)
