"""Card numbers and IBANs: digits that carry their own proof.

Notable: a card number is 13 to 19 digits that pass the Luhn check (ISO/IEC 7812-1), solid or in groups of four or more
with blanks, dashes or dots between them, as they are printed, or read out digit by digit; the first digit must be one
that payment cards have. A random number of that length passes one time in ten, so the grouping is part of the evidence.
An IBAN is checked by python-stdnum: country, structure and the remainder modulo 97 (ISO 13616).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from unicodedata import decimal

from stdnum import iban, luhn, numdb

from twotower.redaction.spans import Span, View, flatten

SHORTEST, LONGEST = 13, 19
# What card numbers begin with: 1 only for UATP (15 digits), 7 and 8 for fuel and health, 0 for none.
FIRST = frozenset("234569")
_GAP = r"[ \t\u00a0\u2009\u202f.\-\u2010\u2011\u2013]"
_RUN = re.compile(rf"\d(?:{_GAP}{{0,2}}+\d)*+")
_GROUP = re.compile(r"\d++")
_SAID = re.compile(
    r"(?<![a-z])(?:card|cards|tarjeta|karte|kreditkarte|kartennummer|carte|visa|mastercard)(?![a-z])[^\d\ufffc]{0,30}+$"
)
_HEXADECIMAL = re.compile(r"[a-f]{1,8}+\d")
_IBAN = re.compile(r"(?<![A-Za-z0-9])[A-Za-z]{2}\d\d(?:[ -]?[A-Za-z0-9]){11,30}")
# The registry of account structures that python-stdnum brings, such as `8!n10!n`.
_COUNTRIES = numdb.get("iban")
_SIZE = re.compile(r"(\d{1,2})!")


class Cards:
    """Detector of the kind `card`."""

    kinds = ("card",)

    def find(self, view: View) -> Iterator[Span]:
        """Every card number, from left to right."""
        if not view.has_digits:
            return
        for run in _RUN.finditer(view.text):
            if run.end() - run.start() < SHORTEST:
                continue
            groups = [(m.start(), m.end()) for m in _GROUP.finditer(view.text, run.start(), run.end())]
            yield from _in_groups(view.text, groups)


def _in_groups(text: str, groups: list[tuple[int, int]]) -> Iterator[Span]:
    first = 0
    while first < len(groups):
        last = _card_from(text, groups, first)
        if last is None:
            first += 1
        else:
            yield Span(groups[first][0], groups[last][1], "card")
            first = last + 1


def _card_from(text: str, groups: list[tuple[int, int]], first: int) -> int | None:
    """The index of the group that ends a card number beginning with group `first`; the longest wins."""
    size = groups[first][1] - groups[first][0]
    if size < 4 and first and groups[first - 1][1] - groups[first - 1][0] == size:
        return None  # in the middle of a series that was looked at from its beginning
    sizes: list[int] = []
    digits, found = "", None
    for last in range(first, len(groups)):
        begin, end = groups[last]
        if len(digits) + end - begin > LONGEST:
            break
        digits += text[begin:end]
        sizes.append(end - begin)
        shaped = len(digits) >= SHORTEST and _printed(sizes, groups, first, last) and not _HEXADECIMAL.match(text, end)
        if shaped and (is_card(digits) or _told(text, groups[first][0])):
            found = last
    return found


def _printed(sizes: list[int], groups: list[tuple[int, int]], first: int, last: int) -> bool:
    """Whether cards are written in such groups."""
    if min(sizes[:-1], default=LONGEST) >= 4 and sizes[-1] >= 3:
        return True
    # Read out in ones, twos or threes: then the whole series must be the number, or every list of small numbers is one.
    size = sizes[0]
    if any(s != size for s in sizes[:-1]) or sizes[-1] > size:
        return False
    return last + 1 == len(groups) or groups[last + 1][1] - groups[last + 1][0] > size


def _told(text: str, start: int) -> bool:
    """Whether it was said before that a card number comes: then one mistyped digit does not make it harmless."""
    return _SAID.search(flatten(text[max(start - 40, 0) : start])) is not None


def is_card(digits: str) -> bool:
    """Whether 13 to 19 decimal digits (of any script) can be a payment card's number."""
    plain = digits if digits.isascii() else "".join(str(decimal(d)) for d in digits)
    if len(set(plain)) == 1:
        return False
    if len(plain) == SHORTEST and plain[0] != "4":
        # Only old Visa cards are that short, and every bar code is.
        return False
    return (plain[0] in FIRST or (plain[0] == "1" and len(plain) == 15)) and bool(luhn.is_valid(plain))


class Ibans:
    """Detector of the kind `iban`."""

    kinds = ("iban",)

    def find(self, view: View) -> Iterator[Span]:
        """Every IBAN, from left to right; where a longer run of blocks holds one, the part that is valid."""
        if not view.has_digits:
            return
        at = 0
        while found := _IBAN.search(view.text, at):
            end = _iban_end(view.text, found.start(), found.end())
            if end is not None:
                yield Span(found.start(), end, "iban")
            at = end or found.start() + 4


def _iban_end(text: str, start: int, end: int) -> int | None:
    """Where the IBAN that begins at `start` ends, at `end` at the latest; None where there is none."""
    compact = text[start:end].replace(" ", "").replace("-", "").upper()
    wanted = iban_length(compact[:2])
    if wanted is None or len(compact) < wanted or not iban.is_valid(compact[:wanted]):
        return None
    at, seen = start, 0
    while seen < wanted:
        seen += text[at] not in " -"
        at += 1
    return None if text[at : at + 1].isalnum() else at


@lru_cache(maxsize=1024)
def iban_length(country: str) -> int | None:
    """How many characters the IBANs of a country have (ISO 3166-1 code); None for countries without."""
    _, found = _COUNTRIES.info(country + "00")[0]
    sizes = _SIZE.findall(found.get("bban", ""))
    return 4 + sum(int(size) for size in sizes) if sizes else None
