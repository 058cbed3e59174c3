"""What one process's store of returning customers is told: each contact and each hand-over once, whoever took it.

Notable: the store outlives bundles, so what it was told is remembered here and not with a matcher. Its file does not
say which contacts it counts: of what was stored before the file was opened, what is no later than the last that the
file holds counts as held. So a crash loses what came before another that was saved and was not saved itself, and
nothing is counted twice.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from serve.customers import Customers
from serve.customers_build import style_of_contact
from serve.http.once import Once
from serve.store.since import Ended
from twotower.bundle.bundle import Bundle
from twotower.clock import NULL_TIME, now
from twotower.features.schema import FeatureSchema

_log = logging.getLogger("serve")


class Returning:
    """Of one process. Safe to call from several threads. customers: None where there is no such store."""

    def __init__(self, customers: Customers | None) -> None:
        self.customers, self._opened = customers, now()
        self.last_arrival, self._last_known = (NULL_TIME, NULL_TIME) if customers is None else customers.lasts()
        self.arrivals, self._handovers = Once(), Once()

    def ended(self, one: Ended) -> bool:
        """Whether the store is to be told of a hand-over; it counts as told then."""
        # It was told what became known first: what came later says nothing of whether the file holds it.
        if self.customers is None or self._held(one.first_at, one.stored_at, self._last_known):
            return False
        return self._handovers.add(one.key)

    def arrived(self, schema: FeatureSchema, contact: Mapping[str, Any]) -> bool:
        """A contact has arrived; whether that was new. contact: a row of the decisions' store with a customer and
        `stored_at`.

        One that says that it arrives later than it was stored arrived when it was stored: sums that stand at a moment
        to come would lose what is older. One from before the end of the log that the store was built of counts already.
        """
        customers, at = self.customers, min(contact["arrived_at"], contact["stored_at"])
        if customers is None or at < customers.until or self._held(at, contact["stored_at"], self.last_arrival):
            return False
        if not self.arrivals.add(contact["contact_id"]):
            return False
        style = style_of_contact(schema, contact, customers)
        since, language = contact.get("customer_since"), contact.get("customer_language")
        customers.update_arrival(contact["customer_id"], at, style, since, language)
        return True

    def adopt(self, before: Bundle, after: Bundle) -> None:
        """Go on with another bundle, which is to take the place of one. Vectors of hand-overs stay where both have the
        same contact tower, as after a rebuild of the index; else they are put by, as nothing could be read of them
        now, and are there again when the bundle comes back, as in a canary.
        """
        customers, new = self.customers, after.manifest.id
        if customers is None or customers.bundle == new:
            return
        if customers.bundle == before.manifest.id and after.manifest.reads_like(before.manifest):
            customers.adopt(new, None)
        else:
            _log.warning("customers: hand-overs that bundle %s encoded are put by", customers.bundle[:12])
            customers.adopt(new, after.history.width)

    def forget(self, unwanted: Callable[[str], bool]) -> None:
        """Keep no trace of contacts, by their id."""
        self.arrivals.forget(unwanted)
        self._handovers.forget(lambda key: unwanted(key[0]))

    def _held(self, at: int, stored_at: int, last: int) -> bool:
        return stored_at <= self._opened and at <= last
