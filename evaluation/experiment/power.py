"""How sure an experiment will be, by formula: its standard error, power, the smallest effect that it finds.

Notable: whatever the design, its error is a standard error with so many degrees of freedom, so power is that of the
noncentral t (as statsmodels' `ttest_power` has it, which is not defined for what is nearly sure). Where one may look at
any time, a confidence sequence has to leave out 0, which takes about one and a half times the effect; that is `reach`.
What an arm leaves to the next block is taken off the effect before it is looked for.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from evaluation.experiment.design_blocks import Blocks, Parts
from evaluation.experiment.plan import Pause
from evaluation.experiment.schedule import cut
from evaluation.experiment.stats.sequential import best_rho, times_standard_error_t
from twotower.clock import HOUR

Doubles = npt.NDArray[np.float64]

TUNED = 0.5
"""As `Stopping.tuned` where nobody says otherwise: share of the planned cells at which a sequence is tightest."""


@dataclass(frozen=True)
class Precision:
    """What an experiment will know at its end."""

    se: float
    """Standard error of the effect, in the metric's units."""
    df: float
    contacts: float
    """That count."""
    clock: float = math.inf
    """How far the evidence is, as `monitor.py` counts it: equal blocks that would know as much, of clusters 1 / se²."""
    tuned: float = math.inf
    """Where on that clock a confidence sequence is tightest; infinite: there is none."""
    kept: float = 1.0
    """Share of the effect that is seen: what an arm leaves to the next block takes the rest."""

    def power(self, effect: float, alpha: float, always: bool = False) -> float:
        """Chance that an effect (absolute) is found; always: by the confidence sequence at the end, a lower bound as it
        may have been found before."""
        from scipy.special import nctdtr, stdtrit

        if not (self.df > 0 and math.isfinite(self.se)):
            return 0.0
        shift = self.kept * abs(effect) / self.se
        reach = self.reach(alpha) if always else float(stdtrit(self.df, 1 - alpha / 2))
        if not math.isfinite(reach):
            return 0.0
        within = float(nctdtr(self.df, shift, reach))
        if math.isnan(within):
            return 1.0 if shift > reach else 0.0
        # The far side is so small that scipy does not always find it.
        return min(1.0, 1 - within + float(np.nan_to_num(nctdtr(self.df, shift, -reach))))

    def smallest(self, power: float, alpha: float, always: bool = False) -> float:
        """The smallest effect (absolute) that is found with `power`; infinite where none is."""
        from scipy.optimize import brentq

        if not (self.df > 0 and math.isfinite(self.se) and self.se > 0):
            return math.inf
        if always and not math.isfinite(self.reach(alpha)):
            return math.inf
        high = self.se
        while self.power(high, alpha, always) < power:
            high *= 2
            if high > 1e6 * self.se:
                return math.inf
        return float(brentq(lambda effect: self.power(effect, alpha, always) - power, 0.0, high, xtol=1e-6 * high))

    def reach(self, alpha: float) -> float:
        """Standard errors to either side of a confidence sequence at the end."""
        if not math.isfinite(self.tuned):
            return math.inf
        return float(times_standard_error_t(self.clock, self.df, best_rho(self.tuned, alpha), alpha))

    def held(self, margin: float, alpha: float, always: bool = False) -> float:
        """Chance that a guardrail of this margin (absolute) holds, one-sided at `alpha`, where nothing changes."""
        from scipy.special import stdtr, stdtrit

        if not (self.df > 0 and math.isfinite(self.se) and self.se > 0):
            return 0.0
        least = self.reach(2 * alpha) if always else float(stdtrit(self.df, 1 - alpha))
        return float(stdtr(self.df, margin / self.se - least)) if math.isfinite(least) else 0.0


def of_blocks(
    blocks: Blocks, parts: Parts, begins: int, days: float, wash_minutes: float, kept: float = 1.0,
    pauses: Sequence[Pause] = (), more: float = 0.0,
) -> Precision:  # fmt: skip
    """A switchback of one unit, blocks in pairs, from `begins` (µs UTC) on. The difference of the arms' means over
    contacts has the variance (2/N)² Σ_b (n_b² σ_b² + n_b σ_w²) over blocks, times `uneven`; every second block begins
    with a change and loses the wash-out; degrees of freedom by Satterthwaite over pairs of blocks. Blocks that meet a
    pause are no part of it.

    more: of m₁ − (1 + more) m₀, as a relative margin is tested: the control's blocks weigh more, and what slots of the
    week differ by does not cancel within a pair."""
    step = round(blocks.hours * HOUR)
    many = max(1, round(days * 24 / blocks.hours))
    at, _ = cut(begins, begins + many * step, blocks.hours, pauses)
    slot = (at - begins + (begins - blocks.first) // step * step) // step % blocks.n.shape[1]
    lost = min(0.5 * wash_minutes / (60 * blocks.hours), 0.5)
    n = blocks.weekly[slot] * (1 - lost)
    total = float(n.sum())
    if total <= 0:
        return Precision(math.inf, 0.0, 0.0)
    own = parts.uneven * (n**2 * parts.between + n * parts.within) * (1 + (1 + more) ** 2) / 2
    own += 0.5 * more**2 * (n * _beyond(blocks)[slot]) ** 2
    se = 2 / total * math.sqrt(float(own.sum()))
    pairs = float(own.sum()) ** 2 / float((own**2).sum()) / 2
    cells = total**2 / float((n**2).sum())
    return Precision(se, max(pairs - 1, 0.0), total, cells, TUNED * cells, kept)


def _beyond(blocks: Blocks) -> Doubles:
    """(P,) means of slots of the week less that of all contacts; 0 where a slot has none."""
    n, s = ((one * blocks.inside).sum(axis=0) for one in (blocks.n, blocks.s))
    mean = s.sum() / max(float(n.sum()), 1e-300)
    return np.asarray(np.where(n > 0, s / np.where(n > 0, n, 1.0) - mean, 0.0), np.float64)


def of_clusters(sizes: Doubles, apart: float, within: float, contacts: float, information: float) -> Precision:
    """Clusters in pairs that are alike. sizes (C,): shares of contacts, neighbours are a pair; apart: σ_c², of what
    each of a pair differs by; within: σ_w² of contacts. Over `contacts` of all; information: 1 / se² that the plan
    wants."""
    pairs = len(sizes) // 2
    used = sizes[: 2 * pairs]
    n = used / used.sum() * contacts
    own = n**2 * apart + n * within
    se = 2 / contacts * math.sqrt(float(own.sum()))
    by_pair = own[::2] + own[1::2]
    df = float(by_pair.sum()) ** 2 / float((by_pair**2).sum()) - 1
    return Precision(se, max(df, 0.0), contacts, 1 / se**2, information)


def wanted(effect: float, alpha: float, power: float) -> float:
    """1 / se² with which an effect is found with a power, as `monitor.py` has it."""
    from scipy.special import ndtri

    return (float(ndtri(1 - alpha / 2) + ndtri(power)) / effect) ** 2


def of_customers(
    contacts: float, variance: float, again: float, customer_icc: float, csa: float, csas: float, windows: float
) -> Precision:
    """Customers by arm, CSAs in pools that are drawn anew in every window.

    again: Σ m² / Σ m of contacts m of a customer within the experiment; csa: variance between CSAs' means; csas: how
    many equal ones take contacts in a window. Contacts 4 σ² (1 + (again − 1) ICC) / N, pools 4 σ_a² / (csas · windows).
    """
    if contacts <= 0 or windows < 2 or csas < 2:
        return Precision(math.inf, 0.0, contacts)
    of_contacts = 4 * variance * (1 + max(again - 1, 0.0) * customer_icc) / contacts
    of_pools = 4 * csa / (csas * windows)
    return Precision(math.sqrt(of_contacts + of_pools), windows - 1, contacts, 2 * windows, 2 * TUNED * windows)


def as_if_independent(contacts: float, variance: float) -> Precision:
    """Every contact by a coin and nothing in common: what a unit-level A/B would claim."""
    return Precision(2 * math.sqrt(variance / max(contacts, 1e-300)), max(contacts - 2, 0.0), contacts)
