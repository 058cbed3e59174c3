"""The writer's side of a roster: who is in it, what is declared and known of each, which pairs must not meet.

Notable: CSAs have codes 0, 1, … in the order in which they came, which they keep when they leave and come back, so that
what is remembered by code stays theirs. A list of changes is checked as a whole before any of them is made.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from serve.contact import MatchError
from serve.roster.changes import Block, Change, Join, Leave, Presence, RosterChange, Shift, State, Unblock, check
from serve.roster.declared import EMPTY, Declared
from serve.roster.eligibility import ANY, Bitmaps
from serve.roster.view import CsaView, RosterView

ROOM = 64  # places beyond those taken, or a sixteenth of them where that is more
MOST_BLOCKED = 10_000  # CSAs of one customer


@dataclass(frozen=True)
class Entry:
    """One CSA: what is declared, whether they are with the centre, on shift, their state and since when (µs; None: the
    roster was never told), whether they came after the bundle, and whether they were told to have left."""

    declared: Declared = EMPTY
    active: bool = True
    on_shift: bool = True
    state: Presence = "idle"
    since: int | None = None
    joined: bool = False
    left: bool = False

    def facts(self) -> dict[str, tuple[str, ...]]:
        """As `Bitmaps` takes them."""
        flags = [name for name in ("active", "on_shift") if getattr(self, name)]
        channels = (ANY,) if self.declared.channels is None else self.declared.channels
        return {
            "flags": tuple(flags), "states": (self.state,),
            "languages": self.declared.spoken or (ANY,), "channels": channels,
        }  # fmt: skip


@dataclass
class Told:
    """Whom a list of changes concerned, as codes: who `joined` the roster for the first time, and of whom what is
    declared has `moved`."""

    joined: list[int] = field(default_factory=list)
    moved: list[int] = field(default_factory=list)


class Saved(NamedTuple):
    """A book at a moment."""

    size: int
    entries: list[Entry]
    blocked: dict[bytes, frozenset[int]]
    bitmaps: Bitmaps
    left: frozenset[int]
    version: int


class Book:
    """The roster as it changes. One writer: calls must not overlap.

    ids: of J CSAs; active: who of them is with the centre; declared: rows by id, of those who have one; secret: under
    which customers of blocked pairs are kept, as keyed hashes.
    """

    def __init__(
        self, ids: Sequence[str], active: Iterable[bool], declared: Mapping[str, Declared], secret: bytes = b""
    ) -> None:
        self.ids = list(ids)
        self.codes = {csa_id: code for code, csa_id in enumerate(self.ids)}
        self.version, self._secret = 0, secret
        self._entries = [
            Entry(declared.get(csa_id, EMPTY), bool(is_active))
            for csa_id, is_active in zip(self.ids, active, strict=True)
        ]
        self.blocked: dict[bytes, frozenset[int]] = {}
        self.left: frozenset[int] = frozenset()
        """Who was told to have left; not who had when the bundle was made, of whom a caller may know better."""
        self.bitmaps = Bitmaps.of(_with_room(len(self.ids)), (entry.facts() for entry in self._entries))

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def capacity(self) -> int:
        """How many CSAs the bitmaps have room for."""
        return self.bitmaps.size

    def entry(self, code: int) -> Entry:
        """What is known of a CSA."""
        return self._entries[code]

    def apply(self, changes: Sequence[RosterChange], at: int | None = None) -> Told:
        """Make changes, all of them or none, at a moment (µs). Raises MatchError naming the one that cannot be."""
        ids, entries, blocked = self._planned(changes, at)
        told, new = Told(), set(ids)
        for csa_id in ids:
            self.codes[csa_id] = len(self.ids)
            self.ids.append(csa_id)
            self._entries.append(Entry(active=False))
        if len(self.ids) > self.capacity:
            self.bitmaps = self.bitmaps.grown(_with_room(len(self.ids)))
        for csa_id, entry in entries.items():
            code = self.codes[csa_id]
            before, self._entries[code] = self._entries[code], entry
            if csa_id in new:
                told.joined.append(code)
            elif before.declared != entry.declared:
                told.moved.append(code)
            self.bitmaps = self.bitmaps.put(code, entry.facts())
            if entry.left != before.left:
                self.left ^= {code}
        if blocked:
            self.blocked = self.blocked | {key: frozenset(self.codes[c] for c in who) for key, who in blocked.items()}
            self.blocked = {key: who for key, who in self.blocked.items() if who}
        self.version += 1
        return told

    def check(self, changes: Sequence[RosterChange], at: int | None = None) -> None:
        """Raises MatchError where `apply` would."""
        self._planned(changes, at)

    def _planned(
        self, changes: Sequence[RosterChange], at: int | None
    ) -> tuple[list[str], dict[str, Entry], dict[bytes, set[str]]]:
        """New ids in their order, entries by id, and blocked ids by customer, as they would be."""
        new: list[str] = []
        entries: dict[str, Entry] = {}
        blocked: dict[bytes, set[str]] = {}
        for i, change in enumerate(changes):
            where = f"change {i} ({change.op} {change.csa_id!r})"
            check(change, where)
            known = change.csa_id in self.codes or change.csa_id in entries
            if not known and not isinstance(change, Join):
                raise MatchError(f"{where}: the roster does not hold this CSA; let them join first")
            if isinstance(change, Block | Unblock):
                self._plan_pair(change, blocked, where)
                continue
            entry = entries.get(change.csa_id)
            if entry is None and known:
                entry = self._entries[self.codes[change.csa_id]]
            if entry is None:
                new.append(change.csa_id)
            entries[change.csa_id] = _after(entry, change, at, where)
        return new, entries, blocked

    def _plan_pair(self, change: Block | Unblock, blocked: dict[bytes, set[str]], where: str) -> None:
        key = key_of(self._secret, change.customer_id)
        who = blocked.setdefault(key, {self.ids[code] for code in self.blocked.get(key, ())})
        if isinstance(change, Unblock):
            who.discard(change.csa_id)
            return
        who.add(change.csa_id)
        if len(who) > MOST_BLOCKED:
            raise MatchError(f"{where}: more than {MOST_BLOCKED} CSAs must not meet this customer")

    def saved(self) -> Saved:
        """What `restore` needs to undo what comes next."""
        return Saved(len(self.ids), list(self._entries), self.blocked, self.bitmaps, self.left, self.version)

    def restore(self, saved: Saved) -> None:
        """Be as when this was saved."""
        for csa_id in self.ids[saved.size :]:
            del self.codes[csa_id]
        del self.ids[saved.size :]
        self._entries, self.blocked = saved.entries, saved.blocked
        self.bitmaps, self.left, self.version = saved.bitmaps, saved.left, saved.version

    def view(self) -> RosterView:
        """What the roster is now, for people and tools; it does not change with what comes later."""
        return RosterView(self.version, tuple(self.ids), tuple(_viewed(entry) for entry in self._entries))

    def waited(self, code: int) -> tuple[bool, int]:
        """What orders those who wait: whether they are not idle or not on shift, and since when they are in their
        state, µs; who was never told of has waited the longest."""
        entry = self._entries[code]
        return entry.state != "idle" or not entry.on_shift, -1 if entry.since is None else entry.since


class Keyed(str):
    """A customer of whom only the key is known, `key_of` them."""

    def __new__(cls, key: bytes) -> Keyed:
        """Shown as the hexadecimal key."""
        return super().__new__(cls, key.hex())

    @property
    def key(self) -> bytes:
        """What `key_of` gives."""
        return bytes.fromhex(self)


def key_of(secret: bytes, customer_id: str) -> bytes:
    """How a customer of a blocked pair is kept: never by the id itself."""
    if isinstance(customer_id, Keyed):
        return customer_id.key
    return hmac.digest(secret, customer_id.encode("utf-8", "surrogatepass"), hashlib.sha256)


def _after(entry: Entry | None, change: RosterChange, at: int | None, where: str) -> Entry:
    """A CSA's entry after a change; None: there was none."""
    match change:
        case Join(csa=csa):
            before = entry or Entry(joined=True)
            declared = before.declared.changed(csa, where)
            if entry is None and declared.hired_at is None:
                declared = replace(declared, hired_at=at)  # who is new begins now, unless somebody says otherwise
            back = replace(before, active=True, left=False, declared=declared)
            return back if before.active and entry else replace(back, on_shift=True, state="idle", since=at)
        case Leave():
            return replace(entry or Entry(), active=False, left=True)
        case Change(csa=csa):
            found = entry or Entry()
            return replace(found, declared=found.declared.changed(csa, where))
        case Shift(on=on):
            found = entry or Entry()
            return found if found.on_shift == on else replace(found, on_shift=on, since=at)
        case State(state=state):
            found = entry or Entry()
            return found if found.state == state else replace(found, state=state, since=at)
    raise MatchError(f"{where}: not a change of one CSA")


def _viewed(entry: Entry) -> CsaView:
    declared = entry.declared
    return CsaView(
        entry.active, entry.on_shift, entry.state, entry.since, declared.languages, declared.channels, entry.joined
    )


def _with_room(count: int) -> int:
    return count + max(ROOM, count // 16)
