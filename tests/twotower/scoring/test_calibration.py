"""The map from a joint logit to a probability."""

from __future__ import annotations

import numpy as np
import pytest

from twotower.errors import BundleError
from twotower.scoring.calibration import Calibration, sigmoid


def test_each_map_is_what_it_says() -> None:
    z = np.array([-3.0, -0.5, 0.0, 2.0, 40.0], np.float32)
    np.testing.assert_array_equal(Calibration()(z), sigmoid(z))
    np.testing.assert_allclose(Calibration("temperature", temperature=2.0)(z), sigmoid(z / 2))
    line = Calibration("isotonic", logits=(-1.0, 1.0), values=(0.2, 0.8))
    np.testing.assert_allclose(line(z), [0.2, 0.35, 0.5, 0.8, 0.8], rtol=1e-6)


def test_no_map_turns_an_order_around() -> None:
    z = np.sort(np.random.default_rng(0).normal(0, 2, 500)).astype(np.float32)
    for one in (Calibration(), Calibration("temperature", 0.3), Calibration("isotonic", 1.0, (-2.0, 0.0), (0.1, 0.1))):
        assert (np.diff(one(z)) >= 0).all()


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
