"""What the complexity heads tell of a contact before anybody takes it, declared one object a head.

Notable: nothing heavy is imported here, since the router names these numbers too. What a head tells is kept within its
bounds, in training as in serving.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log1p

LONGEST = log1p(365 * 86_400)  # a year, in the unit of handle times


@dataclass(frozen=True)
class Complexity:
    """One number told of a contact: its unit, the bounds that it never leaves, what it means."""

    name: str
    unit: str
    low: float
    high: float
    meaning: str


COMPLEXITY: tuple[Complexity, ...] = (
    Complexity("handle_time", "log(1 + seconds)", 0.0, LONGEST, "how long a hand-over takes"),
    Complexity("handle_time_spread", "log(1 + seconds)", 0.0, LONGEST, "expected |log time − predicted log time|"),
    Complexity("transfer_risk", "probability", 0.0, 1.0, "a hand-over ends in a transfer to somebody else"),
    Complexity("repeat_risk", "probability", 0.0, 1.0, "the same customer is back within seven days"),
    Complexity("failure_risk", "probability", 0.0, 1.0, "a hand-over does not resolve the contact"),
)
