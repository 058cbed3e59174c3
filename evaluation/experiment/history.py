"""What was known before an experiment began: what to expect of a contact, and what to expect of a CSA.

Notable: only contacts that arrived, and outcomes that became known, before `begins` are read, so nothing an arm did can
reach a covariate. A mean of few contacts is mostly luck, so every mean is shrunk by `PRIOR` contacts to the one above
it: intent to all, intent × language to intent, then the hour of the week, then that hour for this intent and language.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Doubles = npt.NDArray[np.float64]
Longs = npt.NDArray[np.int64]

PRIOR = 20.0
"""Contacts at the mean above, of every group."""


@dataclass(frozen=True)
class Expected:
    """What history says of contacts, by steps that add up."""

    mean: float
    """NaN: no history."""
    steps: tuple[Doubles, ...]
    """By step, what each group adds, (groups of the step,)."""

    def of(self, groups: tuple[Longs, ...]) -> Doubles:
        """Of contacts whose groups (N,) are given by step; −1: a group without history adds nothing."""
        total = np.full(len(groups[0]), self.mean)
        for added, group in zip(self.steps, groups, strict=True):
            total += np.where(group >= 0, np.append(added, 0.0)[group], 0.0)
        return total


def expected(y: Doubles, groups: tuple[Longs, ...], sizes: tuple[int, ...]) -> Expected:
    """Shrunken means of y (H,), NaN where not known, by the groups (H,) of each step, of which there are `sizes`."""
    known = ~np.isnan(y)
    if not known.any():
        return Expected(float("nan"), tuple(np.zeros(size) for size in sizes))
    mean = float(y[known].mean())
    left, steps = y[known] - mean, []
    for group, size in zip(groups, sizes, strict=True):
        of = group[known]
        inside = of >= 0
        count = np.bincount(of[inside], minlength=size)
        added = np.bincount(of[inside], left[inside], minlength=size) / (count + PRIOR)
        left = left - np.where(inside, np.append(added, 0.0)[of], 0.0)
        steps.append(added)
    return Expected(mean, tuple(steps))


def groups_of(intent: Longs, language: Longs, arrived: Longs) -> tuple[tuple[Longs, ...], tuple[int, ...]]:
    """Groups of contacts by step, and how many there are: intent, × language, hour of the week, × both.

    intent, language: codes (N,), −1 where null, which is a group of its own; arrived (N,) µs UTC.
    """
    from twotower.clock import HOUR

    hour = (arrived // HOUR) % (7 * 24)
    intents, languages = int(intent.max(initial=-1)) + 2, int(language.max(initial=-1)) + 2
    first, second = intent + 1, language + 1
    both = first * languages + second
    return (first, both, hour, both * 168 + hour), (intents, intents * languages, 168, intents * languages * 168)


def rates(beyond: Doubles, csa: Longs, many: int, mean: float) -> Doubles:
    """Past means (many,) of CSAs, NaN without history: the mean plus how much their contacts went beyond what was
    expected of these, (H,), shrunk."""
    known = ~np.isnan(beyond) & (csa >= 0)
    count = np.bincount(csa[known], minlength=many)
    more = np.bincount(csa[known], beyond[known], minlength=many) / (count + PRIOR)
    return np.where(count > 0, mean + more, np.nan)
