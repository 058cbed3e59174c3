"""Where an effect comes from: better CSAs taking more, or better matches."""

from __future__ import annotations

import numpy as np
import pytest

from evaluation.experiment.effects import Means, setting_of
from evaluation.experiment.spans import spans_of
from evaluation.experiment.taken import taken
from tests.evaluation.experiment.made import CSAS, World, make, plan_of


def found(world: World, design: str = "switchback", **columns):
    made = make(plan_of(design), world)
    made = made.changed(**columns) if columns else made
    of = setting_of(made.plan, spans_of(made.plan, made.schedule), made.frame, draws=100)
    outcome = of.outcome("resolved")
    return taken(of, outcome), Means(of, outcome).difference().value


def test_an_effect_of_using_the_best_more_is_told_from_one_of_matching():
    told, _whole = found(World(contacts=12_000, spread=0.2, best_first=1.2))
    assert told is not None
    weight = np.exp(1.2 * np.linspace(-1, 1, CSAS))
    expected = 0.2 * np.average(np.linspace(-1, 1, CSAS), weights=weight)
    assert told.who.value == pytest.approx(expected, abs=0.015)
    assert told.who.p < 1e-6
    assert abs(told.match.value) < 0.03
    assert told.best.value > 0.1
    assert told.by_who
    assert told.source == "from before the experiment"


def test_an_effect_of_matching_is_none_of_who():
    told, _whole = found(World(contacts=12_000, effect=0.1, spread=0.2))
    assert told is not None
    assert abs(told.who.value) < 0.015
    assert told.match.value == pytest.approx(0.1, abs=0.04)
    assert not told.by_who


@pytest.mark.parametrize("design", ["switchback", "cluster", "customer"])
def test_the_parts_add_up_to_the_effect(design):
    told, whole = found(World(effect=0.05, spread=0.1, best_first=0.5, abandoned=(0.1, 0.03)), design)
    assert told is not None
    assert told.who.value + told.match.value + told.nobody.value == pytest.approx(whole)


def test_contacts_that_nobody_took_are_a_part_of_their_own():
    told, _whole = found(World(contacts=12_000, abandoned=(0.2, 0.05), shock=0.01))
    assert told is not None
    assert told.nobody.value == pytest.approx(0.15 * 0.7, abs=0.03)
    assert abs(told.match.value) < 0.03


def test_shares_of_fifths_are_shares():
    told, _ = found(World(spread=0.2, best_first=1.0))
    assert told is not None
    control, treatment = np.array(told.fifths).T
    assert control.sum() == pytest.approx(1.0)
    assert treatment.sum() == pytest.approx(1.0)
    assert (np.diff(treatment) > 0).all()
    assert told.best.value == pytest.approx(treatment[-1] - control[-1])


def test_without_history_means_come_from_the_controls_contacts():
    told, _ = found(World(contacts=12_000, spread=0.2, best_first=1.2), csa_rate=np.nan)
    assert told is not None
    assert "no history" in told.source
    # Means of some 300 contacts are shrunk, so this part is told too small rather than too large.
    assert 0.03 < told.who.value < 0.09


def test_where_nobody_took_anything_in_an_arm_there_is_nothing_to_split():
    made = make(plan_of())
    nobody = made.changed(csa_id=np.where(made.frame["arm"] == 1, None, made.frame["csa_id"]))
    of = setting_of(nobody.plan, spans_of(nobody.plan, nobody.schedule), nobody.frame)
    assert taken(of, of.outcome("resolved")) is None
