"""`twotower simulate`: a centre under several policies, a table and a page; and what planners make of it."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from evaluation.simulate.calibrate_verb import OPTIONS as CALIBRATE
from evaluation.simulate.calibrate_verb import Done
from evaluation.simulate.calibrate_verb import run as calibrate
from twotower.cli import Report, Verb, check_action
from twotower.engines import OPTIONS as ENGINE
from twotower.engines import add_options, engine_of

# Options of each action, and whether it needs them.
OPTIONS = {
    "run": {"config": True, "output": False, "processes": False, **ENGINE, "replications": False, "seed": False},
    "staffing": {"config": True, "output": False, "processes": False, **ENGINE, "seed": False},
    "frontier": {"config": True, "output": False, "processes": False, **ENGINE, "replications": False, "seed": False},
    "calibrate": CALIBRATE,
}


def configure(parser: argparse.ArgumentParser) -> None:
    """The verb's options."""
    parser.add_argument(
        "action", nargs="?", default="run", choices=list(OPTIONS),
        help="run (default): policies of a scenario compared; staffing: the fewest staff by group and interval that "
        "meet targets; frontier: what can be had at once of resolution, waits, occupancy and fairness; calibrate: a "
        "centre fitted to a call log, and how well it reproduces days held out",
    )  # fmt: skip
    parser.add_argument("--config", metavar="FILE", help="what to simulate, YAML; calibrate: which column is what")
    parser.add_argument("--log", metavar="FILE", help="calibrate: the call log, .parquet or .csv")
    parser.add_argument(
        "--split",
        choices=["alternate", "first"],
        help="calibrate: fit every other date (default) or the first half, and hold the others out",
    )
    parser.add_argument("--output", metavar="DIR", help="new folder for report.html and the figures as JSON")
    parser.add_argument("--replications", type=int, metavar="N", help="in place of the file's")
    parser.add_argument("--seed", type=int, metavar="N", help="in place of the file's")
    add_options(parser, "replications")


def run(args: argparse.Namespace) -> Report:
    """Do what was asked."""
    from twotower.errors import OutputError

    check_action(args, OPTIONS)
    if args.output is not None and Path(args.output).exists():
        raise OutputError(f"{args.output}: exists already; name a new --output or remove it first")
    action = {"staffing": _staffing, "frontier": _frontier, "calibrate": calibrate, "run": _run}[args.action]
    found, write = action(args)
    if args.output is None:
        return found
    write(args.output)
    return replace(
        found, text=f"{found.text}\n\nreport: {args.output}/report.html", data={**found.data, "output": args.output}
    )


def _run(args: argparse.Namespace) -> Done:
    from evaluation.simulate.replicate import compare
    from evaluation.simulate.report import json_report, text_report, write_report
    from evaluation.simulate.scenario import ScenarioSpec, read, scenario_of

    given = {"replications": args.replications, "seed": args.seed}
    spec = read(args.config, ScenarioSpec, {name: value for name, value in given.items() if value is not None})
    scenario = scenario_of(spec)
    found = compare(scenario.trial, scenario.replications, engine_of(args))
    text = text_report(scenario.name, scenario.trial, found)
    data = json_report(scenario.name, scenario.trial, found)
    return Report(text, data), lambda folder: write_report(scenario.name, scenario.trial, found, folder)


def _staffing(args: argparse.Namespace) -> Done:
    from evaluation.simulate.scenario import read
    from evaluation.simulate.staffing_answer import staffing
    from evaluation.simulate.staffing_report import json_report, text_report, write_report
    from evaluation.simulate.staffing_spec import StaffingSpec

    spec = read(args.config, StaffingSpec, {} if args.seed is None else {"seed": args.seed})
    journal = None if args.output is None else Path(f"{args.output}.progress.json")
    answer = staffing(spec, engine_of(args), journal)
    text, data = text_report(answer), json_report(answer)
    return Report(text, data, all(one.met for one in answer.policies)), lambda folder: write_report(answer, folder)


def _frontier(args: argparse.Namespace) -> Done:
    from evaluation.simulate.frontier import FrontierSpec, frontier
    from evaluation.simulate.frontier_report import json_of, text_report, write_report
    from evaluation.simulate.scenario import read

    given = {"replications": args.replications, "seed": args.seed}
    spec = read(args.config, FrontierSpec, {name: value for name, value in given.items() if value is not None})
    found = frontier(spec, engine_of(args))
    text, data = text_report(found), json_of(found)
    return Report(text, data, not any(one.why for one in found.chosen)), lambda folder: write_report(found, folder)


VERB = Verb("a centre simulated under several policies", configure, run, extra="evaluation")
