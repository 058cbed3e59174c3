"""Streets with a house number, in the order of words that each language writes them in.

Notable: a street is found from the word that names its kind and read to both sides, word by word. Where that word is an
ordinary one as well ("way", "place", "cours"), it takes capital letters; "street" or "rue" do without. A number that
counts something ("2 cross streets", "10 km road", "Arbeitsplatz 3") is no house.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import NamedTuple

from twotower.redaction.spans import View, Word
from twotower.redaction.words import UNITS, flat_words, word_set


class Street(NamedTuple):
    """Where a street with its house number stands, in characters."""

    start: int
    end: int
    sure: bool = True
    """False: only with a postcode after it, as in "1 prairie st banning ca 92220"."""


Found = Street | None


EN_PLAIN = word_set("street ave avenue road rd blvd boulevard lane ln parkway pkwy terrace crescent")
EN_CAPITAL = word_set(
    "st way drive dr court ct place pl square sq close hill row walk circle cir trail mews gardens park grove hwy"
    " highway loop plaza"
)
ES_PLAIN = word_set("calle c cl avenida avda rambla carrer travesia")
ES_CAPITAL = word_set("av plaza plz pza paseo camino carretera ctra ronda glorieta urbanizacion")
FR_PLAIN = word_set("rue avenue boulevard bd bld impasse allee")
FR_CAPITAL = word_set("av place cours route quai square passage faubourg esplanade chemin")
DE_PLAIN = ("strasse", "straße", "gasse")
DE_CAPITAL = ("str", "allee", "platz", "weg", "damm", "ufer", "chaussee", "stieg", "pfad")
DE_NONE = word_set(
    "arbeitsplatz parkplatz sitzplatz stellplatz speicherplatz heimweg umweg ruckweg hinweg ausweg sackgasse"
    " fensterplatz gangplatz spielplatz campingplatz"
)
JOINING = word_set("de del la las los el du des d l le les von der den dem of saint sainte san santa st")
REPEATED = word_set("bis ter quater")

_HOUSE = re.compile(r"\d{1,5}[a-z]?")
_ORDINAL = re.compile(r"\d{1,3}(?:st|nd|rd|th)")
_NUMBER_AFTER = re.compile(
    r"[.,]?\s{0,2}(?:n[ºo°.]{1,2} ?|num(?:ero)?\.? ?|nr\.? ?)?"
    r"\d{1,4}(?: ?[-/] ?\d{1,4})?(?: ?[a-h](?!\w))?(?!\w)(?![.,:]\d)"
)
_COUNTED = re.compile(r"\s{0,2}([€$£%]|[^\W\d_]{1,20})?")
_GAPS = frozenset((" ", ". ", ", ", "-", "'", "’", "/", "/ ", "."))
# What stands before an amount, a part of another number or a numbered thing.
_NO_HOUSE_AFTER = frozenset("$€£¥#.,-/:+")


class Streets:
    """Finds the street that a word names.

    Args:
        languages: whose ways of writing an address are known.
    """

    def __init__(self, languages: Iterable[str]) -> None:
        languages = tuple(languages)
        self._others = flat_words(languages, "others")
        self._no_name = JOINING | self._others
        ways: dict[str, Callable[[View, int], Found]] = {
            "en": self._english,
            "es": self._spanish,
            "de": self._german,
            "fr": self._french,
        }
        self._ways = [ways[code] for code in languages]

    def at(self, view: View, index: int) -> Found:
        """The street whose kind the word of that index names, by the first language that knows it."""
        for way in self._ways:
            found = way(view, index)
            if found is not None:
                return found
        return None

    def _english(self, view: View, index: int) -> Found:
        """The house, up to four words, the kind: "221b Baker Street"; or "Baker Street no 23"."""
        kind = view.words[index]
        if kind.flat not in EN_PLAIN and kind.flat not in EN_CAPITAL:
            return None
        capital, at = view.capital(kind), index - 1
        while at >= 0 and index - at <= 5 and view.between(view.words[at], view.words[at + 1]) in _GAPS:
            word = view.words[at]
            if _HOUSE.fullmatch(word.flat):
                sure = capital or (kind.flat in EN_PLAIN and len(word.flat) > 1)
                counted = view.words[at + 1].flat in UNITS
                house = index - at > 1 and not counted and _is_house(view, at)
                return Street(word.start, kind.end, sure) if house else None
            if word.flat in self._others and word.flat not in ("new", "old", "right"):
                break
            capital &= view.capital(word) or _ORDINAL.fullmatch(word.flat) is not None
            at -= 1
        return self._number_after_english(view, index, at + 1)

    def _number_after_english(self, view: View, index: int, first: int) -> Found:
        kind = view.words[index]
        if kind.flat not in EN_PLAIN or first == index or view.between(view.words[index - 1], kind) != " ":
            return None
        end = _house_after(view, kind)
        begin = view.words[index - 1]
        named = view.capital(begin) and view.capital(kind)
        numbered = end is not None and view.flat[kind.end : end].strip(" ,.").startswith("no")
        return Street(begin.start, end) if end is not None and (named or numbered) else None

    def _spanish(self, view: View, index: int) -> Found:
        """The kind, up to six words, the house: "Calle de Alcalá, 45"."""
        kind = view.words[index]
        plain = kind.flat in ES_PLAIN
        if not plain and kind.flat not in ES_CAPITAL:
            return None
        if kind.flat == "c" and view.text[kind.end : kind.end + 1] != "/":
            return None
        last, capital, named = kind, False, False
        for word in view.words[index + 1 : index + 7]:
            if view.between(last, word) not in _GAPS or word.flat[0].isdigit():
                break
            if word.flat not in JOINING:
                if word.flat in self._others and not view.capital(word):
                    return None
                capital, named = capital or view.capital(word), True
            last = word
            end = _house_after(view, last)
            if end is not None and named:
                return Street(kind.start, end) if plain or capital else None
        return None

    def _french(self, view: View, index: int) -> Found:
        """The house, the kind, the name: "12 bis, rue de la Paix"."""
        kind = view.words[index]
        plain = kind.flat in FR_PLAIN
        if not plain and kind.flat not in FR_CAPITAL:
            return None
        at = index - 1
        while at >= 0 and (view.words[at].flat in REPEATED or view.words[at].flat in ("b", "t")):
            at -= 1
        if at < 0 or not _HOUSE.fullmatch(view.words[at].flat) or not _is_house(view, at):
            return None
        if any(view.between(*pair) not in _GAPS for pair in pairwise(view.words[at : index + 1])):
            return None
        end = self._name_after(view, index, plain)
        return None if end is None else Street(view.words[at].start, end)

    def _name_after(self, view: View, index: int, plain: bool) -> int | None:
        """Where the name of a French street ends: capitalised words, or one word in lower case after a plain kind."""
        last, end = view.words[index], None
        for word in view.words[index + 1 : index + 8]:
            if view.between(last, word) not in _GAPS or word.flat[0].isdigit():
                break
            if view.capital(word) or (plain and end is None and word.flat not in self._no_name):
                end = word.end
                if not view.capital(word):
                    break
            elif word.flat not in JOINING:
                break
            last = word
        return end

    def _german(self, view: View, index: int) -> Found:
        """The kind as an ending or a word of its own, the house: "Hauptstr. 12", "Berliner Allee 3"."""
        kind = view.words[index]
        plain = kind.flat.endswith(DE_PLAIN)
        if kind.flat in DE_NONE or not (plain or (view.capital(kind) and kind.flat.endswith(DE_CAPITAL))):
            return None
        end = _house_after(view, kind)
        if end is None:
            return None
        if kind.flat not in DE_PLAIN and kind.flat not in DE_CAPITAL:
            return Street(kind.start, end)
        first = index
        while first > 0 and index - first < 4 and view.between(view.words[first - 1], view.words[first]) in ("-", " "):
            before = view.words[first - 1]
            hyphen = view.between(before, view.words[first]) == "-"
            if not view.capital(before) or (not hyphen and (before.flat in self._others or first < index)):
                break
            first -= 1
        return Street(view.words[first].start, end) if first < index else None


def _is_house(view: View, index: int) -> bool:
    """Whether a number before a street is a house and no amount, date or part of a longer number."""
    word = view.words[index]
    before = view.text[word.start - 1 : word.start]
    return before not in _NO_HOUSE_AFTER or not before


def _house_after(view: View, word: Word) -> int | None:
    """Where the house number after a word ends; None where there is none, or the number counts something."""
    found = _NUMBER_AFTER.match(view.flat, word.end)
    if found is None or not found[0].strip(" .,"):
        return None
    after = _COUNTED.match(view.flat, found.end())
    counted = after is not None and after[1] is not None and (after[1] in "€$£%" or after[1] in UNITS)
    return None if counted else found.end()
