"""The console script: verbs are found through the entry-point group `twotower.verbs`, so nothing here imports a stage.

A stage registers a `Verb`; this module gives every verb `--json`, prints its report and turns a `TwoTowerError` into
one line on stderr. Verb modules are light: what is heavy they import inside `run`, and a package that is missing there
becomes one line that names the extra to install.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any, NoReturn

from twotower.errors import ConfigError, Interrupted, MissingExtraError, TwoTowerError

GROUP = "twotower.verbs"
DISTRIBUTION = "twotower-matcher"
STAGES = ("twotower", "train", "export", "serve", "evaluation", "loop")


def check_action(
    args: argparse.Namespace, options: Mapping[str, Mapping[str, bool]], always: Sequence[str] = ()
) -> None:
    """Hold the options of a verb of several actions to those of `args.action`.

    options: by action, those that it takes and whether it needs them; always: more that every action takes, to be named
    in messages. Raises ConfigError, one line, for an option of another action and for one that is missing.
    """
    known = options[args.action]
    takes = ", ".join(f"--{name}" for name in (*known, *always))
    for name in dict.fromkeys(name for of in options.values() for name in of):
        given = getattr(args, name.replace("-", "_")) is not None
        if given and name not in known:
            raise ConfigError(f"{args.action}: --{name} does not belong to it; it takes {takes}")
        if not given and known.get(name):
            raise ConfigError(f"{args.action}: --{name} is missing; it takes {takes}")


@dataclass(frozen=True)
class Report:
    """What a verb has to say."""

    text: str
    """For people, printed to stdout."""
    data: dict[str, Any]
    """For machines, printed instead of the text with `--json`."""
    ok: bool = True
    """False: exit status 1."""


@dataclass(frozen=True)
class Verb:
    """One stage of the command line."""

    help: str
    """One line in the list of verbs."""
    configure: Callable[[argparse.ArgumentParser], None]
    """Adds the verb's own options."""
    run: Callable[[argparse.Namespace], Report]
    """Does the work; imports what is heavy."""
    extra: str | None = None
    """The pip extra that brings what `run` imports."""
    passes_on: bool = False
    """True: options the parser does not know land in `args.rest`, a list of strings, for another parser."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs `twotower VERB …` and returns the exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    found = {entry.name: entry for entry in entry_points(group=GROUP)}
    if arguments and arguments[0] in found:
        return run_verb(arguments[0], arguments[1:], found[arguments[0]])
    parser = argparse.ArgumentParser(
        prog="twotower",
        description="Precision matching for contact centres: which CSA for which contact.",
        epilog="twotower VERB --help explains a verb.\n\n" + _listing(found),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("verb", metavar="VERB", help="one of the verbs below")
    if not arguments:
        parser.print_help(sys.stderr)
        return 2
    parser.parse_args(arguments[:1])
    print(f"twotower: no verb {arguments[0]!r}; the verbs are {', '.join(sorted(found))}", file=sys.stderr)
    return 2


def run_verb(name: str, argv: Sequence[str] | None = None, entry: EntryPoint | None = None) -> int:
    """Runs one verb, for `python -m train` and the like; `argv` excludes the verb's name. Returns the exit status."""
    try:
        with _terminable():
            return _run(name, list(sys.argv[1:] if argv is None else argv), entry or _entry(name))
    except TwoTowerError as error:
        print(f"twotower {name}: {error}", file=sys.stderr)
        return 1
    except Interrupted as stopped:
        print(f"twotower {name}: {stopped.message}", file=sys.stderr)
        return stopped.status
    except BrokenPipeError:
        # The reader of our output left; stdout must not be flushed into the closed pipe at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        print(f"twotower {name}: interrupted", file=sys.stderr)
        return 130
    except OSError as error:
        print(f"twotower {name}: {error.filename or 'system'}: {error.strerror or error}", file=sys.stderr)
        return 1


def _run(name: str, argv: list[str], entry: EntryPoint) -> int:
    verb = _load(entry)
    parser = argparse.ArgumentParser(prog=f"twotower {name}", description=verb.help)
    verb.configure(parser)
    parser.add_argument("--json", action="store_true", help="print the report as JSON, for machines")
    if verb.passes_on:
        args, rest = parser.parse_known_args(argv)
        args.rest = rest
    else:
        args = parser.parse_args(argv)
    try:
        report = verb.run(args)
    except ModuleNotFoundError as error:
        raise _missing(error, verb.extra) from error
    print(json.dumps(plain(report.data), indent=2, allow_nan=False) if args.json else report.text, flush=True)
    return 0 if report.ok else 1


def plain(value: Any) -> Any:
    """The value as JSON can hold it: numpy scalars and arrays as Python's own, paths as text, NaN and ±∞ as null."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, bool | int | str) else str(value)


def _entry(name: str) -> EntryPoint:
    for entry in entry_points(group=GROUP, name=name):
        return entry
    raise ConfigError(f"no verb of this name is installed; install {DISTRIBUTION} again")


def _load(entry: EntryPoint) -> Verb:
    try:
        verb = entry.load()
    except ModuleNotFoundError as error:
        raise _missing(error, None) from error
    if not isinstance(verb, Verb):
        raise ConfigError(f"entry point {entry.value} is no twotower.cli.Verb")
    return verb


def _missing(error: ModuleNotFoundError, extra: str | None) -> Exception:
    """One line naming the extra; a module of this project that is missing is a defect and stays what it is."""
    module = (error.name or "").partition(".")[0]
    if not module or module in STAGES:
        return error
    wanted = f"{DISTRIBUTION}[{extra}]" if extra else DISTRIBUTION
    return MissingExtraError(f"needs the package {module}, which is not installed; run: pip install '{wanted}'")


def _listing(found: dict[str, EntryPoint]) -> str:
    lines = []
    for name in sorted(found):
        try:
            lines.append(f"  {name:<10} {_load(found[name]).help}")
        except (TwoTowerError, ImportError) as error:
            lines.append(f"  {name:<10} (not available: {error})")
    return "\n".join(["verbs:", *lines])


@contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM as an exception, so that half-written output is removed on the way out."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _terminated)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _terminated(signum: int, frame: object) -> NoReturn:
    raise SystemExit(128 + signum)
