"""`twotower retrain`: feedback in, a challenger out, judged against the champion, and promoted if it is not worse."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from loop.registry.verb import add_place, registry_of
from twotower.cli import Report, Verb

STORE = "TWOTOWER_STORE"


def configure(parser: argparse.ArgumentParser) -> None:
    """The verb's options."""
    parser.add_argument("--data", required=True, type=Path, metavar="DIR", help="tables")
    parser.add_argument(
        "--feedback", metavar="WHAT", default=os.environ.get(STORE),
        help=f"what the router was told since: a store's URL, or an export's folder (default: {STORE})",
    )  # fmt: skip
    add_place(parser)
    parser.add_argument("--work", type=Path, default=Path("retrain"), metavar="DIR",
                        help="folder of the steps' outputs, by which a run goes on (default: retrain)")  # fmt: skip
    parser.add_argument("--config", metavar="FILE", help="window, training, gate: like configs/retrain.yaml")
    parser.add_argument("--until", metavar="TIME", help="by what was known before it; default: the last midnight, UTC")
    parser.add_argument("--wait", type=float, default=0.0, metavar="S", help="for another retraining here (default 0)")
    parser.add_argument("--seed", type=int, metavar="N", help="of the training (0)")


def run(args: argparse.Namespace) -> Report:
    """Do it. Not ok where the gate kept the challenger out."""
    import time

    from evaluation.simulate.scenario import read
    from loop.retrain.page import text_report
    from loop.retrain.pipeline import Sources
    from loop.retrain.run import REPORT, retrain
    from loop.retrain.spec import RetrainSpec
    from twotower.clock import DAY, SECOND, parse_time
    from twotower.progress import visible

    registry = registry_of(args)
    given = {} if args.seed is None else {"seed": args.seed}
    spec = RetrainSpec(**given) if args.config is None else read(args.config, RetrainSpec, given)
    now = int(time.time()) * SECOND
    until = now // DAY * DAY if args.until is None else parse_time(args.until, "--until")
    sources = Sources(args.data, args.feedback, registry, until)
    watch = (lambda name, moment: print(f"· {name} {moment}", file=sys.stderr)) if visible() else None
    found = retrain(sources, spec, args.work, args.wait, watch=watch)
    text = f"{text_report(found)}\n\nreport: {args.work / REPORT}"
    return Report(text, {**found.as_json(), "report": str(args.work / REPORT)}, found.outcome != "kept out")


VERB = Verb("feedback in, a bundle out that is not worse than the champion", configure, run, extra="all")
