"""Tables of `worlds.py`: every objective in every world, who wins overall, and what the automatic choice gives away.

Notable: intervals are t intervals over seeds, whose number is small, so they are wide; comparisons of objectives are
paired by seed, that is by centre. Overall figures are means over the worlds in which every objective applies.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.stats import t as student

from evaluation.report_text import short, table
from twotower.metrics import Interval

Row = dict[str, Any]
AUTO = "automatic"
GROUPS = {"all": "captured", "warm": "captured among warm CSAs", "cold": "captured among cold CSAs"}
CEILING = "ceiling"


def over_seeds(values: Sequence[float], confidence: float = 0.95) -> Interval:
    """Mean with the t interval of its standard error; bounds are NaN for a single value, all is NaN for none."""
    if not values:
        return Interval(float("nan"), float("nan"), float("nan"))
    mean = float(np.mean(values))
    if len(values) < 2:
        return Interval(mean, float("nan"), float("nan"))
    error = float(np.std(values, ddof=1)) / len(values) ** 0.5
    half = float(student.ppf((1 + confidence) / 2, len(values) - 1)) * error
    return Interval(mean, mean - half, mean + half)


def report(rows: Sequence[Row], worlds: Sequence[str], objectives: Sequence[str]) -> str:
    """All tables, of the cells that were measured."""
    measured = [row for row in rows if "left_out" not in row]
    if not measured:
        return "nothing was measured"
    there = [world for world in worlds if any(row["world"] == world for row in rows)]
    parts = [by_world(measured, there, objectives, group) for group in GROUPS]
    parts.append(errors(measured, there, objectives))
    parts.append(overall(measured, there, objectives))
    parts.append(choices(measured, there, objectives))
    return "\n\n".join(parts)


def by_world(rows: Sequence[Row], worlds: Sequence[str], objectives: Sequence[str], group: str) -> str:
    """Captured share: a world a line, an objective a column, the ceiling last."""
    lines = [[GROUPS[group], *objectives, CEILING, "CSAs"]]
    for world in worlds:
        mine = [row for row in rows if row["world"] == world]
        ceilings = list({row["seed"]: row[CEILING][group] for row in mine}.values())
        sizes = list({row["seed"]: row["csas"][group] for row in mine}.values())
        cells = [short(over_seeds(list(of(mine, objective, group).values()))) for objective in objectives]
        lines.append([world, *cells, short(over_seeds(known(ceilings))), f"{np.mean(sizes):.0f}"])
    return table(lines)


def errors(rows: Sequence[Row], worlds: Sequence[str], objectives: Sequence[str]) -> str:
    """Calibration error of p_resolved, of the objectives that give a probability."""
    told = [name for name in objectives if any(errors_of(rows, world, name) for world in worlds)]
    lines = [["calibration error", *told]]
    lines += [[world, *(short(over_seeds(errors_of(rows, world, name))) for name in told)] for world in worlds]
    return table(lines)


def errors_of(rows: Sequence[Row], world: str, objective: str) -> list[float]:
    """A value for each seed."""
    return known([row["calibration_error"] for row in rows if (row["world"], row["objective"]) == (world, objective)])


def overall(rows: Sequence[Row], worlds: Sequence[str], objectives: Sequence[str]) -> str:
    """Mean over worlds of the share of the ceiling, and of the rank, where every objective applies; best first."""
    shares = {name: {world: of_ceiling(rows, world, name) for world in worlds} for name in objectives}
    common = [world for world in worlds if not any(np.isnan(shares[name][world]) for name in objectives)]
    if not common:
        return "no world in which every objective was measured"
    best = {world: sorted(objectives, key=lambda name: -shares[name][world]) for world in common}
    lines = [[f"mean of {len(common)} worlds", "of the ceiling", "rank", "best in", "worst world"]]
    for name in sorted(objectives, key=lambda name: -np.mean([shares[name][world] for world in common])):
        ranks = [best[world].index(name) + 1 for world in common]
        worst = min(common, key=lambda world: shares[name][world])
        mean = np.mean([shares[name][world] for world in common])
        lines.append([name, f"{mean:.3f}", f"{np.mean(ranks):.1f}", str(ranks.count(1)), worst])
    return table(lines)


def choices(rows: Sequence[Row], worlds: Sequence[str], objectives: Sequence[str]) -> str:
    """What a training without a configuration takes in each world, beside the best of the others, paired by seed."""
    lines = [["what is chosen", "takes", "captured", "best of the others", "ahead of it by"]]
    for world in worlds:
        mine = [row for row in rows if row["world"] == world]
        chosen = mine[0][AUTO] if mine else ""
        own = of(mine, chosen, "all")
        others = {name: of(mine, name, "all") for name in objectives if name != chosen}
        others = {name: values for name, values in others.items() if set(values) >= set(own)}
        if not own or not others:
            continue
        rival = max(others, key=lambda name: np.mean([others[name][seed] for seed in own]))
        ahead = over_seeds([value - others[rival][seed] for seed, value in own.items()])
        lines.append([world, chosen, short(over_seeds(list(own.values()))), rival, difference(ahead)])
    return table(lines)


def difference(value: Interval) -> str:
    """`+0.012 [+0.004, +0.020]`, without bounds where there are none."""
    bounds = "" if np.isnan(value.low) else f" [{value.low:+.3f}, {value.high:+.3f}]"
    return f"{value.value:+.3f}{bounds}"


def of(rows: Sequence[Row], objective: str, group: str) -> dict[int, float]:
    """Captured by seed, of one objective."""
    values = {row["seed"]: row["captured"][group] for row in rows if row["objective"] == objective}
    return {seed: value for seed, value in values.items() if value is not None}


def of_ceiling(rows: Sequence[Row], world: str, objective: str) -> float:
    """Mean captured over the mean ceiling of the same seeds; NaN where nothing was measured."""
    mine = [row for row in rows if (row["world"], row["objective"]) == (world, objective)]
    if not mine:
        return float("nan")
    return float(np.mean([row["captured"]["all"] for row in mine]) / np.mean([row[CEILING]["all"] for row in mine]))


def known(values: Sequence[float | None]) -> list[float]:
    """Those that are not None."""
    return [value for value in values if value is not None]
