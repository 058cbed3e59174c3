"""`twotower redact DIR --output DIR`: a copy of the tables whose free text is masked, and a report of what was."""

from __future__ import annotations

import argparse
from pathlib import Path

from twotower.cli import Report, Verb


def configure(parser: argparse.ArgumentParser) -> None:
    """The verb's options."""
    parser.add_argument("folder", type=Path, metavar="DIR", help="folder with contacts.parquet and the other tables")
    parser.add_argument("--output", required=True, type=Path, metavar="DIR", help="new folder for the redacted copy")
    parser.add_argument("--config", type=Path, metavar="FILE", help="YAML file of options; default: everything masked")
    parser.add_argument("--report", type=Path, metavar="FILE", help="JSON file for the counts of what was masked")


def run(args: argparse.Namespace) -> Report:
    """Redacts the folder; the report holds counts and none of the texts."""
    import json

    from twotower.errors import ConfigError
    from twotower.files import atomic_write
    from twotower.redaction.config import RedactionConfig, read_config
    from twotower.redaction.folder import redact_folder
    from twotower.redaction.redactor import Redactor

    if args.report is not None and args.report.resolve().is_relative_to(args.folder.resolve()):
        raise ConfigError(f"{args.report}: lies inside {args.folder}, which is copied; name a --report elsewhere")
    config = RedactionConfig() if args.config is None else read_config(args.config)
    tally = redact_folder(args.folder, args.output, Redactor(config))
    data = {"output": str(args.output), "enabled": config.enabled, **tally.data()}
    if args.report is not None:
        atomic_write(args.report, json.dumps(tally.data(), indent=2) + "\n")
        data["report"] = str(args.report)
    lines = [tally.text()] if config.enabled else ["redaction is switched off in the configuration: a plain copy"]
    return Report("\n".join([*lines, f"redacted copy: {args.output}"]), data)


VERB = Verb("copy a folder of tables with its free text redacted", configure, run)
