"""`twotower experiment analyse`: an experiment's tables against its plan, and what to do."""

from __future__ import annotations

import argparse
from pathlib import Path

from twotower.cli import Report

# Options, and whether they are needed, as `twotower.cli.check_action` takes them.
OPTIONS = {"plan": True, "data": True, "schedule": False, "at": False, "output": False}
SCHEDULE = "schedule.parquet"


def configure_analyse(parser: argparse.ArgumentParser) -> None:
    """The action's options."""
    parser.add_argument("--plan", metavar="FILE", help="plan.yaml, as `experiment design` wrote it")
    parser.add_argument("--data", metavar="DIR", help="tables of the experiment's time, and of the weeks before it")
    parser.add_argument("--schedule", metavar="FILE", help=f"which arm when; default: {SCHEDULE} beside the plan")
    parser.add_argument("--at", metavar="TIME", help="an interim look: what was known then; default: the plan's end")


def analyse_action(args: argparse.Namespace) -> Report:
    """Analyse, write what was asked for, and exit with 1 where a check refused."""
    from evaluation.experiment.analyse_html import write_analysis
    from evaluation.experiment.analyse_text import json_report, text_report
    from evaluation.experiment.plan import read_plan
    from evaluation.experiment.read_out import read_out
    from evaluation.experiment.spans import read_schedule
    from twotower.clock import parse_time
    from twotower.errors import OutputError
    from twotower.progress import bar

    if args.output is not None and Path(args.output).exists():
        raise OutputError(f"{args.output}: exists already; name a new --output or remove it first")
    plan = read_plan(args.plan)
    schedule = read_schedule(args.schedule or Path(args.plan).parent / SCHEDULE)
    at = None if args.at is None else parse_time(args.at, "--at")
    with bar("analysis, report", total=2, unit="step") as advance:
        found = read_out(plan, schedule, args.data, at)
        advance(1)
        text, told = text_report(found), json_report(found)
        if args.output is not None:
            write_analysis(found, args.output)
            text, told = f"{text}\n\nreport: {args.output}/report.html", {**told, "output": args.output}
        advance(1)
    return Report(text, told, found.found is not None)
