"""Errors a person can act on: each is one line that says what is wrong, where, and what to do.

The console script prints a `TwoTowerError` as `twotower VERB: message` and exits with status 1; anything else is a
defect of this project and keeps its traceback.
"""

from __future__ import annotations


class TwoTowerError(Exception):
    """Base of all errors that bad input, bad options or a bad environment cause."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))


SHOWN = 60  # characters of a value in a line


def shown(value: object) -> str:
    """A value as an error's line shows it: in Python's notation, cut where it is long."""
    if isinstance(value, int) and abs(value) > 10**SHOWN:
        return f"a whole number of more than {SHOWN} digits"
    text = repr(value)
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 1]}…"


class DataError(TwoTowerError):
    """A table is missing, damaged, of the wrong shape, or holds values that cannot be."""


class BundleError(TwoTowerError):
    """A bundle is incomplete, changed since it was written, or of a version this code cannot read."""


class ConfigError(TwoTowerError):
    """An option or a configuration file asks for something that cannot be done."""


class OutputError(TwoTowerError):
    """The place to write to exists already or cannot be written."""


class TrainingError(TwoTowerError):
    """Training cannot go on with these data and options: something is not finite."""


class MissingExtraError(TwoTowerError):
    """A verb needs packages of an extra that is not installed."""


class ClusterError(TwoTowerError):
    """A worker of a cluster was lost, and trying again did not help."""


class Interrupted(SystemExit):
    """Somebody asked the process to end: SIGTERM or SIGINT. No error, so nothing that handles errors holds it up.

    The console script prints `twotower VERB: message` and exits with status 128 + the signal's number.
    """

    def __init__(self, signum: int, message: str) -> None:
        super().__init__(128 + signum)
        self.signum, self.status, self.message = signum, 128 + signum, message
