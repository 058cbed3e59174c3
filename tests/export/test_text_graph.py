"""The tokenizer as a graph gives every text the tokens that the router's tokenizer gives it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from export.run import ExportError
from export.text_characters import read_characters
from export.text_graph import Pieces, Unsupported
from export.text_tower import SAMPLES, check_tokens, feeds, open_text, tokens_graph
from twotower.text.tokens import Tokenizer, compose_text
from twotower.towers.encoders import MINILM, encoder_path

MOST = 24  # tokens: few, so that cuts are common
SOURCE = Path(encoder_path(MINILM)) / "tokenizer.json"
LANGUAGES = {
    "en": "Hi, I've been double-charged for order #A-1182 (twice!) & it's $49.99 — can't you refund me ASAP?",
    "fr": "Bonjour, où en est ma commande n° 1182 ? L’été dernier déjà, le colis n’était jamais arrivé à Évreux…",
    "de": "Guten Tag! Die Überweisung für „Größe XL“ wurde zurückgebucht; Straßenadresse: Königsallee 5, Düsseldorf.",
    "es": "¿Dónde está mi pedido? ¡Llevo 3 días esperando al técnico, señorita, y mañana es la boda de mi niño!",
    "zh": "你好，我的信用卡在国外被拒了，订单号是A1182。",
}
SPECIAL = st.sampled_from(["[SEP]", "[MASK]", "[PAD]", "[UNK]", "[CLS]", "[CLS", "SEP]", "[sep]", "##ing", "\n", " "])
# Any Unicode text, and more often what tokenizers trip over: marks, casing, spaces, specials, and words that are known.
PIECE = st.one_of(
    st.text(max_size=8),
    st.text(st.characters(max_codepoint=0x24F), max_size=8),
    st.text(st.characters(categories=["Mn", "Mc", "Me", "Cf", "Zs", "Lt", "Lm", "Po"]), max_size=4),
    SPECIAL,
    st.sampled_from(["refund", "Unaffable", "hello ", "İ", "ß", "ﬁ", "가", "中", "x" * 101]),
)
TEXT = st.lists(PIECE, max_size=12).map("".join)


@cache
def tokenizer(most: int = MOST, path: Path = SOURCE) -> Tokenizer:
    return Tokenizer.load(path, most)


@pytest.fixture(scope="module")
def pieces() -> Pieces:
    return Pieces.of(tokenizer())


@pytest.fixture(scope="module")
def session(pieces: Pieces) -> Any:
    return open_text(tokens_graph(pieces).SerializeToString())


def tokens(session: Any, pairs: Sequence[tuple[str, str]]) -> tuple[np.ndarray, np.ndarray]:
    """What the graph gives and what the router's tokenizer gives."""
    wanted = tokenizer().encode([compose_text(*pair) for pair in pairs])
    return session.run(["tokens"], feeds(pairs))[0], wanted


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(need=TEXT, said=TEXT, repeats=st.booleans())
@example(need="", said="", repeats=False)
@example(need="[SE", said="[SEP] x", repeats=False)
@example(need="a" * 300, said="b", repeats=True)
@example(need="refund \0\ufffe\ue000", said="\U0010ffff\u0344", repeats=True)
def test_any_text_has_the_routers_tokens(session: Any, need: str, said: str, repeats: bool) -> None:
    """The transcript may begin with the need, which is then read once."""
    found, wanted = tokens(session, [(need, need + said if repeats else said)])
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("block", range(0, 0x110000, 0x11000))
def test_every_character_has_the_routers_tokens(session: Any, block: int) -> None:
    """In sevens, inside a word and between words, one text a line of the batch."""
    some = [chr(c) for c in range(block, min(block + 0x11000, 0x110000)) if not 0xD800 <= c < 0xE000]
    texts = [f"ab{c}cd {c} x{d}" for c, d in zip(some[::7], some[3::7], strict=False)]
    found, wanted = tokens(session, [(text, "") for text in texts])
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("language", LANGUAGES)
def test_languages(session: Any, language: str) -> None:
    said = LANGUAGES[language]
    pairs = [("", said), (said[:20], said), (said[:9], said[4:]), (said, ""), (said.upper(), said.swapcase())]
    found, wanted = tokens(session, pairs)
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("length", [MOST * 12 - 1, MOST * 12, MOST * 12 + 1, MOST * 12 + 5])
def test_a_long_text_is_cut_where_the_router_cuts(session: Any, length: int) -> None:
    """Twelve characters a token, special tokens cut in half included: long words leave the token limit behind."""
    for tail in ("[SEP] and more", "ß" * 20, "中" * 20):
        text = ("w" * 101 + " ") * 9
        text = text[: length - 3] + tail
        for pair in ((text, ""), ("", text), (text, text + "!"), ("need", text)):
            found, wanted = tokens(session, [pair])
            np.testing.assert_array_equal(found, wanted)


def test_texts_in_company_are_padded_as_the_router_pads(session: Any) -> None:
    found, wanted = tokens(session, [*SAMPLES, ("", "")])
    np.testing.assert_array_equal(found, wanted)


def test_a_cased_tokenizer_is_another_graph(tmp_path: Path) -> None:
    """What characters become is read off the tokenizer, not known beforehand."""
    told = json.loads(SOURCE.read_text())
    told["normalizer"] |= {"lowercase": False, "handle_chinese_chars": False}
    (tmp_path / "tokenizer.json").write_text(json.dumps(told))
    cased = tokenizer(path=tmp_path / "tokenizer.json")
    check_tokens(tokens_graph(Pieces.of(cased)), cased, SAMPLES)
    with pytest.raises(ExportError, match=r"has other tokens than tokenizer\.json gives"):
        check_tokens(tokens_graph(Pieces.of(tokenizer())), cased, SAMPLES)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"normalizer": {"type": "Lowercase"}}, "the tokenizer is Lowercase, BertPreTokenizer, WordPiece"),
        ({"pre_tokenizer": None}, "the tokenizer is BertNormalizer, None, WordPiece"),
        ({"lstrip": True}, "added tokens that are not found as they stand"),
        ({"single_word": True}, "added tokens that are not found as they stand"),
    ],
)
def test_another_tokenizer_is_told(tmp_path: Path, change: dict[str, Any], why: str) -> None:
    told = json.loads(SOURCE.read_text())
    told["added_tokens"][-1] |= {name: value for name, value in change.items() if name in told["added_tokens"][-1]}
    told |= {name: value for name, value in change.items() if name in told}
    (tmp_path / "tokenizer.json").write_text(json.dumps(told))
    with pytest.raises(Unsupported, match=why):
        Pieces.of(tokenizer(path=tmp_path / "tokenizer.json"))


def test_the_same_tokenizer_gives_the_same_bytes(pieces: Pieces) -> None:
    read_characters.cache_clear()
    assert tokens_graph(pieces).SerializeToString() == tokens_graph(Pieces.of(tokenizer())).SerializeToString()
