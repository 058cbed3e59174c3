"""Names where speech gives them away, and names that the customer's record holds.

Notable: without a model of names the evidence is the company they keep: "my name is", a title, a greeting's or letter's
end. How sure that is decides how a name must be written: after "my name is" any words that are not among the language's
common ones, after "I am" only two capitalised words or one before "speaking". Chat is mostly in lower case, so capitals
cannot be asked for everywhere. What no phrase announces is not found; `Redactor` takes further detectors for that.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from twotower.redaction.spans import Phrases, Span, View, Word, flatten
from twotower.redaction.words import flat_phrases, flat_words, listed, word_set

PARTICLES = word_set("de del la los las van von der den di da dos du le bin al el y e o mc mac san st ter ten zu")
MOST = 4
"""Words of a name."""
_ALSO_WORDS = word_set(
    "art bill bob chase chip christian dale dawn drew faith frank gene grace grant guy hope jack jean joy june kit luz"
    " lance mar mark max may miles nick norm page pat paz penny pierre ray rich rob rose ruby sandy sky sol sue summer"
    " tim wade ward will brown case cook green king lane long park price read stone white wood young klein lang gross"
    " bella cruz flores rosa reyes leon petit roy"
)
_LABELS_OF_NAMES = word_set("name nombre nom vorname nachname apellidos prenom")
_LABELS = word_set("address addresses ac city state street dirección ciudad adresse ville stadt dob")
# Abbreviated sign-offs have a line or sentence to themselves: LG also makes telephones.
_SHORT = frozenset(("lg", "vg", "mfg"))
_BREAK = re.compile(r"(?:\A|[\n.!?,]) ?\Z")
_PART = re.compile(r"[^\W\d_]{2,40}")
_FIRST_IDEOGRAPH = "\u2e80"
_INSIDE = frozenset((" ", "-", "'", "’"))
_START = re.compile(r"[\s:,.=\-]{0,4}+")
_BLANKS = re.compile(r"[ \t]{1,2}")
_TITLED = re.compile(r"\.?[ \t]{1,2}")
_END = re.compile(r"[ \t]{0,3}[.!]?[ \t]{0,3}(?:\n|\Z)")
_GREETED = re.compile(r"[ \t]{0,2}(?:[,!.:\n-]|\Z)")
_CLOSED = re.compile(r"[ \t]{0,3}(?:[,.!:-][ \t]{0,3}\n?|\n)\s{0,4}|[ \t]{1,3}")
_THANKED = re.compile(r"[ \t]{0,3}(?:,\s{0,4}|[.!,]?[ \t]{0,3}\n\s{0,4}|[ \t]?[-–][ \t]?)")


class Names:
    """Detector of the kind `name`.

    Args:
        languages: whose phrases are looked for.
    """

    kinds = ("name",)

    def __init__(self, languages: Iterable[str]) -> None:
        languages = tuple(languages)
        self._told, self._maybe = Phrases(listed(languages, "names")), Phrases(listed(languages, "maybe_names"))
        self._titles = Phrases(listed(languages, "titles"))
        self._greetings, self._closings = (
            Phrases(listed(languages, "greetings")),
            Phrases(listed(languages, "closings")),
        )
        self._thanks = Phrases(listed(languages, "thanks"))
        # What announces something else is no name either: "name anna ssn 1234".
        fields = ("others", "goods", "records", "secrets", "postcodes", "phones", "markers")
        self._others = frozenset().union(*(flat_words(languages, field) for field in fields)) | _LABELS
        self._speaking = flat_words(languages, "speaking")
        self._title_words = flat_phrases(languages, "titles")
        self._closing_words = flat_phrases(languages, "closings")

    def find(self, view: View) -> Iterator[Span]:
        """Names by what gave them away; they may overlap."""
        yield from known_names(view, self._others)
        for _, last in self._told.found(view):
            yield from self._after(view, last, any_case=True)
        for _, last in self._maybe.found(view):
            yield from self._introduced(view, last)
        for _, last in self._titles.found(view):
            yield from self._titled(view, last)
        for _, last in self._greetings.found(view):
            # "Liebe" greets somebody, "Liebe Grüße" nobody.
            if any(word.flat in self._closing_words for word in view.words[last + 1 : last + 2]):
                continue
            yield from self._ended(view, last, _BLANKS, _GREETED, any_case=False)
        for first, last in self._closings.found(view):
            begin = view.words[first].start
            if view.words[last].flat in _SHORT and not _BREAK.search(view.text, max(begin - 3, 0), begin):
                continue
            yield from self._ended(view, last, _CLOSED, _END, any_case=True)
        for _, last in self._thanks.found(view):
            yield from self._ended(view, last, _THANKED, _END, any_case=False)
        yield from self._form(view)

    def _words(self, view: View, index: int, any_case: bool) -> list[Word]:
        """The words of a name that begins with the word `index`; none where that is no name."""
        found: list[Word] = []
        for word in view.words[index : index + MOST]:
            if found and not _joined(view, found[-1], word):
                break
            capital = view.capital(word)
            if not word.flat.isalpha() or (word.flat in self._others and not (found and word.flat in PARTICLES)):
                break
            # What began in capitals goes on in capitals; two words in lower case are enough.
            small = word.flat in PARTICLES if found and view.capital(found[0]) else any_case and len(found) < 2
            if not (capital or small):
                break
            found.append(word)
        while found and found[-1].flat in PARTICLES:
            found.pop()
        return found

    def _next(self, view: View, last: int, gap: re.Pattern[str]) -> int | None:
        """The index of the word after the word `last`, if nothing but the gap lies between them."""
        if last + 1 >= len(view.words):
            return None
        between = gap.match(view.text, view.words[last].end)
        return last + 1 if between is not None and between.end() == view.words[last + 1].start else None

    def _after(self, view: View, last: int, any_case: bool) -> Iterator[Span]:
        index = self._next(view, last, _START)
        if index is not None and view.words[index].flat in self._title_words:
            index = self._next(view, index, _START)
        if index is not None:
            yield from _span(self._words(view, index, any_case))

    def _introduced(self, view: View, last: int) -> Iterator[Span]:
        index = self._next(view, last, _BLANKS)
        words = [] if index is None else self._words(view, index, any_case=False)
        if index is None or not words:
            return
        after = view.words[index + len(words)] if index + len(words) < len(view.words) else None
        speaking = after is not None and after.flat in self._speaking and view.between(words[-1], after) in (" ", ", ")
        apart = len(words) > 1 and view.between(words[0], words[-1]) != "-"
        if apart or speaking:
            yield from _span(words)

    def _titled(self, view: View, last: int) -> Iterator[Span]:
        title = view.words[last]
        dotted = view.text[title.end : title.end + 1] == "."
        if title.flat == "m" and not (dotted and view.capital(title)):
            return
        index = self._next(view, last, _TITLED)
        if index is not None:
            yield from _span(self._words(view, index, any_case=title.flat in ("mr", "mrs")))

    def _ended(
        self, view: View, last: int, gap: re.Pattern[str], end: re.Pattern[str], any_case: bool
    ) -> Iterator[Span]:
        index = self._next(view, last, gap)
        if index is not None and view.words[index].flat in self._title_words:
            return  # what follows a title is found by it
        words = [] if index is None else self._words(view, index, any_case)
        if words and end.match(view.text, words[-1].end) is not None:
            yield from _span(words)

    def _form(self, view: View) -> Iterator[Span]:
        """ "Name: Anna Smith" at the beginning of a line; "name anna smith" and "my name anna" as all that is said."""
        for index, word in enumerate(view.words):
            if word.flat not in _LABELS_OF_NAMES:
                continue
            line = word.start == 0 or view.text[word.start - 1] == "\n"
            labelled = line and view.text[word.end : word.end + 1] in (":", "=")
            if labelled or index == 0 or (index == 1 and view.words[0].flat == "my"):
                verb = index + 1 < len(view.words) and view.words[index + 1].flat in ("is", "es", "ist", "est")
                yield from self._after(view, index + 1 if verb else index, any_case=True)


def known_names(view: View, others: frozenset[str] = frozenset()) -> Iterator[Span]:
    """Where the names of the customer's record stand.

    Two of their words side by side count in any case. One alone counts where it is capitalised, and in lower case too
    unless it is a word of the language as well: "Will" is a name, "will" a verb.

    Args:
        view: the text and the names.
        others: flat common words; one of them alone in lower case is no name.
    """
    parts = {flatten(found[0]) for name in view.names for found in _PART.finditer(name)} - PARTICLES
    if parts:
        yield from _known_words(view, parts, others)
    for name in view.names:
        # Scripts without blanks between words have no words to compare.
        if name and max(name) > _FIRST_IDEOGRAPH:
            yield from (Span(m.start(), m.end(), "name") for m in re.finditer(re.escape(name), view.text))


def _known_words(view: View, parts: set[str], others: frozenset[str]) -> Iterator[Span]:
    run: list[Word] = []
    for word in [*view.words, None]:
        joined = word is not None and run and _joined(view, run[-1], word)
        if word is not None and joined and (word.flat in parts or word.flat in PARTICLES):
            run.append(word)
            continue
        while run and run[-1].flat in PARTICLES:
            run.pop()
        common = len(run) == 1 and (run[0].flat in others or run[0].flat in _ALSO_WORDS)
        alone = len(run) == 1 and (view.capital(run[0]) or not common)
        if len(run) > 1 or alone:
            yield from _span(run)
        run = [word] if word is not None and word.flat in parts else []


def _joined(view: View, left: Word, right: Word) -> bool:
    """Whether two words can belong to one name; a full stop between them ends an initial, not a sentence."""
    between = view.between(left, right)
    return between in _INSIDE or (between in (". ", ".") and right.start - left.start <= 4)


def _span(words: list[Word]) -> Iterator[Span]:
    if words:
        yield Span(words[0].start, words[-1].end, "name")
