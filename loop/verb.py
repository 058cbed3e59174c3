"""`twotower demo`: the whole loop on a generated centre."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from twotower.cli import Report, Verb
from twotower.errors import Interrupted


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the options."""
    parser.add_argument(
        "--output", type=Path, default=Path("demo"), metavar="DIR",
        help="folder to create; one that an earlier demo made is replaced (default: demo)",
    )  # fmt: skip
    parser.add_argument(
        "--contacts", type=int, default=12_000, metavar="N", help="contacts of the generated centre (default 12000)"
    )
    parser.add_argument("--csas", type=int, default=80, metavar="J", help="CSAs of the generated centre (default 80)")
    parser.add_argument("--seed", type=int, default=0, help="chooses the centre and starts the training (default 0)")


def run(args: argparse.Namespace) -> Report:
    """Runs the loop and says what came of it."""
    one_thread()
    from loop.demo import run_demo
    from loop.demo_text import json_report, text_report

    try:
        done = run_demo(args.output, args.contacts, args.csas, args.seed)
    except Interrupted as stopped:
        raise Interrupted(stopped.signum, "interrupted; nothing is kept") from None
    return Report(text_report(done), json_report(done))


def one_thread() -> None:
    """One thread for every numerical library, unless the environment says otherwise.

    The batches are too small to share, threads that wait for each other are slow where the cores have other work, and
    sums do not depend on the number of cores, so the same seed gives the same bytes on any of them. To be called before
    numpy and torch are imported.
    """
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")


VERB = Verb("the whole loop on a generated centre, in minutes", configure, run, extra="all")
