"""A rollout of two bundles of the fake centre, with contacts that are made and a clock that is moved by hand."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from evaluation.experiment.plan import Plan
from loop.gate.rules import Check
from loop.registry.follow import served
from loop.registry.registry import CHALLENGER, CHAMPION, Registry
from loop.rollout.outside import Aliases, Outside
from loop.rollout.rollout import Rollout
from loop.rollout.shadowed import Compared
from loop.rollout.spec import CanarySpec, Least, RolloutSpec, ShadowSpec
from loop.rollout.state import State, read_state
from loop.rollout.told import Looked
from tests.evaluation.experiment.made import Made, World, make
from tests.serve import fakes
from twotower.clock import DAY, HOUR, parse_time
from twotower.errors import DataError

START = parse_time("2026-03-01T21:30:00Z")
SPEC = RolloutSpec(
    shadow=ShadowSpec(hours=2.0, contacts=100),
    canary=CanarySpec(
        contacts=400, blocks=6, days=14, seed=5, judge_minutes=240.0,
        primary=Least(metric="resolved", margin=0.08),
        guardrails=(Least(metric="abandoned", margin=0.03), Least(metric="wait_s", margin=0.5, relative=True)),
    ),
    full_hours=6.0,
)  # fmt: skip
BAD = World(contacts=6000, effect=-0.15, wait_s=(40.0, 90.0), abandoned=(0.02, 0.1))
"""A feature of the challenger is broken: fewer are helped, more wait and give up."""
SAME = World(contacts=6000)


def registry_of(folder: Path) -> Registry:
    """A champion and a challenger, versions 1 and 2."""
    data = fakes.write_tables(fakes.tables(), folder / "data")
    registry = Registry(folder / "registry")
    for name, families in (("first", fakes.DEFAULT), ("second", fakes.ALL)):
        run = fakes.write_run(data, folder / f"{name}-run", families=families)
        registry.register(fakes.fake_bundle(run, folder / name))
    registry.promote(1)
    registry.promote(2, CHALLENGER)
    return registry


@dataclass
class Faked:
    """Contacts of the plan's time, as a world makes them; `unheard`: what the shadow says."""

    world: World = SAME
    unheard: Compared = Compared(200, 0, 0.7, 0.9, 0.001, 0.001)
    decided: Callable[[Plan, pd.DataFrame], Any] | None = None
    """By whom contacts were decided; None: as the schedule says."""
    worth: Check | None = None
    looks: int = 0
    _made: dict[str, Made] = field(default_factory=dict)

    def look(self, plan: Plan, schedule: pd.DataFrame, at: int) -> Looked:
        self.looks += 1
        if plan.begins not in self._made:
            self._made[plan.begins] = make(plan, self.world, plan.seed)
        made = self._made[plan.begins]
        assert made.schedule.equals(schedule)
        names = np.array([plan.control.policies[0], plan.treatment.policies[0]], object)
        by = names[np.maximum(made.frame["arm"].to_numpy(), 0)] if self.decided is None else self.decided(plan, made.frame)
        frame = made.frame.assign(policy=np.where(made.frame["csa_id"].isna(), None, by))
        known = frame[frame["arrived_at"].astype("int64").to_numpy() < at].reset_index(drop=True)
        if not len(known):
            raise DataError("nobody came yet")
        return Looked(known, None, at)

    def shadowed(self, state: State) -> Compared:
        return self.unheard

    def value(self, state: State, margin: Any, until: int) -> Check | None:
        return self.worth


@dataclass
class Rolled:
    """A rollout in a folder that holds `registry`, and a clock."""

    folder: Path
    contacts: Faked = field(default_factory=Faked)
    now: int = START
    scrape: Any = None
    watch: Any = staticmethod(lambda _: None)

    def __post_init__(self) -> None:
        self.registry = Registry(self.folder / "registry")
        self.link = self.folder / "served"
        outside = Outside(Aliases(self.registry, self.folder / "cache"), self.contacts, self.scrape)
        self.rollout = Rollout(self.folder / "rollout", outside, 0.0, self.watch)

    def start(self, spec: RolloutSpec = SPEC, **more: Any) -> State:
        return self.rollout.start(spec, self.link, self.now, **more)

    def step(self, hours: float = 0.0) -> State:
        self.now += int(hours * HOUR)
        return self.rollout.step(self.now)

    def until(self, *stages: str, days: float = 20.0, hours: float = 4.0) -> State:
        """Steps every so many hours until a stage comes."""
        end = self.now + int(days * DAY)
        while self.now < end:
            state = self.step(hours)
            if state.stage in stages:
                return state
        raise AssertionError(f"it is {state.stage} after {days} days: {state.log}")

    @property
    def served(self) -> int | None:
        """The version that the link names."""
        digests = {one.digest: one.number for one in self.registry.versions()}
        return digests.get(served(self.link) or "")

    @property
    def alias(self) -> tuple[int | None, int | None]:
        """Versions of champion and challenger."""
        found = (self.registry.alias(CHAMPION), self.registry.alias(CHALLENGER))
        return tuple(None if one is None else one.number for one in found)  # type: ignore[return-value]


def copied(made: Path, folder: Path) -> Path:
    """A registry of one's own; bundles lie where they were registered."""
    shutil.copytree(made / "registry", folder / "registry")
    return folder


def killed_everywhere(made: str, place: str) -> int:
    """In a process of its own: rollouts that are killed, each in a child, just after the nth thing that they did, and
    gone on with by another child. Prints how each ended."""
    told: dict[str, Any] = {}
    for name, world in (("same", SAME), ("bad", BAD)):
        folder = copied(Path(made), _new(Path(place) / name))
        whole = _child(lambda folder=folder, world=world: _through(folder, world, None))
        told[f"{name} whole"] = [whole, *_ended(folder)]
        for nth in range(1, 100):
            folder = copied(Path(made), _new(Path(place) / f"{name}-{nth}"))
            died = _child(lambda folder=folder, world=world, nth=nth: _through(folder, world, nth))
            if died == 0:
                break
            again = _child(lambda folder=folder, world=world: _through(folder, world, None))
            told[f"{name} {nth}"] = [died, again, *_ended(folder)]
    print(json.dumps(told))
    return 0


def _new(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


def _child(work: Callable[[], int]) -> int:
    child = os.fork()
    if child == 0:
        os._exit(work())
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _through(folder: Path, world: World, nth: int | None) -> int:
    """From wherever it is to its end, killed just after the nth thing that was done."""
    done = 0

    def watch(_: str) -> None:
        nonlocal done
        done += 1
        if done == nth:
            os.kill(os.getpid(), signal.SIGKILL)

    rolled = Rolled(folder, Faked(replace(world, contacts=2500)), watch=watch)
    state = read_state(folder / "rollout")
    if state is None:
        state = rolled.start(QUICK)
    rolled.now = max(rolled.now, state.judged_at, state.since)
    while not state.ended:
        state = rolled.step(12.0)
    return 0


QUICK = SPEC.model_copy(update={"canary": SPEC.canary.model_copy(update={"contacts": 200, "judge_minutes": 1440.0})})


def _ended(folder: Path) -> list[Any]:
    rolled = Rolled(folder)
    state = read_state(folder / "rollout")
    return [None if state is None else state.stage, rolled.served, list(rolled.alias)]
