"""`twotower models`: what is registered, how two bundles differ, and who is the champion."""

from __future__ import annotations

import argparse
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twotower.cli import Report, Verb
from twotower.errors import ConfigError

if TYPE_CHECKING:
    from loop.registry.registry import Registry, Version

# How many of VERSION and OTHER each action takes, at least and at most.
ACTIONS = {"list": (0, 0), "show": (1, 1), "diff": (1, 2), "register": (1, 1), "promote": (1, 1), "rollback": (0, 0),
           "follow": (0, 0)}  # fmt: skip
OPTIONS = {"alias": ("promote", "follow"), "why": ("rollback",), "link": ("follow",), "every": ("follow",),
           "once": ("follow",)}  # fmt: skip
"""Of which actions."""
PLACE = "TWOTOWER_REGISTRY"
SHOWN = 40  # lines of a difference


def configure(parser: argparse.ArgumentParser) -> None:
    """The verb's options."""
    parser.add_argument("action", choices=list(ACTIONS), help="what to do")
    parser.add_argument(
        "which", nargs="*", metavar="VERSION",
        help="a version's number, alias, or the beginning of its digest; register: a bundle's folder; diff: one or "
        "two, by default against the champion",
    )  # fmt: skip
    add_place(parser)
    parser.add_argument("--alias", metavar="NAME", help="promote, follow: which (default: champion)")
    parser.add_argument("--why", metavar="TEXT", help="rollback: the reason, which is kept")
    parser.add_argument("--link", metavar="PATH", help="follow: is kept on the alias's bundle, for `twotower serve`")
    parser.add_argument("--every", type=float, metavar="S", help="follow: how often to look (default 2)")
    parser.add_argument("--once", action="store_true", default=None, help="follow: look once, and end")


def add_place(parser: argparse.ArgumentParser) -> None:
    """The options that say which registry."""
    parser.add_argument(
        "--registry", metavar="PLACE", default=os.environ.get(PLACE),
        help=f"folder of the registry, or the URL of an MLflow server or database (default: {PLACE})",
    )  # fmt: skip
    parser.add_argument("--store", metavar="PLACE", help="folder or URL of the bundles, where --registry is a URL")
    parser.add_argument("--model", metavar="NAME", default="contact-matcher", help="(default: contact-matcher)")


def registry_of(args: argparse.Namespace) -> Registry:
    """By these options. Raises ConfigError where none is named."""
    from loop.registry.registry import Registry

    if not args.registry:
        raise ConfigError(f"--registry is missing; name the registry's folder, there or in {PLACE}")
    return Registry(args.registry, args.model, args.store)


def run(args: argparse.Namespace) -> Report:
    """Do what was asked."""
    from loop.registry.registry import CHAMPION

    least, most = ACTIONS[args.action]
    if not least <= len(args.which) <= most:
        many = str(least) if least == most else f"{least} or {most}"
        raise ConfigError(f"{args.action}: takes {many} of VERSION, {len(args.which)} given")
    for option, of in OPTIONS.items():
        if getattr(args, option) is not None and args.action not in of:
            raise ConfigError(f"{args.action}: --{option} does not belong to it, but to {' and '.join(of)}")
    registry = registry_of(args)
    if args.action == "list":
        return _listed(registry)
    if args.action == "show":
        return _shown(registry, args.which[0])
    if args.action == "diff":
        return _differing(registry, *(args.which if len(args.which) == 2 else (CHAMPION, args.which[0])))
    if args.action == "register":
        made = registry.register(args.which[0])
        return Report(f"version {made.number}: bundle {made.digest} at {made.source}", row(made))
    if args.action == "promote":
        alias = args.alias or CHAMPION
        now = registry.promote(args.which[0], alias)
        return Report(f"{alias}: version {now.number}, bundle {now.digest}", {"alias": alias, **row(now)})
    if args.action == "follow":
        return _followed(registry, args)
    back, was = registry.rollback(args.why or "by hand")
    return Report(
        f"champion: version {back.number} again, bundle {back.digest}; version {was.number} was taken back",
        {"champion": row(back), "taken_back": row(was)},
    )


def _followed(registry: Registry, args: argparse.Namespace) -> Report:
    """Ends only with `--once`, or by a signal."""
    from loop.registry.follow import follow
    from loop.registry.registry import CHAMPION

    if args.link is None:
        raise ConfigError("follow: --link is missing; name the link that `twotower serve` is started with")
    every = 2.0 if args.every is None else args.every
    if not every > 0:
        raise ConfigError(f"follow: --every {every:g}; more than 0 s expected")
    alias = args.alias or CHAMPION
    digest = follow(registry, Path(args.link), alias, every, bool(args.once), lambda line: print(line, flush=True))
    return Report(f"{args.link}: {alias}, bundle {digest}", {"link": args.link, "alias": alias, "digest": digest})


def row(of: Version) -> dict[str, Any]:
    """A version as JSON."""
    return {
        "version": of.number, "digest": of.digest, "source": of.source, "aliases": list(of.aliases),
        "registered_at": _moment(of), "replaced": of.replaced, "rolled_back": of.rolled_back,
        "tags": dict(sorted(of.tags.items())),
    }  # fmt: skip


def _moment(of: Version) -> str:
    return datetime.fromtimestamp(of.made_ms / 1e3, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _listed(registry: Registry) -> Report:
    from evaluation.report_text import table

    known = registry.versions()
    if not known:
        return Report(f"{registry.place}: no version of {registry.model}; register a bundle first", {"versions": []})
    rows = [("version", "bundle", "registered", "aliases", "")]
    for one in reversed(known):
        said = "" if one.rolled_back is None else f"taken back: {one.rolled_back}"
        rows.append((str(one.number), one.digest[:12], _moment(one), ", ".join(one.aliases), said))
    return Report(table(rows), {"versions": [row(one) for one in known]})


def _shown(registry: Registry, which: str) -> Report:
    version = registry.version(which)
    manifest = registry.open(version.number).manifest
    told = {
        "version": f"{version.number} ({', '.join(version.aliases) or 'no alias'})", "bundle": version.digest,
        "at": version.source, "registered": _moment(version), "rank": manifest.ranks["default"],
        "window": f"{manifest.window}", "replaced": version.replaced, "taken back": version.rolled_back,
        **{name: value for name, value in sorted(manifest.metrics.items()) if not isinstance(value, dict | list)},
        **{f"tag {name}": value for name, value in sorted(version.tags.items())},
    }  # fmt: skip
    width = max(len(name) for name in told)
    lines = [f"{name:<{width}}  {value}" for name, value in told.items() if value is not None]
    return Report("\n".join(lines), {**row(version), "metrics": manifest.metrics, "window": manifest.window})


def _differing(registry: Registry, first: str, second: str) -> Report:
    from loop.registry.diff import difference

    one, other = registry.version(first), registry.version(second)
    found = difference(registry.open(one.number), registry.open(other.number))
    if found.same:
        return Report(f"versions {one.number} and {other.number} are the same bundle", {"same": True})
    lines = [f"{name}: {was} → {now}" for name, (was, now) in found.fields.items()]
    if len(lines) > SHOWN:
        lines = [*lines[:SHOWN], f"… and {len(lines) - SHOWN} more fields; --json has all"]
    lines += [f"{name}: {what}" for name, what in found.files.items()]
    lines.append(f"size: {found.bytes[0]:,} → {found.bytes[1]:,} bytes")
    lines.append(f"CSAs: {len(found.joined)} joined, {len(found.left)} left")
    data = {
        "same": False, "first": row(one), "second": row(other),
        "fields": {name: list(pair) for name, pair in found.fields.items()}, "files": found.files,
        "bytes": list(found.bytes), "joined": list(found.joined), "left": list(found.left),
    }  # fmt: skip
    return Report("\n".join(lines), data)


VERB = Verb("which bundles are registered, and which is the champion", configure, run, extra="registry")
