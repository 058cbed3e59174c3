"""Experiments made for tests: a plan, its schedule, and contacts with effects of known size."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from evaluation.experiment.frame import FRAME
from evaluation.experiment.plan import Plan
from evaluation.experiment.schedule import customer_arms, draw, place
from twotower.clock import DAY, parse_time

BEGINS = "2026-03-02T00:00:00Z"
CSAS = 20
SITES = tuple(f"site{i:02}" for i in range(12))
INTENTS = 6


def plan_of(design: str = "switchback", **more: Any) -> Plan:
    """Two weeks: blocks of four hours, twelve sites, or pools of a day."""
    given: dict[str, Any] = {
        "name": "matching", "hypothesis": "matching resolves more", "design": design, "begins": BEGINS,
        "ends": "2026-03-16T00:00:00Z", "seed": 3,
        "control": {"name": "queue", "policies": ["fifo"]}, "treatment": {"name": "matched", "policies": ["bundle"]},
        "primary": {"metric": "resolved", "smallest_effect": 0.02},
    }  # fmt: skip
    of_design: dict[str, dict[str, Any]] = {
        "switchback": {"unit": "centre", "block_hours": 4.0, "wash_out_minutes": 30.0},
        "cluster": {"unit": "site"},
        "customer": {"unit": "csa", "block_hours": 24.0, "balance": "none"},
    }
    return Plan.model_validate(given | of_design[design] | more)


@dataclass(frozen=True)
class World:
    """How contacts come and what becomes of them."""

    contacts: int = 6000
    effect: float = 0.0
    shock: float = 0.03
    """Standard deviation of what contacts of a block (site) share, half of it from the block before."""
    by_intent: tuple[float, ...] = (0.0,) * INTENTS
    """Added to the effect."""
    a_week: float = 0.0
    """Added to the effect after each week."""
    carried: float = 0.0
    """Share of the arm before in the first hour after a change."""
    best_first: float = 0.0
    """How much more the treatment gives to better CSAs."""
    spread: float = 0.0
    """Of CSAs' own rates about the mean."""
    wait_s: tuple[float, float] = (40.0, 40.0)
    """Mean wait under control and treatment."""
    repeat: tuple[float, float] = (0.2, 0.2)
    abandoned: tuple[float, float] = (0.0, 0.0)
    handle: tuple[float, float] = (6.0, 6.0)
    customers: int = 3000
    customer_spread: float = 0.0
    """Of customers' own rates."""
    columns: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Made:
    """What `analyse` takes."""

    plan: Plan
    schedule: pd.DataFrame
    frame: pd.DataFrame

    def changed(self, **columns: Any) -> Made:
        """With other columns in the frame."""
        return Made(self.plan, self.schedule, self.frame.assign(**columns))

    def rows(self, kept: Any) -> Made:
        """With some of the contacts."""
        return Made(self.plan, self.schedule, self.frame[kept].reset_index(drop=True))


def make(plan: Plan, world: World | None = None, seed: int = 0) -> Made:
    """The same for the same plan, world and seed; schedules differ by seed."""
    world = world or World()
    rng = np.random.default_rng(seed)
    plan = plan.model_copy(update={"seed": seed})
    units = {"centre": ["centre"], "site": list(SITES), "csa": [f"a{j:02}" for j in range(CSAS)]}[plan.unit]
    schedule = draw(plan, units)
    n = world.contacts
    arrived = _arrivals(rng, plan, n)
    who = rng.integers(0, world.customers, n)
    unit = _units(rng, plan, units, who, n)
    placed = place(plan, schedule, arrived, unit)
    intent = rng.integers(0, INTENTS, n)
    known = 0.62 + 0.16 * intent / (INTENTS - 1) + 0.03 * np.sin(arrived / DAY * 2 * np.pi)
    arm = np.maximum(placed.arm, 0)
    pull = _pull(plan, schedule, world, arrived, unit, arm)
    weeks = (arrived - parse_time(plan.begins)) / (7 * DAY)
    effect = (world.effect + np.array(world.by_intent)[intent] + world.a_week * weeks) * pull
    csa, own = _takers(rng, world, arm)
    shock = _shocks(rng, plan, world, placed.block, unit, units)
    customer = world.customer_spread * rng.normal(0, 1, world.customers)[who]
    lost = rng.random(n) < np.array(world.abandoned)[arm]
    good = rng.random(n) < np.clip(known + effect + own[csa] + shock + customer, 0.01, 0.99)
    pools = plan.design == "customer"
    columns: dict[str, Any] = {
        "contact_id": [f"c{i}" for i in range(n)], "customer_id": [f"k{i}" for i in who],
        "arrived_at": pd.to_datetime(arrived, unit="us", utc=True).as_unit("us"),
        "unit": unit, "block": placed.block, "arm": placed.arm, "washed": placed.washed,
        "csa_id": np.where(lost, None, _ids(plan, schedule, arrived, arm, csa) if pools else np.array(units_of(csa))),
        "policy": np.where(lost, None, np.where(arm == 1, "bundle-7", "fifo")),
        "resolved": np.where(lost, 0.0, good), "abandoned": lost.astype(float),
        "wait_s": rng.exponential(np.array(world.wait_s)[arm]),
        "handle_minutes": np.where(lost, np.nan, rng.gamma(4, np.array(world.handle)[arm] / 4)),
        "csat": np.nan, "quality": np.nan,
        "repeat": (rng.random(n) < np.array(world.repeat)[arm]).astype(float), "transferred": 0.0,
        "covariate": known, "language": np.where(rng.random(n) < 0.7, "en", "es"),
        "intent": [f"i{i}" for i in intent], "tenure": np.where(csa < 5, "below 90 days", "one to three years"),
        "load": np.where(rng.random(n) < 0.5, "quiet", "busy"), "csa_rate": np.where(lost, np.nan, 0.7 + own[csa]),
    }  # fmt: skip
    frame = pd.DataFrame(columns | world.columns)
    return Made(plan, schedule, frame[[*FRAME, "csa_rate"]])


def units_of(csa: np.ndarray) -> list[str]:
    """Ids of CSAs."""
    return [f"a{j:02}" for j in csa]


def _arrivals(rng: np.random.Generator, plan: Plan, n: int) -> np.ndarray:
    """By a day that peaks at two in the afternoon, µs UTC, sorted."""
    begins, ends = parse_time(plan.begins), parse_time(plan.ends)
    at = rng.integers(begins, ends, 4 * n)
    hour = at % DAY / DAY * 24
    kept = rng.random(4 * n) < 0.15 + 0.85 * np.exp(-((hour - 14) ** 2) / 20)
    return np.sort(at[kept][:n])


def _units(rng: np.random.Generator, plan: Plan, units: list[str], who: np.ndarray, n: int) -> np.ndarray:
    if plan.design != "customer":
        return np.array(units, object)[rng.integers(0, len(units), n)]
    names = np.array([plan.control.name, plan.treatment.name], object)
    return names[customer_arms(plan, [f"k{i}" for i in who])]


def _pull(
    plan: Plan, schedule: pd.DataFrame, world: World, arrived: np.ndarray, unit: np.ndarray, arm: np.ndarray
) -> np.ndarray:
    """How much of the treatment a contact has: of the first hour of a block, some of the arm before."""
    if not world.carried:
        return arm.astype(float)
    earlier = place(plan, schedule, arrived - DAY // 24, unit)
    return (1 - world.carried) * arm + world.carried * np.maximum(earlier.arm, 0)


def _takers(rng: np.random.Generator, world: World, arm: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Who takes each contact, and what CSAs add."""
    own = world.spread * np.linspace(-1, 1, CSAS)
    csa = np.zeros(len(arm), np.int64)
    for a in (0, 1):
        weight = np.exp(world.best_first * a * np.linspace(-1, 1, CSAS))
        csa[arm == a] = rng.choice(CSAS, int((arm == a).sum()), p=weight / weight.sum())
    return csa, own


def _ids(plan: Plan, schedule: pd.DataFrame, arrived: np.ndarray, arm: np.ndarray, csa: np.ndarray) -> np.ndarray:
    """Of the design `customer`, somebody of the arm's pool at that time."""
    begins = schedule["begins_at"].astype("int64").to_numpy()
    found = np.empty(len(arm), object)
    for a, name in enumerate((plan.control.name, plan.treatment.name)):
        for moment in np.unique(begins):
            pool = schedule.loc[(begins == moment) & (schedule["arm"] == name).to_numpy(), "unit"].to_numpy()
            mine = (arm == a) & (arrived >= moment) & (arrived < moment + DAY)
            found[mine] = pool[csa[mine] % len(pool)]
    return found


def _shocks(
    rng: np.random.Generator, plan: Plan, world: World, block: np.ndarray, unit: np.ndarray, units: list[str]
) -> np.ndarray:
    if plan.design == "cluster":
        drawn = dict(zip(units, rng.normal(0, world.shock, len(units)), strict=True))
        return np.array([drawn[one] for one in unit])
    many = int(block.max()) + 1
    fresh, found = rng.normal(0, world.shock, many), np.zeros(many)
    for i in range(many):
        found[i] = 0.5 * (found[i - 1] if i else 0.0) + fresh[i] * np.sqrt(0.75)
    return found[np.maximum(block, 0)]
