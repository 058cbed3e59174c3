"""Which map from the joint logit to P(resolved) is right on the latest window, by cross-validation in time.

Notable: the join is a logistic regression already, so the question is whether anything is left: one slope (temperature;
Guo et al., "On calibration of modern neural networks", ICML 2017) or a free monotone map (isotonic regression; Zadrozny
and Elkan, KDD 2002). Each is fitted on four fifths of the window and judged on the fifth, contiguous in time, by log
loss, with z from join weights that did not see it either; a map that does not beat plain σ(z) by more than its standard
error is not taken.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from twotower.metrics import log_losses, reliability
from twotower.scoring.calibration import METHODS, Calibration, Method

Doubles = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
FOLDS = 5
LEAST = 500  # outcomes; fewer cannot tell the maps apart
LEAST_IN_STEP = 100  # outcomes in a step of the isotonic map, so that no step is an anecdote


@dataclass(frozen=True)
class Calibrated:
    """The map chosen, and what was measured out of fold: mean `log_loss` and `error` (ECE) of each map tried."""

    chosen: Calibration
    log_loss: dict[str, float]
    error: dict[str, float]

    def facts(self) -> dict[str, object]:
        """What run.json says."""
        told = {name: {k: round(v, 6) for k, v in of.items()} for name, of in vars(self).items() if name != "chosen"}
        return {"method": self.chosen.method, **told}


def calibrate(z: Doubles, resolved: Bools, held_out: Doubles | None = None) -> Calibrated:
    """Choose the map for logits z (n,) with outcomes (n,), both in order of time.

    held_out (n,): logits by a join that did not see the outcome's fold, on which maps are compared; None: z.
    """
    tried = z if held_out is None else held_out
    if len(z) < LEAST or resolved.all() or not resolved.any():
        return Calibrated(Calibration(), {}, {})
    losses: dict[str, Doubles] = {}
    errors: dict[str, float] = {}
    for method in METHODS:
        p = np.concatenate(
            [fit(method, tried[~test], resolved[~test])(tried[test].astype(np.float32)) for test in folds(len(z))]
        )
        losses[method], errors[method] = log_losses(p, resolved), reliability(p, resolved).error
    best: Method = min(METHODS, key=lambda method: float(losses[method].mean()))
    gain = losses["none"] - losses[best]
    if gain.mean() <= gain.std() / len(z) ** 0.5:
        best = "none"
    means: dict[str, float] = {method: float(loss.mean()) for method, loss in losses.items()}
    return Calibrated(fit(best, z, resolved), means, dict(errors))


def folds(size: int) -> list[Bools]:
    """Masks (size,) of contiguous parts."""
    part = np.arange(size) * FOLDS // size
    return [part == i for i in range(FOLDS)]


def fit(method: Method, z: Doubles, resolved: Bools) -> Calibration:
    """A map fitted on logits (n,) and outcomes (n,)."""
    if method == "temperature":
        return Calibration("temperature", temperature=temperature(z, resolved))
    if method == "isotonic":
        return isotonic(z, resolved)
    return Calibration()


def temperature(z: Doubles, resolved: Bools) -> float:
    """The T > 0 of least log loss of σ(z / T)."""
    from scipy.optimize import minimize_scalar

    y = resolved.astype(np.float64)

    def loss(log_t: float) -> float:
        logits = z * np.exp(-log_t)
        return float((np.logaddexp(0, logits) - y * logits).sum())

    return float(np.exp(minimize_scalar(loss, bounds=(-2.0, 2.0), method="bounded").x))


def isotonic(z: Doubles, resolved: Bools) -> Calibration:
    """Pools of adjacent violators, each of at least `LEAST_IN_STEP` outcomes, joined by lines between their means."""
    from scipy.optimize import isotonic_regression

    order = np.argsort(z, kind="stable")
    z, y = z[order], resolved[order].astype(np.float64)
    chunk = np.arange(len(z)) * max(1, len(z) // LEAST_IN_STEP) // len(z)
    count = np.bincount(chunk).astype(np.float64)
    # Half a success and half a failure more, so that nothing is certain.
    share = (np.bincount(chunk, y) + 0.5) / (count + 1)
    found = isotonic_regression(share, weights=count).x
    logits, first = np.unique(np.bincount(chunk, z) / count, return_index=True)
    return Calibration("isotonic", logits=tuple(logits.tolist()), values=tuple(found[first].tolist()))
