"""Lexicons are what their authors wrote: every kind of mistake in a file is one line, every shipped file loads."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twotower.errors import ConfigError
from twotower.text.lexicon import LONGEST_WORD, NO_WORDS, SECTIONS, Lexicon, fold, lexicons

LANGUAGES = ("de", "en", "es", "fr")
BASE = {section: f'plain = "{section}word"' for section in SECTIONS}


def lexicon(head: str = "", accents: str = "ignored", **sections: str) -> Lexicon:
    """A lexicon of one word a section but for the sections given, as TOML."""
    bodies = "\n".join(f"[{name}]\n{sections.get(name, body)}" for name, body in BASE.items())
    return Lexicon.parse("xx", f'tags = ["xx"]\naccents = "{accents}"\n{head}\n{bodies}\n')


def test_the_shipped_lexicons_are_those_of_four_languages_with_their_three_letter_tags():
    assert {found.language for found in lexicons().values()} == set(LANGUAGES)
    assert lexicons()["deu"] is lexicons()["de"]


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize(
    "effect", ["sentiment", "upset", "urgency", "polite", "rude", "formal", "informal", "issues", "negations"]
)
def test_every_language_speaks_of_every_effect(language, effect):
    spoken = lexicons()[language]
    meanings = [*spoken.words.values(), *spoken.stems.values()]
    assert sum(getattr(meaning, effect) != 0 for meaning in meanings) >= 5


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_word_of_a_shipped_lexicon_is_found_as_it_is_kept(language):
    spoken = lexicons()[language]
    assert all(spoken.find(word) is not None for word in spoken.words)


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_word_counts_in_capitals_too_unless_it_is_kept_cased(language):
    spoken = lexicons()[language]
    folded = [word for word in spoken.words if word == word.lower() and spoken.fold(word.upper()) == word]
    assert len(folded) > 500
    assert all(spoken.find(word.upper()).meaning == spoken.words[word] for word in folded)


@pytest.mark.parametrize(
    ("token", "feeling"),
    [
        ("good", 2.0),
        ("GOOD", 2.0),
        ("gooood", 2.0),
        ("gooddd", 2.0),
        ("goods", 0.0),
        ("wasteful", -2.0),
        ("waste", -2.0),
    ],
)
def test_case_and_stretched_letters_do_not_matter_and_stems_do(token, feeling):
    spoken = lexicon(positive='plain = "good"', negative='plain = "wast*"')
    found = spoken.find(token)
    assert (found.meaning.sentiment if found and found.meaning else 0.0) == feeling


def test_accents_are_ignored_where_a_lexicon_says_so():
    spoken = lexicon(positive='plain = "rápido"')
    assert spoken.find("rapido") == spoken.find("rápido")
    assert spoken.find("rápido").meaning.sentiment == 2.0


def test_umlauts_count_and_may_be_written_as_two_letters_where_a_lexicon_says_so():
    spoken = lexicon(accents="digraphs", positive='plain = "schön"')
    assert spoken.find("schoen").meaning.sentiment == 2.0
    assert spoken.find("schön").meaning.sentiment == 2.0
    assert spoken.find("schon") is None


def test_a_capital_counts_in_a_lexicon_with_digraphs_alone():
    assert lexicon(accents="digraphs", formal='plain = "Sie"').find("sie") is None
    assert lexicon(accents="ignored", formal='plain = "Sie"').find("sie").meaning.formal == 2.0


def test_elided_words_are_taken_off():
    spoken = lexicon('elisions = ["d"]', urgency='plain = "urgence"')
    assert spoken.find("d’urgence").meaning.urgency == 2.0
    assert spoken.find("x'urgence") is None


def test_the_longest_phrase_wins():
    spoken = lexicon(negative='weak = "waste, waste of, waste of time"')
    tails = spoken.find("waste").tails
    assert spoken.longest(tails, ["waste", "of", "TIME", "now"], 1)[1] == 3
    assert spoken.longest(tails, ["waste", "of", "paper"], 1)[1] == 2
    assert spoken.longest(tails, ["waste", "paper"], 1) == (None, 1)


def test_a_phrase_counts_the_negators_in_it():
    spoken = lexicon(negative='weak = "not working"', negators='plain = "not"')
    meaning, _ = spoken.longest(spoken.find("not").tails, ["not", "working"], 1)
    assert (meaning.negations, meaning.negates) == (1, False)


def test_a_word_of_two_sections_has_the_effects_of_both():
    meaning = lexicon(urgency='strong = "now"', polite='weak = "now"').find("now").meaning
    assert (meaning.urgency, meaning.polite) == (3.0, 1.0)


@pytest.mark.parametrize(
    ("sections", "complaint"),
    [
        ({"positive": 'plain = "good, good"'}, "'good' stands in positive already"),
        ({"positive": 'plain = "bad"', "rude": 'plain = "bad"'}, "rude: 'bad' stands in positive already"),
        ({"positive": 'plain = "good,, nice"'}, "positive: '' is not words"),
        ({"positive": 'plain = "good;nice"'}, "'good;nice' is not words"),
        ({"positive": 'plain = "a*"'}, r"'a\*': a stem has 3 letters or more"),
        ({"positive": 'plain = "good* work"'}, "stands alone"),
        ({"positive": 'loud = "good"'}, "positive.loud: expected weak, plain, strong"),
        ({"positive": "plain = 3"}, "positive.plain: expected weak, plain, strong"),
        ({"positive": 'plain = "'}, "not readable as TOML"),
        ({"head": 'colour = "red"'}, "colour: expected one of tags, accents"),
        ({"head": "elisions = [1]"}, "expected lists of texts"),
        ({"accents": "kept"}, 'expected "ignored" or "digraphs"'),
    ],
)
def test_a_mistake_is_one_line_that_names_file_section_and_entry(sections, complaint):
    with pytest.raises(ConfigError, match=complaint) as error:
        lexicon(**sections)
    assert str(error.value).startswith("lexicon xx.toml: ")
    assert "\n" not in str(error.value)


def test_a_section_that_is_missing_is_named():
    with pytest.raises(ConfigError, match=r"lexicon xx\.toml: positive: is missing"):
        Lexicon.parse("xx", 'tags = ["xx"]\naccents = "ignored"\n')


@given(st.text(max_size=2 * LONGEST_WORD))
def test_any_token_can_be_looked_up_and_means_the_same_again(token):
    for spoken in (lexicons()["de"], lexicons()["fr"], NO_WORDS):
        assert spoken.find(token) == spoken.find(token)


@given(st.text("abcXYZ'’`ÀâäÄßçÉèñÑóÖœŒúüÜ", max_size=20), st.sampled_from(["ignored", "digraphs"]))
def test_folding_twice_is_folding_once(token, accents):
    once = fold(token, accents)
    assert fold(once, accents) == once


def test_words_are_remembered_up_to_a_limit(monkeypatch):
    monkeypatch.setattr("twotower.text.lexicon.MOST_REMEMBERED", 3)
    spoken = lexicon(positive='plain = "good"')
    for token in ("a", "b", "c", "d", "good", "x" * (LONGEST_WORD + 1)):
        spoken.find(token)
    assert len(spoken._known) <= 3
    assert spoken.find("good").meaning.sentiment == 2.0
