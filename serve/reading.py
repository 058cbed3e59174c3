"""The contact's side of a matcher: what the towers make of raw contacts, and what is known of their customers.

Notable: what is known of a contact's customer comes from outside the bundle (`serve/customers.py`), as of the contact's
arrival; a stranger is read as if there were no store.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt

from serve.contact import clean, moment_of
from serve.customers import Customers
from serve.seen import Seen
from twotower.bundle.bundle import Bundle
from twotower.bundle.sessions import Encoded
from twotower.clock import NULL_TIME
from twotower.features.customer import CustomerRows
from twotower.index.build import QUERIES
from twotower.scoring.join import ContactVectors

_log = logging.getLogger("serve")
OTHER_BUNDLE = (
    "customers: their hand-overs were encoded by bundle %s and do not count in the join with %s; contacts, style and "
    "who served them do; build the store again with this bundle"
)


class ContactReader:
    """Reads contacts by one bundle, with what `customers` tells of who they are from."""

    def __init__(self, bundle: Bundle, customers: Customers | None) -> None:
        self.bundle, self.customers = bundle, customers
        self._encoder = bundle.contact_encoder
        self._id = bundle.manifest.id
        self._until = int(bundle.manifest.window["until"])
        self._asked: deque[tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]] = deque(maxlen=QUERIES)
        self._reads_past = bundle.schema.has("frequency", "style", "relationship")
        if customers is not None and not customers.bring_back(self._id):
            _log.warning(OTHER_BUNDLE, customers.bundle[:12], self._id[:12])

    @property
    def latest(self) -> int:
        """The latest moment (µs) that anything was told of, its customers included."""
        return self._until if self.customers is None else max(self._until, self.customers.latest)

    def _own(self, contact: Mapping[str, Any] | Seen, at: datetime | int | None = None) -> Seen:
        """A contact as this bundle's towers read it: what another bundle's made of it is read anew."""
        if isinstance(contact, Seen):
            return contact if contact.bundle == self._id else self.read(contact.fields, at)
        return self.read(contact, at)

    def read(self, contact: Mapping[str, Any], at: datetime | int | None = None) -> Seen:
        """What the towers make of a contact, for `match` now and for `ended` when its hand-over ends.

        contact, at: as in `match`. Raises MatchError as it does.
        """
        found = clean(contact)
        past, told = self._known([found["customer_id"]], [found["arrived_at"]], at)
        for name, [value] in told.items():
            found[name] = value if found[name] is None else found[name]
        encoded, row, categories = self._encoder.read_one(found, past)
        self._asked.append((encoded.profile[0], encoded.memory[0]))
        return Seen(self._id, found, row, categories, encoded)

    def encode(
        self,
        columns: Mapping[str, Any],
        customer_ids: Sequence[str | None],
        arrived_at: Sequence[int | None],
        at: datetime | int | None = None,
    ) -> ContactVectors:
        """Vectors of contacts (N,) given as columns for the contact encoder, with what is known of their customers."""
        past, told = self._known(customer_ids, arrived_at, at)
        columns = {**columns, **{name: _filled(columns.get(name), values) for name, values in told.items()}}
        encoded = self._encoder.encode(columns, past, quiet=True)
        return self.vectors(encoded, arrived_at, at, self._codes(customer_ids))

    def vectors(
        self,
        encoded: Encoded,
        arrived_at: Sequence[int | None],
        at: datetime | int | None = None,
        customer: npt.NDArray[np.int32] | None = None,
    ) -> ContactVectors:
        """Encoded contacts with the moments they are matched at; customer: positions of `customers`, None: all
        strangers."""
        return ContactVectors(
            encoded.profile,
            encoded.memory,
            encoded.level,
            encoded.base,
            self.times(arrived_at, at)[1],
            np.full(len(encoded), -1, dtype=np.int32) if customer is None else customer,
            encoded.outcomes,
        )

    def times(
        self, arrived_at: Sequence[int | None], at: datetime | int | None = None
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """When contacts count as arrived, i8[N], and the moments i8[N] that they are matched at, not earlier."""
        fixed = None if at is None else moment_of(at, "at")
        now = self.latest
        moments = [fixed if fixed is not None else now if t is None else t for t in arrived_at]
        arrived = [moment if t is None else min(t, moment) for t, moment in zip(arrived_at, moments, strict=True)]
        return np.array(arrived, dtype=np.int64), np.array(moments, dtype=np.int64)

    def _codes(self, customer_ids: Sequence[str | None]) -> npt.NDArray[np.int32]:
        """Positions of contacts' customers (N,), −1 for strangers."""
        if self.customers is None:
            return np.full(len(customer_ids), -1, dtype=np.int32)
        return self.customers.codes(customer_ids)

    def _known(
        self, customer_ids: Sequence[str | None], arrived_at: Sequence[int | None], at: datetime | int | None
    ) -> tuple[CustomerRows | None, dict[str, list[Any]]]:
        """The past of contacts' customers (None where all are strangers or no tower reads it), and what else the store
        tells of them, as columns of contacts, without any where all are strangers."""
        who = self._codes(customer_ids)
        if self.customers is None or not (who >= 0).any():
            return None, {}
        past = None
        if self._reads_past:
            past = self.customers.past(who, *self.times(arrived_at, at))
        since = [None if moment == NULL_TIME else moment for moment in self.customers.since(who).tolist()]
        return past, {"customer_since": since, "customer_language": self.customers.languages(who)}


def _filled(given: Any, known: list[Any]) -> list[Any]:
    """A column (N,) of contacts, None where it is absent, with its gaps filled from what is known."""
    if given is None:
        return known
    values = given.to_pylist() if hasattr(given, "to_pylist") else given
    # What is not itself is NaN.
    return [other if one is None or one != one else one for one, other in zip(values, known, strict=True)]
