"""Policies to be judged: with which probability each would choose whom, for every round of a log.

Notable: a bundle is asked as the router asks it, with history rolled forward through the log, so each contact is
matched by what was known strictly before it arrived. It is asked about those who could have been chosen and nobody
else. What it chooses is greedy (the first of the ranking), a softmax of its scores, or what an `Explorer` with stated
options does, whose chances have a closed form and need no key.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from evaluation.ope.logged import Logged
from evaluation.ope.rounds import Floats
from evaluation.simulate.replay_bundle import known_csas
from serve.answer import Candidate
from serve.explore import LEAST_KEY, Explorer
from serve.explore_options import Exploration
from serve.matcher import Matcher
from serve.rolling import RollingMatcher
from twotower.clock import format_time
from twotower.errors import ConfigError
from twotower.progress import track
from twotower.scoring.join import ContactVectors, Rank, Scored
from twotower.scoring.utility import Utility
from twotower.tables.log import Log

Vectors = npt.NDArray[np.float32]


class Target(Protocol):
    """A policy that is judged."""

    @property
    def name(self) -> str:
        """How tables call it."""

    @property
    def described(self) -> str:
        """What it does, in words."""

    @property
    def until(self) -> int | None:
        """Up to when it knows the log's outcomes, µs; None: it knows none."""

    def probabilities(self, logged: Logged) -> Floats:
        """π (P,) of everybody who could have been chosen; sums to 1 over a round."""

    def vectors(self, logged: Logged) -> Vectors | None:
        """(J, d) where CSAs lie, as the window begins; None where the policy has no such idea."""


@dataclass(frozen=True)
class Uniform:
    """Anyone eligible, with equal chances."""

    name: str = "uniform"
    described: str = "anyone eligible, with equal chances"
    until: int | None = None

    def probabilities(self, logged: Logged) -> Floats:
        """1 / n."""
        return np.asarray((1.0 / logged.pairs.lengths)[logged.pairs.row])

    def vectors(self, logged: Logged) -> Vectors | None:
        """None."""
        return None


@dataclass(frozen=True)
class Scores:
    """The first by the router's own scores, as decisions.parquet has them: the log's policy without its chance."""

    name: str = "scores"
    described: str = "the first by the scores that the router logged"
    until: int | None = None

    def probabilities(self, logged: Logged) -> Floats:
        """Raises ConfigError where a round has no scores."""
        score = np.where(np.isnan(logged.score), -np.inf, logged.score)
        without = np.flatnonzero(logged.pairs.largest(score) == -np.inf)
        if len(without):
            name = logged.log.contacts.ids[int(logged.contact[without[0]])].as_py()
            raise ConfigError(
                f"policy scores: the log has no scores of the candidates of {len(without):,} contacts, such as "
                f"{name!r}; it needs decisions.parquet with the decisions of the window, as `twotower feedback export` "
                "writes it"
            )
        return logged.pairs.greedy(score)

    def vectors(self, logged: Logged) -> Vectors | None:
        """None."""
        return None


@dataclass(frozen=True)
class How:
    """How a bundle's answer becomes a choice: greedy, unless one of the two is given."""

    temperature: float | None = None
    """Of a softmax over scores: logits of success, or the utility's units."""
    explore: Exploration | None = None
    rank: Rank | None = None
    utility: Utility | None = None

    def __post_init__(self) -> None:
        if self.temperature is not None and self.explore is not None:
            raise ConfigError(
                "policy: a temperature and exploration options; give one of the two, or neither for greedy"
            )
        if self.temperature is not None and not 0 < self.temperature < np.inf:
            raise ConfigError(f"policy: temperature {self.temperature}; a finite number above 0 is expected")
        if self.explore is not None and (self.utility is not None or self.rank == "handled"):
            raise ConfigError("policy: exploration goes by P(resolved); it has no utility and no rank but success")

    @property
    def described(self) -> str:
        """In words."""
        by = "utility" if self.utility is not None else f"rank {self.rank}" if self.rank else "its default rank"
        if self.explore is not None:
            return f"exploration {self.explore.name} (share {self.explore.share:g}, uniform {self.explore.uniform:g})"
        if self.temperature is not None:
            return f"softmax of scores by {by}, temperature {self.temperature:g}"
        return f"greedy by {by}"


@dataclass
class BundleTarget:
    """A bundle beside the log that it is judged on."""

    name: str
    rolling: RollingMatcher
    how: How
    until: int | None

    @classmethod
    def load(
        cls, bundle: str | Path, log: Log, how: How, name: str | None = None, digest: str | None = None
    ) -> BundleTarget:
        """Open a bundle. Raises BundleError where it cannot be trusted, ConfigError where it does not hold the log's
        CSAs, or lacks the rank that is asked for."""
        matcher = Matcher.load(bundle, digest)
        known_csas(matcher, log.csas.ids.to_pylist())
        if how.utility is not None or how.rank is not None:
            matcher.meaning(how.rank, how.utility)
        rolling = RollingMatcher(matcher, log)
        until = int(matcher.bundle.manifest.window["until"])
        return cls(name or Path(bundle).resolve().name, rolling, how, until)

    @property
    def described(self) -> str:
        """What it does, and which bundle it is."""
        which = self.rolling.bundle.manifest.id[:12]
        return f"{self.how.described}; bundle {which}, data until {format_time(self.until or 0)}"

    def probabilities(self, logged: Logged) -> Floats:
        """Asks the bundle about every round, in order of arrival."""
        found = np.zeros(len(logged.pairs.csa))
        contacts = self.rolling.contacts(logged.contact)
        explorer = None if self.how.explore is None else Explorer(self.how.explore, bytes(LEAST_KEY))
        for i in track(range(len(logged)), f"matching, {self.name}", len(logged), unit="contact"):
            part = slice(int(logged.pairs.offsets[i]), int(logged.pairs.offsets[i + 1]))
            found[part] = self._round(contacts.take(np.array([i])), logged, i, part, explorer)
        return found

    @cached_property
    def _ids(self) -> list[str]:
        ids: list[str] = self.rolling.log.csas.ids.to_pylist()
        return ids

    def _round(self, contact: ContactVectors, logged: Logged, i: int, part: slice, explorer: Explorer | None) -> Floats:
        codes = logged.pairs.csa[part]
        if explorer is not None:
            return self._explored(contact, codes, explorer, bool(logged.urgent[i]))
        scored = self._scored(contact, codes)
        if self.how.temperature is not None:
            score = scored.score.astype(np.float64) / self.how.temperature
            p = np.exp(score - score.max())
            return np.asarray(p / p.sum())
        found = np.zeros(len(codes))
        found[scored.best(1)[0]] = 1.0
        return found

    def _scored(self, contact: ContactVectors, codes: npt.NDArray[np.int64]) -> Scored:
        if self.how.utility is not None:
            return self.rolling.worth(contact, codes, self.how.utility)
        return self.rolling.score(contact, codes, self.how.rank)

    def _explored(
        self, contact: ContactVectors, codes: npt.NDArray[np.int64], explorer: Explorer, urgent: bool
    ) -> Floats:
        """Chances of an explorer, which do not depend on its key or on who the contact is."""
        ranked = self.rolling.rank(contact, codes, len(codes), "success")
        nothing = [None] * len(codes)
        p, uncertainty, logit = (
            nothing if one is None else one.tolist() for one in (ranked.p_resolved, ranked.uncertainty, ranked.logit)
        )
        options = [
            Candidate(self._ids[code], float(score), p[k], uncertainty[k], (), logit=logit[k])
            for k, (code, score) in enumerate(zip(ranked.codes.tolist(), ranked.score.tolist(), strict=True))
        ]
        decision = explorer.choose("", options, urgent=urgent)
        found = np.empty(len(codes))
        found[np.searchsorted(codes, ranked.codes)] = decision.propensities
        return found

    def vectors(self, logged: Logged) -> Vectors | None:
        """Profile vectors as of the window's beginning."""
        vectors: Vectors = self.rolling.roll(logged.begin).profiles(logged.begin)
        return vectors
