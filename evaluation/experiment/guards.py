"""Guardrails: metrics that must not get worse by more than a margin, and secondary metrics that decide nothing.

Notable: a guardrail is a test of non-inferiority. It is *held* only where harm as large as the margin is ruled out at
the guardrail's level; that nothing was found is no proof, so what is neither ruled out nor shown stays *open*. To ship,
all must be held (an intersection–union test: no level is spent by asking for more of them, only power). A relative
margin m is tested as m₁ − (1 + m) m₀, without a ratio. Where one may look at any time, the bounds are those of the
confidence sequence.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from evaluation.experiment.effects import Effect, Means, Setting, effect
from evaluation.experiment.monitor import Path, path
from evaluation.experiment.outcomes import Outcome
from evaluation.experiment.plan import Guardrail
from evaluation.experiment.stats.multiple import discoveries

State = Literal["held", "open", "broken", "not measured"]
WORDS = {
    "held": "harm beyond the margin is ruled out",
    "open": "harm beyond the margin is neither ruled out nor shown",
    "broken": "harm beyond the margin is shown",
    "not measured": "nobody measured it",
}


@dataclass(frozen=True)
class Guard:
    """One guardrail. Harm is the change for the worse, in the metric's units; of a relative margin, as a share."""

    of: Guardrail
    state: State
    control: float = math.nan
    treatment: float = math.nan
    harm: float = math.nan
    low: float = -math.inf
    """Of harm, one-sided, each at the guardrail's level."""
    high: float = math.inf
    p: float = 1.0
    """Of the hypothesis that harm is as large as the margin, at this look alone."""
    broken_at: int | None = None
    """When the confidence sequence first showed harm beyond the margin, µs UTC."""
    seen: Path | None = None
    """Of plans that are always valid: the sequence of m₁ − m₀, of a relative margin less (plus) that margin's share of
    m₀."""

    @property
    def said(self) -> str:
        """The state in words."""
        return WORDS[self.state]


def guard(setting: Setting, asked: Guardrail, outcome: Outcome | None) -> Guard:
    """How a guardrail stands; None: nobody measured it."""
    if outcome is None or not (outcome.n > 0).any():
        return Guard(asked, "not measured")
    means = Means(setting, outcome)
    control, treatment = outcome.means(setting.cells.arm)
    sign = 1.0 if asked.better == "lower" else -1.0
    scale = control if asked.relative else 1.0
    more = asked.margin if asked.relative else 0.0
    fixed = 0.0 if asked.relative else asked.margin
    # Harm beyond the margin: sign (m₁ − m₀) − margin, of a relative one sign (m₁ − m₀) − margin · m₀.
    told = means.of(-sign - more, sign)
    low, high = told.interval(2 * asked.alpha)
    p, broken_at, seen = told.below(fixed), None, None
    if setting.plan.stopping.rule == "always_valid":
        seen = path(setting, outcome, 2 * asked.alpha, sign * more)
        low, high = _last(seen, sign)
        broken_at = _broken(seen, sign, fixed)
    state: State = "held" if high < fixed else "broken" if low > fixed or broken_at is not None else "open"
    # Back from "beyond the margin" to the change itself.
    shift, unit = (asked.margin, abs(scale)) if asked.relative else (0.0, 1.0)
    if not unit:
        return Guard(asked, "open", control, treatment, seen=seen)
    harm, low, high = (each / unit + shift for each in (told.value, low, high))
    return Guard(asked, state, control, treatment, harm, low, high, p, broken_at, seen)


def _last(seen: Path, sign: float) -> tuple[float, float]:
    """Bounds of sign × the sequence at the last look."""
    if not len(seen.value):
        return -math.inf, math.inf
    low, high = float(seen.low[-1]), float(seen.high[-1])
    return (low, high) if sign > 0 else (-high, -low)


def _broken(seen: Path, sign: float, margin: float) -> int | None:
    low = seen.low if sign > 0 else -seen.high
    beyond = np.flatnonzero(low > margin)
    return int(seen.known_at[beyond[0]]) if len(beyond) else None


@dataclass(frozen=True)
class Secondary:
    """An effect that decides nothing, among several."""

    effect: Effect
    q: float
    """Adjusted p (Benjamini & Hochberg): found at a false-discovery rate of the plan's `fdr` if at most that."""
    q_any: float
    """The same whatever the metrics' dependence (Benjamini & Yekutieli)."""
    found: bool


def secondary(setting: Setting, outcomes: dict[str, Outcome]) -> tuple[Secondary, ...]:
    """The plan's secondary metrics that somebody measured in both arms."""
    plan = setting.plan
    there = [name for name in plan.secondary if name in outcomes and min(setting.known_in(name, outcomes[name])) > 1]
    effects = [effect(setting, outcomes[name], plan.primary.alpha) for name in there]
    p = [one.p for one in effects]
    q, q_any = discoveries(p), discoveries(p, dependent=True)
    return tuple(
        Secondary(one, float(a), float(b), bool(a <= plan.fdr)) for one, a, b in zip(effects, q, q_any, strict=True)
    )
