"""Through time: an effect that fades, an arm that reaches into the next block."""

from __future__ import annotations

import numpy as np
import pytest

from evaluation.experiment.effects import Means, setting_of
from evaluation.experiment.spans import spans_of
from evaluation.experiment.through_time import carry_over, novelty
from tests.evaluation.experiment.made import World, make, plan_of


def setting(plan, world, seed=0):
    made = make(plan, world, seed)
    return setting_of(made.plan, spans_of(made.plan, made.schedule), made.frame, draws=100)


@pytest.mark.parametrize("design", ["switchback", "cluster", "customer"])
def test_an_effect_that_fades_has_a_slope(design):
    of = setting(plan_of(design), World(contacts=12_000, effect=0.22, a_week=-0.15, shock=0.01))
    found = novelty(of, of.outcome("resolved"))
    assert found.slope is not None
    assert found.slope.value == pytest.approx(-0.15, abs=0.05)
    assert found.slope.p < 0.01
    effects = [one.effect for one in found.stretches]
    assert len(effects) == 6
    assert np.corrcoef(effects, np.arange(6))[0, 1] < -0.8


def test_an_effect_that_lasts_has_none():
    p = []
    for seed in range(15):
        of = setting(plan_of(), World(contacts=3000, effect=0.1), seed)
        slope = novelty(of, of.outcome("resolved")).slope
        assert slope is not None
        p.append(slope.p)
    assert sum(one < 0.05 for one in p) <= 3


def test_stretches_add_up_to_all_contacts():
    of = setting(plan_of(), World())
    found = novelty(of, of.outcome("resolved"))
    assert sum(one.contacts for one in found.stretches) == of.cells.counted.sum()
    assert found.stretches[0].begins == of.cells.begins.min()
    assert found.stretches[-1].ends == of.cells.ends.max()


def test_an_arm_that_reaches_into_the_next_block_is_found():
    """No wash-out, and half of the arm before for the first hour of four."""
    of = setting(plan_of(wash_out_minutes=0), World(contacts=24_000, effect=0.3, carried=0.9, shock=0.01))
    found = carry_over(of, of.outcome("resolved"))
    assert found is not None
    assert found.early is not None
    assert found.early.value < -0.1
    assert found.early.p < 0.001
    assert found.before is not None
    assert found.before.value > 0.03
    assert found.before.p < 0.01
    effects = [one.effect for one in found.minutes]
    assert effects[0] < min(effects[1:]) - 0.1


def test_a_wash_out_that_is_long_enough_leaves_nothing():
    of = setting(plan_of(wash_out_minutes=60), World(contacts=24_000, effect=0.3, carried=0.9, shock=0.01))
    outcome = of.outcome("resolved")
    found = carry_over(of, outcome)
    assert found is not None
    assert found.early is not None
    assert found.before is not None
    assert abs(found.early.value) < 0.06
    assert min(found.early.p, found.before.p) > 0.01
    first, *later = found.minutes
    assert (first.begins, first.ends) == (0.0, 60.0)
    assert first.effect < min(one.effect for one in later) - 0.1
    assert Means(of, outcome).difference().value == pytest.approx(0.3, abs=0.04)


def test_only_blocks_that_began_with_a_change_are_asked():
    of = setting(plan_of(), World())
    found = carry_over(of, of.outcome("resolved"))
    assert found is not None
    cells = of.cells
    changed = (cells.before >= 0) & (cells.arm != cells.arm[cells.before])
    assert sum(one.contacts for one in found.minutes) == changed[cells.of].sum()


@pytest.mark.parametrize("design", ["cluster", "customer"])
def test_where_no_unit_changes_its_arm_there_is_nothing_to_ask(design):
    of = setting(plan_of(design), World(contacts=1000))
    assert carry_over(of, of.outcome("resolved")) is None


def test_arms_that_alternate_cannot_be_told_apart_from_the_arm_before():
    from dataclasses import replace

    of = setting(plan_of(balance="none"), World())
    arm = (np.arange(len(of.cells)) % 2).astype(np.int8)
    cells = replace(of.cells, arm=arm)
    found = carry_over(replace(of, cells=cells), of.outcome("resolved"))
    assert found is not None
    assert found.before is None
