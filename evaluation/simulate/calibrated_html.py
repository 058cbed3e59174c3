"""A calibration as one HTML file that needs nothing beside it."""

from __future__ import annotations

from functools import partial
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from evaluation.page import page, svg, table, write_folder
from evaluation.report_plots import MISSED, MODEL, OTHER
from evaluation.simulate.calibrated import Calibrated, cells, centre_file, json_report, text_report
from evaluation.simulate.reproduce import FIGURES, TITLES, Reproduction


def write_calibrated(found: Calibrated, folder: str | Path) -> None:
    """Write `centre.json`, `result.json` and `report.html` to a new folder, whole or not at all.

    Raises OutputError where the folder exists already or cannot be written.
    """
    write_folder(folder, html_report(found), centre=centre_file(found), result=json_report(found))


def html_report(found: Calibrated) -> str:
    """The page."""
    head = ["", "days inside", "log", "simulated", "error", "half a band"]
    body = ["<h1>A centre fitted to its log</h1>", f"<pre>{escape(text_report(found))}</pre>"]
    for title, of in (("Held-out days", found.held_out), ("Fitted days", found.within)):
        body += [f"<h2>{title}</h2>", table(head, [[cell for cell, _ in row] for row in cells(of)])]
        body.append(svg(partial(_bands, found=found, of=of), 11, 8))
    body += ["<h2>Arrivals</h2>", svg(lambda figure: _arrivals(figure, found), 9, 3)]
    body += ["<h2>Patience</h2>", svg(lambda figure: _patience(figure, found), 9, 3.5)]
    body += ["<h2>Handling and after-call work</h2>", svg(lambda figure: _work(figure, found), 9, 3.5)]
    return page("Calibration", body)


def _bands(figure: Any, found: Calibrated, of: Reproduction) -> None:
    low, high = of.bands()
    inside, place = of.inside(), np.arange(len(of.days))
    names = [found.calls.dates[day].strftime("%a %d") for day in of.days]
    for f, axes in enumerate(figure.subplots(2, 2).ravel()):
        axes.vlines(place, low[:, f], high[:, f], color=OTHER, linewidth=6)
        axes.scatter(place, of.log[:, f], s=18, zorder=3, color=[MODEL if one else MISSED for one in inside[:, f]])
        axes.set_title(f"{TITLES[FIGURES[f]]}: log (point) and 90 % of simulations")
        axes.set_xticks(place, names, rotation=90)
        axes.set_ylim(bottom=0)


def _arrivals(figure: Any, found: Calibrated) -> None:
    axes = figure.subplots()
    for kind, rates in zip(found.calls.kinds, found.fitted.rates.an_hour, strict=True):
        axes.plot(np.arange(rates.shape[1]) / 2, rates.sum(axis=0), drawstyle="steps-post", label=kind.name)
    axes.set_xlabel("hour of the day")
    axes.set_ylabel("calls an hour")
    axes.legend()


def _patience(figure: Any, found: Calibrated) -> None:
    axes, seen = figure.subplots(), set()
    for name, of, curve in zip(found.fitted.classes, found.fitted.patience_from, found.fitted.survival, strict=True):
        label = name if of == "class" else of
        if label not in seen and len(curve.times):
            axes.plot(curve.times, curve.alive, drawstyle="steps-post", label=label)
            seen.add(label)
    axes.set_xlabel("seconds waited")
    axes.set_ylabel("still patient (Kaplan and Meier)")
    axes.set_xlim(0, 600)
    axes.legend()


def _work(figure: Any, found: Calibrated) -> None:
    left, right = figure.subplots(1, 2)
    hours, fitted = np.arange(24), found.fitted
    left.plot(hours, fitted.pace[::2], drawstyle="steps-mid", label="handling")
    if fitted.after is not None:
        left.plot(hours, fitted.after.pace[::2], drawstyle="steps-mid", label="after-call work")
        seconds = np.quantile(fitted.after.seconds, np.linspace(0, 1, 201), axis=(1, 2)).T
        for level, values in zip(fitted.choices.waiting, seconds, strict=True):
            right.plot(values, np.linspace(1, 0, 201), label=f"{level} or more wait")
        right.set_xscale("symlog", linthresh=10)
        right.set_xlabel("seconds after a service")
        right.set_ylabel("not yet there again")
        right.legend()
    left.set_xlabel("hour of the day")
    left.set_ylabel("times the mean")
    left.legend()
