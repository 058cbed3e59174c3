"""Kept tokens are the tokens, whoever wrote them; other texts have other ones, and what is damaged is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.train.conftest import SMALL
from tests.train.runs import digests, train
from train import token_store
from train.texts import load_tokenizer
from train.token_store import complete, digest, texts_between, tokens_of, write_shard
from twotower.errors import DataError
from twotower.tables.log import Log
from twotower.text.tokens import Tokenizer


@pytest.fixture(scope="module")
def log(tiny_open: Path) -> Log:
    return Log.load(tiny_open)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return load_tokenizer(SMALL)


@pytest.mark.parametrize("shards", [1, 3, 320])
def test_shards_together_are_the_tokens(log, tokenizer, shards, tmp_path, monkeypatch):
    """Also in more shards than there are contacts, and in several row groups."""
    monkeypatch.setattr(token_store, "ROWS", 40)
    whole = tokenizer.encode_corpus(texts_between(log, 0, len(log.contacts)))
    folder = tmp_path / digest(log, tokenizer)
    for shard in reversed(range(shards)):
        assert complete(folder) is None
        write_shard(folder, log, tokenizer, shard, shards)
    monkeypatch.setattr(Tokenizer, "encode_corpus", None)  # nothing is tokenised again
    found = tokens_of(log, tokenizer, tmp_path)
    assert found.pad_id == whole.pad_id
    assert found.ids.dtype == whole.ids.dtype
    assert np.array_equal(found.ids, whole.ids)
    assert np.array_equal(found.offsets, whole.offsets)


def test_a_later_log_tokenises_what_is_new_in_it(log, tokenizer, tmp_path, monkeypatch):
    first = log.cut(int(log.contacts.arrived_at[200]))
    tokens_of(first, tokenizer, tmp_path)
    asked: list[str] = []
    plain = Tokenizer.encode_corpus
    monkeypatch.setattr(Tokenizer, "encode_corpus", lambda self, texts: asked.extend(texts) or plain(self, texts))
    found = tokens_of(log, tokenizer, tmp_path)
    known = set(texts_between(first, 0, len(first.contacts)))
    assert asked == [text for text in texts_between(log, 0, len(log.contacts)) if text not in known] != []
    whole = plain(tokenizer, texts_between(log, 0, len(log.contacts)))
    assert np.array_equal(found.ids, whole.ids)
    assert np.array_equal(found.offsets, whole.offsets)
    asked.clear()
    longer = load_tokenizer(replace(SMALL, max_tokens=25))  # for which the kept ones are no tokens
    other = tokens_of(log, longer, tmp_path)
    assert len(asked) == len(log.contacts)
    assert len(other.ids) != len(whole.ids)


def test_a_name_is_of_texts_tokenizer_and_length(log, tokenizer):
    texts = log.contacts.transcript.to_pylist()
    moved = [*texts[1:], texts[0]]
    other = replace(log, contacts=replace(log.contacts, transcript=pa.array(moved, pa.large_string())))
    longer = load_tokenizer(replace(SMALL, max_tokens=25))
    assert len({digest(log, tokenizer), digest(other, tokenizer), digest(log, longer)}) == 3


def test_the_shard_of_a_process_that_wrote_elsewhere_is_missed(log, tokenizer, tmp_path, monkeypatch):
    monkeypatch.setattr(token_store, "launched", lambda: (0, 2))
    monkeypatch.setattr(token_store, "LEAST_WAIT_S", 0.0)
    with pytest.raises(DataError, match=r"--data\.tokens must name a folder that all of them see"):
        tokens_of(log, tokenizer, tmp_path)


def test_damaged_shards_are_refused(log, tokenizer, tmp_path):
    tokens_of(log, tokenizer, tmp_path)
    [shard] = tmp_path.rglob("*.parquet")
    pq.write_table(pq.read_table(shard).slice(1), shard)
    with pytest.raises(DataError, match=r"tokens of 299 contacts, the log has 300; remove it"):
        tokens_of(log, tokenizer, tmp_path)
    shard.write_bytes(b"PAR1")
    with pytest.raises(DataError, match="not a readable shard of tokens"):
        tokens_of(log, tokenizer, tmp_path)


def test_a_run_with_kept_tokens_is_the_run(tiny_open, tmp_path, monkeypatch):
    options = ("--trainer.max_epochs=1", f"--data.tokens={tmp_path / 'tokens'}")
    assert train(tiny_open, tmp_path / "plain", options[0]) == 0
    assert train(tiny_open, tmp_path / "first", *options) == 0
    monkeypatch.setattr(token_store, "write_shard", None)
    assert train(tiny_open, tmp_path / "second", *options) == 0
    assert digests(tmp_path / "plain") == digests(tmp_path / "first") == digests(tmp_path / "second")
    assert str(tmp_path) not in (tmp_path / "first" / "config.yaml").read_text()
