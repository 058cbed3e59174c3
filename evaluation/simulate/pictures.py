"""Pictures of a simulation: what policies reach, how waits are spread, who bears the load, how the day goes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from evaluation.page import svg
from evaluation.simulate.details import GRID_S, languages_of
from evaluation.simulate.replicate import Comparison, Trial

Doubles = npt.NDArray[np.float64]
MOST_NAMED, MOST_SHOWN = 4, 8  # classes of a group of skills; groups, the dearest first
COLOURS = ("#9aa5b1", "#1b6ca8", "#c0392b", "#2e8b57", "#8e44ad", "#d68910", "#117a65", "#7b241c", "#34495e", "#b7950b")
BARS = (("resolved", "resolved"), ("csat", "csat"), ("level", "service level"), ("mean_wait_s", "mean wait, s"),
        ("abandoned", "abandoned"), ("occupancy", "occupancy"), ("gini_load", "Gini of load"),
        ("gini_hard", "Gini of hard contacts"))  # fmt: skip


def pictures(trial: Trial, found: Comparison) -> dict[str, str]:
    """Title → SVG, for all that there is data for."""
    drawn = {
        "What each policy reaches": svg(lambda figure: _bars(figure, found), 11, 0.9 + 0.45 * len(found.names)),
        "Who waits longer than": svg(lambda figure: _waits(figure, found), 8, 3.4),
        "Fairness by CSA": svg(lambda figure: _csas(figure, trial, found), 10, 3.4),
    }
    if len(languages_of(trial.centre)) > 1:
        drawn["Fairness by the customer's language"] = svg(lambda figure: _languages(figure, trial, found), 10, 3.2)
    for name, price in prices_of_rules(trial).items():
        drawn[f"What an hour of CSA time is worth: {name}"] = svg(partial(_prices, trial=trial, price=price), 9, 3.2)
    drawn["Through the day"] = svg(lambda figure: _series(figure, trial, found), 10, 5.2)
    return drawn


def prices_of_rules(trial: Trial) -> dict[str, Doubles]:
    """Prices (I, J) of CSA time, by the name of each policy that charges them; of equal ones the first."""
    found: dict[str, Doubles] = {}
    for rule in trial.rules:
        price = getattr(rule.start, "price", None)
        if price is not None and not any(np.array_equal(price, other) for other in found.values()):
            found[rule.name] = price
    return found


def skills_of(trial: Trial) -> dict[str, npt.NDArray[np.int64]]:
    """CSAs who can take the same classes, by the classes' names; positions."""
    found: dict[str, list[int]] = {}
    for csa, can in enumerate(trial.centre.can.T):
        names = [name for name, one in zip(trial.centre.classes, can, strict=True) if one]
        label = ", ".join(names[:MOST_NAMED]) + (f" and {len(names) - MOST_NAMED} more" if names[MOST_NAMED:] else "")
        found.setdefault(label or "nothing", []).append(csa)
    return {label: np.array(csas) for label, csas in found.items()}


def colour(place: int) -> str:
    """Of a policy, by its place."""
    return COLOURS[place % len(COLOURS)]


def _bars(figure: Any, found: Comparison) -> None:
    some = [(name, title) for name, title in BARS if not math.isnan(found.of(found.names[0], name).mean)]
    for axes, (name, title) in zip(np.ravel(figure.subplots(2, (len(some) + 1) // 2, sharey=True)), some, strict=False):
        estimates = [found.of(one, name) for one in found.names]
        place = np.arange(len(estimates))
        halves = [0.0 if math.isnan(one.half) else one.half for one in estimates]
        axes.barh(
            place,
            [one.mean for one in estimates],
            xerr=halves,
            color=[colour(i) for i in range(len(estimates))],
            height=0.7,
        )
        axes.set_yticks(place, found.names)
        axes.invert_yaxis() if not axes.yaxis_inverted() else None
        axes.set_title(title)
        plain_axes(axes)


def _waits(figure: Any, found: Comparison) -> None:
    axes = figure.subplots()
    for i, (name, of) in enumerate(zip(found.names, found.details, strict=True)):
        contacts = of.series[0].sum()
        if contacts:
            axes.plot(np.maximum(GRID_S, 0.5), of.longer / contacts, color=colour(i), label=name)
    axes.set_xscale("log")
    axes.set_xlim(0.5, 7200)
    axes.set_xlabel("seconds waited")
    axes.set_ylabel("share of contacts that wait longer")
    axes.legend(frameon=False)
    plain_axes(axes)


def _csas(figure: Any, trial: Trial, found: Comparison) -> None:
    """Each policy's CSAs in ascending order, so that a flat line is a fair share."""
    parts = figure.subplots(1, 3)
    hours = np.maximum(trial.centre.staffed_s(trial.warm_up_s, trial.centre.horizon_s) / 3600, 1e-9)
    for i, (name, of) in enumerate(zip(found.names, found.details, strict=True)):
        on = hours > 1e-6
        with np.errstate(invalid="ignore", divide="ignore"):
            success = of.resolved / of.taken
        for axes, values in zip(parts, (of.load / of.runs, of.hard / of.runs / hours, success), strict=True):
            axes.plot(np.sort(values[on & ~np.isnan(values)]), color=colour(i), label=name)
    for axes, title in zip(parts, ("occupancy", "hard contacts an hour", "resolved of those taken"), strict=True):
        axes.set_title(title)
        axes.set_xlabel("CSAs, ascending")
        plain_axes(axes)
    _legend(figure, parts[0])


def _languages(figure: Any, trial: Trial, found: Comparison) -> None:
    names = [name or "not given" for name in languages_of(trial.centre)]
    parts, width = figure.subplots(1, 3), 0.8 / len(found.names)
    for i, (policy, of) in enumerate(zip(found.names, found.details, strict=True)):
        contacts, lost, good, waited = of.languages
        with np.errstate(invalid="ignore", divide="ignore"):
            shares = (good / contacts, waited / contacts, lost / contacts)
        for axes, values in zip(parts, shares, strict=True):
            axes.bar(np.arange(len(names)) + i * width, values, width, color=colour(i), label=policy)
    for axes, title in zip(parts, ("resolved", "mean wait, s", "abandoned"), strict=True):
        axes.set_xticks(np.arange(len(names)) + 0.4 - width / 2, names)
        axes.set_title(title)
        plain_axes(axes)
    _legend(figure, parts[0])


def _prices(figure: Any, trial: Trial, price: Doubles) -> None:
    """Mean over who can take the same classes and is there."""
    axes, step = figure.subplots(), trial.centre.interval_s
    hours = np.arange(len(price)) * step / 3600
    there = np.array([trial.centre.staffed_s(i * step, (i + 1) * step) > 0 for i in range(len(price))])
    dear = sorted(skills_of(trial).items(), key=lambda one: -float(price[:, one[1]].sum() / len(one[1])))
    for i, (label, csas) in enumerate(dear[:MOST_SHOWN]):
        many = there[:, csas].sum(axis=1)
        mean = np.where(many > 0, (price[:, csas] * there[:, csas]).sum(axis=1) / np.maximum(many, 1), np.nan)
        axes.plot(hours, mean, color=colour(i), label=label, drawstyle="steps-post")
    axes.set_xlabel("hours from the start")
    axes.set_ylabel("resolutions an hour")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper left", ncols=2, frameon=False)
    plain_axes(axes)


def _series(figure: Any, trial: Trial, found: Comparison) -> None:
    parts = figure.subplots(4, 1, sharex=True)
    hours = (np.arange(trial.centre.rates.shape[1]) + 0.5) * trial.centre.interval_s / 3600
    for i, (name, of) in enumerate(zip(found.names, found.details, strict=True)):
        contacts, lost, good, waited = of.series
        with np.errstate(invalid="ignore", divide="ignore"):
            lines = (contacts / of.runs, waited / contacts, lost / contacts, good / contacts)
        for axes, values in zip(parts, lines, strict=True):
            axes.plot(hours, values, color=colour(i), label=name)
    titles: Sequence[str] = ("contacts that arrive", "mean wait, s", "abandoned", "resolved")
    for axes, title in zip(parts, titles, strict=True):
        axes.set_ylabel(title)
        plain_axes(axes)
    parts[-1].set_xlabel("hours from the start")
    _legend(figure, parts[0])


def _legend(figure: Any, axes: Any) -> None:
    """Of all parts, above them."""
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper left", ncols=6, frameon=False)


def plain_axes(axes: Any) -> None:
    """Without the lines above and to the right."""
    axes.spines[["top", "right"]].set_visible(False)
