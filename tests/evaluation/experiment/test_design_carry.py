"""What is left after a change: fitted, missed, seen in a log, seen in the simulator."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from evaluation.experiment.carry import Decay, fitted
from evaluation.experiment.relaxation import HORIZONS, relaxation
from evaluation.experiment.simulated import Experiment
from evaluation.experiment.simulated_carry import EDGES, carried
from evaluation.simulate.policies import p_mu
from tests.evaluation.experiment.beds import bed
from tests.evaluation.experiment.pasts import BEGINS, past
from tests.evaluation.experiment.test_design_schedule import plan
from twotower.clock import DAY, NEVER, SECOND
from twotower.errors import ConfigError


def decay(start: float, tau: float) -> Decay:
    """A known one."""
    none = np.zeros(0)
    return Decay(start, tau, none, none, none, "known")


def test_a_decay_is_found_again():
    rng = np.random.default_rng(0)
    t, half = np.array(HORIZONS, float), np.full(len(HORIZONS), 0.04)
    left = 0.6 * np.exp(-t / 40) + rng.normal(0, 0.02, len(t))
    found = fitted(t, left, half, "x")
    assert found.start == pytest.approx(0.6, abs=0.05)
    assert found.tau == pytest.approx(40, rel=0.15)
    assert found.until(0.1) == pytest.approx(40 * np.log(6), rel=0.15)
    assert found.at(np.array([0.0, found.tau])) == pytest.approx(found.start * np.array([1, np.exp(-1)]))


def test_where_nothing_is_left_nothing_is_fitted():
    rng = np.random.default_rng(1)
    t = np.array(HORIZONS, float)
    seen = [fitted(t, rng.normal(0, 0.02, len(t)), np.full(len(t), 0.04), "x").start for _ in range(200)]
    assert np.mean(np.array(seen) > 0) < 0.12
    unknown = np.full(len(t), np.nan)
    assert fitted(t, unknown, unknown, "x").missed(240, 0) == 0.0
    # Not more than all is left, nor less than nothing.
    assert fitted(t, 3 * np.exp(-t / 30), np.full(len(t), 0.1), "x").start == 1.0
    assert fitted(t, -np.exp(-t / 30), np.full(len(t), 0.1), "x").start == 0.0


@pytest.mark.parametrize(("hours", "wash"), [(1, 0), (2, 30), (4, 0), (8, 120)])
@pytest.mark.parametrize(("start", "tau"), [(1.0, 30.0), (0.4, 300.0)])
def test_what_is_missed_is_what_drawn_switchbacks_miss(hours, wash, start, tau):
    of, rng = decay(start, tau), np.random.default_rng(2)
    minutes, blocks = 60 * hours, 6000
    arms = rng.integers(0, 2, blocks)
    t = np.arange(minutes) + 0.5
    # The centre's state follows the arm; an arm sees so much less of itself as the state is away from it.
    state, away, counted = 0.5, 0.0, 0
    for b in range(1, blocks):
        behind = abs(arms[b] - state)
        kept = t > wash if arms[b] != arms[b - 1] else np.ones(minutes, bool)
        away, counted = away + (behind * np.exp(-t / tau))[kept].sum(), counted + kept.sum()
        state = arms[b] + (state - arms[b]) * np.exp(-minutes / tau)
    assert of.missed(minutes, wash) == pytest.approx(2 * start * away / counted, rel=0.05, abs=0.002)


def test_longer_blocks_and_wash_outs_miss_less():
    of = decay(0.9, 45.0)
    missed = [of.missed(60 * hours, 0) for hours in (1, 2, 4, 8, 24)]
    assert missed == sorted(missed, reverse=True)
    washed = [of.missed(240, wash) for wash in (0, 15, 30, 60)]
    assert washed == sorted(washed, reverse=True)
    assert of.missed(60, 60) == 1.0
    assert decay(0.0, 45.0).missed(60, 0) == 0.0


@pytest.mark.parametrize("minutes", [10.0, 40.0])
def test_a_log_remembers_as_long_as_its_contacts_stay(minutes):
    """Contacts of exponential times that nobody waits for: what is left of a full house fades as they do."""
    history, rng = past(56, 1500), np.random.default_rng(3)
    left = history.arrived + (rng.exponential(60 * minutes, len(history)) * SECOND).astype(np.int64)
    found = relaxation(replace(history, left=left))
    assert found.tau == pytest.approx(minutes, rel=0.2)
    assert found.start > 0.85
    assert np.all(found.half < 0.2)


def test_busy_days_are_no_memory():
    """Days of very different traffic, in a centre that forgets within minutes."""
    history, rng = past(56, 1500), np.random.default_rng(4)
    busy = rng.uniform(0.2, 1.0, 56)
    kept = rng.random(len(history)) < busy[(history.arrived - BEGINS) // DAY]
    names = ("arrived", "left", "customer", "csa")
    some = replace(history, **{name: getattr(history, name)[kept] for name in names})
    some = replace(some, left=some.arrived + (rng.exponential(480, kept.sum()) * SECOND).astype(np.int64))
    assert relaxation(some).until(0.1) < 40


def test_a_log_without_ends_is_one_line():
    history = past(28, 300)
    with pytest.raises(ConfigError, match="ended_at is known of 0% of contacts, too few to see how long"):
        relaxation(replace(history, left=np.full(len(history), NEVER)))


def test_the_simulator_shows_what_an_arm_leaves():
    """A treatment that is much faster, over capacity: the queue of the arm before is still there after a change."""
    of = bed(14, 1.1, csas=12, handle_s=np.random.default_rng(0).uniform(200, 1000, (3, 12)))
    of = replace(of, treatment=p_mu(of.centre))
    experiment = Experiment(of, plan(14))
    resolved, waits = carried(experiment, ("resolved", "wait_s"), 8)
    assert len(waits.decay.minutes) == len(EDGES) - 1
    assert waits.effect < -10
    assert waits.decay.start > 0.3
    assert waits.decay.tau < 60
    assert 0.005 < waits.missed < 0.4
    assert waits.missed == pytest.approx(waits.decay.missed(240, 0), abs=0.04)
    assert abs(resolved.missed) < 0.1
    # A wash-out leaves less of it in what counts.
    washed = carried(Experiment(of, plan(14, wash_out_minutes=90)), ("wait_s",), 8)[0]
    assert washed.missed < waits.missed


def test_a_share_of_no_effect_is_not_told():
    of = replace(bed(7), treatment=bed(7).control)
    found = carried(Experiment(of, plan(7)), ("resolved",), 3)[0]
    assert found.effect == 0.0
    assert np.isnan(found.missed)
    assert found.decay.start == 0.0


def test_only_a_switchback_of_the_centre_carries_over():
    of = plan(14, design="cluster", unit="site", block_hours=None)
    with pytest.raises(ConfigError, match="carry-over is that of a switchback of the whole centre"):
        carried(Experiment(bed(sites=4), of), ("resolved",), 2)
