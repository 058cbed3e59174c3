"""The bundle's Parquet tables: the roster and the remembered hand-overs.

Notable: rows stand in the order of the FAISS files, and each table carries the exact vectors, so an approximate index
can be checked and an exact search run without it. Customers never appear: their memory lives outside the bundle.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from twotower.clock import NEVER, NULL_TIME, from_arrow, to_arrow
from twotower.errors import BundleError
from twotower.scoring.outcomes import TARGETS
from twotower.scoring.rows import HistoryRows
from twotower.scoring.spread import Factors

Floats = npt.NDArray[np.float32]
COLUMNS = ("csa_id", "active", "identity", "vector", "spread", "spread_scale", "outcomes", "features")
DECLARED = ("hired_at", "site", "team", "kind", "languages", "skills", "profile", "capacity", "cost")


@dataclass(frozen=True)
class Roster:
    """The CSAs of a bundle: `ids` in row order, profile `vectors` (J, P), `spread` the factors (J) of
    their posterior covariances, `own` (J, T) what they add to outcomes (`scoring/outcomes.py`), as-of
    `features` (J, G), `identity` i8[J] and `active` bool[J] (not yet departed at the end of the data window)."""

    ids: tuple[str, ...]
    vectors: Floats
    spread: Factors
    own: Floats
    features: Floats
    identity: npt.NDArray[np.int64]
    active: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.ids)


def write_roster(roster: Roster, path: Path) -> None:
    """Write `roster.parquet`."""
    table = pa.table(
        {
            "csa_id": pa.array(roster.ids, pa.string()),
            "active": pa.array(roster.active),
            "identity": pa.array(roster.identity),
            "vector": vector_column(roster.vectors),
            "spread": vector_column(roster.spread.parts.reshape(len(roster), -1)),
            "spread_scale": pa.array(roster.spread.scale),
            "outcomes": vector_column(roster.own),
            "features": vector_column(roster.features),
        }
    )
    pq.write_table(table, path)


def read_roster(path: Path) -> Roster:
    """Read `roster.parquet`. Raises BundleError where a column is missing or of another type."""
    table = read_table(path, COLUMNS)
    vectors, own, spread = _matrix(table["vector"]), _matrix(table["outcomes"]), _matrix(table["spread"], np.int16)
    if spread.shape[1] % vectors.shape[1]:
        raise BundleError(f"{path}: column 'spread' is {spread.shape[1]} wide, no multiple of 'vector'; export again")
    if own.shape[1] != len(TARGETS):
        raise BundleError(f"{path}: column 'outcomes' is {own.shape[1]} wide, expected {len(TARGETS)}; export again")
    return Roster(
        ids=tuple(table["csa_id"].to_pylist()),
        vectors=vectors,
        spread=Factors(spread.reshape(len(vectors), -1, vectors.shape[1]), table["spread_scale"].to_numpy()),
        own=own,
        features=_matrix(table["features"]),
        identity=table["identity"].to_numpy(),
        active=table["active"].to_numpy(),
    )


def write_history(rows: HistoryRows, csa_ids: tuple[str, ...], contact_ids: pa.Array, path: Path) -> None:
    """Write `history.parquet`; `contact_ids[rows.contact]` are the references for explanations (null where −1)."""
    contacts = contact_ids.cast(pa.string()).take(pa.array(rows.contact, mask=rows.contact < 0))
    table = pa.table(
        {
            "csa_id": pa.array(csa_ids, pa.string()).take(pa.array(rows.csa)),
            "contact_id": contacts,
            "known_at": to_arrow(rows.known_at),
            "residual": pa.array(rows.residual),
            "outcome": pa.array(rows.outcome),
            "weight": pa.array(rows.weight),
            "scale": pa.array(rows.scale),
            "code": vector_column(rows.code),
        }
    )
    pq.write_table(table, path)


def read_history(path: Path, csa_ids: tuple[str, ...]) -> tuple[HistoryRows, pa.Array]:
    """Read `history.parquet`: rows with codes into `csa_ids`, and their contact ids (`contact` counts the rows)."""
    table = read_table(path, ("csa_id", "contact_id", "known_at", "residual", "outcome", "weight", "scale", "code"))
    codes = pc.index_in(table["csa_id"], pa.array(csa_ids, pa.string()))
    if codes.null_count:
        raise BundleError(f"{path}: names a CSA that the roster does not hold; export the bundle again")
    count = len(table)
    rows = HistoryRows(
        csa=codes.to_numpy().astype(np.int32),
        known_at=from_arrow(table["known_at"], NULL_TIME),
        until=np.full(count, NEVER, dtype=np.int64),
        code=_matrix(table["code"], np.int8),
        scale=table["scale"].to_numpy(),
        residual=table["residual"].to_numpy(),
        outcome=table["outcome"].to_numpy(),
        weight=table["weight"].to_numpy(),
        customer=np.full(count, -1, dtype=np.int32),
        contact=np.arange(count, dtype=np.int64),
    )
    return rows, table["contact_id"].combine_chunks()


def read_table(path: Path, columns: tuple[str, ...]) -> pa.Table:
    """Columns of a table of a bundle. Raises BundleError where one is missing or the file cannot be read."""
    try:
        return pq.read_table(path, columns=list(columns), partitioning=None)
    except (pa.ArrowException, OSError) as error:
        raise BundleError(f"{path}: not the table of a bundle ({str(error).splitlines()[0]}); export again") from None


def vector_column(matrix: npt.NDArray[Any]) -> pa.FixedSizeListArray:
    """Rows (n, w) as lists of w numbers."""
    flat = np.ascontiguousarray(matrix).reshape(-1)
    return pa.FixedSizeListArray.from_arrays(pa.array(flat), matrix.shape[1])


def _matrix(column: pa.ChunkedArray, dtype: npt.DTypeLike = np.float32) -> npt.NDArray[Any]:
    width = column.type.list_size
    whole = column.combine_chunks()
    return np.asarray(whole.flatten().to_numpy(), dtype=dtype).reshape(len(column), width)
