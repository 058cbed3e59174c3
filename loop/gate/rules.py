"""What a challenger has to show before it may take the champion's place, as a file says it and as it is decided.

Notable: every rule is one of non-inferiority: with stated confidence the challenger is not worse by more than a margin.
"Not proven better" does not stop it, or a model would never be replaced by one that is as good and fresher; "not
proven worse" does not let it pass, or little data would let anything pass. A rule that could not be asked (no outcomes,
no propensities) is said to be so, and passes only where the file says that it may.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

NotNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(gt=0.5, lt=1)]


class Strict(BaseModel):
    """A part of the file."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Margin(Strict):
    """How much worse is still not worse."""

    margin: NotNegative
    missing: Literal["fails", "passes"] = "fails"
    """What becomes of the rule where the data cannot answer it."""


class Ratio(Strict):
    """At most so many times the champion's."""

    most: Annotated[float, Field(gt=0)]


class GateSpec(Strict):
    """The file. A part that is null is not asked."""

    confidence: Share = 0.95
    """Of each one-sided bound."""
    ranking: Margin | None = Margin(margin=0.01)
    """MRR@10 on the newest window, per contact."""
    outcomes: Margin | None = Margin(margin=0.005, missing="passes")
    """Log loss of P(resolved) there, nats a hand-over."""
    calibration: Margin | None = Margin(margin=0.01, missing="passes")
    """Expected calibration error beyond chance: the challenger's less the champion's."""
    bands: Margin | None = Margin(margin=0.03, missing="passes")
    """Log loss in the worst band of language, queue and tenure; the confidence is shared among the bands."""
    band_least: Annotated[int, Field(ge=20)] = 200
    """Hand-overs that make a band."""
    value: Margin | None = Margin(margin=0.01, missing="passes")
    """Off-policy value of who would be chosen, P(resolved)."""
    waits: Margin | None = Margin(margin=10.0, missing="passes")
    """Simulated mean wait, s."""
    latency: Ratio | None = Ratio(most=1.5)
    """Processor's time of a match on this host, 99 %."""
    size: Ratio | None = Ratio(most=1.5)
    """Bytes of the bundle."""


@dataclass(frozen=True)
class Check:
    """One rule, as it was decided."""

    rule: str
    passed: bool
    said: str
    """In words, with the figures."""
    champion: float | None = None
    challenger: float | None = None
    worse: float | None = None
    """By how much the challenger is worse; negative: better."""
    bound: float | None = None
    """The most that it is worse, at the confidence asked for."""
    margin: float | None = None

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "rule": self.rule, "passed": self.passed, "said": self.said, "champion": self.champion,
            "challenger": self.challenger, "worse": self.worse, "bound": self.bound, "margin": self.margin,
        }  # fmt: skip


@dataclass(frozen=True)
class Decision:
    """Whether the challenger may be promoted, and why, line by line."""

    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """All rules have; without a rule nothing has."""
        return bool(self.checks) and all(check.passed for check in self.checks)

    def lines(self) -> list[str]:
        """One a rule, and the verdict."""
        found = [f"{'pass' if check.passed else 'FAIL'}  {check.rule:<12} {check.said}" for check in self.checks]
        failed = [check.rule for check in self.checks if not check.passed]
        verdict = "promoted" if self.passed else f"kept out by {', '.join(failed)}" if failed else "no rule was asked"
        return [*found, f"the challenger is {verdict}" if failed or self.passed else verdict]


def not_worse(
    rule: str, unit: str, champion: float, challenger: float, worse: float, bound: float, margin: float, where: str = ""
) -> Check:
    """A rule of non-inferiority. worse: the estimate; bound: its upper confidence limit."""
    passed = bound <= margin  # NaN fails
    by = "worse" if worse > 0 else "better"
    said = (
        f"{challenger:.4f} {unit} against {champion:.4f}{where}: {abs(worse):.4f} {by}, at most {bound:.4f} worse "
        f"(margin {margin:g})"
    )
    return Check(rule, passed, said, champion, challenger, worse, bound, margin)


def unanswered(rule: str, why: str, spec: Margin) -> Check:
    """A rule that the data cannot answer."""
    passes = spec.missing == "passes"
    return Check(rule, passes, f"not asked: {why}" + ("" if passes else "; it has to be answered"))


def at_most(rule: str, unit: str, champion: float, challenger: float, spec: Ratio) -> Check:
    """A rule of size or time."""
    times = challenger / champion if champion > 0 else float("inf")
    said = f"{challenger:,.4g} {unit} against {champion:,.4g}, {times:.2f} times (at most {spec.most:g})"
    return Check(rule, times <= spec.most, said, champion, challenger, times, None, spec.most)


def decided(checks: Sequence[Check]) -> Decision:
    """All of them together."""
    return Decision(tuple(checks))
