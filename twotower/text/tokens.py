"""Text to token ids, once.

Notable: the tokenizer file in a bundle is the one that training used, so router and training cut words alike; a
corpus is tokenised once into two flat arrays (ids and offsets) that workers and epochs memory-map; duplicates of a text
cost nothing, because rows are coded by their distinct text first.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from twotower.errors import ConfigError
from twotower.progress import track
from twotower.text.wordpiece import WordPieces

# Past this many characters a text cannot reach the token limit of any tower here; cutting first keeps a
# one-megabyte transcript from costing a second.
CHARACTERS_PER_TOKEN = 12


def compose_text(intent_text: str | None, transcript: str | None) -> str:
    """Join the stated need and the transcript into the one text a tower reads: the need first, as it is never cut.

    Lone surrogates, which no tokenizer accepts, become U+FFFD.
    """
    need, said = intent_text or "", transcript or ""
    return clean(need if not said else said if not need or said.startswith(need) else f"{need}\n{said}")


def clean(text: str) -> str:
    """The text with lone surrogates as U+FFFD and paired ones as the character they stand for."""
    if text.isascii():
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


@dataclass(frozen=True)
class TokenArrays:
    """Ragged token ids: row i is `ids[offsets[i]:offsets[i + 1]]`.

    `ids` int32 of shape (T,), `offsets` int64 of shape (N + 1,), both possibly memory-mapped.
    """

    ids: npt.NDArray[np.int32]
    offsets: npt.NDArray[np.int64]
    pad_id: int

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def first(self, count: int) -> TokenArrays:
        """The first rows."""
        return self.between(0, count)

    def between(self, start: int, stop: int) -> TokenArrays:
        """Rows `start` … `stop − 1`."""
        offsets = self.offsets[start : stop + 1]
        return TokenArrays(self.ids[offsets[0] : offsets[-1]], offsets - offsets[0], self.pad_id)

    def lengths(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Token counts (B,) of the rows."""
        return np.asarray(self.offsets[rows + 1] - self.offsets[rows])

    def pad(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Right-padded ids (B, L) int64 of the rows, L being the longest of them (at least 1)."""
        starts, lengths = self.offsets[rows], self.lengths(rows)
        width = max(int(lengths.max(initial=0)), 1)
        columns = np.arange(width)
        inside = columns[None, :] < lengths[:, None]
        flat = np.where(inside, starts[:, None] + columns[None, :], 0)
        return np.where(inside, self.ids[flat] if len(self.ids) else 0, self.pad_id).astype(np.int64)

    def save(self, folder: Path) -> None:
        """Write `ids.npy`, `offsets.npy` and `pad.npy` into an existing folder."""
        np.save(folder / "ids.npy", self.ids)
        np.save(folder / "offsets.npy", self.offsets)
        np.save(folder / "pad.npy", np.array(self.pad_id))

    @classmethod
    def load(cls, folder: Path) -> TokenArrays:
        """Memory-map what `save` wrote."""
        ids, offsets = (np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("ids", "offsets"))
        return cls(ids, offsets, int(np.load(folder / "pad.npy")))


class Tokenizer:
    """A `tokenizers` tokenizer with truncation at `max_tokens` (special tokens included) and no padding of its own."""

    def __init__(self, backend: object, max_tokens: int) -> None:
        import tokenizers

        if not isinstance(backend, tokenizers.Tokenizer):
            raise ConfigError(f"a tokenizers.Tokenizer was expected, not {type(backend).__name__}")
        backend.enable_truncation(max_length=max_tokens)
        backend.no_padding()
        self._backend = backend
        self.max_tokens = max_tokens
        pad = [backend.token_to_id(name) for name in ("[PAD]", "<pad>", "<|pad|>")]
        self.pad_id = next((i for i in pad if i is not None), 0)

    @classmethod
    def load(cls, path: Path | str, max_tokens: int) -> Tokenizer:
        """Read a `tokenizer.json`. Raises ConfigError where it is missing or unreadable."""
        import tokenizers

        try:
            return cls(tokenizers.Tokenizer.from_file(str(path)), max_tokens)
        except Exception as error:  # the binding raises bare Exception
            raise ConfigError(f"{path}: not a readable tokenizer.json ({error})") from None

    def save(self, path: Path | str) -> None:
        """Write `tokenizer.json`; the same tokenizer writes the same bytes."""
        Path(path).write_text(self.to_json(), encoding="utf-8")

    def to_json(self) -> str:
        """What `save` writes."""
        return str(self._backend.to_str(pretty=False))

    @property
    def size(self) -> int:
        """Number of token ids."""
        return int(self._backend.get_vocab_size(with_added_tokens=True))

    def special_ids(self) -> list[int]:
        """Ids of the tokens that carry no words (padding, sentence marks)."""
        return sorted(i for i, token in self._backend.get_added_tokens_decoder().items() if token.special)

    def id_of(self, token: str) -> int | None:
        """Id of a token, None where the vocabulary lacks it."""
        found: int | None = self._backend.token_to_id(token)
        return found

    def decode(self, ids: Sequence[int] | npt.NDArray[np.int64]) -> str:
        """The text that ids stand for, as far as they tell it: special tokens, case and spacing are lost."""
        return str(self._backend.decode(list(ids), skip_special_tokens=True))

    def _cut(self, text: str) -> str:
        return text[: self.max_tokens * CHARACTERS_PER_TOKEN]

    def encode(self, texts: Sequence[str]) -> npt.NDArray[np.int64]:
        """Right-padded token ids (B, L) int64; L is the longest of the batch, at least 1."""
        if len(texts) == 1:  # the router's case: no thread pool
            return np.array([self._one(self._cut(texts[0])) or [self.pad_id]], dtype=np.int64)
        rows = [e.ids for e in self._backend.encode_batch_fast([self._cut(t) for t in texts])]
        width = max((len(r) for r in rows), default=1) or 1
        out = np.full((len(rows), width), self.pad_id, dtype=np.int64)
        for i, ids in enumerate(rows):
            out[i, : len(ids)] = ids
        return out

    def _one(self, text: str) -> list[int]:
        ids = None if self._pieces is None else self._pieces.encode(text, self.max_tokens, self._backend)
        found: list[int] = self._backend.encode(text).ids if ids is None else ids
        return found

    @cached_property
    def _pieces(self) -> WordPieces | None:
        """How single texts are cut sooner, where they can be."""
        return WordPieces.of(self._backend)

    def encode_corpus(self, texts: Sequence[str], batch: int = 4096) -> TokenArrays:
        """Tokenise many texts into ragged arrays; equal texts are tokenised once."""
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
        distinct: dict[str, int] = {}
        codes = np.fromiter((distinct.setdefault(self._cut(t), len(distinct)) for t in texts), np.int64, len(texts))
        unique = list(distinct)
        pieces: list[npt.NDArray[np.int32]] = []
        for start in track(range(0, len(unique), batch), "tokenising"):
            encodings = self._backend.encode_batch_fast(unique[start : start + batch])
            pieces.extend(np.asarray(e.ids, dtype=np.int32) for e in encodings)
        lengths = np.array([len(p) for p in pieces], dtype=np.int64)[codes] if len(pieces) else np.zeros(0, np.int64)
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        ids = np.concatenate([pieces[c] for c in codes]) if len(codes) else np.zeros(0, np.int32)
        return TokenArrays(ids.astype(np.int32), offsets, self.pad_id)
