"""`twotower match BUNDLE --contacts FILE`: candidates for a file of contacts, in batches."""

from __future__ import annotations

import argparse

from twotower.bundle.origin import add_options, expected
from twotower.cli import Report, Verb


def configure(parser: argparse.ArgumentParser) -> None:
    """The verb's options."""
    parser.add_argument("bundle", metavar="BUNDLE", help="folder that `twotower export` wrote")
    parser.add_argument("--contacts", required=True, metavar="FILE", help="Parquet file like contacts.parquet")
    parser.add_argument("--data", metavar="DIR", help="tables whose history is rolled forward to each arrival")
    parser.add_argument("--customers", metavar="FILE", help="store of returning customers; not together with --data")
    parser.add_argument("--secret", metavar="FILE", help="the store's secret; default: TWOTOWER_CUSTOMERS_SECRET")
    parser.add_argument("--rank", choices=["success", "handled"], help="what a rank means; default: the bundle's")
    parser.add_argument("--utility", metavar="W", help="rank by stated weights: resolved=1,csat=0.1 or a .yaml file")
    parser.add_argument("--k", type=int, default=10, help="candidates per contact (default 10)")
    parser.add_argument("--output", required=True, metavar="FILE", help="Parquet file to write")
    add_options(parser, "--digest")


def run(args: argparse.Namespace) -> Report:
    """Match the file and say how many contacts got candidates."""
    from serve.customers import Customers
    from serve.customers_secret import check_options, read_secret
    from serve.match_file import match_file
    from twotower.scoring.utility import read_utility

    check_options(args.secret, args.customers)
    customers = None if args.customers is None else Customers.load(args.customers, read_secret(args.secret))
    utility = None if args.utility is None else read_utility(args.utility)
    given = args.contacts, args.output, args.data, args.rank, args.k, expected(args)
    done = match_file(args.bundle, *given, customers, utility)
    by = repr(done.rank) if utility is None else " ".join(f"{name}={w:g}" for name, w in utility.weights.items())
    text = f"{done.contacts} contacts matched by {by}: {done.rows} rows in {args.output}"
    if done.without:
        text += f"; {done.without} contacts have no eligible candidate and no rows"
    return Report(text, {"output": args.output, **done.__dict__})


VERB = Verb("candidates for a file of contacts", configure, run)
