"""A bundle in a replay: its matcher asked at every decision, or all that it would say computed beforehand.

Notable: both are greedy in the same way as the compiled loop's `INDEX`: of the pairs that can be, the one of the
highest value, a minute's wait worth so much, again until none is left. A value is the calibrated P(resolved), the score
where a bundle has none. CSAs whom the bundle does not hold, hired after it was made, are worth to a contact what the
others are on average: neither preferred nor shunned. A bundle that learns is told what a router would tell it, at the
moments of the simulation; outcomes are known when hand-overs end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from evaluation.simulate import policies
from evaluation.simulate.policies import Choice, Rule, View
from evaluation.simulate.replay import Replay
from evaluation.simulate.replay_window import Window
from evaluation.simulate.told import Ended
from serve.answer import Candidate
from serve.matcher import Matcher
from serve.seen import Seen
from twotower.clock import NULL_TIME, format_time
from twotower.errors import ConfigError
from twotower.progress import bar

Singles = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Fields = dict[str, Any]
BLOCK = 256
AGE_PER_S, SCANNED = 0.02 / 60.0, 16
"""What matchers are tried with where nobody says otherwise: a minute's wait is worth two points, of the first so many
of a queue."""
LEAST_KNOWN = 0.5
"""Share of the window's CSAs whom a bundle must hold."""


def fields_of(window: Window) -> list[Fields]:
    """What a router would hand over of the window's contacts (N,): `serve.contact`."""
    log, rows = window.log, pa.array(window.rows)
    contacts = log.contacts
    names = ("channel", "queue", "language", "intent", "intent_text", "transcript")
    columns = {name: getattr(contacts, name).take(rows).to_pylist() for name in names}
    columns["contact_id"] = contacts.ids.take(rows).to_pylist()
    customer = contacts.customer[window.rows]
    known = pa.array(customer, mask=customer < 0)
    columns["customer_id"] = log.customer_ids.take(known).to_pylist()
    columns["customer_language"] = log.customer_language.take(known).to_pylist()
    columns["arrived_at"] = contacts.arrived_at[window.rows].tolist()
    since = [log.customer_since[one] if one >= 0 else NULL_TIME for one in customer.tolist()]
    columns["customer_since"] = [None if moment == NULL_TIME else int(moment) for moment in since]
    columns["priority"] = [None if value != value else float(value) for value in contacts.priority[window.rows]]
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def pair_values(bundle: str | Path | Matcher, window: Window, csa_ids: Sequence[str]) -> Singles:
    """What a bundle says of every pair as its contact arrives: P(resolved) (N, J), finite, the score where a bundle is
    not calibrated. `csa_ids` (J,) name the columns, as `Replay.csa_ids` does.

    Raises BundleError for a bundle that cannot be trusted, ConfigError for one of other CSAs.
    """
    matcher = bundle if isinstance(bundle, Matcher) else Matcher.load(bundle)
    known = known_csas(matcher, csa_ids)
    contacts, who = fields_of(window), [csa_ids[i] for i in known]
    place = dict(zip(who, known, strict=True))
    found = np.full((len(contacts), len(csa_ids)), np.nan, np.float32)
    with bar("match", len(contacts), "contact") as advance:
        for start in range(0, len(contacts), BLOCK):
            part = contacts[start : start + BLOCK]
            for i, ranked in enumerate(matcher.match_batch(part, len(who), [who] * len(part)), start):
                found[i, [place[one.csa_id] for one in ranked]] = [value_of(one) for one in ranked]
            advance(len(part))
    return _filled(found)


def known_csas(matcher: Matcher, csa_ids: Sequence[str]) -> list[int]:
    """Positions of the CSAs whom a bundle holds. Raises ConfigError where they are too few to say anything."""
    held = matcher.snapshot.codes
    known = [i for i, name in enumerate(csa_ids) if name in held]
    if len(known) < LEAST_KNOWN * len(csa_ids):
        raise ConfigError(
            f"bundle {matcher.bundle_id[:12]}: holds {len(known)} of the {len(csa_ids)} CSAs who work in the window; "
            "give one that was trained on these tables"
        )
    return known


def value_of(candidate: Candidate) -> float:
    """P(resolved), or the score."""
    return candidate.score if candidate.p_resolved is None else candidate.p_resolved


def _filled(values: Singles) -> Singles:
    """(n, J) with what is NaN as the row's mean; a row of nothing else is 0."""
    told = ~np.isnan(values)
    mean = np.where(told, values, 0).sum(axis=1) / np.maximum(told.sum(axis=1), 1)
    return np.asarray(np.where(told, values, mean[:, None]), np.float32)


def scores_rule(replay: Replay, pairs: Singles, age_per_s: float, scanned: int, name: str) -> Rule:
    """The compiled loop's greedy rule by a bundle's values (N, J), as `pair_values` gives them."""
    value = np.zeros((len(replay.centre.classes), len(replay.csa_ids)))
    return policies.greedy(value, age_per_s, scanned=scanned, name=name, pairs=pairs)


def bundle_rule(replay: Replay, bundle: str, age_per_s: float, scanned: int, learns: bool, name: str) -> Rule:
    """A rule that asks the bundle's matcher. Raises as `pair_values`, and ConfigError for one that is to learn what it
    knows already."""
    matcher = Matcher.load(bundle)
    known = np.zeros(len(replay.csa_ids), np.bool_)
    known[known_csas(matcher, replay.csa_ids)] = True
    until = int(matcher.bundle.manifest.window["until"])
    if learns and until > replay.window.begin:
        raise ConfigError(
            f"policy {name}: the bundle knows all outcomes until {format_time(until)}, the window begins "
            f"{format_time(replay.window.begin)}; one that learns must end before it"
        )
    start = Start(
        bundle, tuple(fields_of(replay.window)), replay.csa_ids, known, replay.centre.can, replay.window.begin,
        age_per_s, scanned, learns,
    )  # fmt: skip
    return policies.decided(start, name=name)


@dataclass(frozen=True)
class Start:
    """Makes a rule anew for each replication, in whichever process: what was learnt in one is not known in the next."""

    bundle: str
    contacts: tuple[Fields, ...]
    csa_ids: tuple[str, ...]
    known: npt.NDArray[np.bool_]
    can: npt.NDArray[np.bool_]
    begin: int
    age_per_s: float
    scanned: int
    learns: bool

    def __call__(self) -> Asks:
        """The rule."""
        return Learns(self) if self.learns else Asks(self)


class Asks:
    """Asks a matcher at every decision, with the free CSAs as those eligible; of pairs that it was asked for before, it
    remembers the answer."""

    def __init__(self, of: Start) -> None:
        self.of, self.matcher = of, Matcher.load(of.bundle)
        self.place = {name: i for i, name in enumerate(of.csa_ids)}
        self.seen: dict[int, Seen] = {}
        self.told: dict[int, Singles] = {}

    def __call__(self, view: View) -> Choice:
        """The best pair, again until none is left."""
        looked = self._looked(view)
        value = np.full((len(looked), len(view.csa)), -np.inf)
        for i, place in enumerate(looked):
            can = self.of.can[view.kind[place], view.csa] & (view.csa != view.barred[place])
            if can.any():
                value[i, can] = self._values(int(view.row[place]), view.csa[can], view.now)
        value += self.of.age_per_s * view.waited[looked][:, None]
        pairs = _best_first(value, looked, view)
        return Choice(np.array(pairs, np.int64).reshape(-1, 2))

    def _looked(self, view: View) -> list[int]:
        """Places of those who waited longest in each class, class by class."""
        order = np.lexsort((np.arange(len(view.kind)), view.kind))
        found, seen = [], dict.fromkeys(view.kind.tolist(), 0)
        for place in order.tolist():
            kind = int(view.kind[place])
            seen[kind] += 1
            if seen[kind] <= self.of.scanned:
                found.append(place)
        return found

    def _values(self, row: int, csa: npt.NDArray[np.int64], now: float) -> Doubles:
        """Of one contact with some CSAs (n,)."""
        told = self.told.setdefault(row, np.full(len(self.of.csa_ids), np.nan, np.float32))
        fresh = csa[np.isnan(told[csa])]
        if len(fresh):
            told[fresh] = self._asked(row, fresh, now)
        return told[csa].astype(np.float64)

    def _asked(self, row: int, csa: npt.NDArray[np.int64], now: float) -> Doubles:
        if row not in self.seen:
            self.seen[row] = self.matcher.read(self.of.contacts[row])
        who = [self.of.csa_ids[i] for i in csa.tolist() if self.of.known[i]]
        if len(who) < len(csa):  # what the others are worth is what all are on average
            who = [name for name, known in zip(self.of.csa_ids, self.of.known, strict=True) if known]
        value = {self.place[one.csa_id]: value_of(one) for one in self._ranked(self.seen[row], who, now)}
        mean = float(np.mean(list(value.values()))) if value else 0.0
        return np.array([value.get(i, mean) for i in csa.tolist()])

    def _ranked(self, seen: Seen, who: list[str], now: float) -> list[Candidate]:
        return self.matcher.match(seen, len(who), who)


class Learns(Asks):
    """The same, and tells the matcher of every hand-over as it begins and ends; matches as of the present."""

    def __call__(self, view: View) -> Choice:
        """As `Asks`, and what is chosen is told to have begun."""
        choice, now = super().__call__(view), self._moment(view.now)
        for _, csa in choice.pairs.tolist():
            if self.of.known[csa]:
                self.matcher.assigned(self.of.csa_ids[csa], now)
        return choice

    def ended(self, handover: Ended) -> None:
        """Tell the matcher what it would hear of a hand-over's end."""
        if not self.of.known[handover.csa]:
            return
        name, end = self.of.csa_ids[handover.csa], self._moment(handover.end)
        self.matcher.finished(name, end)
        self.matcher.ended(
            self.seen[handover.row], name, end, resolved=handover.resolved, transferred=handover.transferred,
            handle_time_s=handover.end - handover.start,
        )  # fmt: skip

    def _moment(self, seconds: float) -> int:
        return self.of.begin + round(seconds * 1e6)

    def _values(self, row: int, csa: npt.NDArray[np.int64], now: float) -> Doubles:
        return self._asked(row, csa, now)

    def _ranked(self, seen: Seen, who: list[str], now: float) -> list[Candidate]:
        return self.matcher.match(seen, len(who), who, at=self._moment(now))


def _best_first(value: Doubles, looked: list[int], view: View) -> list[tuple[int, int]]:
    """Pairs of places in the view and CSAs, the best first, until no room or no pair is left."""
    room, found = view.room.copy(), []
    while value.size:
        i, j = divmod(int(np.argmax(value)), value.shape[1])
        if value[i, j] == -np.inf:
            break
        found.append((looked[i], int(view.csa[j])))
        value[i] = -np.inf
        room[j] -= 1
        if room[j] <= 0:
            value[:, j] = -np.inf
    return found
