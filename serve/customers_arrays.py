"""What stands in a file of customers beside the store's own arrays, and whether it fits.

Notable: hand-overs of two bundles may stand in it, the one that is gone on with and the one before; each has a name of
its own, so a file without the second reads as one of which nothing was put by.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from serve.customers_past import Latest
from serve.customers_rows import Remembered, RowsByCustomer
from twotower.errors import DataError
from twotower.features.customer import SETTINGS
from twotower.features.engine.store import CustomerStore

Longs = npt.NDArray[np.int64]
Owned = tuple[str, RowsByCustomer]
"""A bundle's id, and the hand-overs that it encoded."""

ROWS = ("csa", "known_at", "resolved", "residual", "code", "scale")
BY = "by"
"""Arrays of the hand-overs that are put by begin with it; a file may have none."""


def arrays_of(
    store: CustomerStore, latest: Latest, until: int, rows: Owned, by: Owned | None
) -> dict[str, npt.NDArray[Any]]:
    """All of a file, from parts that nobody else changes meanwhile. by: what is put by."""
    order = store.order()
    parts = [("", "row", rows), *([] if by is None else [(f"{BY}_", BY, by)])]
    gathered = [owned[1].gathered(order) for _, _, owned in parts]
    state, place = store.state(order, np.concatenate([kept.csa for kept, _ in gathered]))
    latest = latest.take(order)
    found = {
        **state,
        "until": np.array(until),
        "latest": latest.at, "latest_style": latest.style, "since": latest.since,
        **latest.language.state(),
    }  # fmt: skip
    for (before, name, (bundle, _)), (kept, counts) in zip(parts, gathered, strict=True):
        found[f"{before}bundle"], found[f"{name}_count"] = np.frombuffer(bundle.encode(), np.uint8), counts
        kept = replace(kept, csa=place[kept.csa])
        found.update({f"{name}_{field}": getattr(kept, field) for field in ROWS})
    return found


def restored(
    arrays: Mapping[str, npt.NDArray[Any]], before: str, name: str, store: CustomerStore, latest: Latest
) -> Owned:
    """The hand-overs of one bundle. Raises KeyError, DataError where parts do not fit each other."""
    rows, counts = Remembered(*(arrays[f"{name}_{field}"] for field in ROWS)), arrays[f"{name}_count"]
    _check(store, latest, rows, counts)
    return arrays[f"{before}bundle"].tobytes().decode(), RowsByCustomer(rows, counts)


def _check(store: CustomerStore, latest: Latest, rows: Remembered, counts: Longs) -> None:
    """Raises DataError where parts do not fit each other."""
    customers, handovers = store.history.customers, len(rows.csa)
    wanted: list[tuple[npt.NDArray[Any], str, tuple[int, ...]]] = [
        (latest.at, "i8", (customers,)), (latest.since, "i8", (customers,)), (counts, "i8", (customers,)),
        (latest.style, "f4", (customers, len(SETTINGS.signals))), (rows.csa, "i4", (handovers,)),
        (rows.known_at, "i8", (handovers,)), (rows.resolved, "i1", (handovers,)), (rows.residual, "f4", (handovers,)),
        (rows.code, "i1", (handovers, *rows.code.shape[1:2])), (rows.scale, "f4", (handovers,)),
    ]  # fmt: skip
    for array, dtype, shape in wanted:
        if array.dtype != np.dtype(dtype) or array.shape != shape:
            raise DataError(f"{array.dtype}{array.shape} where {dtype}{shape} is expected")
    if handovers and not 0 <= rows.csa.min() <= rows.csa.max() < len(store.csa_ids):
        raise DataError("hand-overs of CSAs who are not named")
