"""Vectors of a file of contacts: batches stream in, tasks of an engine encode them, vectors stream out.

Notable: what is held is the batches that are under way, never the file, so a file may be larger than memory; it is
written whole or not at all. A contact's vectors are those that `match` reads without customers: what a customer's past
adds is known in a store or a log, and not to the file.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from serve.contact_file import ContactFile
from twotower.bundle.bundle import Bundle
from twotower.bundle.embed import encoded
from twotower.bundle.sessions import Encoded
from twotower.bundle.tables import vector_column
from twotower.engines import Engine
from twotower.errors import OutputError
from twotower.files import atomic_file
from twotower.progress import bar

VECTORS = ("profile", "memory", "base")


def embed_file(bundle: Bundle, contacts: str | Path, output: str | Path, engine: Engine) -> int:
    """Write contact_id, the vectors `profile`, `memory` and `base` (lists of float32), `level` (log-odds), `intent`
    (the most probable label, null where the bundle has none) and `intent_p`, in the file's order; returns how many.

    Raises DataError for a bad file, OutputError where the output exists, and what the engine raises.
    """
    if Path(output).exists():
        raise OutputError(f"{output}: exists already; name a new --output or remove it first")
    file, ids = ContactFile(contacts, None, need_arrival=False), []
    labels = pa.array([None, *bundle.schema.categories["intent"]], pa.string())

    def rounds() -> Iterator[dict[str, Any]]:
        for batch in file.batches():
            ids.append(batch.ids)
            yield batch.columns

    with atomic_file(output) as partial, bar("embedding", total=len(file), unit="contact") as advance:
        writer: pq.ParquetWriter | None = None
        try:
            for found in encoded(engine, bundle, rounds()):
                table = _table(ids.pop(0), found, labels)
                writer = writer or pq.ParquetWriter(partial, table.schema)
                writer.write_table(table)
                advance(len(table))
        finally:
            if writer is not None:
                writer.close()
    return len(file)


def _table(ids: pa.Array, found: Encoded, labels: pa.Array) -> pa.Table:
    columns: dict[str, Any] = {name: vector_column(getattr(found, name)) for name in VECTORS}
    return pa.table(
        {
            "contact_id": ids.cast(pa.string()), **columns, "level": pa.array(found.level),
            "intent": labels.take(pa.array(found.intent)), "intent_p": pa.array(found.intent_p),
        }
    )  # fmt: skip
