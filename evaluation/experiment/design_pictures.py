"""The pictures of a design."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from evaluation.experiment.design import Designed
from evaluation.experiment.design_tables import WAYS, calendar
from evaluation.experiment.simulated_bias import METRICS, Bias
from evaluation.experiment.words import SHARES, TITLES, UNITS
from evaluation.simulate.pictures import colour, plain_axes

TRUTH = "#1d2733"


def draw_bias(figure: Any, found: tuple[Bias, ...]) -> None:
    """By metric: the truth and what each way of trying says, at each load."""
    metrics = [name for name in METRICS if any(one.metric == name for one in found)]
    ways = list(dict.fromkeys(one.way for one in found))
    parts = np.ravel(figure.subplots(1, len(metrics)))
    for axes, name in zip(parts, metrics, strict=True):
        scale = 100.0 if name in SHARES else 1.0
        loads = sorted({one.load for one in found})
        width = 0.8 / (len(ways) + 1)
        for w, way in enumerate(["truth", *ways]):
            of = [one for load in loads for one in found if (one.load, one.metric) == (load, name)
                  and one.way == (ways[0] if way == "truth" else way)]  # fmt: skip
            shown = [one.truth if way == "truth" else one.told for one in of]
            x = np.arange(len(loads)) + (w - len(ways) / 2) * width
            halves = [0.0 if math.isnan(one.half) else scale * one.half for one in shown]
            label = "truth: everybody in one arm" if way == "truth" else WAYS[way]
            axes.errorbar(x, [scale * one.mean for one in shown], halves, fmt="o" if way == "truth" else "s", ms=4,
                          color=TRUTH if way == "truth" else colour(w), label=label, capsize=2)  # fmt: skip
        axes.set_xticks(np.arange(len(loads)), [f"load {load:.2f}" for load in loads])
        axes.axhline(0, color="#9aa5b1", lw=0.7)
        unit = "points" if name in SHARES else UNITS.get(name, "").strip()
        axes.set_title(f"effect on {TITLES[name]}, {unit}")
        plain_axes(axes)
    figure.legend(*parts[0].get_legend_handles_labels(), loc="outside upper left", ncols=4, frameon=False)


def draw_power(figure: Any, of: Designed) -> None:
    """Power and the smallest effect found, by days."""
    left, right = figure.subplots(1, 2)
    days = [one.days for one in of.sure]
    left.plot(days, [one.fixed for one in of.sure], color=colour(0), label="one look at the end, formula")
    left.plot(days, [one.always for one in of.sure], color=colour(1), label="a look at any time, formula")
    tried = [one for one in of.sure if one.tried is not None]
    left.errorbar([one.days for one in tried], [one.tried.found for one in tried if one.tried],
                  [one.tried.half for one in tried if one.tried], fmt="o", ms=4, color=colour(0),
                  label="one look, history's blocks")  # fmt: skip
    left.axhline(of.asked.power, color=TRUTH, ls="--", lw=0.8)
    left.set_ylim(0, 1.02)
    left.set_title("chance to find the smallest effect worth having")
    scale = 100.0 if of.asked.metric in SHARES else 1.0
    for i, (name, label) in enumerate((("smallest_fixed", "one look"), ("smallest_always", "any time"))):
        values = np.array([scale * getattr(one, name) for one in of.sure])
        right.plot(days, np.where(np.isfinite(values), values, np.nan), color=colour(i), label=label)
    right.axhline(scale * of.asked.effect, color=TRUTH, ls="--", lw=0.8)
    right.set_title(
        f"smallest effect that is found, {'points' if scale > 1 else UNITS.get(of.asked.metric, '').strip()}"
    )
    right.set_ylim(bottom=0)
    for axes in (left, right):
        axes.axvline(of.choice.days, color="#9aa5b1", lw=0.8)
        axes.set_xlabel("days")
        axes.legend(frameon=False)
        plain_axes(axes)


def draw_carry(figure: Any, of: Designed) -> None:
    """What is left after a change, and what each block length hides and finds."""
    left, right = figure.subplots(1, 2)
    if of.decay is not None:
        known = np.isfinite(of.decay.left)
        left.errorbar(of.decay.minutes[known], of.decay.left[known], of.decay.half[known], fmt="o", ms=3,
                      color=colour(0), label=of.decay.source)  # fmt: skip
        t = np.linspace(0, float(of.decay.minutes.max()), 200)
        left.plot(t, of.decay.at(t), color=colour(0), lw=1, label="fitted")
    for i, one in enumerate(of.replayed.carried if of.replayed else ()):
        if np.isfinite(one.decay.left).any():
            left.errorbar(one.decay.minutes, one.decay.left, one.decay.half, fmt="s", ms=3, color=colour(i + 1),
                          label=f"replayed days, {TITLES[one.metric]}")  # fmt: skip
    left.axvline(of.plan.wash_out_minutes, color=TRUTH, ls="--", lw=0.8)
    left.set_ylim(-0.5, 1.2)
    left.set_xlabel("minutes after a change of arm")
    left.set_title("share of the arm before that is left (dashed: wash-out)")
    left.legend(frameon=False)
    scale = 100.0 if of.asked.metric in SHARES else 1.0
    washes = sorted({one.wash_out_minutes for one in of.choice.grid})
    for i, wash in enumerate(washes[:: max(1, len(washes) // 5)]):
        these = [one for one in of.choice.grid if one.wash_out_minutes == wash and not one.impossible]
        values = [scale * one.smallest(of.asked, of.choice.days) for one in these]
        right.plot([one.block_hours for one in these], values, marker="o", ms=3, color=colour(i), label=f"{wash:g} min")
    right.set_xscale("log", base=2)
    right.set_xticks([1, 2, 4, 8, 12, 24], ["1", "2", "4", "8", "12", "24"])
    right.set_xlabel("hours of a block")
    right.set_title(f"smallest effect found in {of.choice.days:g} days, by wash-out")
    right.legend(frameon=False)
    for axes in (left, right):
        plain_axes(axes)


def draw_calendar(figure: Any, of: Designed) -> None:
    """Which arm when."""
    from matplotlib.colors import ListedColormap

    cells, names = calendar(of)
    axes = figure.subplots()
    axes.imshow(np.ma.masked_invalid(cells), aspect="auto", cmap=ListedColormap([colour(0), colour(1)]), vmin=0, vmax=1,
                extent=(0, 24, len(cells), 0), interpolation="none")  # fmt: skip
    axes.set_yticks(np.arange(len(names)) + 0.5, names)
    axes.set_xticks(range(0, 25, 4))
    axes.set_xlabel("hour of the day, UTC")
    for arm, name in enumerate((of.plan.control.name, of.plan.treatment.name)):
        axes.plot([], [], "s", color=colour(arm), label=name)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper left", ncols=2, frameon=False)


def draw_week(figure: Any, of: Designed) -> None:
    """Contacts and the metric by weekday, and how blocks hang together."""
    left, middle, right = figure.subplots(1, 3)
    week, days = of.told.week, ["Mo", "Tu", "We", "Th", "Fr", "Sa", "Su"]
    left.bar(days, week.contacts, color=colour(0))
    left.set_title("contacts a day")
    middle.plot(days, week.mean, marker="o", color=colour(1))
    middle.set_title(TITLES[of.asked.metric])
    lags = of.told.parts.autocorrelation
    right.bar(np.arange(1, len(lags) + 1), lags, color=colour(2))
    right.set_title(f"autocorrelation of blocks of {of.told.hours:g} h")
    right.set_xlabel("blocks apart")
    for axes in (left, middle, right):
        plain_axes(axes)
