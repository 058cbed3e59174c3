"""`twotower index rebuild BUNDLE --roster FILE --output BUNDLE`: the batch job for when the roster has changed."""

from __future__ import annotations

import argparse
from dataclasses import asdict

from twotower.bundle.origin import add_options, expected
from twotower.cli import Report, Verb
from twotower.errors import ConfigError


def configure(parser: argparse.ArgumentParser) -> None:
    """The verb's options."""
    parser.add_argument("action", choices=["rebuild"], help="what to do")
    parser.add_argument("bundle", metavar="BUNDLE", help="folder that `twotower export` or this wrote")
    parser.add_argument("--roster", required=True, metavar="FILE", help="Parquet file like csas.parquet")
    parser.add_argument("--output", required=True, metavar="BUNDLE", help="new folder for the bundle")
    parser.add_argument("--at", metavar="TIME", help="as of when the file's dated rows count; default: now")
    add_options(parser, "--digest")
    parser.add_argument("--most-leavers", type=float, default=0.5, metavar="SHARE", help="refuse more (default 0.5)")


def run(args: argparse.Namespace) -> Report:
    """Write the bundle and say what changed."""
    from serve.rebuild import rebuild
    from twotower.clock import parse_time

    if not 0 <= args.most_leavers <= 1:
        raise ConfigError(f"--most-leavers: a share of 0 to 1 is expected, got {args.most_leavers:g}")
    at = None if args.at is None else parse_time(args.at, "--at")
    done = rebuild(args.bundle, args.roster, args.output, at, expected(args), args.most_leavers)
    text = (
        f"{args.output}: bundle {done.bundle[:12]}, {done.joined} joined, {done.changed} changed, {done.left} left; "
        f"{done.active} of {done.csas} CSAs active"
    )
    return Report(text, {"output": args.output, **asdict(done)})


VERB = Verb("build a bundle's roster and search anew", configure, run)
