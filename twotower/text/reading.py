"""One walk over a text: what its words, marks and numerals add up to.

Notable: a negator turns the feelings of the next three words up to the end of its clause, an intensifier strengthens
the next two, and where a language puts its negator last (German: "das gefällt mir nicht") it turns what stands before.
Words that say nothing cost one dictionary look-up.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, field

from twotower.text.lexicon import NUMBER, WORD, Lexicon, Meaning, Word

MOST_CHARACTERS = 4_000  # read of a text; some 700 words, within a millisecond
NEGATED_WORDS, SCALED_WORDS = 3, 2  # after a negator, after an intensifier
TURNED_PRAISE, TURNED_BLAME = -0.74, -0.3
SPOILT_PRAISE = 0.3  # of turned praise ("not happy") is upset

_FACES = {"🙂😊😀😃😄😁😍🥰😘👍🙏💕💖✨🎉🤗👏😌❤☺": 1, "😠😡🤬😤👎😞😢😭😩😒🙁☹😔😖😫🙄💔😣😕": -1}
EMOTICONS = {
    **{eyes + nose + mouth: 1 for eyes in ":;=" for nose in ("", "-") for mouth in ")DP"},
    **{eyes + nose + "(": -1 for eyes in ":=" for nose in ("", "-", "'")},
    **{face: value for faces, value in _FACES.items() for face in faces},
}
_LOUD = frozenset("!?！？؟")
_ENDS = _LOUD | frozenset(".…\n。")  # of a sentence
_MARKS = _ENDS | frozenset(",;:¿¡，،")  # of a clause
_TOKEN = re.compile(rf"{WORD}|{NUMBER}|[:;=][-']?[)DP(](?!\w)|[!?！？؟]+|\.+|[,;:\n…。¿¡，،]|[{''.join(_FACES)}]")
_ADDRESS = re.compile(r"(?:https?://|www\.)\S*", re.IGNORECASE)
_BULLETS = " \t-*•–0123456789"  # what a text that begins with a list may begin with
_LISTED = re.compile(r"(?:^|\n)[ \t]*(?:[-*•–]|\d{1,2}[.)])[ \t]|(?<=\s)[1-9]\)[ \t]")


@dataclass(slots=True)
class Reading:
    """What was found: counts of marks, and strengths of what words say. Positions count words from 1."""

    words: int = 0
    letters: int = 0
    numbers: int = 0
    sentences: int = 0
    listed: int = 0
    questions: int = 0  # runs of question marks
    pressed: int = 0  # … of more than one
    exclamations: int = 0
    cheerful: int = 0
    sad: int = 0
    shouted: int = 0
    negations: int = 0
    upset: float = 0.0
    urgency: float = 0.0
    polite: float = 0.0
    rude: float = 0.0
    formal: float = 0.0
    informal: float = 0.0
    issues: float = 0.0
    feelings: list[float] = field(default_factory=list)

    _sentence_from: int = 0
    _felt_at: int = 0
    _negated_at: int = 0
    _negated_to: int = 0
    _scale: float = 1.0
    _scaled_from: int = 0
    _scaled_to: int = 0
    _lends: bool = False

    def clause_ends(self, reach_back: bool) -> None:
        """Nothing reaches over the end of a clause; a negator that stands there turns the praise before it."""
        if (
            reach_back
            and self._felt_at
            and self._negated_at == self.words
            and self.words - self._felt_at <= NEGATED_WORDS
            and self.feelings[-1] > 0
        ):
            self.upset += SPOILT_PRAISE * self.feelings[-1]
            self.feelings[-1] *= TURNED_PRAISE
        self._felt_at = self._negated_to = self._scaled_to = 0

    def sentence_ends(self) -> None:
        """A sentence has at least a word."""
        if self.words > self._sentence_from:
            self.sentences += 1
            self._sentence_from = self.words

    def mark(self, token: str) -> None:
        """Punctuation that ends a sentence."""
        self.sentence_ends()
        if token[0] in _LOUD:
            asked = sum(map(token.count, "?？؟"))
            self.questions += asked > 0
            self.pressed += asked > 1
            self.exclamations += len(token) - asked

    def word(self, meaning: Meaning, last: int) -> None:
        """An entry that begins at word `self.words` and ends at word `last`."""
        if meaning.sentiment or meaning.urgency:
            self._feel(meaning, last)
        self.issues += meaning.issues
        self.polite += meaning.polite
        self.rude += meaning.rude
        self.formal += meaning.formal
        self.informal += meaning.informal
        self.negations += meaning.negations
        if meaning.scale != 1.0:
            self._scale, self._scaled_from, self._scaled_to = meaning.scale, last, last + SCALED_WORDS
            self._lends = meaning.sentiment != 0
        if meaning.negates:
            self._negated_at, self._negated_to = last, last + NEGATED_WORDS

    def _feel(self, meaning: Meaning, last: int) -> None:
        scale = self._scale if self.words <= self._scaled_to else 1.0
        turned = self.words <= self._negated_to
        feeling = meaning.sentiment * scale
        if feeling and self._lends and self.words == self._scaled_from + 1:
            self.feelings.pop()  # "terribly kind": the first word only strengthens the second
        self._lends = False
        if turned:
            self.upset += SPOILT_PRAISE * max(feeling, 0.0)
            feeling *= TURNED_PRAISE if feeling > 0 else TURNED_BLAME
        else:
            self.upset += meaning.upset * scale
            self.urgency += meaning.urgency * scale
        if feeling:
            self.feelings.append(feeling)
            # What a negator turned already is out of reach for one that ends the clause.
            self._felt_at = 0 if turned else last


def read(text: str, lexicon: Lexicon) -> Reading:
    """Read a text up to `MOST_CHARACTERS` with the words of one language. Addresses of the web are passed over."""
    text = text[:MOST_CHARACTERS]
    if not text.isascii():
        text = unicodedata.normalize("NFC", text)
    if "//" in text or "www." in text:
        text = _ADDRESS.sub(" ", text)
    reading = Reading()
    tokens = _TOKEN.findall(text)
    _walk(tokens, reading, lexicon)
    if "\n" in text or ") " in text or ")\t" in text or text[:1] in _BULLETS:
        reading.listed = len(_LISTED.findall(text))
    return reading


def _walk(tokens: list[str], reading: Reading, lexicon: Lexicon) -> None:
    taken = 0  # tokens before this one belong to a phrase that was found
    for i, token in enumerate(tokens):
        first = token[0]
        if first.isalpha():
            reading.words += 1
            reading.letters += len(token)
            found = lexicon.find(token)
            if found is not None:
                reading.shouted += found.shouted
                if i >= taken:
                    taken = _take(found, tokens, i, reading, lexicon)
        elif first.isdecimal():
            reading.numbers += 1
        elif token in EMOTICONS:
            reading.cheerful += EMOTICONS[token] > 0
            reading.sad += EMOTICONS[token] < 0
        elif first in _MARKS:
            reading.clause_ends(lexicon.negators_reach_back)
            if first in _ENDS:
                reading.mark(token)
    reading.clause_ends(lexicon.negators_reach_back)
    reading.sentence_ends()


def _take(found: Word, tokens: list[str], i: int, reading: Reading, lexicon: Lexicon) -> int:
    """Add the longest entry that begins at token i; the index of the token after it."""
    last = reading.words
    meaning, after = lexicon.longest(found.tails, tokens, i + 1) if found.tails else (None, i + 1)
    if meaning is None:
        meaning = found.meaning
    else:
        last += sum(token[0].isalpha() for token in tokens[i + 1 : after])
    if meaning is None:
        return after
    if meaning.breaks:
        reading.words -= 1
        reading.clause_ends(lexicon.negators_reach_back)
        reading.words += 1
    reading.word(meaning, last)
    return after
