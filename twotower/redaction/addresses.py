"""Postal addresses: a street with what follows it, and postcodes with their town.

Notable: a street draws in what hangs on it (flat, floor, town, postcode). Without a street a postcode counts where its
shape or its company gives it away: British ones by their shape, American ones by the state before them, five digits
with a town after them at the beginning of a line or after a comma, and whatever follows the word for "postcode".
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from twotower.redaction.spans import Phrases, Span, View
from twotower.redaction.streets import Streets
from twotower.redaction.words import UNITS, flat_words, listed, word_set

_CAPITAL = "[A-ZÀ-ÖØ-ÞŒŠŽ]"
_TOWN = rf"(?:St\. )?{_CAPITAL}[\w'’-]{{1,30}}+"
_TOWNS = rf"{_TOWN}(?: (?:de |del |la |an der |am |sur |upon )?{_TOWN}){{0,2}}"
_UK = r"[A-Z]{1,2}\d[A-Z\d]? ?\d[A-Z]{2}"
_STATES = word_set(
    "al ak az ar ca co ct de fl ga hi id il in ia ks ky la me md ma mi mn ms mo mt ne nv nh nj nm ny nc nd oh ok or pa"
    " ri sc sd tn tx ut vt va wa wv wi wy dc"
)
# These are words as well; in lower case they are no states.
_STATE_WORDS = word_set("al co de hi id in la ma me mi ms oh ok or pa")
_UNIT = re.compile(
    r"(?:[,.]{0,2}\s{0,2}(?:apt|apartment|unit|suite|ste|flat|floor|room|piso|planta|puerta|portal|escalera|esc|etage"
    r"|appartement|appt|batiment|bat|wohnung|whg|#)\b\.? ?(?:#|no\.?|n[ºo°])? ?[a-z0-9]{1,4}(?: [a-z])?(?![a-z0-9])"
    r"|[,.]?\s{0,2}\d{1,2} ?[ºª°] ?[a-z]?(?![a-z0-9])|[,.]?\s{0,2}(?:bajo|izq|izda|dcha|izquierda|derecha)\b\.?){1,4}"
)
_TAIL = re.compile(
    rf"[,.]?\s{{1,3}}(?:[A-Z]{{1,2}}-)?\d{{4,5}} {_TOWNS}"
    rf"|(?:[,.]?\s{{1,3}}{_TOWN}){{0,4}}[,.]?\s{{1,3}}(?:(?:[A-Z]{{2}},? )?\d{{5}}(?:-\d{{4}})?|{_UK})(?!\w)"
)
_TAIL_FLAT = re.compile(
    r"(?:[,.]?\s{1,3}[a-z][a-z.'-]{1,30}+){0,4}?[,.]?\s{1,3}"
    rf"(?:{'|'.join(sorted(_STATES))}),? \d{{5}}(?:-\d{{4}})?(?!\w)"
)
_UK_ALONE = re.compile(r"(?<![\w-])[A-Z]{1,2}\d[A-Z\d]? \d[A-Z]{2}(?![\w-])")
_WITH_TOWN = re.compile(rf"(?<!\d)\d{{5}} ({_TOWNS})")
_BEFORE_TOWN = (", ", ",", "\n", " in ", " aus ", " nach ", " à ", " en ")
_COUNTRY = ("D-", "F-", "E-")
_ZIP = re.compile(r"\d{5}(?:-\d{4})?(?!\w)(?![.,:]?\s?\d)")
_AFTER_WORD = re.compile(
    r"[\s:#=.()\-]{0,4}(?:(?:is|number|no|code|es|numero|ist|lautet|est|of|my)\b[\s:=]{0,3}){0,3}"
    r"((?:[a-z]{1,2}\d[a-z\d]? ?\d[a-z]{2}|\d{3,6}(?:-\d{4})?|\d{3} \d{3})(?!\w))"
)


class Addresses:
    """Detector of the kind `address`.

    Args:
        languages: whose ways of writing an address are known.
    """

    kinds = ("address",)

    def __init__(self, languages: Iterable[str]) -> None:
        languages = tuple(languages)
        self._streets = Streets(languages)
        self._others = flat_words(languages, "others")
        self._postcodes = Phrases(listed(languages, "postcodes"))

    def find(self, view: View) -> Iterator[Span]:
        """Addresses by what gave them away; they may overlap."""
        if not view.has_digits:
            return
        for index, word in enumerate(view.words):
            found = self._streets.at(view, index)
            if found is not None:
                end = _with_tail(view, found.end)
                if found.sure or end > found.end:
                    yield Span(found.start, end, "address")
            elif word.flat in _STATES:
                yield from self._state(view, index)
        for _, last in self._postcodes.found(view):
            code = _AFTER_WORD.match(view.flat, view.words[last].end)
            if code is not None:
                yield Span(code.start(1), code.end(1), "address")
        for match in _UK_ALONE.finditer(view.text):
            yield Span(match.start(), match.end(), "address")
        yield from self._with_town(view)

    def _state(self, view: View, index: int) -> Iterator[Span]:
        """ "Springfield, IL 62704": the state gives the postcode and the town away."""
        word = view.words[index]
        upper = view.text[word.start : word.end].isupper()
        code = _ZIP.match(view.text, word.end + 1)
        if code is None or view.text[word.end] != " " or not (upper or word.flat not in _STATE_WORDS):
            return
        first = index
        for _ in range(3 if upper else 1):
            before = view.words[first - 1] if first else None
            if before is None or view.between(before, view.words[first]) not in (" ", ", ", "\n", " \n"):
                break
            if before.flat in self._others or not before.flat.isalpha() or (upper and not view.capital(before)):
                break
            first -= 1
        yield Span(view.words[first].start, code.end(), "address")

    def _with_town(self, view: View) -> Iterator[Span]:
        """Five digits and a town; round numbers and numbers of things are none, as German nouns are capitalised."""
        for match in _WITH_TOWN.finditer(view.text):
            begin, town = match.start(), view.flat[match.start(1) : match.end(1)].split()[0]
            if town in UNITS or town in self._others:
                continue
            before = view.text[max(begin - 6, 0) : begin]
            if before.endswith(_COUNTRY) and not before[-3:-2].isalnum():
                yield Span(begin - 2, match.end(), "address")
            elif (not before or before.endswith(_BEFORE_TOWN)) and "000 " not in match[0]:
                yield Span(begin, match.end(), "address")


def _with_tail(view: View, end: int) -> int:
    """Where the address ends whose street ends at `end`."""
    unit = _UNIT.match(view.flat, end)
    end = unit.end() if unit is not None else end
    tail = _TAIL.match(view.text, end) or _TAIL_FLAT.match(view.flat, end)
    end = tail.end() if tail is not None else end
    unit = _UNIT.match(view.flat, end)
    return unit.end() if unit is not None else end
