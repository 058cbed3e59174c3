"""Telephone numbers.

Notable: a run of digits with what people put between them is cut out first, freed of dates, amounts and links, and only
then given to `phonenumbers` (Google's libphonenumber), which knows what numbers each region has. Three things count
without its word, because they say by themselves that they are meant as a number: a leading plus, the groups in which
North American and trunk numbers are written (exchange 555 is nobody's, yet given as a number), and the word for it.

The library's search within a run is slow, so no text may keep it busy: a run of more digits than two numbers have is a
table, of which each group of seven digits or more is masked unasked; and after the first thousand runs of one text
every further one of seven digits or more is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from phonenumbers import Leniency, PhoneNumberMatcher

from twotower.redaction.config import RedactionConfig
from twotower.redaction.spans import Phrases, Span, View, apart
from twotower.redaction.words import UNITS, listed

FEWEST, MOST = 7, 15
"""Digits of a number (ITU-T E.164 allows 15)."""
TABLE = 2 * MOST
ASKED = 1000
"""Runs of digits in one text that the library is asked about."""
TRIES = 16
"""How many ways to cut one run the library may try."""

_GAP = r"[ \t\u00a0\u2009\u202f().\-\u2010-\u2013/]"
_RUN = re.compile(rf"(?<![\w/#])(?<!\d\.)[+(]{{0,2}}+\d(?:{_GAP}{{0,3}}+\d)*+")
_DIGIT = re.compile(r"\d")
_LONG_GROUP = re.compile(r"\d{7,}+")
_NOT_PHONE = re.compile(
    r"https?://[^\s\ufffc]{1,2000}+|(?<!\d)(?:\d{4}[-/.]\d{1,2}[-/.]\d{1,2}|\d{1,2}[-/.]\d{1,2}[-/.](?:\d{4}|\d{2}))(?![\d/-])"
    r"(?:[ T]{1,2}\d{1,2}(?::\d\d){1,2})?|(?<!\d)\d{1,2}:\d\d(?!\d)|(?<![\d.])\d{1,3}(?:\.\d{1,3}){3}(?![\d.])"
    r"|(?<![\d.])0\.\d{1,30}(?!\d)|[€$£¥]\s?\d[\d.,' ]{0,30}|(?<![\d.])\d{1,30}(?:[.,]\d{1,30}){0,9}+\s?(?:[€$£¥%]|(?:"
    + "|".join(sorted(UNITS, key=len, reverse=True))
    + r")\b)",
    re.IGNORECASE,
)
_AMERICAN = re.compile(r"(?<![\w$€£.,/-])(?:\+?1[ .-]?)?(?:\([2-9]\d\d\) ?|[2-9]\d\d[-. ])\d{3}[-. ]\d{4}(?![\w-])")
_TRUNK = re.compile(r"(?<![\w$€£.,/-])\(?0\d{1,4}\)?(?:[ /-]\d{2,8}){1,4}(?![\w-])")
_PLUS = re.compile(r"(?<![\w+])\+\d")
_TOLD = re.compile(
    r"[\s:#=.()\-]{0,4}(?:(?:is|number|no|num|nr|es|numero|el|ist|lautet|die|est|le|at|on|to|al|au|under|unter|me)\b[\s:=.#]"
    r"{0,3}){0,4}([+(]{0,2}\d(?:[ \t().\-/]{0,2}+\d){5,17}+)(?!\w)"
)


class Phones:
    """Detector of the kind `phone`.

    Args:
        config: gives the languages of the keywords, and the regions for a contact's language.
    """

    kinds = ("phone",)

    def __init__(self, config: RedactionConfig) -> None:
        self._config = config
        self._said = Phrases(listed(config.languages, "phones"))

    def find(self, view: View) -> Iterator[Span]:
        """Every telephone number, in order and apart."""
        if not view.has_digits:
            return
        clear = view.without(apart(Span(m.start(), m.end(), "") for m in _NOT_PHONE.finditer(view.text)))
        found = [Span(m.start(), m.end(), "phone") for shape in (_AMERICAN, _TRUNK) for m in shape.finditer(clear.text)]
        found = [span for span in found if _digits(clear.text[span.start : span.end]) in range(9, MOST + 1)]
        for _, last in self._said.found(clear):
            told = _TOLD.match(clear.flat, clear.words[last].end)
            if told is not None:
                found.append(Span(told.start(1), told.end(1), "phone"))
        regions, asked = self._config.regions_for(view.language), 0
        for run in _RUN.finditer(clear.text):
            digits = _digits(run[0])
            if digits > TABLE:
                found += _in_table(clear.text, run.start(), run.end())
            elif digits >= FEWEST:
                asked += 1
                if asked > ASKED:
                    found.append(Span(run.start(), run.end(), "phone"))
                else:
                    found += _in_run(clear.text, run.start(), run.end(), regions)
        yield from apart(found)


def _in_table(text: str, start: int, end: int) -> Iterator[Span]:
    for group in _LONG_GROUP.finditer(text, start, end):
        if group.end() - group.start() <= MOST:
            yield Span(group.start(), group.end(), "phone")


def _in_run(text: str, start: int, end: int, regions: Iterable[str]) -> Iterator[Span]:
    # The library looks at the character before a number and at what follows it, such as an extension.
    begin = max(start - 1, 0)
    window = text[begin : end + 12]
    for first, last in numbers_in(window, tuple(regions), _PLUS.search(window) is not None):
        if begin + first < end:
            yield Span(begin + first, begin + last, "phone")


def numbers_in(window: str, regions: tuple[str, ...], plus: bool) -> tuple[tuple[int, int], ...]:
    """(start, end) of the numbers that the library finds in a short stretch of text, for any of the regions.

    Args:
        window: at most some sixty characters.
        regions: whose national numbers count.
        plus: whether the stretch holds a number with a plus, for which a possible length is enough.
    """
    found = [
        Span(match.start, match.end, "phone")
        for region in regions
        for match in PhoneNumberMatcher(window, region, Leniency.VALID, TRIES)
    ]
    if plus:
        matches = PhoneNumberMatcher(window, None, Leniency.POSSIBLE, TRIES)
        found += [Span(match.start, match.end, "phone") for match in matches]
    return tuple((span.start, span.end) for span in apart(found))


def _digits(text: str) -> int:
    return len(_DIGIT.findall(text))
