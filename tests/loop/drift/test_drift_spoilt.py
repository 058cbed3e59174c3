"""Calm weeks raise few alarms, and every kind of drift raises the one that names it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from loop.drift.run import Drift, drift
from twotower.clock import DAY, NULL_TIME
from twotower.tables.log import Log

KINDS = (
    "new intent", "new language", "other words", "fall by 15 points", "labels two days late",
    "successes two days late", "wave of joiners", "collapse on three", "no chance any more",
)  # fmt: skip


def spoilt(spoil: Any, log: Log, name: str) -> Log:
    made: Log = spoil.SPOILT[name].make(log, spoil.newest(log), np.random.default_rng(0))
    return made


@pytest.fixture(scope="module")
def judged(spoil: Any, drift_log: Log) -> Callable[[str], Drift]:
    """The newest week spoilt in one way, judged once."""
    return cache(lambda name: drift(spoilt(spoil, drift_log, name)))


def test_every_kind_is_tried(spoil: Any) -> None:
    assert set(KINDS) == set(spoil.SPOILT)


@pytest.mark.parametrize("name", KINDS)
def test_drift_is_called_by_its_name(spoil: Any, judged: Callable[[str], Drift], name: str) -> None:
    kind, found = spoil.SPOILT[name], judged(name)
    alarms = {one.name for one in found.alarms}
    assert alarms & set(kind.named)
    assert not alarms & set(kind.never)
    assert not found.ok


def test_what_is_new_is_named_with_its_count(spoil: Any, drift_log: Log, judged: Callable[[str], Drift]) -> None:
    for name, statistic, label in (
        ("new intent", "input.new_intents", "crypto_wallet"),
        ("new language", "input.new_languages", "pl"),
    ):
        made = spoilt(spoil, drift_log, name)
        column = getattr(made.contacts, statistic.removeprefix("input.new_")[:-1])
        one = judged(name).finding(statistic)
        assert one.named == {label: column.to_pylist().count(label)}
        assert one.status == "alarm"
        assert one.value * judged(name).contacts == pytest.approx(one.named[label])


def test_a_fall_is_measured_and_told_what_it_means(drift_log: Log, judged: Callable[[str], Drift]) -> None:
    calm = drift(drift_log).finding("outcome.resolved").value
    one = judged("fall by 15 points").finding("outcome.resolved")
    assert one.value == pytest.approx(calm - 0.15, abs=0.035)
    assert one.value < one.low
    assert one.sentence.startswith("fewer contacts are resolved than usual: see")


def test_a_fall_beside_late_labels_is_a_fall_only_if_the_missing_cannot_explain_it(
    spoil: Any, drift_log: Log, judged: Callable[[str], Drift]
) -> None:
    late = judged("successes two days late").finding("outcome.resolved")
    assert late.status == "not known"
    assert "labels come later than usual" in str(late.reason)
    start = spoil.newest(drift_log)
    gone = spoil.late(spoil.fall(drift_log, start, np.random.default_rng(0), points=0.6), start, None)
    assert drift(gone).finding("outcome.resolved").status == "alarm"


def test_a_collapse_names_who_takes_all(judged: Callable[[str], Drift]) -> None:
    found = judged("collapse on three")
    one = found.finding("feedback.effective_csas")
    assert one.status == "alarm"
    assert len(one.named) == 3
    assert one.value == pytest.approx(3, abs=0.1)
    assert sum(one.named.values()) == found.handovers
    assert found.finding("feedback.idle").status == "alarm"


def test_joiners_are_named_and_their_work_is_told(judged: Callable[[str], Drift]) -> None:
    found = judged("wave of joiners")
    assert found.finding("roster.joiners").value > 0.1
    assert len(found.finding("roster.joiners").named) == 8
    assert found.finding("roster.work_of_joiners").status == "alarm"


def test_calm_weeks_of_several_centres_raise_few_alarms(spoil: Any, tmp_path: Any) -> None:
    """The rate is 5 % for all statistics of a week together; of eight weeks more than two are one in two hundred."""
    alarmed = []
    for seed in range(4):
        log = spoil.centre(tmp_path, seed)
        end = int(log.contacts.arrived_at[-1]) + 1
        alarmed += [not drift(log, stop=end - back).ok for back in (0, 14 * DAY)]
    assert sum(alarmed) <= 2


def test_an_incident_of_the_past_is_no_alarm_now_and_hides_none(spoil: Any, drift_log: Log) -> None:
    """Half of the successes of one week, five weeks ago, were none."""
    moves, end = drift_log.handovers, int(drift_log.contacts.arrived_at[-1]) + 1
    then = (moves.assigned_at >= end - 42 * DAY) & (moves.assigned_at < end - 35 * DAY) & (moves.contact % 2 == 0)
    log = replace(drift_log, handovers=replace(moves, resolved=np.where(then & (moves.resolved == 1), np.int8(0), moves.resolved)))  # fmt: skip # noqa: E501
    assert drift(log).finding("outcome.resolved").status == "ok"
    fallen = spoil.fall(log, end - 7 * DAY, np.random.default_rng(0), points=0.3)
    assert drift(fallen).finding("outcome.resolved").status == "alarm"


def test_windows_of_few_weeks_say_so_and_still_find_a_new_intent(
    spoil: Any, drift_log: Log, judged: Callable[[str], Drift]
) -> None:
    made = spoilt(spoil, drift_log, "new intent")
    found = drift(made, start=int(made.contacts.arrived_at[-1]) + 1 - 42 * DAY)
    assert len(found.edges) == 7
    assert found.notes[0].startswith("only 5 earlier windows")
    assert found.finding("input.new_intents").named == judged("new intent").finding("input.new_intents").named
    assert found.finding("input.new_intents").status == "alarm"


def test_what_the_tables_do_not_tell_is_not_known_and_the_rest_is(drift_log: Log) -> None:
    n, m = len(drift_log.contacts), len(drift_log.handovers)
    none, nan = pa.nulls(n, pa.string()), np.full(m, np.nan, dtype=np.float32)
    empty = pa.array([""] * n, pa.large_string())
    blank = replace(
        drift_log,
        contacts=replace(
            drift_log.contacts, eligible=None, intent=none, language=none, queue=none, intent_text=empty,
            transcript=empty,
        ),
        handovers=replace(
            drift_log.handovers, resolved=np.full(m, -1, np.int8), csat=nan, handle_time_s=nan, propensity=nan
        ),
    )  # fmt: skip
    found = drift(blank)
    unknown = {one.name: one.reason for one in found.of("not known")}
    assert {
        "input.psi_eligible": "no contact has a list of eligible CSAs",
        "input.psi_queue": "all rows have the same value",
        "input.new_intents": "no contact has one",
        "input.words": "no contact has text",
        "outcome.resolved": "no hand-over before the newest window has a known outcome",
        "outcome.csat": "no hand-over has one",
        "feedback.chance": "no hand-over has a propensity",
        "feedback.untried": "no contact tells an intent or a queue",
    }.items() <= unknown.items()
    assert all(found.finding(name).p is not None for name in ("input.volume", "roster.joiners", "feedback.gini"))
    assert found.maturation == ()


def test_people_whom_no_table_dates_begin_with_their_first_hand_over(spoil: Any, drift_log: Log) -> None:
    rows = len(drift_log.csas.csa)
    undated = replace(
        drift_log, csas=replace(drift_log.csas, hired_at=np.full(rows, NULL_TIME), valid_from=np.full(rows, NULL_TIME))
    )
    start, moves = spoil.newest(drift_log), drift_log.handovers
    work = np.bincount(moves.csa[moves.assigned_at >= start], minlength=len(drift_log.csas))
    new = np.argsort(-work, kind="stable")[:10]
    earlier = (moves.assigned_at < start) & np.isin(moves.csa, new)
    to = int(np.argsort(-work, kind="stable")[12])
    found = drift(spoil._handovers(undated, csa=np.where(earlier, to, moves.csa).astype(np.int32)))
    assert found.finding("roster.joiners").value > 0.1
    assert found.finding("roster.joiners").status == "alarm"
