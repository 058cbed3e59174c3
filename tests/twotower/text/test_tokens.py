"""Text to token ids: one text, a batch and a corpus are cut alike."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st

from twotower.errors import ConfigError
from twotower.text.tokens import TokenArrays, Tokenizer, compose_text

WORDS = ("refund", "card", "my", "is", "late", "été")
MOST = 8


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    """One id a word, with sentence marks, cut at eight tokens."""
    return Tokenizer(backend(), MOST)


def backend() -> tokenizers.Tokenizer:
    specials = ["<pad>", "[UNK]", "[CLS]", "[SEP]"]
    made = tokenizers.Tokenizer(
        tokenizers.models.WordLevel({w: i for i, w in enumerate([*specials, *WORDS])}, unk_token="[UNK]")
    )
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    made.add_special_tokens(specials)
    made.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return made


texts = st.lists(
    st.one_of(st.lists(st.sampled_from(WORDS), max_size=12).map(" ".join), st.text(max_size=30)).map(
        lambda t: compose_text(t, "")
    ),
    min_size=1,
    max_size=12,
)


@given(texts, st.data())
def test_padding_a_corpus_and_encoding_a_batch_are_the_same(tokenizer, texts, data):
    corpus = tokenizer.encode_corpus(texts)
    rows = np.array(data.draw(st.lists(st.integers(0, len(texts) - 1), min_size=1, max_size=6)))
    assert np.array_equal(corpus.pad(rows), tokenizer.encode([texts[i] for i in rows]))


@given(texts)
def test_a_corpus_is_its_rows_encoded_alone(tokenizer, texts):
    corpus = tokenizer.encode_corpus(texts, batch=3)
    assert len(corpus) == len(texts)
    for i, text in enumerate(texts):
        alone = tokenizer.encode([text])[0]
        assert corpus.ids[corpus.offsets[i] : corpus.offsets[i + 1]].tolist() == alone.tolist()
        assert corpus.lengths(np.array([i])).tolist() == [len(alone)]


def test_words_become_ids_and_short_rows_are_padded_on_the_right(tokenizer):
    encoded = tokenizer.encode(["my refund", "card"])
    assert encoded.tolist() == [[2, 6, 4, 3], [2, 5, 3, 0]]
    assert encoded.dtype == np.int64


def test_texts_are_cut_at_the_limit_with_the_marks_kept(tokenizer):
    assert tokenizer.encode(["my " * 50]).tolist() == [[2, *[6] * (MOST - 2), 3]]


@pytest.mark.parametrize("texts", [[], [""], ["", ""]])
def test_no_text_still_gives_a_column(tokenizer, texts):
    corpus = tokenizer.encode_corpus(texts)
    padded = corpus.pad(np.arange(len(texts)))
    assert padded.shape[0] == len(texts)
    assert padded.shape[1] >= 1
    assert np.array_equal(padded, tokenizer.encode(texts))


def test_rows_without_any_token_are_all_padding():
    arrays = TokenArrays(np.zeros(0, np.int32), np.zeros(3, np.int64), pad_id=7)
    assert arrays.pad(np.array([0, 1])).tolist() == [[7], [7]]


def test_a_megabyte_of_transcript_costs_no_more_than_its_first_words(tokenizer):
    long = compose_text("my refund", "late card " * 120_000)
    tokenizer.encode(["warm up"])
    begun = time.perf_counter()
    encoded = tokenizer.encode([long])
    assert time.perf_counter() - begun < 0.05
    assert encoded.tolist() == tokenizer.encode([long[:200]]).tolist()


def test_saving_and_loading_a_tokenizer_changes_nothing(tokenizer, tmp_path):
    tokenizer.save(tmp_path / "tokenizer.json")
    loaded = Tokenizer.load(tmp_path / "tokenizer.json", MOST)
    loaded.save(tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == (tmp_path / "tokenizer.json").read_bytes()
    sentences = ["my card is late", "été", ""]
    assert np.array_equal(loaded.encode(sentences), tokenizer.encode(sentences))
    assert (loaded.size, loaded.pad_id, loaded.special_ids()) == (10, 0, [0, 1, 2, 3])


def test_saving_and_loading_a_corpus_changes_nothing(tokenizer, tmp_path):
    corpus = tokenizer.encode_corpus(["my card", "", "late " * 20])
    corpus.save(tmp_path)
    loaded = TokenArrays.load(tmp_path)
    assert isinstance(loaded.ids, np.memmap)
    assert loaded.pad_id == corpus.pad_id
    assert np.array_equal(loaded.pad(np.array([2, 0])), corpus.pad(np.array([2, 0])))


@pytest.mark.parametrize("content", [None, "", "{}", "not json"])
def test_a_tokenizer_that_cannot_be_read_is_one_line(tmp_path, content):
    path: Path = tmp_path / "tokenizer.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigError, match=r"tokenizer\.json: not a readable tokenizer") as error:
        Tokenizer.load(path, MOST)
    assert "\n" not in str(error.value)


def test_something_else_than_a_tokenizer_is_refused():
    with pytest.raises(ConfigError, match=r"a tokenizers\.Tokenizer was expected, not str"):
        Tokenizer("tokenizer", MOST)
