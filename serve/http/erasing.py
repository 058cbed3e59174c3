"""Erasing a customer from a service, and from every other process that has the same store open.

Notable: the store's record of erasures (`serve/store/erasures.py`) is written first; every process looks at it each
`run.TICK_S` and before it saves the customers' file, and forgets who was erased: contacts that wait for their outcome,
and the pairing memory. What waits to be written is left out by the store itself, blocked pairs go by the journal.
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Any

from serve.customers_file import erase_from_file
from serve.customers_secret import read_secret
from serve.http.errors import Refused
from serve.http.outage import Outage
from serve.store.errors import StoreError
from twotower.errors import TwoTowerError
from twotower.files import alone

if TYPE_CHECKING:
    from serve.http.service import Service

_log = logging.getLogger("serve")


class Eraser:
    """Of one service. Safe to call from several threads. Its store must have been opened before its customers were."""

    def __init__(self, service: Service) -> None:
        self._service, self._store = service, service.store
        self._heard = 0 if service.store is None else service.store.erasures.number
        self._lock, self._outage = threading.Lock(), Outage("who was erased is not heard of now")

    def erase(self, customer_id: str) -> dict[str, Any]:
        """Forget a customer: `rows` of the store by table; whether the `customers`' store knew them, None without one;
        how many blocked `pairs`. Raises Refused, StoreError, JournalError: what was begun is done by another call."""
        serving, settings = self._service.serving, self._service.settings
        if self._store is None and settings.workers > 1:
            raise Refused(404, "several workers hear of an erasure by the store: start the service with --store")
        customers, known = serving.matcher.customers, None
        key = None if customers is None else customers.key_of(customer_id)
        rows = {} if self._store is None else self._store.erase(customer_id, key)
        if customers is not None and key is not None:
            known = customers.erase_key(key)
        self.follow()
        if settings.customers is not None:
            known = self._erase_from(settings.customers, customer_id) or known
        return {"rows": rows, "customers": known, "pairs": serving.keeper.forget(customer_id)}

    def look(self) -> None:
        """`follow`; where the database is away, the next call does."""
        self._outage.spare(self.follow)

    def follow(self) -> None:
        """Forget who was erased, here or elsewhere. Raises StoreUnavailable."""
        if self._store is None:
            return
        with self._lock:
            news = self._store.erasures.news(self._heard)
            if news.numbers:
                self._service.forget(lambda contact_id, customer_id: news.of(contact_id, customer_id) > 0)
                customers = self._service.serving.matcher.customers
                if customers is not None:
                    for key in news.memory:
                        customers.erase_key(key)
            self._heard = news.number

    def save(self) -> None:
        """Write the customers' file, without anybody who was erased; where that cannot be asked, it stays as it is."""
        customers, path = self._service.serving.matcher.customers, self._service.settings.customers
        if customers is None or path is None:
            return
        with alone(path):
            try:
                self.follow()
            except StoreError as error:
                _log.warning("customers are not saved, as nobody can say who was erased: %s", error)
                return
            customers.save(path)

    def _erase_from(self, path: str, customer_id: str) -> bool:
        try:
            return erase_from_file(path, read_secret(self._service.settings.secret), customer_id)[0]
        except (TwoTowerError, OSError) as error:
            _log.exception("the customers' file could not be written")
            raise Refused(503, "the customers' file cannot be written now; erase again", 1.0) from error
