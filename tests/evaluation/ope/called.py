"""`twotower ope` in this process, and its answers."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from evaluation.ope.verb import VERB
from tests.evaluation.ope import worlds
from twotower.cli import Report

LATE = "2027-01-01T00:00:00Z"
WINDOW = ("--from", worlds.FROM, "--draws", "100")
Ope = Callable[..., Report]


def ope(*words: object) -> Report:
    parser = argparse.ArgumentParser()
    VERB.configure(parser)
    return VERB.run(parser.parse_args([str(word) for word in words]))


def answer(report: Report, policy: str, metric: str = "resolved") -> dict[str, Any]:
    [found] = [one for one in report.data["answers"] if (one["policy"], one["metric"]) == (policy, metric)]
    return found
