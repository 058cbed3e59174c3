"""What exploring costs while it goes on and what it is worth afterwards: simulated days of a centre with joiners.

    python benchmarks/exploration.py --output docs/results/exploration.json --plot docs/results/exploration.svg
    python benchmarks/exploration.py --contacts 6000 --csas 40 --seeds 0 1

Notable: each seed is a world (`exploration_centre.py`: sixty days of the queue's log, the simulated days, ten days
after), in which a third of the CSAs has no history when the simulated days begin. All policies start from the same
beliefs, meet the same contacts, candidates and luck, explore the same contacts where their share is the same, and
learn from the outcomes of their own choices as these become known. Regret is true p of the oracle's first choice less
that of the chosen. Intervals are Student's over seeds, differences are paired by seed. *Afterwards* is the regret of
greedy with what each policy had learnt, so that cost now stands beside worth later. Policies were fixed on worlds 10 to
14.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from exploration_centre import Centre, Learner, Run, simulate
from exploration_plot import plot
from record import Record, measure_each

from evaluation.report_text import table
from serve.explore import Explorer
from serve.explore_options import Exploration
from twotower.files import atomic_write

POLICIES = {
    "greedy": Exploration("greedy", share=0, uniform=0),
    "Thompson": Exploration("thompson", share=0.10, uniform=0.01, floor=0.3, most_loss=0.10, scale=1),
    "optimistic": Exploration("optimistic", share=0.10, uniform=0.01, floor=0.3, most_loss=0.10, scale=1),
    "uniform": Exploration("uniform", share=0.10, uniform=0.10, floor=0.3, most_loss=0.10, scale=1),
    "often and little": Exploration("optimistic", share=1, uniform=0.01, floor=0.3, most_loss=0.05, scale=0.5),
}
KEY = b"the same for all policies and worlds"
Floats = npt.NDArray[np.float64]


def measure(args: argparse.Namespace, seed: int) -> tuple[list[dict[str, Any]], str]:
    """One world: a row per policy for the JSON, and their table."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "centre"
        centre = Centre.draw(folder, args.contacts, args.csas, args.eligible, args.joiners, args.days, seed)
    start = Learner.experienced(centre)
    rows = [
        row(name, seed, centre, simulate(centre, start, Explorer(options, KEY))) for name, options in POLICIES.items()
    ]
    return rows, summary(rows)


def row(name: str, seed: int, centre: Centre, run: Run) -> dict[str, Any]:
    """Figures of one policy in one world."""
    daily = np.split(run.regret, np.cumsum([len(day) for day in centre.days])[:-1])
    return {
        "policy": name,
        "seed": seed,
        "contacts": len(run.regret),
        "regret": round(float(run.regret.sum()), 3),
        "regret_best_is_joiner": mean(run.regret[run.cold]),
        "regret_best_is_known": mean(run.regret[~run.cold]),
        "best_is_joiner": mean(run.cold),
        "given_to_joiners": mean(run.newly),
        "drawn": mean(run.drawn),
        "explored": mean(run.other),
        "largest_loss": round(float(run.loss.max()), 6),
        "mean_loss": mean(run.loss),
        "afterwards": mean(run.after),
        "choice_us": round(run.choice_us, 1),
        "daily": [round(float(day.sum()), 3) for day in daily],
    }


def mean(values: npt.NDArray[Any]) -> float | None:
    """The mean, as JSON holds it; None of nothing."""
    return round(float(values.mean()), 6) if len(values) else None


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Mean and half the width of its 95 % interval (Student's t; NaN for a single value)."""
    from scipy.stats import t

    found = np.asarray(values, dtype=np.float64)
    if len(found) < 2:
        return float(found.mean()), float("nan")
    return float(found.mean()), float(t.ppf(0.975, len(found) - 1) * found.std(ddof=1) / np.sqrt(len(found)))


def summary(rows: Sequence[dict[str, Any]]) -> str:
    """A line per policy: means over the worlds, with intervals where there are several."""
    worlds = len({one["seed"] for one in rows})
    lines = [[
        f"{worlds} worlds" if worlds > 1 else f"world {rows[0]['seed']}", "resolutions lost", "− greedy",
        "a contact, best is joiner", "best is known", "afterwards", "− greedy", "drawn", "explored", "to joiners",
        "largest loss", "µs",
    ]]  # fmt: skip
    base = {one["seed"]: one for one in rows if one["policy"] == "greedy"}
    for name in dict.fromkeys(one["policy"] for one in rows):
        mine = [one for one in rows if one["policy"] == name]
        lines.append([name, *_cells(mine, base)])
    return table(lines)


def _cells(mine: Sequence[dict[str, Any]], base: dict[int, dict[str, Any]]) -> list[str]:
    def over(name: str) -> list[float]:
        return [float("nan") if one[name] is None else one[name] for one in mine]

    def paired(name: str) -> list[float]:
        return [one[name] - base[one["seed"]][name] for one in mine]

    return [
        short(over("regret"), 1),
        short(paired("regret"), 1, "+"),
        *(short(over(name), 4) for name in ("regret_best_is_joiner", "regret_best_is_known", "afterwards")),
        short(paired("afterwards"), 4, "+"),
        *(f"{np.mean(over(name)):.1%}" for name in ("drawn", "explored", "given_to_joiners")),
        f"{max(over('largest_loss')):.3f}",
        f"{np.median(over('choice_us')):.0f}",
    ]


def short(values: Sequence[float], digits: int, sign: str = "") -> str:
    """`349.6 ±12.1`."""
    centre, half = interval(values)
    return f"{centre:{sign}.{digits}f}" + (f" ±{half:.{digits}f}" if half == half else "")


def main() -> None:
    """Parse options, simulate each world, print the means, draw; exit status 1 where a world failed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--contacts", type=int, default=30_000, help="of the log, the simulated days and ten after")
    parser.add_argument("--csas", type=int, default=120)
    parser.add_argument("--eligible", type=float, default=25.0, help="mean number of eligible CSAs aimed at")
    parser.add_argument("--joiners", type=float, default=1 / 3, help="share of the CSAs without a history")
    parser.add_argument("--days", type=int, default=30, help="simulated")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(10)), help="one world each")
    parser.add_argument("--output", type=Path, help="JSON file to write")
    parser.add_argument("--plot", type=Path, help="SVG file to write")
    args = parser.parse_args()
    settings = {name: getattr(args, name) for name in ("contacts", "csas", "eligible", "joiners", "days")}
    policies = {name: vars(options) for name, options in POLICIES.items()}
    record = Record(args.output, {**settings, "policies": policies}, "rows", "seed")
    whole = measure_each(record, args.seeds, lambda seed: measure(args, seed))
    if record.rows:
        print(summary(record.rows))
        if args.plot:
            atomic_write(args.plot, plot(record.rows))
    if not whole:
        sys.exit(1)


if __name__ == "__main__":
    main()
