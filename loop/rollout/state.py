"""Where a rollout is: one file, replaced whole, that says what is to be done next.

Notable: what has effects outside of the file (an alias that moves, a tag) is written down before it is done, as a stage
of its own, and is done so that twice is once. So a process that is killed at any moment has either not begun, or leaves
a stage behind that the next step ends. Who is champion is the registry's to say, never this file's.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from loop.rollout.spec import RolloutSpec
from twotower.cli import plain
from twotower.clock import format_time
from twotower.errors import DataError
from twotower.files import atomic_write

Stage = Literal[
    "shadow", "canary", "promoting", "full", "rolling back", "stopping", "done", "rolled back", "stopped", "overtaken"
]
UNDER_WAY: tuple[Stage, ...] = ("shadow", "canary", "promoting", "full", "rolling back", "stopping")
ENDED: tuple[Stage, ...] = ("done", "rolled back", "stopped", "overtaken")
STATE = "rollout.json"
SAID = 200
"""Lines of the log that stay."""


@dataclass(frozen=True)
class Who:
    """A version of the registry, and its bundle on this machine."""

    version: int
    digest: str
    path: str


@dataclass(frozen=True)
class Counted:
    """What the service's metrics said at the last look, and what was counted of the challenger so far."""

    at: int = 0
    bundle: str = ""
    """Which was to be served then."""
    since: int = 0
    """Since when that one is to be, µs."""
    unread: int = 0
    """Since when the challenger is to be served and the figures cannot be read, µs; 0: they can."""
    matches: float = 0.0
    fallbacks: float = 0.0
    challenger_matches: float = 0.0
    challenger_fallbacks: float = 0.0


@dataclass(frozen=True)
class State:
    """A rollout. Times are µs UTC."""

    champion: Who
    challenger: Who
    link: str
    shadow_link: str | None
    spec: RolloutSpec
    stage: Stage
    started: int
    since: int
    """When the stage began."""
    why: str | None = None
    """Of a rollout that was taken back, stopped or overtaken."""
    promoted: bool = False
    """Whether the challenger was made the champion, or may have been: written before it is."""
    judged_at: int = 0
    judged: dict[str, Any] = field(default_factory=dict)
    """The last judgement, for people and pages."""
    counted: Counted = Counted()
    log: tuple[tuple[int, str], ...] = ()

    @property
    def ended(self) -> bool:
        """Whether nothing is left to be done."""
        return self.stage in ENDED

    def goes(self, stage: Stage, now: int, said: str, **more: Any) -> State:
        """In another stage from now on, and why."""
        told = (*self.log, (now, f"{stage}: {said}"))[-SAID:]
        return replace(self, stage=stage, since=now, log=told, **more)

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        found = {name: getattr(self, name) for name in ("link", "shadow_link", "stage", "why", "promoted", "judged")}
        found |= {"champion": asdict(self.champion), "challenger": asdict(self.challenger)}
        found |= {name: format_time(getattr(self, name)) for name in ("started", "since", "judged_at")}
        found |= {"log": [{"at": format_time(at), "said": said} for at, said in self.log]}
        return found | {"counted": asdict(self.counted), "spec": self.spec.plain()}


def read_state(folder: Path) -> State | None:
    """None: none was begun there. Raises DataError for a file that is none."""
    path = folder / STATE
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        found["champion"], found["challenger"] = Who(**found["champion"]), Who(**found["challenger"])
        found["spec"] = RolloutSpec.model_validate(found["spec"])
        found["counted"] = Counted(**found["counted"])
        found["log"] = tuple((int(at), str(said)) for at, said in found["log"])
        return State(**found)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path}: is no rollout's state ({type(error).__name__}); the registry's champion is as it was: remove the "
            "file and start again"
        ) from None


def write_state(state: State, folder: Path) -> None:
    """Whole or not at all. Raises OSError."""
    told = {name: getattr(state, name) for name in State.__dataclass_fields__}
    told |= {name: asdict(told[name]) for name in ("champion", "challenger", "counted")}
    told["spec"] = state.spec.plain()
    atomic_write(folder / STATE, json.dumps(plain(told), indent=1) + "\n")
