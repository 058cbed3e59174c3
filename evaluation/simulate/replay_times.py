"""How long hand-overs of a log take and how long its customers wait, as a centre's distributions.

Notable: handling times are lognormal with a mean of the logarithm of class + CSA + pair. Each part is shrunk to nothing
as far as it differs by no more than chance (empirical Bayes, `twotower/features/engine/shrink.py`), so a pair that met
once is as its CSA and class say. Patience is the product-limit estimate (Kaplan and Meier, "Nonparametric estimation
from incomplete observations", JASA 53:457–481, 1958): who abandoned tells their patience, who was taken tells that
theirs was longer. What a contact of the log itself tells of its patience is kept.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from evaluation.simulate.replay_window import Window
from twotower.clock import NEVER
from twotower.errors import ConfigError
from twotower.features.engine.shrink import mean_strength

Doubles = npt.NDArray[np.float64]
Longs = npt.NDArray[np.int64]
LEAST_S = 1.0
LEAST_LOST = 30
"""Contacts of a channel that abandoned, from which on it has a patience of its own."""


@dataclass(frozen=True)
class Handling:
    """Lognormal handling times: mean seconds (K, J) of all CSAs of the log, sigma (K,) of the logarithm."""

    mean_s: Doubles
    sigma: Doubles
    known: int
    """Hand-overs that told how long they took."""


def handling(window: Window) -> Handling:
    """From all hand-overs of the log with a duration. Raises ConfigError where there is none."""
    moves = window.log.handovers
    took = moves.handle_time_s.astype(np.float64)
    ended = moves.ended_at != NEVER
    took = np.where(np.isnan(took) & ended, (moves.ended_at - moves.assigned_at) / 1e6, took)
    told = np.flatnonzero(took > 0)
    if not len(told):
        raise ConfigError("centre: no hand-over tells how long it took (handle_time_s, or ended_at)")
    log = np.log(np.maximum(took[told], LEAST_S))
    csa, contact = moves.csa[told].astype(np.int64), moves.contact[told]
    k, j = len(window.classes), len(window.log.csas)
    channel = window.channel.code[contact]
    # Of a channel without hand-overs of its own, what all take.
    by_channel = np.full(len(window.channel.names), log.mean())
    many = np.bincount(channel, minlength=len(by_channel))
    by_channel[many > 0] = np.bincount(channel, log, len(by_channel))[many > 0] / many[many > 0]
    mean = by_channel[channel]
    kind, inside = window.kind[contact], window.kind[contact] >= 0
    of_kind = _effects(log[inside] - mean[inside], kind[inside], k)
    mean = mean + np.where(inside, of_kind[kind], 0.0)
    of_csa = _effects(log - mean, csa, j)
    mean = mean + of_csa[csa]
    pair = kind[inside] * j + csa[inside]
    of_pair = _effects((log - mean)[inside], pair, k * j)
    mean[inside] += of_pair[pair]
    sigma = _sigmas((log - mean)[inside], kind[inside], k, float((log - mean).std()))
    centre = by_channel[window.parts[:, 2]] + of_kind
    means = np.exp(centre[:, None] + of_csa[None, :] + of_pair.reshape(k, j) + sigma[:, None] ** 2 / 2)
    return Handling(means, sigma, len(told))


def _effects(residual: Doubles, group: Longs, size: int) -> Doubles:
    """(size,) how far groups lie off 0, each shrunk by how far groups differ beyond chance."""
    weight = np.bincount(group, minlength=size).astype(np.float64)
    total, squared = (np.bincount(group, values, size).astype(np.float64) for values in (residual, residual**2))
    return np.asarray(total / (weight + mean_strength(total, squared, weight, weight, np.zeros(size))))


def _sigmas(residual: Doubles, kind: Longs, size: int, overall: float, worth: float = 50.0) -> Doubles:
    """(K,) of the logarithm, a class's own as far as it has hand-overs."""
    many = np.bincount(kind, minlength=size)
    squared = np.bincount(kind, residual**2, size)
    return np.asarray(np.sqrt((squared + worth * overall**2) / (many + worth)))


@dataclass(frozen=True)
class Survival:
    """Share S(t) of customers who still wait after `at` seconds (steps, ascending); 1 before the first."""

    at: Doubles
    share: Doubles

    def still(self, seconds: Doubles) -> Doubles:
        """S (n,) just after seconds (n,)."""
        place = np.searchsorted(self.at, seconds, side="right")
        return np.concatenate([[1.0], self.share])[place]

    def drawn(self, uniform: Doubles, beyond: Doubles) -> Doubles:
        """Patience (n,) given that it is longer than `beyond` (n,), by uniform numbers; infinite where nobody was seen
        to abandon any later."""
        target = self.still(beyond) * uniform
        # The first step at which no more than the target is left.
        place = np.searchsorted(-self.share, -target, side="left")
        return np.concatenate([self.at, [np.inf]])[place]


def product_limit(seconds: Doubles, lost: npt.NDArray[np.bool_]) -> Survival:
    """Kaplan and Meier's S(t) of waits (n,), which end by abandonment where `lost`, else by a CSA's taking it."""
    order = np.lexsort((~lost, seconds))  # who leaves at a moment was there at it
    times, gone = seconds[order], lost[order]
    left = np.arange(len(times), 0, -1)
    at, first = np.unique(times, return_index=True)
    deaths = np.add.reduceat(gone.astype(np.int64), first) if len(first) else np.zeros(0, np.int64)
    share = np.asarray(np.cumprod(1 - deaths / left[first]), np.float64)
    step = deaths > 0
    return Survival(at[step], share[step])


def patience(window: Window, random: np.random.Generator) -> tuple[Doubles, dict[str, Survival]]:
    """Seconds (N,) that the window's contacts wait, and by channel the S(t) that they come from, `""` for all.

    Who abandoned in the log waits as long as they did; of the others, patience is drawn given that it was longer than
    their wait. Of a channel with fewer than `LEAST_LOST` who abandoned, S(t) is that of all channels.
    """
    contacts, moves = window.log.contacts, window.log.handovers
    first = np.full(len(contacts), NEVER)
    np.minimum.at(first, moves.contact, moves.assigned_at)
    lost = contacts.abandoned_at < first
    end = np.where(lost, contacts.abandoned_at, first)
    known = end != NEVER
    wait = np.where(known, np.maximum(end - contacts.arrived_at, 0) / 1e6, 0.0)
    found = {"": product_limit(wait[known], lost[known])}
    own = np.full(len(window), np.inf)
    uniform, channel = 1.0 - random.random(len(window)), window.channel.code
    for code in np.unique(channel[window.rows]).tolist():
        of = known & (channel == code)
        survival = found[""]
        if (lost & of).sum() >= LEAST_LOST:
            survival = found[window.channel.names[code]] = product_limit(wait[of], lost[of])
        mine = channel[window.rows] == code
        own[mine] = survival.drawn(uniform[mine], wait[window.rows][mine])
    return np.where(lost[window.rows], wait[window.rows], own), found
