"""Signals say what a reader would say, keep their bounds, and depend on nothing but the text and its language."""

from __future__ import annotations

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twotower.text.lexicon import lexicons
from twotower.text.reading import MOST_CHARACTERS
from twotower.text.signals import SIGNALS, signals

NAMES = [signal.name for signal in SIGNALS]
TOLD = NAMES[NAMES.index("lexicon_known") :]
LANGUAGES = ("en", "es", "de", "fr")

# Written for these tests: how an angry, a content and a neutral customer might put it.
ANGRY = {
    "en": "This is ridiculous, I am furious and I want to speak to a manager.",
    "es": "Esto es una vergüenza, estoy harto y exijo una solución.",
    "de": "Das ist eine Frechheit, ich bin stinksauer und verlange eine Lösung.",
    "fr": "C'est inadmissible, j'en ai marre et je suis furieux.",
}
CONTENT = {
    "en": "Your colleague was very helpful, great service, I am happy.",
    "es": "Su compañera fue muy amable, excelente servicio, estoy contenta.",
    "de": "Ihre Kollegin war sehr freundlich, toller Service, ich bin zufrieden.",
    "fr": "Votre collègue était très aimable, excellent service, je suis ravie.",
}
NEUTRAL = {
    "en": "The parcel goes to the address of the office.",
    "es": "El paquete va a la dirección de la oficina.",
    "de": "Das Paket geht an die Adresse des Büros.",
    "fr": "Le colis part à l'adresse du bureau.",
}
UNHAPPY = {
    "en": "I am not happy with it.",
    "es": "No estoy contento con esto.",
    "de": "Ich bin damit nicht zufrieden.",
    "fr": "Je ne suis pas satisfait.",
}
URGENT = {
    "en": "I need this immediately, it is urgent.",
    "es": "Lo necesito de inmediato, es urgente.",
    "de": "Ich brauche das sofort, es ist dringend.",
    "fr": "Il me le faut immédiatement, c'est urgent.",
}
POLITE = {
    "en": "Could you please help me? Thank you very much.",
    "es": "¿Podría ayudarme, por favor? Muchas gracias.",
    "de": "Könnten Sie mir bitte helfen? Vielen Dank.",
    "fr": "Pourriez-vous m'aider, s'il vous plaît ? Merci beaucoup.",
}
RUDE = {"en": "You idiots.", "es": "Son unos idiotas.", "de": "Ihr Idioten.", "fr": "Bande d'idiots."}
FORMAL = {
    "en": "Dear Sir or Madam, I am writing with reference to the invoice. Yours faithfully",
    "es": "Estimados señores, me dirijo a ustedes en relación con la factura. Atentamente",
    "de": "Sehr geehrte Damen und Herren, hiermit wende ich mich an Sie. Mit freundlichen Grüßen",
    "fr": "Madame, Monsieur, je me permets de vous écrire au sujet de la facture. Cordialement",
}
INFORMAL = {
    "en": "hey guys, u gotta fix my wifi lol",
    "es": "hola tío, qué tal, me arreglas el wifi porfa",
    "de": "hey leute, kannst du mal mein wlan fixen",
    "fr": "coucou, tu peux regarder mon wifi stp",
}
TWO_ISSUES = {
    "en": "The parcel is lost. Another thing: change my address.",
    "es": "El paquete se perdió. Otra cosa: cambien mi dirección.",
    "de": "Das Paket ist weg. Noch eine Frage: wie ändere ich die Adresse.",
    "fr": "Le colis est perdu. Autre chose : changez mon adresse.",
}


def told(text: str | None, language: str | None = "en") -> dict[str, float]:
    """The signals of one text by name."""
    return dict(zip(NAMES, signals([text], [language])[0].tolist(), strict=True))


def test_signals_are_declared_once_each_with_bounds():
    assert len(set(NAMES)) == len(NAMES)
    assert all(signal.low < signal.high for signal in SIGNALS)


@pytest.mark.parametrize("language", LANGUAGES)
def test_moods_are_told_apart(language):
    angry, content, neutral = (told(texts[language], language) for texts in (ANGRY, CONTENT, NEUTRAL))
    assert angry["sentiment"] < -0.3
    assert content["sentiment"] > 0.5
    assert neutral["sentiment"] == 0
    assert angry["upset"] > 0.5
    assert content["upset"] == neutral["upset"] == 0
    assert min(angry["emotion"], content["emotion"]) > 0.3
    assert neutral["emotion"] == 0


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_negated_feeling_is_the_opposite(language):
    unhappy = told(UNHAPPY[language], language)
    assert unhappy["sentiment"] < -0.2
    assert unhappy["upset"] > 0
    assert unhappy["negations"] > 0


@pytest.mark.parametrize("language", LANGUAGES)
def test_urgency_is_told(language):
    assert told(URGENT[language], language)["urgency"] > 0.6
    assert told(NEUTRAL[language], language)["urgency"] == 0


@pytest.mark.parametrize("language", LANGUAGES)
def test_manners_are_told(language):
    assert told(POLITE[language], language)["politeness"] > 0.6
    assert told(NEUTRAL[language], language)["politeness"] == 0
    assert told(RUDE[language], language)["politeness"] < -0.4


@pytest.mark.parametrize("language", LANGUAGES)
def test_formal_and_informal_are_told_apart(language):
    assert told(FORMAL[language], language)["formality"] > 0.3
    assert told(INFORMAL[language], language)["formality"] < -0.3


@pytest.mark.parametrize("language", LANGUAGES)
def test_issues_are_counted(language):
    assert told(TWO_ISSUES[language], language)["issues_named"] == 2
    assert told(NEUTRAL[language], language)["issues_named"] == 1


@pytest.mark.parametrize(
    "text", ["- my card\n- my parcel\n- my bill", "1. card\n2. parcel\n3. bill", "it is 1) card 2) parcel 3) bill"]
)
def test_items_of_a_list_are_issues(text):
    assert told(text)["issues_named"] == 3


@pytest.mark.parametrize(
    ("text", "sign"),
    [
        ("it is good", 1),
        ("it is not good", -1),
        ("it is not so very good", -1),
        ("it is not what I would call good", 1),  # beyond the window of three words
        ("not again. good", 1),  # beyond the end of a sentence
        ("not cheap but good", 1),
        ("not bad", 1),
        ("it is bad", -1),
    ],
)
def test_a_negation_reaches_three_words_and_no_further_than_its_clause(text, sign):
    assert np.sign(told(text)["sentiment"]) == sign


def test_a_negated_complaint_is_hardly_praise():
    assert 0 < told("I am not angry")["sentiment"] < told("I am happy")["sentiment"] / 2
    assert told("I am not angry")["upset"] == 0
    assert told("this is not urgent")["urgency"] == 0


def test_german_negators_at_the_end_of_a_clause_turn_what_stands_before():
    assert told("das gefällt mir nicht", "de")["sentiment"] < 0
    assert told("das gefällt mir nicht, tschüss", "de")["sentiment"] < 0
    assert told("das gefällt mir, nicht wahr", "de")["sentiment"] > 0
    assert told("it is good not", "en")["sentiment"] > 0


def test_intensifiers_capitals_and_exclamation_marks_strengthen():
    plain = told("it is bad")["sentiment"]
    assert told("it is very bad")["sentiment"] < plain
    assert told("it is a bit bad")["sentiment"] > plain
    assert told("THIS is bad")["sentiment"] < plain
    assert told("it is bad!")["sentiment"] < plain
    assert told("it is bad!!!")["sentiment"] < told("it is bad!")["sentiment"]
    assert told("it is bad!!!")["upset"] == told("it is bad")["upset"]


def test_an_intensifier_lends_its_own_feeling_to_the_word_after_it():
    assert told("it is terribly kind")["sentiment"] > told("it is kind")["sentiment"]
    assert told("it is terribly made")["sentiment"] < 0


def test_german_address_counts_with_a_capital_alone():
    assert told("haben Sie es", "de")["formality"] > 0
    assert told("haben sie es", "de")["formality"] == 0


@pytest.mark.parametrize(
    ("spelt", "usual", "language"),
    [
        ("NO FUNCIONA MI CONEXION", "NO FUNCIONA MI CONEXIÓN", "es"),
        ("aergerlich und unverschaemt", "ärgerlich und unverschämt", "de"),
        ("tres decu", "très déçu", "fr"),
        ("c’est d’urgence", "c'est d'urgence", "fr"),
        ("tre\u0300s de\u0301c\u0327u", "très déçu", "fr"),
    ],
)
def test_spellings_of_the_same_words_say_the_same(spelt, usual, language):
    one, other = told(spelt, language), told(usual, language)
    assert one["negations"] + abs(one["sentiment"]) > 0 or one["urgency"] > 0
    assert {name: one[name] for name in TOLD} == {name: other[name] for name in TOLD}


def test_marks_are_counted():
    found = told("Why? Why?? I wrote 3 times, on 12.05.2026 :( HELP!!")
    assert found["question_marks"] == np.float32(2 / 3)
    assert found["exclamation_marks"] == np.float32(2 / 4)
    assert found["numerals"] == np.float32(2 / 9)
    assert found["emoticons"] == np.float32(-1 / 2)
    assert found["shouted"] == np.float32(1 / 7)
    assert found["words"] == np.float32(np.log1p(7))


def test_lengths_are_those_of_words_and_sentences():
    found = told("One two three. Four five six... seven")
    assert found["words_per_sentence"] == np.float32(np.log1p(7 / 3))
    assert found["letters_per_word"] == np.float32(27 / 7)


def test_an_address_of_the_web_says_nothing():
    assert told("see https://bad-awful.example/terrible?angry=1 www.hate.example") == told("see")


@pytest.mark.parametrize("tag", ["en-GB", "EN", "en_US", "eng"])
def test_tags_are_read_by_their_language(tag):
    assert told(ANGRY["en"], tag) == told(ANGRY["en"], "en")


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_missing_language_is_identified(language):
    assert told(ANGRY[language], None) == told(ANGRY[language], language)
    assert np.array_equal(signals([ANGRY[language]]), signals([ANGRY[language]], [language]))


def test_a_language_without_a_lexicon_has_the_signals_of_marks():
    text = "Het is NIET goed!! 😡 3 keer: bad, urgent, please?"
    dutch, english = told(text, "nl"), told(text, "en")
    marks = NAMES[: NAMES.index("issues_named") + 1]
    assert dutch["lexicon_known"] == 0
    assert english["lexicon_known"] == 1
    assert {name: dutch[name] for name in marks} == {name: english[name] for name in marks}
    assert (dutch["urgency"], dutch["politeness"], dutch["formality"], dutch["negations"]) == (0, 0, 0, 0)
    assert dutch["sentiment"] < 0
    assert dutch["upset"] > 0


@pytest.mark.parametrize("text", [None, "", " \n\t ", "\x00\x00", "\ud800", "\u200f\u202e"])
def test_a_text_without_words_is_all_zero(text):
    found = told(text)
    assert found.pop("lexicon_known") == 1
    assert set(found.values()) == {0}
    assert set(told(text, None).values()) == {0}


def test_damage_between_words_changes_nothing():
    assert told("I am\x00 angry\ud800 now") == told("I am angry now")


def test_right_to_left_text_is_counted():
    found = told("هذا سيئ جدا! أين طلبي؟ 😡", "ar")
    assert found["words"] == np.float32(np.log1p(5))
    assert found["words_per_sentence"] == np.float32(np.log1p(5 / 2))
    assert found["question_marks"] == 0.5
    assert found["emoticons"] == -0.5


def test_a_megabyte_is_read_up_to_the_limit():
    text = "I am very angry. " * 60_000
    assert len(text) > 1_000_000
    assert told(text) == told(text[:MOST_CHARACTERS])


@pytest.mark.parametrize("piece", ["a", "A", "!", "?!", "\n", "1,", "no ", "1)", "- \n", ":(", "😡", "a'", "https://"])
@pytest.mark.parametrize("language", ["en", "nl"])
def test_bounds_hold_at_the_extremes(piece, language):
    row = signals([piece * 1_000_000], [language])[0]
    assert np.isfinite(row).all()
    assert (row >= [signal.low for signal in SIGNALS]).all()
    assert (row <= np.float32([signal.high for signal in SIGNALS])).all()


words = st.sampled_from([*list(lexicons()["en"].words)[::7], *list(lexicons()["de"].words)[::7], "not", "very", "x"])
marks = st.sampled_from(["", ".", ",", "!", "?!", "\n", " 🙂", " :(", " 12", "\n- ", "\x00", "\ud800"])
texts = st.one_of(
    st.none(), st.text(max_size=40), st.lists(st.tuples(words, marks).map("".join), max_size=25).map(" ".join)
)
tags = st.sampled_from([None, "en", "en-GB", "de", "es", "fr", "nl", "xx", "und", ""])


@given(st.lists(st.tuples(texts, tags), max_size=8))
def test_a_contact_alone_and_in_a_batch_has_the_same_bits_within_bounds(rows):
    together = signals([text for text, _ in rows], [tag for _, tag in rows])
    assert together.shape == (len(rows), len(SIGNALS))
    assert together.dtype == np.float32
    for (text, tag), row in zip(rows, together, strict=True):
        assert signals([text], [tag]).tobytes() == row.tobytes()
    assert (together >= [signal.low for signal in SIGNALS]).all()
    assert (together <= np.float32([signal.high for signal in SIGNALS])).all()


def test_lengths_that_differ_are_refused():
    with pytest.raises(ValueError, match="shorter"):
        signals(["a", "b"], ["en"])


def test_upset_bank_customers_sound_more_upset(real_data):
    """Real messages: those with plain words of anger against all; a question that only quotes a rate is no praise."""
    texts = pq.read_table(real_data / "text_banking77" / "train.parquet").column("text").to_pylist()
    found = signals(texts, ["en"] * len(texts))
    upset = found[:, NAMES.index("upset")]
    angry = np.array([any(word in text.lower() for word in ("outrageous", "so angry", "stupid")) for text in texts])
    assert upset[angry].mean() > 10 * upset.mean()
    assert (upset > 0).mean() < 0.05
    assert told("What is the best way to exchange currency?")["sentiment"] < 0.3


def test_real_customers_without_a_language_are_found_to_write_english(real_data):
    texts = pq.read_table(real_data / "text_banking77" / "test.parquet").column("text").to_pylist()
    assert signals(texts)[:, NAMES.index("lexicon_known")].mean() > 0.98
