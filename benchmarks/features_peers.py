"""The history engine's work as one would write it with pandas, and with DuckDB.

Notable: both are given the best plan that their operators allow: running sums of forward-decayed weights per CSA or
customer (one sort, no join of everything with everything), then an as-of join that takes the last row strictly before
the moment. Weights are counted from the first event; a span of some hundred half-lives is what doubles hold.
"""

from __future__ import annotations

import duckdb
import numpy as np
import pandas as pd

from twotower.features.engine.events import Arrivals, KnownHandovers
from twotower.features.engine.settings import CsaSettings, CustomerSettings
from twotower.features.engine.values import SQUARED, csa_values


def pandas_csas(handovers: KnownHandovers, csas: int, moments: np.ndarray, settings: CsaSettings) -> np.ndarray:
    """Sums, squares and embeddings (S·J, …) of every CSA at every moment: groupby, cumsum, merge_asof."""
    table, powers = _csa_table(handovers, settings)
    running = table.drop(columns="moment").groupby("who").cumsum()
    running[["who", "moment"]] = table[["who", "moment"]]
    asked = pd.DataFrame({"moment": np.repeat(moments, csas), "who": np.tile(np.arange(csas), len(moments))})
    found = pd.merge_asof(asked, running, on="moment", by="who", allow_exact_matches=False).fillna(0.0)
    return found.drop(columns=["moment", "who"]).to_numpy() * _fade(
        asked["moment"].to_numpy(), handovers.known_at[0], powers
    )


def duckdb_csas(handovers: KnownHandovers, csas: int, moments: np.ndarray, settings: CsaSettings) -> np.ndarray:
    """The same: window sums and an ASOF join."""
    table, powers = _csa_table(handovers, settings)
    asked = pd.DataFrame({"moment": np.repeat(moments, csas), "who": np.tile(np.arange(csas), len(moments))})
    found = _duckdb(table, asked)
    return found * _fade(asked["moment"].to_numpy(), handovers.known_at[0], powers)


def pandas_customers(arrivals: Arrivals, settings: CustomerSettings) -> np.ndarray:
    """Contacts, and decayed contacts and style (N, 1 + 2·(2 + S)), of each contact's customer before it."""
    table, powers = _customer_table(arrivals, settings)
    running = table.drop(columns="moment").groupby("who").cumsum()
    running[["who", "moment"]] = table[["who", "moment"]]
    asked = table[["moment", "who"]]
    found = pd.merge_asof(asked, running, on="moment", by="who", allow_exact_matches=False).fillna(0.0)
    first = arrivals.arrived_at[0]
    return found.drop(columns=["moment", "who"]).to_numpy() * _fade(arrivals.arrived_at, first, powers)


def duckdb_customers(arrivals: Arrivals, settings: CustomerSettings) -> np.ndarray:
    """The same: window sums and an ASOF join."""
    table, powers = _customer_table(arrivals, settings)
    found = _duckdb(table, table[["moment", "who"]])
    return found * _fade(arrivals.arrived_at, arrivals.arrived_at[0], powers)


def _duckdb(table: pd.DataFrame, asked: pd.DataFrame) -> np.ndarray:
    """Running sums of all but `who` and `moment`, of the last row of `who` strictly before `moment`, as asked."""
    columns = [name for name in table.columns if name not in ("who", "moment")]
    sums = ", ".join(f"sum({name}) OVER past AS {name}" for name in columns)
    chosen = ", ".join(f"coalesce({name}, 0) AS {name}" for name in columns)
    with duckdb.connect(config={"threads": 1}) as database:
        database.register("events", table)
        database.register("asked", asked.assign(place=np.arange(len(asked))))
        found = database.sql(
            f"WITH running AS (SELECT who, moment, {sums} FROM events "
            "WINDOW past AS (PARTITION BY who ORDER BY moment)) "
            f"SELECT {chosen} FROM asked ASOF LEFT JOIN running "
            "ON asked.who = running.who AND asked.moment > running.moment "
            "ORDER BY place"
        ).fetchnumpy()
    return np.column_stack([found[name] for name in columns])


def _csa_table(handovers: KnownHandovers, settings: CsaSettings) -> tuple[pd.DataFrame, list[float]]:
    """Weighted columns, and for each the power of its decay a microsecond."""
    values = csa_values(handovers)
    failed = (handovers.resolved == 0)[:, None]
    apart = [np.where(failed, 0, handovers.base), np.where(failed, handovers.base, 0)]
    ages = handovers.known_at - handovers.known_at[0]
    blocks, powers = [], []
    for part, factor in ((values, 1), (values[:, SQUARED], 2), (apart[0], 1), (apart[1], 1)):
        for half_life in settings.half_lives_us:
            blocks.append(part * np.exp2(factor * ages / half_life)[:, None])
            powers += [factor / half_life] * part.shape[1]
    return _table(blocks, handovers.csa, handovers.known_at), powers


def _customer_table(arrivals: Arrivals, settings: CustomerSettings) -> tuple[pd.DataFrame, list[float]]:
    ones = np.ones((len(arrivals), 1))
    values = np.column_stack([ones, ones, arrivals.signals])
    ages = arrivals.arrived_at - arrivals.arrived_at[0]
    blocks, powers = [ones], [0.0]
    for half_life in settings.style_us:
        blocks.append(values * np.exp2(ages / half_life)[:, None])
        powers += [1 / half_life] * values.shape[1]
    return _table(blocks, arrivals.customer, arrivals.arrived_at), powers


def _table(blocks: list[np.ndarray], who: np.ndarray, at: np.ndarray) -> pd.DataFrame:
    values = np.concatenate(blocks, axis=1)
    table = pd.DataFrame(values, columns=[f"x{i}" for i in range(values.shape[1])])
    return table.assign(who=who.astype(np.int64), moment=at)


def _fade(moments: np.ndarray, first: int, powers: list[float]) -> np.ndarray:
    return np.asarray(np.exp2(-np.outer(moments - first, powers)))
