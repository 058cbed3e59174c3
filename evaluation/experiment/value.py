"""What the effect is worth in money, by the prices of the plan.

Notable: value per contact = − (Δh + h Δr) · hour / 60 − Δr · repeat − Δa · abandoned + Δs · resolved, with handle
minutes h per contact that arrived (none where nobody took it), repeats r, abandonment a and resolution s. A repeat
costs its own handling as well: a mean over contacts does not show that there are more of them. The interval holds both
what chance makes of the effects (jackknife over what was drawn, so that outcomes that move together count together) and
how unsure prices are, by the delta method:

    Var = w' Σ w + Σ_k (∂V/∂price_k · sd · price_k)²,

w being the gradient by effects. It is of this look alone: it decides nothing and is not corrected for looking again.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from evaluation.experiment.effects import Setting, more_by_customers
from evaluation.experiment.outcomes import outcome_of
from evaluation.experiment.plan import Prices
from evaluation.experiment.stats.linear import Told
from evaluation.experiment.stats.multiple import jackknife
from twotower.clock import DAY

Doubles = npt.NDArray[np.float64]

PARTS = ("handle_minutes", "repeat", "abandoned", "resolved")
YEAR = 365


@dataclass(frozen=True)
class Part:
    """One outcome's share of the value."""

    metric: str
    effect: float
    """Per contact that arrived."""
    value: float
    """Per contact, in currency; more is better."""
    low: float
    high: float


@dataclass(frozen=True)
class Value:
    """Of the treatment beside the control."""

    currency: str
    parts: tuple[Part, ...]
    per_contact: float
    low: float
    high: float
    positive: float
    """Probability that it is more than nothing, as the interval has it."""
    contacts_a_year: float
    left_out: tuple[str, ...]
    """Outcomes that nobody measured."""

    @property
    def per_year(self) -> tuple[float, float, float]:
        """Value, low and high at the experiment's traffic."""
        each = self.contacts_a_year
        return self.per_contact * each, self.low * each, self.high * each


def value(setting: Setting) -> Value | None:
    """None where no priced outcome was measured."""
    cells, prices = setting.cells, setting.plan.prices
    columns = {name: _column(setting, name) for name in PARTS}
    measured = [name for name in PARTS if _both_arms(setting, columns[name])]
    if not measured:
        return None
    covariate = setting.column("covariate")
    outcomes = [outcome_of(cells, name, columns[name], covariate) for name in measured]
    sums = [each for one in outcomes for each in (one.n, one.s)]
    found = jackknife(np.stack(sums, axis=1), cells.arm, cells.cluster, _differences)
    found = found.wider(max(more_by_customers(setting, one) for one in outcomes))
    handle = 0.0
    if "handle_minutes" in measured:
        n, s = cells.sums(columns["handle_minutes"])
        handle = float(s[cells.arm == 0].sum() / n[cells.arm == 0].sum())
    gradient = _by_effects(prices, measured, handle)
    alpha, total = setting.plan.primary.alpha, np.ones(len(measured))
    whole = _told(found.value, found.covariance, found.df, gradient, prices, measured, handle, total)
    parts = []
    for i, name in enumerate(measured):
        one = _told(
            found.value, found.covariance, found.df, gradient, prices, measured, handle, np.eye(len(measured))[i]
        )
        parts.append(Part(name, float(found.value[i]), one.value, *one.interval(alpha)))
    low, high = whole.interval(alpha)
    positive = whole.below(0.0) if whole.se > 0 else float(whole.value > 0)
    a_year = float((cells.of >= 0).sum()) / (cells.time / DAY) * YEAR
    absent = tuple(name for name in PARTS if name not in measured)
    return Value(prices.currency, tuple(parts), whole.value, low, high, positive, a_year, absent)


def _column(setting: Setting, name: str) -> Doubles:
    """An outcome per contact that arrived."""
    column = setting.column(name)
    if name != "handle_minutes":
        return column
    return np.where(setting.frame["csa_id"].isna().to_numpy(), 0.0, column)


def _both_arms(setting: Setting, column: Doubles) -> bool:
    n, _ = setting.cells.sums(column)
    return all(int((n[setting.cells.arm == a] > 0).sum()) > 1 for a in (0, 1))


def _differences(control: Doubles, treatment: Doubles) -> Doubles:
    """Δ (…, M) of sums (…, 2M), contacts and values in turn."""
    return np.asarray(treatment[..., 1::2] / treatment[..., 0::2] - control[..., 1::2] / control[..., 0::2])


def _by_effects(prices: Prices, measured: list[str], handle: float) -> Doubles:
    """∂V/∂Δ."""
    weight = {
        "handle_minutes": -prices.csa_hour / 60, "repeat": -prices.repeat - handle * prices.csa_hour / 60,
        "abandoned": -prices.abandoned, "resolved": prices.resolved,
    }  # fmt: skip
    return np.array([weight[name] for name in measured])


def _told(
    effects: Doubles, covariance: Doubles, df: float, gradient: Doubles, prices: Prices, measured: list[str],
    handle: float, kept: Doubles,
) -> Told:  # fmt: skip
    """The value of those effects that are kept (M,), with both kinds of error."""
    w, own = gradient * kept, dict(zip(measured, effects * kept, strict=True))
    repeat = own.get("repeat", 0.0)
    by_price = np.array([
        (own.get("handle_minutes", 0.0) + handle * repeat) / 60 * prices.csa_hour, repeat * prices.repeat,
        own.get("abandoned", 0.0) * prices.abandoned, own.get("resolved", 0.0) * prices.resolved,
    ])  # fmt: skip
    variance = float(w @ covariance @ w) + float((by_price**2).sum()) * prices.sd**2
    return Told(float(w @ effects), math.sqrt(variance), df)
