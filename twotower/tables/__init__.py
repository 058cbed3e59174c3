"""Users' tables. `Log` and `Ragged` are found here lazily, so that light imports of the declarations stay light."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from twotower.tables.log import Log as Log
    from twotower.tables.log import Ragged as Ragged


def __getattr__(name: str) -> Any:
    if name in ("Log", "Ragged"):
        from twotower.tables import log

        return getattr(log, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
