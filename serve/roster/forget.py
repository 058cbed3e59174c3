"""Erasing a customer from a roster's journal: pairs that must not meet, which stand there under keyed hashes.

Notable: pairs are lifted first, by a record that every process reads before its next answer; then the journal is
compacted, which leaves out what was lifted, so the hash itself is gone. A run that was stopped is simply run again.
"""

from __future__ import annotations

from pathlib import Path

from serve.roster.changes import Block, Unblock
from serve.roster.compact import compact, compacted
from serve.roster.journal import Journal, JournalError, journal_secret
from twotower.clock import now


def open_journal(path: str | Path) -> Journal:
    """A journal that is there. Raises JournalError where it is not, ConfigError for its secret."""
    if not Path(path).is_file():
        raise JournalError(f"{path}: no such file; `twotower serve --journal` writes one")
    return Journal(path, journal_secret(path))


def erase_pairs(journal: Journal, customer_id: str) -> int:
    """Erase a customer's pairs from a journal that others may have open; how many there were. Raises JournalError."""
    with journal.locked():
        journal.read()
        pairs = unblocking(journal, customer_id)
        if pairs:
            journal.append(pairs, now())
            journal.read()
        if pairs is not None:
            compact(journal)
    journal.close()
    return len(pairs or ())


def unblocking(journal: Journal, customer_id: str) -> list[Unblock] | None:
    """What lifts a customer's pairs; None where the journal does not name them at all. Only under `locked`."""
    key, records = journal.keyed(customer_id), journal.whole()
    named = (change for record in records for change in record.changes if isinstance(change, Block | Unblock))
    if not any(change.customer_id == key for change in named):
        return None
    return [
        Unblock(change.csa_id, key)
        for record in compacted(records)
        for change in record.changes
        if isinstance(change, Block) and change.customer_id == key
    ]
