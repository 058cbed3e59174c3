"""One ranking from stated weights: U(x, a) = Σ_t w_t E[y_t | x, a].

Notable: weights are what one unit of each outcome is worth to the centre, and they are the caller's: nothing is fitted
to them. A weight of the wrong sign is refused, because a ranking that prefers the slow for a forgotten minus looks
like any other ranking.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from twotower.errors import BundleError, ConfigError, shown
from twotower.scoring.outcomes import NAMES, Outcomes

Floats = npt.NDArray[np.float32]
SECONDS = 60.0
MOST = 1e12  # of a weight, so that a utility in single precision stays finite
# The weight's name where it differs from the target's, and how many of the target's units are one of the weight's.
TARGET_OF = {"handle_minutes": "handle_time_s"}
COSTS = ("handle_minutes", "transferred")
SUFFIXES = (".yaml", ".yml")


@dataclass(frozen=True)
class Utility:
    """What one more of each is worth: a resolved contact, a point of CSAT, a quality score of 1 rather than 0, a minute
    of handling and a transfer (both never above 0)."""

    resolved: float = 1.0
    csat: float = 0.0
    quality_score: float = 0.0
    handle_minutes: float = 0.0
    transferred: float = 0.0

    def __post_init__(self) -> None:
        """Raises ConfigError for a weight that is no number, is beyond `MOST` in size or has the wrong sign, and where
        all are 0."""
        for name, value in asdict(self).items():
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if not number or not -MOST <= value <= MOST:  # NaN is neither
                raise ConfigError(f"utility: {name}: a number was expected, at most {MOST:g}, got {shown(value)}")
            if name in COSTS and value > 0:
                raise ConfigError(f"utility: {name}: {value:g} would prefer more of it; give a weight of 0 or below")
            if name not in COSTS and value < 0:
                raise ConfigError(f"utility: {name}: {value:g} would prefer less of it; give a weight of 0 or above")
        if not self.weights:
            raise ConfigError("utility: all weights are 0, which ranks nobody; give one, such as resolved=1")

    @property
    def weights(self) -> dict[str, float]:
        """The weights that are not 0, by name."""
        return {name: float(value) for name, value in asdict(self).items() if value}

    @property
    def by_success_alone(self) -> bool:
        """Whether the ranking is that of success."""
        return list(self.weights) == ["resolved"]

    def check(self, outcomes: Outcomes, calibrated: bool) -> None:
        """Raises BundleError, one line, where a bundle cannot tell what has a weight.

        outcomes: its heads; calibrated: it gives P(resolved).
        """
        if self.resolved and not calibrated:
            raise BundleError(
                "utility: resolved has a weight, but this bundle's log had no failures, so it gives no P(resolved); "
                "set resolved=0 and weigh what it tells"
            )
        for name in self.weights:
            if name != "resolved" and TARGET_OF.get(name, name) not in outcomes.named:
                has = ", ".join(outcomes.named) or "none"
                raise BundleError(
                    f"utility: {name} has a weight, but this bundle has no head for {TARGET_OF.get(name, name)} "
                    f"(it has {has}); run.json of its training says why"
                )

    def parts(self, p_resolved: Floats | None, expected: Floats) -> tuple[Floats, tuple[str, ...]]:
        """Weighted parts (C, n) of U and their names; U is their sum over n.

        p_resolved (C,) or None; expected (C, T) as of `Outcomes.expected`.
        """
        columns = []
        for name, weight in self.weights.items():
            if name == "resolved":
                value = np.full(len(expected), np.nan, np.float32) if p_resolved is None else p_resolved
            else:
                value = expected[:, NAMES.index(TARGET_OF.get(name, name))]
            columns.append(np.float32(weight / SECONDS if name == "handle_minutes" else weight) * value)
        return np.column_stack(columns).astype(np.float32), tuple(self.weights)


def from_mapping(options: Any) -> Utility:
    """The utility that a mapping of names to weights describes; resolved is 1 where it is not named. Raises
    ConfigError for an unknown name or a weight that cannot be."""
    if not isinstance(options, Mapping):
        raise ConfigError("utility: expected name: weight, such as `csat: 0.1`")
    known = [one.name for one in fields(Utility)]
    if unknown := [name for name in options if name not in known]:
        raise ConfigError(f"utility: {unknown[0]!r} is not known; there are {', '.join(known)}")
    return Utility(**options)


def read_utility(text: str) -> Utility:
    """Weights as on a command line, `resolved=1,csat=0.1`, or of the YAML file of that name. Raises ConfigError."""
    if text.lower().endswith(SUFFIXES):
        return _read_file(Path(text))
    options: dict[str, Any] = {}
    for part in text.split(","):
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals or not name:
            raise ConfigError(f"utility: {part.strip()!r}: name=weight was expected, such as csat=0.1, or a .yaml file")
        if name in options:
            raise ConfigError(f"utility: {name} is given twice")
        try:
            options[name] = float(value)
        except ValueError:
            raise ConfigError(f"utility: {name}: a number was expected, got {value!r}") from None
    return from_mapping(options)


def _read_file(path: Path) -> Utility:
    import yaml

    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from None
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: is no YAML file ({' '.join(str(error).split())})") from None
    try:
        return from_mapping({} if found is None else found)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
