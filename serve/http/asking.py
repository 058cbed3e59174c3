"""What is read of a request before its route does anything: who asks, the body, the deadline.

Notable: who asks is known before a byte of the body is read. A body is read up to the limit and no longer than it may
take, whatever its head says of its length.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeVar

from pydantic import BaseModel, ValidationError

from serve.http.errors import Refused
from serve.http.shell import KEY

if TYPE_CHECKING:
    from starlette.requests import Request

    from serve.http.service import Service
    from serve.http.tokens import Token

Body = TypeVar("Body", bound=BaseModel)
DEADLINE = "x-deadline-ms"
MOST_TOLD = 5  # errors of a body that are told


def admitted(service: Service, request: Request, roles: Sequence[str]) -> Token:
    """Who asks. Raises Refused."""
    who = service.admitted(request.headers.get("authorization"), roles)
    request.scope[KEY].update(token=who.name)
    return who


async def body_of(service: Service, request: Request, model: type[Body]) -> Body:
    """The body as a model of it. Raises Refused: 400, 408, 413, 415, 422."""
    kind = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise Refused(415, "a body of application/json is expected", close=True)
    content = await _bytes(service, request)
    try:
        return model.model_validate_json(content)
    except ValidationError as error:
        raise Refused(422, _plainly(error)) from None


async def _bytes(service: Service, request: Request) -> bytes:
    limits = service.settings.limits
    length = request.headers.get("content-length", "0")
    if not length.isascii() or not length.isdigit():
        raise Refused(400, "content-length: whole bytes are expected", close=True)
    if len(length) > 18 or int(length) > limits.body_bytes:  # int refuses what has thousands of digits
        raise _too_large(service)
    parts, size = [], 0
    try:
        async with asyncio.timeout(limits.body_s):
            async for part in request.stream():
                size += len(part)
                if size > limits.body_bytes:
                    raise _too_large(service)
                parts.append(part)
    except TimeoutError:
        service.metrics.refused.labels("slow").inc()
        raise Refused(408, f"the body did not come within {limits.body_s:g} s", close=True) from None
    return b"".join(parts)


def _too_large(service: Service) -> Refused:
    service.metrics.refused.labels("body").inc()
    return Refused(413, f"a body of at most {service.settings.limits.body_bytes} bytes is expected", close=True)


def _plainly(error: ValidationError) -> str:
    """Where and what, without the value."""
    found = [
        ".".join(str(part)[:40] for part in one["loc"][:6]) + ": " + one["msg"]
        for one in error.errors(include_url=False, include_input=False, include_context=False)
    ]
    more = f" and {len(found) - MOST_TOLD} more" if len(found) > MOST_TOLD else ""
    return ("; ".join(dict.fromkeys(found[:MOST_TOLD])) + more)[:600]


def deadline_of(service: Service, request: Request) -> float:
    """Seconds that the answer may take, by the header X-Deadline-Ms. Raises Refused."""
    limits, given = service.settings.limits, request.headers.get(DEADLINE)
    if given is None:
        return limits.deadline_s
    if not given.isascii() or not given.isdigit() or len(given) > 9 or not int(given):
        raise Refused(422, f"{DEADLINE}: whole milliseconds of at least 1 are expected")
    return min(int(given) / 1e3, limits.most_deadline_s)


def at_most(name: str, given: int, most: int) -> None:
    """Raises Refused where there are too many."""
    if given > most:
        raise Refused(422, f"{name}: {given}; at most {most} are taken")
