"""Kernels over the memory: how much like work a CSA has done, and how it went.

Notable: one formula covers popularity, memory of like work and the memory of a pairing. With c the cosine of a past
contact to the present one, and age the time since it was known,

    K_i = exp(β (c_i − 1)) · 2^(−age_i / h)

*mass* is log(ε + Σ w_i K_i) over the CSA's rows (weight w: not unresolved): β = 0 makes it recency-weighted popularity;
restricted to the rows of the same customer it is the pairing's memory. *residual* is Σ K_i (r_i − e_i) / (Σ K_i + κ),
a shrunken kernel estimate of how much better than expected such work went
(Nadaraya-Watson with a prior of κ pseudo-observations at 0; compare arXiv 2209.05278).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from twotower.errors import ConfigError

Floats = npt.NDArray[np.float32]
FLOOR = 1e-3  # ε: mass below a thousandth of one identical hand-over today is no evidence


@dataclass(frozen=True)
class Kernel:
    """One part of the score.

    `scope`: all rows of a CSA (`csa`) or those of the same customer (`pair`). `statistic`: `mass` or `residual`.
    `sharpness` is β >= 0; `half_life_s` h > 0 in seconds (None: no decay); `prior` κ > 0, used by `residual` only.
    """

    scope: Literal["csa", "pair"]
    statistic: Literal["mass", "residual"]
    sharpness: float
    half_life_s: float | None = None
    prior: float = 1.0

    def __post_init__(self) -> None:
        if self.scope not in ("csa", "pair") or self.statistic not in ("mass", "residual"):
            raise ConfigError(f"kernel {self}: scope 'csa' or 'pair', statistic 'mass' or 'residual' were expected")
        positive = self.prior > 0 and (self.half_life_s is None or self.half_life_s > 0)
        if not (self.sharpness >= 0 and positive):  # so written that NaN is refused
            raise ConfigError(f"kernel {self}: sharpness must be >= 0, prior and half_life_s > 0")

    @property
    def name(self) -> str:
        """Short name for tables and explanations, such as `csa mass β=8 h=30d`."""
        life = "∞" if self.half_life_s is None else f"{self.half_life_s / 86400:.3g}d"
        tail = f" κ={self.prior:g}" if self.statistic == "residual" else ""
        return f"{self.scope} {self.statistic} β={self.sharpness:g} h={life}{tail}"


def similarity_weight(kernel: Kernel, cosine: Floats, age_s: Floats) -> Floats:
    """K of shape (…,) for cosines and ages (seconds, >= 0) of the same shape."""
    exponent: Floats = np.zeros_like(cosine) if kernel.sharpness == 0 else cosine - 1
    if kernel.sharpness:
        exponent *= np.float32(kernel.sharpness)
    if kernel.half_life_s is not None:
        exponent -= age_s * np.float32(np.log(2) / kernel.half_life_s)
    return np.exp(exponent, out=exponent)


def finish(kernel: Kernel, mass: Floats, residual: Floats) -> Floats:
    """Turn sums over a CSA's rows into the part's value: log mass, or shrunken mean residual."""
    if kernel.statistic == "mass":
        log_mass: Floats = np.log(np.float32(FLOOR) + mass)
        return log_mass
    return residual / (mass + np.float32(kernel.prior))


def segment_sums(values: Floats, starts: npt.NDArray[np.int64]) -> Floats:
    """Sums over runs of the last axis: run s covers `starts[s]:starts[s + 1]`; an empty run sums to 0.

    values (…, R), starts (S + 1,) non-decreasing; returns (…, S).
    """
    counts = np.diff(starts)
    out = np.zeros((*values.shape[:-1], len(counts)), dtype=np.float32)
    filled = np.flatnonzero(counts)
    if len(filled):
        end = starts[-1]
        out[..., filled] = np.add.reduceat(values[..., :end], starts[filled], axis=-1)
    return out


def empty_value(kernel: Kernel) -> float:
    """The part's value for a CSA without a row."""
    return float(np.log(FLOOR)) if kernel.statistic == "mass" else 0.0
