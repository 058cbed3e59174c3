"""`twotower feedback export|erase|prune`: what the router's store holds, as tables, and what it is to forget.

Notable: the store's URL may come from the environment, as one that holds a password does not belong on a command line.
To erase somebody of whom nothing is known is no error: erasures are repeated.
"""

from __future__ import annotations

import argparse
import os
from dataclasses import asdict

from twotower.cli import Report, Verb, check_action
from twotower.errors import ConfigError

VARIABLE = "TWOTOWER_STORE"
# Options of each action, and whether it needs them.
OPTIONS = {
    "export": {"output": True, "since": False, "until": False, "csas": False},
    "erase": {
        "customer": True, "customers": False, "secret": False, "journal": False, "export": False, "tokens": False,
    },
    "prune": {"before": True},
}  # fmt: skip


def configure(parser: argparse.ArgumentParser) -> None:
    """The verb's options."""
    parser.add_argument("action", choices=list(OPTIONS), help="write tables, forget a customer, forget what is old")
    parser.add_argument("--store", metavar="URL", help=f"sqlite:///FILE or postgresql://…; default: {VARIABLE}")
    parser.add_argument("--since", metavar="TIME", help="export: what became known at TIME or later; default: all")
    parser.add_argument("--until", metavar="TIME", help="export: nothing that was known only at TIME or later")
    parser.add_argument("--output", metavar="DIR", help="export: new folder for the tables")
    parser.add_argument("--csas", metavar="FILE", help="export: a csas.parquet for CSAs and dates without a logged row")
    parser.add_argument("--customer", metavar="ID", help="erase: the customer")
    parser.add_argument("--customers", metavar="FILE", help="erase: the store of returning customers, too")
    parser.add_argument("--secret", metavar="FILE", help="erase: its secret; default: TWOTOWER_CUSTOMERS_SECRET")
    parser.add_argument("--journal", metavar="FILE", help="erase: blocked pairs of a roster's journal, too")
    parser.add_argument("--export", metavar="DIR", action="append", help="erase: a folder of Parquet, too; repeatable")
    parser.add_argument("--tokens", metavar="DIR", action="append", help="erase: remove tokens that training keeps")
    parser.add_argument("--before", metavar="TIME", help="prune: forget contacts of which nothing is known since TIME")


def run(args: argparse.Namespace) -> Report:
    """Do what was asked; the report holds counts and no customer."""
    from serve.customers_secret import check_options

    check_action(args, OPTIONS, ["store"])
    check_options(args.secret, args.customers)
    url = args.store if args.store is not None else os.environ.get(VARIABLE)
    if url is None:
        raise ConfigError(f"{args.action}: --store URL is missing; or set {VARIABLE}")
    action = {"export": _export, "erase": _erase, "prune": _prune}[args.action]
    return action(args, url)


def _export(args: argparse.Namespace, url: str) -> Report:
    from serve.store.export import export
    from serve.store.store import existing
    from twotower.clock import NEVER, NULL_TIME, parse_time

    since = NULL_TIME if args.since is None else parse_time(args.since, "--since")
    until = NEVER if args.until is None else parse_time(args.until, "--until")
    with existing(url) as engine:
        done = export(engine, args.output, since, until, args.csas)
    lines = [
        f"{args.output}: {done.contacts} contacts, {done.interactions} hand-overs, {done.csas} rows of CSAs, "
        f"{done.customers} customers, {done.decisions} decisions"
    ]
    notes = {
        f"{done.without_contact} hand-overs are of contacts that the log does not hold and are left out": (
            done.without_contact
        ),
        f"{done.without_text} contacts have no text": done.without_text,
        f"{done.without_row} CSAs have a blank row, as none was logged; name a --csas FILE": done.without_row,
        **{f"{count} values of {name} are no such and are null": count for name, count in done.left_out.items()},
    }
    lines += [text for text, count in notes.items() if count]
    return Report("\n".join(lines), {"output": args.output, **asdict(done)})


def _erase(args: argparse.Namespace, url: str) -> Report:
    from serve.customers import Customers
    from serve.customers_file import erase_from_file
    from serve.customers_secret import read_secret
    from serve.roster.forget import erase_pairs, open_journal
    from serve.store.erase import erase_contacts
    from serve.store.erase_files import contacts_in_files, erase_files, remove_tokens
    from serve.store.erasures import Erasures
    from serve.store.store import existing

    # All are opened before anything is changed, and what says whose the contacts are goes last: a run that was stopped
    # is run again.
    secret = None if args.customers is None else read_secret(args.secret)
    key = None if secret is None else Customers.load(args.customers, secret).key_of(args.customer)
    journal = None if args.journal is None else open_journal(args.journal)
    folders = args.export or []
    with existing(url) as engine:
        found = contacts_in_files(folders, args.customer)
        theirs = Erasures(engine).record(args.customer, key)
        contact_ids = found.union(theirs)
        removed = {folder: remove_tokens(folder) for folder in args.tokens or []}
        rewritten = {folder: erase_files(folder, args.customer, contact_ids) for folder in folders}
        remembered = secret is not None and erase_from_file(args.customers, secret, args.customer)[0]
        pairs = None if journal is None else erase_pairs(journal, args.customer)
        rows = erase_contacts(engine, theirs)
    lines = [f"store: {', '.join(f'{count} {name}' for name, count in rows.items())} erased"]
    if key is not None:
        lines.append(f"{args.customers}: {'the customer is erased' if remembered else 'nothing is known of them'}")
    if pairs is not None:
        lines.append(f"{args.journal}: {pairs} blocked pairs erased")
    lines += [f"{folder}: {count} rows erased" for folder, count in rewritten.items()]
    lines += [f"{folder}: {count} shards of tokens removed" for folder, count in removed.items()]
    data = {"store": rows, "customers": remembered, "pairs": pairs, "exports": rewritten, "tokens": removed}
    return Report("\n".join(lines), data)


def _prune(args: argparse.Namespace, url: str) -> Report:
    from serve.store.erase import prune
    from serve.store.store import existing
    from twotower.clock import parse_time

    with existing(url) as engine:
        rows = prune(engine, parse_time(args.before, "--before"))
    return Report(f"store: {', '.join(f'{count} {name}' for name, count in rows.items())} forgotten", {"store": rows})


VERB = Verb(
    "what the router logged: write tables, forget a customer, forget what is old", configure, run, extra="serve"
)
