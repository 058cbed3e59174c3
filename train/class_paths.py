"""Which classes a configuration may name: a stated list, checked before anything is imported.

Notable: `class_path:` in YAML, or a dotted name on the command line, makes jsonargparse import a module and call what
it finds there, so a configuration from elsewhere would be a program. The list is given to jsonargparse itself, which
asks it wherever a *value* names something to import (classes, callables, modules, also inside of `init_args`), and once
more by where the thing is defined, so that a re-export is no way around it. A jsonargparse that knows no such list is
given configurations only after what they name was looked through here, which does not follow re-exports.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jsonargparse
import yaml

from twotower.errors import ConfigError

ALLOWED = (
    "lightning.pytorch.accelerators",
    "lightning.pytorch.callbacks",
    "lightning.pytorch.loggers",
    "lightning.pytorch.plugins",
    "lightning.pytorch.profilers",
    "lightning.pytorch.strategies",
    "lightning.fabric.plugins",
    "torch.optim",
    "train",
    "twotower",
)
"""Import paths that a configuration may name, each with everything under it."""
OWN = ("data", "model", "join", "saving", "seed_everything")
"""Parts of a configuration that name nothing to import, but files."""
_DOTTED = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")
_REFUSED = re.compile(r"Importing '([^']+)' is not allowed")


def hold_class_paths(configs: Sequence[Path], options: Sequence[str]) -> None:
    """Let configurations and options name nothing outside of `ALLOWED`; holds for the process. Raises ConfigError where
    the installed jsonargparse has no such list and one of them names something else."""
    if "import_path_allowlist" not in inspect.signature(jsonargparse.set_parsing_settings).parameters:
        for config in configs:
            found = yaml.safe_load(config.read_text(encoding="utf-8"))
            refuse_outside({k: v for k, v in (found or {}).items() if k not in OWN}, str(config))
        for name, value in _pairs(options):
            if name.lstrip("-").partition(".")[0] not in OWN:
                refuse_outside(yaml.safe_load(value), name)
        return
    jsonargparse.set_parsing_settings(
        import_path_denylist=["*"], import_path_allowlist=list(ALLOWED), instantiate_subclass_spec_in_any=False
    )


def _pairs(options: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Names and values of `--name=value` and of `--name value`."""
    name = ""
    for word in options:
        if word.startswith("--"):
            name, equals, value = word.partition("=")
            if equals:
                yield name, value
        else:
            yield name, word


def refuse_outside(value: Any, where: str) -> None:
    """Raises ConfigError for a dotted name outside of `ALLOWED` anywhere in parsed YAML."""
    if isinstance(value, Mapping):
        for key, part in value.items():
            refuse_outside(part, f"{where}, {key}")
    elif isinstance(value, list):
        for part in value:
            refuse_outside(part, where)
    elif isinstance(value, str) and _DOTTED.fullmatch(value) and not allowed(value):
        raise ConfigError(f"{where}: {said_of(value)}")


def allowed(path: str) -> bool:
    """Whether a configuration may name it."""
    return any(path == one or path.startswith(f"{one}.") for one in ALLOWED)


def said_of(path: str) -> str:
    """What to tell of a class path outside of the list."""
    return f"the class path {path!r} is not allowed; those under {', '.join(ALLOWED)} are"


def refused_path(error: str) -> str | None:
    """One line on the class path that a parsing error refuses, None where it is about something else."""
    found = _REFUSED.search(error)
    return None if found is None else said_of(found[1])
