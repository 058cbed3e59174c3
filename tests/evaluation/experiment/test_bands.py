"""For whom: bands that differ are found, bands that do not are not, and the luckiest is pulled back."""

from __future__ import annotations

import numpy as np
import pytest

from evaluation.experiment.bands import LEAST, OTHERS, bands
from evaluation.experiment.effects import Means, setting_of
from evaluation.experiment.spans import spans_of
from tests.evaluation.experiment.made import World, make, plan_of


def found(world: World, seed: int = 0, **columns):
    made = make(plan_of(), world, seed).changed(**columns)
    of = setting_of(made.plan, spans_of(made.plan, made.schedule), made.frame, draws=200)
    return bands(of, of.outcome("resolved")), of


def test_a_band_that_differs_is_found():
    told, _ = found(World(contacts=12_000, effect=0.02, by_intent=(0.25, 0, 0, 0, 0, 0)))
    by_name = {one.value: one for one in told if one.kind == "intent"}
    assert by_name["i0"].found
    assert by_name["i0"].apart == pytest.approx(0.25, abs=0.08)
    assert not any(one.found for one in told if one.kind != "intent")


def test_bands_that_do_not_differ_are_rarely_found():
    many = [one for seed in range(12) for one in found(World(contacts=4000, effect=0.05), seed)[0]]
    assert np.mean([one.found for one in many]) < 0.05


def test_effects_are_pulled_to_their_mean():
    told, _ = found(World(contacts=5000, effect=0.05))
    some = [one for one in told if one.kind == "intent"]
    assert np.ptp([one.shrunk for one in some]) < 0.6 * np.ptp([one.effect for one in some])


def test_a_bands_effect_is_that_of_its_contacts():
    told, of = found(World(contacts=5000, effect=0.05))
    one = next(one for one in told if one.value == "i3")
    kept = (of.frame["intent"] == "i3").to_numpy()
    inside, rest = (Means(of, of.outcome("resolved"), part).difference() for part in (kept, ~kept))
    assert one.effect == pytest.approx(inside.value)
    assert one.apart == pytest.approx(inside.value - rest.value)
    assert one.contacts == (kept & of.cells.counted).sum()
    assert sum(each.share[0] for each in told if each.kind == "intent") == pytest.approx(1.0)


def test_small_bands_are_put_together():
    rng = np.random.default_rng(0)
    rare = np.where(rng.random(6000) < 0.9, "common", [f"rare{i}" for i in rng.integers(0, 40, 6000)])
    told, _of = found(World(), intent=rare)
    names = {one.value: one.contacts for one in told if one.kind == "intent"}
    assert set(names) == {"common", OTHERS}
    assert names[OTHERS] > 2 * LEAST


def test_a_single_band_says_nothing():
    told, _ = found(World(), intent="the same", language="en", load=None, tenure=None)
    assert told == ()


def test_metrics_of_cells_have_no_bands():
    made = make(plan_of())
    of = setting_of(made.plan, spans_of(made.plan, made.schedule), made.frame)
    from dataclasses import replace

    assert bands(of, replace(of.outcome("resolved"), values=None)) == ()
