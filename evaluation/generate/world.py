"""What contacts need: a point in a space of 16 dimensions that the words describe and the intent label does not.

    need(x) = issue(x) + Σ_slot offset[slot, value(x)] + private(x)
    issue(x) = centre[intent] + offset[product]                                  one issue
             = (w·issue₁ + (1 − w)·issue₂) / √(w² + (1 − w)²), w = 0.65            two issues

Centres and offsets are Gaussian, centred under the popularity of their values and scaled so that each part has its
share of a unit variance per dimension (`SHARES`). Line of business and intent together hold 36 %: a model that reads
the label alone is blind to the rest. Slots and product hold 57 %, and every one of their values is put in words
(writing.py); 7 % is private to the contact and can be learnt by nobody.

How often a value occurs depends on the intent (log-normal weights), and intents come and go over the weeks, farther
under `drift` (drift.py), with needs scaled under the shares without it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from evaluation.generate import catalogue
from evaluation.generate.drift import walked_shares, weeks
from evaluation.generate.settings import Settings

Floats = npt.NDArray[np.float64]

DIMENSIONS = 16
SHARES = {
    "domain": 0.14,
    "intent": 0.22,
    "product": 0.15,
    "cause": 0.17,
    "circumstance": 0.11,
    "tried": 0.07,
    "goal": 0.07,
    "private": 0.07,
}
"""Share of the variance of a need that each part holds."""
FIRST_ISSUE = 0.65
"""Weight w of the first of two issues."""
DIFFICULTY_SD = {"intent": 0.35, "cause": 0.25, "circumstance": 0.20, "private": 0.25}
"""Logits by which a value makes a contact harder for every CSA alike."""


@dataclass(frozen=True)
class World:
    """Needs, difficulties and frequencies of everything a contact can be about."""

    weekly: Floats
    """(weeks, intents) cumulative probability of an intent in a week."""
    within_domain: Floats
    """(domains, 4) cumulative probability of an intent given its line of business."""
    domain: Floats
    """(domains,) cumulative probability."""
    product: Floats
    """(intents, 5) cumulative probability of a product of the intent's line of business."""
    slot: dict[str, Floats]
    """slot → (intents, values) cumulative probability."""
    domain_centre: Floats
    """(domains, D) mean need of a line of business."""
    issue: Floats
    """(intents, 5, D) need of an intent about a product."""
    offset: dict[str, Floats]
    """slot → (values, D)."""
    difficulty: dict[str, Floats]
    """intent, cause, circumstance → (values,) logits."""


def draw_world(settings: Settings) -> World:
    """Draws a world; it depends on the seed, the number of weeks and the drift alone."""
    random = settings.random("world")
    intents, domains = len(catalogue.INTENTS), len(catalogue.DOMAINS)
    domain_of = np.array(catalogue.INTENT_DOMAIN)
    weekly = _weekly(random, weeks(settings), intents)
    share = weekly.mean(axis=0)
    product = _weights(random, (intents, catalogue.PER_INTENT), 0.6)
    slots = {
        name: _plausible(values, _weights(random, (intents, len(values)), 0.8))
        for name, values in catalogue.SLOTS.items()
    }

    domain_share = share.reshape(domains, -1).sum(axis=1)
    domain_centre = _offsets(random, domain_share, SHARES["domain"])
    intent_centre = domain_centre[domain_of] + _offsets(random, share, SHARES["intent"])
    product_offset = _product_offsets(random, share, product)
    offset = {name: _offsets(random, share @ weights, SHARES[name]) for name, weights in slots.items()}
    difficulty = {"intent": random.normal(0, DIFFICULTY_SD["intent"], intents)}
    difficulty |= {
        name: random.normal(0, DIFFICULTY_SD[name], len(catalogue.SLOTS[name])) for name in ("cause", "circumstance")
    }
    within = share.reshape(domains, -1)
    return World(
        weekly=_cumulative(walked_shares(settings, weekly)),
        within_domain=_cumulative(within / within.sum(axis=1, keepdims=True)),
        domain=_cumulative(domain_share),
        product=_cumulative(product),
        slot={name: _cumulative(weights) for name, weights in slots.items()},
        domain_centre=domain_centre,
        issue=intent_centre[:, None, :] + product_offset[domain_of],
        offset=offset,
        difficulty={name: values - values.mean() for name, values in difficulty.items()},
    )


def choose(cumulative: Floats, uniform: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
    """A value per row from cumulative probabilities, (values,) or (n, values), and uniform numbers (n,)."""
    return np.asarray((uniform[:, None] >= cumulative[..., :-1]).sum(axis=-1), dtype=np.int64)


def _weekly(random: np.random.Generator, weeks: int, intents: int) -> Floats:
    """(weeks, intents) probabilities: log-normal popularity times a slow wave of its own for each intent."""
    popularity = np.exp(random.normal(0, 0.5, intents))
    phase, periods = random.uniform(0, 2 * np.pi, intents), random.uniform(0.5, 2.5, intents)
    at = np.arange(weeks)[:, None] / weeks
    weights = popularity * np.exp(0.4 * np.sin(phase + 2 * np.pi * periods * at))
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


def _weights(random: np.random.Generator, shape: tuple[int, int], spread: float) -> Floats:
    weights = np.exp(random.normal(0, spread, shape))
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


def _plausible(values: tuple[str, ...], weights: Floats) -> Floats:
    """(intents, values) without the values that make no sense in the intent's line of business."""
    names = [tuple(catalogue.DOMAINS)[domain] for domain in catalogue.INTENT_DOMAIN]
    sense = np.array([[name in catalogue.ONLY_IN.get(value, names) for value in values] for name in names])
    return np.asarray(weights * sense / (weights * sense).sum(axis=1, keepdims=True))


def _offsets(random: np.random.Generator, frequency: Floats, share: float) -> Floats:
    """(values, D) Gaussian offsets of mean 0 and variance `share` per dimension under `frequency`."""
    offsets = random.normal(0, 1, (len(frequency), DIMENSIONS))
    offsets -= frequency @ offsets / frequency.sum()
    variance = (frequency @ (offsets**2).mean(axis=1)) / frequency.sum()
    return np.asarray(offsets * np.sqrt(share / variance))


def _product_offsets(random: np.random.Generator, share: Floats, product: Floats) -> Floats:
    """(domains, 5, D), centred within each line of business, so that products add to what the label tells."""
    per_domain = (share[:, None] * product).reshape(len(catalogue.DOMAINS), -1, catalogue.PER_INTENT).sum(axis=1)
    return np.stack([_offsets(random, frequency, SHARES["product"]) for frequency in per_domain])


def _cumulative(probability: Floats) -> Floats:
    return np.asarray(np.cumsum(probability, axis=-1) / probability.sum(axis=-1, keepdims=True))
