"""What customers and CSAs write: complete phrase files, readable needs, and no seams showing."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

import numpy as np
import pytest

from evaluation.generate import catalogue, lexicon
from evaluation.generate.arrivals import Contacts, draw_contacts
from evaluation.generate.centre import generate
from evaluation.generate.lexicon import GAP, KEYS
from evaluation.generate.people import draw_customers
from evaluation.generate.settings import Settings
from evaluation.generate.world import draw_world
from evaluation.generate.writing import TERSE, Writer
from twotower.errors import ConfigError

WITH_GAP = {"intent", "names_product", "reference"}


@pytest.fixture(scope="module", params=lexicon.available())
def written(request: pytest.FixtureRequest) -> tuple[str, Contacts, list[str], list[str]]:
    """(language, contacts, stated needs, transcripts) of a centre of one language."""
    settings = Settings(3000, 20, languages=(request.param,))
    world = draw_world(settings)
    contacts = draw_contacts(settings, world, draw_customers(settings, world))
    writer = Writer(lexicon.load(settings.languages), contacts, slice(0, 3000), settings.random("texts"))
    return request.param, contacts, writer.stated_need().to_pylist(), writer.transcript().to_pylist()


@cache
def phrases(language: str, section: str, value: int) -> list[str]:
    """All wordings of one value, in small letters, up to their gap."""
    loaded = lexicon.load((language,))
    where = loaded.sections[section]
    first, count = where.first[0, value], where.count[0, value]
    return [loaded.heads[int(at)].as_py().lower() for at in range(first, first + count)]


def says(text: str, language: str, section: str, value: int) -> bool:
    return any(phrase in text.lower() for phrase in phrases(language, section, value))


@pytest.mark.parametrize("language", lexicon.available())
def test_a_phrase_file_is_complete_and_its_gaps_are_where_they_belong(language: str) -> None:
    loaded = lexicon.load((language,))
    for section, keys in KEYS.items():
        for value in range(len(keys)):
            where = loaded.sections[section]
            for at in range(where.first[0, value], where.first[0, value] + where.count[0, value]):
                head, tail = loaded.heads[at].as_py(), loaded.tails[at].as_py()
                assert GAP not in head + tail
                assert head == head.lstrip()
                assert (head + tail) == (head + tail).rstrip() or section in {*WITH_GAP, "profile"}
                if section in WITH_GAP:
                    assert tail, f"{section}.{keys[value]} lacks its gap: {head}"
                    assert head.endswith((" ", "¿")), f"no space before the gap: {head}"


@pytest.mark.parametrize("language", lexicon.available())
def test_intents_causes_and_tones_have_several_distinct_wordings(language: str) -> None:
    everything: list[str] = []
    for section in ("intent", "tone", *catalogue.SLOTS):
        for value in range(len(KEYS[section])):
            wordings = phrases(language, section, value)
            assert len(wordings) >= 3
            everything += wordings
    repeated = {text for text in everything if everything.count(text) > 1}
    # Heads alone can agree ("I want to send back …" and "I want to …"); whole sentences of slots cannot.
    assert not repeated & {text for text in everything if text.endswith((".", "!", "?"))}


def test_transcripts_have_the_stated_lengths_and_some_are_empty(written: Any) -> None:
    _, contacts, _, transcripts = written
    lengths = np.array([len(text) for text in transcripts if text])
    assert 250 <= np.median(lengths) <= 420
    assert np.percentile(lengths, 99) > 1.6 * np.median(lengths)
    callback = contacts.channel == catalogue.CHANNELS.index("callback")
    assert all(not text for text, empty in zip(transcripts, callback, strict=True) if empty)
    assert 0.05 < np.mean([not text for text in transcripts]) < 0.2


def test_no_seams_show(written: Any) -> None:
    _, _, stated, transcripts = written
    for text in stated + transcripts:
        assert text == text.strip()
        assert not re.search(r"  |\n\n|\{|\}| [.,]|\n ", text), text
    assert all(stated)


def test_terse_customers_write_small(written: Any) -> None:
    _, contacts, stated, _ = written
    for text, style in zip(stated, contacts.style, strict=True):
        assert (text == text.lower()) == (style == TERSE)


@pytest.mark.parametrize("slot", catalogue.SLOTS)
def test_a_reader_can_tell_what_shaped_the_need(written: Any, slot: str) -> None:
    language, contacts, stated, transcripts = written
    told = [
        says(need + "\n" + transcript, language, slot, int(value))
        for need, transcript, value in zip(stated, transcripts, contacts.slot[slot], strict=True)
        if transcript
    ][:400]
    assert 0.85 < np.mean(told) < 1.0


def test_the_product_is_mostly_named_and_more_often_in_the_transcript(written: Any) -> None:
    language, contacts, stated, transcripts = written
    product = np.array(catalogue.INTENT_DOMAIN)[contacts.intent] * catalogue.PER_INTENT + contacts.product
    rows = [row for row in range(600) if transcripts[row]]
    in_need = np.mean([says(stated[row], language, "product", int(product[row])) for row in rows])
    in_transcript = np.mean([says(transcripts[row], language, "product", int(product[row])) for row in rows])
    assert 0.5 < in_need < 0.75
    assert 0.8 < in_transcript < 0.98


def test_the_upset_say_so(written: Any) -> None:
    language, contacts, _, transcripts = written
    furious = [text for text, tone in zip(transcripts, contacts.tone, strict=True) if tone == 2 and text]
    calm = [text for text, tone in zip(transcripts, contacts.tone, strict=True) if tone == 0 and text]
    assert np.mean([says(text, language, "tone", 2) for text in furious]) > 0.8
    assert not any(says(text, language, "tone", 2) for text in calm)


def test_two_issues_are_both_told(written: Any) -> None:
    language, contacts, _, transcripts = written
    rows = [row for row in np.flatnonzero(contacts.second >= 0) if transcripts[row]]
    assert np.mean([says(transcripts[row], language, "intent", int(contacts.second[row])) for row in rows]) > 0.9
    assert np.mean([says(transcripts[row], language, "second", 0) for row in rows]) > 0.9


def test_nobody_strays_the_same_way_twice(written: Any) -> None:
    language, _, _, transcripts = written
    asides = [aside for aside in phrases(language, "chatter", 0) if len(aside) > 15]
    assert len(phrases(language, "chatter", 0)) == catalogue.CHATTER
    for text in transcripts[:1000]:
        assert all(text.lower().count(aside) <= 1 for aside in asides)


def test_profiles_are_in_the_first_language_and_some_are_empty(tmp_path: Any) -> None:
    import pyarrow.parquet as pq

    generate(Settings(200, 60, languages=("de", "en"), eligible=5), tmp_path / "centre")
    csas = pq.read_table(tmp_path / "centre" / "csas.parquet")
    profiles = csas["profile"].to_pylist()
    assert 0.02 < np.mean([not text for text in profiles]) < 0.35
    openings = phrases("de", "profile", 0)
    assert all(any(text.lower().startswith(opening) for opening in openings) for text in profiles if text)
    skills = csas["skills"].to_pylist()
    assert any(not declared for declared in skills)
    assert {skill["name"] for declared in skills for skill in declared} <= set(catalogue.DOMAINS)


def test_an_unknown_language_is_one_line_that_lists_those_there_are() -> None:
    with pytest.raises(ConfigError, match="no phrases for 'tlh'; there are de, en, es, fr"):
        lexicon.load(("tlh",))
