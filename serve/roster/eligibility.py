"""Who could take a contact: bitmaps that the roster keeps, put together in microseconds.

Notable: one bit a CSA and fact (a language, a channel, a state, on shift, active), eight CSAs a byte, so that to put
five facts together for 100,000 CSAs reads 60 kB. Bitmaps are never changed: a change copies the few that it moves, and
readers of the roster before go on with theirs. What a need came to is remembered until the roster changes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from serve.contact import MatchError
from serve.roster.changes import STATES, Presence
from twotower.text.identify import base_language

Bits = npt.NDArray[np.uint8]
Codes = npt.NDArray[np.int64]
ANY = ""  # the bitmap of those who speak, or are reached through, any
MOST_NEEDS = 1024  # remembered answers


@dataclass(frozen=True)
class Need:
    """What a contact asks of who takes it: `language` (a tag; its base counts) and `channel`, None: any; to be on
    shift; to be in one of `states`, none named: in any."""

    language: str | None = None
    channel: str | None = None
    on_shift: bool = True
    states: tuple[Presence, ...] = ("idle",)

    def __post_init__(self) -> None:
        if unknown := [state for state in self.states if state not in STATES]:
            raise MatchError(f"eligible: state {unknown[0]!r}; {', '.join(STATES)} are known")


@dataclass(frozen=True)
class Bitmaps:
    """Facts of `size` CSAs as bits (⌈size / 8⌉,), little end first; facts that nobody has are absent."""

    size: int
    active: Bits
    on_shift: Bits
    states: dict[str, Bits]
    languages: dict[str, Bits]
    channels: dict[str, Bits]
    _answers: dict[Need, Codes] = field(default_factory=dict, compare=False, repr=False)

    def codes(self, need: Need) -> Codes:
        """Codes, ascending, of the active CSAs who could take a contact; not to be changed."""
        found = self._answers.get(need)
        if found is None:
            if len(self._answers) >= MOST_NEEDS:  # tags are the callers': a flood of them must not fill the memory
                self._answers.clear()
            found = self._answers[need] = codes_of(self.bits(need), self.size)
        return found

    def bits(self, need: Need) -> Bits:
        """The same as bits."""
        found = self.active
        if need.on_shift:
            found = found & self.on_shift
        if need.states and len(need.states) < len(STATES):
            found = found & self._some(self.states, need.states)
        language = base_language(need.language)
        if language is not None:
            found = found & self._some(self.languages, (language, ANY))
        if need.channel is not None:
            found = found & self._some(self.channels, (need.channel, ANY))
        return found

    def mask(self) -> npt.NDArray[np.bool_]:
        """Who is active (size,)."""
        return np.unpackbits(self.active, count=self.size, bitorder="little").astype(np.bool_)

    def _some(self, facts: Mapping[str, Bits], names: Iterable[str]) -> Bits:
        """Who has one of the facts."""
        parts = [facts[name] for name in names if name in facts]
        if not parts:
            return np.zeros_like(self.active)
        return parts[0] if len(parts) == 1 else np.bitwise_or.reduce(parts)

    def put(self, code: int, facts: Mapping[str, Iterable[str]]) -> Bitmaps:
        """With other facts of one CSA: `active` and `on_shift` by being among `flags`, and the names of their `states`,
        `languages` and `channels`; kinds that are not given stay."""
        moved: dict[str, Any] = {}
        flags = facts.get("flags")
        if flags is not None:
            for name in ("active", "on_shift"):
                moved[name] = _with(getattr(self, name), code, name in flags)
        for kind in ("states", "languages", "channels"):
            if kind in facts:
                moved[kind] = _put(getattr(self, kind), code, set(facts[kind]), self.active)
        return replace(self, **moved, _answers={})

    def grown(self, size: int) -> Bitmaps:
        """With room for more CSAs, who have no facts yet."""
        more = -(-size // 8) - len(self.active)

        def longer(bits: Bits) -> Bits:
            return np.concatenate([bits, np.zeros(more, np.uint8)])

        facts = {kind: {k: longer(b) for k, b in getattr(self, kind).items()} for kind in KINDS}
        return replace(
            self, size=size, active=longer(self.active), on_shift=longer(self.on_shift), **facts, _answers={}
        )

    @classmethod
    def of(cls, size: int, facts: Iterable[Mapping[str, Iterable[str]]]) -> Bitmaps:
        """Of the facts of CSAs 0, 1, … as in `put`, all kinds given, and room up to `size`."""
        flags: dict[str, list[int]] = {"active": [], "on_shift": []}
        named: dict[str, dict[str, list[int]]] = {kind: {} for kind in KINDS}
        for code, of in enumerate(facts):
            for name in of["flags"]:
                flags[name].append(code)
            for kind in KINDS:
                for name in of[kind]:
                    named[kind].setdefault(name, []).append(code)
        kinds = {kind: {name: bits_of(codes, size) for name, codes in of.items()} for kind, of in named.items()}
        states, languages, channels = (kinds[kind] for kind in KINDS)
        active, on_shift = (bits_of(codes, size) for codes in flags.values())
        return cls(size, active, on_shift, states, languages, channels)


KINDS = ("states", "languages", "channels")


def bits_of(codes: Iterable[int] | Codes, size: int) -> Bits:
    """Bits (⌈size / 8⌉,) with those of some codes set."""
    mask = np.zeros(-(-size // 8) * 8, np.bool_)
    mask[np.fromiter(codes, np.int64)] = True
    return np.packbits(mask, bitorder="little")


def codes_of(bits: Bits, size: int) -> Codes:
    """Codes, ascending, whose bits are set."""
    return np.flatnonzero(np.unpackbits(bits, count=size, bitorder="little"))


def _with(bits: Bits, code: int, on: bool) -> Bits:
    """The same array where the bit is so already, else a copy with it changed."""
    place, bit = code >> 3, 1 << (code & 7)
    if bool(bits[place] & bit) == on:
        return bits
    copy = bits.copy()
    copy[place] ^= bit
    return copy


def _put(facts: dict[str, Bits], code: int, names: set[str], like: Bits) -> dict[str, Bits]:
    found = {name: _with(bits, code, name in names) for name, bits in facts.items()}
    for name in sorted(names - set(facts)):
        found[name] = _with(np.zeros_like(like), code, True)
    return found
