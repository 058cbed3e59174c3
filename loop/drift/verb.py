"""`twotower drift --data DIR`: what the newest window has that the windows before it had not."""

from __future__ import annotations

import argparse
from pathlib import Path

from twotower.bundle.origin import add_options, expected
from twotower.cli import Report, Verb


def configure(parser: argparse.ArgumentParser) -> None:
    """The verb's options."""
    parser.add_argument("--data", required=True, metavar="DIR", help="tables")
    parser.add_argument(
        "--bundle", metavar="BUNDLE", help="watch its calibration, its text vectors, and who it does not hold, too"
    )
    parser.add_argument("--from", dest="start", metavar="TIME", help="first moment of data used (the first contact)")
    parser.add_argument("--to", dest="stop", metavar="TIME", help="end of the newest window (after the last contact)")
    parser.add_argument("--window-days", type=int, default=7, metavar="N", help="days of a window (7)")
    parser.add_argument(
        "--rate", type=float, default=0.05, metavar="X", help="chance of any alarm where nothing drifts (0.05)"
    )
    parser.add_argument("--output", metavar="DIR", help="new folder for report.html and drift.json")
    parser.add_argument("--metrics", metavar="FILE", help="gauges for Prometheus' textfile collector, replaced")
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N", help="which rows of very large windows are read (0)"
    )
    add_options(parser)


def run(args: argparse.Namespace) -> Report:
    """Judge the newest window. Not ok, which is exit status 1, where there is an alarm."""
    from loop.drift.html import write_report
    from loop.drift.prometheus import write_gauges
    from loop.drift.report import text_report
    from loop.drift.run import drift
    from twotower.clock import parse_time
    from twotower.errors import ConfigError, OutputError

    if args.output is not None and Path(args.output).exists():
        raise OutputError(f"{args.output}: exists already; name a new --output or remove it first")
    digest = expected(args)
    if digest is not None and args.bundle is None:
        raise ConfigError("--expect-digest: is for --bundle BUNDLE, which is not given")
    if args.seed < 0:
        raise ConfigError(f"--seed {args.seed}: must not be negative")
    start = None if args.start is None else parse_time(args.start, "--from")
    stop = None if args.stop is None else parse_time(args.stop, "--to")
    found = drift(args.data, args.bundle, start, stop, args.window_days, args.rate, digest, args.seed)
    text, data = text_report(found), found.as_json()
    if args.output is not None:
        write_report(found, args.output)
        text += f"\n\nreport: {args.output}/report.html"
        data["output"] = args.output
    if args.metrics is not None:
        write_gauges(found, args.metrics)
        text += f"\ngauges: {args.metrics}"
        data["metrics"] = args.metrics
    return Report(text, data, found.ok)


VERB = Verb("whether the newest window differs from those before it", configure, run, extra="evaluation")
