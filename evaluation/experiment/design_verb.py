"""`twotower experiment design`: options and file into a plan, a schedule and a page."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from twotower.cli import Report

# Options, and whether they are needed, as `twotower.cli.check_action` takes them.
OPTIONS = {
    "data": True, "output": False, "config": False, "design": False, "metric": False, "effect": False, "alpha": False,
    "power": False, "until": False, "begins": False, "days": False, "block-hours": False, "wash-out": False,
    "stopping": False, "seed": False,
}  # fmt: skip
SAME = ("design", "metric", "effect", "alpha", "power", "until", "begins", "days", "block_hours", "stopping", "seed")
FIELDS = {name: name for name in SAME} | {"wash_out": "wash_out_minutes"}
"""Of options, the fields of the file that they replace."""


def configure_design(parser: argparse.ArgumentParser) -> None:
    """The action's options, but for those that both actions take."""
    parser.add_argument("--config", metavar="FILE", help="design: what is asked, YAML; options replace its fields")
    parser.add_argument(
        "--design", metavar="NAME", help="design: auto (default), switchback, cluster (sites, teams) or customer"
    )
    parser.add_argument("--metric", metavar="NAME", help="design: what decides (default resolved)")
    parser.add_argument("--effect", type=float, metavar="X", help="design: the least difference worth having")
    parser.add_argument("--alpha", type=float, metavar="P", help="design: false alarms, two-sided (default 0.05)")
    parser.add_argument("--power", type=float, metavar="P", help="design: chance to find the effect (default 0.8)")
    parser.add_argument("--until", metavar="TIME", help="design: by what was known then; default: by all there is")
    parser.add_argument("--begins", metavar="TIME", help="design: default, the first Monday a day after the data end")
    parser.add_argument("--days", metavar="N", help="design: how long; auto (default): until the effect is found")
    parser.add_argument("--block-hours", metavar="H", help="design: how long an arm lasts; auto (default)")
    parser.add_argument("--wash-out", metavar="MINUTES", help="design: minutes after a change; auto (default)")
    parser.add_argument("--stopping", metavar="RULE", help="design: fixed (default), one look, or always_valid")
    parser.add_argument("--seed", type=int, metavar="N", help="design: of the lottery (default 0)")


def design_action(args: argparse.Namespace) -> Report:
    """Design, and write what was asked for."""
    from evaluation.experiment.design import designed
    from evaluation.experiment.design_text import json_report, text_report
    from twotower.errors import ConfigError, OutputError

    if args.output is not None and Path(args.output).exists():
        raise OutputError(f"{args.output}: exists already; name a new --output or remove it first")
    if not Path(args.data).is_dir():
        raise ConfigError(f"--data {args.data}: no such folder")
    found = designed(asked_of(args), args.data)
    text, data = text_report(found), json_report(found)
    if args.output is not None:
        from evaluation.experiment.design_html import write_design

        write_design(found, args.output)
        text = f"{text}\n\nplan: {args.output}/plan.yaml, schedule.parquet, report.html"
        data["output"] = args.output
    return Report(text, data)


def asked_of(args: argparse.Namespace) -> Any:
    """The file's fields, or none, with the options in their place. Raises ConfigError: which field, what was
    expected."""
    from evaluation.experiment.design_spec import Asked
    from evaluation.simulate.scenario import read, said
    from twotower.errors import ConfigError

    given = {field: number(getattr(args, name)) for name, field in FIELDS.items() if getattr(args, name) is not None}
    if args.config is not None:
        return read(args.config, Asked, given)
    if "effect" not in given:
        raise ConfigError("design: --effect is missing: the least difference worth having, in the metric's units")
    return _validated(Asked, given, said)


def _validated(kind: Any, given: Mapping[str, Any], said: Any) -> Any:
    from pydantic import ValidationError

    from twotower.errors import ConfigError

    try:
        return kind.model_validate(dict(given))
    except ValidationError as error:
        raise ConfigError(f"design: {said(error, kind)}") from None


def number(text: Any) -> Any:
    """What is a number as one, so that `auto` and 4 can both be given."""
    try:
        return float(text) if isinstance(text, str) else text
    except ValueError:
        return text
