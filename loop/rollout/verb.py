"""`twotower rollout`: a challenger answers unheard, then by blocks, then everybody; or the champion stays."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loop.registry.verb import add_place, registry_of
from twotower.cli import Report, Verb, check_action
from twotower.errors import ConfigError

if TYPE_CHECKING:
    from loop.rollout.rollout import Rollout
    from loop.rollout.state import State

STORE, TOKEN = "TWOTOWER_STORE", "TWOTOWER_METRICS_TOKEN"
OPTIONS: dict[str, dict[str, bool]] = {
    "start": {"link": True, "shadow-link": False, "config": False, "version": False, "metrics": False},
    "step": {"metrics": False},
    "run": {"metrics": False, "every": False},
    "status": {},
    "stop": {"why": False},
}
"""Of each action, and whether it is needed."""
ALWAYS = ("registry", "store", "model", "work", "data", "feedback", "at", "wait")
FAILED = ("rolling back", "rolled back")


def configure(parser: argparse.ArgumentParser) -> None:
    """The verb's options."""
    parser.add_argument("action", choices=list(OPTIONS), help="what to do")
    add_place(parser)
    parser.add_argument("--work", type=Path, default=Path("rollout"), metavar="DIR",
                        help="folder of the state, the plan and the page (default: rollout)")  # fmt: skip
    parser.add_argument("--link", type=Path, metavar="PATH", help="start: that `twotower serve` was started with")
    parser.add_argument("--shadow-link", type=Path, metavar="PATH", help="start: that `serve --shadow` was given")
    parser.add_argument("--version", metavar="VERSION", help="start: of the challenger (default: who has the alias)")
    parser.add_argument("--config", metavar="FILE", help="start: stages and guardrails, like configs/rollout.yaml")
    parser.add_argument(
        "--feedback", metavar="WHAT", default=os.environ.get(STORE),
        help=f"what became of contacts: a store's URL, or an export's folder (default: {STORE})",
    )  # fmt: skip
    parser.add_argument("--data", type=Path, metavar="DIR", help="tables: history, or all where there is no store")
    parser.add_argument("--metrics", metavar="URL", help=f"the service's /metrics; its token stands in {TOKEN}")
    parser.add_argument("--every", type=float, metavar="S", help="run: how often to look (default 5)")
    parser.add_argument("--why", metavar="TEXT", help="stop: the reason, which is kept")
    parser.add_argument("--at", metavar="TIME", help="the moment that it is (default: now), for trying things out")
    parser.add_argument("--wait", type=float, default=30.0, metavar="S", help="for another step here (default 30)")


def run(args: argparse.Namespace) -> Report:
    """Do what was asked. Not ok where the challenger was taken back."""
    from loop.rollout.spec import RolloutSpec
    from twotower.clock import now, parse_time

    check_action(args, OPTIONS, ALWAYS)
    at = now() if args.at is None else parse_time(args.at, "--at")
    if args.action == "status":
        return _status(args)
    rollout = _rollout(args)
    if args.action == "start":
        from evaluation.simulate.scenario import read

        spec = RolloutSpec() if args.config is None else read(args.config, RolloutSpec)
        return _told(args, rollout.start(spec, args.link, at, args.version, args.shadow_link))
    if args.action == "stop":
        return _told(args, rollout.stop(at, args.why or "by hand"))
    if args.action == "step":
        return _told(args, rollout.step(at))
    from loop.rollout.daemon import keep

    every = 5.0 if args.every is None else args.every
    if not every > 0:
        raise ConfigError(f"run: --every {every:g}; more than 0 s expected")
    if args.at is not None:
        raise ConfigError("run: --at belongs to a single step; `run` goes by the clock")
    return _told(args, keep(rollout, every, lambda line: print(line, file=sys.stderr, flush=True), _show(args)))


def _rollout(args: argparse.Namespace) -> Rollout:
    from loop.rollout.outside import Aliases, OfTables, Outside, answers
    from loop.rollout.rollout import Rollout
    from loop.rollout.scraped import scraper
    from loop.rollout.told import Tables

    aliases = Aliases(registry_of(args), args.work / "bundles")
    url = getattr(args, "metrics", None)
    scrape = None if url is None else scraper(url, os.environ.get(TOKEN))
    tables = OfTables(Tables(args.data, args.feedback, args.work)) if args.action in ("step", "run") else Nothing()
    return Rollout(args.work, Outside(aliases, tables, scrape, answers), args.wait)


class Nothing:
    """For actions that ask nothing of contacts."""

    def __getattr__(self, name: str) -> Any:
        raise ConfigError(f"{name}: nothing tells what becomes of contacts; `twotower rollout step` looks")


def _status(args: argparse.Namespace) -> Report:
    from loop.rollout.state import read_state

    state = read_state(args.work)
    if state is None:
        return Report(f"{args.work}: no rollout was begun here", {"stage": None})
    return _told(args, state)


def _told(args: argparse.Namespace, state: State) -> Report:
    from loop.rollout.page import PAGE, text_report

    _show(args)(state)
    path = str(args.work / PAGE)
    text = f"{text_report(state)}\n\nreport: {path}"
    return Report(text, {**state.as_json(), "report": path}, state.stage not in FAILED)


def _show(args: argparse.Namespace) -> Any:
    from loop.rollout.page import PAGE, html_report
    from twotower.files import atomic_write

    return lambda state: atomic_write(args.work / PAGE, html_report(state))


VERB = Verb("a challenger answers unheard, then by blocks, then everybody", configure, run, extra="all")
