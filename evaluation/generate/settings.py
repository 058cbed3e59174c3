"""What is asked of a generated centre. Every number of a centre follows from these fields and nothing else."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from evaluation.generate import lexicon
from twotower.clock import DAY, parse_time
from twotower.errors import ConfigError


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
    until: str = "2026-07-01T00:00:00Z"
    """End of the window (exclusive); everything is known ten days later."""

    def __post_init__(self) -> None:
        for name, least in (("contacts", 100), ("csas", 10), ("days", 28), ("eligible", 2)):
            if not getattr(self, name) >= least:
                raise ConfigError(f"--{name} {getattr(self, name)}: must be at least {least}")
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
