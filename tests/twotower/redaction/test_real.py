"""Real messages: nothing breaks, and little is masked where people gave little away."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq

from twotower.redaction.redactor import Redactor

REDACTOR = Redactor()


def masked(texts: list[str], language: str | None) -> tuple[float, float]:
    """Shares of the texts with something masked, and of the characters masked."""
    done = [REDACTOR.redact(text, language) for text in texts]
    hidden = sum(span.end - span.start for one in done for span in one.spans)
    return sum(bool(one.spans) for one in done) / len(texts), hidden / sum(map(len, texts))


def test_a_banks_customers_lose_next_to_nothing(real_data: Path) -> None:
    """Questions written without personal details: 0 of 13,083 were masked when the limit was set."""
    texts = pq.read_table(real_data / "text_banking77" / "train.parquet")["text"].to_pylist()[:4000]
    assert masked(texts, "en")[0] < 0.001


def test_conversations_lose_what_was_given_away(real_data: Path) -> None:
    """One message in sixteen answers a question for a name, number or address."""
    texts = pq.read_table(real_data / "text_multidogo.parquet")["utterance"].drop_null().to_pylist()[:6000]
    share, characters = masked(texts, "en")
    assert 0.02 < share < 0.10
    assert characters < 0.10


def test_code_reviews_lose_next_to_nothing(real_data: Path) -> None:
    """Titles of changes hold versions, hashes and numbers, hardly anything personal."""
    for log in ("buck2", "golang_tools"):
        texts = pq.read_table(real_data / log / "contacts.parquet")["intent_text"].to_pylist()[:2000]
        assert masked(texts, None)[0] < 0.005
