"""`twotower ope --data DIR --policy BUNDLE`: what policies would have earned, from a log that another one decided."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twotower.bundle.origin import add_options, expected
from twotower.cli import Report, Verb

if TYPE_CHECKING:
    from evaluation.ope.spec import OpeSpec

# Options that say what a field of the file says, and win over it.
FIELDS = ("estimator", "cluster", "propensities", "folds_by", "draws", "seed")
OF_BUNDLES = ("temperature", "explore", "rank", "utility")


def configure(parser: argparse.ArgumentParser) -> None:
    """The verb's options."""
    parser.add_argument("--data", required=True, metavar="DIR", help="tables, or an export of `twotower feedback`")
    parser.add_argument(
        "--policy", action="append", default=[], metavar="BUNDLE",
        help="a policy to judge: a bundle's folder, `uniform` (anyone eligible) or `scores` (the first by the scores "
        "of decisions.parquet); may be repeated",
    )  # fmt: skip
    parser.add_argument("--config", metavar="FILE", help="policies, metrics and thresholds, like configs/ope.yaml")
    parser.add_argument(
        "--metric", action="append", default=[], metavar="NAME",
        help="resolved (default), csat, handle_time_s, transferred, quality_score; may be repeated",
    )  # fmt: skip
    parser.add_argument("--from", dest="start", metavar="TIME", help="default: where the last bundle's data end")
    parser.add_argument("--to", dest="stop", metavar="TIME", help="default: the log's end")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--temperature", type=float, metavar="T", help="bundles choose by a softmax of their scores")
    how.add_argument("--explore", metavar="FILE", help="bundles choose as an explorer with these options does")
    parser.add_argument("--rank", choices=["success", "handled"], help="what a rank means; default: the bundle's")
    parser.add_argument("--utility", metavar="WEIGHTS", help="bundles rank by these weights, like resolved=1,csat=0.1")
    parser.add_argument(
        "--estimator", metavar="NAME", help="to answer by: dr (default), snips, ips, switch-dr, mips, dm"
    )
    parser.add_argument(
        "--propensities", choices=["auto", "logged", "estimated"],
        help="of the log: as written down, or estimated from whom the queue gave contacts to; default: auto",
    )  # fmt: skip
    parser.add_argument(
        "--logged", action="append", default=[], metavar="NAME",
        help="whose choices count, by interactions.policy; may be repeated; default: all",
    )  # fmt: skip
    parser.add_argument("--cluster", choices=["customer", "day", "none"], help="what is drawn together (customer)")
    parser.add_argument("--folds-by", choices=["customer", "day"], help="how the judge is cross-fitted (customer)")
    parser.add_argument("--draws", type=int, metavar="N", help="of the bootstrap (1000)")
    parser.add_argument("--output", metavar="DIR", help="new folder for report.html and ope.json")
    add_options(parser)
    parser.add_argument("--seed", type=int, metavar="N", help="of folds and draws (0)")


def run(args: argparse.Namespace) -> Report:
    """Judge the policies; write the report where that was asked for. Not ok where an answer is refused."""
    from evaluation.ope.html import write_report
    from evaluation.ope.report import json_report, text_report
    from evaluation.ope.run import evaluate
    from twotower.clock import parse_time
    from twotower.errors import OutputError

    if args.output is not None and Path(args.output).exists():
        raise OutputError(f"{args.output}: exists already; name a new --output or remove it first")
    start = None if args.start is None else parse_time(args.start, "--from")
    stop = None if args.stop is None else parse_time(args.stop, "--to")
    found = evaluate(args.data, spec_of(args), start, stop, expected(args))
    text, data = text_report(found), json_report(found)
    if args.output is not None:
        write_report(found, args.output)
        text += f"\n\nreport: {args.output}/report.html"
        data["output"] = args.output
    return Report(text, data, not found.refused)


def spec_of(args: argparse.Namespace) -> OpeSpec:
    """The file's specification, if there is one, under what the command line says. Raises ConfigError."""
    from pydantic import ValidationError

    from evaluation.ope.spec import OpeSpec
    from twotower.errors import ConfigError

    given: dict[str, Any] = {name: value for name in FIELDS if (value := getattr(args, name)) is not None}
    of_bundles = {name: value for name in OF_BUNDLES if (value := getattr(args, name)) is not None}
    if of_bundles and not args.policy:
        raise ConfigError(f"--{next(iter(of_bundles))}: is of bundles that --policy names; in a file each has its own")
    if args.policy:
        given["policies"] = [_policy(one, of_bundles) for one in args.policy]
    given |= {name: values for name, values in (("metrics", args.metric), ("logged", args.logged)) if values}
    if args.config is not None:
        from evaluation.simulate.scenario import read

        return read(args.config, OpeSpec, given)
    if not args.policy:
        raise ConfigError("--policy BUNDLE, or --config FILE that names policies, is needed: what is to be judged?")
    try:
        return OpeSpec.model_validate(given)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ConfigError(
            f"--{where.replace('_', '-')}: {first['msg']}; given was {str(first['input'])[:60]!r}"
        ) from None


def _policy(text: str, of_bundles: dict[str, Any]) -> str | dict[str, Any]:
    """A policy of the command line; what bundles choose by belongs to bundles alone."""
    return text if text in ("uniform", "scores") else {"bundle": text, **of_bundles}


VERB = Verb("what policies would have earned, from logged decisions", configure, run, extra="evaluation")
