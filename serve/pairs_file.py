"""Explaining a pair whose contact stands in a file, with the history of the bundle or rolled forward through a log."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from serve.contact import MatchError
from serve.contact_file import ContactBatch, ContactFile
from serve.customers import Customers
from serve.matcher import Matcher
from serve.pairs import TOP, Explanation, Pair, explain_pair
from serve.pairs_families import contact_side, csa_side
from serve.pairs_live import NOT_ACTIVE
from serve.rolling import RollingMatcher
from twotower.clock import NULL_TIME, format_time
from twotower.errors import DataError
from twotower.features.schema import customer_columns
from twotower.scoring.join import ContactVectors, Rank
from twotower.tables.load import codes
from twotower.tables.log import Log

NOT_ELIGIBLE = "The CSA is not among those who may take this contact."


def explain_file(
    bundle: str | Path,
    contacts: str | Path,
    contact_id: str,
    csa_id: str,
    data: str | Path | None = None,
    rank: Rank | None = None,
    top: int = TOP,
    digest: str | None = None,
    customers: Customers | None = None,
) -> Explanation:
    """Why a CSA has the score that `match_file` gives them for a contact of a file; options as there.

    Raises DataError, BundleError and MatchError as `match_file` does, and where the contact or the CSA is unknown.
    """
    if data is not None and customers is not None:
        raise MatchError("--customers with --data: the tables tell what is known of customers; give one of the two")
    if top < 0:
        raise MatchError(f"--top: at least 0 expected, got {top}")
    matcher = Matcher.load(bundle, digest, customers)
    meaning = matcher.meaning(rank)
    if data is None:
        ids = pa.array(matcher.snapshot.ids, pa.string())
        batch, code = _one(ContactFile(contacts, ids, need_arrival=False), contact_id), _code(ids, csa_id)
        _refuse_what_came_since(matcher, batch, Path(contacts))
        found = matcher.explain(_fields(batch), csa_id, meaning, top=top)
    else:
        log = Log.load(data)
        batch, code = _one(ContactFile(contacts, log.csas.ids, True), contact_id), _code(log.csas.ids, csa_id)
        found = explain_pair(matcher.bundle.join, meaning, _rolled(RollingMatcher(matcher, log), batch, code), top)
    return found if _may(batch, code) else found.noted(NOT_ELIGIBLE)


def _rolled(rolling: RollingMatcher, batch: ContactBatch, code: int) -> Pair:
    """A contact (a batch of one) and a CSA of a log, as of the contact's arrival."""
    log, bundle, moment = rolling.log, rolling.bundle, int(batch.arrived_at[0])
    customer = codes(batch.customer_id, log.customer_ids)
    past = rolling.customers.at(customer, batch.arrived_at)
    columns = {**batch.columns, **customer_columns(log, customer)}
    encoder = bundle.contact_encoder
    encoded = encoder.encode(columns, past, quiet=True)
    contact = ContactVectors(
        encoded.profile, encoded.memory, encoded.level, encoded.base, batch.arrived_at, customer, encoded.outcomes
    )
    roll, active = rolling.roll(moment), rolling.active(moment)
    present, features, who = roll.profiles(moment)[code], roll.features(moment), np.array([code])
    typical = features[active if len(active) else slice(None)].mean(axis=0)
    return Pair(
        contact_id=batch.ids[0].as_py(),
        csa_id=log.csas.ids[code].as_py(),
        code=code,
        contact=contact,
        memory=roll.memory,
        vector=present,
        deviation=rolling.deviations(contact, who),
        of_contact=contact_side(encoder, bundle.schema, encoder.inputs_of(columns, past)),
        of_csa=csa_side(
            bundle.csa_encoder,
            bundle.schema,
            features[code],
            int(bundle.schema.identity_of(log.csas.ids)[code]),
            typical,
            present,
        ),
        contact_ids=log.contacts.ids,
        notes=() if code in active else (NOT_ACTIVE,),
    )


def _one(file: ContactFile, contact_id: str) -> ContactBatch:
    """The contact of an id, as a batch of one. Raises DataError where the file has none."""
    for batch in file.batches():
        found = int(pc.index(batch.ids.cast(pa.string()), contact_id).as_py())
        if found >= 0:
            return batch.take(found)
    raise DataError(f"{file.path}, column contact_id: no contact {contact_id!r}; name one that stands there")


def _code(ids: pa.Array, csa_id: str) -> int:
    code = int(pc.index(ids.cast(pa.string()), csa_id).as_py())
    if code < 0:
        raise MatchError(f"--csa {csa_id!r}: not in the roster")
    return code


def _may(batch: ContactBatch, code: int) -> bool:
    row = None if batch.eligible is None else batch.eligible.row(0)
    return row is None or code in row


def _fields(batch: ContactBatch) -> dict[str, Any]:
    """A batch of one as a mapping."""
    arrived = int(batch.arrived_at[0])
    values = {name: values[0] for name, values in batch.columns.items()}
    fields = {name: value.as_py() if hasattr(value, "as_py") else value for name, value in values.items()}
    priority = float(batch.columns["priority"][0])
    return {
        **fields,
        "arrived_at": None if arrived == NULL_TIME else arrived,
        "priority": None if np.isnan(priority) else priority,
    }


def _refuse_what_came_since(matcher: Matcher, batch: ContactBatch, path: Path) -> None:
    """A file is looked at to see what would have been: then nothing may be left out."""
    customers = matcher.customers
    if customers is None:
        return
    arrived = [None if t == NULL_TIME else int(t) for t in batch.arrived_at]
    if not customers.exact(customers.codes(batch.customer_id.to_pylist()), *matcher.times(arrived)).all():
        raise DataError(
            f"{path}, contact {batch.ids[0].as_py()!r}, column arrived_at: earlier than what the customers' store, "
            f"which stands at {format_time(customers.moment)}, knows of its customer; build one --until that arrival"
        )
