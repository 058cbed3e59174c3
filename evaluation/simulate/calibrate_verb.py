"""`twotower simulate calibrate`: a centre fitted to a call log, and how well it reproduces the days held out."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from twotower.cli import Report
from twotower.engines import OPTIONS as ENGINE
from twotower.engines import engine_of

Done = tuple[Report, Callable[[str], None]]
"""What an action says, and what writes its report to a new folder."""

# Options, and whether they are needed, as `twotower.cli.check_action` takes them.
OPTIONS = {
    "config": True, "log": True, "output": False, "split": False, "replications": False, "seed": False,
    "processes": False, **ENGINE,
}  # fmt: skip


def run(args: argparse.Namespace) -> Done:
    """Fit, hold against the days held out, and write what was asked for."""
    from evaluation.simulate.calibrated import calibrate, json_report, text_report
    from evaluation.simulate.calibrated_html import write_calibrated
    from evaluation.simulate.calls import read_calls
    from evaluation.simulate.mapping import read_mapping

    replications = 100 if args.replications is None else args.replications
    calls = read_calls(args.log, read_mapping(args.config))
    found = calibrate(calls, None, args.split or "alternate", replications, args.seed or 0, engine_of(args))
    text, data = text_report(found), json_report(found)
    return Report(text, data), lambda folder: write_calibrated(found, folder)
