"""Guardrails of a design: which there are, whether they can hold, how wide their margins must be."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import t

from evaluation.experiment.design import _plan
from evaluation.experiment.design_blocks import blocks_of
from evaluation.experiment.design_guards import LIKELY, guarded, guardrails, said, secondary, widened
from evaluation.experiment.plan import Guardrail
from evaluation.experiment.power_resampled import _places
from evaluation.experiment.schedule import redraws, spans_of
from tests.evaluation.experiment.choices import HISTORY, LATER, asked, choose
from tests.evaluation.experiment.pasts import BEGINS
from twotower.clock import HOUR


def test_guardrails_are_those_that_the_history_has(tmp_path):
    found = guardrails(asked(), HISTORY, tmp_path)
    assert [one.metric for one in found] == ["wait_s", "abandoned"]
    (tmp_path / "shifts.parquet").touch()
    assert [one.metric for one in guardrails(asked(metric="wait_s", effect=5), HISTORY, tmp_path)] == [
        "abandoned", "occupancy", "gini_load"
    ]  # fmt: skip
    own = Guardrail(metric="repeat", better="lower", margin=0.01)
    assert guardrails(asked(guardrails=[own]), HISTORY, tmp_path) == (own,)
    assert secondary(asked(), HISTORY, found) == ("repeat", "handle_minutes", "transferred")
    assert secondary(asked(secondary=["csat"]), HISTORY, found) == ("csat",)


def test_a_guardrail_says_whether_it_can_hold(tmp_path):
    choice = choose()
    rails = (
        Guardrail(metric="abandoned", better="lower", margin=0.05),
        Guardrail(metric="abandoned", better="lower", margin=0.0005),
        Guardrail(metric="wait_s", better="lower", margin=0.1, relative=True),
        Guardrail(metric="occupancy", better="lower", margin=0.02),
    )
    wide, narrow, wait, busy = guarded(asked(), HISTORY, choice.option, choice.days, LATER, rails, tmp_path)
    assert wide.held > 0.99
    assert narrow.held < 0.2
    assert wide.smallest == pytest.approx(narrow.smallest)
    assert wide.level == pytest.approx(0.05, abs=0.01)
    assert 0.0005 < wide.smallest < 0.05
    assert wait.level == pytest.approx(40, rel=0.05)
    assert np.isnan(busy.held)
    always = asked(stopping="always_valid")
    later = guarded(always, HISTORY, choice.option, choice.days, LATER, rails[:1], tmp_path)[0]
    assert later.smallest > wide.smallest


def uneven():
    """Waits that are ten times as long at noon as at night, and twice as long in one block as in another."""
    rng = np.random.default_rng(8)
    block = (HISTORY.arrived - BEGINS) // (4 * HOUR)
    level = np.array([8, 8, 80, 120, 80, 20])[block % 6] * rng.lognormal(0, 0.3, int(block.max()) + 1)[block]
    return replace(HISTORY, columns=HISTORY.columns | {"wait_s": rng.exponential(level)})


def guards_of(ask, history, choice, tmp_path):
    """With their chances."""
    rails = guardrails(ask, history, tmp_path)
    return rails, guarded(ask, history, choice.option, choice.days, LATER, rails, tmp_path)


def test_default_margins_are_as_wide_as_they_must_be(tmp_path):
    more = {"design": "switchback", "block_hours": 4, "days": 21, "effect": 0.05}
    ask, history = asked(**more), uneven()
    rails, before = guards_of(ask, history, choose(history, **more), tmp_path)
    wait, abandoned = widened(ask, before)
    assert before[0].held < LIKELY <= wait.held < 0.9
    assert wait.default == (0.1, before[0].held)
    assert 0.1 < wait.of.margin < 0.6
    assert wait.of.margin * 100 == pytest.approx(round(wait.of.margin * 100))  # whole hundredths
    assert wait.of.margin * wait.level - wait.smallest < 0.01 * wait.level
    # What holds by default stays as it is.
    assert before[1].held > LIKELY
    assert (abandoned.of, abandoned.default) == (rails[1], None)
    lines = said((wait, abandoned))
    assert f"wait to {wait.of.margin:.0%} of it (by default 10% of it, which would be held in" in lines[0]
    assert "at most" in lines[-1]
    assert not any("probably end 'not held'" in line for line in lines)


def test_given_margins_stay_and_the_plan_says_what_would_hold(tmp_path):
    rails = [{"metric": "wait_s", "better": "lower", "margin": 0.1, "relative": True},
             {"metric": "abandoned", "better": "lower", "margin": 0.001},
             {"metric": "handle_minutes", "better": "lower", "margin": 5.0}]  # fmt: skip
    more = {"design": "switchback", "block_hours": 4, "days": 14, "effect": 0.05}
    ask, history = asked(**more, guardrails=rails), uneven()
    found = widened(ask, guards_of(ask, history, choose(history, **more), tmp_path)[1])
    assert [one.of.margin for one in found] == [0.1, 0.001, 5.0]
    [line] = [line for line in said(found) if "probably end 'not held'" in line]
    assert f"wait {found[0].held:.0%}, abandonment {found[1].held:.0%}; margins of wait" in line
    assert "handle time" not in line
    assert f"{found[0].smallest / found[0].level:.0%} of it" in line


@pytest.mark.parametrize("history", [HISTORY, uneven()], ids=["even", "uneven"])
def test_a_widened_margin_is_held_as_often_as_is_said(history, tmp_path):
    """Experiments of the history's own blocks, by what the analysis tests: m₁ − (1 + m) m₀ against 0."""
    more = {"design": "switchback", "block_hours": 4, "days": 14, "effect": 0.05}
    ask, choice = asked(**more), choose(history, **more)
    wait = widened(ask, guards_of(ask, history, choice, tmp_path)[1])[0]
    if wait.default is None:  # narrower, so that there is something to see
        narrow = (wait.of.model_copy(update={"margin": round(wait.smallest / wait.level, 3)}),)
        wait = guarded(ask, history, choice.option, choice.days, LATER, narrow, tmp_path)[0]
    of = _plan(ask, history, choice, choice.option.of_days(14), LATER, ())
    spans, many = spans_of(of, ("centre",)), 2000
    arms, cells = redraws(of, ("centre",), many), blocks_of(history, history.columns["wait_s"], 4.0)
    place = _places(cells, spans.begins, many, 0)
    n, s = cells.n.ravel()[place], cells.s.ravel()[place]
    change, part = np.zeros(many), np.zeros_like(n)
    for arm, weight in ((1, 1.0), (0, -1.0 - wait.of.margin)):
        mine = arms == arm
        count = (n * mine).sum(axis=1, keepdims=True)
        mean = (s * mine).sum(axis=1, keepdims=True) / count
        change += weight * mean[:, 0]
        part += weight * mine * (s - mean * n) / count
    sums = np.stack([part[:, spans.pair == pair].sum(axis=1) for pair in np.unique(spans.pair)], axis=1)
    se = np.sqrt((sums**2).sum(axis=1))
    held = (change + t.ppf(0.95, sums.shape[1] - 1) * se < 0).mean()
    assert held == pytest.approx(wait.held, abs=0.05)
