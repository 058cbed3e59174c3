"""Which design is chosen, for how long, and what cannot be is said in one line."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from pydantic import ValidationError

from evaluation.experiment import design
from evaluation.experiment.design import _compared, _plan, _settled
from evaluation.experiment.design_choose import chosen
from evaluation.experiment.design_options import LEAST_CLUSTERS, cluster, customer, hours_asked
from evaluation.experiment.design_tried import tried
from evaluation.experiment.power_resampled import Tried
from tests.evaluation.experiment.choices import HISTORY, LATER, SITES, asked, choose, forgets
from tests.evaluation.experiment.pasts import past
from twotower.clock import DAY, format_time
from twotower.errors import ConfigError


def test_a_switchback_is_taken_where_nothing_speaks_against_it():
    found = choose()
    assert found.option.design == "switchback"
    assert found.days in (14.0, 21.0, 28.0)
    assert [one.design for one in found.options] == ["switchback", "cluster", "customer"]
    assert found.why[0].startswith("switchback: the whole centre changes its arm")
    assert any(line.startswith("not cluster: csas.parquet, column") for line in found.why)
    assert any(line.startswith("not customer: ") for line in found.why)


def test_days_are_the_fewest_whole_weeks_that_find_the_effect():
    found, ask = choose(), asked()
    assert found.option.power(ask, found.days) >= 0.8
    assert found.option.power(ask, found.days - 7) < 0.8 or found.days == 14
    assert choose(effect=0.015).days > found.days
    assert choose(stopping="always_valid").days > found.days
    assert choose(power=0.95).days >= found.days
    assert choose(alpha=0.01).days >= found.days


def test_days_that_are_given_are_kept():
    assert choose(days=35).days == 35
    assert choose(days=10, effect=0.1).days == 10


def pause(first: float, last: float) -> dict[str, str]:
    """From one day of the experiment to another."""
    return {"begins": format_time(LATER + round(first * DAY)), "ends": format_time(LATER + round(last * DAY))}


FORTNIGHT = [pause(7, 21)]


@pytest.mark.parametrize("design", ["switchback", "customer"])
def test_what_pauses_leave_is_priced(design):
    plain = choose(design=design, block_hours=4, effect=0.018)
    paused = choose(design=design, block_hours=4, effect=0.018, pauses=FORTNIGHT)
    for days in (28, 42):
        less, same = paused.option.of_days(days), plain.option.of_days(days - 14)
        assert (less.contacts, less.se, less.df) == pytest.approx((same.contacts, same.se, same.df), rel=0.02)
    assert paused.days == plain.days + 14
    assert f"pauses leave {plain.days:g} of the {paused.days:g} days" in " ".join(paused.why)
    # Any block that meets one is left out whole.
    touched = choose(design="switchback", block_hours=24, days=28, pauses=[pause(9.9, 10.1)]).option
    whole = choose(design="switchback", block_hours=24, days=28, pauses=[pause(9, 11)]).option
    assert touched.of_days(28) == whole.of_days(28) != choose(design="switchback", block_hours=24, days=28).option


def test_trying_leaves_out_what_pauses_do():
    for way in ("switchback", "customer"):
        ask = asked(design=way, block_hours=4, days=28, effect=0.05, pauses=FORTNIGHT)
        choice = chosen(ask, HISTORY, None, LATER, 0.0)
        plan = _plan(ask, HISTORY, choice, choice.option.of_days(28), LATER, ())
        found = tried(ask, HISTORY, choice.option, plan, 28)
        assert found.se == pytest.approx(choice.option.of_days(28).se, rel=0.15), way
        none = ask.model_copy(update={"pauses": ()})
        more = tried(none, HISTORY, choice.option, plan.model_copy(update={"pauses": ()}), 28)
        assert found.se > 1.2 * more.se, way


def test_every_possible_option_is_tried_after_the_days_that_it_needs():
    ask, history = asked(effect=0.04), past(56, 800, sites=12, site_sd=0.02)
    choice = chosen(ask, history, None, LATER, 0.0)
    found, notes = _compared(ask, history, choice, LATER, (), None)
    assert notes == []
    for option, one in zip(choice.options, found, strict=True):
        assert option.impossible is None
        assert one.days == (option.days(ask) or ask.most_days)
        assert one.tried.found == pytest.approx(option.power(ask, one.days), abs=0.2), option.design
    none, _ = _compared(asked(), HISTORY, choose(), LATER, (), None)  # nobody has a site
    assert [one is None for one in none] == [False, True, False]


@pytest.mark.parametrize(
    ("more", "kept"), [({"most_days": 20}, "most_days: 20 allows no week more"), ({"days": 14}, "the days are given")]
)
def test_a_power_that_trying_does_not_find_is_said(monkeypatch, more, kept):
    monkeypatch.setattr(design, "tried", lambda *of: Tried(0.5, 0.05, 0.01, 1000))
    ask = asked(design="switchback", effect=0.05, **more)
    choice, plan, found = _settled(ask, HISTORY, chosen(ask, HISTORY, None, LATER, 0.0), LATER, ())
    assert (choice.days, found.found) == (14, 0.5)
    assert plan.expected["power"] > 0.8
    line = choice.why[-1]
    assert line.startswith("mind: 14 days find it in 50% of experiments made of the history's own contacts")
    assert f"less often than the 80% that is asked for; {kept}" in line
    longer = asked(design="switchback", effect=0.05, most_days=28)
    choice, _, _ = _settled(longer, HISTORY, chosen(longer, HISTORY, None, LATER, 0.0), LATER, ())
    assert choice.days == 28


@pytest.mark.parametrize("design", ["auto", "switchback"])
def test_a_wash_out_that_leaves_nothing_is_blamed(design):
    said = "wash_out_minutes: a wash-out of 2000 minutes leaves nothing of blocks of 24 h, the longest; give fewer"
    with pytest.raises(ConfigError, match=said):
        choose(design=design, wash_out_minutes=2000)
    # Sites need none.
    assert choose(SITES, wash_out_minutes=2000, effect=0.08).option.design == "cluster"
    with pytest.raises(ConfigError, match="a wash-out of 2000 minutes leaves nothing of windows of 24 h"):
        choose(design="customer", wash_out_minutes=2000)


def test_what_is_better_when_lower_is_written_with_a_minus():
    with pytest.raises(ConfigError, match=r"effect: −0.2 s is too small for 14 days: the smallest .* is −\d+\.\d s"):
        choose(metric="wait_s", effect=0.2, days=14)
    ask = asked(metric="wait_s", effect=8, design="switchback")
    choice = chosen(ask, HISTORY, None, LATER, 0.0)
    plan = _plan(ask, HISTORY, choice, choice.option.of_days(choice.days), LATER, ())
    assert plan.hypothesis == "treatment lowers wait by 8.0 s or more against control"


def test_a_first_look_is_within_the_experiment():
    def planned(day: float):
        ask = asked(design="switchback", stopping="always_valid", effect=0.05, first_look=format_time(
            LATER + round(day * DAY)))  # fmt: skip
        choice = chosen(ask, HISTORY, None, LATER, 0.0)
        return _plan(ask, HISTORY, choice, choice.option.of_days(choice.days), LATER, ())

    assert planned(7).stopping.first_look == format_time(LATER + 7 * DAY)
    for day in (-1, 400):
        with pytest.raises(ConfigError, match=r"first_look: .* is not within the experiment, after"):
            planned(day)
    with pytest.raises(ValidationError, match="first_look: with stopping: fixed one looks once, at the end"):
        asked(first_look="2026-03-02T00:00:00Z")


def test_clusters_have_no_pauses():
    one = cluster(asked(pauses=FORTNIGHT), SITES, "resolved", "site", LATER)
    assert "sites keep their arm all the time, and a pause falls within 14 days" in one.impossible
    late = cluster(asked(pauses=[pause(35, 36)]), SITES, "resolved", "site", LATER)
    assert late.impossible is None
    assert late.of_days(35).contacts > 0
    assert late.of_days(42).contacts == 0


def test_pauses_that_leave_nothing_are_one_line():
    with pytest.raises(ConfigError, match=r"pauses: no block is left of 84 days from .* on \(switchback\)"):
        choose(pauses=[pause(0, 90)], design="switchback")
    with pytest.raises(ConfigError, match=r"days: 14 days hold 3\.0 blocks of 24 h beside pauses; 4 or more"):
        choose(pauses=[pause(3, 20)], design="switchback", days=14, effect=0.2, block_hours=24)


def test_sites_apart_are_taken_where_a_centre_never_forgets():
    found = choose(SITES, forgets(3000.0), effect=0.08)
    assert found.option.design == "cluster"
    assert any("not switchback: what the arm before leaves would hide" in line for line in found.why)
    assert len(found.option.units) == 12
    # Where demand crosses sites, clusters are no way out either.
    crossing = past(56, 800, sites=12, apart=0.4)
    assert "sites share demand" in " ".join(choose(crossing, design="cluster", effect=0.08).why)


def test_a_longer_memory_asks_for_longer_blocks():
    short, long = choose(decay=forgets(5.0)).option, choose(decay=forgets(60.0)).option
    for one, tau in ((short, 5.0), (long, 60.0)):
        assert one.missed <= 0.05
        assert one.missed == pytest.approx(forgets(tau).missed(60 * one.block_hours, one.wash_out_minutes))
        assert one.wash_out_minutes <= 30 * one.block_hours
    assert long.block_hours + long.wash_out_minutes / 60 > short.block_hours + short.wash_out_minutes / 60
    given = choose(decay=forgets(60.0), block_hours=2, wash_out_minutes=15, design="switchback").option
    assert (given.block_hours, given.wash_out_minutes) == (2.0, 15.0)
    assert "would hide" in given.against[0]


def test_no_other_block_or_wash_out_finds_it_sooner():
    found, ask = choose(decay=forgets(20.0), effect=0.015), asked(effect=0.015)
    allowed = [one for one in found.grid if not one.against and not one.impossible]
    assert len(allowed) > 10
    assert found.days == min(one.days(ask) or np.inf for one in allowed)
    most = max(one.power(ask, found.days) for one in allowed)
    assert found.option.power(ask, found.days) >= most - 0.01


def test_an_effect_too_small_for_any_duration_says_what_can_be_found():
    least = r"the smallest that is found with a power of 80% is \+\d\.\d\d points \(switchback\)"
    with pytest.raises(
        ConfigError, match=rf"effect: \+0.10 points is too small for any duration up to 84 days: {least}"
    ):
        choose(effect=0.001)
    with pytest.raises(
        ConfigError, match=rf"effect: \+1.50 points is too small for 14 days: {least}; \d+ days find it"
    ):
        choose(effect=0.015, days=14)
    with pytest.raises(ConfigError, match=rf"effect: \+0.10 points is too small for 14 days: {least}$"):
        choose(effect=0.001, days=14)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"effect": 0.5}, "effect: 0.5 is too large: resolution is 70.1 % now and cannot rise by more than 0.299"),
        ({"effect": 50.0, "metric": "wait_s"}, "effect: 50 is too large: wait is .* now and cannot fall by more than"),
        ({"days": 0.25, "effect": 0.2, "block_hours": 4}, "days: 0.25 days hold 1.5 blocks of 4 h; 4 or more are"),
        ({"block_hours": 5}, "block_hours: 5; a part of a day or whole days expected"),
        ({"block_hours": 1, "wash_out_minutes": 60}, "a wash-out of 60 minutes leaves nothing of blocks of 1 h"),
        ({"metric": "csat"}, "metric csat: no contact before the experiment has it"),
        ({"metric": "occupancy"}, "metric occupancy: no single contact has it"),
        ({"design": "cluster", "unit": "site"}, "design cluster: cluster: csas.parquet, column site: nobody has one"),
        ({"design": "cluster"}, "design cluster: cluster: csas.parquet, column site: nobody has one"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_one_line(more, said):
    if "wash_out_minutes" in more:
        more["design"] = "switchback"
    with pytest.raises(ConfigError, match=said) as told:
        choose(**more)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("sites", [1, 2, 3])
def test_an_arm_of_a_single_cluster_is_refused(sites):
    with pytest.raises(
        ConfigError, match=f"{sites} sites with contacts give an arm .* {LEAST_CLUSTERS} or more are needed"
    ):
        choose(past(56, 300, sites=sites), design="cluster", unit="site")


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"days": 0}, "days: 0; more than 0 expected"),
        ({"days": -7}, "days: -7; more than 0 expected"),
        ({"block_hours": -1}, "block_hours: -1; more than 0 expected"),
        ({"most_days": 0}, "most_days: 0; more than 0 expected"),
        ({"effect": 0}, "greater than 0"),
        ({"effect": -0.1}, "greater than 0"),
        ({"alpha": 1}, "less than 1"),
        ({"design": "ab"}, "'auto', 'switchback', 'cluster' or 'customer'"),
        ({"metric": "happiness"}, "'resolved', 'abandoned'"),
        ({"wash_out_minutes": -5}, "greater than or equal to 0"),
        ({"stopping": "never"}, "'fixed' or 'always_valid'"),
        ({"colour": 1}, "Extra inputs"),
        ({"control": {"name": "treatment", "policies": ["queue"]}}, "both are 'treatment'; two names expected"),
        ({"control": {"name": "q", "policies": ["matcher"]}}, "the same policy is in both, 'matcher'"),
        ({"guardrails": [{"metric": "resolved", "better": "higher", "margin": 0.1}]}, "is the primary metric"),
        ({"secondary": ["csat", "csat"]}, "secondary: csat is there twice"),
    ],
)
def test_numbers_and_names_that_cannot_be_are_refused(more, said):
    with pytest.raises(ValidationError, match=said):
        asked(**more)


def test_block_lengths_fit_a_day():
    assert hours_asked(asked(block_hours=3)) == (3.0,)
    assert hours_asked(asked(block_hours=48)) == (48.0,)
    assert len(hours_asked(asked())) == 8


def test_customers_and_their_reasons():
    option = customer(asked(), HISTORY, "resolved", LATER)
    assert option.impossible is None
    assert "centres of half the size" in " ".join(option.against)
    unknown = replace(HISTORY, customer=np.full(len(HISTORY), -1))
    assert customer(asked(), unknown, "resolved", LATER).impossible is not None
    some = replace(HISTORY, customer=np.where(np.arange(len(HISTORY)) % 2, -1, HISTORY.customer))
    assert "only 50% of contacts name their customer" in " ".join(customer(asked(), some, "resolved", LATER).against)
    few = past(56, 300, csas=8)
    assert "CSAs at work in each pool" in " ".join(customer(asked(), few, "resolved", LATER).against)
    assert set(option.units) == set(HISTORY.csas)


def test_units_without_contacts_are_left_out():
    of = SITES.units["site"]
    gone = replace(SITES, units={"site": replace(of, code=np.where(of.code < 3, -1, of.code))})
    assert len(cluster(asked(), gone, "resolved", "site", LATER).units) == 9
