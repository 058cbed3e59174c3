"""`twotower explain BUNDLE --contacts FILE --contact ID --csa ID`: why a CSA has their score for a contact."""

from __future__ import annotations

import argparse

from twotower.bundle.origin import add_options, expected
from twotower.cli import Report, Verb


def configure(parser: argparse.ArgumentParser) -> None:
    """The verb's options; those of `match` mean the same."""
    parser.add_argument("bundle", metavar="BUNDLE", help="folder that `twotower export` wrote")
    parser.add_argument("--contacts", required=True, metavar="FILE", help="Parquet file like contacts.parquet")
    parser.add_argument("--contact", required=True, metavar="ID", help="which of its contacts")
    parser.add_argument("--csa", required=True, metavar="ID", help="which CSA, eligible or not")
    parser.add_argument("--data", metavar="DIR", help="tables whose history is rolled forward to the arrival")
    parser.add_argument("--customers", metavar="FILE", help="store of returning customers; not together with --data")
    parser.add_argument("--secret", metavar="FILE", help="the store's secret; default: TWOTOWER_CUSTOMERS_SECRET")
    parser.add_argument("--rank", choices=["success", "handled"], help="what a rank means; default: the bundle's")
    parser.add_argument("--top", type=int, default=5, help="past hand-overs told one by one, of each kind (default 5)")
    add_options(parser)
    parser.epilog = "The answer tells of one person: show it only to those whose task it is."


def run(args: argparse.Namespace) -> Report:
    """Explain the pair in sentences, or as JSON."""
    from serve.customers import Customers
    from serve.customers_secret import check_options, read_secret
    from serve.pairs_file import explain_file

    check_options(args.secret, args.customers)
    customers = None if args.customers is None else Customers.load(args.customers, read_secret(args.secret))
    given = args.data, args.rank, args.top, expected(args), customers
    found = explain_file(args.bundle, args.contacts, args.contact, args.csa, *given)
    return Report("\n".join(found.words()), found.to_json())


VERB = Verb("why a CSA has their score for a contact", configure, run)
