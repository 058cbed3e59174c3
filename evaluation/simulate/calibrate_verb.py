"""`twotower simulate calibrate`: a centre fitted to a call log, and how well it reproduces the days held out."""

from __future__ import annotations

import argparse

from twotower.cli import Report, Verb


def configure(parser: argparse.ArgumentParser) -> None:
    """The options."""
    parser.add_argument("--config", required=True, metavar="FILE", help="which column is what, a YAML file")
    parser.add_argument("--log", required=True, metavar="FILE", help="the call log, .parquet or .csv")
    parser.add_argument("--output", metavar="DIR", help="new folder for centre.json, result.json and report.html")
    parser.add_argument(
        "--split", choices=["alternate", "first"], default="alternate",
        help="fit every other date (default), or the first half, and hold the others out",
    )  # fmt: skip
    parser.add_argument("--replications", type=int, default=100, metavar="N", help="of each day (default 100)")
    parser.add_argument("--seed", type=int, default=0, help="of the simulations (default 0)")


def run(args: argparse.Namespace) -> Report:
    """Fit, hold against the days held out, and write what was asked for."""
    from pathlib import Path

    from evaluation.simulate.calibrated import calibrate, json_report, text_report
    from evaluation.simulate.calibrated_html import write_calibrated
    from evaluation.simulate.calls import read_calls
    from evaluation.simulate.mapping import read_mapping
    from twotower.errors import OutputError

    if args.output is not None and Path(args.output).exists():
        raise OutputError(f"{args.output}: exists already; name a new --output or remove it first")
    calls = read_calls(args.log, read_mapping(args.config))
    found = calibrate(calls, None, args.split, args.replications, args.seed)
    text, data = text_report(found), json_report(found)
    if args.output is not None:
        write_calibrated(found, args.output)
        text += f"\n\nreport: {args.output}/report.html"
        data["output"] = args.output
    return Report(text, data)


VERB = Verb("a centre fitted to a call log, held against the days held out", configure, run, extra="evaluation")
