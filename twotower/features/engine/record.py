"""CSA features of the past: declared one by one, computed from a reading.

Notable: pure functions of a reading, so that sums may be read where the state is, shard by shard, and features are
computed once from all of them. Rates and means are shrunken by empirical Bayes (`engine/shrink.py`) and relative to the
centre's, each beside the effective sample size that stands behind it, so a tower can tell an average CSA from an
unknown one.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from twotower.clock import DAY, HOUR, NULL_TIME
from twotower.features.engine.groups import GROUP_FEATURES, group_features
from twotower.features.engine.readout import CsaReading, Priors, mean_prior, rate_prior
from twotower.features.engine.settings import CsaSettings
from twotower.features.engine.shrink import effective, shrunk
from twotower.features.engine.values import SQUARES, SUMS
from twotower.features.feature import Feature, table

Doubles = npt.NDArray[np.float64]
Floats = npt.NDArray[np.float32]

# Pseudo-hand-overs without a direction behind the embedding means; how long a CSA counts as idle who never was seen.
PRIOR, LONG_DAYS = 10.0, 3650.0


class HalfLife:
    """The decayed sums of one half-life by name, and what is made of them; arrays (J,). priors: of this half-life."""

    def __init__(self, reading: CsaReading, half_life: int, priors: Priors) -> None:
        self.sums = dict(zip(SUMS, reading.sums[:, half_life].T.copy(), strict=True))
        self.squares = dict(zip(SQUARES, reading.squares[:, half_life].T.copy(), strict=True))
        self.size = {name: effective(self.sums[name], self.squares[name]) for name in SQUARES}
        self._priors, self._half_life = priors, half_life

    def rate(self, of: str, among: str) -> Doubles:
        """Shrunken rate less the centre's."""
        total, trials = self.sums[of], self.sums[among]
        key = (self._half_life, of, among)
        centre, strength = self._priors.of(key, lambda: rate_prior(total, trials, self.size[among]))
        return shrunk(total, trials, centre, strength) - centre

    def mean(self, of: str, among: str, squared: str, relative: bool = False) -> Doubles:
        """Shrunken mean, which is against expectation, or less the centre's if `relative`."""
        total, weight = self.sums[of], self.sums[among]
        centre, strength = self._priors.of(
            (self._half_life, of, among), lambda: mean_prior(total, self.sums[squared], weight, self.squares[among])
        )
        return shrunk(total, weight, centre, strength) - (centre if relative else 0.0)


class Record:
    """What features are computed from: a reading, and the settings of the engine that it is of.

    priors: of an earlier reading of all CSAs, for a reading of some; None: estimated from this one.
    """

    def __init__(self, reading: CsaReading, settings: CsaSettings, priors: Priors | None = None) -> None:
        self.reading, self.settings = reading, settings
        self.priors = Priors() if priors is None else priors

    def __len__(self) -> int:
        return len(self.reading.last)

    @cached_property
    def half_lives(self) -> list[HalfLife]:
        """One for each half-life."""
        return [HalfLife(self.reading, h, self.priors) for h in range(len(self.settings.half_lives_us))]

    @cached_property
    def seen(self) -> npt.NDArray[np.bool_]:
        """Whether a CSA has a past (J,)."""
        return np.asarray(self.reading.last != NULL_TIME)

    def days_since(self, times: npt.NDArray[np.int64], otherwise: float) -> Doubles:
        """Days (J,) since `first` or `last` of the reading."""
        return np.where(self.seen, (self.reading.moment - np.where(self.seen, times, 0)) / DAY, otherwise)

    @cached_property
    def _shares(self) -> Doubles:
        return 1 / (self.reading.sums[:, :, :1] + PRIOR)

    def means(self, of: int) -> Floats:
        """Embedding means (J, H, K) of what was not known to fail (0) or of what failed (1).

        One prior for both: what went well and what did not are told apart by their share of all that was handled.
        """
        sums = self.reading.embeddings[:, of]
        out = np.empty(sums.shape, dtype=np.float32)
        np.multiply(sums, self._shares, out=out, casting="same_kind")
        return out

    @cached_property
    def groups(self) -> list[Floats]:
        """`group_features` (codes, J, 3) of every family that is kept."""
        kept = self.settings.families
        return [
            group_features(self.reading, self.settings, family, np.arange(codes), self.priors) for family, codes in kept
        ]

    def similarity(self) -> Doubles:
        """Cosine (J,) of what the fastest and the slowest half-life say a CSA works on, 0 without a past."""
        work = self.reading.embeddings.sum(axis=1)
        now, past = work[:, 0], work[:, -1]
        norm = np.linalg.norm(now, axis=1) * np.linalg.norm(past, axis=1)
        cosine = np.divide((now * past).sum(axis=1), norm, out=np.zeros(len(norm)), where=norm > 0)
        return np.asarray(cosine.clip(-1, 1))


def half_life_names(settings: CsaSettings) -> list[str]:
    """Suffixes of columns by half-life, such as `30d`."""
    return [f"{half_life / DAY:g}d" for half_life in settings.half_lives_us]


def _by_half_life(
    name: str,
    family: str,
    unit: str,
    low: float,
    high: float,
    meaning: str,
    of: Callable[[HalfLife], Doubles],
    counted_by: str = "outcomes",
) -> Feature[Record]:
    return Feature(
        name, "csa", family, unit, low, high, meaning, "outcomes",
        lambda record: np.column_stack([of(h) for h in record.half_lives]),
        lambda settings: [f"{name}_{age}" for age in half_life_names(settings)],
        counted_by=counted_by,
    )  # fmt: skip


def _vectors(name: str, of: int, meaning: str) -> Feature[Record]:
    return Feature(
        name, "csa", "history", "components of a text", -1.0, 1.0, meaning, "outcomes",
        lambda record: record.means(of).reshape(len(record), -1),
        lambda settings: [f"{name}_{age}_{i}" for age in half_life_names(settings) for i in range(settings.width)],
        watched=False, counted_by=name,
    )  # fmt: skip


def _groups(
    name: str, unit: str, low: float, high: float, meaning: str, counted_by: str = "outcomes"
) -> Feature[Record]:
    place = GROUP_FEATURES.index(name.removeprefix("group_"))

    def compute(record: Record) -> npt.NDArray[Any]:
        parts = [group[:, :, place].T for group in record.groups]
        return np.concatenate([np.zeros((len(record), 0), np.float32), *parts], axis=1)

    def columns(settings: CsaSettings) -> list[str]:
        return [f"{name}:{family}_{code}" for family, codes in settings.families for code in range(codes)]

    return Feature(name, "csa", "groups", unit, low, high, meaning, "outcomes", compute, columns, counted_by=counted_by)


def _plain(name: str, family: str, unit: str, meaning: str, as_of: str, of: Callable[[Record], Any]) -> Feature[Record]:
    return Feature(name, "csa", family, unit, 0.0, np.inf, meaning, as_of, of)


N, SHRUNK = "log(1 + effective sample size)", "shrunken, less the centre's"
UNGROUPED: tuple[Feature[Record], ...] = (
    _by_half_life(
        "handled", "record", "log(1 + n)", 0, np.inf, "hand-overs, decayed", lambda h: np.log1p(h.sums["handled"]),
        "handled",
    ),
    _by_half_life("outcomes_n", "record", N, 0, np.inf, "with an outcome", lambda h: np.log1p(h.size["outcomes"])),
    _by_half_life("rate", "record", SHRUNK, -1, 1, "share resolved", lambda h: h.rate("resolved", "outcomes")),
    _by_half_life(
        "timed_n", "record", N, 0, np.inf, "with a handle time", lambda h: np.log1p(h.size["timed"]), "timed"
    ),
    _by_half_life(
        "log_time", "record", SHRUNK, -np.inf, np.inf, "mean log(1 + handle time in s)",
        lambda h: h.mean("log_seconds", "timed", "log_seconds_squared", relative=True), "timed",
    ),
    _by_half_life(
        "transfers", "record", SHRUNK, -1, 1, "share transferred", lambda h: h.rate("transfers", "transfers_known"),
        "transfers_known",
    ),
    _by_half_life("ratings_n", "record", N, 0, np.inf, "with a csat", lambda h: np.log1p(h.size["ratings"]), "ratings"),
    _by_half_life(
        "csat", "record", SHRUNK, -4, 4, "mean csat (1 to 5)",
        lambda h: h.mean("csat", "ratings", "csat_squared", relative=True), "ratings",
    ),
    Feature(
        "idle", "csa", "record", "log(1 + days)", 0, np.inf,
        f"since an outcome was last known; {LONG_DAYS:g} days without a past", "outcomes",
        lambda record: np.log1p(record.days_since(record.reading.last, LONG_DAYS)), default=float(np.log1p(LONG_DAYS)),
    ),
    _plain(
        "known_for", "record", "log(1 + days)", "since an outcome was first known", "outcomes",
        lambda record: np.log1p(record.days_since(record.reading.first, 0).clip(0)),
    ),
    _by_half_life(
        "upset_n", "upset", N, 0, np.inf, "upset, with an outcome", lambda h: np.log1p(h.size["upset"]), "upset"
    ),
    _by_half_life(
        "upset", "upset", "shrunken, against expectation", -1, 1, "resolved less expected on upset contacts",
        lambda h: h.mean("upset_residual", "upset", "upset_residual_squared"), "upset",
    ),
    Feature(
        "assigned", "csa", "load", "log(1 + n)", 0, np.inf, "hand-overs assigned, decayed", "work",
        lambda record: np.log1p(record.reading.load),
        lambda settings: [f"assigned_{half_life / HOUR:g}h" for half_life in settings.activity_us],
    ),
    _plain("open", "load", "log(1 + n)", "hand-overs not ended", "work", lambda record: np.log1p(record.reading.open)),
    _vectors("good", 0, "mean base embedding of contacts not known to have failed, decayed"),
    _vectors("bad", 1, "mean base embedding of contacts that failed, decayed"),
)  # fmt: skip
SIMILARITY: Feature[Record] = Feature(
    "work_similarity", "csa", "similarity", "cosine", -1, 1, "of recent work to older work", "outcomes",
    Record.similarity,
)  # fmt: skip
GROUPED: tuple[Feature[Record], ...] = (
    _groups("group_rate", SHRUNK, -1, 1, "share resolved by intent, language, channel and band of complexity"),
    _groups("group_log_time", SHRUNK, -np.inf, np.inf, "mean log(1 + handle time in s) by the same groups", "timed"),
    _groups("group_n", N, 0, np.inf, "with an outcome, by the same groups"),
)
RECORD: tuple[Feature[Record], ...] = (*UNGROUPED, SIMILARITY, *GROUPED)


def csa_names(settings: CsaSettings) -> list[str]:
    """Names of the columns of `csa_features`."""
    return [name for feature in UNGROUPED for name in feature.names(settings)]


def csa_features(reading: CsaReading, settings: CsaSettings) -> Floats:
    """Features (J, G) float32 of every CSA by `UNGROUPED`."""
    return table(UNGROUPED, Record(reading, settings), len(reading.last), settings)
