"""The tables of a design, as rows of text, for the terminal and the page."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from evaluation.experiment.design import Designed
from evaluation.experiment.design_guards import margin_said
from evaluation.experiment.design_options import Option
from evaluation.experiment.design_tried import Compared
from evaluation.experiment.simulated_bias import BY_CONTACT, Bias
from evaluation.experiment.words import TITLES, UNTOLD, change, level, towards
from evaluation.simulate.replicate import Estimate
from twotower.clock import HOUR

Rows = list[list[str]]

DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
WAYS = {BY_CONTACT: "A/B by contact", "switchback": "switchback", "cluster": "clusters", "customer": "customers"}


def plan_rows(of: Designed) -> Rows:
    """The plan in words."""
    plan, primary = of.plan, of.plan.primary
    metric, likely = primary.metric, of.plan.expected.get("power", math.nan)
    blocks = "all the time" if plan.block_hours is None else f"blocks of {plan.block_hours:g} h"
    since = "" if plan.stopping.first_look is None else f" from {plan.stopping.first_look} on"
    rule = (
        "one look, at the end"
        if plan.stopping.rule == "fixed"
        else f"at any time{since}, by an interval that holds at all times"
    )
    return [
        ["hypothesis", plan.hypothesis],
        ["design", f"{plan.design}, {blocks}, wash-out of {plan.wash_out_minutes:g} minutes"],
        ["time", f"{plan.begins} to {plan.ends} ({of.choice.days:g} days)"],
        ["arms", f"{plan.control.name} ({', '.join(plan.control.policies)}) against {plan.treatment.name} "
                 f"({', '.join(plan.treatment.policies)}), {plan.share:.0%} treatment"],
        ["what decides", f"{TITLES[metric]}, {primary.better} is better; now {level(metric, of.told.mean)}"],
        ["smallest effect worth having", towards(metric, primary.smallest_effect, primary.better)],
        ["false alarms, power", f"{primary.alpha:.0%} two-sided, {likely:.0%} ({primary.power:.0%} asked)"],
        ["when one may look", rule],
        ["schedule", f"{len(of.schedule):,} spans, {'in pairs' if plan.balance == 'pairs' else 'without pairs'}, seed "
                     f"{plan.seed}"],
    ]  # fmt: skip


def option_rows(of: Designed) -> Rows:
    """A row a design."""
    asked, days = of.asked, of.choice.days
    look = "" if asked.stopping == "fixed" else ", one look"
    rows = [
        [
            "design",
            "unit",
            "blocks",
            "wash-out",
            "hidden",
            "days needed",
            f"found in {days:g} days",
            "power then",
            f"by trying{look}, in the days needed",
            "",
        ]
    ]
    for one, compared in zip(of.choice.options, of.compared, strict=True):
        if one.impossible:
            rows.append([one.design, one.unit, *[UNTOLD] * 7, f"cannot be: {one.impossible}"])
            continue
        needed = one.days(asked)
        chosen = "chosen" if one is of.choice.option else "; ".join(one.against)
        rows.append(
            [one.design, one.unit, _hours(one), f"{one.wash_out_minutes:g} min", f"{one.missed:.1%}",
             f"{needed:g}" if needed else f"> {asked.most_days:g}",
             towards(asked.metric, one.smallest(asked, days), asked.direction),
             f"{one.power(asked, days):.0%}", _tried(compared), chosen]
        )  # fmt: skip
    return rows


def _tried(of: Compared | None) -> str:
    return UNTOLD if of is None else f"{of.tried.found:.0%} ± {of.tried.half:.0%} in {of.days:g}"


def _hours(of: Option) -> str:
    return UNTOLD if of.block_hours is None else f"{of.block_hours:g} h"


def sure_rows(of: Designed) -> Rows:
    """A row a duration."""
    metric = of.asked.metric
    rows = [["days", "contacts", "power, one look", "by trying", "no effect, by trying", "power, any time",
             "smallest found, one look", "smallest found, any time"]]  # fmt: skip
    for one in of.sure:
        tried, false = UNTOLD, UNTOLD
        if one.tried is not None:
            tried, false = f"{one.tried.found:.1%} ± {one.tried.half:.1%}", f"{one.tried.false:.1%}"
        rows.append(
            [f"{one.days:g}", f"{one.contacts:,.0f}", f"{one.fixed:.1%}", tried, false, f"{one.always:.1%}",
             *(towards(metric, each, of.asked.direction) for each in (one.smallest_fixed, one.smallest_always))]
        )  # fmt: skip
    return rows


def block_rows(of: Designed) -> Rows:
    """A row a block length, at its best wash-out."""
    rows = [["blocks", "wash-out", "hidden by carry-over", "days needed", "smallest found", "changes of arm a day"]]
    lengths = sorted({one.block_hours for one in of.choice.grid if one.block_hours is not None})
    for hours in lengths:
        of_length = [one for one in of.choice.grid if one.block_hours == hours and not one.impossible]
        if not of_length:
            continue
        allowed = [one for one in of_length if not one.against] or of_length
        one = min(
            allowed, key=lambda option: (option.days(of.asked) or math.inf, option.smallest(of.asked, of.choice.days))
        )
        needed = one.days(of.asked)
        mark = " ✓" if one.block_hours == of.plan.block_hours else ""
        hidden = f"{one.missed:.1%}" + (" (too much)" if one.against else "")
        rows.append(
            [f"{hours:g} h{mark}", f"{one.wash_out_minutes:g} min", hidden,
             f"{needed:g}" if needed else f"> {of.asked.most_days:g}",
             towards(of.asked.metric, one.smallest(of.asked, of.choice.days), of.asked.direction),
             f"{12 / hours:.1f}"]
        )  # fmt: skip
    return rows


def guard_rows(of: Designed) -> Rows:
    """A row a guardrail."""
    rows = [
        ["guardrail", "now", "must not get worse by", "level", "held if nothing changes", "margin held 4 times in 5"]
    ]
    for one in of.guards:
        asked = one.of
        margin = margin_said(one) + (f" (widened from {margin_said(one, one.default[0])})" if one.default else "")
        held = UNTOLD if math.isnan(one.held) else f"{one.held:.0%}"
        least = UNTOLD if math.isnan(one.smallest) else change(asked.metric, one.smallest).lstrip("+")
        rows.append([TITLES[asked.metric], level(asked.metric, one.level), margin, f"{asked.alpha:g}", held, least])
    return rows


def told_rows(of: Designed) -> Rows:
    """What the history says."""
    told, metric = of.told, of.asked.metric
    hours, lags = told.days * 24, ", ".join(f"{one:+.2f}" for one in told.parts.autocorrelation)
    rows = [
        ["contacts", f"{told.contacts:,} in {told.days} days, {told.contacts / hours:,.1f} an hour"],
        [TITLES[metric], level(metric, told.mean)],
        [f"variance of blocks of {told.hours:g} h beyond the slot of the week and chance", f"{told.parts.between:.3g}"],
        ["variance of contacts within a block", f"{told.parts.within:.3g}"],
        ["intraclass correlation of blocks", f"{told.parts.icc:.4f} ({told.parts.pairs} pairs a week apart)"],
        ["autocorrelation of block means, 1, 2, … blocks", lags],
        ["variance beyond that, as weeks are not alike in traffic", f"× {told.parts.uneven:.2f}"],
    ]  # fmt: skip
    for name, (share, groups) in told.icc.items():
        rows.append(
            [f"intraclass correlation of {'CSA' if name == 'csa' else name}s", f"{share:.4f} ({groups:,} of them)"]
        )
    rows.append(
        [
            "explained by intent, language and hour, from history to history",
            f"{told.explained:.1%} of a contact's variance",
        ]
    )
    rows.append(["so a switchback's variance is smaller by", f"{told.gain:.1%} (CUPED, second half by the first)"])
    return rows


def week_rows(of: Designed) -> Rows:
    """A row a weekday."""
    week = of.told.week
    return [["", "contacts a day", TITLES[of.asked.metric]]] + [
        [day, f"{many:,.0f}", level(of.asked.metric, mean)]
        for day, many, mean in zip(DAYS, week.contacts, week.mean, strict=True)
    ]


def bias_rows(found: tuple[Bias, ...]) -> Rows:
    """A row for each load, metric and way of trying."""
    rows = [["load", "metric", "tried as", "truth", "told", "off by", "", "95 % intervals with the truth"]]
    for one in found:
        word = "too large" if abs(one.told.mean) > abs(one.truth.mean) else "too small"
        rows.append(
            [f"{one.load:.2f}", TITLES[one.metric], WAYS[one.way],
             *(said(one.metric, each) for each in (one.truth, one.told, one.off)),
             word if one.wrong else "not told apart from right",
             f"{one.covered:.0%}" if one.way == BY_CONTACT else UNTOLD]
        )  # fmt: skip
    return rows


def said(metric: str, of: Estimate) -> str:
    """`+4.1 ± 0.3 points`."""
    half = UNTOLD if math.isnan(of.half) else change(metric, of.half, unit=False).lstrip("+")
    unit = change(metric, of.mean)[len(change(metric, of.mean, unit=False)) :]
    return f"{change(metric, of.mean, unit=False)} ± {half}{unit}"


def decay_rows(of: Designed) -> Rows:
    """What is left so many minutes after a change."""
    if of.decay is None:
        return []
    fit = of.decay.at(of.decay.minutes)
    rows = [["minutes after a change", "left, measured", "left, fitted"]]
    for minutes, left, half, each in zip(of.decay.minutes, of.decay.left, of.decay.half, fit, strict=True):
        rows.append([f"{minutes:g}", f"{left:.1%} ± {half:.1%}", f"{each:.1%}"])
    return rows


def calendar(of: Designed) -> tuple[npt.NDArray[np.float64], list[str]]:
    """(days, 24) arms of hours in the first unit, 1: treatment, NaN: none; names of the days."""
    schedule, plan = of.schedule, of.plan
    unit = schedule["unit"].iloc[0]
    mine = schedule[schedule["unit"] == unit]
    begins = mine["begins_at"].astype("int64").to_numpy()
    ends = mine["ends_at"].astype("int64").to_numpy()
    step = HOUR
    first, last = int(begins.min()), int(ends.max())
    cells = np.full(-(-(last - first) // step), np.nan)
    for begin, end, arm in zip(begins, ends, mine["arm"], strict=True):
        cells[(begin - first) // step : -(-(end - first) // step)] = float(arm == plan.treatment.name)
    whole = -(-len(cells) // 24) * 24
    padded = np.concatenate([cells, np.full(whole - len(cells), np.nan)]).reshape(-1, 24)
    start = mine["begins_at"].min()
    import pandas as pd

    names = [(start + pd.Timedelta(days=day)).strftime("%a %d %b") for day in range(len(padded))]
    return padded, names
