"""The whole analysis: interim looks, what is not known yet, and reports that say the same in three forms."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from evaluation.experiment.analyse import analyse, as_known
from evaluation.experiment.analyse_html import html_report, write_analysis
from evaluation.experiment.analyse_pictures import pictures
from evaluation.experiment.analyse_tables import tables
from evaluation.experiment.analyse_text import json_report, text_report
from evaluation.experiment.estimate import estimate
from evaluation.experiment.spans import spans_of
from evaluation.experiment.words import change, level, money, p_said, share, span
from tests.evaluation.experiment.made import World, make, plan_of
from twotower.cli import plain
from twotower.clock import DAY, parse_time
from twotower.errors import OutputError

GUARDED = {
    "guardrails": [
        {"metric": "wait_s", "better": "lower", "margin": 0.15, "relative": True},
        {"metric": "repeat", "better": "lower", "margin": 0.05},
    ],
    "secondary": ["handle_minutes", "repeat"], "repeat_days": 1.0,
}  # fmt: skip


@pytest.fixture(scope="module")
def whole():
    """A switchback that found what it looked for."""
    made = make(plan_of(**GUARDED), World(contacts=9000, effect=0.1, spread=0.1, best_first=0.3))
    return made, analyse(made.plan, made.schedule, made.frame, draws=400)


@pytest.fixture(scope="module")
def folder(whole, tmp_path_factory):
    """Its report."""
    written = tmp_path_factory.mktemp("analysis") / "out"
    write_analysis(whole[1], written)
    return written


def test_an_analysis_answers_everything_that_the_plan_asks(whole):
    made, found = whole
    assert found.refusals == ()
    assert found.verdict.action == "ship"
    numbers = found.found
    assert [one.state for one in numbers.guards] == ["held", "held"]
    assert [one.effect.metric for one in numbers.secondary] == ["handle_minutes", "repeat"]
    assert {one.kind for one in numbers.bands} == {"intent", "language", "load", "tenure"}
    assert numbers.carry_over is not None
    assert numbers.taken is not None
    assert numbers.value is not None
    assert len(numbers.blocks) == 84
    assert sum(one.contacts for one in numbers.blocks) == (~made.frame["washed"]).sum()


def test_the_lean_way_is_the_same_estimate(whole):
    made, found = whole
    lean = estimate(made.plan, made.schedule, made.frame, draws=400)
    assert found.found.estimate.effect.value == pytest.approx(lean.effect.value)
    assert found.found.estimate.effect.p == lean.effect.p
    assert found.found.estimate.crossed_at == lean.crossed_at


def test_the_ways_of_inference_agree_on_the_effect_and_differ_in_errors(whole):
    ways = {one.way.split(":")[0].split(",")[0]: one for one in whole[1].found.sensitivity}
    assert len(ways) == 8
    values = [one.value for one in ways.values()]
    assert max(values) - min(values) < 0.02
    naive = ways["as if each contact had been drawn"]
    assert naive.high - naive.low < ways["primary"].high - ways["primary"].low


@pytest.mark.parametrize(("design", "many"), [("cluster", 5), ("customer", 6)])
def test_other_designs_have_their_own_ways(design, many):
    made = make(plan_of(design), World(contacts=4000, effect=0.05))
    found = analyse(made.plan, made.schedule, made.frame, draws=200)
    assert len(found.found.sensitivity) == many
    assert any("permutations" in one.way for one in found.found.sensitivity) == (design == "cluster")
    assert found.found.carry_over is None
    if design == "cluster":
        # Without pictures of carry-over, and of guardrails, which it has none of.
        assert len(pictures(found)) == 5


def test_cells_one_by_one_are_what_tea_tasting_says(whole):
    """Our CR2 over the same cells as if each were a cluster of its own gives nearly its errors."""
    from evaluation.experiment.stats.linear import fit

    _, found = whole
    theirs = next(one for one in found.found.sensitivity if "tea-tasting" in one.way)
    blocks = [one for one in found.found.blocks if one.contacts]
    n = np.array([one.contacts for one in blocks], float)
    x = np.stack([np.ones(len(n)), [one.arm for one in blocks]], axis=1)
    ours = fit(x, np.array([one.mean for one in blocks]), n, np.arange(len(n))).one(1)
    assert theirs.value == pytest.approx(ours.value, abs=0.003)
    assert theirs.se == pytest.approx(ours.se, rel=0.1)


# What is known at a look


def test_an_interim_look_sees_blocks_that_have_ended_and_nothing_else(whole):
    made, _ = whole
    look = parse_time("2026-03-09T02:00:00Z")
    found = analyse(made.plan, made.schedule, made.frame, at=look, draws=200)
    assert found.look == look
    assert max(one.ends for one in found.found.blocks) == parse_time("2026-03-09T00:00:00Z")
    assert any("had not ended" in line for line in found.notes)
    before = made.frame["arrived_at"] < pd.Timestamp("2026-03-09T00:00:00Z")
    assert sum(one.contacts for one in found.found.blocks) == (before & ~made.frame["washed"]).sum()


def test_an_interim_look_does_not_depend_on_what_came_after(whole):
    made, _ = whole
    look = parse_time("2026-03-09T00:00:00Z")
    later = made.frame["arrived_at"] >= pd.Timestamp("2026-03-09T00:00:00Z")
    other = made.changed(resolved=np.where(later, 1 - made.frame["resolved"], made.frame["resolved"]))
    one, two = (analyse(each.plan, each.schedule, each.frame, at=look, draws=200) for each in (made, other))
    assert one.found.estimate.effect == two.found.estimate.effect
    assert json_report(one)["found"]["guardrails"] == json_report(two)["found"]["guardrails"]


def test_outcomes_that_are_too_young_are_not_known_and_are_counted():
    made = make(plan_of(mature_days=3), World(contacts=3000))
    known, _, notes = as_known(
        made.plan,
        spans_of(made.plan, made.schedule),
        made.frame,
        parse_time(made.plan.ends),
        parse_time(made.plan.ends),
    )
    young = (made.frame["arrived_at"] > pd.Timestamp("2026-03-13T00:00:00Z")).to_numpy()
    assert known["resolved"].isna().to_numpy().tolist() == young.tolist()
    assert known["wait_s"].notna().all()
    assert f"{young.sum():,} contacts are younger than 3 days: their outcomes count as not known" in notes


def test_data_that_go_on_after_the_plan_let_outcomes_mature():
    made = make(plan_of(mature_days=3), World(contacts=1000))
    end = parse_time(made.plan.ends)
    known, _, notes = as_known(made.plan, spans_of(made.plan, made.schedule), made.frame, end, end + 4 * DAY)
    assert known["resolved"].notna().all()
    assert not any("younger" in line for line in notes)


def test_who_may_still_come_back_is_not_known():
    made = make(plan_of(repeat_days=2), World(contacts=1000))
    end = parse_time(made.plan.ends)
    known, _, notes = as_known(made.plan, spans_of(made.plan, made.schedule), made.frame, end, end)
    late = (made.frame["arrived_at"] > pd.Timestamp("2026-03-14T00:00:00Z")).to_numpy()
    assert known["repeat"].isna().to_numpy().tolist() == late.tolist()
    assert any("too early to tell" in line for line in notes)


# Notes


def test_a_reader_is_told_of_carry_over_of_fading_and_of_who_takes():
    carried = make(plan_of(wash_out_minutes=0), World(contacts=20_000, effect=0.3, carried=0.9, shock=0.01))
    found = analyse(carried.plan, carried.schedule, carried.frame, draws=200)
    assert any("reach into the block after it" in line for line in found.notes)
    fading = make(plan_of(), World(contacts=12_000, effect=0.22, a_week=-0.15, shock=0.01, spread=0.2, best_first=1.5))
    found = analyse(fading.plan, fading.schedule, fading.frame, draws=200)
    assert any("fades with time" in line for line in found.notes)
    assert any("better CSAs taking more" in line for line in found.notes)


def test_secondary_metrics_that_nobody_measured_are_said():
    made = make(plan_of(secondary=["csat", "repeat", "quality", "gini_load"]), World(contacts=1500))
    found = analyse(made.plan, made.schedule, made.frame, draws=99)
    assert [one.effect.metric for one in found.found.secondary] == ["repeat"]
    said = "secondary metrics that nobody measured in both arms: rating, quality score, Gini of load"
    assert said in found.notes
    assert f"note: {said}" in text_report(found)


def test_an_experiment_without_a_past_is_not_adjusted_and_says_so():
    made = make(plan_of(), World(contacts=1500))
    for frame, adjusted in ((made.frame, True), (made.frame.assign(covariate=np.nan), False)):
        text = text_report(analyse(made.plan, made.schedule, frame, draws=99))
        assert ("adjusted for what was known before" in text) == adjusted
        assert ("Nothing that was known before is adjusted for." in text) == (not adjusted)
        assert ("The covariate explains" in text) == adjusted


def test_few_lots_are_said():
    made = make(plan_of(ends="2026-03-04T00:00:00Z", block_hours=12.0), World(contacts=1500))
    found = analyse(made.plan, made.schedule, made.frame)
    assert any("different schedules are too few for randomisation inference" in line for line in found.notes)


# Reports


def test_text_json_and_page_say_the_same(whole, folder):
    _, found = whole
    text, data, html = text_report(found), plain(json_report(found)), (folder / "report.html").read_text()
    assert found.verdict.paragraph in text
    assert data["verdict"]["paragraph"] == found.verdict.paragraph
    effect = found.found.estimate.effect
    assert data["found"]["primary"]["value"] == pytest.approx(effect.value)
    assert change("resolved", effect.value) in text
    assert change("resolved", effect.value) in html
    for one in tables(found):
        assert one.title in text
        assert f"<h2>{one.title}</h2>" in html
        for row in one.rows:
            assert len(row) == len(one.head)


def test_every_question_has_a_picture_and_its_numbers_beneath(folder):
    html = (folder / "report.html").read_text()
    assert html.count("<svg") == 8
    for title in (
        "The effect as it became known",
        "Guardrails",
        "For whom",
        "After a change of arm",
        "What it is worth",
    ):
        part = html[html.index(f"<h2>{title}</h2>") :]
        assert part.index("<svg") < part.index("<table>")
    assert "<script" not in html
    assert not re.search(r'(src|href)="http', html)


def test_the_folder_is_whole_and_its_json_is_json(whole, folder):
    data = json.loads((folder / "analysis.json").read_text())
    assert data["verdict"]["action"] == "ship"
    assert len(data["found"]["monitored"]["low"]) == 84
    assert data["found"]["monitored"]["low"][0] is None
    assert data["plan"]["primary"]["metric"] == "resolved"
    with pytest.raises(OutputError, match="exists already"):
        write_analysis(replace(whole[1], found=None), folder)


def test_where_a_check_refused_no_report_holds_a_number_of_the_outcome(whole):
    made, _ = whole
    lost = made.rows((made.frame["arm"] == 0) | (np.random.default_rng(0).random(len(made.frame)) < 0.8))
    found = analyse(lost.plan, lost.schedule, lost.frame, draws=200)
    assert found.found is None
    assert tables(found) == []
    data = json_report(found)
    assert data["found"] is None
    assert all("said" not in one for one in data["checks"] if one["status"] == "passed")
    html = html_report(found)
    assert "<svg" not in html
    assert "<table>" not in html
    for said in (text_report(found), html):
        assert "sample-ratio mismatch" in said
        assert "points" not in said
        assert "interval" not in said


def test_what_a_user_wrote_is_escaped(whole):
    _, found = whole
    plan = found.plan.model_copy(update={"name": "<b>name</b>", "hypothesis": "<script>alert(1)</script>"})
    html = html_report(replace(found, plan=plan, found=None))
    assert "<script>" not in html
    assert "&lt;script&gt;" in html


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (level("resolved", 0.7123), "71.2 %"), (level("wait_s", 43.14), "43.1 s"), (level("csat", float("nan")), "–"),
        (change("resolved", 0.0213), "+2.13 points"), (change("wait_s", -3.21), "−3.2 s"),
        (change("resolved", -1e-9), "+0.00 points"), (change("resolved", float("-inf")), "−∞"),
        (span("resolved", 0.004, 0.038), "+0.40 to +3.80 points"), (share(-0.0311), "−3.1 %"),
        (p_said(0.0001), "< 0.001"), (p_said(0.0312), "0.031"), (money(-12345.0, "EUR"), "EUR −12,300"),
        (money(0.12345, "EUR"), "EUR 0.123"), (money(0.0, "EUR"), "EUR 0"), (money(float("inf"), "EUR"), "EUR +∞"),
    ],
)  # fmt: skip
def test_numbers_are_written_as_people_read_them(said, expected):
    assert said == expected
