"""Words that went wrong on the way into the log: dropped, misspelt, or heard as another word.

Notable: every word is hit with the same probability, and a hit drops it, loses or swaps one of its letters, or puts a
word in its place that somebody else used. Lines stay lines. Nothing loops over texts.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

LINE = "\n"


def garbled(texts: Any, share: float, random: np.random.Generator) -> Any:
    """Texts (n,) as a pa.StringArray with a share of their words wrong; lengths and order stay, nulls and "" too."""
    lists = pc.split_pattern(pc.replace_substring(texts, LINE, f" {LINE} "), " ")
    words, rows = pc.list_flatten(lists), pc.list_parent_indices(lists).to_numpy()
    hit = random.random(len(words)) < share
    hit &= ~pc.or_(pc.equal(words, LINE), pc.equal(words, "")).to_numpy(zero_copy_only=False)
    fate = np.where(hit, random.integers(1, 5, len(words)), 0)
    other = pc.take(words, pa.array(random.permutation(len(words))))
    swapped = _joined(_letters(words, 0, 1), _letters(words, 2, 3), _letters(words, 1, 2), _letters(words, 3, None))
    wrong = pc.choose(
        pa.array(fate),
        words,
        words,
        pc.if_else(pc.equal(other, LINE), words, other),
        swapped,
        _joined(_letters(words, 0, 1), _letters(words, 2, None)),
    )
    kept = fate != _DROPPED
    counts = np.bincount(rows[kept], minlength=len(lists))
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    mended = pa.ListArray.from_arrays(pa.array(offsets), wrong.filter(pa.array(kept)))
    text = pc.replace_substring(pc.binary_join(mended, " "), f" {LINE} ", LINE)
    return pc.if_else(pc.is_valid(texts), text, pa.scalar(None, pa.string()))


_DROPPED = 1


def _letters(words: Any, start: int, stop: int | None) -> Any:
    return pc.utf8_slice_codeunits(words, start, stop)


def _joined(*parts: Any) -> Any:
    return pc.binary_join_element_wise(*parts, "")
