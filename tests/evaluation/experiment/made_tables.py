"""Experiments made for tests, as the tables of a data set: what was drawn can then be read back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from tests.evaluation.experiment.made import CSAS, INTENTS, SITES, Made, units_of
from twotower.clock import DAY, SECOND, parse_time

TIME = pa.timestamp("us", "UTC")
NONE = np.iinfo(np.int64).min
HISTORY = 3000
"""Contacts of the four weeks before."""


def write(made: Made, folder: Path, seed: int = 0, **instead: pa.Table) -> Path:
    """contacts, csas, interactions and shifts, with history before the experiment; instead: tables by name."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = _rows(made, np.random.default_rng(seed))
    tables = {
        "contacts": _contacts(made, rows), "csas": _csas(made), "interactions": _interactions(rows),
        "shifts": _shifts(made),
    }  # fmt: skip
    for name, table in (tables | instead).items():
        pq.write_table(table, folder / f"{name}.parquet")
    return folder


def _rows(made: Made, rng: np.random.Generator) -> pd.DataFrame:
    """The frame with history before it, in µs."""
    frame, begins = made.frame, parse_time(made.plan.begins)
    told = pd.DataFrame({
        "contact_id": frame["contact_id"], "customer_id": frame["customer_id"], "csa_id": frame["csa_id"],
        "arrived": frame["arrived_at"].astype("int64"), "wait": frame["wait_s"], "resolved": frame["resolved"] == 1,
        "minutes": frame["handle_minutes"], "policy": frame["policy"], "language": frame["language"],
        "intent": frame["intent"], "unit": frame["unit"], "lost": frame["abandoned"] == 1, "csat": frame["csat"],
        "quality": frame["quality"],
    })  # fmt: skip
    intent, csa = rng.integers(0, INTENTS, HISTORY), rng.integers(0, CSAS, HISTORY)
    good = rng.random(HISTORY) < 0.62 + 0.16 * intent / (INTENTS - 1) + 0.1 * np.linspace(-1, 1, CSAS)[csa]
    past = pd.DataFrame({
        "contact_id": [f"h{i}" for i in range(HISTORY)], "customer_id": None, "csa_id": units_of(csa),
        "arrived": np.sort(rng.integers(begins - 28 * DAY, begins - DAY, HISTORY)), "wait": 30.0, "resolved": good,
        "minutes": 5.0, "policy": "fifo", "language": "en", "intent": [f"i{i}" for i in intent],
        "unit": rng.choice(np.array(SITES, object), HISTORY), "lost": False, "csat": np.nan, "quality": np.nan,
    })  # fmt: skip
    return pd.concat([past, told], ignore_index=True)


def _contacts(made: Made, rows: pd.DataFrame) -> pa.Table:
    lost = np.where(rows["lost"], rows["arrived"] + (rows["wait"] * SECOND).astype("int64"), NONE)
    queues = rows["unit"] if made.plan.design == "cluster" else "all"
    customers = rows["customer_id"].where(rows["customer_id"].notna(), None)
    return pa.table({
        "contact_id": rows["contact_id"].to_list(), "customer_id": customers.to_list(),
        "arrived_at": pa.array(rows["arrived"].to_numpy(), TIME), "channel": ["chat"] * len(rows),
        "queue": [f"queue {one}" for one in np.broadcast_to(queues, len(rows))], "language": rows["language"].to_list(),
        "intent": rows["intent"].to_list(), "intent_text": [""] * len(rows), "transcript": [""] * len(rows),
        "abandoned_at": pa.array(lost, mask=lost == NONE).cast(TIME),
    })  # fmt: skip


def _csas(made: Made) -> pa.Table:
    """Of a centre of sites, one CSA a site, named after it."""
    cluster = made.plan.design == "cluster"
    ids = [*units_of(np.arange(CSAS)), *(f"of {site}" for site in SITES)]
    hired = parse_time(made.plan.begins) - np.where(np.arange(len(ids)) < 5, 30, 500) * DAY
    return pa.table({
        "csa_id": ids, "hired_at": pa.array(hired, TIME),
        "site": [None] * CSAS + (list(SITES) if cluster else [None] * len(SITES)),
        "languages": [["en"]] * len(ids), "capacity": [1] * len(ids), "profile": [""] * len(ids),
        "skills": pa.array([[]] * len(ids), pa.list_(pa.struct({"name": pa.string(), "level": pa.float64()}))),
    })  # fmt: skip


def _interactions(rows: pd.DataFrame) -> pa.Table:
    """One hand-over of every contact that somebody took; of sites, by the CSA of the site."""
    took = rows[~rows["lost"]]
    assigned = (took["arrived"] + (took["wait"] * SECOND).astype("int64")).to_numpy()
    sites = took["unit"].isin(SITES) & took["contact_id"].str.startswith("c")
    ended = assigned + (took["minutes"].to_numpy() * 60 * SECOND).astype(np.int64)
    return pa.table({
        "contact_id": took["contact_id"].to_list(),
        "csa_id": np.where(sites, "of " + took["unit"].astype(str), took["csa_id"]).tolist(),
        "assigned_at": pa.array(assigned, TIME), "ended_at": pa.array(ended, TIME),
        "resolved": took["resolved"].to_list(), "handle_time_s": (took["minutes"] * 60).to_list(),
        "transferred": [False] * len(took), "policy": took["policy"].to_list(),
        "csat": pa.array(took["csat"].to_list(), pa.float64(), from_pandas=True),
        "quality_score": pa.array(took["quality"].to_list(), pa.float64(), from_pandas=True),
    })  # fmt: skip


def _shifts(made: Made) -> pa.Table:
    """From eight to twenty o'clock, everybody, every day."""
    begins, ends = parse_time(made.plan.begins), parse_time(made.plan.ends)
    days = np.arange(begins, ends, DAY)
    ids = [*units_of(np.arange(CSAS)), *(f"of {site}" for site in SITES)]
    starts = np.tile(days + 8 * DAY // 24, len(ids))
    return pa.table({
        "csa_id": np.repeat(ids, len(days)).tolist(), "starts_at": pa.array(starts, TIME),
        "ends_at": pa.array(starts + 12 * DAY // 24, TIME),
    })  # fmt: skip


def tables_in(folder: Path) -> dict[str, Any]:
    """All tables of a folder."""
    return {path.stem: pq.read_table(path) for path in folder.glob("*.parquet")}
