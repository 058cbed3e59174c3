"""How well a fitted centre reproduces days that it was not fitted to: bands of a day's figures, and the log's in them.

Notable: of a held-out day the simulation is told when which type of call came, and who was there (`on_shift.py`).
Who waits, for how long, who abandons, who serves whom and how long that takes is all drawn from the fit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from evaluation.simulate.calibrate import Fitted
from evaluation.simulate.calls import UNKNOWN, Calls
from evaluation.simulate.centre import Centre
from evaluation.simulate.demand import at
from evaluation.simulate.figures import waits
from evaluation.simulate.on_shift import shifts
from evaluation.simulate.policies import Rule, fifo
from evaluation.simulate.replicate import LOCAL
from evaluation.simulate.run import simulate
from evaluation.simulate.state import ABANDONED
from twotower.engines import Engine
from twotower.progress import track

Doubles = npt.NDArray[np.float64]
Longs = npt.NDArray[np.int64]
FIGURES = ("mean_wait_s", "waits", "abandoned", "level")
TITLES = {"mean_wait_s": "mean wait, s", "waits": "share that waits", "abandoned": "abandoned", "level": "within 20 s"}
TARGET_S = 20.0
BAND = (0.05, 0.95)


@dataclass(frozen=True)
class Reproduction:
    """Of days (D,): the log's figures (D, F), and those of replications (D, R, F)."""

    days: tuple[int, ...]
    calls: Longs
    """(D,)."""
    log: Doubles
    simulated: Doubles

    def bands(self) -> Doubles:
        """(2, D, F)."""
        found: Doubles = np.quantile(self.simulated, BAND, axis=1)
        return found

    def inside(self) -> npt.NDArray[np.bool_]:
        """(D, F) whether the log's figure lies in its band."""
        low, high = self.bands()
        return (self.log >= low) & (self.log <= high)

    def pooled(self) -> tuple[Doubles, Doubles]:
        """Figures (F,) over all calls of the days: the log's, and the mean of replications."""
        weight = self.calls / self.calls.sum()
        return weight @ self.log, weight @ self.simulated.mean(axis=1)

    def errors(self) -> Doubles:
        """(F,) of the pooled figures, as a share of the log's."""
        log, simulated = self.pooled()
        return simulated / log - 1


def log_figures(calls: Calls, day: int) -> Doubles:
    """FIGURES of a day in the log."""
    of = (calls.day == day) & calls.counted[calls.type]
    return _figures(calls.wait[of], calls.lost[of])


def _figures(wait: Doubles, lost: npt.NDArray[np.bool_]) -> Doubles:
    return np.array([wait.mean(), (wait > 0).mean(), lost.mean(), (~lost & (wait <= TARGET_S)).mean()])


def kinds_of(fitted: Fitted, calls: Calls, of: npt.NDArray[np.bool_], luck: np.random.Generator) -> Longs:
    """Classes of a day's calls: where priority is known of some calls only, everybody's is drawn."""
    types, high = calls.type[of], calls.high[of]
    drawn = (luck.random(len(types)) < fitted.high_share[types]).astype(np.int64)
    redraw = bool(np.any(calls.high == UNKNOWN))
    return 2 * types + (drawn if redraw else high)


def day_figures(fitted: Fitted, calls: Calls, day: int, seed: int, number: int, rule: Rule | None = None) -> Doubles:
    """FIGURES of one replication of a day."""
    luck = np.random.default_rng((seed, number, day, 11))
    staff = shifts(calls, day, fitted.choices.staffing, luck if fitted.choices.drawn_edges else None)
    of = calls.day == day
    kind = kinds_of(fitted, calls, of, luck)
    slow, longer = fitted.luck_of_a_day(luck)
    centre: Centre = fitted.centre(staff, int(calls.kind_of[day]), slow, longer)
    demand = at(centre, calls.arrival[of], kind, seed * 1000 + day, number)
    records = simulate(centre, rule or fifo(), seed, number, demand)
    wait, lost = waits(records), records.status == ABANDONED
    # Whoever waits at midnight and never leaves has waited since; there are none with a patience that ends.
    wait = np.where(np.isnan(wait), centre.horizon_s - records.arrival, wait)
    counted = calls.counted[calls.type[of]]
    return _figures(wait[counted], lost[counted])


def reproduce(
    fitted: Fitted, calls: Calls, days: Sequence[int], replications: int = 100, seed: int = 0, engine: Engine = LOCAL
) -> Reproduction:
    """Simulates each day so many times; a day is a task."""
    each = engine.map(partial(_day, fitted, calls, replications, seed), [int(day) for day in days])
    found = list(track(each, "days", len(days)))
    return Reproduction(
        tuple(int(day) for day in days),
        np.array([int(((calls.day == day) & calls.counted[calls.type]).sum()) for day in days]),
        np.array([log_figures(calls, day) for day in days]),
        np.array(found),
    )


def _day(fitted: Fitted, calls: Calls, replications: int, seed: int, day: int) -> list[Doubles]:
    return [day_figures(fitted, calls, day, seed, number) for number in range(replications)]
