"""Experiments in a simulated centre: two policies by blocks of time, by sites, by customers or by single contacts, and
the truth that none of them sees, both policies alone on the same contacts with the same luck.

Notable: what is drawn is data of one compiled loop (`evaluation/simulate/two_arms.py`), so thousands of experiments of
twenty thousand contacts take minutes. Experiment r meets the contacts of replication r, whatever its design.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from evaluation.experiment.frame import CONTROL, OUT
from evaluation.experiment.plan import Plan
from evaluation.experiment.schedule import ALIKE, SALTS, Spans, draw, redraws, spans_of
from evaluation.experiment.simulated_contacts import Seen, seen
from evaluation.simulate.centre import HOUR, Centre
from evaluation.simulate.demand import Demand, at, poisson
from evaluation.simulate.policies import Rule
from evaluation.simulate.run import Records, Truth, simulate
from evaluation.simulate.two_arms import Assigned, simulate_arms
from evaluation.simulate.world import SHARED, TREATMENT
from twotower.clock import SECOND, parse_time
from twotower.errors import ConfigError

if TYPE_CHECKING:
    import pandas as pd

Doubles = npt.NDArray[np.float64]
Longs = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.int8]
CENTRE = "centre"
AGAIN = 20.0
"""Customers rank by how often they come, as 1 / (rank + AGAIN)."""


@dataclass(frozen=True)
class Shocks:
    """What makes contacts of one time alike, whoever takes them: log-odds of standard deviation `sd` that fade by half
    in `half_life_s`; and how much days differ in traffic, `days` the standard deviation of its logarithm."""

    sd: float = 0.0
    half_life_s: float = 2 * HOUR
    days: float = 0.0


@dataclass(frozen=True)
class Testbed:
    """A centre in which two policies are tried. K classes, J CSAs."""

    __test__ = False  # no test, whatever its name says to pytest

    centre: Centre
    control: Rule
    treatment: Rule
    unit_of_class: tuple[str, ...] = ()
    """(K,) site or team whose demand a class is; empty: one centre."""
    unit_of_csa: tuple[str, ...] = ()
    """(J,)."""
    customers: int = 0
    """Contacts come from so many customers; 0: each from its own."""
    customer_sd: float = 0.0
    """How customers differ, log-odds."""
    shocks: Shocks = Shocks()
    demand: Demand | None = None
    """The same first contacts in every replication (of tables), whose luck alone differs then."""
    truth: Truth | None = None
    seed: int = 0
    alike: float = ALIKE
    """How far the arms' expected shares of contacts may be apart, of the design `customer`; 1: whatever the coins
    give."""

    @cached_property
    def units(self) -> tuple[str, ...]:
        """Sites or teams, or the whole centre."""
        return tuple(dict.fromkeys(self.unit_of_class)) or (CENTRE,)

    @cached_property
    def unit(self) -> npt.NDArray[np.int32]:
        """(K,) position in `units`."""
        if not self.unit_of_class:
            return np.zeros(len(self.centre.classes), np.int32)
        return np.array([self.units.index(name) for name in self.unit_of_class], np.int32)


@dataclass(frozen=True)
class Arrived:
    """First contacts (N,) of a replication, and who they are from."""

    demand: Demand
    customer: Longs


def arrived(bed: Testbed, replication: int) -> Arrived:
    """The contacts of a replication, shocks and customers in their log-odds."""
    random = np.random.default_rng((bed.seed, replication, 92))
    if bed.demand is None:
        centre = bed.centre
        if bed.shocks.days:
            centre = _days(centre, bed.shocks.days, random)
        demand = poisson(centre, bed.seed, replication)
    else:
        given = bed.demand
        fresh = at(bed.centre, given.arrival, given.kind, bed.seed, replication)
        demand = replace(fresh, patience=given.patience, logit=given.logit, row=given.row)
    n = len(demand)
    customer, logit = np.arange(n), demand.logit
    if bed.customers:
        chances = 1 / (np.arange(bed.customers) + AGAIN)
        edges = np.cumsum(chances / chances.sum())
        customer = np.minimum(np.searchsorted(edges, random.random(n)), bed.customers - 1)
        logit = logit + bed.customer_sd * random.standard_normal(bed.customers)[customer]
    if bed.shocks.sd:
        logit = logit + _shocks(bed, demand.arrival, random)
    return Arrived(replace(demand, logit=logit), customer)


def _days(centre: Centre, spread: float, random: np.random.Generator) -> Centre:
    """With busier and quieter days of the same mean."""
    steps = round(24 * HOUR / centre.interval_s)
    days = -(-centre.rates.shape[1] // steps)
    factor = np.exp(spread * random.standard_normal(days) - spread**2 / 2)
    return replace(centre, rates=centre.rates * np.repeat(factor, steps)[: centre.rates.shape[1]])


def _shocks(bed: Testbed, arrival: Doubles, random: np.random.Generator) -> Doubles:
    """(N,) of an autoregression in steps of a quarter of an hour."""
    from scipy.signal import lfilter

    step = HOUR / 4
    many = int(max(arrival.max(initial=0.0), bed.centre.horizon_s) / step) + 1
    kept = 0.5 ** (step / bed.shocks.half_life_s)
    noise = random.standard_normal(many)
    noise[1:] *= np.sqrt(1 - kept**2)
    path = lfilter([1.0], [1.0, -kept], noise)
    return np.asarray(bed.shocks.sd * path[(arrival / step).astype(np.int64)], np.float64)


def alone(bed: Testbed, of: Arrived, arm: int, replication: int) -> Records:
    """One of the two policies for everybody."""
    rule = bed.treatment if arm == TREATMENT else bed.control
    return simulate(bed.centre, rule, bed.seed, replication, of.demand, bed.truth)


def by_contact(bed: Testbed, of: Arrived, replication: int, share: float = 0.5) -> tuple[Records, Bytes]:
    """Unit-level A/B: every contact by a coin, all CSAs for both arms. Also the arm (N,) of first contacts."""
    coins = np.random.default_rng((bed.seed, replication, 93)).random(int(of.demand.row.max(initial=-1)) + 1)
    unit = (coins < share).astype(np.int32)
    arm = np.array([[CONTROL, TREATMENT]], np.int8)
    both = np.full((1, len(bed.centre.csas)), SHARED, np.int8)
    assigned = Assigned(np.zeros(1), arm, unit, both)
    return _both(bed, of, assigned, replication), unit.astype(np.int8)


def _both(bed: Testbed, of: Arrived, assigned: Assigned, replication: int) -> Records:
    return simulate_arms(
        bed.centre, bed.control, bed.treatment, assigned, bed.seed, replication, of.demand, bed.truth
    )  # fmt: skip


@dataclass(frozen=True)
class Ran:
    """A simulated experiment: who had which arm when, and what became of contacts."""

    arms: Bytes
    """(S,) of the spans."""
    assigned: Assigned
    records: Records
    customer: Longs
    """(N,) of first contacts, by row."""
    customer_arm: Bytes
    """(N,) the same: of the design `customer`."""


class Experiment:
    """A plan in a testbed, as often as one likes. Seconds count from the plan's `begins`, when the centre is empty.

    Raises ConfigError where plan and testbed do not fit.
    """

    def __init__(self, bed: Testbed, plan: Plan) -> None:
        self.bed, self.plan = bed, plan
        self.begins = parse_time(plan.begins, "begins")
        self.seconds = (parse_time(plan.ends, "ends") - self.begins) / SECOND
        self.units = bed.centre.csas if plan.design == "customer" else (CENTRE,) if plan.unit == CENTRE else bed.units
        if bed.centre.horizon_s < self.seconds:
            raise ConfigError(
                f"experiment: the centre is simulated for {bed.centre.horizon_s / 86400:g} days, the plan has "
                f"{self.seconds / 86400:g}"
            )
        if plan.design == "cluster" and not bed.unit_of_class:
            raise ConfigError(f"experiment: the simulated centre has no {plan.unit}s")
        self.spans: Spans = spans_of(plan, self.units)
        edges = np.unique(np.concatenate([[self.begins], self.spans.begins, self.spans.ends]))
        edges = edges[edges < self.begins + self.seconds * SECOND]
        self._begins_s = (edges - self.begins) / SECOND
        names = sorted(self.units)
        self._place = {name: i for i, name in enumerate(names)}
        column = np.array([self._place[name] for name in self.spans.unit])
        self.span_at = np.full((len(edges), len(names)), OUT, np.int64)
        """(blocks, units in alphabetical order): the span that holds, OUT: none."""
        for edge, moment in enumerate(edges.tolist()):
            rows = np.flatnonzero((self.spans.begins <= moment) & (moment < self.spans.ends))
            self.span_at[edge, column[rows]] = rows

    @cached_property
    def _schedule(self) -> pd.DataFrame:
        return draw(self.plan, self.units)

    def draws(self, n: int) -> Bytes:
        """Arms (n, S) of n schedules."""
        return redraws(self.plan, self.units, n)

    def schedule(self, arms: Bytes) -> pd.DataFrame:
        """As `draw` would have written it."""
        names = np.array([self.plan.control.name, self.plan.treatment.name])
        return self._schedule.assign(arm=names[arms])

    def run(self, arms: Bytes, replication: int) -> Ran:
        """The experiment with one schedule on the contacts of a replication."""
        of = arrived(self.bed, replication)
        split = self._customers(of, replication)
        assigned = self.assigned(arms, of, split)
        customer = np.zeros(len(split), np.int64)
        customer[of.demand.row] = of.customer
        return Ran(arms, assigned, _both(self.bed, of, assigned, replication), customer, split)

    def truth(self, replication: int) -> tuple[Seen, Seen]:
        """Contacts of the plan's time with everybody in the control, and with everybody in the treatment."""
        of = arrived(self.bed, replication)
        control, treatment = (
            seen(self.bed.centre, alone(self.bed, of, arm, replication), self.seconds) for arm in (CONTROL, TREATMENT)
        )
        return control, treatment

    def assigned(self, arms: Bytes, of: Arrived, customer_arm: Bytes) -> Assigned:
        """For the simulator. Between spans the control holds."""
        filled = np.where(self.span_at == OUT, CONTROL, arms[self.span_at]).astype(np.int8)
        if self.plan.design == "customer":
            both = np.tile(np.array([[CONTROL, TREATMENT]], np.int8), (len(filled), 1))
            place = np.array([self._place[name] for name in self.bed.centre.csas])
            return Assigned(self._begins_s, both, customer_arm.astype(np.int32), filled[:, place])
        unit = self.column_of(of.demand.kind)
        by_row = np.zeros(len(customer_arm), np.int32)
        by_row[of.demand.row] = unit
        csas = len(self.bed.centre.csas)
        if self.plan.unit == CENTRE:
            return Assigned(self._begins_s, filled, by_row, np.repeat(filled, csas, axis=1))
        of_csa = np.array([self._place[name] for name in self.bed.unit_of_csa])
        return Assigned(self._begins_s, filled, by_row, filled[:, of_csa])

    def column_of(self, kind: npt.NDArray[Any]) -> npt.NDArray[np.int32]:
        """(N,) the column in `span_at` of contacts of classes (N,), but of the design `customer`."""
        if self.plan.unit == CENTRE:
            return np.zeros(len(kind), np.int32)
        order = np.array([self._place[name] for name in self.bed.units], np.int32)
        found: npt.NDArray[np.int32] = order[self.bed.unit][kind]
        return found

    def _customers(self, of: Arrived, replication: int) -> Bytes:
        """The arm of each row's customer, by coins that stand for the hash; as `schedule.balanced`, drawn again until
        the arms' customers are expected to come alike often."""
        rows = int(of.demand.row.max(initial=-1)) + 1
        found = np.zeros(rows, np.int8)
        if self.plan.design == "customer":
            random = np.random.default_rng((self.bed.seed, replication, 94))
            often = 1 / (np.arange(int(of.customer.max(initial=0)) + 1) + AGAIN)
            if not self.bed.customers:
                often = np.ones(len(often))
            often /= often.sum()
            for _ in range(SALTS):
                coins = random.random(len(often)) < self.plan.share
                if abs(often[coins].sum() - self.plan.share) <= self.bed.alike:
                    break
            found[of.demand.row] = coins[of.customer]
        return found
