"""A job beside the requests that asks a database: while that is away, the log says so once."""

from __future__ import annotations

import logging
from collections.abc import Callable

from serve.store.errors import StoreError

_log = logging.getLogger("serve")


class Outage:
    """Of one job. what: it cannot be done, in words for the log."""

    def __init__(self, what: str) -> None:
        self._what, self._away = what, False

    def spare(self, work: Callable[[], None]) -> None:
        """Do the job; where the database is away, the next call does."""
        try:
            work()
            self._away = False
        except StoreError as error:
            if not self._away:
                _log.warning("%s: %s", self._what, error)
            self._away = True
