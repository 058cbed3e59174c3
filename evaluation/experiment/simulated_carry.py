"""What is left of an arm after a change, as a simulated centre shows it: the same contact in the switchback and in the
world of its arm alone.

Notable: common random numbers make the difference of the two worlds a number of each contact, so what is left is
measured and not modelled. What is left is the mean of both arms: a contact of the treatment that gains less than it
would in a centre of the treatment, and one of the control that gains something it should not.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from evaluation.experiment.carry import Decay, fitted
from evaluation.experiment.frame import CONTROL, TREATMENT
from evaluation.experiment.simulated import Experiment
from evaluation.experiment.simulated_contacts import Seen, seen
from twotower.errors import ConfigError
from twotower.progress import track

Doubles = npt.NDArray[np.float64]
Longs = npt.NDArray[np.int64]

EDGES = np.array([0, 5, 10, 15, 20, 30, 45, 60, 90, 120, 180, 240], np.float64)
"""Minutes after a change between which contacts are counted together."""
SOURCE = "simulator: "
SURE = 3.0
"""Standard errors that an effect must be from 0, for what is left of it to be told."""


@dataclass(frozen=True)
class Carried:
    """Of one metric: the whole effect, and what is left of the arm before."""

    metric: str
    effect: float
    decay: Decay
    missed: float
    """Share of the effect that the switchback of the plan did not see, all contacts that count; NaN: no effect is."""


def carried(experiment: Experiment, metrics: tuple[str, ...], replications: int) -> tuple[Carried, ...]:
    """Raises ConfigError for a plan that is no switchback of the whole centre."""
    if experiment.plan.design != "switchback" or len(experiment.units) != 1:
        raise ConfigError("carry-over is that of a switchback of the whole centre")
    minutes = (EDGES[1:] + EDGES[:-1]) / 2
    wash, bins = experiment.plan.wash_out_minutes, len(minutes)
    sums = np.zeros((replications, len(metrics), 2, bins + 1))
    count, effect = np.zeros_like(sums), np.zeros((replications, len(metrics)))
    for r, arms in enumerate(track(experiment.draws(replications), "carry-over", replications)):
        worlds, mixed, arm, age = _worlds(experiment, arms, r)
        place = np.where(age < EDGES[-1], np.searchsorted(EDGES, age, side="right") - 1, -1)
        for m, name in enumerate(metrics):
            control, treatment = (world.metrics[name][world.new] for world in worlds)
            effect[r, m] = np.nanmean(treatment) - np.nanmean(control)
            # How much less of the effect is seen: of the treatment y_T − y, of the control y − y_C.
            less = np.where(arm == TREATMENT, treatment - mixed[name], mixed[name] - control)
            for a in (CONTROL, TREATMENT):
                mine = ~np.isnan(less) & (arm == a)
                for b, rows in ((slice(0, bins), mine & (place >= 0)), (slice(bins, None), mine & (age >= wash))):
                    at = place[rows] if b.stop else np.zeros(int(rows.sum()), np.int64)
                    many = bins if b.stop else 1
                    sums[r, m, a, b] = np.bincount(at, less[rows], many)
                    count[r, m, a, b] = np.bincount(at, minlength=many)
    return tuple(_told(name, effect[:, m], sums[:, m], count[:, m], minutes) for m, name in enumerate(metrics))


def _worlds(
    experiment: Experiment, arms: npt.NDArray[np.int8], replication: int
) -> tuple[tuple[Seen, Seen], dict[str, Doubles], npt.NDArray[np.int8], Doubles]:
    """Both worlds, the switchback's metrics of first contacts, their arms, and minutes since the last change."""
    worlds = experiment.truth(replication)
    ran = experiment.run(arms, replication)
    mixed = seen(experiment.bed.centre, ran.records, experiment.seconds)
    arrival = mixed.arrival[mixed.new]
    block = ran.assigned.block_at(arrival)
    path = ran.assigned.arm[:, 0]
    change = np.concatenate([[path[0] != CONTROL], path[1:] != path[:-1]])
    since = np.maximum.accumulate(np.where(change, ran.assigned.begins, -np.inf))
    age = (arrival - since[block]) / 60.0
    return worlds, {name: values[mixed.new] for name, values in mixed.metrics.items()}, path[block], age


def _told(name: str, effect: Doubles, sums: Doubles, count: Doubles, minutes: Doubles) -> Carried:
    """Shares of the mean effect; intervals by the jackknife over replications."""
    n = len(effect)

    se = float(effect.std(ddof=1)) / np.sqrt(n) if n > 1 else np.inf
    if not abs(float(effect.mean())) > SURE * se:
        # A share of what is not there means nothing.
        nothing = np.full(len(minutes), np.nan)
        return Carried(name, float(effect.mean()), Decay(0.0, 1.0, minutes, nothing, nothing, SOURCE + name), np.nan)

    def share(kept: npt.NDArray[np.bool_]) -> Doubles:
        with np.errstate(invalid="ignore", divide="ignore"):
            of_arms = sums[kept].sum(axis=0) / count[kept].sum(axis=0)
            return np.asarray(of_arms.sum(axis=0) / effect[kept].mean(), np.float64)

    whole = share(np.ones(n, np.bool_))
    without = np.array([share(np.arange(n) != r) for r in range(n)])
    half = 1.96 * np.sqrt((n - 1) / n * ((without - without.mean(axis=0)) ** 2).sum(axis=0))
    # The difference of arms misses what both have of each other; each has half of that.
    decay = fitted(minutes, whole[:-1] / 2, half[:-1] / 2, SOURCE + name)
    return Carried(name, float(effect.mean()), decay, float(whole[-1]))
