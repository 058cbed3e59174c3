"""Which classes a configuration may name: a stated list, checked before anything is imported.

Notable: `class_path:` in YAML, or a dotted name on the command line, makes jsonargparse import a module and call what
it finds there, so a configuration from elsewhere would be a program. The list is given to jsonargparse itself, which
asks it wherever a *value* names something to import (classes, callables, modules, also inside of `init_args`), and once
more by where the thing is defined, so that a re-export is no way around it.
"""

from __future__ import annotations

import inspect
import re

import jsonargparse

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
LEAST = "4.53"
_REFUSED = re.compile(r"Importing '([^']+)' is not allowed")


def hold_class_paths() -> None:
    """Let configurations name nothing outside of `ALLOWED`; holds for the process. Raises ConfigError where the
    installed jsonargparse cannot."""
    if "import_path_allowlist" not in inspect.signature(jsonargparse.set_parsing_settings).parameters:
        found = jsonargparse.__version__
        raise ConfigError(f"jsonargparse {found} imports whatever a configuration names; install {LEAST} or newer")
    jsonargparse.set_parsing_settings(
        import_path_denylist=["*"], import_path_allowlist=list(ALLOWED), instantiate_subclass_spec_in_any=False
    )


def refused_path(error: str) -> str | None:
    """One line on the class path that a parsing error refuses, None where it is about something else."""
    found = _REFUSED.search(error)
    if found is None:
        return None
    return f"the class path {found[1]!r} is not allowed; those under {', '.join(ALLOWED)} are"
