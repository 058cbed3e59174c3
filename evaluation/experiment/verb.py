"""`twotower experiment`: design an experiment before it, analyse it after."""

from __future__ import annotations

import argparse

from evaluation.experiment.analyse_verb import OPTIONS as ANALYSE
from evaluation.experiment.analyse_verb import analyse_action, configure_analyse
from evaluation.experiment.design_verb import OPTIONS as DESIGN
from evaluation.experiment.design_verb import configure_design, design_action
from twotower.cli import Report, Verb, check_action

OPTIONS = {"design": DESIGN, "analyse": ANALYSE}


def configure(parser: argparse.ArgumentParser) -> None:
    """The verb's options."""
    parser.add_argument(
        "action", choices=list(OPTIONS),
        help="design: the plan, its schedule and how long, from your history; analyse: what an experiment says",
    )  # fmt: skip
    configure_analyse(parser)
    configure_design(parser)
    parser.add_argument("--output", metavar="DIR", help="new folder for the report and all files")


def run(args: argparse.Namespace) -> Report:
    """Do what was asked."""
    check_action(args, OPTIONS)
    return design_action(args) if args.action == "design" else analyse_action(args)


VERB = Verb(
    "plan an experiment of two ways of assigning, and read its result",
    configure,
    run,
    extra="evaluation",
)
