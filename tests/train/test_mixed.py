"""Regressions that choose their own variances: closed forms are those of the dense Gaussian, noise is not fitted."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from train import mixed
from train.mixed import Cells, Mixed, Ridge

Doubles = npt.NDArray[np.float64]


def cells(groups: int = 12, count: int = 150, seed: int = 0, moments: int = 3) -> Cells:
    """Groups of very different size whose features move over some moments; the last group has no observation."""
    rng = np.random.default_rng(seed)
    features = rng.standard_normal((groups * moments, 4)).astype(np.float32)
    share = 2.0 ** -np.arange(groups - 1)
    who = rng.choice(groups - 1, count, p=share / share.sum()) * moments + rng.integers(0, moments, count)
    return Cells(np.repeat(np.arange(groups), moments), features, who, groups)


def dense(of: Cells, r: float, k: float) -> tuple[Doubles, Doubles, Doubles]:
    """The covariance (n, n) of y over the noise variance, with features (n, G) and indicators of groups (n, J)."""
    f = of.features[of.cell].astype(np.float64)
    z = np.eye(of.groups)[of.group[of.cell]]
    return np.eye(len(f)) + r * z @ z.T + k * f @ f.T, f, z


def likelihood(covariance: Doubles, y: Doubles) -> float:
    """log density of y with the noise variance at its most likely, up to a constant."""
    return float(-len(y) / 2 * np.log(y @ np.linalg.solve(covariance, y)) - np.linalg.slogdet(covariance)[1] / 2)


@pytest.mark.parametrize("seed", range(4))
def test_effects_are_those_of_the_dense_gaussian_with_the_likeliest_variances_on_the_grid(seed, monkeypatch):
    """E[b | y] = r Zᵀ V⁻¹ y and E[β | y] = k Fᵀ V⁻¹ y."""
    monkeypatch.setattr(mixed, "RATIOS", np.array([0.0, 0.01, 0.1, 1.0]))
    rng, of = np.random.default_rng(seed), cells(seed=seed)
    y = of.values(rng.standard_normal(4) * (seed % 2) * 0.5, rng.standard_normal(12) * (seed // 2) * 0.5)
    y = y + rng.standard_normal(150)
    grid = {(r, k): likelihood(dense(of, r, k)[0], y) for r in mixed.RATIOS for k in mixed.RATIOS}
    r, k = max(grid, key=lambda pair: grid[pair])
    covariance, f, z = dense(of, r, k)
    side, effects = Mixed(of).solve(y)
    np.testing.assert_allclose(side, k * f.T @ np.linalg.solve(covariance, y), atol=1e-9)
    np.testing.assert_allclose(effects, r * z.T @ np.linalg.solve(covariance, y), atol=1e-9)


def test_a_group_of_few_observations_is_shrunken_more():
    """Two groups deviate alike, one over 200 observations and one over four."""
    rng = np.random.default_rng(0)
    sizes = [200, 4, *[50] * 20]
    group = np.repeat(np.arange(len(sizes)), sizes)
    effect = np.array([0.6, 0.6, *rng.standard_normal(20) * 0.4])
    noise = rng.standard_normal(len(group))
    for j in (0, 1):
        noise[group == j] -= noise[group == j].mean()  # so that both means are 0.6
    of = Cells(np.arange(len(sizes)), np.zeros((len(sizes), 1), np.float32), group, len(sizes))
    found = Mixed(of).solve(effect[group] + noise)[1]
    assert 0.5 < found[0] < 0.6
    assert 0 < found[1] < 0.6 * found[0]


def test_who_has_no_observation_has_no_effect_and_noise_is_no_effect():
    of, rng = cells(), np.random.default_rng(3)
    assert Mixed(of).solve(rng.standard_normal(150) + 3 * (of.group[of.cell] == 0))[1][-1] == 0
    equal = Cells(np.arange(40), rng.standard_normal((40, 5)).astype(np.float32), rng.integers(0, 40, 4000), 40)
    side, effects = Mixed(equal).solve(rng.standard_normal(4000))
    assert equal.values(side, effects).std() < 0.05  # unshrunken means of 100 would vary by 0.1


def test_what_features_say_of_groups_holds_for_one_that_is_new():
    rng = np.random.default_rng(5)
    features = rng.standard_normal((80, 6)).astype(np.float32)
    weight = np.array([0.5, -0.4, 0.3, 0, 0, 0])
    group = rng.integers(0, 60, 3000)  # the last 20 have done nothing
    y = features[group] @ weight + 0.2 * rng.standard_normal(80)[group] + rng.standard_normal(3000)
    side, effects = Mixed(Cells(np.arange(80), features, group, 80)).solve(y)
    assert (effects[60:] == 0).all()
    assert np.corrcoef(features[60:] @ side, features[60:] @ weight)[0, 1] > 0.9


def test_a_constant_gives_zeros():
    side, effects = Mixed(cells()).solve(np.zeros(150))
    assert not side.any()
    assert not effects.any()
    weight, bias = Ridge(np.random.default_rng(0).standard_normal((50, 3)).astype(np.float32)).solve(np.full(50, 2.5))
    assert not weight.any()
    assert bias == 2.5


def regression(count: int, strength: float, seed: int = 0) -> tuple[npt.NDArray[np.float32], Doubles]:
    """Inputs (2 count, 60), of which three matter, and values."""
    rng = np.random.default_rng(seed)
    x = (rng.standard_normal((2 * count, 60)) + 2).astype(np.float32)
    weight = np.zeros(60)
    weight[:3] = strength
    return x, x @ weight + rng.standard_normal(2 * count) + 10


@pytest.mark.parametrize(("count", "strength"), [(100, 0.2), (100, 1.0), (2000, 0.1)])
def test_the_chosen_penalty_is_hardly_worse_than_the_best(count, strength, monkeypatch):
    x, y = regression(count, strength)
    ridge, errors = Ridge(x[:count]), []
    for penalty in mixed.PENALTIES:
        with monkeypatch.context() as patch:
            patch.setattr(mixed, "PENALTIES", np.array([penalty]))
            weight, bias = ridge.solve(y[:count])
        errors.append(float(np.square(y[count:] - x[count:] @ weight - bias).mean()))
    weight, bias = ridge.solve(y[:count])
    assert float(np.square(y[count:] - x[count:] @ weight - bias).mean()) < 1.03 * min(errors)
    assert max(errors) > 1.1 * min(errors) or count == 2000  # there was something to choose


def test_a_ridge_of_one_penalty_is_the_textbooks(monkeypatch):
    monkeypatch.setattr(mixed, "PENALTIES", np.array([30.0]))
    monkeypatch.setattr(mixed, "CHUNK", 33)
    x, y = regression(50, 0.5)
    weight, bias = Ridge(x).solve(y)
    centred = x - x.mean(axis=0, dtype=np.float64)
    wanted = np.linalg.solve(centred.T @ centred + 30 * np.eye(60), centred.T @ (y - y.mean()))
    np.testing.assert_allclose(weight, wanted, atol=1e-5)
    assert bias == pytest.approx(y.mean() - x.mean(axis=0, dtype=np.float64) @ wanted, abs=1e-4)
