"""A calibration from log to figures, and what is written of it: the fitted centre, the figures, a page."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from evaluation.simulate.calibrate import Choices, Fitted, fit
from evaluation.simulate.calls import Calls
from evaluation.simulate.on_shift import shifts
from evaluation.simulate.replicate import LOCAL
from evaluation.simulate.reproduce import BAND, FIGURES, TITLES, Reproduction, reproduce
from twotower.engines import Engine
from twotower.errors import ConfigError, DataError

Longs = npt.NDArray[np.int64]
SPLITS = ("alternate", "first")


@dataclass(frozen=True)
class Calibrated:
    """What came of it."""

    calls: Calls
    fitted: Fitted
    held_out: Reproduction
    within: Reproduction
    """The same for the days that were fitted."""
    split: str
    replications: int


def split_days(calls: Calls, split: str) -> tuple[Longs, Longs]:
    """Days to fit and to hold out: every other date, or the first half of the dates."""
    if split not in SPLITS:
        raise ConfigError(f"split {split!r}; {' or '.join(SPLITS)} expected")
    place = np.arange(len(calls.dates))
    first = place % 2 == 0 if split == "alternate" else place < (len(place) + 1) // 2
    open_days = np.isin(place, calls.day)
    fitting, held = place[first & open_days], place[~first & open_days]
    if len(fitting) < 2 or not len(held):
        raise DataError(f"{len(fitting)} days to fit and {len(held)} to hold out; at least 2 and 1 expected")
    missing = sorted({calls.hours_of(int(day)).name for day in held} - {calls.hours_of(int(d)).name for d in fitting})
    if missing:
        raise DataError(f"days of kind {missing[0]!r} are held out, and none are fitted; the log is too short")
    return fitting, held


def calibrate(
    calls: Calls,
    choices: Choices | None = None,
    split: str = "alternate",
    replications: int = 100,
    seed: int = 0,
    engine: Engine = LOCAL,
) -> Calibrated:
    """Fits some days, and simulates the others and, for comparison, the same."""
    if replications < 20:
        raise ConfigError(f"{replications} replications; a band of 90 % needs at least 20")
    fitting, held = split_days(calls, split)
    fitted = fit(calls.of_days(fitting), choices)
    return Calibrated(
        calls,
        fitted,
        reproduce(fitted, calls, held.tolist(), replications, seed, engine),
        reproduce(fitted, calls, fitting.tolist(), replications, seed, engine),
        split,
        replications,
    )


def text_report(found: Calibrated) -> str:
    """For people."""
    fitted, held = found.fitted, found.held_out
    order, rates = fitted.discipline, fitted.rates
    lines = [
        f"{len(found.calls):,} calls of {len(fitted.days) + len(held.days)} days; {len(fitted.days)} days fitted, "
        f"{len(held.days)} held out ({found.split}), {found.replications} replications of each",
        "left out: " + ", ".join(f"{many:,} {why}" for why, many in found.calls.left_out.items() if why != "rows"),
        f"patience: median {_median(fitted)} s; priority counts as {order.of_high:g} s waited",
        f"the order of service explains {order.agrees:.0%} of decisions, first come first served "
        f"{order.agrees_without:.0%}",
        f"arrivals of half-hours vary {rates.dispersion:.1f} times as much as a Poisson's, "
        f"{rates.dispersion_within:.1f} times with their day's number given",
    ]
    if fitted.after is not None:
        means = ", ".join(f"{mean:.0f}" for mean in fitted.after.mean_s)
        lines.append(f"after-call work, mean s while {_levels(fitted)} calls wait: {means}")
    return "\n".join([*lines, "", *_table_lines("held-out days", held), "", *_table_lines("fitted days", found.within)])


def _median(fitted: Fitted) -> str:
    tables = {one: curve.quantiles(101)[50] for one, curve in zip(fitted.classes, fitted.survival, strict=True)}
    return f"{min(tables.values()):.0f} to {max(tables.values()):.0f}"


def _levels(fitted: Fitted) -> str:
    return ", ".join(str(level) for level in fitted.choices.waiting)


def _table_lines(title: str, found: Reproduction) -> list[str]:
    lines = [f"{title:<16}{'days inside':>12}{'log':>10}{'simulated':>11}{'error':>9}{'half a band':>13}"]
    return lines + ["".join(f"{cell:>{w}}" if w != 16 else f"{cell:<16}" for cell, w in row) for row in cells(found)]


def cells(found: Reproduction) -> list[list[tuple[str, int]]]:
    return [
        [(TITLES[name], 16), (f"{row['inside']} of {row['days']}", 12), (_short(row["log"]), 10),
         (_short(row["simulated"]), 11), (f"{row['error']:+.1%}", 9), (f"{row['half_band']:.0%}", 13)]
        for name, row in summary(found).items()
    ]  # fmt: skip


def _short(value: float) -> str:
    return f"{value:.1f}" if value >= 1 else f"{value:.3f}"


def summary(found: Reproduction) -> dict[str, dict[str, Any]]:
    """By figure: days on which the log lies in the band, pooled figures, their error as a share, and the mean of half
    a band's width as a share of the log's figure."""
    inside, (log, simulated), errors = found.inside(), found.pooled(), found.errors()
    low, high = found.bands()
    half = ((high - low) / 2).mean(axis=0) / found.log.mean(axis=0)
    return {
        name: {
            "inside": int(inside[:, f].sum()), "days": len(found.days), "share": float(inside[:, f].mean()),
            "log": float(log[f]), "simulated": float(simulated[f]), "error": float(errors[f]),
            "half_band": float(half[f]),
        }
        for f, name in enumerate(FIGURES)
    }  # fmt: skip


def json_report(found: Calibrated) -> dict[str, Any]:
    """For machines: figures of days and of the fit; no call."""
    fitted = found.fitted
    return {
        "calls": len(found.calls),
        "left_out": found.calls.left_out,
        "split": found.split,
        "replications": found.replications,
        "band": list(BAND),
        "choices": asdict(fitted.choices),
        "held_out": summary(found.held_out),
        "fitted": summary(found.within),
        "days": {"held_out": _days(found, found.held_out), "fitted": _days(found, found.within)},
        "parameters": parameters(fitted),
    }


def _days(found: Calibrated, of: Reproduction) -> list[dict[str, Any]]:
    low, high = of.bands()
    return [
        {
            "date": found.calls.dates[day].isoformat(),
            "calls": int(of.calls[place]),
            **{
                name: {"log": of.log[place, f], "low": low[place, f], "high": high[place, f]}
                for f, name in enumerate(FIGURES)
            },
        }
        for place, day in enumerate(of.days)
    ]


def parameters(fitted: Fitted) -> dict[str, Any]:
    """What was fitted, in few numbers."""
    after = fitted.after
    return {
        "arrivals": {
            "dispersion": fitted.rates.dispersion,
            "dispersion_within_days": fitted.rates.dispersion_within,
            "day_cv": fitted.rates.day_cv,
        },
        "priority_share": dict(zip(_types(fitted), fitted.high_share.tolist(), strict=True)),
        "head_start_s": dict(zip(fitted.classes, fitted.discipline.head_start().tolist(), strict=True)),
        "order_of_service": {
            "decisions": fitted.discipline.decisions,
            "agrees": fitted.discipline.agrees,
            "agrees_without_head_starts": fitted.discipline.agrees_without,
        },
        "patience": {
            name: {
                "of": of,
                "quartiles_s": [curve.quantiles(101)[q] for q in (25, 50, 75)],
                "tail_from_s": curve.tail_from,
            }
            for name, of, curve in zip(fitted.classes, fitted.patience_from, fitted.survival, strict=True)
        },
        "handling": {
            "mean_s": dict(zip(_types(fitted), _means(fitted), strict=True)),
            "sigma": dict(zip(_types(fitted), fitted.sigma[::2].tolist(), strict=True)),
            "short": dict(zip(_types(fitted), fitted.short.tolist(), strict=True)),
            "pace_by_hour": fitted.pace[::2].tolist(),
            "day_sigma": fitted.day_sigma,
        },
        "after_call": None
        if after is None
        else {
            "waiting_from": list(fitted.choices.waiting),
            "mean_s": after.mean_s.tolist(),
            "pace_by_hour": after.pace[::2].tolist(),
            "day_sigma": after.day_sigma,
        },
    }


def _types(fitted: Fitted) -> tuple[str, ...]:
    return fitted.classes[::2]


def _means(fitted: Fitted) -> list[float]:
    handle = fitted.handle_s[::2]
    many = np.maximum((handle > 0).sum(axis=1), 1)
    found: list[float] = (handle.sum(axis=1) / many).tolist()
    return found


def centre_file(found: Calibrated) -> dict[str, Any]:
    """The fitted centre, by kind of day: every field of `Centre`, with the shifts of the fitted day of that kind whose
    number of calls is nearest to the mean. `Patience` is a table of quantiles; null: infinite."""
    fitted, calls, kinds = found.fitted, found.calls, {}
    for place, kind in enumerate(calls.kinds):
        days = [day for day in fitted.days if calls.kind_of[day] == place]
        if not days:
            continue
        many = np.array([(calls.day == day).sum() for day in days])
        day = days[int(np.argmin(np.abs(many - many.mean())))]
        centre = replace(fitted.centre(shifts(calls, day, fitted.choices.staffing), place), patience=())
        fields = {name: _rounded(value) for name, value in vars(centre).items()}
        kinds[kind.name] = fields | {
            "shifts": {name: _rounded(value) for name, value in vars(centre.shifts).items()},
            "patience": [{"kind": "quantiles", "table": list(curve.quantiles(201))} for curve in fitted.survival],
            "learning": asdict(centre.learning),
            "burnout": asdict(centre.burnout),
        }
    return kinds


def _rounded(value: Any) -> Any:
    return np.round(value, 4) if isinstance(value, np.ndarray) else value
