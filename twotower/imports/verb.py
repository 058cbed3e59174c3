"""`twotower import`: exports of a contact centre into the tables, and a draft of the mapping that this takes."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from twotower.cli import Report, Verb, check_action

_IMPORT = {
    "output": True, "map": False, "csas": False, "secret": False, "no-customers": False, "no-redact": False,
    "redaction": False, "tolerate": False, "largest": False, "restart": False,
}  # fmt: skip
# Options of each action, and whether it needs them.
OPTIONS = {
    "connect": _IMPORT, "zendesk": _IMPORT, "csv": {**_IMPORT, "map": True}, "map": {"output": False, "sample": False},
}  # fmt: skip


def configure(parser: argparse.ArgumentParser) -> None:
    """The verb's options."""
    parser.add_argument(
        "action", choices=list(OPTIONS), help="connect: contact records and Contact Lens of Amazon Connect; zendesk: "
        "tickets; csv: rows of CSV or Parquet files, by a map; map: draft a map by looking at a source"
    )  # fmt: skip
    parser.add_argument("source", type=Path, metavar="SOURCE", help="a file, or a folder of files")
    parser.add_argument("--output", type=Path, metavar="DIR", help="new folder for the tables; map: the file to write")
    parser.add_argument("--map", type=Path, metavar="FILE", help="which column, attribute or field is what, YAML")
    parser.add_argument(
        "--csas", type=Path, metavar="FILE", help="the CSAs, Parquet or CSV, in place of the source's own"
    )
    parser.add_argument("--secret", type=Path, metavar="FILE", help="file with 16 to 64 bytes that customers are "
                        "hashed with; default: TWOTOWER_CUSTOMERS_SECRET")  # fmt: skip
    parser.add_argument("--no-customers", action="store_true", default=None, help="identify no customer: no secret")
    parser.add_argument("--no-redact", action="store_true", default=None, help="leave free text as it is")
    parser.add_argument("--redaction", type=Path, metavar="FILE", help="YAML file of options of the redaction")
    parser.add_argument("--tolerate", type=float, metavar="SHARE", help="of records that may be damaged (default 0.01)")
    parser.add_argument("--largest", type=int, metavar="MIB", help="largest record that is read (default 16)")
    parser.add_argument("--restart", action="store_true", default=None, help="begin anew, not where a run was stopped")
    parser.add_argument("--sample", type=int, metavar="N", help="map: rows of each file to look at (default 5000)")


def run(args: argparse.Namespace) -> Report:
    """Imports, or drafts a map."""
    check_action(args, OPTIONS)
    return _draft(args) if args.action == "map" else _import(args)


def _draft(args: argparse.Namespace) -> Report:
    from twotower.errors import ConfigError
    from twotower.files import atomic_write, refuse_existing
    from twotower.imports.draft import draft

    output = Path("mapping.yaml") if args.output is None else args.output
    refuse_existing(output)
    if args.sample is not None and args.sample < 1:
        raise ConfigError(f"--sample: expected one row or more, not {args.sample}")
    found = draft(args.source, args.sample or 5000)
    atomic_write(output, found.text)
    lines = [found.summary(), f"map: {output}"]
    return Report("\n".join(lines), {"output": str(output), **found.data()})


def _import(args: argparse.Namespace) -> Report:
    from twotower.imports.run import TOLERATED, Job, run_import

    job = Job(
        source=args.source,
        output=args.output,
        mapping=_mapping(args),
        redactor=_redactor(args),
        csas=args.csas,
        tolerate=_share(args.tolerate, TOLERATED),
        restart=bool(args.restart),
        **_customers(args),
        **_largest(args.largest),
    )
    outcome = run_import(job)
    return Report(outcome.text(), outcome.data())


def _mapping(args: argparse.Namespace) -> Any:
    from twotower.errors import ConfigError
    from twotower.imports.mapping import ImportMap, read_map

    if args.map is None:
        return ImportMap(source=args.action)
    mapping = read_map(args.map)
    if mapping.source != args.action:
        raise ConfigError(f"{args.map}: is of `source: {mapping.source}`; run import {mapping.source}, or name another")
    return mapping


def _redactor(args: argparse.Namespace) -> Any:
    from twotower.errors import ConfigError
    from twotower.redaction.config import RedactionConfig, read_config
    from twotower.redaction.redactor import Redactor

    if args.no_redact and args.redaction is not None:
        raise ConfigError("--no-redact and --redaction contradict each other; give one of them")
    config = RedactionConfig() if args.redaction is None else read_config(args.redaction)
    return None if args.no_redact or not config.enabled else Redactor(config)


def _customers(args: argparse.Namespace) -> dict[str, Any]:
    from twotower.errors import ConfigError
    from twotower.secret import read_secret

    if args.no_customers:
        if args.secret is not None:
            raise ConfigError("--no-customers and --secret contradict each other; give one of them")
        return {"secret": None}
    try:
        return {"secret": read_secret(args.secret)}
    except ConfigError as error:
        raise ConfigError(f"{error}; or --no-customers, to identify nobody") from None


def _share(given: float | None, default: float) -> float:
    from twotower.errors import ConfigError

    if given is not None and not 0 <= given <= 1:
        raise ConfigError(f"--tolerate: expected a share of 0 to 1, not {given:g}")
    return default if given is None else given


def _largest(given: int | None) -> dict[str, Any]:
    from twotower.errors import ConfigError

    if given is not None and not 1 <= given <= 1024:
        raise ConfigError(f"--largest: expected 1 to 1024 MiB, not {given}")
    return {} if given is None else {"largest": given << 20}


VERB = Verb("exports of Amazon Connect, Zendesk, CSV into tables", configure, run, extra="evaluation")
