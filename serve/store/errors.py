"""What a store refuses, and why: one line each. Three kinds: it cannot be, it was told otherwise, not now."""

from __future__ import annotations

from twotower.errors import TwoTowerError


class StoreError(TwoTowerError):
    """The store cannot do what is asked; base of the others. Trying again does not help."""


class InvalidFact(StoreError):
    """What is told cannot be: a field of a wrong type, outside of its range, or against another one."""


class Conflict(StoreError):
    """What is told contradicts what was told before and stands; the line names the field."""


class StoreUnavailable(StoreError):
    """The database is down, locked or full. Nothing was stored: try again, a repeat counts once."""
