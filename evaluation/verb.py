"""`twotower evaluate BUNDLE --data DIR`: ranking metrics beside rolling baselines, and what the model misses."""

from __future__ import annotations

import argparse
from pathlib import Path

from twotower.bundle.origin import add_options, expected
from twotower.cli import Report, Verb


def configure(parser: argparse.ArgumentParser) -> None:
    """The verb's options."""
    parser.add_argument("bundle", metavar="BUNDLE", help="folder that `twotower export` wrote")
    parser.add_argument("--data", required=True, metavar="DIR", help="tables, with the contacts to judge on among them")
    parser.add_argument(
        "--from",
        dest="start",
        metavar="TIME",
        help="contacts that arrived then or later are the test, like 2026-01-31T00:00:00Z; default: the last tenth",
    )
    parser.add_argument("--rank", choices=["success", "handled"], help="what a rank means; default: the bundle's")
    parser.add_argument(
        "--peer", action="append", default=[], metavar="BUNDLE", help="another bundle beside it; may be repeated"
    )
    parser.add_argument("--output", metavar="DIR", help="new folder for report.html and metrics.json")
    add_options(parser)
    parser.add_argument("--seed", type=int, default=0, help="of the intervals and of lots between ties (default 0)")


def run(args: argparse.Namespace) -> Report:
    """Judge the bundle; write the report where that was asked for."""
    from evaluation.ranking_run import evaluate
    from evaluation.report_html import write_report
    from evaluation.report_text import json_report, text_report
    from twotower.clock import parse_time
    from twotower.errors import OutputError

    if args.output is not None and Path(args.output).exists():
        raise OutputError(f"{args.output}: exists already; name a new --output or remove it first")
    start = None if args.start is None else parse_time(args.start, "--from")
    found = evaluate(args.bundle, args.data, start, args.rank, args.peer, args.seed, expected(args))
    text, data = text_report(found), json_report(found)
    if args.output is not None:
        write_report(found, args.output)
        text += f"\n\nreport: {args.output}/report.html"
        data["output"] = args.output
    return Report(text, data)


VERB = Verb("ranking metrics beside the baselines", configure, run, extra="evaluation")
