"""A message's language where its contact has none: right on short messages, None where there is nothing to tell."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twotower.text.identify import base_language, fill_languages, identify

MESSAGES = {
    "en": ["my parcel has not arrived yet", "I want to cancel my contract", "why was I charged twice?"],
    "es": ["mi paquete todavía no ha llegado", "quiero cancelar mi contrato", "no puedo entrar en mi cuenta"],
    "de": ["mein Paket ist noch nicht da", "ich möchte meinen Vertrag kündigen", "die Rechnung ist falsch"],
    "fr": ["mon colis n'est pas encore arrivé", "je veux résilier mon contrat", "la facture est fausse"],
    "it": ["il mio pacco non è ancora arrivato"],
    "pt": ["a minha encomenda ainda não chegou"],
    "nl": ["mijn pakket is nog steeds niet aangekomen"],
    "ar": ["لم تصل طلبيتي حتى الآن"],
    "he": ["החבילה שלי עדיין לא הגיעה"],
    "ja": ["荷物がまだ届いていません"],
}
CASES = [(language, text) for language, texts in MESSAGES.items() for text in texts]


@pytest.mark.parametrize(("language", "text"), CASES)
def test_short_messages_are_identified(language, text):
    assert identify(text).language == language


@pytest.mark.parametrize(("language", "text"), CASES)
def test_capitals_do_not_matter(language, text):
    assert identify(text.upper()).language == language


@pytest.mark.parametrize("text", [None, "", "  \n", "\x00", "12345", "!?", "🙂🙂", "\ud800", "4711-0815 ..."])
def test_a_text_without_letters_has_no_language(text):
    assert identify(text).language is None
    assert identify(text).probability == 0.0
    assert identify(text, among=("en", "de")).language is None


def test_a_guess_that_is_hardly_better_than_others_is_none():
    guess = identify("no")
    assert guess.language is None
    assert 0 < guess.probability < 0.3


def test_only_the_named_languages_are_considered():
    assert identify("minha encomenda", among=("en", "es")).language in ("es", None)
    assert identify("ich möchte kündigen", among=("de", "en")).language == "de"
    assert identify("荷物がまだ届いていません", among=("en", "es", "de", "fr")).language is None


@given(st.text(max_size=300))
def test_any_text_is_answered_and_answered_the_same_again(text):
    guess = identify(text)
    assert 0 <= guess.probability <= 1
    assert identify(text) == guess


def test_damage_beside_the_words_does_not_matter():
    assert identify("ich möchte\x00 meinen Vertrag\ud800 kündigen").language == "de"


def test_what_lies_beyond_the_part_that_is_read_does_not_matter():
    text = "ich möchte meinen Vertrag kündigen, " * 10
    assert identify(text + "cancel my contract " * 60_000) == identify(text)


@pytest.mark.parametrize(
    ("tag", "base"),
    [("en-GB", "en"), ("EN_us", "en"), ("de", "de"), ("zh-Hant-TW", "zh"), (" fr ", "fr"), ("deu", "deu")]
    + [(tag, None) for tag in (None, "", "und", "mul", "zxx", "und-Latn")],
)
def test_the_base_of_a_tag(tag, base):
    assert base_language(tag) == base


def test_a_given_tag_is_believed_and_a_missing_one_identified():
    text = "mein Paket ist noch nicht da"
    assert fill_languages([text, text, text, "", None], ["en-GB", None, "und", None, "es"]) == [
        "en",
        "de",
        "de",
        None,
        "es",
    ]
    assert fill_languages([text], None) == ["de"]


def test_lengths_that_differ_are_refused():
    with pytest.raises(ValueError, match="shorter"):
        fill_languages(["a", "b"], ["en"])


def test_nothing_is_loaded_before_it_is_needed():
    code = (
        "import sys; from twotower.text.identify import fill_languages; fill_languages(['hello'], ['en']);"
        "assert 'fasttext' not in sys.modules and 'requests' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_model_is_in_the_package_and_no_network_is_asked():
    code = (
        "import socket, sys\n"
        "def refuse(*args, **kwargs): raise AssertionError('the network was asked')\n"
        "socket.socket.connect = refuse; socket.getaddrinfo = refuse\n"
        "from twotower.text.identify import identify\n"
        "assert identify('mein Paket ist noch nicht da').language == 'de'"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
