"""`twotower embed BUNDLE --contacts FILE --output FILE`: the vectors of a file of contacts, in batches."""

from __future__ import annotations

import argparse
from pathlib import Path

from twotower.bundle.origin import add_options, expected
from twotower.cli import Report, Verb
from twotower.engines import add_options as add_engine
from twotower.engines import engine_of


def configure(parser: argparse.ArgumentParser) -> None:
    """The verb's options."""
    parser.add_argument("bundle", metavar="BUNDLE", help="folder that `twotower export` wrote")
    parser.add_argument("--contacts", required=True, metavar="FILE", help="Parquet file like contacts.parquet")
    parser.add_argument("--output", required=True, metavar="FILE", help="Parquet file to write")
    add_options(parser, "--digest")
    add_engine(parser, "batches")


def run(args: argparse.Namespace) -> Report:
    """Write the vectors and say how many there are."""
    from serve.embed import embed_file
    from twotower.bundle.bundle import Bundle

    bundle = Bundle.open(Path(args.bundle), expected(args))
    count = embed_file(bundle, args.contacts, args.output, engine_of(args))
    text = f"{args.output}: vectors of {count:,} contacts, by bundle {bundle.manifest.id[:12]}"
    return Report(text, {"output": args.output, "contacts": count, "bundle": bundle.manifest.id})


VERB = Verb("vectors of a file of contacts, for other tools and in bulk", configure, run)
