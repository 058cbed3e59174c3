"""Log records: message, traceback, stack and extra fields, whoever logs them."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterable, Sequence

import pytest

from twotower.redaction.logs import RedactingFilter, redact_logs
from twotower.redaction.redactor import Redactor
from twotower.redaction.spans import Span


@pytest.fixture
def written() -> tuple[logging.Logger, io.StringIO]:
    """A logger with one redacting handler, and what the handler writes."""
    stream, logger = io.StringIO(), logging.Logger("test")
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    logger.addHandler(handler)
    redact_logs(logger=logger)
    return logger, stream


def test_the_finished_message_is_redacted(written):
    logger, stream = written
    logger.warning("from %s about %d items", "a@b.com", 3)
    assert stream.getvalue() == "WARNING from [email] about 3 items\n"


def test_a_percent_sign_in_a_text_is_no_format(written):
    logger, stream = written
    logger.warning("%s", "100 %s of a@b.com")
    assert stream.getvalue() == "WARNING 100 %s of [email]\n"


def test_the_traceback_is_redacted(written):
    logger, stream = written
    try:
        raise ValueError("no such customer a@b.com")
    except ValueError:
        logger.exception("failed")
    assert "ValueError: no such customer [email]" in stream.getvalue()
    assert "a@b.com" not in stream.getvalue()


def test_the_stack_is_redacted(written):
    logger, stream = written
    logger.warning("here", stack_info=True)
    assert "Stack (most recent call last)" in stream.getvalue()


def test_extra_fields_are_redacted():
    record = logging.makeLogRecord({"msg": "x", "contact": {"text": ["a@b.com", 3, None]}, "seconds": 0.5})
    assert RedactingFilter().filter(record)
    assert record.__dict__["contact"] == {"text": ["[email]", 3, None]}
    assert record.__dict__["seconds"] == 0.5


def test_a_child_loggers_records_are_redacted_too(written):
    logger, stream = written
    child = logging.Logger("test.child")
    child.parent = logger
    child.warning("a@b.com")
    assert stream.getvalue() == "WARNING [email]\n"


def test_arguments_that_do_not_fit_leave_nothing_of_the_text(written):
    logger, stream = written
    logger.warning("%d items of %s", "a@b.com")
    assert stream.getvalue() == "WARNING [text]\n"


class Failing:
    kinds: Sequence[str] = ("plate",)

    def spans(self, text: str, language: str | None) -> Iterable[Span]:
        raise RuntimeError(text)


def test_a_detector_that_fails_leaves_nothing_of_the_text():
    record = logging.makeLogRecord(
        {"msg": "a@b.com", "text": "c@d.com", "exc_text": "e@f.com", "stack_info": "g@h.com"}
    )
    assert RedactingFilter(Redactor(detectors=[Failing()])).filter(record)
    assert "@" not in repr(vars(record))
