"""`twotower simulate`: a centre under several policies, a table and a page; and what planners make of it."""

from __future__ import annotations

import argparse
from pathlib import Path

from twotower.cli import Report, Verb, check_action

# Options of each action, and whether it needs them.
OPTIONS = {
    "run": {"config": True, "output": False, "processes": False, "ray": False, "replications": False, "seed": False},
}


def configure(parser: argparse.ArgumentParser) -> None:
    """The verb's options."""
    parser.add_argument(
        "action", nargs="?", default="run", choices=list(OPTIONS), help="run (default): policies of a scenario compared"
    )
    parser.add_argument("--config", metavar="FILE", help="what to simulate, YAML")
    parser.add_argument("--output", metavar="DIR", help="new folder for report.html and the figures as JSON")
    parser.add_argument("--replications", type=int, metavar="N", help="in place of the file's")
    parser.add_argument("--seed", type=int, metavar="N", help="in place of the file's")
    parser.add_argument("--processes", type=int, metavar="N", help="replications at once (default 1)")
    parser.add_argument("--ray", action="store_true", default=None, help="replications as tasks of Ray")


def run(args: argparse.Namespace) -> Report:
    """Do what was asked."""
    from twotower.errors import OutputError

    check_action(args, OPTIONS)
    if args.output is not None and Path(args.output).exists():
        raise OutputError(f"{args.output}: exists already; name a new --output or remove it first")
    return _run(args)


def _run(args: argparse.Namespace) -> Report:
    from evaluation.simulate.replicate import compare
    from evaluation.simulate.report import json_report, text_report, write_report
    from evaluation.simulate.scenario import ScenarioSpec, read, scenario_of

    given = {"replications": args.replications, "seed": args.seed}
    spec = read(args.config, ScenarioSpec, {name: value for name, value in given.items() if value is not None})
    scenario = scenario_of(spec)
    found = compare(scenario.trial, scenario.replications, args.processes or 1, bool(args.ray))
    text = text_report(scenario.name, scenario.trial, found)
    data = json_report(scenario.name, scenario.trial, found)
    if args.output is not None:
        write_report(scenario.name, scenario.trial, found, args.output)
        text += f"\n\nreport: {args.output}/report.html"
        data["output"] = args.output
    return Report(text, data)


VERB = Verb("a centre simulated under several policies", configure, run, extra="evaluation")
