"""Keep a link on the bundle that an alias names, so that a service that was started with the link serves it.

Notable: the service's own watch does the rest: it loads what the link is set to beside the old bundle, verifies it and
takes it between two requests (docs/serving.md). A registry that cannot be reached, a bundle that is not whole: the link
stays where it is, a line says so once, and it is tried again. Nothing here can take a working bundle away.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from loop.registry.registry import CHAMPION, Registry
from twotower.bundle.manifest import Manifest
from twotower.errors import BundleError, OutputError, TwoTowerError

Say = Callable[[str], None]


def follow(
    registry: Registry,
    link: Path,
    alias: str = CHAMPION,
    every_s: float = 2.0,
    once: bool = False,
    say: Say = lambda _: None,
    sleep: Callable[[float], None] = time.sleep,
) -> str | None:
    """Set `link` to the alias's bundle whenever that is another, for ever; once: now, and return its digest.

    Raises OutputError where `link` is something else than a link, or cannot be written; with `once` whatever keeps the
    bundle away as well (BundleError, ConfigError).
    """
    if link.exists() and not link.is_symlink():
        raise OutputError(f"{link}: is no link; name a new one, or move what is there away")
    told: str | None = None
    while True:
        try:
            digest = _set(registry, link, alias, say)
            told = None
            if once:
                return digest
        except OutputError:
            raise
        except TwoTowerError as error:
            if once:
                raise
            if str(error) != told:  # not every two seconds
                told = str(error)
                say(f"{link}: stays as it is: {told}")
        sleep(every_s)


def _set(registry: Registry, link: Path, alias: str, say: Say) -> str:
    version = registry.alias(alias)
    if version is None:
        raise BundleError(f"{registry.place}: nobody has the alias {alias!r}")
    if served(link) != version.digest:
        bundle = registry.open(version.number, link.absolute().parent)  # verified
        set_link(link, bundle.path)
        say(f"{link}: version {version.number}, bundle {version.digest[:12]}")
    return version.digest


def served(link: Path) -> str | None:
    """The digest of what a link is set to; None: nothing, or no bundle."""
    try:
        return Manifest.read(link).id
    except TwoTowerError:
        return None


def set_link(link: Path, target: Path) -> None:
    """In one step, so that whoever looks sees the old one or the new one. Raises OutputError."""
    beside = link.with_name(f".{link.name}.{os.getpid()}")
    try:
        link.parent.mkdir(parents=True, exist_ok=True)
        beside.unlink(missing_ok=True)
        beside.symlink_to(target.absolute(), target_is_directory=True)
        beside.replace(link)
    except OSError as error:
        raise OutputError(f"{link}: cannot be set ({error.strerror})") from None
