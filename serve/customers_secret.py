"""The customers' secret, as commands with a store of customers take it (`twotower.secret` reads it)."""

from __future__ import annotations

from twotower.errors import ConfigError
from twotower.secret import MOST_SECRET, VARIABLE, read_secret

__all__ = ["MOST_SECRET", "VARIABLE", "check_options", "read_secret"]


def check_options(secret: str | None, customers: str | None) -> None:
    """Raises ConfigError for `--secret` without the store that it is of, `--customers`."""
    if secret is not None and customers is None:
        raise ConfigError("--secret: is for --customers FILE, which is not given")
