"""Random streams for the tests of the history engine: few CSAs, few customers, many ties, nulls now and then."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st

from twotower.clock import DAY, HOUR, NEVER, SECOND
from twotower.features.engine.events import Arrivals, KnownHandovers, Work, in_order
from twotower.features.engine.settings import CsaSettings, CustomerSettings

CSAS, CUSTOMERS, WIDTH = 5, 6, 3
FAMILIES = (("intent", 4), ("language", 2))
SETTINGS = CsaSettings(
    WIDTH, half_lives_us=(DAY, 5 * DAY, 30 * DAY), activity_us=(HOUR, 6 * HOUR), families=FAMILIES, group_half_life=1
)
CUSTOMER_SETTINGS = CustomerSettings(
    style_us=(2 * DAY, 20 * DAY), pair_us=8 * DAY, pairs=2, signals=("words", "warmth")
)
BEGIN, END = 20_000 * DAY, 20_040 * DAY


@dataclass(frozen=True)
class Table:
    """Hand-overs as tables have them, M rows in any order, one contact each; `signals` (M, 2) of its style."""

    arrived_at: npt.NDArray[np.int64]
    assigned_at: npt.NDArray[np.int64]
    ended_at: npt.NDArray[np.int64]
    known_at: npt.NDArray[np.int64]
    csa: npt.NDArray[np.int32]
    customer: npt.NDArray[np.int32]
    resolved: npt.NDArray[np.int8]
    transferred: npt.NDArray[np.int8]
    handle_time_s: npt.NDArray[np.float32]
    csat: npt.NDArray[np.float32]
    expected: npt.NDArray[np.float32]
    upset: npt.NDArray[np.bool_]
    codes: npt.NDArray[np.int32]
    base: npt.NDArray[np.float32]
    signals: npt.NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.csa)

    def take(self, rows: npt.NDArray[np.int64]) -> Table:
        return Table(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})

    def handovers(self) -> KnownHandovers:
        names = {field.name for field in fields(KnownHandovers)}
        return in_order(**{name: getattr(self, name) for name in names})

    def work(self) -> Work:
        return Work.of(self.csa, self.assigned_at, self.ended_at)

    def arrivals(self) -> Arrivals:
        order = np.lexsort((self.signals[:, 1], self.signals[:, 0], self.customer, self.arrived_at))
        return Arrivals(self.customer[order], self.arrived_at[order], self.signals[order])


def joined(first: Table, second: Table) -> Table:
    return Table(**{f.name: np.concatenate([getattr(first, f.name), getattr(second, f.name)]) for f in fields(Table)})


def draw_table(rng: np.random.Generator, count: int, begin: int = BEGIN, end: int = END) -> Table:
    """Whole seconds, few of them distinct: many facts share one."""
    moments = rng.integers(-(-begin // SECOND), -(-end // SECOND), max(1, count // 2)) * SECOND
    arrived = rng.choice(moments, count)
    assigned = arrived + rng.choice([0, 1, HOUR], count)
    ended = assigned + rng.choice([0, HOUR, 3 * DAY], count)
    late = ended + rng.choice([0, 0, 2 * DAY], count)
    known = np.where(rng.random(count) < 0.3, rng.choice(moments, count).clip(ended), late)
    open_still = rng.random(count) < 0.1
    return Table(
        arrived_at=arrived,
        assigned_at=assigned,
        ended_at=np.where(open_still, NEVER, ended),
        known_at=np.where(open_still, NEVER, known),
        **draw_content(rng, count),
    )


def draw_content(rng: np.random.Generator, count: int) -> dict[str, npt.NDArray]:
    """What a hand-over says apart from its times."""

    def sometimes(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
        return np.where(rng.random(count) < 0.3, np.nan, values).astype(np.float32)

    signals = rng.standard_normal((count, 2)).astype(np.float32)
    signals[rng.random(count) < 0.2] = np.nan
    return {
        "csa": rng.integers(0, CSAS, count).astype(np.int32),
        "customer": rng.integers(-1, CUSTOMERS, count).astype(np.int32),
        "resolved": rng.integers(-1, 2, count).astype(np.int8),
        "transferred": rng.integers(-1, 2, count).astype(np.int8),
        "handle_time_s": sometimes(rng.uniform(0, 3600, count)),
        "csat": sometimes(rng.integers(1, 6, count).astype(np.float64)),
        "expected": sometimes(rng.random(count)),
        "upset": rng.random(count) < 0.4,
        "codes": np.column_stack([rng.integers(-1, codes, count) for _, codes in FAMILIES]).astype(np.int32),
        "base": rng.standard_normal((count, WIDTH)).astype(np.float32),
        "signals": signals,
    }


@st.composite
def tables(draw: st.DrawFn, most: int = 40) -> Table:
    """Up to `most` hand-overs within forty days."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    return draw_table(rng, draw(st.integers(0, most)))
