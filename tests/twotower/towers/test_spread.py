"""Factors of covariances: what is kept, and what the rest is worth."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from twotower.scoring.spread import deviations
from twotower.towers.spread import leading, of_covariance, of_members

WIDTH = 6


def inputs(count: int = 4000) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    scale = torch.tensor([3.0, 2.0, 1.0, 0.5, 0.2, 1.0], dtype=torch.float64)
    u = torch.randn(count, WIDTH, generator=generator, dtype=torch.float64) * scale
    u[:, -1] = 1
    return u


def variances(factor: torch.Tensor, u: torch.Tensor) -> torch.Tensor:
    found: torch.Tensor = ((u @ factor[:-1].T) ** 2).sum(dim=1) + ((u * factor[-1]) ** 2).sum(dim=1)
    return found


def test_a_full_factor_has_the_variances_of_the_covariance() -> None:
    u = inputs(50)
    root = torch.randn(WIDTH, WIDTH, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    sigma = root.T @ root
    factor = of_covariance(sigma, u.T @ u / len(u), WIDTH)
    torch.testing.assert_close(variances(factor, u), ((u @ sigma) * u).sum(dim=1))


@pytest.mark.parametrize("rank", [1, 3])
def test_what_is_cut_off_is_right_on_average_over_contacts(rank: int) -> None:
    u = inputs()
    moment = u.T @ u / len(u)
    rows = torch.randn(1, 9, WIDTH, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    factor = leading(rows, moment, rank)[0]
    whole = ((u @ rows[0].T) ** 2).sum(dim=1)
    assert factor.shape == (rank + 1, WIDTH)
    assert variances(factor, u).mean().item() == pytest.approx(whole.mean().item(), rel=1e-9)
    # The directions kept are those that matter to these contacts: no other set of so many explains more.
    kept = ((u @ factor[:-1].T) ** 2).sum(dim=1).mean()
    generator = torch.Generator().manual_seed(3)
    for _ in range(20):
        other, _ = torch.linalg.qr(torch.randn(9, rank, generator=generator, dtype=torch.float64))
        assert ((u @ (other.T @ rows[0]).T) ** 2).sum(dim=1).mean() <= kept + 1e-9


def test_fewer_rows_than_directions_are_filled_with_nothing() -> None:
    u = inputs(20)
    factor = leading(torch.ones(2, 1, WIDTH, dtype=torch.float64), u.T @ u / len(u), 3)
    assert factor.shape == (2, 4, WIDTH)
    assert not factor[:, 1:].any()
    torch.testing.assert_close(variances(factor[0], u), u.sum(dim=1) ** 2)


def test_members_vary_as_one_drawn_at_random_does() -> None:
    """Mean over members of the squared distance from what is served, plus the mean of their own variances."""
    generator = torch.Generator().manual_seed(4)
    members, width = 3, 2
    v, b = torch.randn(5, members, width, generator=generator), torch.randn(5, members, generator=generator)
    v_var, b_var = torch.rand(5, members, width, generator=generator), torch.rand(5, members, generator=generator)
    u = torch.randn(members, width, generator=generator)
    each = (v * u).sum(dim=2) + b
    expected = each.var(dim=1, correction=0) + ((v_var * u**2).sum(dim=2) + b_var).mean(dim=1)
    profile = torch.cat([u.flatten() / members, torch.ones(1)])
    found = deviations(profile.numpy(), of_members(v, b, v_var, b_var).numpy())
    np.testing.assert_allclose(found, expected.sqrt().numpy(), rtol=1e-5)
