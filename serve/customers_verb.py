"""`twotower customers build|erase|show`: the store of returning customers, outside of the bundle.

Notable: `build BUNDLE` makes a store from tables, `erase FILE` and `show FILE` work on one. The secret comes from a
file or the environment. To erase somebody of whom nothing is known is no error: erasures are repeated.
"""

from __future__ import annotations

import argparse
from typing import Any

from twotower.cli import Report, Verb, check_action
from twotower.clock import format_time

# Options of each action, and whether it needs them.
OPTIONS = {
    "build": {"data": True, "output": True, "until": False, "digest": False},
    "erase": {"customer": True},
    "show": {"customer": False},
}


def configure(parser: argparse.ArgumentParser) -> None:
    """The verb's options."""
    parser.add_argument("action", choices=list(OPTIONS), help="make a store, forget a customer, say what a store holds")
    parser.add_argument("target", metavar="BUNDLE|FILE", help="build: the bundle to match with; else: the store")
    parser.add_argument("--secret", metavar="FILE", help="file with 16 to 64 bytes; default: TWOTOWER_CUSTOMERS_SECRET")
    parser.add_argument("--data", metavar="DIR", help="build: tables with the customers' past")
    parser.add_argument("--until", metavar="TIME", help="build: nothing known at TIME or later, 2026-01-31T00:00:00Z")
    parser.add_argument("--output", metavar="FILE", help="build: the store to write; one that is there is replaced")
    parser.add_argument("--digest", metavar="ID", help="build: refuse a bundle whose id is another")
    parser.add_argument("--customer", metavar="ID", help="erase, show: the customer")


def run(args: argparse.Namespace) -> Report:
    """Do what was asked; of customers the report holds counts alone, unless one was asked for by id."""
    check_action(args, OPTIONS, ["secret"])
    action = {"build": _build, "erase": _erase, "show": _show}[args.action]
    return action(args)


def _build(args: argparse.Namespace) -> Report:
    from serve.customers_build import build_customers
    from serve.customers_secret import read_secret
    from twotower.bundle.bundle import Bundle
    from twotower.clock import NULL_TIME, parse_time
    from twotower.tables.log import Log

    secret = read_secret(args.secret)
    until = None if args.until is None else parse_time(args.until, "--until")
    bundle = Bundle.open(args.target, args.digest)
    customers = build_customers(bundle, Log.load(args.data, until), secret, NULL_TIME if until is None else until)
    customers.save(args.output)
    data = _data(customers.counts())
    return Report(f"{args.output}: {_text(data)}", {"output": args.output, **data})


def _erase(args: argparse.Namespace) -> Report:
    from serve.customers_file import erase_from_file
    from serve.customers_secret import read_secret

    erased, left = erase_from_file(args.target, read_secret(args.secret), args.customer)
    text = "the customer is erased" if erased else "nothing is known of this customer; the file is unchanged"
    return Report(f"{args.target}: {text}", {"file": args.target, "erased": erased, "customers": left})


def _show(args: argparse.Namespace) -> Report:
    from serve.customers import Customers
    from serve.customers_secret import read_secret

    customers = Customers.load(args.target, read_secret(args.secret))
    if args.customer is None:
        data = _data(customers.counts())
        return Report(f"{args.target}: {_text(data)}", {"file": args.target, **data})
    known = customers.known_of(args.customer)
    if known is None:
        return Report(f"{args.target}: nothing is known of this customer", {"file": args.target, "known": None})
    known = _in_words(known)
    return Report("\n".join(_lines(known)), {"file": args.target, "known": known})


def _data(counts: dict[str, Any]) -> dict[str, Any]:
    return {**counts, "moment": format_time(counts["moment"])}


def _text(data: dict[str, Any]) -> str:
    return (
        f"{data['customers']} customers with {data['contacts']} contacts; {data['handovers']} hand-overs remembered, "
        f"at most {data['most']} of one; as of {data['moment']}; vectors of bundle {data['bundle'][:12]}"
    )


def _in_words(value: Any, name: str = "") -> Any:
    """The same with times as text."""
    if isinstance(value, dict):
        return {key: _in_words(item, key) for key, item in value.items()}
    if isinstance(value, list):
        return [_in_words(item) for item in value]
    return format_time(value) if name in ("since", "last_contact", "last", "known_at") else value


def _lines(known: dict[str, Any]) -> list[str]:
    ends = {True: "resolved", False: "not resolved", None: "not known"}
    style = ", ".join(f"{name} {value:.3g}" for name, value in known["style"].items())
    return [
        f"customer since {known['since']}; {known['contacts']} contacts, the last one {known['last_contact']}; "
        f"language {known['language'] or 'not known'}",
        f"style: {style}",
        *(
            f"met {one['csa_id']}: last {one['last']}, {ends[one['resolved']]}; resolved {one['good']:.3g}, "
            f"not {one['bad']:.3g} (decayed)"
            for one in known["met"]
        ),
        *(f"hand-over to {one['csa_id']}, {one['known_at']}: {ends[one['resolved']]}" for one in known["handovers"]),
    ]


VERB = Verb("what is known of returning customers: build the store, erase one, show", configure, run)
