"""The simulator reproduces what is known exactly: Erlang C, Erlang A and M/M/n, with fixed seeds and stated tolerances.

Notable: tolerances are four standard errors of the replications themselves, and at most a stated distance, so a wrong
loop is not excused by wide intervals.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from evaluation.simulate.centre import Patience
from evaluation.simulate.policies import Rule, fifo, random
from evaluation.simulate.replicate import Comparison, Trial, compare
from evaluation.simulate.theory import erlang_a, erlang_c
from tests.evaluation.simulate.centres import CALLS, HALF_HOUR_S, HANDLE_S, single
from twotower.errors import ConfigError

RATE = CALLS / HALF_HOUR_S


def run(agents: int, patience: Patience | None = None, rule: Rule | None = None, hours: float = 200) -> Comparison:
    trial = Trial(single(agents, hours, patience), (rule or fifo("it"),), seed=1, warm_up_s=4 * HALF_HOUR_S)
    return compare(trial, 16)


def near(found: Comparison, figure: str, expected: float, within: float) -> None:
    one = found.of("it", figure)
    assert abs(one.mean - expected) <= within, f"{figure}: {one} for {expected}"
    assert one.half <= within


@pytest.mark.parametrize(("agents", "waits", "level"), [(14, 0.17413, 0.88835), (15, 0.10204, 0.94145)])
def test_formulas_give_the_published_figures_of_erlang_c(agents: int, waits: float, level: float) -> None:
    found = erlang_c(RATE, HANDLE_S, agents, 20)
    assert found.waits == pytest.approx(waits, abs=5e-6)
    assert found.level == pytest.approx(level, abs=5e-6)
    assert found.occupancy == pytest.approx(10 / agents)


def test_formulas_give_the_published_figures_of_erlang_a() -> None:
    found = erlang_a(RATE, HANDLE_S, 14, 300)
    assert found.waits == pytest.approx(0.14526, abs=5e-6)
    assert found.abandons == pytest.approx(0.013984, abs=5e-7)
    assert found.occupancy == pytest.approx(0.70430, abs=5e-6)


def test_formula_of_a_large_group() -> None:
    assert erlang_c(45.0, 1.0, 50).mean_wait_s == pytest.approx(0.072773, abs=5e-7)


@pytest.mark.parametrize("agents", [14, 15])
def test_erlang_c(agents: int) -> None:
    exact, found = erlang_c(RATE, HANDLE_S, agents, 20), run(agents)
    near(found, "waits", exact.waits, 0.01)
    near(found, "level", exact.level, 0.01)
    near(found, "occupancy", exact.occupancy, 0.005)
    near(found, "mean_wait_s", exact.mean_wait_s, 0.8)


def test_erlang_a() -> None:
    exact, found = erlang_a(RATE, HANDLE_S, 14, 300), run(14, Patience("exponential", 300))
    near(found, "waits", exact.waits, 0.01)
    near(found, "abandoned", exact.abandons, 0.0015)
    near(found, "occupancy", exact.occupancy, 0.005)
    near(found, "mean_wait_s", exact.mean_wait_s, 0.4)


def test_mean_wait_of_a_large_group() -> None:
    centre = single(50, 120, an_hour=45 * 3600 / HANDLE_S)
    found = compare(Trial(centre, (fifo("it"),), seed=2, warm_up_s=4 * HALF_HOUR_S), 16)
    near(found, "mean_wait_s", 0.072773 * HANDLE_S, 2.0)


def test_order_of_service_changes_no_share_and_no_mean_without_impatience() -> None:
    found = compare(Trial(single(14, 100), (fifo("it"), random("other")), seed=3), 8)
    for figure in ("waits", "occupancy", "mean_wait_s"):
        assert abs(found.less("it", "other", figure).mean) <= found.less("it", "other", figure).half + 1e-9


def test_constant_times_wait_half_as_long() -> None:
    """M/D/1 by Pollaczek and Khinchine: half the wait of M/M/1."""
    centre = single(1, 2000, an_hour=0.7 * 3600 / HANDLE_S, sigma=np.array([0.0]))
    found = compare(Trial(centre, (fifo("it"),), seed=4, warm_up_s=4 * HALF_HOUR_S), 8)
    near(found, "mean_wait_s", 0.7 * HANDLE_S / (2 * (1 - 0.7)), 12)


def test_lognormal_times_wait_by_their_variance() -> None:
    """M/G/1 by Pollaczek and Khinchine."""
    centre = replace(single(1, 2000, an_hour=0.6 * 3600 / HANDLE_S), sigma=np.array([0.8]))
    found = compare(Trial(centre, (fifo("it"),), seed=5, warm_up_s=4 * HALF_HOUR_S), 8)
    near(found, "mean_wait_s", 0.6 * HANDLE_S * np.exp(0.8**2) / (2 * (1 - 0.6)), 25)


def test_what_has_no_steady_state_is_refused() -> None:
    with pytest.raises(ConfigError, match="no steady state; use erlang_a"):
        erlang_c(RATE, HANDLE_S, 10)
    with pytest.raises(ConfigError, match="all must be above 0"):
        erlang_c(RATE, HANDLE_S, 0)
    with pytest.raises(ConfigError, match="patience of 0 s"):
        erlang_a(RATE, HANDLE_S, 3, 0)
