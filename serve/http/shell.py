"""Around every request: an id, a limit on how many at once, a last timeout, one line in the log, one observation.

Notable: nothing that a route raises gets past this; an unexpected error is answered by 500 without its message, which
may hold what the customer wrote.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from typing import TYPE_CHECKING, Any

from serve.http.errors import Refused
from serve.http.logs import log_request, request_id_of
from serve.store.records import uuid7

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from serve.http.service import Service

_log = logging.getLogger("serve")
OPEN = ("/healthz", "/readyz", "/metrics")  # answered however much there is to do
KEY = "twotower"


class Shell:
    """ASGI middleware."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app, self._service, self._under_way = app, service, 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun, status = time.monotonic(), 0
        given = next((value for name, value in scope["headers"] if name == b"x-request-id"), None)
        request_id = request_id_of(None if given is None else given.decode("latin-1"), uuid7())
        said: dict[str, Any] = {"request_id": request_id}
        scope[KEY] = said

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", request_id.encode("latin-1"))]
            await send(message)

        self._under_way += 1
        try:
            await self._bounded(scope, receive, sending)
        except Refused as refused:
            await _answer(sending, refused, request_id)
        except TimeoutError:
            if not status:
                await _answer(sending, Refused(503, "not answered in time", 1.0, close=True), request_id)
        except Exception:  # a defect: logged without its message
            _log.exception("defect")
            if not status:
                await _answer(sending, Refused(500, "a defect of this service; its log has the place"), request_id)
        finally:
            self._under_way -= 1
            self._told(scope, said, status, time.monotonic() - begun)

    async def _bounded(self, scope: Scope, receive: Receive, send: Send) -> None:
        limits = self._service.settings.limits
        if self._under_way > limits.requests and scope["path"] not in OPEN:
            self._service.metrics.refused.labels("requests").inc()
            raise Refused(503, "too much is being done", 1.0, close=True)
        async with asyncio.timeout(limits.request_s):
            await self._app(scope, receive, send)

    def _told(self, scope: Scope, said: dict[str, Any], status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "unmatched")
        self._service.metrics.http.labels(route, str(status)).observe(seconds)
        if scope["path"] not in OPEN:
            method = scope["method"] if scope["method"].isalpha() else "?"
            log_request(
                {**said, "route": route, "method": method[:10], "status": status, "ms": round(seconds * 1e3, 2)}
            )


async def _answer(send: Send, refused: Refused, request_id: str) -> None:
    body = json.dumps({"error": refused.error, "request_id": request_id}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    headers += [(name.lower().encode(), value.encode()) for name, value in refused.headers().items()]
    await send({"type": "http.response.start", "status": refused.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
