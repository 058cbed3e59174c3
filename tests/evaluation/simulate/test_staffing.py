"""Staff that a search finds: exact where theory is, minimal where it is not, and plain about what cannot be met."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from evaluation.simulate.figures import figures
from evaluation.simulate.run import simulate
from evaluation.simulate.scenario import read
from evaluation.simulate.staffing import Search, looks_of, runner
from evaluation.simulate.staffing_answer import Answer, Journal, staffing
from evaluation.simulate.staffing_measure import Case, Shown, by_interval, counts_of, staffed, targets_of
from evaluation.simulate.staffing_report import html_report, json_report, text_report
from evaluation.simulate.staffing_spec import StaffingSpec, problem_of
from evaluation.simulate.staffing_start import covered, fewest, start
from evaluation.simulate.theory import erlang_a, erlang_c
from tests.evaluation.simulate.centres import CALLS, HALF_HOUR_S, HANDLE_S
from twotower.cli import main
from twotower.engines import Engine
from twotower.errors import ConfigError

RATE = CALLS / HALF_HOUR_S
NEVER = {"kind": "never"}
HOURS = [0.0] * 9 + [20.0, 30.0, 15.0] + [0.0] * 12


def steady(targets: dict[str, Any], patience: dict[str, Any] = NEVER, **more: Any) -> StaffingSpec:
    """M/M/n (+ M) for a day, which is one interval."""
    call = {"name": "call", "an_hour": 2 * CALLS, "handle_minutes": 3, "sigma": -1, "patience": patience}
    centre = {"interval_minutes": 1440, "classes": [call],
              "groups": [{"name": "all", "csas": 18, "skills": {"call": None}}]}  # fmt: skip
    return StaffingSpec.model_validate(
        {"centre": centre, "targets": {"interval": targets}, "warm_up_hours": 1, "first_replications": 4,
         "replications": 8} | more
    )  # fmt: skip


def two(**more: Any) -> StaffingSpec:
    """Two classes through three hours, two groups of one skill and a dearer one of both."""
    patience = {"mean_minutes": 4}
    classes = [{"name": name, "an_hour": HOURS, "handle_minutes": 4, "patience": patience} for name in ("en", "es")]
    groups = [
        {"name": "english", "csas": 5, "skills": {"en": None}}, {"name": "spanish", "csas": 5, "skills": {"es": None}},
        {"name": "both", "csas": 4, "skills": {"en": None, "es": None}},
    ]  # fmt: skip
    given = {
        "centre": {"interval_minutes": 60, "classes": classes, "groups": groups},
        "targets": {"interval": {"service_level": 0.6}, "day": {"abandoned": 0.1}, "each_class": {"abandoned": 0.12}},
        "cost_per_hour": {"english": 20, "spanish": 22, "both": 30}, "first_replications": 6, "replications": 12,
    }  # fmt: skip
    return StaffingSpec.model_validate(given | more)


@pytest.fixture(scope="module")
def answer() -> Answer:
    return staffing(
        two(policies=("fifo", "p_mu"), searches=2, shifts={"all": ("09:00-12:00",), "peak": ("10:00-11:00",)})
    )


@pytest.mark.parametrize(
    ("targets", "agents"), [({"service_level": 0.8}, 14), ({"service_level": 0.8, "occupancy": 0.7}, 15)]
)
def test_a_steady_centre_gets_what_erlang_c_says(targets: dict[str, float], agents: int) -> None:
    exact = [erlang_c(RATE, HANDLE_S, n) for n in (agents - 1, agents)]
    assert [one.level >= 0.8 and one.occupancy <= targets.get("occupancy", 1) for one in exact] == [False, True]
    found = staffing(steady(targets)).policies[0].searches[0]
    assert found.staff.tolist() == [[agents]]
    assert found.met
    assert found.fresh.ok
    assert found.fresh.shown.values[0] == pytest.approx(exact[1].level, abs=0.02)


def test_a_steady_centre_with_abandonment_gets_what_erlang_a_says() -> None:
    exact = [erlang_a(RATE, HANDLE_S, n, 300).abandons for n in (12, 13)]
    target = sum(exact) / 2
    found = staffing(steady({"abandoned": target}, {"mean_minutes": 5})).policies[0].searches[0]
    assert found.staff.tolist() == [[13]]
    assert found.fresh.shown.values[0] == pytest.approx(exact[1], abs=0.004)


def test_the_formulas_alone_begin_there() -> None:
    goals = steady({"service_level": 0.8}).targets.interval
    assert fewest(RATE, HANDLE_S, 1e7, goals, 20.0, 30) == 14
    assert fewest(RATE, HANDLE_S, 1e7, steady({"occupancy": 0.7}).targets.interval, 20.0, 30) == 15
    assert fewest(RATE, HANDLE_S, 1e7, goals, 20.0, 9) == 9


def search(spec: StaffingSpec) -> Search:
    problem = problem_of(spec)
    case = Case(problem.centre, problem.group, len(problem.groups), problem.rules[0], spec.seed, 0.0, 20.0)
    targets = targets_of(problem, spec.targets, spec.least_contacts)
    with runner(Engine(), lambda n: None) as simulations:
        return Search(
            problem, case, targets, looks_of(spec.first_replications, spec.replications), spec.confidence, simulations
        )


def test_no_single_removal_keeps_the_targets(answer: Answer) -> None:
    found, judge = answer.policies[0].searches[0], search(answer.spec)
    assert found.met
    assert judge.verdict(found.staff).ok
    for g, t in np.argwhere(found.staff > 0):
        fewer = found.staff.copy()
        fewer[g, t] -= 1
        assert not judge.holds(fewer), (g, t)


def test_staff_is_within_bounds_and_where_contacts_are(answer: Answer) -> None:
    for policy in answer.policies:
        for one in policy.searches:
            assert (one.staff >= 0).all()
            assert (one.staff <= answer.problem.most).all()
            assert not one.staff[:, :9].any()
            assert not one.staff[:, 12:].any()
            assert (answer.problem.can.astype(int) @ (one.staff[:, 9:12] > 0) > 0).all()


def test_searches_of_policies_are_paired_and_repeat(answer: Answer) -> None:
    saved = answer.saved(answer.policies[1])
    assert saved is not None
    hours = answer.hours(answer.policies[0]) - answer.hours(answer.policies[1])
    assert saved[0].mean == pytest.approx(hours.mean())
    again = staffing(two()).policies[0].searches[0]
    assert again.staff.tolist() == answer.policies[0].searches[0].staff.tolist()


def test_shifts_cover_the_requirement_at_the_least_cost(answer: Answer) -> None:
    of = answer.policies[0].covered
    assert of is not None
    staff = answer.policies[0].searches[0].staff
    on = of.roster.csas[:, [0]] + np.array([[0, 1, 0]]) * of.roster.csas[:, [1]]
    assert (on >= staff[:, 9:12]).all()
    assert of.hours >= answer.hours(answer.policies[0])[0]
    assert of.roster.csas[:, 0].tolist() == np.maximum(staff[:, 9], staff[:, 11]).tolist()


def test_shifts_that_leave_a_gap_are_refused(answer: Answer) -> None:
    with pytest.raises(ConfigError, match="shifts: none covers the whole interval from 09:00 on"):
        covered(answer.problem, answer.policies[0].searches[0].staff, {"late": ("09:30-12:00",)})


def test_targets_that_cannot_be_met_are_named_with_how_close_it_got() -> None:
    found = staffing(steady({"service_level": 0.8}, bounds={"all": {"most": 12}}))
    assert not found.policies[0].met
    assert found.saved(found.policies[0]) is None
    said = text_report(found)
    assert "FIFO, longest idle: service level of at least 80.0%, from 00:00, cannot be met within bounds" in said
    assert "everybody together comes to" in said
    assert json_report(found)["policies"]["FIFO, longest idle"]["impossible"]
    assert "cannot be met" in html_report(found)


def test_a_class_that_no_group_takes_is_refused() -> None:
    with pytest.raises(ConfigError, match="'es': contacts arrive, and no group that may be staffed has this skill"):
        problem_of(two(bounds={"spanish": {"most": 0}, "both": {"most": 0}}))


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"bounds": {"nobody": {}}}, "bounds: no group is called 'nobody'; there are english, spanish, both"),
        ({"cost_per_hour": {"nobody": 3}}, "cost_per_hour: no group is called 'nobody'"),
        ({"bounds": {"both": {"least": 5}}}, "bounds 'both': least 5 is above the most, 4"),
        ({"policies": ("fifo", "fifo")}, "policies: two are called 'FIFO, longest idle'"),
    ],
)
def test_what_does_not_fit_together_is_refused(more: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        problem_of(two(**more))


def test_no_target_and_no_arrival_is_refused() -> None:
    with pytest.raises(ConfigError, match="targets: none given"):
        staffing(two(targets={}))
    spec = two().model_dump()
    for one in spec["centre"]["classes"]:
        one["an_hour"] = 0.0
    with pytest.raises(ConfigError, match="no interval with contacts enough"):
        staffing(StaffingSpec.model_validate(spec | {"targets": {"interval": {"service_level": 0.8}}}))


def test_a_class_without_arrivals_needs_nobody() -> None:
    spec = two().model_dump()
    spec["centre"]["classes"][1]["an_hour"] = 0.0
    problem = problem_of(StaffingSpec.model_validate(spec))
    assert not problem.most[1].any()
    assert not start(problem, two().targets.interval, 20.0)[1].any()


def test_counts_add_up() -> None:
    spec = two(centre=two().centre.model_copy(update={"days": 2}).model_dump())
    judge = search(spec)
    staff = np.where(judge.problem.most > 0, 2, 0)
    case = staffed(judge.case, staff)
    counts = counts_of(case, 0)
    assert counts.contacts.shape == (1, 4, 24, 2)
    assert (counts.seconds[0, 1].T - staff * 3600.0 * 2 == 0).all()
    assert counts.contacts[0, 1].sum() + counts.contacts[0, 2].sum() <= counts.contacts[0, 0].sum()
    assert not counts.contacts[0, 0, :9].any()
    shown = Shown(judge.targets, counts.and_(counts_of(case, 1)))
    day = next(one for one in judge.targets if one.scope == "day")
    place = judge.targets.index(day)
    assert by_interval(day, shown.counts).sum() == pytest.approx(shown.slack[:, place].mean())


@pytest.mark.parametrize("capacity", [1, 3])
def test_counts_are_those_of_the_figures_of_a_run(capacity: int) -> None:
    spec = two().model_dump()
    for one in spec["centre"]["groups"]:
        one["capacity"] = capacity
    judge = search(StaffingSpec.model_validate(spec | {"targets": {"day": {"service_level": 0.5, "abandoned": 0.5,
        "mean_wait_s": 60, "occupancy": 0.5}}}))  # fmt: skip
    case = staffed(judge.case, np.where(judge.problem.most > 0, 1, 0))
    shown = Shown(judge.targets, counts_of(case, 3))
    by_name = {one.metric: value for one, value in zip(judge.targets, shown.values, strict=True)}
    of = figures(case.centre, simulate(case.centre, case.rule, case.seed, 3))
    assert of.left_over == 0
    assert by_name == pytest.approx(
        {"service_level": of.level, "abandoned": of.abandoned, "mean_wait_s": of.mean_wait_s, "occupancy": of.occupancy}
    )


def test_a_load_is_that_of_the_shifts_in_the_file() -> None:
    spec = two().model_dump()
    spec["centre"]["load"] = 0.7
    for one in spec["centre"]["groups"]:
        one["shifts"] = ("09:00-12:00",)
    problem = problem_of(StaffingSpec.model_validate(spec))
    whole = (problem.arrivals.sum() * 4 / 60) / (problem.most.max(axis=1).sum() * 3)
    assert whole == pytest.approx(0.7)
    assert problem.centre.shifts is None


def test_processes_change_nothing() -> None:
    judge = search(two())
    case = staffed(judge.case, judge.problem.most)
    with runner(Engine(processes=2), lambda n: None) as simulations:
        there, here = simulations(case, range(5)), judge.run(case, range(5))
    assert there.contacts.tolist() == here.contacts.tolist()
    assert there.seconds.tolist() == here.seconds.tolist()


def test_a_search_that_was_interrupted_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec, path = two(), tmp_path / "out.progress.json"
    left = [150]

    @contextmanager
    def interrupted(*_: Any, **__: Any) -> Iterator[Callable[[int], None]]:
        def advance(n: int) -> None:
            left[0] -= n
            if left[0] < 0:
                raise KeyboardInterrupt

        yield advance

    with monkeypatch.context() as patch:
        patch.setattr("evaluation.simulate.staffing_answer.EVERY_S", 0.0)
        patch.setattr("evaluation.simulate.staffing_answer.bar", interrupted)
        with pytest.raises(KeyboardInterrupt):
            staffing(spec, journal=path)
    assert Journal(path, spec).searches["FIFO, longest idle 0"]["done"] is False
    found = staffing(spec, journal=path).policies[0].searches[0]
    assert found.met
    assert search(spec).holds(found.staff)
    assert not path.exists()


def test_a_journal_of_another_question_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "out.progress.json"
    Journal(path, two()).saver("FIFO, longest idle 0")(np.zeros((3, 24), np.int64), True)
    with pytest.raises(ConfigError, match="of another question"):
        Journal(path, two(seed=5))
    path.write_text("[]")
    with pytest.raises(ConfigError, match="no journal of a search"):
        Journal(path, two())


def test_the_page_and_the_tables_tell_what_was_found(answer: Answer) -> None:
    text, html, data = text_report(answer), html_report(answer), json_report(answer)
    first = answer.policies[0]
    assert data["policies"][first.name]["staff"]["both"] == first.searches[0].staff[2].tolist()
    assert data["policies"]["pμ"]["saved"]["hours"]["half"] is not None
    for said in ("FIFO, longest idle: CSAs by interval", "service level, each interval", "shifts of both", "met"):
        assert said in text
    assert html.count("<svg") == 2
    json.dumps(data, allow_nan=False)


def test_the_verb_writes_and_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config, out = tmp_path / "staffing.yaml", tmp_path / "out"
    config.write_text(yaml.safe_dump(two(replications=8).model_dump(mode="json")))
    assert main(["simulate", "staffing", "--config", str(config), "--output", str(out)]) == 0
    assert "report: " in capsys.readouterr().out
    assert json.loads((out / "staffing.json").read_text())["policies"]["FIFO, longest idle"]["met"]
    assert main(["simulate", "staffing", "--config", str(config), "--output", str(out)]) == 1
    assert "exists already" in capsys.readouterr().err
    assert main(["simulate", "staffing", "--config", str(config), "--replications", "3"]) == 1
    assert "--replications does not belong to it" in capsys.readouterr().err


def test_the_example_is_a_question() -> None:
    spec = read("configs/staffing.yaml", StaffingSpec)
    assert problem_of(spec).most.any()
