"""The answer to a staffing question: each policy's searches, shifts that cover what was found, and what that saves.

Notable: searches of different policies meet the same contacts, search by search, so a saving has the interval of the
differences of pairs. A journal beside the output keeps the staff of each search as it goes, so one that was
interrupted goes on from there.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from evaluation.simulate.centre import HOUR, Shifts
from evaluation.simulate.described import DAY, centre_of
from evaluation.simulate.replicate import LOCAL, Estimate, estimate
from evaluation.simulate.staffing import Found, Run, Search, Verdict, looks_of, runner
from evaluation.simulate.staffing_measure import Case, Target, targets_of
from evaluation.simulate.staffing_spec import Problem, StaffingSpec, problem_of, rules_of, with_csas
from evaluation.simulate.staffing_start import Roster, covered, start
from twotower.engines import Engine
from twotower.errors import ConfigError
from twotower.files import atomic_write
from twotower.progress import bar

Longs = npt.NDArray[np.int64]
APART = 7919  # between the seeds of two searches
EVERY_S = 2.0  # at most so often is the journal written


@dataclass(frozen=True)
class Covered:
    """Shifts that cover the first search's staff, and whether they meet the targets."""

    roster: Roster
    verdict: Verdict

    @property
    def hours(self) -> float:
        """Of work a day."""
        return float((self.roster.csas * self.roster.hours).sum())


@dataclass(frozen=True)
class PolicyAnswer:
    """Of a policy; the first search's staff is the one that is reported."""

    name: str
    searches: tuple[Found, ...]
    covered: Covered | None

    @property
    def met(self) -> bool:
        """Whether the targets could be met in every search."""
        return all(one.met for one in self.searches)


@dataclass(frozen=True)
class Answer:
    """To a question; policies in the file's order."""

    spec: StaffingSpec
    problem: Problem
    targets: tuple[Target, ...]
    policies: tuple[PolicyAnswer, ...]

    def hours(self, policy: PolicyAnswer) -> npt.NDArray[np.float64]:
        """(searches,) of staff a day."""
        return np.array([one.staff.sum() * self.problem.hours for one in policy.searches])

    def cost(self, policy: PolicyAnswer) -> npt.NDArray[np.float64]:
        """(searches,) a day."""
        return np.array(
            [float(self.problem.cost @ one.staff.sum(axis=1)) * self.problem.hours for one in policy.searches]
        )

    def saved(self, policy: PolicyAnswer) -> tuple[Estimate, Estimate] | None:
        """Hours and cost a day that a policy saves against the first; None where either misses targets."""
        first = self.policies[0]
        if not (first.met and policy.met):
            return None
        return (
            estimate(self.hours(first) - self.hours(policy)), estimate(self.cost(first) - self.cost(policy))
        )  # fmt: skip


class Journal:
    """Staff of searches so far, in a file beside the output; path None: nowhere."""

    def __init__(self, path: Path | None, spec: StaffingSpec) -> None:
        """Raises ConfigError where the file is of another question."""
        self.path, self.digest, self.written = path, hashlib.sha256(spec.model_dump_json().encode()).hexdigest(), 0.0
        self.searches: dict[str, Any] = {}
        if path is not None and path.exists():
            try:
                found = json.loads(path.read_text(encoding="utf-8"))
                digest, self.searches = found["digest"], found["searches"]
            except (OSError, ValueError, KeyError, TypeError):
                raise ConfigError(f"{path}: no journal of a search; remove it to begin anew") from None
            if digest != self.digest:
                raise ConfigError(f"{path}: of another question; remove it, or name another --output")

    def saver(self, key: str) -> Callable[[Longs, bool], None]:
        """Of one search."""

        def save(staff: Longs, done: bool) -> None:
            self.searches[key] = {"staff": staff.tolist(), "done": done}
            if self.path is not None and (done or time.monotonic() - self.written > EVERY_S):
                atomic_write(self.path, json.dumps({"digest": self.digest, "searches": self.searches}))
                self.written = time.monotonic()

        return save

    def remove(self) -> None:
        """Once it is not needed any more."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)


def staffing(spec: StaffingSpec, engine: Engine = LOCAL, journal: Path | None = None) -> Answer:
    """Search, policy by policy. journal: where to keep what is found on the way, and to go on from.

    Raises ConfigError for what does not fit together; targets that cannot be met are in the answer.
    """
    problem = problem_of(spec)
    targets = targets_of(problem, spec.targets, spec.least_contacts)
    if not targets:
        raise ConfigError("targets: none given, or no interval with contacts enough; nothing is to be met")
    begin = start(problem, spec.targets.interval, spec.targets.target_s)
    kept = Journal(journal, spec)
    with bar("staffing", unit="simulations") as advance, runner(engine, advance) as run:
        policies = tuple(_policy(spec, problem, targets, i, begin, kept, run) for i in range(len(problem.rules)))
    kept.remove()
    return Answer(spec, problem, targets, policies)


def _policy(
    spec: StaffingSpec, problem: Problem, targets: tuple[Target, ...], place: int, begin: Longs, kept: Journal, run: Run
) -> PolicyAnswer:
    rule, searches = problem.rules[place], []
    looks = looks_of(spec.first_replications, max(spec.first_replications, spec.replications))
    for s in range(spec.searches):
        case = Case(
            problem.centre, problem.group, len(problem.groups), rule, spec.seed + s * APART, spec.warm_up_hours * HOUR,
            spec.targets.target_s,
        )  # fmt: skip
        key = f"{rule.name} {s}"
        before = kept.searches.get(key)
        search = Search(problem, case, targets, list(looks), spec.confidence, run, kept.saver(key))
        if before is None:
            searches.append(search.find(begin))
        else:
            searches.append(search.find(np.array(before["staff"], np.int64), before["done"]))
    found = None
    if spec.shifts and searches[0].met:
        roster = covered(problem, searches[0].staff, spec.shifts)
        judge = Search(problem, _rostered(spec, problem, roster, place), targets, list(looks), spec.confidence, run)
        found = Covered(roster, judge.fresh(judge.case, looks[-1]))
    return PolicyAnswer(rule.name, tuple(searches), found)


def _rostered(spec: StaffingSpec, problem: Problem, roster: Roster, place: int) -> Case:
    """The centre with the CSAs and the stretches of work of a roster."""
    rates = problem.centre.rates
    wide = with_csas(spec.centre, roster.csas.sum(axis=1), rates)
    group = np.repeat(np.arange(len(problem.groups)), roster.csas.sum(axis=1))
    rows, csa = [], 0
    for g in range(len(problem.groups)):
        for of, many in zip(roster.spans, roster.csas[g], strict=True):
            for _ in range(int(many)):
                rows += [(csa, day * DAY + a, day * DAY + b) for day in range(problem.days) for a, b in of]
                csa += 1
    stretches = np.array(rows)
    shifts = Shifts(stretches[:, 0].astype(np.int64), stretches[:, 1], stretches[:, 2])
    centre = replace(centre_of(wide), rates=rates, shifts=shifts)
    return Case(
        centre, group, len(problem.groups), rules_of(spec, wide, centre)[place], spec.seed, spec.warm_up_hours * HOUR,
        spec.targets.target_s,
    )  # fmt: skip
