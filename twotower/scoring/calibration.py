"""From the joint logit of success to a probability: the map that measured best on the latest window.

Notable: every map is monotone, so it changes no ranking; where it is flat, two CSAs share a probability and keep their
order by score.
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
        return sigmoid(z / np.float32(self.temperature))

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Calibration:
        """Of the fields of `calibration.json`."""
        return cls(**{**fields, "logits": tuple(fields["logits"]), "values": tuple(fields["values"])})


def sigmoid(z: Floats) -> Floats:
    """1 / (1 + e^−z) without overflow."""
    return np.exp(-np.logaddexp(np.float32(0), -z)).astype(np.float32)
