"""A store of customers from a log: what a router would know of them had it been told everything as it happened.

Notable: a past hand-over stands in the store as the contact tower saw its contact on arrival, with what was known of
the customer then, so the kernels of the join read from it what they would read from the log.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from serve.customers import Customers
from serve.customers_past import Latest
from serve.customers_rows import Remembered, RowsByCustomer
from twotower.bundle.bundle import Bundle
from twotower.clock import NEVER, NULL_TIME
from twotower.features.contact import ContactRows
from twotower.features.customer import SETTINGS, style_of
from twotower.features.engine.events import Arrivals
from twotower.features.engine.store import CustomerStore
from twotower.features.schema import FeatureSchema, log_columns
from twotower.features.streams import CustomerPast, customer_streams
from twotower.scoring.memory import PER_CUSTOMER
from twotower.tables.log import Log

Codes = npt.NDArray[np.int32]
Longs = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]


def build_customers(bundle: Bundle, log: Log, secret: bytes, until: int = NULL_TIME) -> Customers:
    """The customers of a log as it stands.

    bundle: whose contact tower makes the vectors of their hand-overs; log: cut at `until` (`Log.load(…, until)`) where
    that is given; secret: 16 to 64 bytes. Raises ConfigError for a secret of another length.
    """
    schema = bundle.schema
    rows = schema.rows(log_columns(log))
    store = CustomerStore(secret, SETTINGS, log.csas.ids.to_pylist())
    # The last answers for −1, nobody.
    code = np.append(store.codes(log.customer_ids.to_pylist(), add=True), np.int32(-1))
    latest = Latest.none(store.history.customers)
    known = np.flatnonzero(log.customer_since != NULL_TIME)
    latest.since[code[known]] = log.customer_since[known]
    for customer, tag in enumerate(log.customer_language.to_pylist()):
        latest.language.keep(int(code[customer]), tag)
    _advance(store, latest, log, rows, code)
    remembered, counts = _rows(bundle, log, rows, code, store.history.customers)
    return Customers(store, latest, RowsByCustomer(remembered, counts), bundle.manifest.id, until)


def style_of_contact(schema: FeatureSchema, contact: Mapping[str, Any], customers: Customers | None = None) -> Floats:
    """What one contact (fields as in `contacts.parquet`) tells of its customer's style: for `update_arrival`.

    customers: who know the customer's language, which a text counts as written in that tells none, where the contact
    does not name it (`customer_language`).
    """
    if customers is not None and contact.get("customer_language") is None:
        [language] = customers.languages(customers.codes([contact.get("customer_id")]))
        contact = {**contact, "customer_language": language}
    rows = schema.rows({name: [value] for name, value in contact.items()} or {"intent_text": [None]})
    return np.asarray(style_of(rows.signals)[0])


def _advance(store: CustomerStore, latest: Latest, log: Log, rows: ContactRows, code: Codes) -> None:
    """Everything into the sums, but for each customer's latest contact."""
    arrivals, known = customer_streams(log, rows, style=True)
    newest = np.full(len(log.customer_ids), -1)
    named = np.flatnonzero(arrivals.customer >= 0)
    newest[arrivals.customer[named]] = named  # of several, the last one stays
    there = np.flatnonzero(newest >= 0)
    latest.at[code[there]] = arrivals.arrived_at[newest[there]]
    signals = arrivals.signals
    if signals is not None:
        latest.style[code[there]] = signals[newest[there]]
    earlier = np.setdiff1d(named, newest)
    told = Arrivals(
        code[arrivals.customer[earlier]], arrivals.arrived_at[earlier], None if signals is None else signals[earlier]
    )
    handovers = type(known)(**{**vars(known), "customer": code[known.customer]})
    ends = [t[-1] for t in (arrivals.arrived_at, known.known_at) if len(t)]
    store.history.advance(told, handovers, int(max(ends, default=NULL_TIME)) + 1)


def _rows(bundle: Bundle, log: Log, rows: ContactRows, code: Codes, customers: int) -> tuple[Remembered, Longs]:
    """Each customer's latest hand-overs, by the store's positions, and how many each has."""
    moves = log.handovers
    who = code[log.contacts.customer[moves.contact]]
    known = np.flatnonzero((moves.known_at < NEVER) & (who >= 0))
    known = known[np.argsort(who[known], kind="stable")]  # a log has them in the order in which they became known
    ends = np.searchsorted(who[known], who[known], side="right")
    known = known[ends - np.arange(len(known)) <= PER_CUSTOMER]
    contacts = np.unique(moves.contact[known]).astype(np.int64)
    place = np.searchsorted(contacts, moves.contact[known])
    past = CustomerPast(log, bundle.schema, rows).at(log.contacts.customer[contacts], log.contacts.arrived_at[contacts])
    encoded = bundle.contact_encoder.encode(log_columns(log, contacts), past)
    remembered = Remembered.of(
        moves.csa[known], moves.known_at[known], moves.resolved[known], encoded.level[place], encoded.memory[place]
    )
    return remembered, np.bincount(who[known], minlength=customers).astype(np.int64)
