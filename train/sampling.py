"""Who stands for the rest of a roster in a step: samples of known inclusion, drawn where the step's mass lies.

Notable: a CSA's chance is near what they weigh in the step's own contacts, Σ π₀(a | x), so a roster of a hundred
thousand of whom a step could use a hundred costs a hundred; no cell is made for each contact and CSA. Systematic
sampling in random order (Madow, 1949; Hartley and Rao, 1962) has a fixed size and exactly the inclusion probabilities
asked for, which is all that an unbiased sum needs (Horvitz and Thompson, 1952). A CSA whose share of the sample would
be one or more is in it with certainty.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from train.prepare import TrainingSet
from train.propensity import FLOOR, Propensities

Doubles = npt.NDArray[np.float64]
Floats = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]
EQUAL = 0.1
"""Share of a sample that goes to all CSAs alike, so that nobody who is eligible stands for too many others."""


def log_exposure(data: TrainingSet, moment: int) -> Floats:
    """(J,) log of each CSA's decayed hand-overs at a snapshot: π₀ up to a constant, where nothing better is known."""
    found: Floats = np.log(data.exposure[moment] + np.float32(0.5))
    return found


class Chances(NamedTuple):
    """log π₀ of the eligible pairs of B contacts, up to a constant for each contact: `row` (P,), `csa` (P,), `log_pi0`
    (P,) of the contacts with a list; `everyone` (B,) the others, for whom `exposure` (J,) says it; `unlisted` (B,) of
    who is not on a contact's list and got it all the same."""

    row: Indices
    csa: Indices
    log_pi0: Floats
    everyone: npt.NDArray[np.bool_]
    exposure: Floats
    unlisted: Floats | None

    def mass(self) -> Doubles:
        """(J,) Σ over the contacts of π₀."""
        weight = np.exp(self.log_pi0, dtype=np.float64)
        weight /= np.bincount(self.row, weight, len(self.everyone))[self.row]
        share = np.exp(self.exposure, dtype=np.float64)
        found: Doubles = np.bincount(self.csa, weight, len(share)) + self.everyone.sum() * share / share.sum()
        return found

    def with_takers(self, csa: Indices) -> Chances:
        """The same with who took each contact (B,) on its list, if they were not."""
        there = self.everyone.copy()
        there[self.row[self.csa == csa[self.row]]] = True
        row = np.flatnonzero(~there)
        if not len(row):
            return self
        rows, csas = np.concatenate([self.row, row]), np.concatenate([self.csa, csa[row]])
        log_pi0 = np.concatenate([self.log_pi0, self.of(csa)[row]])
        order = np.argsort(rows, kind="stable")
        return self._replace(row=rows[order], csa=csas[order], log_pi0=log_pi0[order])

    def rows(self, start: int, stop: int) -> Chances:
        """Those of contacts `start` … `stop − 1`."""
        first, last = np.searchsorted(self.row, [start, stop])
        unlisted = None if self.unlisted is None else self.unlisted[start:stop]
        row, csa, log_pi0 = self.row[first:last] - start, self.csa[first:last], self.log_pi0[first:last]
        return Chances(row, csa, log_pi0, self.everyone[start:stop], self.exposure, unlisted)

    def cells(self) -> tuple[npt.NDArray[np.bool_], Floats]:
        """(B, J) whether each CSA is eligible, and their log π₀, 0 where not."""
        mask = np.repeat(self.everyone[:, None], len(self.exposure), axis=1)
        log_pi0 = np.where(mask, self.exposure, np.float32(0))
        mask[self.row, self.csa], log_pi0[self.row, self.csa] = True, self.log_pi0
        return mask, log_pi0

    def of(self, csa: Indices) -> Floats:
        """(B,) log π₀ of one CSA of each contact."""
        found = self.exposure[csa]
        if self.unlisted is not None:
            found = np.where(self.everyone, found, self.unlisted)
        theirs = self.csa == csa[self.row]
        found[self.row[theirs]] = self.log_pi0[theirs]
        return found


def chances(
    data: TrainingSet, contacts: Indices, moment: int, propensities: Propensities | None, logged: bool = True
) -> Chances:
    """π₀ of the eligible of contacts (B,) who arrived after the snapshot `moment`, without a cell for each contact and
    CSA: by propensities where these are given, with or without what was logged, else by exposure."""
    exposure = log_exposure(data, moment)
    if data.eligible is None:
        none = np.zeros(0, np.int64)
        return Chances(none, none, np.zeros(0, np.float32), np.ones(len(contacts), np.bool_), exposure, None)
    lists = data.eligible.take(contacts).distinct()
    row, csa = lists.rows, lists.values.astype(np.int64)
    if propensities is None:
        return Chances(row, csa, exposure[csa], lists.all_, exposure, None)
    unlisted = np.log(FLOOR / np.maximum(lists.lengths, 1)).astype(np.float32)  # there is no estimate
    return Chances(row, csa, propensities.log_pi0(contacts, logged), lists.all_, exposure, unlisted)


def draw(found: Chances, size: int, rng: np.random.Generator) -> tuple[Indices, Floats]:
    """Codes (S,) of `size` CSAs who are eligible for some contact, in order, and the log probability (S,) with which
    each is drawn; all of them, with 0, where there are no more."""
    mass = found.mass()
    candidates = np.flatnonzero(mass > 0)
    mass = mass[candidates]
    weight = (1 - EQUAL) * mass / max(mass.sum(), 1e-300) + EQUAL / max(len(mass), 1)
    probability = inclusion(weight, size)
    drawn = systematic(probability, rng)
    return candidates[drawn], np.log(probability[drawn]).astype(np.float32)


def over_sample(found: Chances, sample: Indices) -> Chances:
    """The same among the CSAs of a sample (S,), whose columns stand in the place of codes."""
    place = np.full(len(found.exposure), -1)
    place[sample] = np.arange(len(sample))
    column = place[found.csa]
    there = column >= 0
    row, log_pi0 = found.row[there], found.log_pi0[there]
    return Chances(row, column[there], log_pi0, found.everyone, found.exposure[sample], found.unlisted)


def inclusion(weight: Doubles, size: int) -> Doubles:
    """Inclusion probabilities (n,) proportional to positive weights (n,), at most 1, with sum `size`; all 1 where n is
    at most `size`."""
    if len(weight) <= size:
        return np.ones(len(weight))
    probability, certain = np.ones(len(weight)), np.zeros(len(weight), dtype=np.bool_)
    while True:
        rest = weight[~certain]
        probability[~certain] = rest * ((size - certain.sum()) / rest.sum())
        over = probability >= 1
        probability[over] = 1
        if bool((over == certain).all()):
            return probability
        certain = over


def systematic(probability: Doubles, rng: np.random.Generator) -> Indices:
    """Positions, in order, of a sample in which unit i lies with `probability[i]` (n,); their sum is whole.

    Units of probability 1 are always in; the others by one random start on a line on which they lie in random order.
    """
    certain, open_ = np.flatnonzero(probability >= 1), np.flatnonzero(probability < 1)
    order = rng.permutation(open_)
    line = np.cumsum(probability[order])
    count = round(float(line[-1])) if len(line) else 0
    if not count:
        return certain
    # The line's end is whole but for rounding; scaled, so that no start can fall behind it.
    points = (rng.random() + np.arange(count)) * (line[-1] / count)
    drawn = order[np.minimum(np.searchsorted(line, points, side="right"), len(order) - 1)]
    return np.sort(np.concatenate([certain, drawn]))
