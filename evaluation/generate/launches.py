"""Products that come to market while the log runs, and what customers then ask about them.

Notable: nobody has asked about a launched intent, or had its line's last product, before the day of its launch; after
it a surge of contacts is about both, which ebbs to what is usual. So words, labels and work appear of which no earlier
contact tells anything, though who will be good at them was decided with the world.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from evaluation.generate import catalogue
from evaluation.generate.settings import Settings
from twotower.clock import DAY

Ints = npt.NDArray[Any]

SURGE, EBB_DAYS = 0.10, 10.0
"""Share of all contacts that a launch draws on its first day; days after which a third of that is left."""
FIRST_ISSUE, SECOND_ISSUE = "first", "second"
OLDER = catalogue.PER_INTENT - 1
"""Products of a line of business before its launch; the last one is the new one."""


def launches(settings: Settings) -> tuple[Ints, Ints]:
    """Intents (n,) that are launched, each of another line of business where there are enough, and the µs UTC at which
    they are: evenly through the last `launch_days`, at midnight."""
    random = settings.random("launches")
    lines = np.resize(random.permutation(len(catalogue.DOMAINS)), settings.launches)
    turn = np.arange(settings.launches) // len(catalogue.DOMAINS)
    intent = 4 * lines + (random.integers(0, 4) + turn) % 4
    day = (np.arange(settings.launches) + 0.5) / max(settings.launches, 1) * settings.launch_days
    return intent, settings.ends - settings.launch_days * DAY + day.astype(np.int64) * DAY


def with_launches(settings: Settings, arrived_at: Ints, intent: Ints, product: Ints, issue: str) -> tuple[Ints, Ints]:
    """Intent and product (n,) of the first or second `issue` of contacts, as launches have them; as they were without.

    Of first issues alone there is a surge; an intent of −1, no second issue, stays.
    """
    if not settings.launches:
        return intent, product
    random = settings.random(f"{issue} issues about launches")
    for one, moment in zip(*launches(settings), strict=True):
        early, line = arrived_at < moment, one // 4
        other = 4 * line + (one + random.integers(1, 4, len(intent))) % 4
        product = np.where(
            early & (intent // 4 == line) & (product == OLDER), random.integers(0, OLDER, len(intent)), product
        )
        intent = np.where(early & (intent == one), other, intent)
        days = np.maximum(arrived_at - moment, 0) / DAY
        drawn = ~early & (random.random(len(intent)) < (issue == FIRST_ISSUE) * SURGE * np.exp(-days / EBB_DAYS))
        intent, product = np.where(drawn, one, intent), np.where(drawn, OLDER, product)
    return intent, product
