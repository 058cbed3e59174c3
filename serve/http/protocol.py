"""Connections with limits that uvicorn does not have: how many, how large a head, how slow a client.

Notable: a connection beyond the limit is accepted and told 503 with Retry-After at once, so its client learns that it
may come again; then it is closed, after a moment in which it may read that. A client that sends its head a byte at a
time, or does not read its answer, is cut off by the clock. Nothing here waits for anybody.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from serve.http.metrics import Metrics
from serve.http.settings import Limits

LINGER_S = 1.0  # that a refused client has to read why
MOST_LINGERING = 2000
MOST_PIPELINED = 32  # requests of a connection that wait for the one before
BODY = b'{"error": "too many connections"}'
REFUSAL = (
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nConnection: close\r\nContent-Type: application/json\r\n"
    b"Content-Length: " + str(len(BODY)).encode() + b"\r\n\r\n" + BODY
)
TOO_SLOW = b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"


def protocol_of(limits: Limits, metrics: Metrics) -> type[asyncio.Protocol]:
    """The class that uvicorn makes one of for each connection."""

    class Connection(_Connection):
        """One connection."""

        limits_ = limits
        metrics_ = metrics

    Connection.lingering = 0
    return Connection


class _Connection(HttpToolsProtocol):
    limits_: Limits
    metrics_: Metrics
    lingering = 0

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._refused = False
        self._head = 0  # bytes of a head that is not whole; −1: none is awaited
        self._clock: asyncio.TimerHandle | None = None
        self._stuck: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take it, or refuse it."""
        if len(self.connections) >= self.limits_.connections:
            self._refuse(transport)
            return
        super().connection_made(transport)  # type: ignore[arg-type]
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone."""
        self._stop()
        if self._refused:
            type(self).lingering -= 1
            return
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Some bytes of a request."""
        if self._refused:
            return
        if self._head >= 0:
            self._head += len(data)
        super().data_received(data)
        if self._head > self.limits_.head_bytes and not self.transport.is_closing():
            self._end(TOO_LARGE, "head")

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        super().on_message_begin()
        if self._head < 0:
            self._await_head()

    def on_headers_complete(self) -> None:
        """Its head is whole."""
        if len(self.pipeline) >= MOST_PIPELINED:
            # uvicorn would read on and keep them all; an exception here makes it answer 400 and close.
            self.metrics_.refused.labels("pipelining").inc()
            raise ValueError("too many requests before the first was answered")
        self._head = -1
        if self._clock is not None:
            self._clock.cancel()
            self._clock = None
        super().on_headers_complete()

    def pause_writing(self) -> None:
        """The client does not read."""
        super().pause_writing()
        self._stuck = self.loop.call_later(self.limits_.write_s, self._abort, "slow reader")

    def resume_writing(self) -> None:
        """It reads again."""
        super().resume_writing()
        if self._stuck is not None:
            self._stuck.cancel()
            self._stuck = None

    def timeout_keep_alive_handler(self) -> None:
        """Nothing came for long: close, and do not wait for what it did not read."""
        super().timeout_keep_alive_handler()
        self._stuck = self.loop.call_later(self.limits_.write_s, self._abort, "slow reader")

    def _await_head(self) -> None:
        self._head = 0
        self._clock = self.loop.call_later(self.limits_.head_s, self._end, TOO_SLOW, "slow")

    def _refuse(self, transport: Any) -> None:
        self._refused = True
        self.transport = transport
        self.metrics_.refused.labels("connections").inc()
        type(self).lingering += 1
        transport.write(REFUSAL)
        if type(self).lingering > MOST_LINGERING or not transport.can_write_eof():
            transport.close()
            return
        transport.write_eof()  # what it sent is still read and dropped, so that no reset overtakes the answer
        self._clock = self.loop.call_later(LINGER_S, transport.abort)

    def _end(self, answer: bytes, why: str) -> None:
        self.metrics_.refused.labels(why).inc()
        self.transport.write(answer)
        self.transport.close()
        self._stuck = self.loop.call_later(self.limits_.write_s, self._abort, why)

    def _abort(self, why: str) -> None:
        if self.transport is not None:
            self.metrics_.refused.labels(why).inc()
            self.transport.abort()

    def _stop(self) -> None:
        for timer in (self._clock, self._stuck):
            if timer is not None:
                timer.cancel()
        self._clock = self._stuck = None
