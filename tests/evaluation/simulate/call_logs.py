"""A known centre's days as a call log, and the mapping that reads it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from evaluation.simulate.centre import Centre, Patience, Shifts
from evaluation.simulate.demand import poisson
from evaluation.simulate.mapping import LogMapping, mapping_of
from evaluation.simulate.policies import fifo
from evaluation.simulate.run import simulate
from evaluation.simulate.state import ABANDONED, NOBODY

MAPPING: dict[str, Any] = {
    "columns": {
        "date": "day", "arrival": "came", "waited": "waited", "handled": "took", "outcome": "how", "csa": "who",
        "class": "about", "priority": "rank",
    },
    "outcomes": {"served": ["served"], "abandoned": ["lost"], "ignored": ["test"]},
    "high": [1],
    "days": {
        "week": {"of": ["monday", "tuesday", "wednesday", "thursday", "friday"], "open": ["8:00", "18:00"]},
        "end": {"of": ["saturday", "sunday"], "open": ["8:00", "18:00"]},
    },
}  # fmt: skip
HANDLE_S = np.array([[200.0, 240.0, 160.0, 220.0, 180.0, 260.0], [300.0, 0.0, 320.0, 0.0, 280.0, 0.0]])
HIGH = 0.4
HEAD_START_S, AFTER_S, PATIENCE_S, SIGMA = 90.0, (10.0, 50.0), 300.0, 0.7


def mapping() -> LogMapping:
    return mapping_of(MAPPING)


def known() -> Centre:
    """Two types, with and without priority; six CSAs, of whom three take both; 8:00 to 18:00, without breaks."""
    rates = np.zeros((4, 48))
    for place, an_hour in enumerate((60.0, 40.0, 12.0, 8.0)):
        rates[place, 16:36] = an_hour
    rates[:, 20:24] *= 1.3
    return Centre(
        classes=("bill", "bill, priority", "loan", "loan, priority"),
        csas=tuple("ABCDEF"),
        rates=rates,
        handle_s=np.repeat(HANDLE_S, 2, axis=0),
        success=np.ones((4, 6)),
        sigma=np.full(4, SIGMA),
        patience=(Patience("exponential", PATIENCE_S),),
        shifts=Shifts(np.arange(6), np.full(6, 8 * 3600.0), np.full(6, 18 * 3600.0)),
        head_start_s=np.array([0.0, HEAD_START_S, 0.0, HEAD_START_S]),
        after_s=np.broadcast_to(np.array(AFTER_S), (1, 6, 2)),
    )


def day_of(centre: Centre, number: int) -> pd.DataFrame:
    """One day's rows."""
    records = simulate(centre, fifo(), 7, number, poisson(centre, 7, number))
    lost = records.status == ABANDONED
    until = np.where(lost, records.end, records.start)
    kept = ~np.isnan(until)
    second = records.arrival[kept].astype(int)
    took = np.where(lost, 0.0, records.end - records.start)[kept]
    return pd.DataFrame(
        {
            "day": str(pd.Timestamp("2026-01-05") + pd.Timedelta(days=number))[:10],
            "came": [f"{s // 3600:02d}:{s // 60 % 60:02d}:{s % 60:02d}" for s in second],
            "waited": (until - records.arrival)[kept].round(1),
            "took": took.round(1),
            "how": np.where(lost[kept], "lost", "served"),
            "who": ["" if one == NOBODY else centre.csas[one] for one in records.csa[kept]],
            "about": np.where(records.kind[kept] < 2, "bill", "loan"),
            "rank": records.kind[kept] % 2,
        }
    )


def log(days: int = 14) -> pd.DataFrame:
    """So many days from a Monday on."""
    centre = known()
    return pd.concat([day_of(centre, number) for number in range(days)], ignore_index=True)
