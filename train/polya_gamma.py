"""Pólya-Gamma variables, given which a logistic likelihood is Gaussian.

Notable: draws are the first terms of the defining series, and the mean of all others; no draw is ever turned down, so
they cost the same on any device.

Source: Polson, Scott and Windle, "Bayesian inference for logistic models using Pólya-Gamma latent variables", JASA
2013.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from train.ranges import AUGMENTATION, span

TERMS = 24


@span(AUGMENTATION)
def polya_gamma(logit: Tensor, generator: torch.Generator) -> Tensor:
    """Draws of PG(1, logit) (n,): the first `TERMS` terms of its series of exponentials, and the others' mean."""
    place = torch.arange(1, TERMS + 1, device=logit.device, dtype=logit.dtype) - 0.5
    below = place**2 + (logit[:, None] / (2 * math.pi)) ** 2
    random = torch.empty(len(logit), TERMS, device=logit.device, dtype=logit.dtype).exponential_(generator=generator)
    return mean_polya_gamma(logit) + ((random - 1) / below).sum(dim=1) / (2 * math.pi**2)


def weighed(draw: Tensor, logit: Tensor, weight: Tensor) -> Tensor:
    """Draws of PG(weight, logit) (n,) from draws of PG(1, logit), by mean and variance.

    weight (n,) ≥ 1; below 1 such a draw could be negative.
    """
    mean = mean_polya_gamma(logit)
    return weight * mean + weight.sqrt() * (draw - mean)


def mean_polya_gamma(logit: Tensor) -> Tensor:
    """Mean (n,) of PG(1, logit): tanh(z/2) / 2z, 1/4 at 0."""
    safe = torch.where(logit.abs() < 1e-3, torch.full_like(logit, 1e-3), logit)
    return torch.tanh(safe / 2) / (2 * safe)
