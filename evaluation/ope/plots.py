"""The pictures of an off-policy evaluation, as SVG text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from evaluation.ope.estimators import TITLES
from evaluation.ope.found import Answer, Found, Policy
from evaluation.ope.queue_model import Checked
from evaluation.page import svg

ASKED, OTHER, WRONG = "#1b6ca8", "#9aa5b1", "#c0392b"
COLOURS = ("#1b6ca8", "#d98c21", "#4d9a5a", "#8e5aa8", "#6b7785")
MOST_PROPERTIES = 24


def plots(found: Found) -> dict[str, str]:
    """Each picture that there is data for, by name."""
    drawn = {}
    for metric in found.logging:
        rows = [(answer, name) for answer in found.of(metric) for name in answer.estimates]
        if rows:
            height = 0.9 + 0.24 * (len(rows) + len(found.of(metric)))
            drawn[f"values {metric}"] = svg(lambda figure, m=metric: _values(figure, found, m), 8, height)  # type: ignore[misc]
    if any((one.weight > 0).any() for one in found.policies):
        drawn["weights"] = svg(lambda figure: _weights(figure, found.policies), 8, 3)
    drawn["effective"] = svg(lambda figure: _effective(figure, found), 8, 0.9 + 0.3 * len(found.answers))
    if any(one.balances for one in found.policies):
        shown = min(MOST_PROPERTIES, max(len(one.balances) for one in found.policies))
        drawn["balance"] = svg(lambda figure: _balance(figure, found), 8, 0.8 + 0.2 * shown)
    if found.queue is not None:
        queue = found.queue
        drawn["calibration"] = svg(lambda figure: _calibration(figure, queue), 4, 4)
    for answer in found.answers:
        if answer.sensitivity is not None:
            name = f"sensitivity {answer.policy} {answer.metric}"
            drawn[name] = svg(lambda figure, one=answer: _sensitivity(figure, one), 6, 3)  # type: ignore[misc]
    return drawn


def _values(figure: Any, found: Found, metric: str) -> None:
    axes = figure.subplots()
    labels, place = [], 0.0
    for answer in found.of(metric):
        for name in sorted(answer.estimates, key=lambda one: one != found.estimator):
            value = answer.estimates[name]
            colour = ASKED if name == found.estimator else OTHER
            axes.plot([value.low, value.high], [place, place], color=colour, linewidth=1.4)
            fill = colour if name == found.estimator else "white"
            axes.plot(value.value, place, "o", markersize=5, color=colour, markerfacecolor=fill)
            labels.append((place, f"{answer.policy[:40]}, {TITLES[name]}"))
            place += 1
        place += 0.6 if answer.estimates else 0
    logging = found.logging[metric].value
    axes.axvline(logging.value, color="black", linewidth=0.9)
    axes.axvspan(logging.low, logging.high, color="black", alpha=0.07, linewidth=0)
    axes.set_yticks([at for at, _ in labels], [label for _, label in labels])
    axes.invert_yaxis()
    axes.set_xlabel(f"{metric}; the line is the log's own policy")


def _weights(figure: Any, policies: Sequence[Policy]) -> None:
    axes = figure.subplots()
    some = np.concatenate([one.weight[one.weight > 0] for one in policies])
    low, high = float(some.min()), float(some.max())
    edges = np.geomspace(low * 0.95, max(high, low * 1.01) * 1.05, 40)
    for i, one in enumerate(policies):
        colour = COLOURS[i % len(COLOURS)]
        share = float((one.weight <= 0).mean())
        label = f"{one.name[:40]} (0 in {share:.0%})"
        axes.hist(one.weight[one.weight > 0], edges, histtype="step", color=colour, linewidth=1.4, label=label)
    axes.axvline(1.0, color="black", linewidth=0.7)
    axes.set_xscale("log")
    axes.set_xlabel("weight of a round, those of 0 left out")
    axes.set_ylabel("rounds")
    axes.legend(fontsize=7)


def _effective(figure: Any, found: Found) -> None:
    axes = figure.subplots()
    sizes = [one.overlap.effective for one in found.answers]
    colours = [WRONG if one.refused else ASKED for one in found.answers]
    axes.barh(range(len(sizes)), np.maximum(sizes, 1e-3), color=colours)
    axes.axvline(found.gates.least_effective, color="black", linewidth=0.9, linestyle="--")
    axes.set_yticks(range(len(sizes)), [f"{one.policy[:40]}, {one.metric}" for one in found.answers])
    axes.invert_yaxis()
    axes.set_xlabel("effective sample size; dashed: the least that is answered, red: refused")


def _balance(figure: Any, found: Found) -> None:
    axes = figure.subplots()
    names = [one.name for one in sorted(found.policies[0].balances, key=lambda one: -one.beyond)[:MOST_PROPERTIES]]
    step = 0.7 / max(1, len(found.policies))
    for i, policy in enumerate(found.policies):
        known = {one.name: one for one in policy.balances}
        rows = [(k, known[name]) for k, name in enumerate(names) if name in known]
        place = np.array([k for k, _ in rows]) + (i - (len(found.policies) - 1) / 2) * step
        after = [one.after for _, one in rows]
        error = [1.96 * one.error for _, one in rows]
        style = {"markersize": 3, "linewidth": 0, "elinewidth": 0.8, "color": COLOURS[i % len(COLOURS)]}
        axes.errorbar(after, place, xerr=error, fmt="o", label=policy.name[:40], **style)
    for edge in (-found.gates.most_imbalance, found.gates.most_imbalance):
        axes.axvline(edge, color="black", linewidth=0.7, linestyle="--")
    axes.set_yticks(range(len(names)), [name[:50] for name in names])
    axes.invert_yaxis()
    axes.set_xlabel("standardised difference after weighting")
    axes.legend(fontsize=7)


def _calibration(figure: Any, queue: Checked) -> None:
    axes = figure.subplots()
    predicted = np.array([one.predicted for one in queue.bands])
    observed = np.array([one.observed for one in queue.bands])
    many = np.array([one.pairs for one in queue.bands])
    top = float(max(predicted.max(), observed.max())) * 1.05
    axes.plot([0, top], [0, top], color=OTHER, linewidth=0.8)
    half = 1.96 * np.sqrt(observed * (1 - observed) / many)
    axes.errorbar(predicted, observed, yerr=half, fmt="o", markersize=4, color=ASKED, capsize=2)
    axes.set_xlabel("estimated chance of a choice")
    axes.set_ylabel("share that was chosen")
    axes.set_title(f"calibration error {queue.error:.1%}, slope {queue.slope:.2f}")


def _sensitivity(figure: Any, answer: Answer) -> None:
    axes = figure.subplots()
    curve = answer.sensitivity
    if curve is None:
        return
    strength = [one.strength for one in curve.bounds]
    outer = [one.outer_low for one in curve.bounds], [one.outer_high for one in curve.bounds]
    axes.fill_between(strength, *outer, color=ASKED, alpha=0.15, linewidth=0, label="with the interval")
    inner = [one.low for one in curve.bounds], [one.high for one in curve.bounds]
    axes.fill_between(strength, *inner, color=ASKED, alpha=0.35, linewidth=0, label="what the value can be")
    axes.axhline(0, color="black", linewidth=0.8)
    if 1 < curve.flips < np.inf:
        axes.axvline(curve.flips, color=WRONG, linewidth=0.9, linestyle="--", label=f"falls at Λ = {curve.flips:.2f}")
    axes.set_xscale("log")
    axes.set_xticks(strength, [f"{one:g}" for one in strength])
    axes.minorticks_off()
    axes.set_xlabel("Λ")
    axes.set_ylabel(f"{answer.metric} less the log's")
    axes.legend(fontsize=7)
