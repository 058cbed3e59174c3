"""One text to token ids, several times sooner than the tokenizer: for a router, to whom a contact's words are most of
what a match costs.

Notable: only what BERT's own pipeline does (clean, lower case, split at spaces and punctuation, longest pieces first;
Devlin et al., 2019) and only where plain ASCII makes it simple; words with other characters go to the tokenizer one by
one, which gives the same ids, as nothing in that pipeline looks beyond a space. A tokenizer of another kind, and a text
in which a special token could be spelt, are left alone. Nothing of a text is kept.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable
from typing import Any

_MARKS = "¿¡«»‘’“”–—…"  # punctuation beyond ASCII
_LETTERS = "ßæœøłđð"  # letters that are none with a mark; the pipeline leaves them as they are
_WORDS = re.compile(rf"[a-z0-9{_LETTERS}]+|[!-/:-@\[-`{{-~{_MARKS}]")
_STRANGE = re.compile(rf"[^\x00-\x7f{_MARKS}{_LETTERS}{_LETTERS[1:].upper()}]")
_ODD = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\[]")  # control characters, and what begins a special token
_PLAIN = {
    code: plain[0]
    for code in range(0xC0, 0x180)
    if (plain := unicodedata.normalize("NFD", chr(code)))[0].isascii() and len(plain) > 1
}
"""Letters whose marks that pipeline takes off: é is read as e."""
STEM = 4  # characters that are looked up before a piece that begins with them
SHORT = tuple(range(STEM - 1, 0, -1))
MOST_FOREIGN = 12  # words for the tokenizer, past which it takes the whole text sooner


class WordPieces:
    """The pieces of a BERT tokenizer. Built by `of`, from its JSON."""

    def __init__(self, vocabulary: dict[str, int], unknown: int, longest_word: int, first: int, last: int) -> None:
        self._whole = {word: id_ for word, id_ in vocabulary.items() if not word.startswith("##")}
        self._parts = {word[2:]: id_ for word, id_ in vocabulary.items() if word.startswith("##")}
        self._whole_lengths, self._part_lengths = _lengths(self._whole), _lengths(self._parts)
        self._unknown, self._longest_word, self._first, self._last = unknown, longest_word, first, last

    @classmethod
    def of(cls, backend: Any) -> WordPieces | None:
        """Of a `tokenizers.Tokenizer`; None where it is of another kind."""
        found = json.loads(backend.to_str(pretty=False))
        model, normal = found["model"], found["normalizer"] or {}
        plain = model.get("type") == "WordPiece" and model.get("continuing_subword_prefix") == "##"
        plain = plain and normal.get("type") == "BertNormalizer" and normal["clean_text"] and normal["lowercase"]
        plain = plain and (found["pre_tokenizer"] or {}).get("type") == "BertPreTokenizer"
        # Around a word that is looked up whole stand the marks of beginning and end, if anything.
        marks = backend.encode("a").ids if plain else []
        spelt = all(one["content"].startswith("[") for one in found["added_tokens"])
        direction = (found.get("truncation") or {}).get("direction", "Right")
        if not (spelt and len(marks) == 3 and direction == "Right" and marks[1] == model["vocab"].get("a")):
            return None
        unknown = model["vocab"].get(model["unk_token"])
        if unknown is None:
            return None
        return cls(model["vocab"], unknown, model["max_input_chars_per_word"], marks[0], marks[2])

    def encode(self, text: str, most: int, backend: Any) -> list[int] | None:
        """Ids of a text, marks included, at most `most`; None where the tokenizer is to be asked."""
        if _ODD.search(text):
            return None
        plain = text if text.isascii() else text.translate(_PLAIN)
        ids = self._mixed(plain, backend) if _STRANGE.search(plain) else self._ids(plain)
        return None if ids is None else [self._first, *ids[: most - 2], self._last]

    def _mixed(self, text: str, backend: Any) -> list[int] | None:
        """Ids of a text of which some words are the tokenizer's to cut; None where these are many."""
        chunks = text.split(" ")
        strange = [_STRANGE.search(chunk) is not None for chunk in chunks]
        if sum(strange) > MOST_FOREIGN:
            return None
        ids: list[int] = []
        for chunk, asked in zip(chunks, strange, strict=True):
            ids += backend.encode(chunk, add_special_tokens=False).ids if asked else self._ids(chunk)
        return ids

    def _ids(self, text: str) -> list[int]:
        words = _WORDS.findall(text.lower())
        ids = list(map(self._whole.get, words))
        if None not in ids:
            return ids  # type: ignore[return-value]
        out: list[int] = []
        for word, id_ in zip(words, ids, strict=True):
            if id_ is None or len(word) > self._longest_word:
                out += self._split(word)
            else:
                out.append(id_)
        return out

    def _split(self, word: str) -> list[int]:
        """The longest piece from the left, again and again; unknown where one is missing."""
        size = len(word)
        if size > self._longest_word:
            return [self._unknown]
        out: list[int] = []
        start, known, lengths = 0, self._whole, self._whole_lengths
        while start < size:
            rest = word[start:]
            for length in lengths.get(rest[:STEM], SHORT):
                id_ = known.get(piece := rest[:length])
                if id_ is not None:
                    break
            else:
                return [self._unknown]
            out.append(id_)
            start += len(piece)
            known, lengths = self._parts, self._part_lengths
        return out


def _lengths(pieces: Iterable[str]) -> dict[str, tuple[int, ...]]:
    """How long pieces are by their first `STEM` characters, the longest first, and then what `SHORT` pieces may be: few
    lookups in place of one for each length that a piece can have."""
    found: dict[str, set[int]] = {}
    for piece in pieces:
        if len(piece) >= STEM:
            found.setdefault(piece[:STEM], set()).add(len(piece))
    return {stem: (*sorted(lengths, reverse=True), *SHORT) for stem, lengths in found.items()}
