"""An A/B test of contacts that share people is wrong, a switchback is not; the small centre is like the history's."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from evaluation.experiment.design_like import MOST_CSAS, MOST_PATIENCE_MINUTES, bed_of, like
from evaluation.experiment.design_spec import Shown
from evaluation.experiment.simulated_bias import BY_CONTACT, biases
from evaluation.simulate.policies import p_mu
from tests.evaluation.experiment.beds import bed
from tests.evaluation.experiment.pasts import past
from tests.evaluation.experiment.test_design_schedule import plan


def found(load: float, faster: bool, replications: int = 12):
    """By way and metric; a treatment that is better, and may be faster as well."""
    more = {"handle_s": np.random.default_rng(0).uniform(300, 900, (3, 20))} if faster else {}
    of = bed(7, load, csas=20, **more)
    of = replace(of, treatment=p_mu(of.centre) if faster else of.treatment)
    rows = biases([(load, of)], [plan(7, wash_out_minutes=20)], replications)
    return {(row.way, row.metric): row for row in rows}


def test_the_treatment_takes_the_controls_best_people():
    """People are all as fast, so it is who gets whom alone: the A/B test tells more than there is."""
    of = found(0.7, False)
    told = of[BY_CONTACT, "resolved"]
    assert told.wrong
    assert told.told.mean > 1.15 * told.truth.mean > 0
    assert told.covered < 0.7
    assert not of["switchback", "resolved"].wrong


def test_arms_that_share_people_share_the_wait():
    """A faster treatment makes the control's contacts wait less as well: the A/B test tells less than there is."""
    of = found(1.0, True)
    for metric in ("wait_s", "resolved"):  # of who waits less, fewer give up
        told = of[BY_CONTACT, metric]
        assert told.wrong
        assert abs(told.told.mean) < 0.95 * abs(told.truth.mean)
        assert not of["switchback", metric].wrong
    assert abs(of[BY_CONTACT, "wait_s"].told.mean) < 0.7 * abs(of[BY_CONTACT, "wait_s"].truth.mean)


def test_a_treatment_that_is_the_control_has_no_effect():
    of = replace(bed(3), treatment=bed(3).control)
    for row in biases([(0.85, of)], [plan(3)], 3):
        assert row.truth.mean == 0.0
        assert not row.wrong
        assert abs(row.told.mean) < 2 * row.told.half + 1e-9


def test_all_designs_stand_beside_the_truth():
    csas = plan(3, design="customer", unit="csa", block_hours=24.0)
    rows = biases([(0.85, bed(3)), (1.0, bed(3, 1.0))], [plan(3), csas], 2, ("resolved",))
    assert [(row.load, row.way) for row in rows] == [
        (load, way) for load in (0.85, 1.0) for way in (BY_CONTACT, "switchback", "customer")
    ]
    assert len({row.truth.mean for row in rows}) == 2


def test_the_small_centre_is_made_of_the_history():
    history = past(28, 800, csas=30, csa_sd=0.1)
    of = like(history)
    assert of.handle_minutes == pytest.approx(8.0, rel=0.05)
    assert of.resolved == pytest.approx(0.7, abs=0.05)
    assert of.spread == pytest.approx(0.1 / 0.21, abs=0.15)
    assert 10 <= of.csas <= MOST_CSAS
    # Time waited by all, for each who gave up.
    assert of.patience_minutes == pytest.approx(40 / 60 / 0.05, rel=0.1)
    made = bed_of(of, 0.9, Shown(days=1), 0)
    assert made.centre.load() == pytest.approx(0.9)
    assert made.centre.success.mean() == pytest.approx(of.resolved, abs=0.1)
    assert made.treatment.name == "pμ"


def test_what_a_history_does_not_tell_is_assumed_and_said():
    history = past(28, 800)
    nothing = np.full(len(history), np.nan)
    columns = {**history.columns, "resolved": nothing, "handle_minutes": nothing, "abandoned": np.zeros(len(history))}
    of = like(replace(history, columns=columns))
    assert of.patience_minutes is None
    assert len(of.notes) == 3
    assert all("assumed" in line or "nobody gave up" in line for line in of.notes)
    patient = {**history.columns, "wait_s": np.full(len(history), 3600.0)}
    of = like(replace(history, columns=patient))
    assert of.patience_minutes == MOST_PATIENCE_MINUTES
    assert "is shortened to 30" in of.notes[0]
