"""A contact centre as a planner describes it: who arrives when, who works when, how long work takes, how it ends.

Notable: everything is by class of contact (K) and by CSA (J); a class is whatever decides who can take a contact and
what it takes, such as need × language × channel. Contacts may differ within their class by vectors (`Truth`), as
contacts of a generated centre or of a log do. Whatever cannot be is refused here, with the field's name, before
anything runs.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Literal

import numpy as np
import numpy.typing as npt

from evaluation.simulate.state import NOBODY
from twotower.errors import ConfigError

Doubles = npt.NDArray[np.float64]
Kind = Literal["never", "constant", "exponential", "lognormal", "quantiles"]
HOUR = 3600.0


@dataclass(frozen=True)
class Patience:
    """How long a contact waits before it abandons, seconds.

    kind: `never`; `constant`; `exponential` with `mean_s`; `lognormal` with `mean_s` and `sigma` of the logarithm;
    `quantiles`: `table` (n ≥ 2) ascending seconds at evenly spaced probabilities 0 … 1, the last may be infinite.
    """

    kind: Kind = "never"
    mean_s: float = np.inf
    sigma: float = 1.0
    table: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.kind not in ("never", "constant", "exponential", "lognormal", "quantiles"):
            raise ConfigError(
                f"patience: kind {self.kind!r}; never, constant, exponential, lognormal, quantiles expected"
            )
        if self.kind == "quantiles":
            table = np.asarray(self.table, np.float64)
            if len(table) < 2 or np.any(np.isnan(table)) or table[0] < 0 or np.any(np.diff(table) < 0):
                raise ConfigError("patience.table: at least two ascending seconds >= 0 expected")
        elif self.kind != "never" and not self.mean_s > 0:
            raise ConfigError(f"patience.mean_s: {self.mean_s} seconds; more than 0 expected")

    def seconds(self, uniform: Doubles, normal: Doubles) -> Doubles:
        """Patience (n,) by uniform and standard normal numbers (n,)."""
        if self.kind == "never":
            return np.full(len(uniform), np.inf)
        if self.kind == "constant":
            return np.full(len(uniform), float(self.mean_s))
        if self.kind == "exponential":
            return -self.mean_s * np.log(uniform)
        if self.kind == "lognormal":
            scaled: Doubles = self.mean_s * np.exp(self.sigma * normal - self.sigma**2 / 2)
            return scaled
        table = np.asarray(self.table, np.float64)
        place = uniform * (len(table) - 1)
        low = np.minimum(place.astype(np.int64), len(table) - 2)
        share = place - low
        return np.where(share > 0, table[low] * (1 - share) + table[low + 1] * share, table[low])


@dataclass(frozen=True)
class Learning:
    """What experience brings: log-odds `gain` that a beginner lacks, `slow` by how much longer they take, both fading
    by exp(−handled / `scale`)."""

    gain: float = 0.0
    slow: float = 0.0
    scale: float = 200.0

    def __post_init__(self) -> None:
        _least("learning", self, gain=0.0, slow=0.0)
        if not self.scale > 0:
            raise ConfigError(f"learning.scale: {self.scale} contacts; more than 0 expected")


@dataclass(frozen=True)
class Burnout:
    """What load does: strain follows work with time constant `tau_s` (0: none of this); above `threshold` it costs up
    to `harm` log-odds and makes work take up to 1 + `tired` as long."""

    tau_s: float = 0.0
    threshold: float = 0.85
    harm: float = 0.0
    tired: float = 0.0

    def __post_init__(self) -> None:
        _least("burnout", self, tau_s=0.0, harm=0.0, tired=0.0)
        if not 0 <= self.threshold < 1:
            raise ConfigError(f"burnout.threshold: {self.threshold}; 0 to less than 1 expected")


@dataclass(frozen=True)
class Csat:
    """The rating, 1 to 5, that a customer would give on average: by how it ended, less so much a minute waited."""

    resolved: float = 4.5
    unresolved: float = 3.1
    a_minute: float = 0.05

    def __post_init__(self) -> None:
        _least("csat", self, a_minute=0.0)
        if not (1 <= self.unresolved <= 5 and 1 <= self.resolved <= 5):
            raise ConfigError(f"csat: {self.resolved} and {self.unresolved}; ratings of 1 to 5 expected")


def _least(name: str, of: object, **least: float) -> None:
    for field_name, bound in least.items():
        value = getattr(of, field_name)
        if not value >= bound:
            raise ConfigError(f"{name}.{field_name}: {value}; {bound:g} or more expected")


@dataclass(frozen=True)
class Shifts:
    """When CSAs work: (S,) positions of CSAs, and seconds at which they start and end. Breaks are what lies between."""

    csa: npt.NDArray[np.int64]
    starts: Doubles
    ends: Doubles

    def staffed_s(self, csas: int, begin: float, end: float) -> Doubles:
        """Seconds (J,) on shift within [begin, end)."""
        inside = np.minimum(self.ends, end) - np.maximum(self.starts, begin)
        return np.bincount(self.csa, np.maximum(inside, 0.0), minlength=csas).astype(np.float64)

    def joined(self) -> Shifts:
        """The same, by CSA and start; one that begins as another of its CSA ends is one with it."""
        order = np.lexsort((self.starts, self.csa))
        csa, starts, ends = self.csa[order], self.starts[order], self.ends[order]
        apart = np.ones(len(csa), np.bool_)
        apart[1:] = (csa[1:] != csa[:-1]) | (starts[1:] > ends[:-1])
        last = np.append(np.flatnonzero(apart)[1:] - 1, len(csa) - 1) if len(csa) else np.zeros(0, np.int64)
        return Shifts(csa[apart], starts[apart], ends[last])


@dataclass(frozen=True)
class Centre:
    """A centre over a horizon of I intervals of `interval_s` seconds.

    Raises ConfigError naming the field that cannot be.
    """

    classes: tuple[str, ...]
    csas: tuple[str, ...]
    rates: Doubles
    """(K, I) contacts an hour; Poisson within an interval."""
    handle_s: Doubles
    """(K, J) mean handling time; 0: this CSA cannot take this class."""
    success: Doubles
    """(K, J) probability of being resolved, by an experienced and rested CSA."""
    interval_s: float = 1800.0
    sigma: Doubles | None = None
    """(K,) of the logarithm of handling times; 0: constant, negative: exponential. Default: 0.8."""
    patience: tuple[Patience, ...] = ()
    """(K,), or one for all; default: nobody abandons."""
    shifts: Shifts | None = None
    """None: everyone works throughout."""
    capacity: npt.NDArray[np.int64] | None = None
    """(J,) contacts at once; default 1."""
    chats: float = 0.0
    """By how much each other contact in hand makes one take longer, as a share."""
    repeats: Doubles | None = None
    """(K,) probability that an unresolved contact comes back."""
    delay_s: Doubles | None = None
    """(K,) after how long, on average."""
    transfers: Doubles | None = None
    """(K,) probability that a contact is handed on to class `transfer_to`."""
    transfer_to: npt.NDArray[np.int64] | None = None
    head_start_s: Doubles | None = None
    """(K,) seconds that count as waited from the start, in the order in which queues of classes are served (FIFO and
    skills with overflow); no wait, and no patience, is shorter for it."""
    after_s: Doubles | None = None
    """(L, J, Q) after-call work: ascending seconds at Q >= 2 evenly spaced probabilities 0 … 1, drawn anew for each
    contact, whose place is taken meanwhile. It is in no handling time, and occupancy does not count it."""
    after_waiting: tuple[int, ...] = (0,)
    """(L,) from how many waiting contacts on, when a contact ends, level l of `after_s` holds; ascending from 0."""
    pace: Doubles | None = None
    """(I,) how many times as long as `handle_s` contacts take that are taken in an interval; default: 1."""
    after_pace: Doubles | None = None
    """(I,) how many times as long after-call work takes that begins in an interval; default: 1."""
    hard: Doubles | None = None
    """(K,) weight of a class in strain, beside work itself; a class above 0 counts as hard in figures."""
    experience: Doubles | None = None
    """(J,) contacts handled before the start."""
    language: tuple[str, ...] = ()
    """(K,) of a class's customers; default: one that nobody compares."""
    learning: Learning = field(default_factory=Learning)
    burnout: Burnout = field(default_factory=Burnout)
    csat: Csat = field(default_factory=Csat)

    def __post_init__(self) -> None:
        k, j = len(self.classes), len(self.csas)
        if not k:
            raise ConfigError("centre: no class of contacts")
        if not self.interval_s > 0:
            raise ConfigError(f"centre.interval_s: {self.interval_s} seconds; more than 0 expected")
        if self.rates.ndim != 2 or len(self.rates) != k or not self.rates.shape[1]:
            raise ConfigError(f"centre.rates: shape {self.rates.shape}; ({k}, intervals) expected")
        intervals = (self.rates.shape[1],)
        for name, shape, low, high in (
            ("rates", self.rates.shape, 0.0, np.inf), ("handle_s", (k, j), 0.0, np.inf), ("success", (k, j), 0.0, 1.0),
            ("repeats", (k,), 0.0, 1.0), ("transfers", (k,), 0.0, 1.0), ("delay_s", (k,), 0.0, np.inf),
            ("hard", (k,), 0.0, np.inf), ("head_start_s", (k,), 0.0, np.inf), ("pace", intervals, 1e-3, 1e3),
            ("after_pace", intervals, 0.0, 1e3), ("experience", (j,), 0.0, np.inf), ("capacity", (j,), 1, np.inf),
        ):  # fmt: skip
            self._check(name, shape, low, high)
        self._check("sigma", (k,), -np.inf, np.inf)
        if len(self.language) not in (0, k):
            raise ConfigError(f"centre.language: {len(self.language)} given; one for each of {k} classes expected")
        if len(self.patience) not in (0, 1, k):
            raise ConfigError(f"centre.patience: {len(self.patience)} given; one, or one for each of {k} classes")
        if self.repeats is not None and np.any((self.repeats >= 1) & np.all(self.success <= 0, axis=1)):
            raise ConfigError("centre.repeats: a class that nobody resolves and that always comes back has no end")
        if self.transfers is not None:
            self._check_transfers(k)
        if self.after_s is not None:
            self._check_after(j)
        if self.shifts is not None:
            self._check_shifts(j)

    def _check(self, name: str, shape: tuple[int, ...], low: float, high: float) -> None:
        values = getattr(self, name)
        if values is None:
            return
        if values.shape != shape:
            raise ConfigError(f"centre.{name}: shape {values.shape}; {shape} expected")
        wrong = np.argwhere(~((values >= low) & (values <= high)))
        if len(wrong):
            place = tuple(int(i) for i in wrong[0])
            raise ConfigError(f"centre.{name}{list(place)}: {values[place]}; {low:g} to {high:g} expected")
        if name in ("rates", "handle_s", "delay_s", "head_start_s") and not np.all(np.isfinite(values)):
            raise ConfigError(f"centre.{name}: not finite")

    def _check_transfers(self, k: int) -> None:
        to = self.transfer_to
        if to is None or to.shape != (k,) or np.any((to < 0) | (to >= k)):
            raise ConfigError(f"centre.transfer_to: the position of a class, 0 to {k - 1}, for each of {k} expected")

    def _check_after(self, j: int) -> None:
        after = self.after_s
        levels = self.after_waiting
        if not levels or levels[0] != 0 or any(a >= b for a, b in pairwise(levels)):
            raise ConfigError(f"centre.after_waiting: {levels}; ascending numbers of contacts from 0 on expected")
        if after is None or after.ndim != 3 or after.shape[:2] != (len(levels), j) or after.shape[2] < 2:
            raise ConfigError(f"centre.after_s: ({len(levels)}, {j}, 2 or more) seconds expected")
        if not np.all(np.isfinite(after)) or np.any(after < 0) or np.any(np.diff(after, axis=2) < 0):
            raise ConfigError("centre.after_s: ascending seconds of 0 or more expected for each level and CSA")

    def _check_shifts(self, j: int) -> None:
        shifts = self.shifts
        if shifts is None:
            return
        if not len(shifts.csa) == len(shifts.starts) == len(shifts.ends):
            raise ConfigError("centre.shifts: csa, starts and ends differ in length")
        wrong = np.flatnonzero(
            (shifts.csa < 0) | (shifts.csa >= j) | ~(shifts.starts >= 0) | ~(shifts.ends > shifts.starts)
        )
        if len(wrong):
            i = int(wrong[0])
            raise ConfigError(
                f"centre.shifts[{i}]: CSA {shifts.csa[i]} from {shifts.starts[i]:g} s to {shifts.ends[i]:g} s; "
                f"a CSA of 0 to {j - 1}, a start of 0 or more and a later end expected"
            )
        order = np.lexsort((shifts.starts, shifts.csa))
        csa, starts, ends = shifts.csa[order], shifts.starts[order], shifts.ends[order]
        over = np.flatnonzero((csa[1:] == csa[:-1]) & (starts[1:] < ends[:-1]))
        if len(over):
            name = self.csas[int(csa[over[0]])]
            raise ConfigError(f"centre.shifts: two shifts of {name} overlap at {starts[over[0] + 1]:g} s")

    @property
    def horizon_s(self) -> float:
        """Seconds until no more first contacts arrive."""
        return float(self.rates.shape[1] * self.interval_s)

    @property
    def can(self) -> npt.NDArray[np.bool_]:
        """(K, J) who can take what."""
        found: npt.NDArray[np.bool_] = self.handle_s > 0
        return found

    def unserved(self) -> tuple[str, ...]:
        """Classes with arrivals that no CSA can take; their contacts wait until they abandon."""
        lost = (self.rates.sum(axis=1) > 0) & ~self.can.any(axis=1)
        return tuple(self.classes[int(i)] for i in np.flatnonzero(lost))

    def patience_of(self, kind: int) -> Patience:
        """Of a class."""
        if not self.patience:
            return Patience()
        return self.patience[0 if len(self.patience) == 1 else kind]

    def load(self) -> float:
        """Erlangs offered over the horizon's average, at each class's mean time of those who can take it, for each
        CSA-place on shift; 1 is as much work as there is time. Infinite where nobody works."""
        can = self.can
        mean = np.where(can.any(axis=1), self.handle_s.sum(axis=1) / np.maximum(can.sum(axis=1), 1), 0.0)
        work = float((self.rates.sum(axis=1) * self.interval_s / HOUR * mean).sum())
        places = np.ones(len(self.csas)) if self.capacity is None else self.capacity
        staffed = float((self.staffed_s(0.0, self.horizon_s) * places).sum())
        return work / staffed if staffed > 0 else np.inf

    def at_load(self, load: float) -> Centre:
        """With arrivals scaled so that `load()` is this. Raises ConfigError where nothing arrives or nobody works."""
        now = self.load()
        if not 0 < now < np.inf:
            raise ConfigError("centre.load: nothing arrives, or nobody works; there is no load to scale")
        return replace(self, rates=self.rates * (load / now))

    def staffed_s(self, begin: float, end: float) -> Doubles:
        """Seconds (J,) on shift within [begin, end)."""
        if self.shifts is None:
            return np.full(len(self.csas), float(end - begin))
        return self.shifts.staffed_s(len(self.csas), begin, end)


def positions(can: npt.NDArray[np.bool_]) -> npt.NDArray[np.int32]:
    """Of rows of a mask (R, C), the columns that are set, first, then NOBODY."""
    found = np.full((len(can), max(1, int(can.sum(axis=1).max(initial=0)))), NOBODY, np.int32)
    for row, mask in enumerate(can):
        of = np.flatnonzero(mask)
        found[row, : len(of)] = of
    return found
