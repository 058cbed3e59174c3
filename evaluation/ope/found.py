"""What an off-policy evaluation found: answers or refusals, and all that they rest on."""

from __future__ import annotations

from dataclasses import dataclass, field

from evaluation.ope.balance import Balance
from evaluation.ope.intervals import Estimate
from evaluation.ope.logged import LeftOut
from evaluation.ope.outcome import Quality
from evaluation.ope.overlap import Gates, Overlap
from evaluation.ope.queue_model import Checked
from evaluation.ope.rounds import Floats
from evaluation.ope.sensitivity import Sensitivity


@dataclass(frozen=True)
class Answer:
    """One policy and one metric. Where `refused` says why, there is no number."""

    policy: str
    metric: str
    refused: tuple[str, ...]
    overlap: Overlap
    estimates: dict[str, Estimate] = field(default_factory=dict)
    """By the names of `estimators.NAMES`."""
    less_logged: dict[str, Estimate] = field(default_factory=dict)
    """The same less what the log's own policy earned, paired."""
    less_first: Estimate | None = None
    """By the chosen estimator, less the first policy that was answered."""
    withheld: dict[str, str] = field(default_factory=dict)
    """Estimators that this answer does without, and why."""
    threshold: float | None = None
    """τ of Switch-DR."""
    groups: tuple[int, int] | None = None
    """Of MIPS: groups, and CSAs."""
    marginal: Overlap | None = None
    """Of the weights of MIPS."""
    sensitivity: Sensitivity | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Policy:
    """One policy that was asked about."""

    name: str
    described: str
    balances: tuple[Balance, ...]
    weight: Floats
    """(n,) of all rounds, for the picture."""


@dataclass(frozen=True)
class Logging:
    """What the log's own policy earned: its mean reward, and how many of the rounds tell it."""

    value: Estimate
    known: int


@dataclass(frozen=True)
class Found:
    """All of it."""

    data: str
    begin: str
    end: str
    rounds: int
    clusters: int
    cluster: str
    candidates: float
    """Mean number of who could have been chosen."""
    left_out: LeftOut
    decided_by: dict[str, int]
    source: str
    """`logged` or `estimated`: where propensities come from."""
    estimator: str
    confidence: float
    gates: Gates
    policies: tuple[Policy, ...]
    logging: dict[str, Logging]
    """By metric."""
    judges: dict[str, Quality]
    """By metric, where enough is known for a model."""
    queue: Checked | None
    """The model of the queue, where one was fitted."""
    answers: tuple[Answer, ...]
    notes: tuple[str, ...]

    @property
    def refused(self) -> bool:
        """Whether anything that was asked is not answered."""
        return any(one.refused for one in self.answers)

    def of(self, metric: str) -> list[Answer]:
        """The answers of one metric, in the order of the policies."""
        return [one for one in self.answers if one.metric == metric]
