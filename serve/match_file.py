"""Matching a file: contacts stream in, ranked rows stream out, and the output appears whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from serve.answer import Ranked
from serve.contact import MatchError
from serve.contact_file import ContactBatch, ContactFile
from serve.customers import Customers
from serve.matcher import Matcher
from serve.rolling import RollingMatcher
from twotower.clock import NULL_TIME, format_time
from twotower.errors import DataError
from twotower.features.schema import customer_columns
from twotower.files import atomic_file
from twotower.progress import bar
from twotower.scoring.join import ContactVectors, Rank
from twotower.scoring.utility import Utility
from twotower.tables.load import codes
from twotower.tables.log import Log

SCHEMA = pa.schema(
    [
        ("contact_id", pa.string()),
        ("rank", pa.int32()),
        ("csa_id", pa.string()),
        ("score", pa.float32()),
        ("p_resolved", pa.float32()),
    ]
)


@dataclass(frozen=True)
class Matched:
    """What was done: `contacts` read, `rows` written, `without` contacts with nobody eligible, `rank` the meaning."""

    contacts: int
    rows: int
    without: int
    rank: str


def match_file(
    bundle: str | Path,
    contacts: str | Path,
    output: str | Path,
    data: str | Path | None = None,
    rank: Rank | None = None,
    k: int = 10,
    digest: str | None = None,
    customers: Customers | None = None,
    utility: Utility | None = None,
) -> Matched:
    """Match every contact of a Parquet file and write contact_id, rank (from 1), csa_id, score, p_resolved.

    data: a folder of tables whose hand-overs are rolled forward to each contact's arrival; without it, history is that
    of the bundle, and what is known of returning customers that of `customers`. Contacts without an eligible candidate
    get no rows. With a utility, `score` is U. Raises DataError for a bad file, and for a contact that arrived before
    what `customers` tells of its customer, BundleError for a bad bundle and for a utility of what it cannot tell,
    MatchError for options that the bundle cannot serve.
    """
    if k < 1:
        raise MatchError(f"--k: at least 1 expected, got {k}")
    if data is not None and customers is not None:
        raise MatchError("--customers with --data: the tables tell what is known of customers; give one of the two")
    matcher = Matcher.load(bundle, digest, customers)
    meaning = matcher.meaning(rank, utility)
    source: FromBundle | FromLog
    source = FromBundle(matcher, Path(contacts)) if data is None else FromLog(matcher, Log.load(data))
    file = ContactFile(contacts, source.csa_ids, need_arrival=data is not None)
    rows = without = 0
    with (
        atomic_file(output) as partial,
        pq.ParquetWriter(partial, SCHEMA) as writer,
        bar("matching", total=len(file), unit="contact") as advance,
    ):
        for batch in file.batches():
            table, empty = _table(batch, source.rank(batch, k, meaning, utility), source.csa_ids)
            writer.write_table(table)
            rows, without = rows + len(table), without + empty
            advance(len(batch))
    return Matched(len(file), rows, without, meaning)


class FromBundle:
    """Ranks with the history of the bundle, and with what the matcher knows of customers.

    path: the file that contacts come from, which messages name.
    """

    def __init__(self, matcher: Matcher, path: Path) -> None:
        self._matcher, self._path, self._read = matcher, path, 0
        self.csa_ids = pa.array(matcher.snapshot.ids, pa.string())

    def rank(self, batch: ContactBatch, k: int, rank: Rank, utility: Utility | None) -> Iterator[Ranked | None]:
        """The best k for each contact, None where nobody is eligible."""
        arrived = [None if t == NULL_TIME else int(t) for t in batch.arrived_at]
        customer_ids = batch.customer_id.to_pylist()
        self._refuse_what_came_since(customer_ids, arrived)
        self._read += len(batch)
        vectors = self._matcher.encode(batch.columns, customer_ids, arrived)
        for i in range(len(batch)):
            row = None if batch.eligible is None else batch.eligible.row(i)
            eligible = None if row is None else np.unique(row).astype(np.int64)
            nobody = eligible is not None and not len(eligible)
            one = vectors.take(np.array([i]))
            yield None if nobody else self._matcher.rank(one, k, eligible, rank, utility=utility)

    def _refuse_what_came_since(self, customer_ids: list[str | None], arrived: list[int | None]) -> None:
        """A file is matched to see what would have been: then nothing may be left out either."""
        customers = self._matcher.customers
        if customers is None:
            return
        exact = customers.exact(customers.codes(customer_ids), *self._matcher.times(arrived))
        if not exact.all():
            row = self._read + int(np.argmin(exact))
            raise DataError(
                f"{self._path}, row {row}, column arrived_at: earlier than what the customers' store, which stands at "
                f"{format_time(customers.moment)}, knows of its customer; build a store --until the first arrival"
            )


class FromLog:
    """Ranks with history rolled forward through a log."""

    def __init__(self, matcher: Matcher, log: Log) -> None:
        self._rolling, self._log = RollingMatcher(matcher, log), log
        self._encoder = matcher.bundle.contact_encoder
        self.csa_ids = log.csas.ids

    def rank(self, batch: ContactBatch, k: int, rank: Rank, utility: Utility | None) -> Iterator[Ranked | None]:
        """The best k for each contact, None where nobody is eligible; in the order of the batch."""
        customer = codes(batch.customer_id, self._log.customer_ids)
        past = self._rolling.customers.at(customer, batch.arrived_at)
        columns = {**batch.columns, **customer_columns(self._log, customer)}
        encoded = self._encoder.encode(columns, past, quiet=True)
        vectors = ContactVectors(
            encoded.profile, encoded.memory, encoded.level, encoded.base, batch.arrived_at, customer, encoded.outcomes
        )
        ranked: dict[int, Ranked | None] = {}
        for i in np.argsort(batch.arrived_at, kind="stable"):  # in time, so that history is advanced once
            row = None if batch.eligible is None else batch.eligible.row(int(i))
            moment = int(batch.arrived_at[i])
            who = self._rolling.active(moment) if row is None else np.unique(row).astype(np.int64)
            one = vectors.take(np.array([i]))
            ranked[int(i)] = self._rolling.rank(one, who, k, rank, utility) if len(who) else None
        return (ranked[i] for i in range(len(batch)))


def _table(batch: ContactBatch, ranked: Iterator[Ranked | None], csa_ids: pa.Array) -> tuple[pa.Table, int]:
    """The rows of one batch, and how many of its contacts have none."""
    owner: list[npt.NDArray[np.int64]] = []
    found: list[Ranked] = []
    for i, one in enumerate(ranked):
        if one is not None and len(one.codes):
            found.append(one)
            owner.append(np.full(len(one.codes), i, dtype=np.int64))
    if not found:
        return SCHEMA.empty_table(), len(batch)
    columns: dict[str, Any] = {
        "contact_id": pc.cast(batch.ids, pa.string()).take(pa.array(np.concatenate(owner))),
        "rank": pa.array(np.concatenate([np.arange(1, 1 + len(r.codes)) for r in found]), pa.int32()),
        "csa_id": csa_ids.cast(pa.string()).take(pa.array(np.concatenate([r.codes for r in found]))),
        "score": pa.array(np.concatenate([r.score for r in found]), pa.float32()),
        "p_resolved": _p_resolved(found),
    }
    return pa.table(columns, schema=SCHEMA), len(batch) - len(found)


def _p_resolved(found: list[Ranked]) -> pa.Array:
    if found[0].p_resolved is None:
        return pa.nulls(sum(len(r.codes) for r in found), pa.float32())
    return pa.array(np.concatenate([r.p_resolved for r in found if r.p_resolved is not None]), pa.float32())
