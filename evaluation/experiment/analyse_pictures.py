"""Pictures of an analysis, as SVG text: each answers one question that somebody asks in a meeting."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from evaluation.experiment.analyse import Analysis, Found
from evaluation.experiment.bands import KINDS
from evaluation.experiment.plan import Plan
from evaluation.experiment.through_time import Stretch
from evaluation.experiment.words import SHARES, TITLES, UNITS
from evaluation.page import svg
from evaluation.report_plots import MISSED, MODEL, OTHER
from twotower.clock import DAY

Doubles = npt.NDArray[np.float64]

GOOD = "#2e8b57"
STATES = {"held": GOOD, "open": OTHER, "broken": MISSED, "not measured": OTHER}
US = "datetime64[us]"
ROOM = 3.0
"""Pictures show so many times the last interval's width; what is wider runs out of them."""


def pictures(analysis: Analysis) -> dict[str, str]:
    """By the title of the table beneath: SVG; nothing where a check refused."""
    found, plan = analysis.found, analysis.plan
    if found is None:
        return {}
    drawn = {}
    if np.isfinite(found.estimate.monitored.value).any():
        drawn["The effect as it became known"] = svg(partial(_sequence, plan=plan, found=found), 9, 3.4)
    if any(np.isfinite(one.high) for one in found.guards):
        drawn["Guardrails"] = svg(partial(_guards, found=found), 8, 1.0 + 0.4 * len(found.guards))
    if found.bands:
        drawn["For whom"] = svg(partial(_bands, plan=plan, found=found), 8, 0.9 + 0.26 * len(found.bands))
    if found.novelty.stretches:
        drawn["The effect since the start"] = svg(partial(_novelty, plan=plan, found=found), 8, 2.8)
    if found.carry_over is not None and found.carry_over.minutes:
        drawn["After a change of arm"] = svg(partial(_carry_over, plan=plan, found=found), 8, 2.8)
    if found.taken is not None:
        drawn["Where the effect comes from"] = svg(partial(_taken, plan=plan, found=found), 9, 2.4)
    if found.value is not None:
        drawn["What it is worth"] = svg(partial(_value, found=found), 8, 0.9 + 0.35 * (len(found.value.parts) + 1))
    return drawn


def timeline(analysis: Analysis) -> str:
    """Which arm when, and the metric's mean in each block."""
    found, plan = analysis.found, analysis.plan
    if found is None:
        return ""
    units = len({one.unit for one in found.blocks})
    return svg(partial(_timeline, plan=plan, found=found), 10, 2.6 + 0.22 * min(units, 24))


def _in_units(metric: str, values: Any) -> Doubles:
    """Shares in points."""
    return np.asarray(values, np.float64) * (100 if metric in SHARES else 1)


def _label(metric: str, of: str = "effect on") -> str:
    unit = "points" if metric in SHARES else UNITS.get(metric, "").strip()
    return f"{of} {TITLES[metric]}" + (f", {unit}" if unit else "")


def _plain(axes: Any) -> None:
    axes.spines[["top", "right"]].set_visible(False)


def _sequence(figure: Any, plan: Plan, found: Found) -> None:
    axes, metric, seen = figure.subplots(), plan.primary.metric, found.estimate.monitored
    value, low, high = (_in_units(metric, one) for one in (seen.value, seen.low, seen.high))
    when = seen.known_at.astype(US)
    finite = np.isfinite(low)
    known = value[~np.isnan(value)]
    width = ROOM * (high[finite][-1] - low[finite][-1] if finite.any() else max(np.ptp(known), 1e-9))
    top, bottom = known[-1] + width / 2, known[-1] - width / 2
    axes.fill_between(when, np.maximum(low, bottom), np.minimum(high, top), where=finite, color=MODEL, alpha=0.2,
                      step="post", label="always-valid interval", linewidth=0)  # fmt: skip
    axes.plot(when, value, color=MODEL, drawstyle="steps-post", label="effect")
    ends = _in_units(metric, [[found.estimate.effect.low], [found.estimate.effect.high]])
    last = _in_units(metric, found.estimate.effect.value)
    if np.isfinite(ends).all():
        axes.errorbar(when[-1:], [last], yerr=np.abs(ends - last), color="black", capsize=3, fmt="o", markersize=3,
                      label="for a single look at the end")  # fmt: skip
    axes.axhline(0, color="black", linewidth=0.8)
    sign = 1 if plan.primary.better == "higher" else -1
    axes.axhline(sign * _in_units(metric, plan.primary.smallest_effect), color=GOOD, linestyle="--", linewidth=0.8,
                 label="worth having")  # fmt: skip
    if seen.crossed is not None:
        axes.axvline(when[seen.crossed], color=OTHER, linewidth=0.8, label="first leaves out zero")
    axes.set_ylim(min(bottom, 0), max(top, 0))
    axes.set_ylabel(_label(metric))
    axes.legend(frameon=False, loc="upper left", fontsize=7, ncols=2)
    figure.autofmt_xdate(rotation=20)
    _plain(axes)


def _guards(figure: Any, found: Found) -> None:
    """Harm in margins, so that guardrails of different units share an axis."""
    axes = figure.subplots()
    for place, one in enumerate(found.guards):
        unit = one.of.margin or max(abs(one.high), abs(one.low), 1e-12)
        if not np.isfinite([one.low, one.high]).all():
            continue
        low, high = max(one.low / unit, -ROOM), min(one.high / unit, ROOM)
        axes.plot([low, high], [place, place], color=STATES[one.state], linewidth=4, solid_capstyle="butt")
        axes.plot([np.clip(one.harm / unit, -ROOM, ROOM)], [place], "o", color="black", markersize=4)
        axes.plot([1.0 if one.of.margin else 0.0] * 2, [place - 0.35, place + 0.35], color=MISSED, linewidth=1.5)
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set_yticks(range(len(found.guards)), [f"{TITLES[one.of.metric]}: {one.state}" for one in found.guards])
    axes.invert_yaxis()
    axes.set_xlabel("change for the worse, in margins (red: the margin; left of zero: better)")
    _plain(axes)


def _bands(figure: Any, plan: Plan, found: Found) -> None:
    axes, metric, some = figure.subplots(), plan.primary.metric, found.bands
    place = np.arange(len(some))
    low, high = (_in_units(metric, [getattr(one, name) for one in some]) for name in ("low", "high"))
    colours = [MISSED if one.found else OTHER for one in some]
    axes.hlines(place, low, high, color=colours, linewidth=1.5)
    axes.plot(_in_units(metric, [one.effect for one in some]), place, "o", color=OTHER, markersize=4, label="alone")
    axes.plot(_in_units(metric, [one.shrunk for one in some]), place, "D", color=MODEL, markersize=4, label="shrunk")
    axes.axvline(
        _in_units(metric, found.estimate.effect.value), color=MODEL, linewidth=0.8, linestyle="--", label="all"
    )
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set_yticks(place, [f"{KINDS[one.kind]}: {one.value}"[:50] for one in some])
    axes.invert_yaxis()
    axes.set_xlabel(_label(metric) + " (red: differs from the rest)")
    axes.legend(frameon=False, fontsize=7)
    _plain(axes)


def _steps(axes: Any, metric: str, some: Sequence[Stretch], middle: Any, colours: Sequence[str]) -> None:
    value, low, high = (_in_units(metric, [getattr(one, name) for one in some]) for name in ("effect", "low", "high"))
    for x, y, below, above, colour in zip(middle, value, low, high, colours, strict=True):
        axes.errorbar([x], [y], yerr=[[y - below], [above - y]], fmt="o", color=colour, capsize=3, markersize=4)
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set_ylabel(_label(metric))
    _plain(axes)


def _novelty(figure: Any, plan: Plan, found: Found) -> None:
    axes, some = figure.subplots(), found.novelty.stretches
    middle = [np.int64((one.begins + one.ends) / 2).astype(US) for one in some]
    _steps(axes, plan.primary.metric, some, middle, [MODEL] * len(some))
    axes.axhline(
        _in_units(plan.primary.metric, found.estimate.effect.value), color=MODEL, linewidth=0.8, linestyle="--"
    )
    figure.autofmt_xdate(rotation=20)


def _carry_over(figure: Any, plan: Plan, found: Found) -> None:
    axes = figure.subplots()
    some = () if found.carry_over is None else found.carry_over.minutes
    colours = [OTHER if one.ends <= plan.wash_out_minutes else MODEL for one in some]
    _steps(axes, plan.primary.metric, some, [(one.begins + one.ends) / 2 for one in some], colours)
    axes.set_xlabel("minutes after a change of arm (grey: the wash-out, which does not count)")
    axes.set_xlim(left=0)


def _taken(figure: Any, plan: Plan, found: Found) -> None:
    left, right = figure.subplots(1, 2)
    parts, metric = found.taken, plan.primary.metric
    if parts is None:
        return
    asked = (parts.who, parts.match, parts.nobody)
    value, low, high = (_in_units(metric, [getattr(one, name) for one in asked]) for name in ("value", "low", "high"))
    left.barh(range(3), value, xerr=[value - low, high - value], color=[MISSED, MODEL, OTHER],
              error_kw={"linewidth": 0.8, "capsize": 2})  # fmt: skip
    left.set_yticks(range(3), ["better CSAs take more", "better matches", "nobody took it"])
    left.invert_yaxis()
    left.axvline(0, color="black", linewidth=0.8)
    left.set_xlabel(_label(metric))
    for i, (name, colour) in enumerate(((plan.control.name, OTHER), (plan.treatment.name, MODEL))):
        shares = [100 * one[i] for one in parts.fifths]
        right.bar(np.arange(len(shares)) + 0.4 * i, shares, 0.4, color=colour, label=name)
    right.set_xticks(np.arange(len(parts.fifths)) + 0.2, ["lowest", "2nd", "3rd", "4th", "highest"])
    right.set_xlabel("fifths of CSAs by past mean")
    right.set_ylabel("% of contacts taken")
    right.legend(frameon=False, fontsize=7, ncols=2, loc="upper left", bbox_to_anchor=(0, 1.15))
    _plain(left)
    _plain(right)


def _value(figure: Any, found: Found) -> None:
    axes, worth = figure.subplots(), found.value
    if worth is None:
        return
    rows = [(TITLES[one.metric], one.value, one.low, one.high) for one in worth.parts]
    rows.append(("all together", worth.per_contact, worth.low, worth.high))
    value, low, high = (1000 * np.array([row[i] for row in rows]) for i in (1, 2, 3))
    colours = [OTHER] * len(worth.parts) + [MODEL]
    axes.barh(range(len(rows)), value, xerr=[value - low, high - value], color=colours,
              error_kw={"linewidth": 0.8, "capsize": 2})  # fmt: skip
    axes.set_yticks(range(len(rows)), [row[0] for row in rows])
    axes.invert_yaxis()
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set_xlabel(f"{worth.currency} for 1,000 contacts, right is better")
    _plain(axes)


def _timeline(figure: Any, plan: Plan, found: Found) -> None:
    names = list(dict.fromkeys(one.unit for one in found.blocks))[:24]
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(max(1.0, 0.25 * len(names)), 2.0))
    for arm, colour, name in ((0, OTHER, plan.control.name), (1, MODEL, plan.treatment.name)):
        of = [one for one in found.blocks if one.arm == arm]
        for place, unit in enumerate(names):
            mine = [one for one in of if one.unit == unit]
            # matplotlib counts days since 1970.
            spans = [(one.begins / DAY, (one.ends - one.begins) / DAY) for one in mine]
            upper.broken_barh(spans, (place - 0.4, 0.8), color=colour)
        middle = np.array([(one.begins + one.ends) // 2 for one in of if one.contacts], np.int64).astype(US)
        mean = _in_units(plan.primary.metric, [one.mean for one in of if one.contacts])
        lower.scatter(middle, mean, s=[2 + one.contacts**0.5 for one in of if one.contacts], color=colour, label=name)
    upper.set_yticks(range(len(names)), names)
    upper.xaxis_date()
    lower.set_ylabel(_label(plan.primary.metric, "mean").replace("points", "%"))
    lower.legend(frameon=False, fontsize=7)
    figure.autofmt_xdate(rotation=20)
    _plain(upper)
    _plain(lower)
