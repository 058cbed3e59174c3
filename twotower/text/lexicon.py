"""What words say of a customer's mood and manner: hand-written lists, one TOML file a language, checked when loaded.

Notable: an entry is a word, a stem (`frustrat*`) or a phrase (`waste of time`), written as people write it; the loader
folds case, accents and apostrophes in entries and texts alike. What a token means is worked out once and remembered,
so a text costs one dictionary look-up a token. A new language is a new file in `lexicons/` and nothing else.

Sections of a file, each with strengths `weak` (1), `plain` (2), `strong` (3) of comma-separated entries:

- `positive`, `negative`: sentiment. `upset`: an angry or fed-up customer, which is negative sentiment too. `rude`:
  abuse and swearing, which is upset and impolite too. An entry stands in one of these four at most.
- `urgency`, `polite`, `formal`, `informal`.
- `more`, `less`: strengthen or weaken the feeling after them. `negators` turn it. `breaks`: words that end a clause.
- `connectors`: announce another issue (`weak` ones half the time).
"""

from __future__ import annotations

import re
import tomllib
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.resources import files
from typing import Any, NamedTuple

from twotower.errors import ConfigError

STRENGTHS = {"weak": 1.0, "plain": 2.0, "strong": 3.0}

# section → what an entry of strength 1 adds to
SECTIONS: dict[str, dict[str, float]] = {
    "positive": {"sentiment": 1.0},
    "negative": {"sentiment": -1.0},
    "upset": {"sentiment": -0.75, "upset": 1.0},
    "rude": {"sentiment": -0.75, "upset": 0.75, "rude": 1.0},
    "urgency": {"urgency": 1.0},
    "polite": {"polite": 1.0},
    "formal": {"formal": 1.0},
    "informal": {"informal": 1.0},
    "connectors": {"issues": 0.5},
    "more": {},
    "less": {},
    "negators": {},
    "breaks": {},
}
FEELINGS = ("positive", "negative", "upset", "rude")
MORE, LESS = 1.3, 0.6  # VADER strengthens by 0.29 of a word of 1 to 4 and weakens by as much

WORD = r"[^\W\d_]+(?:['’`´][^\W\d_]+)*"
NUMBER = r"\d+(?:[.,:/-]\d+)*"
_PARTS = re.compile(f"{WORD}|{NUMBER}")
_STRETCHED = re.compile(r"(.)\1\1+")
_MARKS = str.maketrans(dict.fromkeys("’`´", "'"))
_DIGRAPHS = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue"})
SHORTEST_STEM = 3
LONGEST_WORD = 40  # characters; longer words are in no lexicon and are not remembered
MOST_REMEMBERED = 50_000  # tokens of a language, some 5 MB
SHORTEST_SHOUT = 4  # letters: shorter words in capitals are mostly abbreviations (ATM, PIN)


@dataclass(frozen=True, slots=True)
class Meaning:
    """What an entry adds to each signal; `scale` strengthens or weakens the next feeling, 1 does neither."""

    sentiment: float = 0.0
    upset: float = 0.0
    urgency: float = 0.0
    polite: float = 0.0
    rude: float = 0.0
    formal: float = 0.0
    informal: float = 0.0
    issues: float = 0.0
    scale: float = 1.0
    negations: int = 0
    negates: bool = False
    breaks: bool = False


class Tails(NamedTuple):
    """What may follow the words so far: next word → the tails after it; `meaning` where an entry ends here."""

    meaning: Meaning | None
    after: dict[str, Tails]


@dataclass(frozen=True, slots=True)
class Word:
    """A token that says something: its own meaning, phrases it may begin, whether it is shouted."""

    meaning: Meaning | None
    tails: dict[str, Tails]
    shouted: bool


@dataclass(frozen=True)
class Lexicon:
    """The entries of one language, folded. `find` is what a reader of texts calls."""

    language: str
    tags: tuple[str, ...]
    accents: str
    elisions: tuple[str, ...]
    negators_reach_back: bool
    words: dict[str, Meaning]
    stems: dict[str, Meaning]
    tails: dict[str, dict[str, Tails]]
    _known: dict[str, Word | None] = field(default_factory=dict, repr=False)

    @classmethod
    def parse(cls, language: str, text: str) -> Lexicon:
        """Read a lexicon's TOML. Raises ConfigError naming file, section, entry and what is wrong with it."""
        return _Reader(language, text).lexicon()

    def find(self, token: str) -> Word | None:
        """What a word of a text says, or None for a word that says nothing and is not shouted."""
        try:
            return self._known[token]
        except KeyError:
            word = self._read(token)
        if len(token) <= LONGEST_WORD:
            if len(self._known) >= MOST_REMEMBERED:
                self._known.clear()
            self._known[token] = word
        return word

    def fold(self, token: str) -> str:
        """A word as entries are kept: case, kinds of apostrophe and, where the language says so, accents removed."""
        return fold(token, self.accents)

    def longest(self, tails: dict[str, Tails], tokens: list[str], start: int) -> tuple[Meaning | None, int]:
        """The meaning of the longest phrase that goes on at `tokens[start]`, and the index after it; None if none."""
        found, end = None, start
        for i in range(start, len(tokens)):
            token = tokens[i]
            # A word with a capital in an entry is compared as it is written, all others folded.
            reached = tails.get(token) or tails.get(token if token.islower() and token.isascii() else self.fold(token))
            if reached is None:
                break
            if reached.meaning is not None:
                found, end = reached.meaning, i + 1
            if not (tails := reached.after):
                break
        return found, end

    def _read(self, token: str) -> Word | None:
        shouted = len(token) >= SHORTEST_SHOUT and token.isupper()
        forms = list(self._forms(token))
        meaning = next(filter(None, (self.words.get(form) or self._by_stem(form) for form in forms)), None)
        tails = next((self.tails[form] for form in forms if form in self.tails), _NO_TAILS)
        return Word(meaning, tails, shouted) if meaning or tails or shouted else None

    def _forms(self, token: str) -> Iterator[str]:
        """The ways in which an entry may hold the token: cased, folded, without elision, without stretched letters."""
        if len(token) > LONGEST_WORD:
            return
        folded = self.fold(token)
        yield token
        yield folded
        head, mark, tail = folded.partition("'")
        if mark and head in self.elisions:
            yield (folded := tail)
        if _STRETCHED.search(folded):
            yield _STRETCHED.sub(r"\1", folded)
            yield _STRETCHED.sub(r"\1\1", folded)

    def _by_stem(self, form: str) -> Meaning | None:
        lengths = range(len(form), SHORTEST_STEM - 1, -1)
        return next((self.stems[form[:n]] for n in lengths if form[:n] in self.stems), None)


_NOTHING = Meaning()
_NO_TAILS: dict[str, Tails] = {}
NO_WORDS = Lexicon("", (), "ignored", (), False, {}, {}, {})  # of a language without a lexicon; capitals still count


def fold(token: str, accents: str) -> str:
    """Casefolded, apostrophes as ', accents removed where `accents` is "ignored"."""
    if token.isascii():
        return token.lower().replace("`", "'")
    token = token.casefold().translate(_MARKS)
    if accents != "ignored":
        return unicodedata.normalize("NFC", token)
    return "".join(c for c in unicodedata.normalize("NFKD", token) if not unicodedata.combining(c))


@cache
def lexicons() -> Mapping[str, Lexicon]:
    """The lexicons of this package by language tag (`en`, `eng`, …), read and checked once in a process.

    Raises ConfigError where one is damaged or two claim a tag.
    """
    found: dict[str, Lexicon] = {}
    for file in sorted(files("twotower.text.lexicons").iterdir(), key=lambda file: file.name):
        if file.name.endswith(".toml"):
            lexicon = Lexicon.parse(file.name.removesuffix(".toml"), file.read_text(encoding="utf-8"))
            for tag in lexicon.tags:
                if (other := found.setdefault(tag, lexicon).language) != lexicon.language:
                    raise ConfigError(f"lexicon {file.name}: tag {tag!r} is taken by {other}.toml; name it in one")
    return found


class _Reader:
    """One file on its way to a Lexicon."""

    def __init__(self, language: str, text: str) -> None:
        self.language = language
        try:
            self.table: dict[str, Any] = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise ConfigError(f"lexicon {language}.toml: not readable as TOML ({error})") from None
        self.words: dict[str, Meaning] = {}
        self.stems: dict[str, Meaning] = {}
        self.phrases: dict[tuple[str, ...], Meaning] = {}
        self.claimed: dict[tuple[str, ...], str] = {}

    def lexicon(self) -> Lexicon:
        self._check_head()
        for section, entry, strength in self._entries():
            for parts in self._spellings(section, entry):
                self._claim(section, parts, entry)
                self._add(section, parts, strength)
        head = self.table
        return Lexicon(
            self.language,
            tuple(head["tags"]),
            head["accents"],
            tuple(head.get("elisions", ())),
            head.get("negators_reach_back", False),
            self.words,
            self.stems,
            self._tails(),
        )

    def _tails(self) -> dict[str, dict[str, Tails]]:
        root: dict[str, Tails] = {}
        for parts, meaning in self.phrases.items():
            level = root
            for part in parts[:-1]:
                level = level.setdefault(part, Tails(None, {})).after
            negations = sum(self.words[p].negations for p in parts if p in self.words)
            after = level[parts[-1]].after if parts[-1] in level else {}
            level[parts[-1]] = Tails(replace(meaning, negations=negations), after)
        return {first: tails.after for first, tails in root.items()}

    def _error(self, where: str, what: str) -> ConfigError:
        return ConfigError(f"lexicon {self.language}.toml: {where}: {what}")

    def _check_head(self) -> None:
        keys = {"tags": list, "accents": str, "elisions": list, "negators_reach_back": bool}
        for key, value in self.table.items():
            if key in SECTIONS and isinstance(value, dict):
                continue
            if not isinstance(value, keys.get(key, type(None))):
                raise self._error(key, f"expected one of {', '.join([*keys, *SECTIONS])} in its own shape")
        if missing := [key for key in ("tags", "accents", *SECTIONS) if key not in self.table]:
            raise self._error(missing[0], "is missing; every lexicon has it")
        if not all(isinstance(tag, str) for key in ("tags", "elisions") for tag in self.table.get(key, ())):
            raise self._error("tags, elisions", "expected lists of texts")
        if self.table["accents"] not in ("ignored", "digraphs"):
            raise self._error("accents", 'expected "ignored" or "digraphs"')

    def _entries(self) -> Iterator[tuple[str, str, float]]:
        for section in SECTIONS:
            for strength, text in self.table[section].items():
                if strength not in STRENGTHS or not isinstance(text, str):
                    raise self._error(f"{section}.{strength}", f"expected {', '.join(STRENGTHS)} with a text each")
                for entry in text.split(","):
                    yield section, " ".join(entry.split()), STRENGTHS[strength]

    def _spellings(self, section: str, entry: str) -> set[tuple[str, ...]]:
        """The entry's words as tokens of a text would be, in every spelling that counts."""
        parts = tuple(self._fold(part) for part in re.findall(rf"(?:{WORD}|{NUMBER})\*?", entry))
        if not parts or re.sub(rf"{_PARTS.pattern}|[\s*-]", "", entry):
            raise self._error(section, f"{entry!r} is not words; separate entries by single commas")
        stars = [p for p in parts if p.endswith("*")]
        if any(len(p) <= SHORTEST_STEM for p in stars) or (len(parts) > 1 and stars):
            raise self._error(section, f"{entry!r}: a stem has {SHORTEST_STEM} letters or more and stands alone")
        digraphs = self.table["accents"] == "digraphs"
        return {parts, tuple(p.translate(_DIGRAPHS) for p in parts)} if digraphs else {parts}

    def _fold(self, part: str) -> str:
        capital = self.table["accents"] == "digraphs" and part[:1].isupper()
        return part if capital else fold(part, self.table["accents"])

    def _claim(self, section: str, parts: tuple[str, ...], entry: str) -> None:
        group = "feeling" if section in FEELINGS else section
        key = (group, *parts)
        if key in self.claimed:
            raise self._error(section, f"{entry!r} stands in {self.claimed[key]} already; keep one of them")
        self.claimed[key] = section

    def _add(self, section: str, parts: tuple[str, ...], strength: float) -> None:
        if len(parts) > 1:
            self.phrases[parts] = _joined(self.phrases.get(parts, _NOTHING), section, strength)
        elif parts[0].endswith("*"):
            stem = parts[0][:-1]
            self.stems[stem] = _joined(self.stems.get(stem, _NOTHING), section, strength)
        else:
            self.words[parts[0]] = _joined(self.words.get(parts[0], _NOTHING), section, strength)


def _joined(meaning: Meaning, section: str, strength: float) -> Meaning:
    """The meaning with one more section's share."""
    for name, weight in SECTIONS[section].items():
        meaning = replace(meaning, **{name: getattr(meaning, name) + weight * strength})
    if section in ("more", "less"):
        return replace(meaning, scale=MORE if section == "more" else LESS)
    if section == "negators":
        return replace(meaning, negates=True, negations=1)
    return replace(meaning, breaks=True) if section == "breaks" else meaning
