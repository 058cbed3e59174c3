"""The set-based rule in the simulator: what it keeps, and what it is worth."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from evaluation.simulate.centre import Centre, Patience, Shifts
from evaluation.simulate.figures import figures, waits
from evaluation.simulate.pictures import pictures, prices_of_rules, skills_of
from evaluation.simulate.policies import Rule, fifo, greedy
from evaluation.simulate.replicate import Trial, compare
from evaluation.simulate.run import Records, simulate
from evaluation.simulate.sets import Asked, Believed, prices_of, sets
from evaluation.simulate.state import NOBODY
from serve.sets.sustain import Limits
from serve.sets.wait import Waiting
from tests.evaluation.simulate.centres import skilled
from twotower.cli import main

HOUR = 3600.0


def rule(centre: Centre, name: str = "sets", **asked: Any) -> Rule:
    return sets(centre, Believed(centre.success, centre.handle_s), Asked(**asked), name)


def run(centre: Centre, of: Rule, replication: int = 0) -> Records:
    return simulate(centre, of, 0, replication)


def resolved(centre: Centre, of: Rule, runs: int = 2) -> float:
    return float(np.mean([figures(centre, run(centre, of, r)).resolved for r in range(runs)]))


def test_without_rules_it_is_the_greedy_match_where_one_contact_meets_csas() -> None:
    """A window of one contact, or of one CSA, has nothing to match together."""
    centre = skilled(0.7, 4.0)
    mine, theirs = run(centre, rule(centre)), run(centre, greedy(centre.success))
    same = mine.csa[: len(theirs)] == theirs.csa[: len(mine)]
    assert same.mean() > 0.97


def test_a_window_of_one_length_gathers_contacts() -> None:
    centre = skilled(0.5, 4.0)
    at_once = run(centre, rule(centre))
    gathered = run(centre, rule(centre, clock=(1e-6, 20.0, 20.0)))
    begins = gathered.start[gathered.csa != NOBODY]
    assert len(np.unique(begins)) < 0.8 * len(begins)  # several begin at once
    more = np.nanmean(waits(gathered)) - np.nanmean(waits(at_once))
    assert 8 < more < 25  # who opens a window waits all of it


def test_prices_are_of_the_intervals_in_which_time_is_scarce() -> None:
    centre = skilled(0.9, 4.0)
    rates = centre.rates.copy()
    rates[:, :4] *= 0.1
    rates[:, 4:] *= 1.6
    price = prices_of(replace(centre, rates=rates), Believed(centre.success, centre.handle_s))
    assert price.shape == (8, 10)
    assert not price[:4].any()
    assert (price[4:] > 0).all()


def test_the_page_shows_what_an_hour_of_csa_time_is_worth() -> None:
    centre = skilled(1.1, 2.0)
    trial = Trial(centre, (fifo(), rule(centre, "dear", prices=1.0), rule(centre, "as dear", prices=1.0)))
    assert list(prices_of_rules(trial)) == ["dear"]
    groups = skills_of(trial)
    assert sorted(groups) == ["bill, line", "bill, move", "line, move"]
    assert sorted(np.concatenate(list(groups.values())).tolist()) == list(range(10))
    drawn = pictures(trial, compare(trial, 1))
    assert "bill, line" in drawn["What an hour of CSA time is worth: dear"]


def test_prices_bring_more_where_time_is_scarce() -> None:
    centre = skilled(1.2, 4.0)
    priced = rule(centre, prices=1.0, waiting=Waiting(per_s=0.0003))
    assert resolved(centre, priced) > resolved(centre, rule(centre, waiting=Waiting(per_s=0.0003))) + 0.01
    assert resolved(centre, priced) > resolved(centre, fifo()) + 0.03


def busy_share(centre: Centre, records: Records, over_s: float) -> float:
    """The highest occupancy, faded over `over_s`, at which anybody was given a contact."""
    highest = 0.0
    for csa in range(len(centre.csas)):
        of = np.flatnonzero(records.csa == csa)
        of = of[np.argsort(records.start[of])]
        work = shifted = at = 0.0
        for i in of.tolist():
            idle = records.start[i] - at
            work, shifted = work * np.exp(-idle / over_s), shifted * np.exp(-idle / over_s)
            shifted += over_s * (1 - np.exp(-idle / over_s))
            highest = max(highest, work / shifted if shifted > 0 else 0.0)
            took = records.end[i] - records.start[i]
            grown = over_s * (1 - np.exp(-took / over_s))
            work, shifted = work * np.exp(-took / over_s) + grown, shifted * np.exp(-took / over_s) + grown
            at = records.end[i]
    return highest


@pytest.mark.parametrize("cap", [0.6, 0.8])
def test_nobody_is_given_a_contact_above_the_cap(cap: float) -> None:
    centre = skilled(1.1, 5.0)
    records = run(centre, rule(centre, limits=Limits(occupancy=cap, over_s=1800.0)))
    assert busy_share(centre, records, 1800.0) <= cap + 1e-6
    assert busy_share(centre, run(centre, rule(centre)), 1800.0) > 0.95
    assert figures(centre, records, HOUR).occupancy == pytest.approx(cap, abs=0.08)


def test_a_hard_contact_is_followed_by_rest() -> None:
    centre = replace(skilled(0.9, 4.0), hard=np.array([1.0, 0.0, 0.0]))
    records = run(centre, rule(centre, limits=Limits(rest_s=240.0)))
    gaps = []
    for csa in range(len(centre.csas)):
        of = np.flatnonzero(records.csa == csa)
        of = of[np.argsort(records.start[of])]
        hard = records.kind[of[:-1]] == 0
        gaps += (records.start[of[1:]] - records.end[of[:-1]])[hard].tolist()
    assert len(gaps) > 50
    assert min(gaps) >= 240.0 - 1e-6


def test_hard_contacts_are_spread() -> None:
    centre = replace(skilled(0.8, 8.0), hard=np.array([1.0, 0.0, 0.0]))
    kept = figures(centre, run(centre, rule(centre, limits=Limits(spread_hard=0.2))))
    left = figures(centre, run(centre, rule(centre)))
    assert kept.gini_hard < 0.6 * left.gini_hard


def test_a_guarantee_is_kept_before_a_cap() -> None:
    centre = replace(skilled(0.95, 4.0), patience=(Patience(),))
    asked = {"limits": Limits(occupancy=0.8, over_s=1800.0)}
    free, held = (run(centre, rule(centre, waiting=Waiting(per_s=1e-4, guarantee_s=g), **asked)) for g in (np.inf, 300))
    assert np.nanquantile(waits(held), 0.95) < 0.6 * np.nanquantile(waits(free), 0.95)


def test_shifts_are_told_to_the_load() -> None:
    """Who comes to a second shift has rested: a cap of the first holds them no longer."""
    centre = replace(
        skilled(1.0, 8.0), shifts=Shifts(np.repeat(np.arange(10), 2), np.tile([0.0, 5 * HOUR], 10),
                                         np.tile([3 * HOUR, 8 * HOUR], 10)),
    )  # fmt: skip
    records = run(centre, rule(centre, limits=Limits(occupancy=0.5, over_s=3600.0)))
    second = records.start[(records.start >= 5 * HOUR) & (records.csa != NOBODY)]
    assert second.min() < 5 * HOUR + 60
    assert busy_share(centre, records, 3600.0) <= 0.7


def test_the_oracle_of_a_file_knows_the_truth(tmp_path, capsys) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(
        """
centre:
  interval_minutes: 240
  classes: [{name: a, an_hour: 36, handle_minutes: 5, patience: {mean_minutes: 4}}]
  groups: [{name: g, csas: 6, skills: {a: }}]
  spread: {resolved: 1.5}
belief_error: 3
policies: [sets, oracle]
replications: 2
"""
    )
    assert main(["simulate", "--config", str(path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["policies"]
    more = found["oracle"]["more than sets"]["resolved"]
    assert more["mean"] > 0.03
