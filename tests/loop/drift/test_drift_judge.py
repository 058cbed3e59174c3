"""What is usual comes from earlier windows, and many statistics together alarm no more often than one may."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import false_discovery_control, t

from loop.drift.catalogue import GROUPS, KINDS
from loop.drift.judge import Finding, benjamini_hochberg, judged, spread
from loop.drift.series import Series, unknown


def series(values: list[float], name: str = "outcome.resolved", noise: float = 0.0, **more: object) -> Series:
    return Series(name, np.array(values), np.full(len(values), noise), **more)  # type: ignore[arg-type]


def one(values: list[float], name: str = "outcome.resolved", noise: float = 0.0, **more: object) -> Finding:
    return judged([series(values, name, noise, **more)])[0]


CALM = [0.70, 0.72, 0.69, 0.71, 0.70, 0.68, 0.71, 0.70]


def test_benjamini_and_hochberg() -> None:
    p = [0.04, 0.001, None, 0.03, 0.8, 0.011]
    known = [x for x in p if x is not None]
    found = benjamini_hochberg(p)
    assert found[2] is None
    assert [x for x in found if x is not None] == pytest.approx(false_discovery_control(known).tolist())
    assert benjamini_hochberg([None]) == [None]


def test_a_value_is_judged_by_student_s_t() -> None:
    found = one([*CALM, 0.60])
    scale = max(spread(np.array(CALM)), 0.02 * 0.70) * np.sqrt(1 + np.pi / (2 * len(CALM)))
    assert found.p == pytest.approx(2 * t.sf(0.10 / scale, 7))
    assert found.high == pytest.approx(0.70 + scale * t.ppf(0.975, 7))
    assert found.status == "alarm"
    assert found.windows == 8
    assert one([*CALM, 0.70]).status == "ok"
    assert one([*CALM, 0.70]).p == pytest.approx(1)


def test_normal_values_alarm_at_the_rate() -> None:
    random = np.random.default_rng(0)
    for n in (5, 8, 12):
        p = [one(list(random.normal(10, 3, n + 1)), "calibration.gap").p for _ in range(400)]
        assert np.mean(np.array(p, float) < 0.05) == pytest.approx(0.045, abs=0.025)


def test_an_incident_counts_as_three_deviations() -> None:
    calm = np.array([1.0, 2, 3, 2, 1, 2, 3, 2, 1])
    hit = np.append(calm, 500.0)
    assert spread(hit) < 3 * spread(calm)
    assert np.std(hit) > 50 * spread(calm)


def test_what_is_less_than_sampling_error_is_not_unusual() -> None:
    assert one([*CALM, 0.63]).status != "ok"
    assert one([*CALM, 0.63], noise=0.05).status == "ok"
    flat = [0.0] * 8
    assert one([*flat, 0.001], "input.new_intents", noise=0.001).status != "alarm"
    assert one([*flat, 0.08], "input.new_intents", noise=0.01).status == "alarm"


def test_one_sided_statistics_alarm_on_their_side_only() -> None:
    steps = [0.10, 0.12, 0.11, 0.10, 0.09, 0.11, 0.10]
    assert one([np.nan, *steps, 0.0], "input.psi_intent").status == "ok"
    above = one([np.nan, *steps, 0.9], "input.psi_intent")
    assert above.status == "alarm"
    assert above.low == -np.inf
    assert above.windows == 7


def test_few_windows_refuse() -> None:
    found = one([np.nan, np.nan, 0.7, 0.7, 0.7, 0.1])
    assert found.status == "not known"
    assert found.p is None
    assert "3 earlier windows have it, 4 are needed" in found.sentence
    assert one([*CALM, np.nan]).reason == "the newest window has too little of it"
    assert judged([unknown("outcome.csat", 5, "no hand-over has one")])[0].sentence == (
        "Not known: no hand-over has one."
    )


def test_many_statistics_share_the_rate() -> None:
    weak = series([*CALM, 0.66])
    alone = judged([weak])[0]
    crowd = judged([weak, *[series([*CALM, 0.70])] * 30])[0]
    assert alone.p is not None
    assert crowd.p == pytest.approx(alone.p)
    assert crowd.adjusted is not None
    assert alone.adjusted is not None
    assert crowd.adjusted > alone.adjusted


def test_watch_lies_between_ok_and_alarm() -> None:
    found = {one([*CALM, value]).status for value in np.linspace(0.70, 0.50, 60)}
    assert found == {"ok", "watch", "alarm"}


def test_labels_that_are_missing_take_the_benefit_of_the_doubt() -> None:
    assert one([*CALM, 0.50]).status == "alarm"
    explained = one([*CALM, 0.50], span=(0.40, 0.71))
    assert explained.status == "not known"
    assert "could explain it" in str(explained.reason)
    assert one([*CALM, 0.50], span=(0.40, 0.56)).status == "alarm"
    assert one([*CALM, 0.70], span=(0.40, 0.90)).status == "ok"


def test_what_hangs_on_labels_is_not_judged_while_these_are_unusual() -> None:
    slow = series([1.0, 1.01, 0.99, 1.0, 1.0, 0.99, 1.01, 1.0, 0.5], "labels.timely", 0.01)
    rating = series([3.7, 3.8, 3.7, 3.6, 3.7, 3.7, 3.8, 3.7, 2.0], "outcome.csat", 0.05)
    late, csat = judged([slow, rating])
    assert late.status == "alarm"
    assert csat.status == "not known"
    assert judged([rating])[0].status == "alarm"


def test_a_reference_stands_where_earlier_windows_cannot() -> None:
    blank = [np.nan] * 5
    assert one([*blank, 0.02], "calibration.gap", 0.02, reference=0.0).status == "ok"
    found = one([*blank, 0.12], "calibration.gap", 0.02, reference=0.0)
    assert found.status == "alarm"
    assert found.high == pytest.approx(1.96 * 0.02, rel=0.01)


def test_every_statistic_says_what_it_means_and_what_to_do() -> None:
    for kind in KINDS.values():
        assert kind.group in GROUPS
        assert kind.up or kind.side == "down"
        assert kind.down or kind.side == "up"
        assert kind.todo
        told = kind.sentence("alarm", kind.side == "down", None)
        assert told.endswith(f": {kind.todo}.")
