"""What was told already, so that it is told once."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any

REMEMBERED = 100_000  # the latest: some 40 MB of hand-overs


class Once:
    """Keys that were told, the latest `most`. Safe to call from several threads."""

    def __init__(self, most: int = REMEMBERED) -> None:
        self._most, self._lock = most, threading.Lock()
        self._told: OrderedDict[Hashable, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._told)

    def __contains__(self, key: object) -> bool:
        return key in self._told

    def add(self, key: Hashable) -> bool:
        """Whether it is new; it counts as told then."""
        with self._lock:
            if key in self._told:
                return False
            self._told[key] = None
            if len(self._told) > self._most:
                self._told.popitem(last=False)
            return True

    def forget(self, unwanted: Callable[[Any], bool]) -> None:
        """Keep no trace of some."""
        with self._lock:
            told = list(self._told)
        gone = [key for key in told if unwanted(key)]
        with self._lock:
            for key in gone:
                self._told.pop(key, None)
