"""Tokens of a log that are kept between runs, as shards of Parquet that several processes write and read together.

Notable: process r of W tokenises the r-th part of the contacts and writes one shard; once all have, everybody reads all
shards. A later run over the same texts, tokenizer and length reads them and tokenises nothing, however many processes
it has; over other texts it tokenises those that the latest set has not, by a digest of each. Tokens can be read back
as text, so nothing is kept unless a folder is named, and that is as personal as the tables are.
"""

from __future__ import annotations

import hashlib
import re
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from train.together import launched
from twotower.errors import DataError
from twotower.files import atomic_file
from twotower.tables.log import Log
from twotower.text.tokens import TokenArrays, Tokenizer, compose_text

SHARD = re.compile(r"part-(\d{5})-of-(\d{5})\.parquet")
LEAST_WAIT_S = 60.0
"""For the others, or ten times as long as the own shard took."""
TEXT = 16
"""Bytes of a text's digest."""
TOKENIZER = b"twotower.tokenizer"
ROWS = 1 << 16
"""Contacts tokenised at once, and in a row group."""


def tokens_of(log: Log, tokenizer: Tokenizer, store: Path | None) -> TokenArrays:
    """Tokens of all contacts of a log.

    store: folder in which they are kept, None: nowhere; where several processes train together, one that all of them
    see. Raises DataError where a shard is damaged or another process's is not there.
    """
    if store is None:
        return tokenizer.encode_corpus(texts_between(log, 0, len(log.contacts)))
    folder = store / digest(log, tokenizer)
    shards = complete(folder)
    if shards is None:
        began = time.monotonic()
        write_shard(folder, log, tokenizer, *launched())
        shards = awaited(folder, max(LEAST_WAIT_S, 10 * (time.monotonic() - began)))
    ids, offsets = joined([read_shard(path) for path in shards], len(log.contacts), folder)
    return TokenArrays(ids, offsets, tokenizer.pad_id)


def awaited(folder: Path, seconds: float) -> list[Path]:
    """The shards of a complete set, once all processes have written theirs. Raises DataError after `seconds`."""
    end = time.monotonic() + seconds
    while (shards := complete(folder)) is None:
        if time.monotonic() > end:
            raise DataError(
                f"{folder}: shards of other processes are not there after {seconds:.0f} s; --data.tokens must name a "
                "folder that all of them see"
            )
        time.sleep(0.1)
    return shards


def texts_between(log: Log, start: int, stop: int) -> list[str]:
    """The text that the contact tower reads of contacts `start` … `stop − 1`."""
    columns = (log.contacts.intent_text, log.contacts.transcript)
    return [compose_text(*both) for both in zip(*(c[start:stop].to_pylist() for c in columns), strict=True)]


def digest(log: Log, tokenizer: Tokenizer) -> str:
    """What tokens depend on, as a short name: the texts, the tokenizer and its length."""
    found = hashlib.sha256(f"1 {tokenizer.max_tokens} ".encode())
    found.update(tokenizer.to_json().encode())
    for column in (log.contacts.intent_text, log.contacts.transcript):
        for start in range(0, len(column), ROWS):
            for text in column[start : start + ROWS].to_pylist():
                found.update(b"\0" if text is None else b"\1" + text.encode("utf-8", "surrogatepass") + b"\0")
    return found.hexdigest()[:16]


def complete(folder: Path) -> list[Path] | None:
    """The shards of a complete set in their order, None where there is none."""
    by_count: dict[int, list[Path]] = {}
    for path in sorted(folder.glob("part-*.parquet")) if folder.is_dir() else []:
        if named := SHARD.fullmatch(path.name):
            by_count.setdefault(int(named[2]), []).append(path)
    return next((paths for count, paths in sorted(by_count.items()) if len(paths) == count), None)


def write_shard(folder: Path, log: Log, tokenizer: Tokenizer, shard: int, shards: int) -> None:
    """Tokenise the part of the contacts that is one shard's, and write it whole or not at all."""
    start, stop = (len(log.contacts) * one // shards for one in (shard, shard + 1))
    folder.mkdir(parents=True, exist_ok=True)
    mark = tokenizer_digest(tokenizer)
    schema = pa.schema([("ids", pa.large_list(pa.int32())), ("text", pa.binary(TEXT))], {TOKENIZER: mark})
    kept = kept_tokens(folder, mark)
    with atomic_file(folder / f"part-{shard:05}-of-{shards:05}.parquet") as path, pq.ParquetWriter(path, schema) as to:
        for first in range(start, stop, ROWS):
            texts = texts_between(log, first, min(first + ROWS, stop))
            marks = marks_of(texts)
            part = encoded(texts, marks, tokenizer, kept)
            ids = pa.LargeListArray.from_arrays(pa.array(part.offsets), pa.array(part.ids))
            to.write_table(pa.table([ids, pa.array(marks.tolist(), pa.binary(TEXT))], schema=schema))


def tokenizer_digest(tokenizer: Tokenizer) -> bytes:
    """What tokens of a text depend on beside it."""
    return hashlib.sha256(f"{tokenizer.max_tokens} {tokenizer.to_json()}".encode()).hexdigest()[:32].encode()


def marks_of(texts: list[str]) -> npt.NDArray[np.void]:
    """Digests (n,) of texts, of `TEXT` bytes each."""
    said = (hashlib.blake2b(one.encode("utf-8", "surrogatepass"), digest_size=TEXT).digest() for one in texts)
    return np.frombuffer(b"".join(said), np.dtype((np.void, TEXT)))


def kept_tokens(folder: Path, mark: bytes) -> tuple[npt.NDArray[np.void], pa.LargeListArray] | None:
    """Digests of texts, sorted, and the tokens of each, of the latest complete set beside `folder` by the same
    tokenizer; None where there is none."""
    others = [one for one in folder.parent.iterdir() if one.is_dir() and one != folder]
    for other in sorted(others, key=lambda one: one.stat().st_mtime_ns, reverse=True):
        shards = complete(other)
        schema = None if shards is None else pq.read_schema(shards[0])
        if shards is None or schema is None or (schema.metadata or {}).get(TOKENIZER) != mark:
            continue
        read = pa.concat_tables([pq.read_table(path) for path in shards]).combine_chunks()
        marks = np.frombuffer(read["text"].combine_chunks().buffers()[1], np.dtype((np.void, TEXT)))[: len(read)]
        marks, first = np.unique(marks, return_index=True)
        return marks, one_chunk(read["ids"].take(pa.array(first)))
    return None


def encoded(
    texts: list[str],
    marks: npt.NDArray[np.void],
    tokenizer: Tokenizer,
    kept: tuple[npt.NDArray[np.void], pa.LargeListArray] | None,
) -> TokenArrays:
    """Tokens of texts (n,) with digests (n,), of those that are kept as they stand there."""
    if kept is None or not len(kept[0]):
        return tokenizer.encode_corpus(texts)
    known, tokens = kept
    place = np.searchsorted(known, marks).clip(max=len(known) - 1)
    here = known[place] == marks
    fresh = tokenizer.encode_corpus([texts[i] for i in np.flatnonzero(~here)])
    own = pa.LargeListArray.from_arrays(pa.array(fresh.offsets), pa.array(fresh.ids))
    at = np.where(here, place, len(tokens) + np.cumsum(~here) - 1)
    rows = pa.concat_arrays([tokens, own]).take(pa.array(at))
    return TokenArrays(*flat([rows]), tokenizer.pad_id)


def read_shard(path: Path) -> pa.LargeListArray:
    """Token ids of a shard's contacts. Raises DataError where it is damaged."""
    try:
        return one_chunk(pq.read_table(path, columns=["ids"])["ids"])
    except (pa.ArrowException, OSError, KeyError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{path}: not a readable shard of tokens ({reason}); remove {path.parent}") from None


def one_chunk(column: pa.ChunkedArray) -> pa.LargeListArray:
    """A column as one array."""
    whole = column.combine_chunks()
    return whole.chunk(0) if isinstance(whole, pa.ChunkedArray) else whole


def joined(
    shards: list[pa.LargeListArray], count: int, folder: Path
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
    """Ids (T,) and offsets (count + 1,) of all shards. Raises DataError where there are more or fewer."""
    ids, offsets = flat(shards)
    if len(offsets) - 1 != count:
        raise DataError(f"{folder}: tokens of {len(offsets) - 1:,} contacts, the log has {count:,}; remove it")
    return ids, offsets


def flat(lists: list[pa.LargeListArray]) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
    """Ids (T,) and offsets (n + 1,) of lists, one after the other."""
    ids = np.concatenate([one.flatten().to_numpy() for one in lists]).astype(np.int32, copy=False)
    lengths = np.concatenate([np.diff(one.offsets.to_numpy()) for one in lists])
    return ids, np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
