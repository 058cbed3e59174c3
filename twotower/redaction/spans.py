"""What a redaction is made of: spans, the text with them masked, and the working view that detectors look at.

Notable: detectors work on a text of unchanged length in which everything masked so far, and every placeholder that was
in the text already, is blanked by U+FFFC (the object replacement character). No detector's pattern accepts that
character, so a masked stretch is a wall: what lies on both sides of it is judged as before, and a text that was
redacted looks the same to the detectors as the text it came from. `flat` is the text in lower case without accents, of
the same length, so that keywords are written once ("número", "Numero" and "NUMERO" are `numero`) and positions stay
true.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple

BLANK = "\ufffc"
_WORD = re.compile(r"[^\W_][\w\u0300-\u036f]*+")
_DIGIT = re.compile(r"\d")


class Span(NamedTuple):
    """Characters start ≤ i < end of the text, and what they are: one of the kinds, such as `card`."""

    start: int
    end: int
    kind: str


@dataclass(frozen=True)
class Redacted:
    """A text with its finds masked."""

    text: str
    """The text to keep: `[kind]` wherever something was masked."""
    spans: tuple[Span, ...]
    """What was masked, by its place in the text that was given, in order and apart."""


class Word(NamedTuple):
    """A word or number of the view: characters start ≤ i < end, and its flat form."""

    start: int
    end: int
    flat: str


class View:
    """One text as the detectors see it, with what is known about it.

    Args:
        text: the text, masked parts blanked.
        language: BCP-47 tag of the contact, None where it is not known.
        names: names from the customer's record.
    """

    def __init__(self, text: str, language: str | None = None, names: Sequence[str] = ()) -> None:
        self.text = text
        self.language = language
        self.names = names

    def without(self, spans: Iterable[Span]) -> View:
        """The view with the spans (in order, apart) blanked; positions stay as they are."""
        pieces, at = [], 0
        for span in spans:
            pieces += [self.text[at : span.start], BLANK * (span.end - span.start)]
            at = span.end
        return View("".join([*pieces, self.text[at:]]), self.language, self.names)

    @cached_property
    def flat(self) -> str:
        """The text in lower case without accents, character by character."""
        return flatten(self.text)

    @cached_property
    def words(self) -> list[Word]:
        """Words and numbers from left to right; an apostrophe parts two words."""
        flat = self.flat
        spans = (found.span() for found in _WORD.finditer(self.text))
        return [Word(start, end, flat[start:end]) for start, end in spans]

    @cached_property
    def places(self) -> dict[str, list[int]]:
        """Each flat word, and the indices at which it stands in `words`."""
        places: dict[str, list[int]] = {}
        for index, word in enumerate(self.words):
            places.setdefault(word.flat, []).append(index)
        return places

    @cached_property
    def has_digits(self) -> bool:
        """Whether anything but words can be in it."""
        return _DIGIT.search(self.text) is not None

    def capital(self, word: Word) -> bool:
        """Whether the word begins with a capital letter."""
        return self.text[word.start].isupper()

    def between(self, left: Word, right: Word) -> str:
        """The characters between two words."""
        return self.text[left.end : right.start]


class _Flat(dict[int, str]):
    """Translation of a character to its lower-case base letter, found once a character; length one always."""

    def __missing__(self, code: int) -> str:
        letter = chr(code)
        base = unicodedata.normalize("NFD", letter)[0].lower()
        self[code] = flat = base if len(base) == 1 else letter
        return flat


_FLAT = _Flat({0x2019: "'", 0x2018: "'", 0xA0: " ", 0x202F: " ", 0x2009: " ", 0x2010: "-", 0x2011: "-", 0x2013: "-"})


def flatten(text: str) -> str:
    """The text in lower case without accents, of the same length; typographic apostrophes and dashes as plain ones."""
    return text.lower() if text.isascii() else text.translate(_FLAT)


class Phrases:
    """Finds phrases of words in a view: one look-up a word, whatever the number of phrases.

    Args:
        phrases: words with blanks or apostrophes between them, in any case, accents or none.
    """

    def __init__(self, phrases: Iterable[str]) -> None:
        self._by_last: dict[str, list[tuple[str, ...]]] = {}
        for phrase in phrases:
            words = tuple(m[0] for m in _WORD.finditer(flatten(phrase)))
            self._by_last.setdefault(words[-1], []).append(words)
        for ending in self._by_last.values():
            ending.sort(key=len, reverse=True)

    def found(self, view: View) -> Iterator[tuple[int, int]]:
        """(index of the first word, index of the last) of each phrase; of those with one end, the longest.

        They come by their last word and not from left to right.
        """
        places, by_last = view.places, self._by_last
        for ending in by_last.keys() & places.keys():
            for last in places[ending]:
                for phrase in by_last[ending]:
                    first = last - len(phrase) + 1
                    if first >= 0 and self._stands(view, first, phrase):
                        yield first, last
                        break

    def _stands(self, view: View, first: int, phrase: tuple[str, ...]) -> bool:
        if len(phrase) == 1:
            return True
        words = view.words[first : first + len(phrase)]
        if any(word.flat != wanted for word, wanted in zip(words, phrase, strict=True)):
            return False
        gaps = (view.between(left, right) for left, right in pairwise(words))
        return all(gap in _GAPS for gap in gaps)


_GAPS = frozenset((" ", "  ", "'", "’", "-", "\u00a0", "/", "\n"))


def apart(spans: Iterable[Span]) -> list[Span]:
    """The spans in order without overlap: where two meet, the one that begins first stays, of these the longer."""
    kept: list[Span] = []
    for span in sorted(spans, key=lambda s: (s.start, -s.end)):
        if span.start < span.end and (not kept or span.start >= kept[-1].end):
            kept.append(span)
    return kept
