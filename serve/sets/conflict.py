"""Which constraints contradict each other, and no more of them than do: the minimal set, by name.

Notable: a linear program says that constraints cannot all hold, not which. The deletion filter leaves one out after the
other, and for good where the rest still contradict each other; what stays is irreducible: leave any one of them out,
and the others can hold (Chinneck and Dravnieks, 1991). There may be several such sets; the first named is
sought to be left out, so name first what a planner would least suspect.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from serve.sets.given import Window
from serve.sets.graph import Doubles
from twotower.errors import ConfigError


@dataclass(frozen=True)
class Named:
    """A constraint A·x ≤ b on x ≥ 0, `rows` A (m, n) and `bounds` b (m,), under the name that a planner knows it by."""

    name: str
    rows: Doubles
    bounds: Doubles


@dataclass(frozen=True)
class Conflict:
    """Names that cannot all hold, and could if any one of them were left out."""

    names: tuple[str, ...]

    def __str__(self) -> str:
        if len(self.names) == 1:
            return f"{self.names[0]} cannot hold"
        return f"{', '.join(self.names[:-1])} and {self.names[-1]} cannot all hold; relax one of them"

    def refused(self) -> ConfigError:
        """As an error, for who cannot go on with it."""
        return ConfigError(str(self))


def conflict(constraints: Sequence[Named]) -> Conflict | None:
    """The minimal set of constraints that contradict each other, None: all can hold. Asks HiGHS once a constraint."""
    kept = list(constraints)
    if _holds(kept):
        return None
    for one in constraints:
        fewer = [other for other in kept if other is not one]
        if not _holds(fewer):
            kept = fewer
    return Conflict(tuple(one.name for one in kept))


def _holds(constraints: Sequence[Named]) -> bool:
    from scipy.optimize import linprog

    if not constraints:
        return True
    rows, bounds = (np.concatenate(parts) for parts in zip(*((c.rows, c.bounds) for c in constraints), strict=True))
    if not rows.shape[1]:
        return bool((bounds >= 0).all())
    done = linprog(np.zeros(rows.shape[1]), A_ub=rows, b_ub=bounds, method="highs")
    if done.status not in (0, 2):
        raise ConfigError(f"constraints: HiGHS could not tell whether they hold ({done.message})")
    return bool(done.status == 0)


def guarantees_conflict(window: Window, contacts: Sequence[str] = (), csas: Sequence[str] = ()) -> Conflict | None:
    """Why the guarantees of a window's overdue contacts cannot all be kept without breaking anything: the minimal set
    of guarantees, rooms, rests, caps, forbidden pairs and of who may take whom; None: they can.

    contacts (W,), csas (F,): names, by default positions. Source: Hall (1935) is why it is such a set; the program's
    corners are whole numbers, so what can hold in parts can hold.
    """
    given = window.pairs()
    waiting, size = given.graph.shape
    late = np.flatnonzero(given.overdue_s > 0) if given.overdue_s is not None else np.zeros(0, np.int64)
    who, whom = list(csas) or [f"CSA {j}" for j in range(size)], list(contacts) or [str(i) for i in range(waiting)]
    if len(who) != size or len(whom) != waiting:
        raise ConfigError(f"{len(whom)} contacts and {len(who)} CSAs named; {waiting} and {size} expected")

    def none_of(name: str, pairs: Doubles) -> Named | None:
        """These pairs (late, F) do not meet."""
        return Named(name, pairs.reshape(1, -1), np.zeros(1)) if pairs.any() else None

    def only(row: int | None, column: int | None, pairs: Doubles | None = None) -> Doubles:
        found = np.zeros((len(late), size))
        place = (slice(None) if row is None else row, slice(None) if column is None else column)
        found[place] = 1.0 if pairs is None else pairs[place]
        return found

    barred, may = np.zeros((waiting, size)), np.asarray(window.can, np.float64)
    if window.forbidden is not None and len(window.forbidden):
        barred[tuple(np.asarray(window.forbidden).T)] = 1.0
    found: list[Named | None] = []
    for at, i in enumerate(late):
        found.append(none_of(f"who may take contact {whom[i]}", only(at, None, 1.0 - may[late])))
        found.append(none_of(f"forbidden pairs of contact {whom[i]}", only(at, None, barred[late])))
    for j in range(size):
        found.append(none_of(f"cap of {who[j]}", only(None, j, given.cap[late].astype(np.float64))))
        found.append(none_of(f"rest of {who[j]}", only(None, j, given.rest[late].astype(np.float64))))
        found.append(Named(f"room of {who[j]}", only(None, j).reshape(1, -1), given.room[[j]].astype(np.float64)))
    for at, i in enumerate(late):
        found.append(Named(f"guarantee of contact {whom[i]}", -only(at, None).reshape(1, -1), -np.ones(1)))
    return conflict([one for one in found if one is not None])
