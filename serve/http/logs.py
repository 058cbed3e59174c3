"""Logs as lines of JSON that hold no customer's text and no token.

Notable: a request's line is made of named values alone, never of what came with the request: the route stands for the
path, the token's name for the token. Of an exception its type and where it was raised are logged, not its message, as
libraries put into messages what they were given.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import traceback
from typing import Any, TextIO

from twotower.clock import format_time

LONGEST = 2000
REQUESTS = logging.getLogger("serve.requests")
_PLAIN = re.compile(r"[A-Za-z0-9._:-]{1,64}")


class Lines(logging.Formatter):
    """Records as one line of JSON each."""

    def format(self, record: logging.LogRecord) -> str:
        """time, level, logger, message, and what the record was given as `values`."""
        found: dict[str, Any] = {
            "time": format_time(int(record.created * 1e6)),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage()[:LONGEST],
            **getattr(record, "values", {}),
        }
        if record.exc_info and record.exc_info[0] is not None:
            found["error"] = record.exc_info[0].__name__
            found["at"] = [f"{f.filename}:{f.lineno} {f.name}" for f in traceback.extract_tb(record.exc_info[2])[-12:]]
        return json.dumps(found, ensure_ascii=True, default=str)


def set_up(stream: TextIO = sys.stderr) -> None:
    """Send everything to one stream in this form."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(Lines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access", "asyncio"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = name != "uvicorn.access"
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)  # its messages quote what it was doing
    logging.getLogger("uvicorn.error").addFilter(_without_names)


def _without_names(record: logging.LogRecord) -> bool:
    """uvicorn's warnings of bad requests come by the thousand from whoever likes; metrics count them."""
    return record.levelno >= logging.ERROR or record.levelno <= logging.INFO


def request_id_of(given: str | None, made: str) -> str:
    """What a caller calls its request, if that is a plain name; else our own."""
    return given if given is not None and _PLAIN.fullmatch(given) else made


def log_request(values: dict[str, Any]) -> None:
    """One line of a request."""
    if REQUESTS.isEnabledFor(logging.INFO):
        REQUESTS.info("request", extra={"values": values})
