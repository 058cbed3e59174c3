"""How far ways of trying are from the truth: the effect that an experiment tells against that of everybody in the
treatment instead of everybody in the control.

Notable: an A/B test of single contacts is wrong in two ways at once where arms share people. The treatment takes the
control's best people, so the control does worse than it would alone; and who waits, waits for the same people, so what
a faster arm gains in time it shares with the other. Both are shown with intervals of pairs: every design and the truth
meet the same contacts with the same luck.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from evaluation.experiment.frame import CONTROL, TREATMENT
from evaluation.experiment.plan import Plan
from evaluation.experiment.simulated import Experiment, Testbed, alone, arrived, by_contact
from evaluation.experiment.simulated_contacts import Seen, seen
from evaluation.simulate.replicate import Estimate, estimate
from twotower.progress import track

Doubles = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

METRICS = ("resolved", "wait_s", "abandoned")
BY_CONTACT = "contact"


@dataclass(frozen=True)
class Bias:
    """Of one metric, at one load, by one way of trying; R replications."""

    load: float
    metric: str
    way: str
    """`contact`, or the design of a plan."""
    truth: Estimate
    """The whole effect."""
    told: Estimate
    """What the experiment says on average."""
    off: Estimate
    """told − truth, by pairs."""
    covered: float
    """Share of naive 95 % intervals over contacts that hold the truth."""

    @property
    def wrong(self) -> bool:
        """Whether it is surely off."""
        return abs(self.off.mean) > self.off.half


def biases(
    beds: Sequence[tuple[float, Testbed]], plans: Sequence[Plan], replications: int, metrics: tuple[str, ...] = METRICS
) -> tuple[Bias, ...]:
    """At each load, of contacts by a coin and of each plan, whose time the centres' must cover."""
    found = []
    for load, bed in track(beds, "designs against the truth", len(beds)):
        ways: list[Experiment | None] = [None, *(Experiment(bed, plan) for plan in plans)]
        until = bed.centre.horizon_s
        rows = np.full((len(ways), replications, len(metrics), 3), np.nan)
        for r in range(replications):
            of = arrived(bed, r)
            worlds = [seen(bed.centre, alone(bed, of, arm, r), until) for arm in (CONTROL, TREATMENT)]
            for w, way in enumerate(ways):
                told = _by_contact(bed, r, until) if way is None else _by_plan(way, r)
                for m, name in enumerate(metrics):
                    truth = float(np.nanmean(worlds[1].metrics[name]) - np.nanmean(worlds[0].metrics[name]))
                    rows[w, r, m] = (truth, *_difference(told[0].metrics[name], told[1], told[2]))
        for w, way in enumerate(ways):
            label = BY_CONTACT if way is None else way.plan.design
            found += [_bias(load, name, label, rows[w, :, m]) for m, name in enumerate(metrics)]
    return tuple(found)


def _bias(load: float, metric: str, way: str, rows: Doubles) -> Bias:
    truth, told, half = rows.T
    covered = float(np.mean(np.abs(told - truth) <= half))
    return Bias(load, metric, way, estimate(truth), estimate(told), estimate(told - truth), covered)


def _by_contact(bed: Testbed, replication: int, until: float) -> tuple[Seen, Flags, Flags]:
    """Contacts, who are in the treatment, who in the control."""
    records, unit = by_contact(bed, arrived(bed, replication), replication)
    of = seen(bed.centre, records, until)
    treated = unit[of.row] == TREATMENT
    return of, treated, ~treated


def _by_plan(experiment: Experiment, replication: int) -> tuple[Seen, Flags, Flags]:
    """The same of contacts that count."""
    from evaluation.experiment.simulated_frame import frame_of

    ran = experiment.run(experiment.draws(replication + 1)[replication], replication)
    of = seen(experiment.bed.centre, ran.records, experiment.seconds)
    frame = frame_of(experiment, ran)
    arm, counts = frame["arm"].to_numpy(), ~frame["washed"].to_numpy(np.bool_)
    return of, (arm == TREATMENT) & counts, (arm == CONTROL) & counts


def _difference(y: Doubles, treated: Flags, control: Flags) -> tuple[float, float]:
    """Of means, and half of the interval as if contacts were independent."""
    parts = [y[rows & ~np.isnan(y)] for rows in (treated, control)]
    if min(len(part) for part in parts) < 2:
        return np.nan, np.nan
    se = np.sqrt(sum(float(part.var(ddof=1)) / len(part) for part in parts))
    return float(parts[0].mean() - parts[1].mean()), float(1.96 * se)
