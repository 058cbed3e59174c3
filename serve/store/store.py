"""The store: one database of decisions, feedback and CSAs, and what is done with it.

Notable: decisions are put into a queue and are durable within `WINDOW_S` (`log.py`); feedback is durable when the call
returns (`feedback.py`). Several processes may have one database open. Text is stored masked, or not at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from itertools import compress
from pathlib import Path
from types import TracebackType
from typing import Any

from sqlalchemy import Engine, text

from serve.store.committer import Committer
from serve.store.engine import READING, open_engine, plainly, read_url, shown_url
from serve.store.erase import erase_contacts, prune
from serve.store.erasures import Erasures
from serve.store.errors import StoreError
from serve.store.feedback import store_abandoned, store_feedback
from serve.store.log import TEXTS, DecisionLog, TextKept, contact_fields, masked, said, set_texts
from serve.store.migrate import migrate
from serve.store.records import Feedback, named
from serve.store.redacting import RedactingProcess
from serve.store.roster import store_left, store_roster
from serve.store.rows import insert_new
from serve.store.shadows import Shadowed, write_shadows
from serve.store.tables import contacts
from twotower.clock import now
from twotower.redaction.config import RedactionConfig

BOUND = 10_000


class Store:
    """An open store; close it, or use it in `with`. Safe to call from several threads.

    `log.decided(…)` is for the hot path. Everything else writes to the database before it returns, and raises
    StoreUnavailable where it cannot now, InvalidFact and Conflict for what it will not take.
    """

    def __init__(self, engine: Engine, name: str, text: TextKept, redacting: RedactingProcess, bound: int) -> None:
        self.engine, self.name = engine, name
        self._text, self._redacting = text, redacting
        self.erasures = Erasures(engine)
        self.log = DecisionLog(engine, self.erasures, text, redacting, bound)
        self._bound = bound
        self._shadows: Committer[Shadowed] | None = None

    @classmethod
    def open(
        cls, url: str, text: TextKept = "redacted", redaction: RedactionConfig | None = None, bound: int = BOUND
    ) -> Store:
        """Open a database, make it where it is not there, and bring it to this version, under a lock.

        url: `sqlite:///FILE` or `postgresql://…`. text: "redacted", or "none" to keep no text. redaction: what is
        masked, None: everything. bound: decisions that may wait while the database is away. Raises ConfigError for a
        URL that cannot be, StoreUnavailable, StoreError.
        """
        parsed = read_url(url)
        redacting = RedactingProcess(redaction)
        engine = open_engine(parsed)
        try:
            migrate(engine)
            return cls(engine, shown_url(parsed), text, redacting, bound)
        except BaseException:
            engine.dispose()
            raise

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self, timeout_s: float = 5.0) -> None:
        """Write the decisions that wait and let go of the database."""
        self.log.close(timeout_s)
        if self._shadows is not None:
            self._shadows.close(timeout_s)
        self._redacting.close()
        self.engine.dispose()

    def feedback(self, *told: Feedback) -> int:
        """Store feedback, all of it or none; how many told something new. Durable when it returns."""
        return store_feedback(self.engine, self.erasures, told)

    def abandoned(self, contact_id: str, at: Any) -> bool:
        """A customer gave up waiting at a moment; False where that was told before."""
        return store_abandoned(self.engine, self.erasures, contact_id, at)

    def contacts(self, rows: Iterable[Mapping[str, Any]]) -> int:
        """Store contacts that no decision was logged for, such as those of a log from elsewhere; how many are new. The
        first telling stands."""
        rows = list(rows)
        ids = [named("contact_id", row.get("contact_id")) for row in rows]
        made = [contact_fields(row, contact_id, now()) for row, contact_id in zip(rows, ids, strict=True)]
        told = [said(row, contact_id, self.erasures.number) for row, contact_id in zip(rows, ids, strict=True)]
        if self._text == "redacted":
            texts = masked(self._redacting, told)
        else:
            texts = [(each.contact_id, "", "") for each in told]
        with plainly("contacts"), self.engine.begin() as connection:
            at, kept = now(), self.erasures.kept(connection, [one.told for one in told])
            full = [
                {**row, **dict(zip(TEXTS, both[1:], strict=True)), "stored_at": at}
                for row, both in compress(zip(made, texts, strict=True), kept)
            ]
            new = insert_new(connection, contacts, full)
            if new < len(full):
                set_texts(connection, list(compress(texts, kept)))
        return new

    def shadowed(self, one: Shadowed) -> bool:
        """Store what another bundle would have answered, soon; False, and lost, where too many wait. For one thread."""
        if self._shadows is None:
            write = lambda batch: write_shadows(self.engine, self.erasures, batch)  # noqa: E731
            self._shadows = Committer(write, self._bound, "shadows")
        return self._shadows.put(one)

    def flush_shadows(self, timeout_s: float = 30.0) -> bool:
        """Wait until all that was told so far is in the database; False where it is not in time."""
        return self._shadows is None or self._shadows.flush(timeout_s)

    def roster(self, rows: Iterable[Mapping[str, Any]], at: Any = None) -> int:
        """Store rows of csas.parquet that count from a moment on (None: from the beginning); how many said anything
        new."""
        return store_roster(self.engine, rows, at, self._redacting if self._text == "redacted" else None)

    def left(self, csa_ids: Iterable[str], at: Any) -> int:
        """CSAs have left at a moment; how many of them had not before."""
        return store_left(self.engine, csa_ids, at)

    def erase(self, customer_id: str, memory: bytes | None = None) -> dict[str, int]:
        """Forget a customer: their contacts and all that was decided and known of them; rows by table. What waits in
        this or another process's queue is left out when it is written.

        memory: `Customers.key_of` them, for who follows `erasures` to erase them from a customers' store.
        """
        return erase_contacts(self.engine, self.erasures.record(customer_id, memory))

    def prune(self, before: Any) -> dict[str, int]:
        """Forget contacts of which nothing became known at a moment or later, and rows of CSAs that others replaced
        before it; rows by table."""
        return prune(self.engine, before)

    def ready(self) -> None:
        """Ask the database. Raises StoreUnavailable where it does not answer."""
        with plainly("store"), self.engine.connect().execution_options(**READING) as connection:
            connection.execute(text("SELECT 1"))

    def counts(self) -> dict[str, Any]:
        """Counters of decisions and of texts since it was opened, and whether the database is away."""
        return {
            "decisions": asdict(self.log.counts),
            "texts": asdict(self.log.text_counts),
            "away": self.log.away,
        }


@contextmanager
def existing(url: str) -> Iterator[Engine]:
    """The database of a store that is there, brought to this version, for who only reads or deletes. Raises StoreError
    for a file that is not there, which `Store.open` would make."""
    parsed = read_url(url)
    if parsed.get_backend_name() == "sqlite" and not Path(str(parsed.database)).is_file():
        raise StoreError(f"{parsed.database}: no such file; the router makes it when it opens its store")
    engine = open_engine(parsed)
    try:
        migrate(engine)
        yield engine
    finally:
        engine.dispose()
