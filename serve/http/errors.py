"""Requests that are not answered as they were meant, by status."""

from __future__ import annotations

import math


class Refused(Exception):
    """A request that gets `status` and one line; retry_s: after how many seconds it may be tried again."""

    def __init__(self, status: int, error: str, retry_s: float | None = None, close: bool = False) -> None:
        super().__init__(error)
        self.status, self.error, self.retry_s, self.close = status, error, retry_s, close

    def headers(self) -> dict[str, str]:
        """What goes with the status."""
        found = {}
        if self.retry_s is not None:
            found["Retry-After"] = str(max(1, math.ceil(self.retry_s)))
        if self.status == 401:
            found["WWW-Authenticate"] = "Bearer"
        if self.close:
            found["Connection"] = "close"
        return found
