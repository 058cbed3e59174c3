"""A design as a page that people who do not read code can read, and its files beside it."""

from __future__ import annotations

import json
from html import escape
from pathlib import Path

from evaluation.experiment import design_pictures as pictures
from evaluation.experiment.design import Designed
from evaluation.experiment.design_guards import said
from evaluation.experiment.design_tables import (
    Rows,
    bias_rows,
    block_rows,
    decay_rows,
    guard_rows,
    option_rows,
    plan_rows,
    sure_rows,
    told_rows,
    week_rows,
)
from evaluation.experiment.design_text import checked, heading, json_report
from evaluation.experiment.plan import write_plan
from evaluation.experiment.words import TITLES, change
from evaluation.page import page, svg, table
from twotower.clock import format_time
from twotower.files import atomic_directory


def write_design(of: Designed, folder: str | Path) -> None:
    """`plan.yaml`, `schedule.parquet`, `report.html` and `design.json` in a new folder, whole or not at all. Raises
    OutputError: the folder exists already or cannot be written."""
    with atomic_directory(folder) as partial:
        write_plan(of.plan, partial / "plan.yaml")
        of.schedule.to_parquet(partial / "schedule.parquet", index=False)
        (partial / "report.html").write_text(html_report(of), encoding="utf-8")
        text = json.dumps(json_report(of), indent=1, ensure_ascii=False, allow_nan=False)
        (partial / "design.json").write_text(text + "\n", encoding="utf-8")


def html_report(of: Designed) -> str:
    """The page."""
    plan = of.plan
    body = [f"<h1>{escape(heading(of))}</h1>", *_paragraphs(in_short(of)), *_guards(of), _named(plan_rows(of))]
    options = [row[:-1] for row in option_rows(of)]
    body += ["<h2>Why this design</h2>", *_lines(of.choice.why), table(options[0], options[1:], plan.design)]
    body += ["<h2>How long</h2>", svg(lambda figure: pictures.draw_power(figure, of), 11, 3.6), _table(sure_rows(of))]
    body += _paragraphs([checked(of), LONG])
    if of.choice.grid:
        body += ["<h2>Blocks and wash-out</h2>", *_paragraphs([CARRY])]
        body += [svg(lambda figure: pictures.draw_carry(figure, of), 11, 3.6), _table(block_rows(of))]
        body += [_table(decay_rows(of))] if of.decay is not None else []
    body += _biases(of)
    if of.guards:
        body += [
            "<h2>What must not get worse</h2>",
            *_paragraphs([GUARDED]),
            *_lines(said(of.guards)),
            _table(guard_rows(of)),
        ]
    body += ["<h2>What the history says</h2>", svg(lambda figure: pictures.draw_week(figure, of), 11, 2.6)]
    body += [_named(told_rows(of)), _table(week_rows(of))]
    body += ["<h2>The schedule</h2>", *_paragraphs(schedule_said(of))]
    if plan.design != "cluster":
        body.append(svg(lambda figure: pictures.draw_calendar(figure, of), 10, 1.2 + 0.16 * of.choice.days))
    body += [_table(_first_spans(of))]
    body += ["<h2>What to do, and what not</h2>", *_lines(rules(of))]
    body += [f'<p class="note">{escape(line)}</p>' for line in of.notes]
    return page(f"{plan.name}: the plan", body)


LONG = (
    "The formula makes the variance of the difference of what blocks and contacts vary by in the history; trying "
    "takes stretches of the history as they were, draws schedules, and adds the effect to the treatment's contacts. "
    "Who looks before the end and stops when they like what they see is wrong far more often than planned; an "
    "interval that holds at any time is wider, so it takes longer to find the same effect."
)
CARRY = (
    "When the arm changes, the centre does not: contacts that wait and CSAs who are busy are as the arm before left "
    "them. How fast that is forgotten is told from the history, by how much of a queue that is longer than usual is "
    "left later; effects can last no longer than the state they left, but for people's fatigue and customers who "
    "come again. Contacts of the wash-out do not count. Short blocks are many but lose more to it; long ones are "
    "few."
)
BIASED = (
    "Why not give every other contact to the new way? Because both arms would share the same people. The treatment "
    "takes the CSAs who suit its contacts best, so the control is left with the others and does worse than it would "
    "alone: the difference is too large, as part of it is only moved from one arm to the other. And contacts of both "
    "arms wait for the same CSAs: a treatment that is faster shortens the control's wait as well, so what it gains in "
    "time, and in people who do not give up, shows in both arms and not in their difference, which is too small. Which "
    "of the two is stronger depends on how busy the centre is. Below, a simulated centre: the truth is everybody in "
    "the treatment less everybody in the control, for the same contacts with the same luck."
)
GUARDED = (
    "A guardrail holds only where harm beyond its margin is ruled out. One that is unlikely to hold even if nothing "
    "changes needs a wider margin, or a longer experiment. Margins that nobody gave are as wide as they must be to "
    "hold four times in five."
)


def in_short(of: Designed) -> list[str]:
    """What will happen, in words."""
    plan, asked = of.plan, of.asked
    how = {
        "switchback": f"the whole centre works one way for {plan.block_hours or 0:g} hours, then maybe the other; "
        "which, a lottery has decided beforehand",
        "cluster": f"some {plan.unit}s work the new way, others the old way, all the time; a lottery has decided which",
        "customer": "each customer stays with one way; CSAs are split into two groups by a lottery that is repeated "
        f"every {plan.block_hours or 0:g} hours",
    }[plan.design]
    metric = TITLES[asked.metric]
    return [
        f"For {of.choice.days:g} days, {how}. At the end {metric} is compared between the two. If "
        f"{plan.treatment.name} changes {metric} by {change(asked.metric, asked.effect).lstrip('+')} or more, the "
        f"experiment finds it with a chance of {plan.expected.get('power', float('nan')):.0%}; if it changes nothing, "
        f"it is wrongly said to in {asked.alpha:.0%} of such experiments."
    ]


def _guards(of: Designed) -> list[str]:
    """What is said of the margins, beneath the headline."""
    return [f'<p class="note">guardrails: {escape(line)}</p>' for line in said(of.guards)]


def rules(of: Designed) -> list[str]:
    """What people must know who run it."""
    plan = of.plan
    since = "" if plan.stopping.first_look is None else f" from {plan.stopping.first_look} on"
    look = (
        "Do not look at the difference before the end: one look is planned."
        if plan.stopping.rule == "fixed"
        else f"Looking is allowed at any time{since}, with the intervals of `twotower experiment analyse --at`."
    )
    found = [
        "The router reads schedule.parquet: which arm holds when and where. Nobody changes it by hand; what was not "
        "followed is found by the analysis, which then refuses to answer.",
        "Every hand-over says in `interactions.policy` who chose: "
        f"{', '.join(plan.control.policies)} for {plan.control.name}, {', '.join(plan.treatment.policies)} for "
        f"{plan.treatment.name}.",
        look,
        "No other change of routing, shifts or rules during the experiment; where one cannot be avoided, plan a pause.",
        f"Afterwards: twotower experiment analyse --plan plan.yaml --data DIR, with the tables from "
        f"{plan.history_days:g} days before {plan.begins} on.",
    ]
    if plan.design == "customer":
        found.insert(1, "A customer's arm is a hash of seed, salt and their id (`schedule.customer_arms`).")
    return found


def schedule_said(of: Designed) -> list[str]:
    """How it was drawn."""
    plan, schedule = of.plan, of.schedule
    share = (schedule["arm"] == plan.treatment.name).mean()
    pairs = {
        "switchback": "Blocks were drawn in pairs of the same slot of two weeks, one of each arm",
        "cluster": f"{plan.unit.capitalize()}s were drawn in pairs that were alike in their past, one of each arm",
        "customer": "In every window CSAs were drawn in pairs that were alike in their past, one for each pool",
    }[plan.design]
    return [
        f"{pairs}, by seed {plan.seed}; {share:.1%} of the spans are {plan.treatment.name}'s. The same plan and seed "
        "draw the same schedule again, and the analysis compares what was with what the lottery could have been."
    ]


def _biases(of: Designed) -> list[str]:
    found: list[str] = []
    if of.biases or of.replayed is not None:
        found += ["<h2>Why not an A/B test of contacts</h2>", *_paragraphs([BIASED])]
    if of.biases and of.like is not None:
        small = of.like
        said = (
            f"A centre like yours: {small.csas} CSAs, {small.handle_minutes:.1f} minutes a contact, "
            f"{small.resolved:.0%} resolved, CSAs differ by {small.spread:.2f} log-odds from one kind of contact to "
            "another; first come, first served against the pair that is believed to resolve the most a minute."
        )
        body = of.biases
        found += [*_paragraphs([said]), svg(lambda figure: pictures.draw_bias(figure, body), 11, 3.4)]
        found.append(_table(bias_rows(body)))
    if of.replayed is not None:
        again = of.replayed
        said = (
            f"Your own {again.days} days from {format_time(again.begins)} on, played again: {again.policies[0]} "
            f"against {again.policies[1]}."
        )
        found += [
            *_paragraphs([said, *again.notes]),
            svg(lambda figure: pictures.draw_bias(figure, again.biases), 11, 3.4),
        ]
        found.append(_table(bias_rows(again.biases)))
    return found


def _first_spans(of: Designed) -> Rows:
    rows = [["from", "until", "unit", "arm", "pair"]]
    for row in of.schedule.head(FIRST).itertuples():
        begins, ends = (str(moment)[:16] for moment in (row.begins_at, row.ends_at))
        rows.append([begins, ends, str(row.unit), str(row.arm), str(row.pair)])
    if len(of.schedule) > FIRST:
        rows.append([f"… {len(of.schedule) - FIRST:,} more in schedule.parquet", "", "", "", ""])
    return rows


FIRST = 28


def _table(rows: Rows) -> str:
    return table(rows[0], rows[1:])


def _named(rows: Rows) -> str:
    """What is prose and no number, to the left."""
    return "<p>" + "<br>".join(f"<b>{escape(name)}</b>: {escape(value)}" for name, value in rows) + "</p>"


def _paragraphs(lines: list[str]) -> list[str]:
    return [f"<p>{escape(line)}</p>" for line in lines if line]


def _lines(lines: list[str] | tuple[str, ...]) -> list[str]:
    return ["<ul>", *(f"<li>{escape(line)}</li>" for line in lines), "</ul>"]
