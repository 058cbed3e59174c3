"""What is asked of a generated centre. Every number of a centre follows from these fields and nothing else.

Notable: what makes a world harder draws from streams of its own, so that a centre that asks for none of it has the
bytes it had before these options were there.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from evaluation.generate import lexicon
from twotower.clock import DAY, parse_time
from twotower.errors import ConfigError

RANGES = (
    ("confounding", 0, 10),
    ("joiners", 0, 0.6),  # of the rest, some leave and some join anyway
    ("drift", 0, 0.99),
    ("launches", 0, 18),  # half of the catalogue's
    ("noise", 0, 1),
    ("propensity_error", 0, 5),
)


@dataclass(frozen=True)
class Settings:
    """The options of `twotower generate`."""

    contacts: int
    """How many contacts arrive."""
    csas: int
    """How many CSAs ever worked in the window, joiners and leavers included."""
    languages: tuple[str, ...] = ("en", "es", "de")
    """Languages of the centre, the most frequent first; CSA profiles are written in the first."""
    seed: int = 0
    """Chooses the world."""
    days: int = 180
    """Length of the window in days."""
    eligible: float = 25.0
    """Eligible CSAs aimed at per contact; a small roster gives fewer."""
    propensities: bool = False
    """Whether the queue logs the probability of its choice."""
    resolved_only: bool = False
    """Whether only hand-overs that resolved the contact are logged, as in logs of reviews or accepted answers."""
    confounding: float = 1.0
    """How many times as much as by default the queue prefers the fast, who are the worse on average; 0: not at all."""
    joiners: float = 0.0
    """Share of the CSAs who are new when the test begins, beyond those who join anyway (joiners.py)."""
    joiner_contacts: tuple[int, ...] = (0, 20, 50)
    """What these have been given before the test begins, at most: equal groups of them, one for each number."""
    drift: float = 0.0
    """How far CSAs' skills and what contacts are about move over the window: 1 − correlation of a skill's individual
    part with itself, from the first week to the last."""
    launches: int = 0
    """Intents that nobody has asked about before a day among the last `launch_days`, with a new product each."""
    launch_days: int = 28
    """Over how many of the last days launches are spread."""
    noise: float = 0.0
    """Share of the words in contacts' texts that are dropped, misspelt or replaced, and of the labels that are null."""
    propensity_error: float = 0.0
    """Standard deviation of log-normal errors in the logged propensities (queue.py)."""
    until: str = "2026-07-01T00:00:00Z"
    """End of the window (exclusive); everything is known ten days later."""

    def __post_init__(self) -> None:
        for name, least in (("contacts", 100), ("csas", 10), ("days", 28), ("eligible", 2)):
            if not getattr(self, name) >= least:
                raise ConfigError(f"--{name} {getattr(self, name)}: must be at least {least}")
        for name, low, high in RANGES:
            if not low <= getattr(self, name) <= high:
                option = name.replace("_", "-")
                raise ConfigError(f"--{option} {getattr(self, name)}: must be between {low:g} and {high:g}")
        if not 1 <= self.launch_days <= self.days:
            raise ConfigError(f"--launch-days {self.launch_days}: must be between 1 and the {self.days} of the window")
        if not self.joiner_contacts or min(self.joiner_contacts) < 0:
            given = ",".join(map(str, self.joiner_contacts))
            raise ConfigError(f"--joiner-contacts {given!r}: numbers from 0 with commas between were expected")
        if self.propensity_error and not self.propensities:
            raise ConfigError(f"--propensity-error {self.propensity_error}: needs --propensities, which it falsifies")
        parse_time(self.until, "--until")
        if self.seed < 0:
            raise ConfigError(f"--seed {self.seed}: must not be negative")
        lexicon.check(self.languages)

    @property
    def ends(self) -> int:
        """End of the window in µs UTC."""
        return parse_time(self.until, "--until")

    @property
    def begins(self) -> int:
        """Beginning of the window in µs UTC."""
        return self.ends - self.days * DAY

    @property
    def test_contacts(self) -> int:
        """Contacts in the test split: the last tenth by (arrived_at, contact_id), at least one."""
        return max(1, self.contacts // 10)

    def random(self, purpose: str) -> np.random.Generator:
        """A stream of random numbers of its own for each purpose, so that a change in one leaves the others alone."""
        return np.random.default_rng(np.random.SeedSequence([self.seed, *purpose.encode()]))
