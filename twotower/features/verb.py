"""`twotower features DIR --csa ID --at TIME`: one contact's or one CSA's features, and what they were computed from.

With `--output` in place of an id: every CSA's as a table, which is what other engines are for.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twotower.cli import Report, Verb
from twotower.engines import Engine, add_options, engine_of

if TYPE_CHECKING:
    from twotower.bundle.bundle import Bundle
    from twotower.features.provenance import Explained
    from twotower.tables.log import Log
    from twotower.tables.schema import Table


def configure(parser: argparse.ArgumentParser) -> None:
    """The verb's options."""
    parser.add_argument("folder", type=Path, metavar="DIR", help="folder with contacts.parquet and the other tables")
    parser.add_argument("--at", metavar="TIME", help="what was known before this moment; default: a contact's arrival")
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--contact", metavar="ID", help="the contact, with its customer")
    which.add_argument("--csa", metavar="ID", help="the CSA; needs --at")
    which.add_argument(
        "--output", type=Path, metavar="FILE",
        help="every CSA: a Parquet file of features and vectors; needs --at and --bundle",
    )  # fmt: skip
    parser.add_argument("--bundle", type=Path, metavar="BUNDLE", help="its features, and what its towers tell of texts")
    parser.add_argument("--all", action="store_true", help="every component of vectors and every column")
    add_options(parser, "tasks of --output")


def run(args: argparse.Namespace) -> Report:
    """Loads the tables and explains the one."""
    from twotower.bundle.bundle import Bundle
    from twotower.clock import parse_time
    from twotower.errors import ConfigError
    from twotower.features.provenance_text import describe
    from twotower.tables.log import Log

    if args.csa is not None and args.at is None:
        raise ConfigError("--csa needs --at TIME: a CSA's features are those of a moment, like 2026-01-31T00:00:00Z")
    at = None if args.at is None else parse_time(args.at, "--at")
    engine = engine_of(args)
    if args.output is not None:
        return _everyone(args, at, engine)
    if engine != Engine():
        raise ConfigError("--engine, --processes, --ray-address: belong to --output, for one there is nothing to share")
    bundle = None if args.bundle is None else Bundle.open(args.bundle)
    log = Log.load(args.folder)
    if args.csa is not None and at is not None:
        explained = _csa(args.folder, log, args.csa, at, bundle)
    else:
        explained = _contact(args.folder, log, args.contact, at, bundle)
    data = {"folder": str(args.folder), "bundle": None if bundle is None else bundle.manifest.id, **explained.data()}
    return Report(describe(explained, args.all), data)


def _everyone(args: argparse.Namespace, at: int | None, engine: Engine) -> Report:
    from twotower.bundle.bundle import Bundle
    from twotower.errors import ConfigError, OutputError
    from twotower.features.everyone import everyone, write_everyone
    from twotower.tables.log import Log

    if at is None or args.bundle is None:
        raise ConfigError("--output needs --at TIME and --bundle BUNDLE")
    if args.output.exists():
        raise OutputError(f"{args.output}: exists already; name a new --output or remove it first")
    bundle = Bundle.open(args.bundle)
    table = everyone(Log.load(args.folder), bundle, at, engine)
    write_everyone(table, args.output)
    facts = {
        "output": str(args.output), "bundle": bundle.manifest.id, "csas": len(table),
        "handovers": int(sum(table["handovers"].to_pylist())), "features": len(bundle.schema.csa_numbers),
    }  # fmt: skip
    counts = f"{facts['csas']:,} CSAs, {facts['handovers']:,} hand-overs known"
    text = f"{args.output}: {facts['features']} features of {counts}"
    return Report(text, facts)


def _contact(folder: Path, log: Log, name: str, at: int | None, bundle: Bundle | None) -> Explained:
    from dataclasses import replace

    from twotower.clock import format_time
    from twotower.errors import ConfigError
    from twotower.features.provenance import unfitted
    from twotower.features.provenance_contact import ContactCase, explain_contact
    from twotower.tables.schema import CONTACTS, CUSTOMERS

    contact = _position(log.contacts.ids, name, "contact", folder / CONTACTS.file)
    arrived, customer = int(log.contacts.arrived_at[contact]), int(log.contacts.customer[contact])
    if at is not None and at < arrived:
        raise ConfigError(
            f"--at {format_time(at)}: contact {name!r} arrives at {format_time(arrived)}; ask from then on"
        )
    customer_row = None
    if customer >= 0 and (folder / CUSTOMERS.file).exists():
        customer_row = row_of(folder, CUSTOMERS, customer_id=log.customer_ids[customer].as_py())
    case = ContactCase(
        log, contact, unfitted(log, arrived) if bundle is None else bundle.schema,
        row_of(folder, CONTACTS, contact_id=name), customer_row, None if bundle is None else bundle.contact_encoder,
    )  # fmt: skip
    explained = explain_contact(case)
    notes = [*explained.notes, *_seen(bundle, arrived)]
    if at is not None and at > arrived:
        notes.append(f"asked for at {format_time(at)}: a contact's features stay those of its arrival")
    return replace(explained, notes=tuple(notes))


def _csa(folder: Path, log: Log, name: str, at: int, bundle: Bundle | None) -> Explained:
    from dataclasses import replace

    from twotower.clock import ARROW_TIME, NULL_TIME, format_time
    from twotower.errors import ConfigError
    from twotower.features.provenance import unfitted
    from twotower.features.provenance_csa import CsaCase, explain_csa
    from twotower.tables.schema import CSAS

    csa = _position(log.csas.ids, name, "CSA", folder / CSAS.file)
    dated = int(log.csas.row_at(at)[csa])
    if dated < 0:
        first = format_time(int(log.csas.valid_from[log.csas.csa == csa].min()))
        raise ConfigError(f"--at {format_time(at)}: CSA {name!r} has no row before {first}; ask from then on")
    import pyarrow as pa

    since = int(log.csas.valid_from[dated])
    valid_from = None if since == NULL_TIME else pa.scalar(since, pa.int64()).cast(ARROW_TIME)
    case = CsaCase(
        log, csa, at, unfitted(log, at) if bundle is None else bundle.schema,
        row_of(folder, CSAS, csa_id=name, valid_from=valid_from), None if bundle is None else bundle.contact_encoder,
    )  # fmt: skip
    explained = explain_csa(case, None if bundle is None else bundle.schema.granularity_us)
    return replace(explained, notes=(*explained.notes, *_seen(bundle, at)))


def _seen(bundle: Bundle | None, at: int) -> list[str]:
    """A warning where the towers were trained on what came after the moment."""
    from twotower.clock import format_time

    if bundle is None or at >= int(bundle.manifest.window["until"]):
        return []
    until = format_time(int(bundle.manifest.window["until"]))
    return [f"the bundle was trained on what was known before {until}: its vocabularies and heads know later things"]


def row_of(folder: Path, table: Table, **key: Any) -> int | None:
    """The row (from 0) of a table's file in which columns have these values, None for null; None where there is none.

    Raises DataError where the file cannot be read.
    """
    import numpy as np
    import pyarrow.compute as pc

    from twotower.tables.read import read_table

    found = read_table(folder, table, columns=list(key))
    equal = [pc.is_null(found[name]) if value is None else pc.equal(found[name], value) for name, value in key.items()]
    rows = np.logical_and.reduce([pc.fill_null(one, False).to_numpy() for one in equal])
    return int(np.argmax(rows)) if rows.any() else None


def _position(ids: Any, name: str, kind: str, file: Path) -> int:
    """Where an id stands. Raises DataError, with an id that is much like it."""
    import pyarrow.compute as pc

    from twotower.errors import DataError

    name = name.encode("utf-8", "replace").decode()  # bytes of the command line that are no text name nobody
    found = pc.index(ids, name).as_py()
    if found < 0:
        near = nearest(ids, name)
        raise DataError(f"{file}: no {kind} {name!r}" + (f"; is it {near!r}?" if near else ""))
    return int(found)


def nearest(ids: Any, name: str) -> str | None:
    """The id most like a name, among those that begin as it does; None where none does."""
    import difflib

    import pyarrow.compute as pc

    lower, wanted = pc.utf8_lower(ids), name.lower()
    for length in range(len(wanted), 0, -1):
        alike = ids.filter(pc.starts_with(lower, wanted[:length]))
        if len(alike):
            near: list[str] = difflib.get_close_matches(name, alike[:MOST_ALIKE].to_pylist(), 1, 0)
            return near[0]
    return None


MOST_ALIKE = 1000  # ids that are compared letter by letter
VERB = Verb("one contact's or CSA's features, and what they came from", configure, run)
