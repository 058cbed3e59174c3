"""Redaction of what a program logs.

Notable: filters belong on handlers. A logger's own filter does not see the records of the loggers below it
(`logging` passes those to the handlers alone), so `redact_logs` puts the filter where every record passes.
"""

from __future__ import annotations

import io
import logging
import traceback
from typing import Any

from twotower.redaction.config import WHOLE
from twotower.redaction.redactor import Redactor

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class RedactingFilter(logging.Filter):
    """Redacts a record's message, its traceback, its stack and the extra fields that callers gave it.

    It never rejects a record and never raises: a record that cannot be redacted keeps nothing but `[text]`. Afterwards
    the record holds the finished message and no arguments, for every handler that comes later.

    Args:
        redactor: says what is masked; None takes the defaults.
    """

    def __init__(self, redactor: Redactor | None = None) -> None:
        super().__init__()
        self._redactor = redactor if redactor is not None else Redactor()

    def filter(self, record: logging.LogRecord) -> bool:
        """Redacts the record in place; always True."""
        try:
            self._redact(record)
        except Exception:
            record.msg, record.exc_text, record.stack_info = f"[{WHOLE}]", None, None
            for name in set(vars(record)) - _STANDARD:
                setattr(record, name, f"[{WHOLE}]")
        record.args, record.exc_info = None, None
        return True

    def _redact(self, record: logging.LogRecord) -> None:
        record.msg = self._text(record.getMessage())
        if record.exc_info and not record.exc_text:
            with io.StringIO() as written:
                traceback.print_exception(*record.exc_info, file=written)
                record.exc_text = written.getvalue().rstrip("\n")
        if record.exc_text:
            record.exc_text = self._text(record.exc_text)
        if record.stack_info:
            record.stack_info = self._text(record.stack_info)
        for name in set(vars(record)) - _STANDARD:
            setattr(record, name, self._value(getattr(record, name)))

    def _value(self, value: Any) -> Any:
        """A value with every text in it redacted; of what is no text, number or container, its text."""
        if value is None or isinstance(value, bool | int | float):
            return value
        if isinstance(value, dict):
            return {key: self._value(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self._value(item) for item in value]
        return self._text(str(value))

    def _text(self, text: str) -> str:
        return self._redactor.redact(text).text


def redact_logs(redactor: Redactor | None = None, logger: logging.Logger | None = None) -> RedactingFilter:
    """Puts a `RedactingFilter` on every handler that a logger has now.

    Args:
        redactor: says what is masked; None takes the defaults.
        logger: whose handlers; None: the root logger's, through which everything passes by default.

    Returns:
        The filter, for handlers that are added later.
    """
    made = RedactingFilter(redactor)
    for handler in (logger if logger is not None else logging.getLogger()).handlers:
        handler.addFilter(made)
    return made
