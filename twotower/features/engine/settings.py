"""What a history engine is asked to keep: half-lives, families of groups, widths. Saved with every state.

Notable: half-lives are whole microseconds, so that decay is exact in the power of two (`engine/decay.py`). The
half-life of the groups is one of the CSA's own, as a CSA's rate for an intent is shrunk towards their own rate of the
same age.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from twotower.clock import DAY, HOUR, SECOND
from twotower.errors import ConfigError

Settings = TypeVar("Settings", "CsaSettings", "CustomerSettings")


@dataclass(frozen=True)
class CsaSettings:
    """What is kept per CSA.

    `width` K of the frozen base embedding (0: none is kept); `half_lives_us` of sums and embeddings; `group_half_life`
    the position in it of the groups' one; `activity_us` half-lives of the load; `families` (name, number of codes) of
    the groups, such as ("intent", 200).
    Raises ConfigError for half-lives that are not whole and a second at least, and for empty or repeated families.
    """

    width: int
    half_lives_us: tuple[int, ...] = (7 * DAY, 30 * DAY, 120 * DAY)
    group_half_life: int = 1
    activity_us: tuple[int, ...] = (HOUR, DAY, 7 * DAY)
    families: tuple[tuple[str, int], ...] = ()

    def __post_init__(self) -> None:
        _check_half_lives("half_lives_us", self.half_lives_us)
        _check_half_lives("activity_us", self.activity_us)
        if not 0 <= self.group_half_life < len(self.half_lives_us):
            raise ConfigError(
                f"group_half_life: {self.group_half_life} is no position in the {len(self.half_lives_us)} half-lives"
            )
        if self.width < 0:
            raise ConfigError(f"width: {self.width}; the embedding's width, or 0 for none, is expected")
        names = [name for name, _ in self.families]
        if len(set(names)) < len(names) or any(codes < 1 for _, codes in self.families):
            raise ConfigError(f"families: {self.families}: distinct names with one code at least are expected")

    @cached_property
    def offsets(self) -> npt.NDArray[np.int64]:
        """Where each family's codes begin among all codes (F + 1,); the last is their number T."""
        return np.cumsum([0, *(codes for _, codes in self.families)], dtype=np.int64)

    def family(self, name: str) -> int:
        """The position of a family. Raises ConfigError where there is none of that name."""
        names = [known for known, _ in self.families]
        if name not in names:
            raise ConfigError(f"family {name!r}: not kept; the engine has {', '.join(names) or 'none'}")
        return names.index(name)


@dataclass(frozen=True)
class CustomerSettings:
    """What is kept per customer.

    `style_us` the fast and the slow half-life of contact frequency and style; `pair_us` that of the pairings; `pairs` P
    how many CSAs are remembered; `signals` names of the S style signals. Raises ConfigError as `CsaSettings`.
    """

    style_us: tuple[int, int] = (14 * DAY, 180 * DAY)
    pair_us: int = 180 * DAY
    pairs: int = 4
    signals: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check_half_lives("style_us", self.style_us)
        _check_half_lives("pair_us", (self.pair_us,))
        if len(self.style_us) != 2 or self.style_us[0] >= self.style_us[1]:
            raise ConfigError(f"style_us: {self.style_us}; a fast half-life and a longer slow one are expected")
        if self.pairs < 1:
            raise ConfigError(f"pairs: {self.pairs}; one CSA at least is remembered")


def _check_half_lives(name: str, half_lives_us: tuple[int, ...]) -> None:
    if not half_lives_us or any(not isinstance(h, int) or h < SECOND for h in half_lives_us):
        raise ConfigError(f"{name}: {half_lives_us}; whole microseconds, a second ({SECOND}) at least, are expected")


def to_bytes(settings: CsaSettings | CustomerSettings) -> npt.NDArray[np.uint8]:
    """Settings as bytes of JSON, to be saved beside arrays."""
    return np.frombuffer(json.dumps(asdict(settings), sort_keys=True).encode(), dtype=np.uint8)


def from_bytes(kind: type[Settings], data: npt.NDArray[np.uint8]) -> Settings:
    """The inverse of `to_bytes`. Raises ValueError, TypeError or ConfigError where the bytes are no such settings."""
    fields: dict[str, Any] = json.loads(data.tobytes())
    return kind(**{name: _tuples(value) for name, value in fields.items()})


def _tuples(value: Any) -> Any:
    return tuple(_tuples(v) for v in value) if isinstance(value, list) else value
