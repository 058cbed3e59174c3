"""Every CSA's features as of a moment, and the vectors that a bundle's tower makes of them, by an engine.

Notable: three things take long and are cut into tasks: the texts of contacts (by rounds), the history (by shards of
CSAs) and the CSA tower (by rounds). What all CSAs share, such as the rates that a CSA's own are shrunken towards, is
computed between them from the sums of all shards, so a table does not tell which engine made it.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from twotower.bundle.bundle import Bundle
from twotower.bundle.embed import csa_vectors, encoded_columns
from twotower.bundle.tables import vector_column
from twotower.engines import Engine
from twotower.features.csa import CsaFeatures
from twotower.features.engine.cluster import advanced
from twotower.features.engine.csa import CsaHistory
from twotower.features.streams import csa_streams, told_of_some
from twotower.files import atomic_file
from twotower.tables.log import Log


def everyone(log: Log, bundle: Bundle, at: int, engine: Engine) -> pa.Table:
    """A row for each CSA of the log's roster, in its order: csa_id, `handovers` known before the moment (µs), features
    float32 by their names (`FeatureSchema.csa_numbers`), and the profile vector.

    Only what was known strictly before the moment counts.
    """
    schema, known = bundle.schema, log.handovers.known_at < at
    read = np.unique(log.handovers.contact[known]).astype(np.int64)
    told = told_of_some(log, schema, read, partial(encoded_columns, engine, bundle))
    handovers, work = csa_streams(log, schema, told)
    empty = CsaHistory(schema.csa_settings, len(log.csas))
    history = advanced(engine, empty, handovers, work, at)
    embed = bundle.contact_encoder.encode
    features = CsaFeatures(log.csas, schema, lambda texts: embed({"intent_text": texts}, quiet=True).base).at(
        at, history
    )
    vectors = csa_vectors(engine, bundle, features, schema.identity_of(log.csas.ids))
    counts = np.bincount(log.handovers.csa[known], minlength=len(log.csas))
    columns = {name: pa.array(features[:, i]) for i, name in enumerate(schema.csa_numbers)}
    return pa.table(
        {
            "csa_id": log.csas.ids.cast(pa.string()),
            "handovers": pa.array(counts),
            **columns,
            "vector": vector_column(vectors),
        }
    )


def write_everyone(table: pa.Table, output: Path) -> None:
    """Write the table as Parquet, whole or not at all."""
    with atomic_file(output) as partial_file:
        pq.write_table(table, partial_file)
