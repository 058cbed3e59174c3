"""What exploration may cost, and whom it may not touch: one object, read from YAML, from JSON or made in code.

Notable: two limits bound the price. Of all contacts at most `share` may go to another than the best, and none to one
predicted to be worse by more than `most_loss`: so, by the prediction, exploring costs at most share · most_loss
resolutions a contact. An unknown option is refused by name, as a misspelt limit that is ignored would be none.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args

from twotower.errors import ConfigError, shown

Policy = Literal["thompson", "optimistic", "greedy", "uniform"]
POLICIES: tuple[Policy, ...] = get_args(Policy)


@dataclass(frozen=True)
class Exploration:
    """Options of an `Explorer`. Raises ConfigError, one line that names the field."""

    policy: Policy = "optimistic"
    """Who chooses for an explored contact: `thompson` the largest of one draw a candidate, `optimistic` the largest
    upper bound, `uniform` anyone acceptable with equal chances, `greedy` the best."""
    share: float = 1.0
    """Share of contacts that may be explored, the uniform slice among them."""
    uniform: float = 0.01
    """Share of all contacts, at most `share`, that go to anyone acceptable with equal chances, whatever `policy` says;
    then every acceptable candidate has a propensity of uniform / acceptable at least."""
    floor: float = 0.0
    """Predicted P(resolved) below which a candidate is never acceptable."""
    most_loss: float = 0.05
    """Largest predicted loss P(resolved | best) − P(resolved | chosen) that is acceptable."""
    scale: float = 0.5
    """Multiplies every uncertainty: `thompson` draws with it (1: as the posterior says), `optimistic` adds it to the
    logit. The sooner CSAs or their work change, the less is there to be gained, and the smaller it should be."""
    seed: int = 0
    """Chooses the random numbers, together with the key and the salt."""
    salt: str = "1"
    """Name of the key's version, which decisions are logged with; never the key itself."""

    def __post_init__(self) -> None:
        if self.policy not in POLICIES:
            raise ConfigError(f"policy: {shown(self.policy)} is not known; there are {', '.join(POLICIES)}")
        for name in ("share", "uniform", "floor", "most_loss"):
            _number(name, getattr(self, name), 0, 1, "a number from 0 to 1")
        _number("scale", self.scale, 1e-6, 1e6, "a number from 1e-06 to 1e+06")
        for name in ("share", "uniform", "floor", "most_loss", "scale"):
            # 1, 1.0 and −0.0 beside 0 are one policy and have one name; + 0.0 takes the sign off.
            object.__setattr__(self, name, float(getattr(self, name)) + 0.0)
        if self.uniform > self.share:
            raise ConfigError(f"uniform: {self.uniform} is more than share, {self.share}, which it is a part of")
        if isinstance(self.seed, bool) or not isinstance(self.seed, int) or not 0 <= self.seed < 1 << 63:
            raise ConfigError(f"seed: {shown(self.seed)}; a whole number from 0 on, below 2^63, is expected")
        if not isinstance(self.salt, str) or not self.salt or not self.salt.isprintable():
            raise ConfigError(f"salt: {shown(self.salt)}; the name of the key's version, such as '1', is expected")

    @property
    def name(self) -> str:
        """The whole policy's name in a log: its kind, and a digest of all options."""
        text = json.dumps(asdict(self), sort_keys=True)
        return f"explore-{self.policy}-{hashlib.blake2b(text.encode(), digest_size=4).hexdigest()}"


def from_mapping(options: Any) -> Exploration:
    """The options that a mapping of their names describes. Raises ConfigError, one line that names a bad one."""
    if not isinstance(options, Mapping):
        raise ConfigError("expected option: value, such as `share: 0.1`")
    known = [one.name for one in fields(Exploration)]
    strange = [name for name in options if name not in known]
    if strange:
        raise ConfigError(f"{strange[0]!r} is no option; there are {', '.join(known)}")
    return Exploration(**options)


def read_exploration(path: str | Path) -> Exploration:
    """Reads a YAML or JSON file of options; what it leaves out is as by default.

    Raises:
        ConfigError: the file cannot be read, or an option or value in it cannot be; the line names it.
    """
    import yaml

    try:
        found = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from None
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: is no YAML file ({error})") from None
    try:
        return from_mapping({} if found is None else found)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def _number(name: str, value: Any, low: float, high: float, expected: str) -> None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not low <= value <= high:  # NaN is neither, a whole number of any size is compared as it is
        raise ConfigError(f"{name}: {shown(value)}; {expected} is expected")
