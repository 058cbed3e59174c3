"""The fewest staff by group and interval that meet targets under a policy, found by simulation.

Notable: one search adds where targets are missed, whoever helps most for the cost, then removes, and exchanges for who
is cheaper, until no single removal keeps the targets. All candidates of a search meet the same contacts with the same
luck, so they are told apart by the staff and not by chance. A candidate is given up when a target is shown to be
missed, which looks at growing samples may tell early, sharing the error by Bonferroni; it holds by the whole sample
alone. What is found is then confirmed on contacts that the search has not seen.

Sources: targets as sums, and a fixed sample searched over: Atlason, Epelman and Henderson, Call center staffing with
simulation and cutting plane methods (2004), and Optimizing call center staffing using simulation and analytic center
cutting-plane methods (2008); local search in place of cuts, as Avramidis, Chan, Gendreau, L'Ecuyer and Pisacane (2010).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial, reduce

import numpy as np
import numpy.typing as npt

from evaluation.simulate.staffing_measure import Case, Counts, Shown, Target, by_interval, counts_of, staffed
from evaluation.simulate.staffing_spec import Problem
from twotower.engines import Engine

Doubles = npt.NDArray[np.float64]
Longs = npt.NDArray[np.int64]
Run = Callable[[Case, range], Counts]
ROUNDS = 3  # of search, each with a sample that holds what told that a target is missed after all


@dataclass(frozen=True)
class Verdict:
    """Whether a staffing is shown to meet every target, and by what."""

    ok: bool
    shown: Shown
    quantile: float

    def missed(self) -> npt.NDArray[np.int64]:
        """Positions of targets that are not shown to hold."""
        found: npt.NDArray[np.int64] = np.flatnonzero(self.shown.bounds(self.quantile)[0] < 0)
        return found


@dataclass(frozen=True)
class Found:
    """Of one search. met False: not even everybody meets the targets; `staff` is everybody then."""

    staff: Longs
    """(G, T)."""
    met: bool
    verdict: Verdict
    """By the search's own sample."""
    fresh: Verdict
    """By contacts that the search has not seen; ok: no target is shown to be missed, over all targets together."""
    tried: int
    """Candidates simulated."""


@dataclass
class Search:
    """A search under one policy. The sample is replications 0 to `looks[-1]` of the case's seed."""

    problem: Problem
    case: Case
    targets: tuple[Target, ...]
    looks: list[int]
    confidence: float
    run: Run
    save: Callable[[Longs, bool], None] = lambda staff, done: None
    tried: int = 0
    _known: dict[bytes, bool] = field(default_factory=dict)

    def find(self, begin: Longs, done: bool = False) -> Found:
        """From a staffing (G, T). done: it is known to be minimal."""
        most = self.problem.most
        if not (best := self.verdict(most)).ok:
            return self._found(most, False, best)
        staff = np.clip(begin, self.problem.least, most)
        for _ in range(ROUNDS):
            staff = staff if done else self.descend(self.ascend(staff))
            self.save(staff, True)
            found = self._found(staff, True, self.verdict(staff))
            if found.fresh.ok:
                return found
            self.looks.append(self.looks[-1] * 2)
            self._known.clear()
            done = False
        return found

    def quantile(self, replications: int, share: float) -> float:
        """Student's t at an error of (1 − confidence)·share."""
        from scipy.stats import t

        return float(t.ppf(1 - (1 - self.confidence) * share, replications - 1))

    def verdict(self, staff: Longs) -> Verdict:
        """Run until a target is shown to be missed, or else the whole sample, by which alone targets hold: of many
        candidates some are lucky in a few replications."""
        case, counts = staffed(self.case, staff), None
        self.tried += 1
        for look in self.looks:
            more = self.run(case, range(0 if counts is None else len(counts), look))
            counts = more if counts is None else counts.and_(more)
            shown, quantile = Shown(self.targets, counts), self.quantile(look, 1 / len(self.looks))
            if np.any(shown.bounds(quantile)[1] < 0):
                return Verdict(False, shown, quantile)
        quantile = self.quantile(look, 1.0)
        return Verdict(bool(np.all(shown.bounds(quantile)[0] >= 0)), shown, quantile)

    def holds(self, staff: Longs) -> bool:
        """Whether it meets every target, and leaves no class with arrivals without anybody."""
        key = staff.tobytes()
        if key not in self._known:
            self._known[key] = self.serves(staff) and self.verdict(staff).ok
        return self._known[key]

    def serves(self, staff: Longs) -> bool:
        """Whether somebody can take each class in each interval in which it arrives."""
        able = self.problem.can.astype(np.int64) @ (staff > 0)
        return bool(np.all((able > 0) | (self.problem.arrivals <= 0) | (self._most_able == 0)))

    @property
    def _most_able(self) -> Longs:
        return self.problem.can.astype(np.int64) @ (self.problem.most > 0)

    def ascend(self, staff: Longs) -> Longs:
        """Add until the targets hold."""
        while not (now := self.verdict(staff)).ok or not self.serves(staff):
            staff = self._raised(staff, now)
            self.save(staff, False)
        self._known[staff.tobytes()] = True
        return staff

    def _raised(self, staff: Longs, now: Verdict) -> Longs:
        """With one more in each interval that is short, none beside another, of the group that helps most there."""
        if not self.serves(staff):
            return self._served(staff)
        short, alone = self._short(now)
        best, gain = np.full(len(short), -1), np.zeros(len(short))
        for g in range(len(staff)):
            more = staff.copy()
            can = staff[g, short] < self.problem.most[g, short]
            more[g, short[can]] += 1
            if not can.any():
                continue
            helps = self._helps(more, now, short, alone) / self.problem.cost[g]
            better = can & (helps > gain + 1e-12)
            best[better], gain[better] = g, helps[better]
        raised = staff.copy()
        raised[best[best >= 0], short[best >= 0]] += 1
        return raised if np.any(best >= 0) else self._anyhow(staff, int(short[0]))

    def _short(self, now: Verdict) -> tuple[Longs, bool]:
        """Intervals (V,) to raise, and whether it is one for targets that span the day."""
        missed = [self.targets[i] for i in now.missed()]
        short = sorted({one.place for one in missed if one.scope == "interval"})
        if short:
            apart = [short[0]]
            for t in short[1:]:
                if t > apart[-1] + 1:
                    apart.append(t)
            return np.array(apart), False
        room = np.any(self.problem.most > 0, axis=0)
        adds = sum((by_interval(one, now.shown.counts) for one in missed), np.zeros(self.problem.most.shape[1]))
        return np.array([int(np.argmin(np.where(room, adds, np.inf)))]), True

    def _helps(self, staff: Longs, now: Verdict, short: Longs, alone: bool) -> Doubles:
        """(V,) by how much less targets are missed in and just after each interval, by as many replications."""
        many = len(now.shown.counts)
        then = Shown(self.targets, self.run(staffed(self.case, staff), range(many)))
        self.tried += 1
        less = now.shown.shortfall(now.quantile) - then.shortfall(now.quantile)
        if alone:
            return np.array([less.sum()])
        place = np.array([one.place if one.scope == "interval" else -9 for one in self.targets])
        return np.array([less[(place == t) | (place == t + 1)].sum() for t in short])

    def _served(self, staff: Longs) -> Longs:
        """With the cheapest who can take what nobody can."""
        problem, staff = self.problem, staff.copy()
        for t in range(staff.shape[1]):
            for k in np.flatnonzero(problem.arrivals[:, t] > 0):
                able = problem.can[k] & (problem.most[:, t] > 0)
                if able.any() and not (able & (staff[:, t] > 0)).any():
                    staff[int(np.argmin(np.where(able, problem.cost, np.inf))), t] += 1
        return staff

    def _anyhow(self, staff: Longs, t: int) -> Longs:
        """With one more of the cheapest with room in the interval nearest before or at t, or else after it."""
        room = staff < self.problem.most
        order = [*range(t, -1, -1), *range(t + 1, staff.shape[1])]
        at = next(i for i in order if room[:, i].any())
        raised = staff.copy()
        raised[int(np.argmin(np.where(room[:, at], self.problem.cost, np.inf))), at] += 1
        return raised

    def descend(self, staff: Longs) -> Longs:
        """Remove, and exchange for who is cheaper, until no single step of these keeps the targets."""
        refused: set[tuple[int, int]] = set()
        while True:
            before = staff
            staff = self._removed(staff, refused)
            if staff is before:  # by monotony; now verify each cell
                staff = self._removed(staff, set())
            if staff is before:
                staff = self._exchanged(staff)
            if staff is before:
                return staff

    def _removed(self, staff: Longs, refused: set[tuple[int, int]]) -> Longs:
        """Who is idle at the highest cost first; refused: cells in which a removal was refused, not tried again."""
        for g, t in self._idlest(staff):
            while staff[g, t] > self.problem.least[g, t] and (g, t) not in refused:
                fewer = staff.copy()
                fewer[g, t] -= 1
                if not self.holds(fewer):
                    refused.add((g, t))
                    break
                staff = fewer
                self.save(staff, False)
        return staff

    def _idlest(self, staff: Longs) -> list[tuple[int, int]]:
        seconds = self.run(staffed(self.case, staff), range(self.looks[0])).seconds.mean(axis=0)
        idle = 1 - seconds[0].T / np.maximum(seconds[1].T, 1e-9)
        cost = np.where(staff > 0, idle * self.problem.cost[:, None], -np.inf)
        order = np.argsort(-cost, axis=None, kind="stable")
        return [(int(i) // cost.shape[1], int(i) % cost.shape[1]) for i in order if np.isfinite(cost.flat[i])]

    def _exchanged(self, staff: Longs) -> Longs:
        """One of a group for one of a cheaper group with a skill in common."""
        cost, can = self.problem.cost, self.problem.can
        pairs = [(g, h) for g in range(len(cost)) for h in range(len(cost)) if cost[h] < cost[g]]
        for g, h in pairs:
            if not (can[:, g] & can[:, h]).any():
                continue
            for t in range(staff.shape[1]):
                if staff[g, t] > self.problem.least[g, t] and staff[h, t] < self.problem.most[h, t]:
                    other = staff.copy()
                    other[g, t] -= 1
                    other[h, t] += 1
                    if self.holds(other):
                        staff = other
                        self.save(staff, False)
        return staff

    def _found(self, staff: Longs, met: bool, verdict: Verdict) -> Found:
        fresh = self.fresh(staffed(self.case, staff), self.looks[-1])
        return Found(staff, met, verdict, fresh, self.tried)

    def fresh(self, case: Case, begin: int) -> Verdict:
        """By as many replications from `begin` on."""
        shown = Shown(self.targets, self.run(case, range(begin, begin + self.looks[-1])))
        quantile = self.quantile(len(shown.counts), 1 / max(1, len(self.targets)))
        return Verdict(bool(np.all(shown.bounds(quantile)[1] >= 0)), shown, quantile)


def looks_of(first: int, most: int) -> list[int]:
    """Sizes of samples at which a candidate is judged: doubling from the first to the most."""
    found = [min(first, most)]
    while found[-1] < most:
        found.append(min(2 * found[-1], most))
    return found


def counts_of_all(case: Case, numbers: range) -> Counts:
    """Of several replications."""
    return reduce(Counts.and_, (counts_of(case, number) for number in numbers))


@contextmanager
def runner(engine: Engine, advance: Callable[[int], None]) -> Iterator[Run]:
    """Replications by an engine, with the same results in any number of processes."""
    with engine.mapping() as mapped:
        yield partial(_shared, advance, mapped, engine.places)


def _shared(
    advance: Callable[[int], None],
    mapped: Callable[[Callable[[range], Counts], Iterable[range]], Iterator[Counts]],
    places: int,
    case: Case,
    numbers: range,
) -> Counts:
    size = -(-len(numbers) // places)
    parts = [numbers[i : i + size] for i in range(0, len(numbers), size)]
    found = reduce(Counts.and_, mapped(partial(counts_of_all, case), parts))
    advance(len(numbers))
    return found
