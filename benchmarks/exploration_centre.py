"""A centre in which every pair's outcome can be drawn, and somebody who learns its CSAs while they work.

Notable: a generated centre says how likely each pair is to succeed, so a policy's choices have outcomes although the
queue of the log made others. A share of the CSAs has no history when the simulated days begin: who is hired later, and
others whose hand-overs are dropped and who count as hired that day. Outcomes, and when each is known, are drawn once
for each pair and contact, so all policies meet the same luck. Nobody's time runs out: who is free for a contact is
what the log says, whoever was chosen before.

The learner is given what no product has: needs, upset, difficulty, fluency and tenure of all (`Latents.design` and
`offset`, as `evaluation/ceiling.py` is). It learns a CSA's unknowns u_a = (θ, q, h), 18 numbers, as a Gaussian:

    logit p(x, a) = ⟨design(x), u_a⟩ + offset(x, a),    u_a ~ N(Γ f_a, diag(s²))

by assumed density filtering, one outcome at a time (Opper, "A Bayesian approach to on-line learning", 1998). f_a is
what is declared: skill levels, whether there are any, team, site. Γ by ridge regression (penalty by leaving one out)
and s are estimated on the CSAs with a history, in a few steps of expectation maximisation; a joiner begins there.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from evaluation.ceiling import read_evidence
from evaluation.generate.centre import generate
from evaluation.generate.handovers import LATE, LATE_LONGEST, LATE_MEDIAN, UNKNOWN
from evaluation.generate.latents import Latents, sigmoid
from evaluation.generate.settings import Settings
from serve.explore import Explorer
from twotower.clock import DAY, NEVER, SECOND
from twotower.tables.log import Log
from twotower.tables.ragged import Ragged

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

HISTORY, AFTER = 60, 10
"""Days of the log before the simulation, and of those after it, on which what was learnt is judged."""
WORK = 900 * SECOND  # from arrival to an outcome that is known at the end
STEPS = 4  # of expectation maximisation
PENALTIES = (1.0, 3.0, 10.0, 30.0, 100.0)
_POINTS, _WEIGHTS = np.polynomial.hermite_e.hermegauss(20)


@dataclass(frozen=True)
class Centre:
    """N contacts, J CSAs of one world.

    `latents` with joiners hired on the first day, `eligible` lists, `joiner` (J,), `declared` (J, F) with a constant
    last, `contact`, `csa`, `resolved` (n,) of the history, `luck` (pairs of `eligible`,) uniform numbers, `known_at`
    (N,) µs, `days` the positions of the contacts of each simulated day, `after` those that come then.
    """

    latents: Latents
    eligible: Ragged
    joiner: Flags
    declared: Floats
    contact: Ints
    csa: Ints
    resolved: Floats
    luck: Floats
    known_at: Ints
    days: list[Ints]
    after: Ints

    @classmethod
    def draw(
        cls, folder: Path, contacts: int, csas: int, eligible: float, joiners: float, days: int, seed: int
    ) -> Centre:
        """Generates a centre into `folder`; a share `joiners` of those who work on the simulated days is new then."""
        settings = Settings(contacts, csas, seed=seed, days=HISTORY + days + AFTER, eligible=eligible)
        generate(settings, folder)
        latents, log = Latents.load(folder / "truth.npz"), Log.load(folder)
        random, lists = settings.random("exploration"), log.contacts.eligible
        if lists is None:
            raise ValueError("a generated centre says who was eligible")
        begins = settings.begins + HISTORY * DAY
        day = (latents.arrived_at - begins) // DAY
        served = lists.lengths > 0
        evidence = read_evidence(folder, latents, begins)
        there = np.unique(lists.take(np.flatnonzero((day >= 0) & served)).values)
        seen = np.isin(there, evidence.csa)
        more = max(0, round(joiners * len(there)) - int((~seen).sum()))
        turned = random.choice(there[seen], more, replace=False)
        joiner = np.isin(np.arange(csas), np.concatenate([there[~seen], turned]))
        old = ~joiner[evidence.csa]
        order = np.argsort(evidence.contact[old], kind="stable")
        return cls(
            latents=replace(latents, hired_at=np.where(np.isin(np.arange(csas), turned), begins, latents.hired_at)),
            eligible=lists,
            joiner=joiner,
            declared=declared(folder, log.csas.ids.to_pylist(), begins),
            contact=evidence.contact[old][order],
            csa=evidence.csa[old][order],
            resolved=evidence.resolved[old][order],
            luck=random.random(len(lists.values)),
            known_at=known_at(latents.arrived_at, random),
            days=[np.flatnonzero((day == d) & served) for d in range(days)],
            after=np.flatnonzero((day >= days) & served),
        )


def known_at(arrived_at: Ints, random: np.random.Generator) -> Ints:
    """(N,) when an outcome is known, as in a generated log: at the end, a day later or so, or never."""
    fate, delay = random.random(len(arrived_at)), LATE_MEDIAN * np.exp(random.normal(0, 0.9, len(arrived_at)))
    late = np.where(fate < UNKNOWN + LATE, np.minimum(delay, LATE_LONGEST), 0).astype(np.int64)
    return np.where(fate < UNKNOWN, NEVER, arrived_at + WORK + late)


def declared(folder: Path, ids: list[str], at: int) -> Floats:
    """(J, F) what each CSA declares at a moment: skill levels, whether there are any, team, site, and a constant."""
    table = pq.read_table(folder / "csas.parquet").to_pylist()
    since: dict[str, dict[str, Any]] = {}
    for row in sorted(table, key=lambda row: (row["valid_from"] is not None, row["valid_from"])):
        if row["valid_from"] is None or row["valid_from"].timestamp() * 1e6 <= at:
            since[row["csa_id"]] = row
    skills = [{skill["name"]: skill["level"] for skill in since[name]["skills"]} for name in ids]
    names = sorted({name for one in skills for name in one})
    columns = [[one.get(name, 0.0) for name in names] + [float(bool(one))] for one in skills]
    for field in ("team", "site"):
        values = sorted({row[field] for row in table})
        for column, name in zip(columns, ids, strict=True):
            column += [float(since[name][field] == value) for value in values]
    return np.column_stack([np.array(columns), np.ones(len(ids))])


class Learner:
    """Gaussian beliefs about every CSA: `mean` (J, K) and `covariance` (J, K, K)."""

    def __init__(self, centre: Centre, mean: Floats, variance: Floats) -> None:
        self.latents = centre.latents
        self.mean = mean.copy()
        self.covariance = np.tile(np.diag(variance), (len(mean), 1, 1))

    @classmethod
    def experienced(cls, centre: Centre) -> Learner:
        """One who knows the history, and from it what declarations are worth."""
        seen = np.unique(centre.csa)
        width = centre.latents.prior_mean.shape[1]
        mean, variance = np.zeros((len(centre.joiner), width)), np.ones(width)
        for _ in range(STEPS):
            learner = cls(centre, mean, variance)
            for contact, csa, resolved in zip(centre.contact, centre.csa, centre.resolved, strict=True):
                learner.learn(int(contact), int(csa), bool(resolved))
            gamma = ridge(centre.declared[seen], learner.mean[seen])
            mean = centre.declared @ gamma
            spread = np.diagonal(learner.covariance[seen], axis1=1, axis2=2)
            variance = ((learner.mean[seen] - mean[seen]) ** 2 + spread).mean(axis=0)
        return learner

    def copy(self) -> Learner:
        """One of its own, that goes on from here."""
        other = object.__new__(Learner)
        other.latents, other.mean, other.covariance = self.latents, self.mean.copy(), self.covariance.copy()
        return other

    def predict(self, contact: int, csas: Ints) -> tuple[Floats, Floats]:
        """Means and standard deviations (C,) of the logits of one contact with some CSAs."""
        rows = np.full(len(csas), contact)
        x = self.latents.design(rows[:1])[0]
        mean = self.mean[csas] @ x + self.latents.offset(rows, csas)
        return mean, np.sqrt((self.covariance[csas] @ x) @ x)

    def learn(self, contact: int, csa: int, resolved: bool) -> None:
        """One outcome: the Gaussian with the moments of the posterior."""
        row = np.array([contact])
        x = self.latents.design(row)[0]
        along = self.covariance[csa] @ x
        variance = float(along @ x)
        mean = float(self.mean[csa] @ x + self.latents.offset(row, np.array([csa]))[0])
        z = mean + np.sqrt(variance) * _POINTS
        weight = _WEIGHTS * sigmoid(z if resolved else -z)
        weight /= weight.sum()
        moved = float(weight @ z) - mean
        left = float(weight @ (z - mean) ** 2) - moved**2
        self.mean[csa] += along * (moved / variance)
        self.covariance[csa] -= np.outer(along, along) * ((variance - left) / variance**2)


def ridge(inputs: Floats, targets: Floats) -> Floats:
    """(F, K) coefficients; the last input is a constant without penalty, the penalty that of the least error of who is
    left out."""
    best, found = np.inf, np.zeros((inputs.shape[1], targets.shape[1]))
    for penalty in PENALTIES:
        weight = np.full(inputs.shape[1], penalty)
        weight[-1] = 1e-6
        solve = np.linalg.solve(inputs.T @ inputs + np.diag(weight), inputs.T)
        hat = inputs @ solve
        error = (((targets - hat @ targets) / (1 - np.diag(hat))[:, None]) ** 2).mean()
        if error < best:
            best, found = float(error), solve @ targets
    return found


class Shown(NamedTuple):
    """A candidate as an explorer reads it."""

    csa_id: str
    p_resolved: float
    uncertainty: float
    logit: float | None = None


@dataclass(frozen=True)
class Run:
    """What a policy did with the n contacts of the simulated days, in their order.

    `regret` (n,) true p of the oracle's first choice less that of the chosen, `cold` (n,) whether the oracle's is a
    joiner, `newly` (n,) whether the chosen is, `loss` (n,) predicted loss against the best, `other` (n,) whether
    another than the predicted best was chosen, `drawn` (n,) whether the contact was picked for exploration, `after`
    (m,) regret of greedy with what was learnt, over the contacts of the days after, `choice_us` the median time that a
    choice took.
    """

    regret: Floats
    cold: Flags
    newly: Flags
    loss: Floats
    other: Flags
    drawn: Flags
    after: Floats
    choice_us: float


def simulate(centre: Centre, start: Learner, explorer: Explorer) -> Run:
    """The simulated days under one policy, from beliefs that are left as they are."""
    learner, latents = start.copy(), centre.latents
    ids, contacts = latents.csa_id.tolist(), np.concatenate(centre.days)
    due = contacts[np.argsort(centre.known_at[contacts], kind="stable")]
    chosen: dict[int, tuple[int, bool]] = {}
    rows, took, told = [], [], 0
    for contact in contacts.tolist():
        while centre.known_at[due[told]] < latents.arrived_at[contact]:
            learner.learn(int(due[told]), *chosen.pop(int(due[told])))
            told += 1
        csas, p = pairs(centre, contact)
        mean, deviation = learner.predict(contact, csas)
        shown = [
            Shown(ids[csa], belief, sd)
            for csa, belief, sd in zip(csas, sigmoid(mean).tolist(), deviation.tolist(), strict=True)
        ]
        name, begun = str(latents.contact_id[contact]), perf_counter()
        decision = explorer.choose(name, shown, urgent=False)
        took.append(perf_counter() - begun)
        at = decision.csa_ids.index(decision.csa_id)
        luck = centre.luck[centre.eligible.offsets[contact] + at]
        chosen[contact] = int(csas[at]), bool(luck < p[at])
        best = csas[p.argmax()]
        rows.append(
            (p.max() - p[at], centre.joiner[best], centre.joiner[csas[at]], decision.loss, at != mean.argmax(),
             decision.arm != "greedy")
        )  # fmt: skip
    regret, cold, newly, loss, other, drawn = np.array(rows).T
    after = np.array([greedy_regret(centre, learner, int(contact)) for contact in centre.after])
    return Run(regret, cold > 0, newly > 0, loss, other > 0, drawn > 0, after, float(np.median(took)) * 1e6)


def pairs(centre: Centre, contact: int) -> tuple[Ints, Floats]:
    """Who is eligible (C,), and their true probabilities of success."""
    row = centre.eligible.row(contact)
    if row is None:
        raise ValueError(f"contact {contact} has no list of who is eligible")
    csas = row.astype(np.int64)
    return csas, centre.latents.p_resolved(np.full(len(csas), contact), csas)


def greedy_regret(centre: Centre, learner: Learner, contact: int) -> float:
    """What the predicted best loses against the true one."""
    csas, p = pairs(centre, contact)
    return float(p.max() - p[learner.predict(contact, csas)[0].argmax()])
