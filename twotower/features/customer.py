"""Customer features: how often a customer comes, how they write, and who served them before with what end.

Notable: *who* is told to a two-tower as a code. Every CSA has a fixed signature, a vector of ±1/√R that follows from
their id alone; the contact side carries sums of the signatures of the customer's earlier CSAs (all hand-overs, good
ones, bad ones, each decayed), the CSA side its own signature, and their inner product is large where an earlier CSA
meets their customer again. So the earlier pairing is found by the same search as everything else, also a CSA whom
training has never seen; others are disturbed by about 1/√R of it, and the exact memory of the pairing is in the join.

Sources: random codes of this kind are those of vector symbolic architectures (Kanerva, "Hyperdimensional computing",
2009); the disturbance is the Johnson-Lindenstrauss bound.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from twotower.clock import DAY, NULL_TIME
from twotower.features.engine.core import PAIR_SUMS
from twotower.features.engine.customers import LONG_DAYS, CustomerReading
from twotower.features.engine.settings import CustomerSettings
from twotower.features.feature import Feature, table
from twotower.text.signals import SIGNALS

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]

# The signals of a text that are a person's manner rather than the matter at hand.
STYLE = ("words", "words_per_sentence", "sentiment", "upset", "emotion", "politeness", "formality")
SETTINGS = CustomerSettings(signals=STYLE)
SIGNATURE = 32  # R: an earlier CSA disturbs another's score by 0.18 of what it adds to their own


def style_of(signals: Floats) -> Floats:
    """The columns (N, S) of `text.signals` that are style; rows without a word are NaN, they show none."""
    names = [signal.name for signal in SIGNALS]
    style = signals[:, [names.index(name) for name in STYLE]].copy()
    style[signals[:, names.index("words")] == 0] = np.nan
    return style


def signatures(csa_ids: Sequence[str]) -> Floats:
    """Signatures (J, R) of CSA ids: the bits of a BLAKE2b digest as ±1/√R."""
    digests = [
        hashlib.blake2b(i.encode("utf-8", "surrogatepass"), digest_size=SIGNATURE // 8).digest() for i in csa_ids
    ]
    bits = np.unpackbits(np.frombuffer(b"".join(digests), np.uint8)).reshape(len(csa_ids), SIGNATURE)
    signs: Floats = (2 * bits.astype(np.float32) - 1) / np.float32(np.sqrt(SIGNATURE))
    return signs


@dataclass(frozen=True)
class CustomerRows:
    """N contacts with what was known of their customers on arrival.

    `reading` of N customers, each as of its contact's arrival; `signature` (J, R) of the CSAs whose positions the
    reading names.
    """

    reading: CustomerReading
    signature: Floats

    def __len__(self) -> int:
        return len(self.reading.count)

    def part(self, start: int, count: int) -> CustomerRows:
        """`count` of the contacts from `start` on, or as many as there are."""
        rows = np.arange(start, min(start + count, len(self)))
        return CustomerRows(self.reading.take(rows), self.signature)

    @cached_property
    def days_since(self) -> Doubles:
        """Days (N,) since the last contact, `LONG_DAYS` where there is none."""
        seen = self.reading.last != NULL_TIME
        return np.where(seen, (self.reading.moment - np.where(seen, self.reading.last, 0)) / DAY, LONG_DAYS)

    @cached_property
    def style(self) -> Doubles:
        """Decayed means (N, 2, S) of the style signals, fast and slow, 0 where none was shown."""
        shown, sums = self.reading.style[:, :, 1:2], self.reading.style[:, :, 2:]
        return np.divide(sums, shown, out=np.zeros_like(sums), where=shown > 0)

    def met(self, what: str) -> Doubles:
        """Σ over the earlier CSAs of log(1 + decayed hand-overs of a kind) · signature, (N, R)."""
        pairs = np.log1p(self.reading.pair_sums[:, :, PAIR_SUMS.index(what)]) * (self.reading.pair_csa >= 0)
        coded: Doubles = np.einsum("np,npr->nr", pairs, self.signature[self.reading.pair_csa])
        return coded


def declared(settings: CustomerSettings) -> tuple[Feature[CustomerRows], ...]:
    """Features of what is kept under other settings than the towers' own."""
    ages = [f"{half_life / DAY:g}" for half_life in settings.style_us]
    return (
        _number("contacts", "frequency", "log(1 + n)", "earlier contacts", lambda r: np.log1p(r.reading.count)),
        *(_frequency(i, age) for i, age in enumerate(ages)),
        _number(
            "since_last", "frequency", "log(1 + days)",
            f"since the last contact, {LONG_DAYS:g} days where there is none", lambda r: np.log1p(r.days_since),
            default=float(np.log1p(LONG_DAYS)),
        ),
        _number(
            "style_n", "style", "log(1 + n)", f"earlier contacts that show style, decayed over {ages[1]} days",
            lambda r: np.log1p(r.reading.style[:, 1, 1]),
        ),
        *(_style(name, i, ages) for i, name in enumerate(settings.signals)),
        *(_drift(name, i, ages) for i, name in enumerate(settings.signals)),
    )  # fmt: skip


def customer_features(reading: CustomerReading, settings: CustomerSettings) -> Floats:
    """All of `declared(settings)` for Q customers, (Q, 5 + 2 S) float32."""
    rows = CustomerRows(reading, signatures([]))
    return table(declared(settings), rows, len(rows), None)


def customer_names(settings: CustomerSettings) -> list[str]:
    """Names of the columns of `customer_features`."""
    return [feature.name for feature in declared(settings)]


def _number(
    name: str, family: str, unit: str, meaning: str, compute: Callable[[CustomerRows], npt.NDArray[Any]],
    low: float = 0.0, high: float = np.inf, default: float = 0.0,
) -> Feature[CustomerRows]:  # fmt: skip
    return Feature(name, "customer", family, unit, low, high, meaning, "customer", compute, default=default)


def _frequency(i: int, age: str) -> Feature[CustomerRows]:
    meaning = f"earlier contacts, half as much every {age} days"
    return _number(
        f"frequency_{age}d", "frequency", "log(1 + n)", meaning, lambda r: np.log1p(r.reading.style[:, i, 0])
    )


def _style(name: str, i: int, ages: Sequence[str]) -> Feature[CustomerRows]:
    unit, low, high = _bounds(name)
    meaning = f"mean of said_{name}, decayed over {ages[1]} days"
    return _number(f"style_{name}", "style", unit, meaning, lambda r: r.style[:, 1, i], low, high)


def _drift(name: str, i: int, ages: Sequence[str]) -> Feature[CustomerRows]:
    unit, low, high = _bounds(name)
    meaning = f"mean of said_{name} over {ages[0]} days less the one over {ages[1]}"
    return _number(
        f"drift_{name}", "style", unit, meaning, lambda r: r.style[:, 0, i] - r.style[:, 1, i], low - high, high - low
    )


def _bounds(name: str) -> tuple[str, float, float]:
    found = next((signal for signal in SIGNALS if signal.name == name), None)
    return ("", -np.inf, np.inf) if found is None else (found.unit, found.low, found.high)


def _met(what: str, meaning: str) -> Feature[CustomerRows]:
    return Feature(
        f"met_{what}", "customer", "relationship", "Σ log(1 + n) · signature", -np.inf, np.inf, meaning, "customer",
        lambda rows: rows.met(what), lambda _: [f"met_{what}_{i}" for i in range(SIGNATURE)], watched=False,
    )  # fmt: skip


NUMBERS: tuple[Feature[CustomerRows], ...] = declared(SETTINGS)
# Not standardised and not mixed with other features: the contact tower weighs the kinds and passes them on.
RELATIONSHIP: tuple[Feature[CustomerRows], ...] = (
    _met("together", "who served this customer before"),
    _met("good", "who resolved this customer's contacts"),
    _met("bad", "who did not"),
)
