"""The map from a joint logit to a probability."""

from __future__ import annotations

import numpy as np
import pytest

from twotower.errors import BundleError
from twotower.scoring.calibration import EXTREME, Calibration, sigmoid


def test_each_map_is_what_it_says() -> None:
    z = np.array([-3.0, -0.5, 0.0, 2.0, 40.0], np.float32)
    np.testing.assert_allclose(Calibration()(z), sigmoid(z), rtol=1e-6)
    np.testing.assert_allclose(Calibration("temperature", temperature=2.0)(z), sigmoid(z / 2), rtol=1e-6)
    line = Calibration("isotonic", logits=(-1.0, 1.0), values=(0.2, 0.8))
    np.testing.assert_allclose(line(z), [0.2, 0.35, 0.5, 0.8, 0.8], rtol=1e-6)


def test_no_map_turns_an_order_around() -> None:
    z = np.sort(np.random.default_rng(0).normal(0, 2, 200_000)).astype(np.float32)
    for one in (Calibration(), Calibration("temperature", 0.3), Calibration("isotonic", 1.0, (-2.0, 0.0), (0.1, 0.1))):
        assert (np.diff(one(z)) >= 0).all()


def logit(p: np.ndarray) -> np.ndarray:
    found: np.ndarray = np.log(p) - np.log1p(-p)
    return found


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.5])
def test_a_temperature_divides_deviations_as_it_does_logits(temperature: float) -> None:
    random = np.random.default_rng(1)
    one, s = Calibration("temperature", temperature), 0.7
    draws = logit(one((1.2 + s * random.standard_normal(200_000)).astype(np.float32)).astype(np.float64))
    found = one.deviations(np.array([1.2], np.float32), np.array([s], np.float32))
    assert float(found[0]) == pytest.approx(draws.std(), rel=0.01)
    assert float(found[0]) == pytest.approx(s / temperature, rel=1e-6)


STEPS = Calibration("isotonic", 1.0, (-2.0, -1.0, 0.5, 1.0, 2.0), (0.1, 0.3, 0.3, 0.6, 0.7))


def test_where_an_isotonic_map_is_straight_its_slope_counts() -> None:
    z = np.array([-1.5, 0.75, 1.5], np.float32)
    p, slope = np.array([0.2, 0.45, 0.65]), np.array([0.2, 0.6, 0.1])
    found = STEPS.deviations(z, np.full(3, 0.01, np.float32))
    np.testing.assert_allclose(found, 0.01 * slope / (p * (1 - p)), rtol=1e-3)


def test_a_level_piece_is_sure_only_as_far_as_the_deviation_reaches() -> None:
    """The map's own spread under the Gaussian is met to within a third where both of its ends are reached."""
    at = np.array([-0.25, -0.25, -5.0, 5.0], np.float32)
    s = np.array([0.5, 1.5, 0.5, 0.5], np.float32)
    found = STEPS.deviations(at, s)
    assert found[[0, 2, 3]].tolist() == [0, 0, 0]
    draws = STEPS((at[1] + s[1] * np.random.default_rng(2).standard_normal(200_000)).astype(np.float32))
    assert float(found[1]) == pytest.approx(logit(draws.astype(np.float64)).std(), rel=1 / 3)


def test_no_deviation_is_without_bound() -> None:
    sure = Calibration("isotonic", 1.0, (-1.0, 1.0), (0.0, 1.0))
    found = sure.deviations(np.array([-1.0, 0.0, 1.0], np.float32), np.array([1e-3, 50.0, 1e3], np.float32))
    assert np.isfinite(found).all()
    assert (found > 0).all()
    assert found.max() <= logit(np.array(1 - EXTREME)) + 1e-3


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"method": "platt"}, "unknown"),
        ({"method": "temperature", "temperature": 0.0}, "positive"),
        ({"method": "isotonic"}, "one value a logit"),
        ({"method": "isotonic", "logits": (0.0, 1.0), "values": (0.5, 0.4)}, "must not fall"),
        ({"method": "isotonic", "logits": (1.0, 1.0), "values": (0.4, 0.5)}, "must rise"),
        ({"method": "isotonic", "logits": (0.0,), "values": (1.5,)}, "0..1"),
    ],
)
def test_a_map_that_cannot_be_is_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(BundleError, match=message):
        Calibration(**fields)  # type: ignore[arg-type]
