"""Arrays into Arrow: the tables of the contract (twotower/tables/schema.py), and the roster in words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from evaluation.generate import catalogue
from evaluation.generate.arrivals import Contacts
from evaluation.generate.handovers import Handovers
from evaluation.generate.people import Customers
from evaluation.generate.queue import Choice, Roster
from evaluation.generate.settings import Settings
from twotower.clock import DAY, NEVER, to_arrow
from twotower.tables import schema

Ints = npt.NDArray[np.int64]


def arrow_schema(table: schema.Table) -> pa.Schema:
    """The Arrow schema of a table of the contract, without the columns that a generated centre does not have."""
    return pa.schema([(column.name, column.type) for column in table.columns if column.name != "cost"])


@dataclass(frozen=True)
class Names:
    """Ids of everything, in the order of the codes."""

    contacts: pa.Array
    customers: pa.Array
    csas: pa.Array


def names(settings: Settings, customers: Customers) -> Names:
    """Ids with leading zeros, so that text order is arrival order."""
    return Names(
        contacts=_ids("K", settings.contacts),
        customers=_ids("U", len(customers.style)),
        csas=_ids("A", settings.csas),
    )


def contacts_table(
    settings: Settings,
    ids: Names,
    contacts: Contacts,
    rows: slice,
    choice: Choice,
    abandoned_at: Ints,
    texts: tuple[Any, Any],
) -> pa.Table:
    """One block of contacts.parquet; `texts` are the stated needs and the transcripts."""
    customer = pa.array(contacts.customer[rows], mask=~contacts.customer_known[rows])
    label = contacts.label[rows]
    urgent = (contacts.urgency[rows] == len(catalogue.URGENCIES)).astype(np.float64)
    columns = {
        "contact_id": ids.contacts.slice(rows.start, rows.stop - rows.start),
        "customer_id": pc.take(ids.customers, customer),
        "arrived_at": to_arrow(contacts.arrived_at[rows]),
        "channel": _words(catalogue.CHANNELS, contacts.channel[rows]),
        "queue": _words(catalogue.QUEUES, contacts.queue[rows]),
        "language": _words(settings.languages, contacts.language[rows], contacts.language_known[rows]),
        "intent": _words(catalogue.INTENTS, np.maximum(label, 0), label >= 0),
        "intent_text": texts[0],
        "transcript": texts[1],
        "priority": pa.array(urgent),
        "abandoned_at": to_arrow(abandoned_at),
        "eligible": pa.ListArray.from_arrays(
            pa.array(choice.offsets, pa.int32()), pc.take(ids.csas, pa.array(choice.csa))
        ),
    }
    return pa.table(columns, schema=arrow_schema(schema.CONTACTS))


def interactions_table(settings: Settings, ids: Names, handovers: Handovers) -> pa.Table:
    """Hand-overs of one block."""
    n = len(handovers.contact)
    propensity = pa.array(handovers.propensity) if settings.propensities else pa.nulls(n, pa.float64())
    columns = {
        "contact_id": pc.take(ids.contacts, pa.array(handovers.contact)),
        "csa_id": pc.take(ids.csas, pa.array(handovers.csa)),
        "assigned_at": to_arrow(handovers.assigned_at),
        "ended_at": to_arrow(handovers.ended_at),
        "known_at": to_arrow(handovers.known_at),
        "resolved": pa.array(handovers.resolved, mask=handovers.known_at == NEVER),
        "csat": _numbers(handovers.csat),
        "quality_score": _numbers(handovers.quality_score),
        "handle_time_s": pa.array(handovers.handle_time_s),
        "transferred": pa.array(handovers.transferred),
        "policy": pc.take(pa.array(["queue"]), pa.array(np.zeros(n, dtype=np.int8))),
        "propensity": propensity,
    }
    table = pa.table(columns, schema=arrow_schema(schema.INTERACTIONS))
    return table.filter(pc.fill_null(table["resolved"], False)) if settings.resolved_only else table


def truth_table(ids: Names, contact: Ints, csa: Ints, p_resolved: npt.NDArray[np.float64]) -> pa.Table:
    """True probabilities of pairs."""
    columns = [pc.take(ids.contacts, pa.array(contact)), pc.take(ids.csas, pa.array(csa)), pa.array(p_resolved)]
    return pa.table(columns, schema=arrow_schema(schema.TRUTH))


def customers_table(settings: Settings, ids: Names, customers: Customers, contacts: Contacts) -> pa.Table:
    """Customers who are known by at least one contact: most of long standing, some since their first contact."""
    random = settings.random("customer tables")
    size = len(customers.style)
    first = np.full(size, NEVER)
    np.minimum.at(first, contacts.customer, contacts.arrived_at)
    long_ago = settings.begins - (random.exponential(900, size).astype(np.int64) + 1) * DAY
    since = np.where(random.random(size) < 0.25, first // DAY * DAY, long_ago)
    since = np.where(random.random(size) < 0.15, NEVER, since)
    seen = np.bincount(contacts.customer[contacts.customer_known], minlength=size) > 0
    columns = [ids.customers, _words(settings.languages, customers.language), to_arrow(since)]
    return pa.table(columns, schema=arrow_schema(schema.CUSTOMERS)).filter(pa.array(seen))


def shifts_table(ids: Names, roster: Roster) -> pa.Table:
    """Shifts by CSA and time."""
    columns = [pc.take(ids.csas, pa.array(roster.csa)), to_arrow(roster.starts_at), to_arrow(roster.ends_at)]
    return pa.table(columns, schema=arrow_schema(schema.SHIFTS))


def fixed_width(ids: pa.Array) -> npt.NDArray[np.str_]:
    """Ids as a fixed-width Unicode array, which needs no pickle."""
    return np.asarray(ids.to_numpy(zero_copy_only=False).astype(f"U{len(ids[0].as_py())}"))


def _ids(prefix: str, n: int) -> pa.Array:
    width = max(4, len(str(n - 1)))
    digits = pc.utf8_lpad(pc.cast(pa.array(np.arange(n)), pa.string()), width, "0")
    return pc.binary_join_element_wise(pa.scalar(prefix), digits, "")


def _words(vocabulary: tuple[str, ...], codes: npt.NDArray[np.integer], there: Any = None) -> pa.Array:
    return pc.take(pa.array(vocabulary, pa.string()), pa.array(codes, mask=None if there is None else ~there))


def _numbers(values: npt.NDArray[np.float64]) -> pa.Array:
    return pa.array(values, mask=np.isnan(values))
