"""The truth of a centre: everything the probability of success is made of, in `truth.npz`.

For contact x that arrived d days after CSA a was hired, in language l:

    logit p(x, a) = b₀ + α·⟨need(x), θ_a⟩ + q_a + tenure(d) + upset(x)·h_a − c·(1 − fluency[a, l]) − difficulty(x)
    tenure(d) = t·(log(1 + min(d, d_max)/d₀) − log(1 + 365/d₀))

and the legacy queue chooses among the eligible with π₀(a | x) ∝ exp(γ·speed_a). Latents are float32, sums are float64,
so that what is read back from the file gives the same probabilities as were used to draw the outcomes. Where skills
move (drift.py), θ_a is that of the week in which x arrived.
"""

from __future__ import annotations

from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from evaluation.generate.settings import Settings
from twotower.clock import DAY
from twotower.errors import DataError

Single = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[Any]

CONSTANTS: dict[str, float] = {
    "intercept": 1.25,
    "alpha": 0.24,
    "tenure_scale": 0.16,
    "tenure_days": 15.0,
    "tenure_longest": 1500.0,
    "fluency_cost": 0.9,
    "queue_gamma": 0.6,
}
"""b₀, α, t, d₀, d_max, c and γ."""

BLOCK = 1 << 18


@dataclass(frozen=True)
class Latents:
    """The hidden variables of N contacts and J CSAs. Contacts are sorted by (arrived_at, contact_id), CSAs by id."""

    contact_id: npt.NDArray[np.str_]
    csa_id: npt.NDArray[np.str_]
    languages: npt.NDArray[np.str_]
    needs: Single
    """(N, D)."""
    difficulty: Single
    upset: Single
    language: Ints
    """(N,) position in `languages`."""
    arrived_at: Ints
    """(N,) µs UTC."""
    assigned: Ints
    """(N,) the CSA whom the queue chose, −1 where the contact was abandoned."""
    test_begins: Ints
    """(1,) position of the first test contact."""
    theta: Single
    """(J, D); where skills move, as of the first test contact."""
    quality: Single
    handling: Single
    speed: Single
    fluency: Single
    """(J, L)."""
    hired_at: Ints
    prior_mean: Single
    """(J, D + 2): the mean that (θ, q, h) was drawn about."""
    prior_sd: Single
    """(D + 2,)."""
    constants: Floats
    """The values of `CONSTANTS`, in that order."""
    skills: Single | None = None
    """(weeks, J, D) θ week by week; None, and not in the file, where it stays."""
    week: Ints | None = None
    """(N,) the week in which contacts arrived, likewise."""

    def constant(self, name: str) -> float:
        """One of `CONSTANTS` as this centre was generated."""
        return float(self.constants[list(CONSTANTS).index(name)])

    def offset(self, contact: Ints, csa: Ints) -> Floats:
        """(n,) the part of the logit that holds no unknown of the CSA: b₀ + tenure + fluency − difficulty."""
        days = np.clip((self.arrived_at[contact] - self.hired_at[csa]) / DAY, 0, self.constant("tenure_longest"))
        scale, early = self.constant("tenure_scale"), self.constant("tenure_days")
        tenure = scale * (np.log1p(days / early) - np.log1p(365 / early))
        gap = 1 - self.fluency[csa, self.language[contact]].astype(np.float64)
        fixed = self.constant("intercept") - self.difficulty[contact].astype(np.float64)
        return np.asarray(fixed + tenure - self.constant("fluency_cost") * gap)

    def design(self, contact: Ints) -> Floats:
        """(n, D + 2) what a CSA's unknowns (θ, q, h) are multiplied with: α·need, 1, upset."""
        scaled = self.constant("alpha") * self.needs[contact].astype(np.float64)
        ones = np.ones((len(contact), 1))
        return np.concatenate([scaled, ones, self.upset[contact, None].astype(np.float64)], axis=1)

    def unknowns(self) -> Floats:
        """(J, D + 2) the true (θ, q, h), as of the first test contact where skills move."""
        columns = [self.theta, self.quality[:, None], self.handling[:, None]]
        return np.concatenate(columns, axis=1).astype(np.float64)

    def logit(self, contact: Ints, csa: Ints, unknowns: Floats | None = None) -> Floats:
        """(n,) logits of success of pairs, given as positions; with `unknowns` (J, D + 2) in place of the true ones."""
        true = unknowns is None
        unknowns = self.unknowns() if unknowns is None else unknowns
        result = np.empty(len(contact))
        for start in range(0, len(contact), BLOCK):
            rows, columns = contact[start : start + BLOCK], csa[start : start + BLOCK]
            own = unknowns[columns]
            if true and self.skills is not None and self.week is not None:
                own[:, : self.theta.shape[1]] = self.skills[self.week[rows], columns]
            inner = np.einsum("nd,nd->n", self.design(rows), own)
            result[start : start + BLOCK] = inner + self.offset(rows, columns)
        return result

    def p_resolved(self, contact: Ints, csa: Ints) -> Floats:
        """(n,) true probabilities of success."""
        return sigmoid(self.logit(contact, csa))

    def save(self, path: Path) -> None:
        """Writes `truth.npz` (no pickle; the same bytes for the same values)."""
        arrays = {field.name: getattr(self, field.name) for field in fields(self)}
        np.savez(path, allow_pickle=False, **{name: array for name, array in arrays.items() if array is not None})

    @classmethod
    def load(cls, path: Path) -> Latents:
        """Reads `truth.npz`.

        Raises:
            DataError: the file is missing, damaged or not of a generated centre.
        """
        try:
            with np.load(path, allow_pickle=False) as archive:
                there = [f.name for f in fields(cls) if f.default is MISSING or f.name in archive.files]
                return cls(**{name: archive[name] for name in there})
        except FileNotFoundError:
            raise DataError(f"{path}: not found; only a centre made by `twotower generate` has it") from None
        except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
            raise DataError(f"{path}: not the truth of a generated centre ({error}); generate it again") from None


def queue_gamma(settings: Settings) -> float:
    """γ of a centre: how strongly its queue prefers the fast."""
    return CONSTANTS["queue_gamma"] * settings.confounding


def sigmoid(logit: Floats) -> Floats:
    """1 / (1 + e^−logit), without overflow."""
    return np.asarray(0.5 * (1 + np.tanh(0.5 * logit)))
