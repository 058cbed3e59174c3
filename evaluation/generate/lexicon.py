"""Phrases of the chosen languages as one Arrow array, so that a column of text is a `take` and never a loop.

`languages/CODE.toml` holds a language: every value of every slot in several wordings. All wordings of all chosen
languages lie in one array; a lexicon knows where those of (slot, language, value) begin and how many there are, and
turns arrays of codes and of uniform random numbers into positions. A wording with a gap `{p}` is stored as its head
and its tail.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from evaluation.generate import catalogue
from twotower.errors import ConfigError, DataError

Codes = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
Uniform = npt.NDArray[np.float32]

GAP = "{p}"

KEYS: dict[str, tuple[str, ...]] = {
    "unnamed": tuple(catalogue.DOMAINS),
    "product": catalogue.PRODUCTS,
    "intent": catalogue.INTENTS,
    "names_product": ("says",),
    "second": ("says",),
    **catalogue.SLOTS,
    "tone": catalogue.TONES,
    "urgency": catalogue.URGENCIES,
    "hardness": catalogue.HARDNESS,
    "greeting": catalogue.STYLES,
    "closing": catalogue.STYLES,
    "reference": ("says",),
    "chatter": ("says",),
    "profile": ("opens", "strong", "cause", "upset"),
    "domain": tuple(catalogue.DOMAINS),
}
"""What a phrase file must hold: section → keys, in the order of their codes."""


@dataclass(frozen=True)
class Section:
    """One section of all languages: where its wordings lie in `Lexicon.heads` and `Lexicon.tails`."""

    first: Codes
    """(languages, values)."""
    count: Codes
    """(languages, values)."""


@dataclass(frozen=True)
class Lexicon:
    """The phrases of some languages; a language's code is its position in `languages`."""

    languages: tuple[str, ...]
    heads: Any
    """pa.StringArray: wordings up to their gap, or whole."""
    tails: Any
    """pa.StringArray: wordings after their gap, or empty."""
    sections: dict[str, Section]

    def pick(self, section: str, language: Codes, value: Codes | int, uniform: Uniform) -> Codes:
        """Positions of one wording per row, chosen by a uniform number in [0, 1); all arguments are (n,)."""
        where = self.sections[section]
        count = where.count[language, value]
        return np.asarray(where.first[language, value] + np.minimum((uniform * count).astype(np.int64), count - 1))

    def say(self, positions: Codes, said: Flags | None = None) -> Any:
        """The wordings at `positions` as a pa.StringArray, null where `said` is false."""
        return pc.take(self.heads, pa.array(positions, mask=None if said is None else ~said))

    def fill(self, positions: Codes, gap: Any, said: Flags | None = None) -> Any:
        """The wordings with `gap` (pa.StringArray) in their gap, null where `said` is false."""
        index = pa.array(positions, mask=None if said is None else ~said)
        return pc.binary_join_element_wise(pc.take(self.heads, index), gap, pc.take(self.tails, index), "")

    def wording(self, section: str, language: int, value: int, uniform: float) -> tuple[str, str]:
        """Head and tail of one wording, for the few texts that are written one by one."""
        draw = np.array([uniform], dtype=np.float32)
        at = int(self.pick(section, np.array([language]), value, draw)[0])
        return self.heads[at].as_py(), self.tails[at].as_py()


def available() -> tuple[str, ...]:
    """Codes of the languages that have a phrase file."""
    names = (file.name for file in files("evaluation.generate.languages").iterdir())
    return tuple(sorted(name.removesuffix(".toml") for name in names if name.endswith(".toml")))


def load(languages: tuple[str, ...]) -> Lexicon:
    """Reads the phrase files of the given languages.

    Raises:
        ConfigError: no language, a language twice, or one without a phrase file.
    """
    check(languages)
    heads: list[str] = []
    tails: list[str] = []
    sections: dict[str, Section] = {}
    for section, keys in KEYS.items():
        first = np.zeros((len(languages), len(keys)), dtype=np.int64)
        count = np.zeros_like(first)
        for row, language in enumerate(languages):
            for column, key in enumerate(keys):
                wordings = _read(language)[section][key]
                first[row, column], count[row, column] = len(heads), len(wordings)
                heads += [text.partition(GAP)[0] for text in wordings]
                tails += [text.partition(GAP)[2] for text in wordings]
        sections[section] = Section(first, count)
    return Lexicon(languages, pa.array(heads, pa.string()), pa.array(tails, pa.string()), sections)


def check(languages: tuple[str, ...]) -> None:
    """Raises ConfigError, as `load` does, without reading a file."""
    known = available()
    if not languages:
        raise ConfigError(f"--languages: name at least one of {', '.join(known)}")
    for position, language in enumerate(languages):
        if language not in known:
            raise ConfigError(f"--languages: no phrases for {language!r}; there are {', '.join(known)}")
        if language in languages[:position]:
            raise ConfigError(f"--languages: {language!r} stands there twice; name each language once")


@cache
def _read(language: str) -> dict[str, dict[str, tuple[str, ...]]]:
    """One phrase file, checked to hold every section and key."""
    name = f"languages/{language}.toml"
    found = tomllib.loads(files("evaluation.generate.languages").joinpath(f"{language}.toml").read_text("utf-8"))
    phrases: dict[str, dict[str, tuple[str, ...]]] = {}
    for section, keys in KEYS.items():
        missing = [key for key in keys if not found.get(section, {}).get(key)]
        if missing:
            raise DataError(f"{name}: [{section}] lacks {', '.join(missing)}; add at least one wording for each")
        raw = found[section]
        phrases[section] = {key: (raw[key],) if isinstance(raw[key], str) else tuple(raw[key]) for key in keys}
    return phrases
