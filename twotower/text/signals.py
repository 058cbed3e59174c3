"""What a message says besides its topic: mood, urgency, manner, length, how many issues it names.

Notable: one regular expression and one dictionary look-up a token, in plain Python, so a contact in the router costs
tens of microseconds and is computed by the code that computed the table: alone or in a batch, the same bits. Every
signal is bounded. In a language without a lexicon the signals that need words tell of marks alone (capitals,
exclamation marks, emoticons), and `lexicon_known` says so.

Source: the arithmetic of feelings follows VADER (Hutto and Gilbert, ICWSM 2014): a negator turns a feeling within the
next three words to −0.74 of it, an intensifier scales it, the total t becomes t / √(t² + 15). Unlike there, turned
blame is hardly praise ("not bad": −0.3 of it), and a negation ends with its clause. The word lists are this project's
own; k in n / (n + k) is set so that one strong word gives about a half.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import log1p, sqrt

import numpy as np
import numpy.typing as npt

from twotower.text.identify import fill_languages
from twotower.text.lexicon import NO_WORDS, Lexicon, lexicons
from twotower.text.reading import MOST_CHARACTERS, Reading, read

MOST_ISSUES = 10.0
MOST_LETTERS = 20.0
VADER_ALPHA = 15.0
FACE = 1.5  # the strength of an emoticon
STRONG = 2.0  # a feeling of at least this strength counts as emotion


@dataclass(frozen=True, slots=True)
class Signal:
    """One number told of a text: its unit, the bounds that it never leaves, what it means."""

    name: str
    unit: str
    low: float
    high: float
    meaning: str


SIGNALS: tuple[Signal, ...] = (
    Signal("words", "log(1 + words)", 0.0, log1p(MOST_CHARACTERS), "length; a script without spaces counts runs"),
    Signal("words_per_sentence", "log(1 + words)", 0.0, log1p(MOST_CHARACTERS), "verbosity: the mean sentence"),
    Signal("letters_per_word", "letters", 0.0, MOST_LETTERS, "the mean word, 20 at most"),
    Signal("question_marks", "n / (n + 1)", 0.0, 1.0, "runs of question marks"),
    Signal("exclamation_marks", "n / (n + 2)", 0.0, 1.0, "exclamation marks"),
    Signal("shouted", "share of words", 0.0, 1.0, "words of four or more letters, all capitals"),
    Signal("numerals", "share of words and numbers", 0.0, 1.0, "numbers: amounts, dates, references"),
    Signal("emoticons", "(p − n) / (p + n + 1)", -1.0, 1.0, "cheerful less sad emoticons and emoji"),
    Signal("issues_named", "issues", 0.0, MOST_ISSUES, "1, and more for list items and words like 'another thing'"),
    Signal("lexicon_known", "0 or 1", 0.0, 1.0, "whether the language has a lexicon, which all below need"),
    Signal("sentiment", "t / √(t² + 15)", -1.0, 1.0, "praise against blame, negations and emphasis heeded"),
    Signal("upset", "n / (n + 3)", 0.0, 1.0, "anger, being fed up, threats to leave or sue, abuse, shouting"),
    Signal("emotion", "n / (n + 6)", 0.0, 1.0, "strong feelings of either kind, shouting, exclamations"),
    Signal("urgency", "n / (n + 3)", 0.0, 1.0, "deadlines, haste, emergencies"),
    Signal("negations", "n / (n + 2)", 0.0, 1.0, "negating words"),
    Signal("politeness", "(p − r) / (p + r + 2)", -1.0, 1.0, "please, thanks and greetings against abuse"),
    Signal("formality", "(f − i) / (f + i + 4)", -1.0, 1.0, "formal against informal address and wording"),
)


def signals(texts: Sequence[str | None], languages: Sequence[str | None] | None = None) -> npt.NDArray[np.float32]:
    """Signals (N, S) float32 of N texts, columns as in `SIGNALS`; each row depends on its own text and language alone.

    `languages`: BCP-47 tags, of which the base language counts ("en-GB" is "en"); null ones are identified from the
    text. None and empty texts give 0 everywhere but in `lexicon_known`. Texts are read up to
    `reading.MOST_CHARACTERS`; NUL bytes and lone surrogates are no words. Raises ValueError where lengths differ.
    """
    known = lexicons()
    tags = fill_languages(texts, languages)
    rows = [_row(text or "", known.get(tag or "")) for text, tag in zip(texts, tags, strict=True)]
    return np.array(rows, dtype=np.float32).reshape(len(rows), len(SIGNALS))


def _row(text: str, lexicon: Lexicon | None) -> tuple[float, ...]:
    found = read(text, lexicon or NO_WORDS)
    return (*_plain(found), float(lexicon is not None), *_told(found))


def _plain(found: Reading) -> tuple[float, ...]:
    """The signals up to `issues_named`."""
    words, numbers = max(found.words, 1), found.numbers
    anything = bool(found.words or numbers or found.cheerful or found.sad)
    return (
        log1p(found.words),
        log1p(found.words / max(found.sentences, 1)),
        min(found.letters / words, MOST_LETTERS),
        _saturated(found.questions, 1),
        _saturated(found.exclamations, 2),
        found.shouted / words,
        numbers / max(found.words + numbers, 1),
        _balance(found.cheerful, found.sad, 1),
        min(anything + found.issues + max(found.listed - 1, 0), MOST_ISSUES),
    )


def _told(found: Reading) -> tuple[float, ...]:
    """The signals after `lexicon_known`."""
    shouting = min(4 * found.shouted / max(found.words, 1), 1.0)
    emphasis = 1 + 0.1 * min(found.exclamations, 3) + 0.2 * (found.shouted > 0)
    total = (sum(found.feelings) + FACE * (found.cheerful - found.sad)) * emphasis
    upset = (found.upset + FACE * found.sad) * emphasis + 0.5 * min(found.pressed, 2) + shouting
    strong = sum(abs(feeling) for feeling in found.feelings if abs(feeling) >= STRONG)
    faces = FACE * (found.cheerful + found.sad)
    return (
        total / sqrt(total * total + VADER_ALPHA),
        _saturated(upset, 3),
        _saturated(strong + upset + faces + 0.5 * min(found.exclamations, 4) + shouting, 6),
        _saturated(found.urgency * emphasis, 3),
        _saturated(found.negations, 2),
        _balance(found.polite, found.rude, 2),
        _balance(found.formal, found.informal, 4),
    )


def _saturated(n: float, k: float) -> float:
    return n / (n + k)


def _balance(more: float, less: float, k: float) -> float:
    return (more - less) / (more + less + k)
