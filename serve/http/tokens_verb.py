"""`twotower tokens add|list|remove FILE`: who may use the service. A token is shown once, when it is made."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from twotower.cli import Report, Verb
from twotower.errors import ConfigError

if TYPE_CHECKING:
    from serve.http.tokens import Token

DAYS = 365


def configure(parser: argparse.ArgumentParser) -> None:
    """The verb's options."""
    from serve.http.tokens import ROLES

    parser.add_argument("action", choices=["add", "list", "remove"], help="what to do")
    parser.add_argument("file", metavar="FILE", help="JSON with the tokens' hashes; add makes it")
    parser.add_argument("--name", metavar="NAME", help="add, remove: whose token")
    parser.add_argument("--role", action="append", choices=ROLES, help="add: what it may do; repeatable")
    parser.add_argument("--days", type=float, metavar="D", help=f"add: until it expires (default {DAYS})")


def run(args: argparse.Namespace) -> Report:
    """Change or list the file."""
    from serve.http.tokens import new_token, read_tokens
    from twotower.clock import DAY, format_time, now

    path = Path(args.file)
    known = read_tokens(path) if args.action != "add" or path.exists() else []
    if args.action == "list":
        lines = [f"{one.name}: {', '.join(sorted(one.roles))}, {_until(one.expires)}" for one in known]
        rows = [{k: v for k, v in one.to_json().items() if k != "sha256"} for one in known]
        return Report("\n".join(lines), {"tokens": rows})
    if args.name is None:
        raise ConfigError(f"{args.action}: --name NAME is missing")
    if args.action == "remove":
        kept = [one for one in known if one.name != args.name]
        if len(kept) == len(known):
            raise ConfigError(f"{path}: no token {args.name!r}")
        _write(path, kept)
        return Report(f"{path}: {args.name} removed", {"removed": args.name})
    if args.role is None:
        raise ConfigError("add: --role ROLE is missing")
    if any(one.name == args.name for one in known):
        raise ConfigError(f"{path}: {args.name!r} has a token; remove it first")
    if args.days is not None and not 0 < args.days <= 36_500:
        raise ConfigError(f"--days: {args.days:g}; more than 0 and at most 36500 are expected")
    expires = int(now() + (DAYS if args.days is None else args.days) * DAY)
    token, entry = new_token(args.name, args.role, expires)
    _write(path, [*known, entry])
    return Report(token, {"token": token, "name": args.name, "expires": format_time(expires)})


def _write(path: Path, tokens: Sequence[Token]) -> None:
    from twotower.files import atomic_file

    with atomic_file(path) as partial:
        partial.touch(0o600)
        partial.write_text(json.dumps({"tokens": [one.to_json() for one in tokens]}, indent=1) + "\n", encoding="utf-8")


def _until(expires: int | None) -> str:
    from twotower.clock import format_time

    return "never expires" if expires is None else f"until {format_time(expires)}"


VERB = Verb("who may use the service: make, list and remove tokens", configure, run)
