"""`twotower check DIR`: is this folder a data set, and what is in it?"""

from __future__ import annotations

import argparse
from pathlib import Path

from twotower.cli import Report, Verb


def configure(parser: argparse.ArgumentParser) -> None:
    """The folder to check."""
    parser.add_argument("folder", type=Path, metavar="DIR", help="folder with contacts.parquet and the other tables")


def run(args: argparse.Namespace) -> Report:
    """Checks the folder; the report holds every problem, or what is there."""
    from twotower.tables.check import check
    from twotower.tables.summary import describe

    findings, tables = check(args.folder)
    data = {
        "folder": str(args.folder),
        "ok": not len(findings),
        "problem_count": len(findings),
        "problems": findings.data(),
        "tables": tables,
    }
    if len(findings):
        return Report(findings.text(), data, ok=False)
    return Report(f"{describe(tables)}\nno problems in {args.folder}", data)


VERB = Verb("check a folder of tables and say what is in it", configure, run, extra="evaluation")
