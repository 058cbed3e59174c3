"""The join: scores computed by hand, weights written and read back."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.twotower.scoring import memories
from tests.twotower.scoring.memories import CSAS, CUSTOMERS, WIDTH, by_definition, unit
from twotower.clock import NEVER, SECOND
from twotower.errors import BundleError
from twotower.scoring.calibration import Calibration
from twotower.scoring.join import ContactVectors, Join, RankWeights, log_sigmoid, sigmoid
from twotower.scoring.kernels import FLOOR, Kernel
from twotower.scoring.memory import Memory
from twotower.scoring.rows import HistoryRows

DAY = 86400 * SECOND
RESIDUAL = Kernel("csa", "residual", 0.0, None, 1.0)
MASS = Kernel("csa", "mass", 0.0)
PAIR = Kernel("pair", "mass", 0.0)
SUCCESS = RankWeights((RESIDUAL,), profile=2.0, level=0.5, intercept=-1.0, kernel_weights=(3.0,))
HANDLED = RankWeights((MASS, PAIR), profile=0.1, success=0.5, kernel_weights=(1.0, 2.0))
BOTH = Join({"success": SUCCESS, "handled": HANDLED}, "success", calibrated=True)


def memory() -> Memory:
    """CSA 0 resolved one contact of customer 7 (better than expected), CSA 1 failed one, CSA 2 did nothing."""
    rows = HistoryRows.of(
        csa=np.array([0, 1], np.int32),
        known_at=np.array([1, 2]),
        until=np.array([NEVER, NEVER]),
        vector=np.ones((2, 1), np.float32),
        residual=np.array([0.4, -0.6], np.float32),
        outcome=np.ones(2, np.float32),
        weight=np.array([1, 0], np.float32),
        customer=np.array([7, -1], np.int32),
        contact=np.array([0, 1]),
    )
    return Memory(rows, 3, rows)


def contact(customer: int = 7) -> ContactVectors:
    return ContactVectors(
        profile=np.array([[0.5, 1.0]], np.float32),
        memory=np.ones((1, 1), np.float32),
        level=np.array([0.8], np.float32),
        base=np.zeros((1, 1), np.float32),
        arrived_at=np.array([DAY]),
        customer=np.array([customer], np.int32),
    )


VECTORS = np.array([[1.0, 0.0], [0.0, 1.0], [2.0, -1.0]], np.float32)  # profile · vector = 0.5, 1, 0
Z = [-1 + 0.5 * 0.8 + 2 * fit + 3 * residual for fit, residual in ((0.5, 0.4 / 2), (1.0, -0.6 / 2), (0.0, 0.0))]


def test_success_is_level_and_profile_and_residuals():
    scored = BOTH.score("success", contact(), memory(), np.arange(3), VECTORS)
    assert scored.score.tolist() == pytest.approx(Z, abs=1e-6)
    assert scored.p_resolved is not None
    assert scored.p_resolved.tolist() == pytest.approx([1 / (1 + math.exp(-z)) for z in Z], abs=1e-6)
    assert scored.names == ("level", "profile", RESIDUAL.name)
    assert scored.contributions[0].tolist() == pytest.approx([-0.6, 1.0, 0.6], abs=1e-6)


def test_handled_is_profile_and_success_and_masses():
    scored = BOTH.score("handled", contact(), memory(), np.arange(3), VECTORS)
    some, nothing = math.log(FLOOR + 1), math.log(FLOOR)
    expected = [
        0.1 * 0.5 - 0.5 * math.log1p(math.exp(-Z[0])) + 1.0 * some + 2.0 * some,
        0.1 * 1.0 - 0.5 * math.log1p(math.exp(-Z[1])) + 1.0 * nothing + 2.0 * nothing,  # a failure is no mass
        0.1 * 0.0 - 0.5 * math.log1p(math.exp(-Z[2])) + 1.0 * nothing + 2.0 * nothing,
    ]
    assert scored.score.tolist() == pytest.approx(expected, abs=1e-5)
    assert scored.names == ("profile", "success", MASS.name, PAIR.name)
    assert scored.p_resolved is not None
    assert scored.p_resolved.tolist() == pytest.approx([1 / (1 + math.exp(-z)) for z in Z], abs=1e-6)


def test_candidates_come_back_in_the_order_they_were_given():
    everyone = BOTH.score("handled", contact(), memory(), np.arange(3), VECTORS)
    some = BOTH.score("handled", contact(), memory(), np.array([2, 0]), VECTORS[[2, 0]])
    assert some.score.tolist() == pytest.approx(everyone.score[[2, 0]].tolist(), abs=1e-6)


def test_another_customer_has_no_pairing():
    known, unknown = (BOTH.score("handled", contact(c), memory(), np.arange(3), VECTORS).score for c in (7, -1))
    assert (known - unknown).tolist() == pytest.approx([2 * math.log((FLOOR + 1) / FLOOR), 0, 0], abs=1e-4)


def test_without_failures_in_the_log_there_is_no_probability():
    join = replace(BOTH, calibrated=False)
    for rank in ("success", "handled"):
        assert join.score(rank, contact(), memory(), np.arange(3), VECTORS).p_resolved is None
    only = Join({"handled": HANDLED}, "handled", calibrated=False).score(
        "handled", contact(), memory(), np.arange(3), VECTORS
    )
    assert only.p_resolved is None
    assert only.contributions[:, 1].tolist() == [0, 0, 0]


@pytest.mark.parametrize("rank", ["success", "handled"])
def test_uncertainty_is_that_of_the_calibrated_logit_by_whatever_is_ranked(rank):
    deviations = np.array([0.1, 0.2, 0.3], np.float32)
    plain = BOTH.score(rank, contact(), memory(), np.arange(3), VECTORS)
    assert plain.logit.tolist() == pytest.approx(Z, rel=1e-5)
    assert BOTH.uncertainty(plain.logit, deviations).tolist() == pytest.approx([0.2, 0.4, 0.6])
    warm = replace(BOTH, calibration=Calibration("temperature", 4.0))
    assert warm.uncertainty(plain.logit, deviations).tolist() == pytest.approx([0.05, 0.1, 0.15])
    line = Calibration("isotonic", 1.0, (-9.0, 9.0), (0.4, 0.6))
    ends = [[1 / 45 * (z + sign * 2 * s) / 2 + 0.5 for sign in (1, -1)] for z, s in zip(Z, deviations, strict=True)]
    expected = [(math.log(a / (1 - a)) - math.log(b / (1 - b))) / 2 for a, b in ends]
    assert replace(BOTH, calibration=line).uncertainty(plain.logit, deviations).tolist() == pytest.approx(
        expected, rel=1e-3
    )
    assert replace(BOTH, calibrated=False).score(rank, contact(), memory(), np.arange(3), VECTORS).logit is None
    assert BOTH.uncertainty(None, deviations) is None


def test_a_rank_the_bundle_does_not_have_is_refused_in_one_line():
    join = Join({"success": SUCCESS}, "success", calibrated=True)
    with pytest.raises(BundleError, match="does not rank by 'handled': it has success"):
        join.score("handled", contact(), memory(), np.arange(3), VECTORS)


@given(st.integers(0, 2**32 - 1), st.integers(0, 40), st.sampled_from(["success", "handled"]))
def test_a_score_is_the_sum_of_its_parts_by_their_definition(seed, n, rank):
    rng = np.random.default_rng([seed, 2])
    rows = memories.rows(seed, n, 6)
    kernels = tuple(k for k in memories.KERNELS if (k.statistic == "residual") == (rank == "success"))
    weights = tuple(rng.uniform(-1, 1, len(kernels)).tolist())
    join = Join({rank: RankWeights(kernels, 0.7, 0.9, 0.0, 0.2, weights)}, rank, rank == "success")
    one = ContactVectors(
        rng.standard_normal((1, 3)).astype(np.float32), unit(rng.standard_normal((1, WIDTH))),
        rng.standard_normal(1).astype(np.float32), np.zeros((1, 1), np.float32),
        np.array([memories.DAYS * DAY]), np.array([seed % CUSTOMERS], np.int32),
    )  # fmt: skip
    vectors = rng.standard_normal((CSAS, 3)).astype(np.float32)
    scored = join.score(rank, one, Memory(rows, CSAS, rows), np.arange(CSAS), vectors)
    for csa in range(CSAS):
        parts = [by_definition(k, rows, csa, one.memory[0], seed % CUSTOMERS, memories.DAYS * DAY) for k in kernels]
        expected = 0.7 * float(vectors[csa] @ one.profile[0]) + float(np.dot(weights, parts))
        if rank == "success":
            expected += 0.2 + 0.9 * float(one.level[0])
        assert scored.score[csa] == pytest.approx(expected, abs=2e-4)
    assert np.allclose(scored.contributions.sum(axis=1), scored.score, atol=1e-5)


def test_a_round_trip_changes_no_bit(tmp_path):
    awkward = replace(SUCCESS, profile=0.1 + 0.2, kernel_weights=(1 / 3,))
    join = replace(BOTH, ranks={"handled": HANDLED, "success": awkward})
    join.save(tmp_path / "a.json")
    loaded = Join.load(tmp_path / "a.json")
    assert loaded == join
    loaded.save(tmp_path / "b.json")
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()


def change(**fields: Any) -> Any:
    def apply(data: dict[str, Any]) -> None:
        data["ranks"]["success"].update(fields)

    return apply


@pytest.mark.parametrize(
    "spoil",
    [
        lambda data: data.pop("ranks"),
        lambda data: data.pop("default"),
        lambda data: data.update(default="csat"),
        lambda data: data.update(ranks=[]),
        change(kernels=None),
        change(kernels=[{"scope": "team", "statistic": "mass", "sharpness": 1.0}]),
        change(kernels=[{"scope": "csa", "statistic": "mass", "sharpness": -1.0}]),
        change(kernels=[{"scope": "csa", "statistic": "mass", "sharpness": 1.0, "colour": "red"}]),
        change(kernel_weights=[1.0, 2.0]),
        change(mood=1.0),
    ],
)
def test_weights_that_cannot_be_are_refused_in_one_line(tmp_path, spoil):
    data = BOTH.to_json()
    data = json.loads(json.dumps(data))
    spoil(data)
    refused(tmp_path / "calibration.json", json.dumps(data))


@pytest.mark.parametrize("content", [None, "", "null", "[]", "{}"])
def test_what_holds_no_weights_is_refused_in_one_line(tmp_path, content):
    refused(tmp_path / "calibration.json", content)


@given(st.floats(-300, 300, width=32))
def test_sigmoids_neither_overflow_nor_lose_their_tails(z):
    value = np.array([z], np.float32)
    with np.errstate(over="raise", invalid="raise"):
        p, log_p = float(sigmoid(value)[0]), float(log_sigmoid(value)[0])
    assert p == pytest.approx(1 / (1 + math.exp(-z)) if z > -80 else 0, rel=1e-5, abs=1e-30)
    assert log_p == pytest.approx(-math.log1p(math.exp(-z)) if z > -50 else z, rel=1e-5, abs=1e-7)


def refused(path: Path, content: str | None) -> None:
    if content is not None:
        path.write_text(content)
    with pytest.raises(BundleError, match=r"calibration\.json: not a calibration\.json of this version") as error:
        Join.load(path)
    assert "\n" not in str(error.value)
