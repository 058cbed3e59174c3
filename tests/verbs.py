"""Verbs of no stage, for the tests of the command line."""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path

import numpy as np

from twotower.cli import Report, Verb
from twotower.errors import DataError
from twotower.files import atomic_directory


def _count(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--count", type=int, default=1)


def _numbers(args: argparse.Namespace) -> Report:
    data = {"count": np.int64(args.count), "mean": float("nan"), "path": Path("a/b"), "scores": np.array([0.5, np.inf])}
    return Report(f"counted {args.count}", data, ok=args.count > 0)


def _refuse(args: argparse.Namespace) -> Report:
    raise DataError("contacts.parquet, row 3:\n  no such thing")


def _need(args: argparse.Namespace) -> Report:
    importlib.import_module("a_package_nobody_has")
    return Report("", {})


def _broken(args: argparse.Namespace) -> Report:
    importlib.import_module("serve.a_module_that_is_not_there")
    return Report("", {})


def _open(args: argparse.Namespace) -> Report:
    Path("nowhere/at-all").read_text()
    return Report("", {})


def _interrupted(args: argparse.Namespace) -> Report:
    raise KeyboardInterrupt


def _rest(args: argparse.Namespace) -> Report:
    return Report(" ".join(args.rest), {"rest": args.rest, "count": args.count})


def _slow(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("output", type=Path)


def _write_slowly(args: argparse.Namespace) -> Report:
    import time

    with atomic_directory(args.output) as folder:
        (folder / "half").write_text("half")
        print("writing", flush=True)
        time.sleep(60)
    return Report("written", {})


NUMBERS = Verb("counts", _count, _numbers)
REFUSE = Verb("refuses", _count, _refuse)
NEED = Verb("needs", _count, _need, extra="train")
BROKEN = Verb("is broken", _count, _broken)
OPEN = Verb("opens", _count, _open)
INTERRUPTED = Verb("is interrupted", _count, _interrupted)
REST = Verb("passes on", _count, _rest, passes_on=True)
SLOW = Verb("writes slowly", _slow, _write_slowly)
