"""When contacts arrive, from whom, and what each needs.

Arrivals follow the hour and the weekday, days differ by a log-normal factor, and e-mail is fetched every half-hour,
so that many contacts share a second. Customers return (their ranks follow a power law), keep to one line of business
about half the time and own one of its products. How upset somebody is depends on temper, cause and what was tried.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from evaluation.generate import catalogue, launches
from evaluation.generate.people import Customers, language_shares
from evaluation.generate.settings import Settings
from evaluation.generate.world import DIFFICULTY_SD, DIMENSIONS, FIRST_ISSUE, SHARES, World, choose
from twotower.clock import DAY, HOUR, SECOND

Codes = npt.NDArray[np.int8]
Ints = npt.NDArray[np.int64]
Single = npt.NDArray[np.float32]

HOURS = (2, 1, 1, 1, 1.5, 3, 8, 20, 40, 60, 70, 70, 60, 60, 65, 65, 60, 55, 50, 40, 30, 20, 10, 5)
WEEKDAYS = (1.15, 1.1, 1.05, 1.0, 1.0, 0.7, 0.45)
"""Relative intensity by hour in UTC, and by weekday from Monday."""
CHANNEL_SHARES = (0.45, 0.30, 0.18, 0.07)
TWO_ISSUES = 0.12
AT_HOME = 0.45
"""Probability that a customer's contact concerns their own line of business."""
HARD, EASY = 0.18, 0.25
HARDNESS_LOGIT, SECOND_LOGIT, UPSET_LOGIT = (-0.35, 0.60), 0.30, 0.50
UPSET = (0.0, 0.5, 1.0)
"""How upset calm, annoyed and furious are."""
UPSETTING = {
    "promised": 0.6,
    "happened_twice": 0.5,
    "partner_blames": 0.3,
    "called": 0.5,
    "emailed": 0.3,
    "chatbot": 0.3,
}
"""Logits by which a cause or an earlier attempt raises the temper."""
LABEL_MISSING, LABEL_WRONG, CUSTOMER_MISSING, LANGUAGE_MISSING = 0.10, 0.05, 0.08, 0.02
FOREIGN = 0.04
"""Probability that a customer writes in a language that is not their own."""


@dataclass(frozen=True)
class Contacts:
    """All contacts, sorted by arrival; N of them. Codes are positions in the catalogue."""

    arrived_at: Ints
    customer: npt.NDArray[np.int32]
    channel: Codes
    language: Codes
    style: Codes
    intent: Codes
    product: Codes
    """0..4, among the products of the intent's line of business."""
    slot: dict[str, Codes]
    second: Codes
    """Intent of the second issue, −1 where there is none."""
    second_product: Codes
    tone: Codes
    urgency: Codes
    """0 nothing said, 1 relaxed, 2 soon, 3 now."""
    hardness: Codes
    """0 nothing said, 1 easy, 2 hard."""
    label: Codes
    """The recorded intent: −1 null, and sometimes wrong."""
    queue: Codes
    customer_known: npt.NDArray[np.bool_]
    language_known: npt.NDArray[np.bool_]
    need: Single
    """(N, D)."""
    difficulty: Single
    """(N,) logits."""

    def __len__(self) -> int:
        return len(self.arrived_at)

    @property
    def upset(self) -> Single:
        """(N,) 0 calm, 0.5 annoyed, 1 furious."""
        return np.array(UPSET, dtype=np.float32)[self.tone]


def draw_contacts(settings: Settings, world: World, customers: Customers) -> Contacts:
    """Draws all contacts of the window."""
    random = settings.random("contacts")
    n = settings.contacts
    channel = choose(np.cumsum(CHANNEL_SHARES), _uniform(random, n))
    arrived_at, channel = _times(settings, random, channel)
    customer = (len(customers.style) * random.random(n) ** 1.6).astype(np.int32)
    intent, product = _issue(settings, world, customers, customer, arrived_at, random)
    intent, product = launches.with_launches(settings, arrived_at, intent, product, launches.FIRST_ISSUE)
    slot = {name: choose(world.slot[name][intent], _uniform(random, n)) for name in catalogue.SLOTS}
    habit = (_uniform(random, n) < 0.3) & (customers.circumstance[customer] != _NEW)
    slot["circumstance"] = np.where(habit, customers.circumstance[customer], slot["circumstance"])
    second, second_product = _second(world, intent, random)
    second, second_product = launches.with_launches(settings, arrived_at, second, second_product, launches.SECOND_ISSUE)
    tone = _tone(customers.temper[customer], slot, random)
    hardness = choose(np.array([1 - EASY - HARD, 1 - HARD, 1.0]), _uniform(random, n))
    language = customers.language[customer]
    foreign = choose(np.cumsum(language_shares(settings)), _uniform(random, n))
    domain = np.array(catalogue.INTENT_DOMAIN)[intent]
    misrouted = random.integers(0, len(catalogue.QUEUES), n)
    return Contacts(
        arrived_at=arrived_at,
        customer=customer,
        channel=_codes(channel),
        language=_codes(np.where(_uniform(random, n) < FOREIGN, foreign, language)),
        style=_codes(customers.style[customer]),
        intent=_codes(intent),
        product=_codes(product),
        slot={name: _codes(values) for name, values in slot.items()},
        second=_codes(second),
        second_product=_codes(second_product),
        tone=_codes(tone),
        urgency=_codes(choose(np.array([0.45, 0.57, 0.82, 1.0]), _uniform(random, n))),
        hardness=_codes(hardness),
        label=_unlabelled(settings, _label(intent, random)),
        queue=_codes(np.where(_uniform(random, n) < 0.05, misrouted, np.array(catalogue.DOMAIN_QUEUE)[domain])),
        customer_known=_uniform(random, n) >= CUSTOMER_MISSING,
        language_known=_uniform(random, n) >= LANGUAGE_MISSING,
        need=_need(world, intent, product, slot, second, second_product, random),
        difficulty=_difficulty(world, intent, slot, second, tone, hardness, random),
    )


_NEW = catalogue.SLOTS["circumstance"].index("new_customer")


def _times(settings: Settings, random: np.random.Generator, channel: Ints) -> tuple[Ints, Ints]:
    """Sorted arrival times, and the channels in that order."""
    hours = np.arange(settings.days * 24)
    weekday = (settings.begins // DAY + hours // 24 + 3) % 7  # 1970-01-01 was a Thursday
    intensity = np.array(HOURS)[hours % 24] * np.array(WEEKDAYS)[weekday]
    intensity *= np.exp(random.normal(0, 0.12, settings.days))[hours // 24]
    hour = np.repeat(hours, random.multinomial(settings.contacts, intensity / intensity.sum()))
    second = random.integers(0, 3600, settings.contacts)
    second = np.where(channel == catalogue.CHANNELS.index("email"), second // 1800 * 1800, second)
    arrived_at = settings.begins + hour * HOUR + second * SECOND
    order = np.argsort(arrived_at, kind="stable")
    return arrived_at[order], channel[order]


def _issue(
    settings: Settings,
    world: World,
    customers: Customers,
    customer: npt.NDArray[np.int32],
    arrived_at: Ints,
    random: np.random.Generator,
) -> tuple[Ints, Ints]:
    """Intent and product: the season's, or within the customer's own line of business."""
    n = len(customer)
    week = (arrived_at - settings.begins) // (7 * DAY)
    seasonal = choose(world.weekly[week], _uniform(random, n))
    domain = customers.domain[customer]
    own = 4 * domain + choose(world.within_domain[domain], _uniform(random, n))
    intent = np.where(_uniform(random, n) < AT_HOME, own, seasonal)
    product = choose(world.product[intent], _uniform(random, n))
    owned = (np.array(catalogue.INTENT_DOMAIN)[intent] == domain) & (_uniform(random, n) < 0.6)
    return intent, np.where(owned, customers.product[customer], product)


def _second(world: World, intent: Ints, random: np.random.Generator) -> tuple[Ints, Ints]:
    """A second issue for some: another intent, half of the time of the same line of business."""
    n = len(intent)
    near = intent // 4 * 4 + (intent + random.integers(1, 4, n)) % 4
    far = (intent + random.integers(1, len(catalogue.INTENTS), n)) % len(catalogue.INTENTS)
    second = np.where(_uniform(random, n) < 0.5, near, far)
    product = choose(world.product[second], _uniform(random, n))
    return np.where(_uniform(random, n) < TWO_ISSUES, second, -1), product


def _tone(temper: Single, slot: dict[str, Ints], random: np.random.Generator) -> Ints:
    """0 calm, 1 annoyed, 2 furious: thresholds on a latent that cause and earlier attempts raise."""
    heat = temper + random.logistic(-1.0, 0.7, len(temper))
    for name in ("cause", "tried"):
        heat += np.array([UPSETTING.get(value, 0.0) for value in catalogue.SLOTS[name]])[slot[name]]
    return np.searchsorted([0.0, 1.4], heat).astype(np.int64)


def _label(intent: Ints, random: np.random.Generator) -> Codes:
    """The intent as recorded: wrong for some, missing for some."""
    n = len(intent)
    other = (intent + random.integers(1, len(catalogue.INTENTS), n)) % len(catalogue.INTENTS)
    draw = _uniform(random, n)
    recorded = np.where(draw < LABEL_WRONG, other, intent)
    return _codes(np.where(draw >= 1 - LABEL_MISSING, -1, recorded))


def _unlabelled(settings: Settings, label: Codes) -> Codes:
    """The labels with more of them missing, where there is noise."""
    if not settings.noise:
        return label
    return np.where(_uniform(settings.random("noise in labels"), len(label)) < settings.noise, np.int8(-1), label)


def _need(
    world: World,
    intent: Ints,
    product: Ints,
    slot: dict[str, Ints],
    second: Ints,
    second_product: Ints,
    random: np.random.Generator,
) -> Single:
    """(N, D) needs, filled block by block: a million contacts must not cost gigabytes of temporaries."""
    need = np.empty((len(intent), DIMENSIONS), dtype=np.float32)
    norm = np.hypot(FIRST_ISSUE, 1 - FIRST_ISSUE)
    for start in range(0, len(intent), 65_536):
        rows = slice(start, start + 65_536)
        issue = world.issue[intent[rows], product[rows]]
        other = world.issue[second[rows], second_product[rows]]
        mixed = (FIRST_ISSUE * issue + (1 - FIRST_ISSUE) * other) / norm
        part = np.where(second[rows, None] >= 0, mixed, issue)
        for name, values in slot.items():
            part += world.offset[name][values[rows]]
        need[rows] = part + random.normal(0, np.sqrt(SHARES["private"]), part.shape)
    return need


def _difficulty(
    world: World,
    intent: Ints,
    slot: dict[str, Ints],
    second: Ints,
    tone: Ints,
    hardness: Ints,
    random: np.random.Generator,
) -> Single:
    """(N,) logits by which a contact is harder than the average one, for every CSA alike."""
    difficulty = world.difficulty["intent"][intent] + random.normal(0, DIFFICULTY_SD["private"], len(intent))
    for name in ("cause", "circumstance"):
        difficulty += world.difficulty[name][slot[name]]
    difficulty += np.array([0.0, *HARDNESS_LOGIT])[hardness]
    difficulty += SECOND_LOGIT * (second >= 0) + UPSET_LOGIT * np.array(UPSET)[tone]
    return difficulty.astype(np.float32)


def _uniform(random: np.random.Generator, n: int) -> Single:
    return random.random(n, np.float32)


def _codes(values: Ints) -> Codes:
    return values.astype(np.int8)
