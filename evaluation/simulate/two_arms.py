"""One replication of a centre in which two policies hold, each for its own contacts or its own time: an experiment.

Notable: what an experiment assigns is arrays (`Assigned`), so that it runs in the compiled loop, and the same contacts
with the same luck can be run under any assignment of the same two policies, or under one of them alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from evaluation.simulate.centre import Centre
from evaluation.simulate.demand import Demand, poisson
from evaluation.simulate.policies import Rule
from evaluation.simulate.run import DRAIN_S, Records, Truth, policy_of, records_of, run_through, state_of, world_of
from evaluation.simulate.world import CONTROL, DECIDED, SHARED, TREATMENT, Arms, Policy
from twotower.errors import ConfigError

Doubles = npt.NDArray[np.float64]
Bytes = npt.NDArray[np.int8]


@dataclass(frozen=True)
class Assigned:
    """Who is in which arm when. B blocks of time, U units of contacts, N first contacts by `Demand.row`, J CSAs.

    begins (B,) seconds, ascending: the first block holds from the start whatever it says. arm (B, U): CONTROL or
    TREATMENT. unit (N,): of each contact. staff (B, J): the arm whose contacts a CSA takes, SHARED: of both.
    """

    begins: Doubles
    arm: Bytes
    unit: npt.NDArray[np.int32]
    staff: Bytes

    def __post_init__(self) -> None:
        blocks = len(self.begins)
        if not blocks or not np.all(np.isfinite(self.begins)) or np.any(np.diff(self.begins) <= 0):
            raise ConfigError("experiment: begins: one or more ascending seconds expected")
        if self.arm.ndim != 2 or self.staff.ndim != 2 or not len(self.arm) == len(self.staff) == blocks:
            raise ConfigError(f"experiment: arm and staff: a row for each of {blocks} blocks expected")
        if not np.all(np.isin(self.arm, (CONTROL, TREATMENT))):
            raise ConfigError(f"experiment: arm: {CONTROL} and {TREATMENT} expected")
        if not np.all(np.isin(self.staff, (CONTROL, TREATMENT, SHARED))):
            raise ConfigError(f"experiment: staff: {CONTROL}, {TREATMENT} and {SHARED} expected")
        if len(self.unit) and not 0 <= self.unit.min() <= self.unit.max() < self.arm.shape[1]:
            raise ConfigError(f"experiment: unit: 0 to {self.arm.shape[1] - 1} expected")

    def arms(self, centre: Centre, policies: tuple[Policy, Policy], rows: int) -> Arms:
        """For the compiled loop, with the policies of control and treatment. Raises ConfigError where it does not fit
        the centre."""
        if self.staff.shape[1] != len(centre.csas):
            raise ConfigError(f"experiment: staff: {self.staff.shape[1]} CSAs; {len(centre.csas)} expected")
        if len(self.unit) < rows:
            raise ConfigError(f"experiment: unit: of {len(self.unit)} contacts; {rows} expected")
        return Arms(
            policies, np.ascontiguousarray(self.begins, np.float64), np.ascontiguousarray(self.arm, np.int8),
            np.ascontiguousarray(self.unit, np.int32), np.ascontiguousarray(self.staff, np.int8),
        )  # fmt: skip

    def contact_arms(self, arrival: Doubles, row: npt.NDArray[np.int32]) -> Bytes:
        """(M,) the arm at arrival of contacts that arrived at moments (M,), s; row (M,) as in `Records.row`."""
        found: Bytes = self.arm[self.block_at(arrival), self.unit[row]]
        return found

    def block_at(self, moment: Doubles) -> npt.NDArray[np.int64]:
        """(M,) the block that holds."""
        return np.maximum(np.searchsorted(self.begins, moment, side="right") - 1, 0)


def simulate_arms(
    centre: Centre, control: Rule, treatment: Rule, assigned: Assigned, seed: int = 0, replication: int = 0,
    demand: Demand | None = None, truth: Truth | None = None,
) -> Records:  # fmt: skip
    """One replication. demand: default, drawn by the centre's rates.

    Raises ConfigError for what does not fit, and for a policy that is asked in Python: arms are of the compiled loop.
    """
    for rule in (control, treatment):
        if rule.kind == DECIDED:
            raise ConfigError(
                f"experiment: policy {rule.name} is asked in Python at every decision and can be no arm of a simulated "
                "experiment; take one of fifo, random, skills, p_mu, c_mu, greedy, bundle_scores"
            )
    demand = poisson(centre, seed, replication) if demand is None else demand
    rows = int(demand.row.max(initial=-1)) + 1
    world = world_of(centre, truth, rows)
    policies = policy_of(centre, control, world, rows), policy_of(centre, treatment, world, rows)
    arms = assigned.arms(centre, policies, rows)
    state = state_of(centre, demand, truth)
    until = centre.horizon_s + DRAIN_S
    return records_of(run_through(world, policies[0], arms, state, len(demand), until, None))
