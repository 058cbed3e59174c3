"""A generated centre whose log is drawn again and again: the same contacts, other choices of the queue, other outcomes.

Notable: contacts, texts, CSAs, who was eligible and all true probabilities stay; the queue chooses anew by its own π₀
and outcomes are drawn anew from the truth. So what a policy is worth on these contacts is known exactly,
Σ_a π(a | x) p(x, a), and the error of an estimator is what it says less that, over logs that could have been. Nothing
is trained: policies rank by the true log-odds with an error of their own, as a model would.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from evaluation.generate.centre import generate
from evaluation.generate.latents import Latents, sigmoid
from evaluation.generate.settings import Settings
from evaluation.ope.folds import folds_of
from evaluation.ope.logged import Logged, read_logged
from evaluation.ope.marginal import groupings
from evaluation.ope.outcome import Features
from evaluation.ope.rounds import Floats, Ints, Pairs
from evaluation.truth import positions
from twotower.tables.log import Log


@dataclass(frozen=True)
class Fixed:
    """A policy of stated chances (P,): what `evaluation.ope.targets.Target` asks for."""

    name: str
    chances: Floats
    described: str = "stated chances"
    until: int | None = None

    def probabilities(self, logged: Logged) -> Floats:
        """The chances."""
        return self.chances

    def vectors(self, logged: Logged) -> npt.NDArray[np.float32] | None:
        """None."""
        return None


@dataclass(frozen=True)
class Drawn:
    """One log: the window's rounds, those to fit the queue on, and the true π₀ (P,) of the window's pairs."""

    logged: Logged
    past: Logged
    queue: Floats


@dataclass(frozen=True)
class Centre:
    """A centre and all that does not change between its logs."""

    window: Logged
    past: Logged
    features: Features
    fold: Ints
    logit: tuple[Floats, Floats]
    """True log-odds of the pairs of the window and of the past."""
    speed: Floats
    """(J,) times γ: what the queue goes by."""
    groups: list[Ints]
    seed: int

    @classmethod
    def draw(cls, contacts: int, csas: int, eligible: float, seed: int) -> Centre:
        """A centre of `twotower generate`; the window is the last half of its contacts."""
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch) / "centre"
            generate(Settings(contacts=contacts, csas=csas, eligible=eligible, seed=seed, propensities=True), folder)
            log, latents = Log.load(folder), Latents.load(folder / "truth.npz")
            arrived = log.contacts.arrived_at
            end = int(arrived[-1]) + 1
            window, _ = read_logged(folder, log, int(arrived[contacts // 2]), end)
            past, _ = read_logged(folder, log, int(arrived[0]), end)
        who = positions(log.csas.ids, latents.csa_id, "CSA")
        place = positions(log.contacts.ids, latents.contact_id, "contact")
        logit = tuple(latents.logit(place[of.contact][of.pairs.row], who[of.pairs.csa]) for of in (window, past))
        own = latents.unknowns()[who]
        speed = latents.constant("queue_gamma") * latents.speed[who].astype(np.float64)
        return cls(
            window, past, Features.of(window), folds_of(log, 5), (logit[0], logit[1]), speed,
            groupings((own - own.mean(axis=0)) / own.std(axis=0)), seed,
        )  # fmt: skip

    def policies(self, error: float) -> list[Fixed]:
        """Anyone eligible; a softmax, and the first, by log-odds that are off by `error`."""
        pairs, random = self.window.pairs, np.random.default_rng((self.seed, 11))
        believed = self.logit[0] + error * random.normal(size=len(pairs.csa))
        return [
            Fixed("uniform", (1.0 / pairs.lengths)[pairs.row]),
            Fixed("softmax", pairs.softmax(believed)),
            Fixed("greedy", pairs.greedy(believed)),
        ]

    def worth(self, policy: Fixed) -> float:
        """What a policy is worth on the window's contacts."""
        return float((policy.chances * sigmoid(self.logit[0])).sum() / len(self.window))

    def log(self, seed: int, hidden: float = 0.0, falsified: float = 0.0) -> Drawn:
        """Choices and outcomes drawn anew.

        hidden: how much the queue also goes by the true log-odds of success, which no table holds; falsified: standard
        deviation of log-normal errors in what is logged of its chances, half of them a CSA's own.
        """
        random = np.random.default_rng((self.seed, 12, seed))
        queue = self.past.pairs.softmax(self.speed[self.past.pairs.csa] + hidden * self.logit[1])
        own = _drawn(self.past.pairs, queue, random)
        good = random.random(len(own)) < sigmoid(self.logit[1][own])
        told = queue
        if falsified:
            error = random.normal(size=len(self.speed))[self.past.pairs.csa] + random.normal(size=len(queue))
            told = self.past.pairs.softmax(np.log(queue) + falsified * error / np.sqrt(2))
        pairs = replace(self.past.pairs, own=own)
        log = self._log(pairs, good, told[own])
        rows = np.arange(len(own))
        past = replace(self.past, log=log, pairs=pairs, handover=rows, propensity=told[own], chances=told)
        first = len(self.past) - len(self.window)
        some, at = pairs.take(rows[first:])
        logged = replace(
            self.window, log=log, pairs=some, handover=rows[first:],
            propensity=told[own][first:], chances=told[at],
        )  # fmt: skip
        return Drawn(logged, past, queue[at])

    def _log(self, pairs: Pairs, good: npt.NDArray[np.bool_], propensity: Floats) -> Log:
        """The log with these first hand-overs and no others; outcomes stay unknown where they were."""
        old, row = self.past.log.handovers, self.past.handover
        unknown = old.resolved[row] < 0
        nothing = np.full(len(row), np.nan, np.float32)
        moves = replace(
            old, contact=old.contact[row], csa=pairs.csa[pairs.own].astype(np.int32), assigned_at=old.assigned_at[row],
            ended_at=old.ended_at[row], known_at=old.known_at[row],
            resolved=np.where(unknown, -1, good).astype(np.int8), transferred=np.full(len(row), -1, np.int8),
            csat=nothing, quality_score=nothing, handle_time_s=nothing, propensity=propensity.astype(np.float32),
            policy=old.policy.take(pa.array(row)),
        )  # fmt: skip
        return replace(self.past.log, handovers=moves)


def _drawn(pairs: Pairs, chances: Floats, random: np.random.Generator) -> Ints:
    """Positions of one choice a list: the largest of log π plus a Gumbel draw."""
    key = np.log(chances) + random.gumbel(size=len(chances))
    return np.flatnonzero(pairs.greedy(key) > 0)
