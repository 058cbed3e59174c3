"""A single text is cut into the ids that the tokenizer gives, whatever stands in it."""

from __future__ import annotations

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import models, normalizers, pre_tokenizers, processors

from twotower.text.tokens import Tokenizer
from twotower.text.wordpiece import WordPieces
from twotower.towers.encoders import MINILM, encoder_path

MOST = 24
ASCII = st.text(st.characters(max_codepoint=127), max_size=300)
ODD = (
    "¿Qué?",
    "¡«no»!",
    "it’s",
    "a–b…",
    "ſ",
    "İx",
    "Ärger",
    "naïve",
    "日本",
    "a\u0301",
    "e\u0301t",
    "\n",
    "[SEP]",
    "##s",
    "12,5€",
    "Maß",
    "STRAẞE",
    "Œuvre",
    "SØREN",
    "Łódź",
    "ÆÐĐ",
)
WORDS = st.lists(st.sampled_from(["refund", "I", "don't", "unbelievably", "x" * 120, *ODD]), max_size=40).map(" ".join)


@pytest.fixture(scope="module")
def backend() -> tokenizers.Tokenizer:
    return tokenizers.Tokenizer.from_file(f"{encoder_path(MINILM)}/tokenizer.json")


@pytest.fixture(scope="module")
def tokenizer(backend: tokenizers.Tokenizer) -> Tokenizer:
    found = Tokenizer(backend, MOST)
    assert found._pieces is not None
    return found


def assert_same(tokenizer: Tokenizer, text: str) -> None:
    text = tokenizer._cut(text)
    expected = tokenizer._backend.encode(text).ids
    found = tokenizer._pieces.encode(text, MOST, tokenizer._backend)  # type: ignore[union-attr]
    assert found is None or found == expected
    assert tokenizer.encode([text]).tolist() == [expected]


@settings(max_examples=400, deadline=None)
@given(text=st.one_of(ASCII, st.text(max_size=80), WORDS))
def test_ids_are_the_tokenizers_own(tokenizer, text):
    assert_same(tokenizer, text)


def test_what_is_plain_is_not_asked_of_the_tokenizer(tokenizer):
    for text in (
        "My refund, please! It's been 3 weeks...",
        "",
        "unbelievably\tslow\r\n",
        "Ärger mit der großen STRAẞE",
        "Œuvre, SØREN Łódź",
    ):
        assert tokenizer._pieces.encode(text, MOST, tokenizer._backend) is not None
        assert_same(tokenizer, text)
    for text in ("[SEP] refund", "bell \x07", " ".join(["привет"] * 13)):
        assert tokenizer._pieces.encode(text, MOST, tokenizer._backend) is None
        assert_same(tokenizer, text)


def other(**changes: object) -> tokenizers.Tokenizer:
    """A tokenizer of BERT's kind, but for one thing."""
    vocabulary = {word: i for i, word in enumerate(("[UNK]", "[CLS]", "[SEP]", "a", "##b"))}
    found = tokenizers.Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    found.normalizer = changes.get("normalizer", normalizers.BertNormalizer())
    found.pre_tokenizer = changes.get("pre_tokenizer", pre_tokenizers.BertPreTokenizer())
    if changes.get("marks", True):
        found.post_processor = processors.TemplateProcessing(
            "[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
        )
    if "added" in changes:
        found.add_special_tokens([changes["added"]])
    return found


@pytest.mark.parametrize(
    "changes",
    [
        {"normalizer": normalizers.BertNormalizer(lowercase=False)},
        {"normalizer": normalizers.Lowercase()},
        {"pre_tokenizer": pre_tokenizers.Whitespace()},
        {"marks": False},
        {"added": "<s>"},
    ],
)
def test_a_tokenizer_of_another_kind_is_left_alone(changes):
    assert WordPieces.of(other()) is not None
    assert WordPieces.of(other(**changes)) is None
