"""From sums to features: what every CSA looked like at a moment.

Notable: pure functions of a reading, so that sums may be read where the state is, shard by shard, and features are
computed once from all of them. What a CSA is like for a group, such as an intent, is in `engine/groups.py`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from twotower.clock import DAY, HOUR, NULL_TIME
from twotower.features.engine.settings import CsaSettings
from twotower.features.engine.shrink import effective, mean_strength, rate_strength, shrunk
from twotower.features.engine.values import SQUARES, SUMS

Doubles = npt.NDArray[np.float64]
Floats = npt.NDArray[np.float32]
Longs = npt.NDArray[np.int64]

# For each half-life; `_n` are log(1 + effective sample size).
BY_HALF_LIFE = (
    "handled", "outcomes_n", "rate", "timed_n", "log_time", "transfers", "ratings_n", "csat", "upset_n", "upset",
)  # fmt: skip
# Pseudo-hand-overs without a direction behind the embedding means; how long a CSA counts as idle who never was seen.
PRIOR, LONG_DAYS = 10.0, 3650.0


@dataclass(frozen=True)
class GroupReading:
    """Decayed sums of the n cells of a family that were ever seen, sorted: `csa`, `code` i8[n], `sums` f8[n, 8] by
    `GROUP_SUMS`; `codes` how many codes the family has."""

    csa: Longs
    code: Longs
    sums: Doubles
    codes: int


@dataclass(frozen=True)
class CsaReading:
    """Everything about J CSAs as of `moment` (µs), for H half-lives.

    `counts` i8[J, 7] by `COUNTS`, not decayed; `sums` f8[J, H, 16] by `SUMS`, `squares` f8[J, H, 6] of weights by
    `SQUARES`; `embeddings` f8[J, 2, H, K] sums over what was not known to fail, and over what failed; `load` f8[J, A]
    hand-overs assigned, decayed; `work` i8[J, 2] assigned and ended; `first`, `last` i8[J] µs, `NEVER` and `NULL_TIME`
    for a CSA without a past; `groups` the families that were asked for.
    """

    moment: int
    counts: Longs
    sums: Doubles
    squares: Doubles
    embeddings: Doubles
    load: Doubles
    work: Longs
    first: Longs
    last: Longs
    groups: dict[str, GroupReading] = field(default_factory=dict)

    @property
    def open(self) -> Longs:
        """Hand-overs (J,) assigned and not ended; an end whose beginning was never told counts for nothing."""
        return np.asarray((self.work[:, 0] - self.work[:, 1]).clip(0))


def csa_names(settings: CsaSettings) -> list[str]:
    """Names of the columns of `csa_features`."""
    ages = [f"{half_life / DAY:g}d" for half_life in settings.half_lives_us]
    loads = [f"assigned_{half_life / HOUR:g}h" for half_life in settings.activity_us]
    numbers = [f"{name}_{age}" for age in ages for name in BY_HALF_LIFE]
    vectors = [f"{of}_{age}_{i}" for of in ("good", "bad") for age in ages for i in range(settings.width)]
    return [*numbers, *loads, "open", "idle", "known_for", *vectors]


def csa_features(reading: CsaReading, settings: CsaSettings) -> Floats:
    """Features (J, G) float32. Rates and means are shrunken, and relative to the centre's; counts are log(1 + x);
    `idle` and `known_for` log(1 + days)."""
    half_lives = range(len(settings.half_lives_us))
    known = reading.last != NULL_TIME
    idle = np.where(known, (reading.moment - np.where(known, reading.last, 0)) / DAY, LONG_DAYS)
    known_for = np.where(known, (reading.moment - np.where(known, reading.first, 0)) / DAY, 0)
    times = np.log1p(np.column_stack([reading.load, reading.open, idle, known_for.clip(0)]))
    numbers = np.concatenate([*(_numbers(reading, h) for h in half_lives), times], axis=1)
    # One prior for both: what went well and what did not are told apart by their share of all that was handled.
    shares = 1 / (reading.sums[:, None, :, :1] + PRIOR)
    out = np.empty((len(known), numbers.shape[1] + math.prod(reading.embeddings.shape[1:])), dtype=np.float32)
    out[:, : numbers.shape[1]] = numbers
    vectors = out[:, numbers.shape[1] :].reshape(reading.embeddings.shape)
    np.multiply(reading.embeddings, shares, out=vectors, casting="same_kind")
    return out


def _numbers(reading: CsaReading, half_life: int) -> Doubles:
    """(J, len(BY_HALF_LIFE)) of one half-life."""
    s = dict(zip(SUMS, reading.sums[:, half_life].T, strict=True))
    w2 = dict(zip(SQUARES, reading.squares[:, half_life].T, strict=True))
    n = {name: effective(s[name], w2[name]) for name in SQUARES}

    def rate(of: str, among: str) -> Doubles:
        return own_rates(s[of], s[among], n[among]) - centre_rate(s[of], s[among])

    def mean(of: str, among: str, squared: str, relative: bool = True) -> Doubles:
        return own_means(s[of], s[squared], s[among], w2[among]) - relative * centre_mean(s[of], s[among])

    return np.column_stack(
        [
            np.log1p(s["handled"]),
            np.log1p(n["outcomes"]),
            rate("resolved", "outcomes"),
            np.log1p(n["timed"]),
            mean("log_seconds", "timed", "log_seconds_squared"),
            rate("transfers", "transfers_known"),
            np.log1p(n["ratings"]),
            mean("csat", "ratings", "csat_squared"),
            np.log1p(n["upset"]),
            # Against expectation already, and therefore not against the centre.
            mean("upset_residual", "upset", "upset_residual_squared", relative=False),
        ]
    )


def centre_rate(successes: Doubles, trials: Doubles) -> float:
    """The rate of all together, by Laplace's rule so that it is never 0 or 1."""
    return float((successes.sum() + 1) / (trials.sum() + 2))


def centre_mean(total: Doubles, weight: Doubles) -> float:
    """The mean of all together, 0 where nothing was seen."""
    return float(total.sum() / weight.sum()) if weight.sum() > 0 else 0.0


def own_rates(successes: Doubles, trials: Doubles, size: Doubles) -> Doubles:
    """Rates of units, shrunk towards that of all."""
    return shrunk(successes, trials, centre_rate(successes, trials), rate_strength(successes, trials, size))


def own_means(total: Doubles, squared: Doubles, weight: Doubles, squares: Doubles) -> Doubles:
    """Means of units, shrunk towards that of all."""
    return shrunk(total, weight, centre_mean(total, weight), mean_strength(total, squared, weight, squares))
