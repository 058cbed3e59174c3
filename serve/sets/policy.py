"""One rule over time: who gets whom in each window, with waits, limits, prices and the window's length put together.

Notable: the same object serves a router, which tells it what begins and ends, and a simulator, which may only show who
has room. It holds no contact: what a window is about comes in as arrays, so a contact that gave up needs
no telling.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from serve.sets.clock import Clock
from serve.sets.given import Window, flags, seconds
from serve.sets.graph import Bools, Doubles, Longs
from serve.sets.prices import Prices
from serve.sets.sustain import Limits, Load, Terms
from serve.sets.wait import NEVER_S, Waiting
from serve.sets.window import Settled, settle
from twotower.errors import ConfigError


@dataclass(frozen=True)
class Waitlist:
    """What a window is about: W contacts that wait, F CSAs with room."""

    now_s: float
    """Seconds, never going back."""
    waited_s: Doubles
    """(W,)."""
    value: Doubles
    """(W, F) calibrated outcome or utility."""
    can: Bools
    """(W, F)."""
    csa: Longs
    """(F,) positions among all J CSAs."""
    room: Longs | None = None
    """(F,) contacts each can take, 1."""
    hard: Bools | None = None
    """(W,) expected to be hard or upset, none."""
    pleasant: Bools | None = None
    """(W,) likewise, none."""
    guarantee_s: Doubles | None = None
    """(W,) each contact's own, in place of the rule's."""
    handle_s: Doubles | None = None
    """(W, F) or (F,) expected handle time, for prices of CSA time; without it the mean of the prices' demand."""
    kind: Longs | None = None
    """(W,) class of each contact, for prices that are told what is asked for."""
    forbidden: Longs | None = None
    """(n, 2) positions of contact and CSA here."""
    priority: Doubles | None = None
    """(W,) as in `Window`, none."""


@dataclass(frozen=True)
class Decided:
    """Pairs (n, 2) of positions of contacts and of CSAs here, `again_s` until asking anew may bring more (infinite:
    when something happens), and what the window came to, None: the window is still open."""

    pairs: Longs
    again_s: float
    settled: Settled | None


@dataclass(frozen=True)
class Rules:
    """What a policy is made of; parts that are None take no part."""

    waiting: Waiting = field(default_factory=Waiting)
    limits: Limits | None = None
    prices: Prices | None = None
    clock: Clock | None = None
    fill: bool = False
    prove: bool = True
    """Prices and a gap with each window (`Settled`); False is quicker."""


class SetPolicy:
    """Rules over time for J CSAs. Not for several threads at once."""

    def __init__(self, csas: int, rules: Rules | None = None, load: Load | None = None) -> None:
        """load: what CSAs have had, by default of `csas` who take one contact each. Raises ConfigError where prices and
        load are of other CSAs."""
        self.rules = rules or Rules()
        self.load = load or Load(csas, self.rules.limits or Limits())
        if len(self.load.at) != csas:
            raise ConfigError(f"load: of {len(self.load.at)} CSAs; {csas} expected")
        if self.rules.prices is not None and len(self.rules.prices.group) != csas:
            raise ConfigError(f"prices: of {len(self.rules.prices.group)} CSAs; {csas} expected")
        self._opened_s: float | None = None

    def decide(self, asked: Waitlist, begin: bool = False) -> Decided:
        """Who gets whom now. begin: what is decided begins at once, and need not be told to `load`.

        Within a window nobody is paired but for a deadline, which closes it. Raises ConfigError for arrays that do not
        fit, negative waits, values that are no numbers.
        """
        rules, waited = self.rules, seconds(asked.waited_s, np.shape(asked.waited_s), "waited_s")
        overdue_s = rules.waiting.overdue_s(waited, asked.guarantee_s)
        shape = (len(waited), len(asked.csa))
        if np.shape(asked.value) != shape:
            raise ConfigError(f"value: shape {np.shape(asked.value)}; {shape} for the waits and CSAs expected")
        until_s = _until(overdue_s)
        open_s = self._open_s(asked, overdue_s)
        if open_s > 0:
            return Decided(np.zeros((0, 2), np.int64), min(open_s, until_s), None)
        terms = self.terms(asked)
        found = settle(self.window(asked, terms, overdue_s), rules.prove)
        self._opened_s = None
        if rules.clock is not None:
            rules.clock.learn(asked.now_s, len(waited), found)
        if begin:
            self.begin(asked, found.pairs)
        waits = bool((found.csa < 0).any())
        return Decided(found.pairs, min(terms.again_s, until_s) if waits else np.inf, found)

    def window(self, asked: Waitlist, terms: Terms, overdue_s: Doubles) -> Window:
        """The window that `decide` settles: also what `conflict` and `shadow` ask about."""
        rules, shape = self.rules, np.shape(asked.value)
        price = None if rules.prices is None else rules.prices.of(asked.csa, asked.kind, asked.handle_s, shape)
        can = flags(asked.can, shape, "can")
        value = np.where(can, asked.value, 0.0) + terms.value
        return Window(
            value, can, asked.room, age=rules.waiting.age(asked.waited_s), price=price, overdue_s=overdue_s,
            rest=terms.rest, cap=terms.cap, forbidden=asked.forbidden, priority=asked.priority, fill=rules.fill,
        )  # fmt: skip

    def terms(self, asked: Waitlist) -> Terms:
        """What limits make of a window."""
        waiting = len(asked.waited_s)
        hard = np.zeros(waiting, np.bool_) if asked.hard is None else flags(asked.hard, (waiting,), "hard")
        return self.load.terms(asked.now_s, asked.csa, hard, asked.pleasant)

    def begin(self, asked: Waitlist, pairs: Longs) -> None:
        """The pairs (n, 2) begin now."""
        contact, csa = pairs.T
        hard, pleasant = (
            np.zeros(len(contact), np.bool_) if one is None else one[contact] for one in (asked.hard, asked.pleasant)
        )
        self.load.begun(asked.csa[csa], asked.now_s, hard, pleasant)

    def _open_s(self, asked: Waitlist, overdue_s: Doubles) -> float:
        """s that the window stays open; 0 or below: it closes."""
        if self.rules.clock is None or not len(asked.waited_s) or (overdue_s > 0).any():
            return 0.0
        if self._opened_s is None:
            self._opened_s = asked.now_s
        return self._opened_s + self.rules.clock.window_s - asked.now_s


def _until(overdue_s: Doubles) -> float:
    """s until the next contact is past its guarantee."""
    ahead = -overdue_s[(overdue_s < 0) & (overdue_s > -NEVER_S)]
    return float(ahead.min(initial=np.inf))
