"""From the joint logit of success to a probability: the map that measured best on the latest window.

Notable: every map is monotone, so it changes no ranking; where it is flat, two CSAs share a probability and keep their
order by score. How sure P(resolved) is, on the scale of its own logit, is read off the map as well: a map that is
flatter than σ makes a deviation smaller, one that is steeper larger.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from twotower.errors import BundleError

Floats = npt.NDArray[np.float32]
Method = Literal["none", "temperature", "isotonic"]
METHODS: tuple[Method, ...] = ("none", "temperature", "isotonic")
EXTREME = 1e-7  # p is taken to lie this far from 0 and 1 where its logit is asked for: single precision knows no better


@dataclass(frozen=True)
class Calibration:
    """P(resolved) = σ(z) (`none`), σ(z / `temperature`), or the line through (`logits`, `values`), level beyond its
    ends (`isotonic`)."""

    method: Method = "none"
    temperature: float = 1.0
    logits: tuple[float, ...] = ()
    values: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise BundleError(f"calibration method {self.method!r} is unknown: {', '.join(METHODS)} were expected")
        if not self.temperature > 0:
            raise BundleError(f"calibration: temperature {self.temperature} must be positive")
        whole = len(self.logits) == len(self.values) and (self.method != "isotonic" or len(self.logits) > 0)
        if not whole or np.any(np.diff(self.logits) <= 0) or np.any(np.diff(self.values) < 0):
            raise BundleError("calibration: logits must rise and values must not fall, one value a logit")
        if any(not 0 <= value <= 1 for value in self.values):
            raise BundleError("calibration: values must lie in 0..1")

    def __call__(self, z: Floats) -> Floats:
        """P(resolved) (C,) of joint logits (C,)."""
        if self.method == "isotonic":
            return np.interp(z, self.logits, self.values).astype(np.float32)
        # In single precision σ falls here and there by a last bit, and would turn neighbours around.
        return sigmoid(z.astype(np.float64) / self.temperature)

    def deviations(self, z: Floats, deviations: Floats) -> Floats:
        """Standard deviations (C,) of logit P(resolved), for joint logits (C,) and their posterior deviations (C,).

        For σ(z / T) they are divided by T. For an isotonic map f they are ½ |logit f(z + s) − logit f(z − s)|, which is
        the deviation under the two points z ± s that have z's mean and variance (Julier and Uhlmann, "Unscented
        filtering and nonlinear estimation", 2004): the slope where the map is straight as far as the deviation reaches,
        bounded where it is steep, and 0 only where it is level all the way between the points.
        """
        if self.method != "isotonic":
            return np.asarray(deviations / self.temperature, np.float32)
        ends = (np.interp(z + sign * deviations, self.logits, self.values) for sign in (1, -1))
        above, below = (np.log(p) - np.log1p(-p) for p in (np.clip(end, EXTREME, 1 - EXTREME) for end in ends))
        return np.asarray(0.5 * (above - below), np.float32)

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Calibration:
        """Of the fields of `calibration.json`."""
        return cls(**{**fields, "logits": tuple(fields["logits"]), "values": tuple(fields["values"])})


def sigmoid(z: npt.NDArray[np.floating]) -> Floats:
    """1 / (1 + e^−z) without overflow."""
    return np.asarray(np.exp(-np.logaddexp(np.float32(0), -z)), np.float32)
