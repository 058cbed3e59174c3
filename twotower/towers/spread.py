"""How far a CSA's vector may be from what is served: factors of its posterior covariance.

Notable: a factor is S rows as wide as a CSA's vector v, so the logit of contact u with it has the variance

    Var z(x, a) = Σ_{r < S} (F_r · u)² + Σ_j (F_S,j u_j)²,

the last row being deviations of single components that vary alone. A few inner products a pair, in any language, tell
what the outcomes so far leave open (compare the last layer of Snoek et al., "Scalable Bayesian optimization using deep
neural networks", 2015; and Osband et al., "Deep exploration via bootstrapped DQN", 2016, for members as draws).
"""

from __future__ import annotations

import torch
from torch import Tensor


def of_members(vectors: Tensor, bias: Tensor, vector_var: Tensor, bias_var: Tensor) -> Tensor:
    """Factors (B, M + 1, M·d + 1) of a member drawn at random, from its posterior, about the mean of all members.

    vectors (B, M, d), bias (B, M) and their posterior variances. Columns: the members' components side by side, met by
    a contact's components divided by M, then the constant.
    """
    count = vectors.shape[1]
    alone = torch.eye(count, dtype=vectors.dtype, device=vectors.device) * count - 1
    apart = (alone[None, :, :, None] * vectors[:, None]).flatten(2)
    constant = (bias - bias.mean(dim=1, keepdim=True)).unsqueeze(-1)
    between = torch.cat([apart, constant], dim=2) / count**0.5
    within = torch.cat([vector_var.flatten(1) * count, bias_var.mean(dim=1, keepdim=True)], dim=1)
    return torch.cat([between, within.sqrt().unsqueeze(1)], dim=1)


def of_covariance(covariance: Tensor, moment: Tensor, rank: int) -> Tensor:
    """A factor (rank + 1, W) of a covariance (W, W); `moment` as in `leading`."""
    values, axes = torch.linalg.eigh(covariance)
    return leading((axes * values.clamp_min(0).sqrt()).T[None], moment, rank)[0]


def leading(factors: Tensor, moment: Tensor, rank: int) -> Tensor:
    """The `rank` leading rows of factors (J, S, W) in the contacts' metric, and a row for the rest: (J, rank + 1, W).

    moment (W, W): E u uᵀ of contacts, whose last component is the constant. The rows kept are the directions that
    matter most to them; what the others would have added to a contact's variance on average stands at the constant.
    """
    values, axes = torch.linalg.eigh(moment)
    root = axes * values.clamp_min(0).sqrt()
    left, size, _ = torch.linalg.svd(factors @ root, full_matrices=False)
    many = min(rank, size.shape[1])
    out = factors.new_zeros(len(factors), rank + 1, factors.shape[2])
    out[:, :many] = left[:, :, :many].transpose(1, 2) @ factors
    out[:, -1, -1] = (size[:, many:] ** 2).sum(dim=1).sqrt()
    return out
