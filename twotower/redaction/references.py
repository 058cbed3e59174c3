"""Order ids and other references, and secrets: what stands after the word for it.

Notable: how little suffices depends on what was said. After "order number" two digits are an id; after a bare
"order" it takes five digits that are not an amount, because "order 2 pizzas" and "order the WH-1000XM4" are no ids.
Every match begins at a keyword and looks at a bounded stretch after it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from twotower.redaction.spans import Phrases, Span, View
from twotower.redaction.words import UNITS, flat_words, listed

_GAP = r"[\s:#=.,()'°º\-]{0,4}+"
_TOKEN = r"[a-z0-9]{1,40}(?:[-/_.][a-z0-9]{1,40}){0,6}+"
_GROUPS = re.compile(r"(?: \d{3,40}+(?![.,]\d)){1,4}")
_MIXED = re.compile(r" ([a-z]{1,4}) \d{2,40}+(?![.,]\d)")
_DIGITS = re.compile(r"\d")
_DATE = re.compile(r"\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}")
_AMOUNT = re.compile(r"\d{1,12}\.\d{1,2}")
_LONG = re.compile(r"\d{5,}+")
_LETTERS_DIGITS = re.compile(r"[a-z]{1,4}-?\d{5,}+")
_PAIR = re.compile(r" \d{2,40}")
_CAPITALS = re.compile(r"(?<![A-Z])[A-Z]{6}(?![A-Z])")
_SECRET = re.compile(r"[^\s\ufffc,;\"'<>]{1,60}")
_SECRET_GROUPS = re.compile(r"(?:[ -]\d{2,12}+){1,5}")
_AFTER = re.compile(r"[.,]\d|\s{0,2}([€$£¥%]|[^\W\d_]{1,20})")
_SHAPES = re.compile(
    r"(?<![\w.-])(?:\d{3}-\d{7}-\d{7}|1Z[0-9A-Z]{16}|[A-Z]{2}\d{9}[A-Z]{2}|#\d{5,20}"
    r"|(?:ORD|ORDER|INV|RMA|CASE|TKT|TICKET|REF|PO|SO|BK|INC|REQ)[-_#]?\d{5,20}"
    r"|(?:ord|order|inv|rma|case|tkt|ticket|ref|po|inc|req)[-_#]\d{4,20}"
    r"|(?!CVE|ISO|RFC|GO-)[A-Z]{2,4}-\d{4,8}-\d{4,12})(?![\w-])"
)
# Words that turn a number after "order" into an amount: "order 10000 of them".
_OF = frozenset(("of", "de", "von", "x", "more", "mas", "mehr", "plus"))


class _Told(NamedTuple):
    """What stands between a keyword and its id."""

    end: int
    """Where the id may begin."""
    marked: bool
    """Whether a word or sign announces an id."""
    equal: bool
    """Whether a colon or a verb says "is"."""


class References:
    """Detector of the kinds `order` and `secret`.

    Args:
        languages: whose keywords are looked for.
    """

    kinds = ("order", "secret")

    def __init__(self, languages: Iterable[str]) -> None:
        languages = tuple(languages)
        self._goods = Phrases(listed(languages, "goods"))
        self._records = Phrases(listed(languages, "records"))
        self._secrets = Phrases(listed(languages, "secrets"))
        self._markers = flat_words(languages, "markers")
        self._german = "de" in languages
        self._others = flat_words(languages, "others")
        fillers = sorted(self._markers | flat_words(languages, "fillers"), key=len, reverse=True)
        self._filler = re.compile(rf"{_GAP}({'|'.join(map(re.escape, fillers))})(?![a-z0-9])")
        self._gap, self._token = re.compile(_GAP), re.compile(_TOKEN)

    def find(self, view: View) -> Iterator[Span]:
        """References and secrets, from left to right by kind; they may overlap."""
        if view.has_digits or _CAPITALS.search(view.text):
            for shape in _SHAPES.finditer(view.text):
                yield Span(shape.start(), shape.end(), "order")
            for first, last in self._records.found(view):
                yield from self._reference(view, first, last, goods=False)
            for first, last in self._goods.found(view):
                yield from self._reference(view, first, last, goods=True)
            if self._german:
                yield from self._compounds(view)
        for _, last in self._secrets.found(view):
            yield from self._secret(view, last)

    def _compounds(self, view: View) -> Iterator[Span]:
        """German nouns that end in -nummer: every one names an id except those of telephones and houses."""
        for word in view.words:
            if word.flat.endswith(("nummer", "nr")) and len(word.flat) > 6:
                if word.flat.startswith(("telefon", "handy", "ruf", "mobil", "haus", "ruckruf", "model", "artikel")):
                    continue
                told = self._told(view, word.end)
                yield from self._id(view, told._replace(marked=True), goods=False)

    def _reference(self, view: View, first: int, last: int, goods: bool) -> Iterator[Span]:
        told = self._told(view, view.words[last].end)
        if not told.marked and self._marked_before(view, first):
            told = told._replace(marked=True)
        yield from self._id(view, told, goods)

    def _marked_before(self, view: View, first: int) -> bool:
        """ "número de pedido", "numéro de ma commande": the marker comes first."""
        before = [word.flat for word in view.words[max(first - 3, 0) : first]]
        return (
            len(before) >= 2
            and before[-1] in ("de", "du", "ma", "mi", "tu", "votre", "la")
            and (before[-2] in self._markers or before[0] in self._markers)
        )

    def _told(self, view: View, at: int) -> _Told:
        """Reads over fillers and markers after a keyword, at most four."""
        flat, begin, marked = view.flat, at, False
        for _ in range(4):
            filler = self._filler.match(flat, at)
            if filler is None:
                break
            marked |= filler[1] in self._markers
            at = filler.end()
        gap = self._gap.match(flat, at)
        end = at if gap is None else gap.end()
        between = flat[begin:end]
        return _Told(end, marked or "#" in between, at > begin or ":" in between or "=" in between)

    def _id(self, view: View, told: _Told, goods: bool) -> Iterator[Span]:
        token = self._token.match(view.flat, told.end)
        if token is None:
            return
        end, text = token.end(), token[0]
        if told.marked and text.isalpha() and len(text) <= 5 and text not in self._others:
            # "confirmation number def 987654"
            more = _PAIR.match(view.flat, end)
            if more is not None:
                end, text = more.end(), text + more[0]
        if not self._is_id(view, text, told, end, goods):
            return
        groups = _GROUPS.match(view.flat, end) or (_MIXED.match(view.flat, end) if told.marked else None)
        if groups is not None and groups.re is _MIXED and groups[1] in self._others:
            groups = None
        if groups is not None and not _is_amount(view, groups.end()):
            end = groups.end()
        yield Span(told.end, end, "order")

    def _is_id(self, view: View, text: str, told: _Told, end: int, goods: bool) -> bool:
        digits = len(_DIGITS.findall(text))
        if told.marked:
            if len(text) <= 4 and text.isdecimal() and _is_amount(view, end):
                return False  # "no" announces a number and denies: "my account, no 30 days later"
            return (digits >= 1 and len(text) >= 2) or _is_locator(view.text[told.end : end], text, self._others)
        if digits < 2 or _DATE.fullmatch(text) or _AMOUNT.fullmatch(text) or _is_amount(view, end):
            return False
        if _LONG.fullmatch(text) or _LETTERS_DIGITS.fullmatch(text) or (not goods and 4 <= digits < len(text)):
            return True
        written = view.text[told.end : end]
        return not goods and told.equal and digits < len(text) >= 5 and written == written.upper()

    def _secret(self, view: View, last: int) -> Iterator[Span]:
        """A code has a digit; a password may be any word, but then it takes a colon to tell it from a sentence."""
        end = view.words[last].end
        told = self._told(view, end)
        found = _SECRET.match(view.text, told.end)
        if found is None:
            return
        text = found[0].rstrip(".!?:)")
        stop = told.end + len(text)
        coded = _DIGITS.search(text) is not None and len(text) >= 3
        between = view.text[end : told.end]
        written = (":" in between or "=" in between) and len(text) >= 4
        if coded or (written and view.flat[told.end : stop] not in self._others):
            groups = _SECRET_GROUPS.match(view.flat, stop)
            yield Span(told.end, groups.end() if groups else stop, "secret")


def _is_locator(written: str, text: str, others: frozenset[str]) -> bool:
    """Whether six capitals are an airline's or hotel's locator rather than a word."""
    return len(text) == 6 and text.isalpha() and written.isupper() and text not in others


def _is_amount(view: View, end: int) -> bool:
    """Whether what stands after a number makes it an amount."""
    after = _AFTER.match(view.flat, end)
    if after is None:
        return False
    word = after[1]
    return word is None or word in "€$£¥%" or word in UNITS or word in _OF
