"""A rollout of two bundles of the fake centre, with contacts that are made and a clock that is moved by hand."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import signal
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd

from evaluation.experiment.plan import Plan
from loop.gate.rules import Check
from loop.registry.follow import served
from loop.registry.registry import CHALLENGER, Registry
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
        block_hours=4.0, contacts=400, blocks=6, days=14, seed=5, judge_minutes=240.0,
        primary=Least(metric="resolved", margin=0.08),
        guardrails=(Least(metric="abandoned", margin=0.03), Least(metric="wait_s", margin=0.5, relative=True)),
    ),
    full_hours=6.0,
)  # fmt: skip
BAD = World(contacts=6000, effect=-0.15, wait_s=(40.0, 90.0), abandoned=(0.02, 0.1))
"""A feature of the challenger is broken: fewer are helped, more wait and give up."""
SAME = World(contacts=6000)
UNHEARD = Compared(200, 0, 0.7, 0.9, 0.001, 0.001)


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
    unheard: Compared = UNHEARD
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
        by = names[np.maximum(made.frame["arm"].to_numpy(), 0)]
        by = by if self.decided is None else self.decided(plan, made.frame)
        frame = made.frame.assign(policy=np.where(made.frame["csa_id"].isna(), None, by))
        known = frame[frame["arrived_at"].astype("int64").to_numpy() < at].reset_index(drop=True)
        if not len(known):
            raise DataError("nobody came yet")
        return Looked(known, None, at)

    def shadowed(self, state: State) -> Compared:
        return self.unheard

    def value(self, state: State, margin: Any, until: int) -> Check | None:
        return self.worth


class Remembered:
    """What a registry asks of MLflow's client, in memory: MLflow's own takes tens of milliseconds a question."""

    def __init__(self, like: Registry) -> None:
        self._versions = [
            SimpleNamespace(
                version=str(one.number), tags=dict(one.tags), source=one.source, creation_timestamp=one.made_ms
            )
            for one in like.versions()
        ]
        self._aliases = {alias: str(one.number) for one in like.versions() for alias in one.aliases}

    def search_model_versions(self, _: str, page_token: str | None = None) -> Any:
        found = _Page(deepcopy(self._versions))
        found.token = None
        return found

    def get_registered_model(self, _: str) -> Any:
        return SimpleNamespace(aliases=dict(self._aliases))

    def set_registered_model_alias(self, _: str, alias: str, version: str) -> None:
        self._aliases[alias] = version

    def delete_registered_model_alias(self, _: str, alias: str) -> None:
        self._aliases.pop(alias)

    def set_model_version_tag(self, _: str, version: str, key: str, value: str) -> None:
        self._versions[int(version) - 1].tags[key] = value


class _Page(list):  # type: ignore[type-arg]
    token: str | None


@dataclass
class Rolled:
    """A rollout in a folder that holds `registry`, and a clock."""

    folder: Path
    contacts: Faked = field(default_factory=Faked)
    now: int = START
    scrape: Any = None
    watch: Any = print
    client: Remembered | None = None
    """None: MLflow's own."""

    def __post_init__(self) -> None:
        self.registry = Registry(self.folder / "registry")
        if self.client is not None:
            self.registry._client = self.client  # type: ignore[assignment]
        self.link = self.folder / "served"
        outside = Outside(Aliases(self.registry, self.folder / "cache"), self.contacts, self.scrape)
        self.rollout = Rollout(self.folder / "rollout", outside, 0.0, self.watch)

    def scrapes(self, scrape: Any) -> None:
        """The service's figures are other ones from now on."""
        self.rollout._outside = replace(self.rollout._outside, scrape=scrape)

    def start(self, spec: RolloutSpec = SPEC, **more: Any) -> State:
        return self.rollout.start(spec, self.link, self.now, **more)

    def step(self, hours: float = 0.0) -> State:
        self.now += int(hours * HOUR)
        return self.rollout.step(self.now)

    def until(self, *stages: str, days: float = 20.0, hours: float = 8.0) -> State:
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
        champion, challenger = Aliases(self.registry, self.folder).both()
        return None if champion is None else champion.number, None if challenger is None else challenger.number


def copied(made: Path, folder: Path) -> Path:
    """A registry of one's own; bundles lie where they were registered."""
    shutil.copytree(made / "registry", folder / "registry")
    return folder


QUICK = SPEC.model_copy(
    update={
        "canary": SPEC.canary.model_copy(
            update={"contacts": 100, "blocks": 3, "primary": Least(metric="resolved", margin=0.2)}
        )
    }
)
IMPORTED = ("mlflow.tracking", "pandas", "scipy.stats", "evaluation.experiment.analyse", "tests.serve.fakes")


def killed_everywhere(*folders: str) -> int:
    """In a process of its own, which imports everything once: rollouts that are killed whenever they have done
    something for the first time, and gone on with by another process. The first is of a challenger that is as good, the
    second of one that is not. Prints after what each was killed."""
    for module in IMPORTED:
        importlib.import_module(module)
    told = []
    for folder, world in zip(folders, (SAME, replace(BAD, effect=-0.5)), strict=True):
        died: list[str] = []
        while True:
            child = os.fork()
            if child == 0:
                os._exit(_through(Path(folder), replace(world, contacts=3000), died))
            status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            if status != -signal.SIGKILL:
                died.append(f"status {status}")
                break
            died.append((Path(folder) / "died").read_text(encoding="utf-8"))
        told.append(died)
    print(json.dumps(told))
    return 0


def _through(folder: Path, world: World, known: list[str]) -> int:
    """From wherever it is to its end, killed just after what nobody was killed after yet."""

    def watch(done: str) -> None:
        if done not in known:
            (folder / "died").write_text(done, encoding="utf-8")
            os.kill(os.getpid(), signal.SIGKILL)

    rolled = Rolled(folder, Faked(world), watch=watch)
    state = read_state(folder / "rollout") or rolled.start(QUICK)
    rolled.now = max(rolled.now, state.judged_at, state.since)
    while not state.ended:
        state = rolled.step(8.0)
    return 0
