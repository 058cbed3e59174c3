"""Who was erased: a record in the database that goes before the rows, and that whoever writes looks at.

Notable: no id stands here, but hashes of it under the database's own salt, with a number that counts erasures. What is
to be written later carries the number that its process had heard of when it was told, and is left out where an erasure
of its customer, or of its contact, has a higher one; so no two clocks are compared. Writers hold a lock that they share
from this look to their commit and that an erasure takes alone: what was written before it is found and deleted, what
comes after it sees the record. Whoever knows the salt can try ids: `prune` forgets old records.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy import Connection, Engine, delete, func, insert, select, update

from serve.store.engine import READING, plainly
from serve.store.rows import delete_contacts, insert_new, parts
from serve.store.tables import contacts, erasing, erasures
from twotower.clock import now

CUSTOMER, CONTACT, MEMORY = "customer", "contact", "memory"
_LOCK = 0x74776F746F776573  # any number that is nobody else's


class Told(NamedTuple):
    """Something of a contact that is to be written; `heard`: the erasures that its process had heard of then."""

    contact_id: str
    customer_id: str | None
    heard: int


@dataclass(frozen=True)
class News:
    """Erasures up to `number`: what was erased, by key, with its number."""

    number: int
    numbers: Mapping[str, int]
    salt: bytes

    def of(self, contact_id: str | None, customer_id: str | None) -> int:
        """The number of the latest erasure that reaches a contact, 0 for none."""
        ids = (CUSTOMER, customer_id), (CONTACT, contact_id)
        keys = [key_of(self.salt, kind, one) for kind, one in ids if isinstance(one, str)]
        return max((self.numbers.get(key, 0) for key in keys), default=0)

    @property
    def memory(self) -> list[bytes]:
        """Keys under which customers' stores keep who was erased (`Customers.key_of`)."""
        return [bytes.fromhex(key.partition(":")[2]) for key in self.numbers if key.startswith(f"{MEMORY}:")]


class Erasures:
    """The record of one database. Safe to call from several threads. Raises StoreUnavailable, also when it is made.

    number: how many erasures this process has heard of; what it tells from then on is of new customers.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        with plainly("the store cannot be opened"), engine.connect().execution_options(**READING) as connection:
            salt, self.number = connection.execute(select(erasing.c.salt, erasing.c.number)).one()
        self._salt = bytes.fromhex(salt)

    def news(self, since: int) -> News:
        """What was erased after a number."""
        with plainly("erasures"), self._engine.connect().execution_options(**READING) as connection:
            return self._news(connection, since)

    def record(self, customer_id: str, memory: bytes | None = None) -> list[str]:
        """Erase a customer from all that is not written yet, everywhere; ids of their contacts, whose rows are to be
        deleted next. memory: their key in a customers' store, for those who have it in memory."""
        with plainly("erasure"), self._engine.begin() as connection:
            self._lock(connection, "pg_advisory_xact_lock")
            number = connection.execute(
                update(erasing).values(number=erasing.c.number + 1).returning(erasing.c.number)
            ).scalar_one()
            theirs = select(contacts.c.contact_id).where(contacts.c.customer_id == customer_id)
            found = sorted(connection.execute(theirs).scalars())
            keys = [key_of(self._salt, CUSTOMER, customer_id), *(key_of(self._salt, CONTACT, one) for one in found)]
            keys += [] if memory is None else [f"{MEMORY}:{memory.hex()}"]
            for part in parts(keys):
                connection.execute(delete(erasures).where(erasures.c.key.in_(part)))
                connection.execute(insert(erasures), [_row(key, number) for key in part])
        self.number = max(self.number, number)
        return found

    def kept(self, connection: Connection, told: Sequence[Told]) -> list[bool]:
        """Which of some may be written, in the transaction that writes them.

        Contacts of the others, where nobody told them again since, are theirs as well: nothing of them stays, and what
        comes of them later is left out.
        """
        self._lock(connection, "pg_advisory_xact_lock_shared")
        news = self._news(connection, min((one.heard for one in told), default=self.number))
        gone = {place: number for place, one in enumerate(told) if (number := news.of(*one[:2])) > one.heard}
        if gone:
            again = {one.contact_id for place, one in enumerate(told) if place not in gone}
            last = {told[place].contact_id: number for place, number in gone.items()}
            last = {one: number for one, number in last.items() if one not in again}
            for part in parts(sorted(last.keys() - _there(connection, last))):
                delete_contacts(connection, part)
                rows = [_row(key_of(self._salt, CONTACT, one), last[one]) for one in part]
                insert_new(connection, erasures, rows)
        return [place not in gone for place in range(len(told))]

    def gone(self, connection: Connection, contact_ids: Iterable[str]) -> set[str]:
        """Which of some contacts were erased and not told again since, in the transaction that writes of them."""
        self._lock(connection, "pg_advisory_xact_lock_shared")
        found = self.erased(connection, contact_ids)
        return found - _there(connection, found)

    def erased(self, connection: Connection, contact_ids: Iterable[str]) -> set[str]:
        """Which of some contacts were erased, whether told again since or not."""
        by_key = {key_of(self._salt, CONTACT, one): one for one in contact_ids}
        found: set[str] = set()
        for part in parts(sorted(by_key)):
            erased = connection.execute(select(erasures.c.key).where(erasures.c.key.in_(part))).scalars()
            found.update(by_key[key] for key in erased)
        return found

    def _news(self, connection: Connection, since: int) -> News:
        number = connection.execute(select(erasing.c.number)).scalar_one()
        numbers: dict[str, int] = {}
        if number > since:
            later = select(erasures.c.key, erasures.c.number).where(erasures.c.number > since)
            numbers = {row.key: row.number for row in connection.execute(later)}
        self.number = max(self.number, number)
        return News(number, numbers, self._salt)

    def _lock(self, connection: Connection, how: str) -> None:
        """Until the transaction ends. SQLite has one writer at a time anyway."""
        if connection.dialect.name == "postgresql":
            connection.execute(select(getattr(func, how)(_LOCK)))


def key_of(salt: bytes, kind: str, name: str) -> str:
    """How an id stands in the record."""
    # Ids come from everywhere, a lone half of a character is possible.
    content = f"{kind}:{name}".encode("utf-8", "surrogatepass")
    return f"{kind}:{hashlib.blake2b(content, key=salt, digest_size=16).hexdigest()}"


def _row(key: str, number: int) -> dict[str, str | int]:
    return {"key": key, "number": number, "erased_at": now()}


def _there(connection: Connection, contact_ids: Iterable[str]) -> set[str]:
    """Which of some contacts the log holds."""
    found: set[str] = set()
    for part in parts(sorted(contact_ids)):
        where = contacts.c.contact_id.in_(part)
        found.update(connection.execute(select(contacts.c.contact_id).where(where)).scalars())
    return found
