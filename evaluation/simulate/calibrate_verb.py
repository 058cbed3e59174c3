"""`twotower simulate calibrate`: a centre fitted to a call log, and how well it reproduces the days held out.

Notable: options have no defaults here, so that a verb of several actions can tell which ones were given.
"""

from __future__ import annotations

import argparse

from twotower.cli import Report

# Options, and whether they are needed, as `twotower.cli.check_action` takes them.
OPTIONS = {"config": True, "log": True, "output": False, "split": False, "replications": False, "seed": False}


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of this action."""
    parser.add_argument("--config", metavar="FILE", help="calibrate: which column is what, a YAML file")
    parser.add_argument("--log", metavar="FILE", help="calibrate: the call log, .parquet or .csv")
    parser.add_argument(
        "--output", metavar="DIR", help="calibrate: new folder for centre.json, result.json and report.html"
    )
    parser.add_argument(
        "--split",
        choices=["alternate", "first"],
        help="calibrate: fit every other date (default), or the first half, and hold the others out",
    )
    parser.add_argument("--replications", type=int, metavar="N", help="calibrate: of each day (default 100)")
    parser.add_argument("--seed", type=int, help="calibrate: of the simulations (default 0)")


def run(args: argparse.Namespace) -> Report:
    """Fit, hold against the days held out, and write what was asked for."""
    from pathlib import Path

    from evaluation.simulate.calibrated import calibrate, json_report, text_report
    from evaluation.simulate.calibrated_html import write_calibrated
    from evaluation.simulate.calls import read_calls
    from evaluation.simulate.mapping import read_mapping
    from twotower.errors import ConfigError, OutputError

    for name in (name for name, needed in OPTIONS.items() if needed):
        if getattr(args, name) is None:
            raise ConfigError(f"calibrate: --{name} is missing; it takes {', '.join(f'--{one}' for one in OPTIONS)}")
    if args.output is not None and Path(args.output).exists():
        raise OutputError(f"{args.output}: exists already; name a new --output or remove it first")
    replications = 100 if args.replications is None else args.replications
    calls = read_calls(args.log, read_mapping(args.config))
    found = calibrate(calls, None, args.split or "alternate", replications, args.seed or 0)
    text, data = text_report(found), json_report(found)
    if args.output is not None:
        write_calibrated(found, args.output)
        text += f"\n\nreport: {args.output}/report.html"
        data["output"] = args.output
    return Report(text, data)
