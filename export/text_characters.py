"""What a tokenizer does to each character, found by asking it: the part of a tokenizer that a graph cannot run.

Notable: BERT's normaliser and its splitting at punctuation treat every character by itself (lower case without context,
marks stripped after decomposition), so a table of all 1.1 million code points is the whole of both, in whatever version
of Unicode the tokenizer was built with. Wide ranges that are treated alike (Chinese, private use) become character
classes of an expression; the rest, some twenty thousand characters, is a table. One thing has context, the canonical
order of marks: it moves only marks that stay, and `exceptions` tells whether the vocabulary knows any.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

SURROGATES = range(0xD800, 0xE000)
CHUNK = 1024  # characters asked about at once
FENCE = "q"  # stands between them: a letter that nothing but q and Q turns into
WIDE = 64  # a range of at least so many characters is a class of the expression


@dataclass(frozen=True)
class Characters:
    """`changed`: character → what stands for it, words and marks already apart by spaces. `removed`, `isolated`: ranges
    (first, last) of characters that vanish and that become words of their own. All others stay as they are."""

    changed: dict[str, str]
    removed: tuple[tuple[str, str], ...]
    isolated: tuple[tuple[str, str], ...]


@lru_cache(maxsize=2)
def read_characters(tokenizer: str) -> Characters:
    """What the normaliser and the splitter of a tokenizer, as JSON of `tokenizers`, do to every character.

    Asking takes seconds, so the last answers are given again: nobody may change them.
    """
    import tokenizers

    backend = tokenizers.Tokenizer.from_str(tokenizer)
    treated: dict[str, str] = {}
    for part in _chunks():
        normal = _normalised(backend.normalizer, part)
        whole = FENCE.join(normal)
        if normal == part and len(backend.pre_tokenizer.pre_tokenize_str(whole)) == 1:
            continue  # letters without case, or nothing at all
        classes = _classes(backend.pre_tokenizer, sorted(set(whole)))
        found = ("".join(classes[c] for c in text) for text in normal)
        treated.update((one, text) for one, text in zip(part, found, strict=True) if text != one)
    removed = tuple(_wide(one for one, text in treated.items() if not text))
    isolated = tuple(_wide(one for one, text in treated.items() if text.strip() == one))
    for first, last in (*removed, *isolated):
        for code in range(ord(first), ord(last) + 1):
            del treated[chr(code)]
    return Characters(treated, removed, isolated)


def exceptions(vocabulary: Iterable[str]) -> list[str]:
    """Characters of the vocabulary whose place among other marks depends on these: they need more than a table."""
    used = set("".join(vocabulary))
    return sorted(c for c in used if unicodedata.combining(c) and unicodedata.category(c) != "Mn")


def _chunks() -> Iterator[list[str]]:
    """Every character but the fence's, so many at once; the fence's by themselves."""
    codes = [c for c in range(0x110000) if c not in SURROGATES and chr(c).lower() != FENCE]
    for start in range(0, len(codes), CHUNK):
        yield [chr(c) for c in codes[start : start + CHUNK]]
    yield from ([FENCE], [FENCE.upper()])


def _normalised(normaliser: Any, part: list[str]) -> list[str]:
    """The normal form of each character."""
    found: list[str] = normaliser.normalize_str(FENCE.join(part)).split(FENCE)
    if len(found) != len(part):  # something here turns into the fence
        return [normaliser.normalize_str(one) for one in part]
    return found


def _classes(splitter: Any, used: list[str]) -> dict[str, str]:
    """What the splitter makes of each normal character: a space, the character between spaces, or itself."""
    found = splitter.pre_tokenize_str(FENCE + "".join(one + FENCE for one in used))
    alone = {begin for _, (begin, end) in found if end - begin == 1}
    kept = {place for _, (begin, end) in found for place in range(begin, end)}
    places = zip(used, range(1, 2 * len(used), 2), strict=True)
    return {one: " " if at not in kept else f" {one} " if at in alone else one for one, at in places}


def _wide(characters: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Ranges of at least `WIDE` neighbours, ascending."""
    codes = sorted(map(ord, characters))
    first = last = -2
    for code in (*codes, -2):
        if code != last + 1:
            if last - first + 1 >= WIDE:
                yield chr(first), chr(last)
            first = code
        last = code
