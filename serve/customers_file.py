"""The customers' file, which a command changes while a service has it open: who writes it holds its lock.

Notable: a service saves what it has in memory, so its copy must know of an erasure before it takes the file's place;
under the lock it asks who was erased (`serve/http/erasing.py`), and a command erases from what was saved last.
"""

from __future__ import annotations

from pathlib import Path

from serve.customers import Customers
from twotower.files import alone


def erase_from_file(path: str | Path, secret: bytes, customer_id: str) -> tuple[bool, int]:
    """Erase a customer from a file; whether they were in it, and how many are left. Raises as `Customers.load`, and
    OSError."""
    with alone(path):
        customers = Customers.load(path, secret)
        known = customers.erase(customer_id)
        if known:
            customers.save(path)
    return known, len(customers)
