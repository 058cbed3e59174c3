"""Contact features, computed by hand; languages found where none is given."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support import at, minutes
from twotower.clock import DAY, HOUR
from twotower.features.contact import (
    CATEGORIES,
    FEW,
    NUMBERS,
    Characters,
    ContactRows,
    codes_of,
    contact_categories,
    contact_numbers,
    size,
)
from twotower.features.schema import customer_columns, log_columns
from twotower.tables import Log
from twotower.text.signals import SIGNALS, signals

BY_NAME = {feature.name: feature for feature in NUMBERS}
SAID = [feature.name for feature in NUMBERS if feature.family == "signals"]


def numbers(columns: dict, names: list[str]) -> np.ndarray:
    return contact_numbers(ContactRows(columns), [BY_NAME[name] for name in names])


def number(name: str, **columns: object) -> list[float]:
    return numbers(columns, [name])[:, 0].tolist()


def near(*values: float) -> object:
    return pytest.approx(list(values), abs=1e-6)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        # The text read is "Why?\nWHY? Now!" (14 characters, the line break among them) and "été\n" (4).
        ("need_length", (math.log(1 + 4), math.log(1 + 3))),
        ("transcript_length", (math.log(1 + 9), 0.0)),
        ("questions", (math.log(1 + 2), 0.0)),
        ("exclamations", (math.log(1 + 1), 0.0)),
        ("capitals", (5 / 14, 0.0)),
        ("digits", (0.0, 0.0)),
    ],
)
def test_numbers_of_the_text(name, expected):
    assert number(name, intent_text=["Why?", "été"], transcript=["WHY? Now!", None]) == near(*expected)


def test_digits_are_a_share_of_all_characters():
    assert number("digits", intent_text=["order 1234"], transcript=["77777"]) == near(9 / 16)


def test_capitals_are_those_of_any_alphabet():
    assert number("capitals", intent_text=["ÉÀЖ"], transcript=[""]) == near(3 / 4)


@pytest.mark.parametrize(("hour", "sine", "cosine"), [(0, 0, 1), (6, 1, 0), (12, 0, -1), (18, -1, 0)])
def test_the_hour_of_arrival_goes_round_the_clock(hour, sine, cosine):
    arrived = np.array([20_000.0 * DAY + hour * HOUR])
    assert number("hour_sin", arrived_at=arrived) == near(sine)
    assert number("hour_cos", arrived_at=arrived) == near(cosine)


def test_priority_is_as_given_and_zero_where_null():
    assert number("priority", priority=[2.0, None, float("nan")]) == near(2, 0, 0)


def test_a_customer_is_known_or_not():
    assert number("customer_known", customer_id=["anna", None]) == [1, 0]


def test_tenure_counts_days_since_the_customer_came():
    arrived = np.array([10.0, 10.0, 10.0]) * DAY
    since = np.array([3.0, 12.0, np.nan]) * DAY  # a date in the future is no tenure
    assert number("customer_tenure", arrived_at=arrived, customer_since=since) == near(math.log(8), 0, 0)


@pytest.mark.parametrize("name", BY_NAME)
def test_what_is_absent_or_null_gives_zero_and_never_nan(name):
    assert number(name, channel=["chat"]) == [0.0]
    nulls: dict[str, list[None]] = {n: [None] for n in ("intent_text", "transcript", "priority", "arrived_at")}
    assert number(name, **nulls) == [0.0]


def test_the_order_is_the_one_that_was_asked_for():
    columns = {"intent_text": ["a?"], "priority": [3.0]}
    forth, back = (numbers(columns, names)[0] for names in (["questions", "priority"], ["priority", "questions"]))
    assert forth.tolist() == back.tolist()[::-1]
    assert numbers(columns, []).shape == (1, 0)
    assert size({}) == len(ContactRows({})) == 0


def test_categories_are_coded_from_one_and_the_unknown_is_zero():
    vocabularies = {"channel": ["call", "chat"], "intent": ["refund"], "queue": []}
    columns = {"channel": ["chat", "call", "fax", None], "intent": pa.array(["refund", None, "x", "refund"])}
    codes = {name: codes_of(values) for name, values in vocabularies.items()}
    coded = contact_categories(ContactRows(columns), codes)
    assert coded.tolist() == [[2, 1, 0], [1, 0, 0], [0, 0, 0], [0, 1, 0]]
    many = {name: pa.concat_arrays([pa.array(column)] * 50) for name, column in columns.items()}
    assert contact_categories(ContactRows(many), codes).tolist() == coded.tolist() * 50
    assert contact_categories(ContactRows(columns), {}).shape == (4, 0)


def test_a_regional_tag_counts_as_its_base_language():
    rows = ContactRows({"language": ["pt-BR", "EN_gb", "zh-Hant-TW", "en"]})
    assert rows.languages == ["pt", "en", "zh", "en"]
    assert contact_categories(rows, {"language": codes_of(["en", "pt"])}).tolist() == [[2], [1], [0], [1]]


def test_a_language_that_is_not_given_is_identified_from_the_text():
    german, french = "Wo ist mein Paket geblieben?", "Bonjour, où est ma commande"
    rows = ContactRows({"language": [None, "und", "en", None], "intent_text": [german, french, german, None]})
    assert rows.languages == ["de", "fr", "en", None]
    assert ContactRows({"transcript": [french], "intent_text": [None]}).languages == ["fr"]
    assert contact_categories(rows, {"language": codes_of(["de", "en"])}).tolist() == [[1], [0], [2], [0]]


def test_languages_that_the_centre_serves_are_told_apart_better_and_no_other_is_named():
    short, french = {"intent_text": ["x"]}, {"intent_text": ["Bonjour, où est ma commande"]}
    served = ("de", "en", "es")
    assert ContactRows(short).languages == [None]
    assert ContactRows(short, served).languages == ["en"]
    assert ContactRows(french).languages == ["fr"]
    assert ContactRows(french, served).languages == [None]
    assert ContactRows({**french, "language": ["fr"]}, served).languages == ["fr"]  # what is given is not guessed


def test_a_text_that_tells_no_language_is_in_the_customers_own():
    texts, tags = (
        ["", "12?", None, "注文はどこですか", "ok", "Bonjour, où est ma commande"],
        [None, "und", None, None, "en-GB", None],
    )
    columns = {"intent_text": texts, "language": tags, "customer_language": ["pt-BR", "DE_at", None, "de", "de", "de"]}
    rows = ContactRows(columns, ("de", "en", "fr", "pt"))
    assert rows.languages == ["pt", "de", None, "de", "en", "fr"]  # none of the four is Japanese
    assert rows.tagged == [None, None, None, None, "en", None]
    assert rows.guessed == [None, None, None, None, None, "fr"]
    assert rows.of_customers == ["pt", "de", None, "de", "de", "de"]
    assert contact_categories(rows, {"language": codes_of(["de", "en"])}).tolist() == [[0], [1], [0], [1], [2], [0]]
    assert ContactRows({**columns, "customer_language": pa.array([None, *["und"] * 5])}).languages[:3] == [None] * 3


def test_signals_of_a_text_that_tells_no_language_are_read_in_the_customers_own():
    columns = {"intent_text": ["注文 thanks"], "transcript": [None]}
    spoken, unknown = (
        contact_numbers(ContactRows({**columns, **more}, ("en", "de")), [BY_NAME[name] for name in SAID])
        for more in ({"customer_language": ["en"]}, {})
    )
    assert np.array_equal(spoken, signals(["注文 thanks\n"], ["en"]))
    assert not np.array_equal(spoken, unknown)


def test_a_contact_in_another_language_than_its_customers_own_is_told():
    german = "Wo ist mein Paket geblieben?"
    columns = {
        "language": ["en-GB", "en", "pt-PT", None, None, None, "en", "en", None],
        "intent_text": [german, german, german, german, german, "12?", german, german, None],
        "customer_language": ["de", "EN", "pt_BR", "de-AT", "en", "fr", None, "und", "fr"],
    }
    expected = [1, 0, 0, 0, 1, 0, 0, 0, 0]
    assert number("foreign_language", **columns) == expected
    arrow = {name: pa.chunked_array([values[:4], values[4:]], pa.string()) for name, values in columns.items()}
    assert number("foreign_language", **arrow) == expected


def test_without_customers_languages_no_text_is_looked_at_for_them():
    class Untouchable(dict):
        def get(self, name, default=None):
            assert name == "customer_language"
            return super().get(name, default)

    assert number("foreign_language", intent_text=["Wo ist mein Paket?", ""]) == [0, 0]
    rows = ContactRows(Untouchable(intent_text=["Wo ist mein Paket?"], customer_language=["und"]))
    assert contact_numbers(rows, [BY_NAME["foreign_language"]]).tolist() == [[0]]


def test_signals_are_those_of_the_text_in_the_language_of_the_contact():
    needs = ["URGENT: refund me, please!", "Ich bin sehr wütend. Bitte helfen Sie mir!", "ok", None, "😀", "Merci bien"]
    said = ["I am so angry", None, "", None, "", "merci"]
    tags = ["en-GB", None, "en", None, None, "xx"]
    texts = [f"{need or ''}\n{transcript or ''}" for need, transcript in zip(needs, said, strict=True)]
    found = numbers({"intent_text": needs, "transcript": said, "language": tags}, SAID)
    assert [name.removeprefix("said_") for name in SAID] == [signal.name for signal in SIGNALS]
    assert np.array_equal(found, signals(texts, ["en", "de", "en", "x", "x", "xx"]))
    assert found[0, SAID.index("said_urgency")] > 0.2
    assert found[:, SAID.index("said_lexicon_known")].tolist() == [1, 1, 1, 0, 0, 0]


# Nothing, NUL, all of ASCII; capitals of several alphabets and planes, title case, a Roman numeral, a sharp s, other
# digits; capitals that came with Unicode 14, 15.1 and 16; a long text.
TEXTS = (
    "", "\0", "a\0B\0?1", "".join(map(chr, range(128))), "ÉÀЖ ß ẞ", "𝐀𞤀Ⓐ", "ǅ ǲ", "Ⅷ", "٣３", "\uff01\u037e\u2047",
    "\u2c2f\ua7c0", "\u1c89\ua7cb\ua7da", "Why? NO! 42 " * 2000,
)  # fmt: skip
Rows = st.lists(
    st.tuples(
        st.one_of(st.sampled_from(TEXTS), st.text(max_size=20)),
        st.one_of(st.none(), st.sampled_from(TEXTS), st.text(max_size=20)),
    ),
    min_size=1,
    max_size=8,
)


@given(Rows)
def test_a_contact_alone_and_in_a_batch_has_the_same_features(rows):
    names = list(BY_NAME)
    counted = [name for name in names if name not in SAID]  # signals are read text by text
    together = numbers(columns_of(rows), names)
    many = numbers(columns_of(rows * FEW + rows), counted)  # past FEW rows Arrow counts
    alone = np.concatenate([numbers(columns_of([row]), names) for row in rows])
    assert np.array_equal(together, alone)
    assert np.array_equal(many, np.tile(alone[:, [names.index(name) for name in counted]], (FEW + 1, 1)))
    assert np.isfinite(together).all()


@pytest.mark.parametrize("pattern", [r"\p{Lu}", r"[0-9]", r"\?", r"!", r"\p{L}"])
def test_few_rows_and_many_are_counted_alike(pattern):
    few, many = Characters(pattern), Characters(pattern)
    texts = pa.array(TEXTS, pa.large_string())
    expected = many.count(pa.array(TEXTS * FEW, pa.large_string()))[: len(TEXTS)].tolist()
    assert len(TEXTS) <= FEW
    assert few.count(texts).tolist() == expected
    assert few.count(texts).tolist() == expected  # now that every character is known
    assert [few.count(texts.slice(i, 1)).item() for i in range(len(TEXTS))] == expected
    assert few.count(texts.slice(0, 0)).tolist() == []


@given(st.lists(st.tuples(st.text(max_size=20), st.one_of(st.none(), st.text(max_size=20))), min_size=1, max_size=8))
def test_arrow_columns_and_python_lists_have_the_same_features(rows):
    lists = columns_of(rows)
    arrow = {name: pa.array(values, pa.string()) for name, values in lists.items()}
    chunked = {name: pa.chunked_array([values]) for name, values in arrow.items()}
    names = ["need_length", "transcript_length", "questions", "capitals", "digits", *SAID]
    assert np.array_equal(numbers(lists, names), numbers(arrow, names))
    assert np.array_equal(numbers(lists, names), numbers(chunked, names))


def test_a_broken_character_is_no_question():
    assert number("questions", intent_text=["lost \ud83d card"]) == [0.0]


def test_the_columns_of_a_log(tables, save):
    log = Log.load(save(tables))
    columns = log_columns(log)
    assert columns["arrived_at"].tolist() == [at(10), at(10), at(30), at(60)]
    assert columns["customer_id"].is_valid().to_pylist() == [True, False, True, True]
    assert columns["language"].to_pylist() == [None, "pt-BR", "en", "es"]
    assert np.isnan(columns["customer_since"]).all()
    assert columns["customer_language"].to_pylist() == [None] * 4
    some = log_columns(log, np.array([3, 0]))
    for name in ("intent_text", "transcript", *CATEGORIES, "customer_id"):
        assert some[name].to_pylist() == [columns[name].to_pylist()[i] for i in (3, 0)]
    assert some["arrived_at"].tolist() == [at(60), at(10)]


def test_customers_columns_of_a_log(tables, save):
    tables["customers"] = pa.table(
        {"customer_id": ["bert", "anna", "nobody"], "language": ["pt-BR", None, "fr"], "since": minutes(5, None, 7)}
    )
    log = Log.load(save(tables))
    columns = log_columns(log)
    who = [None if code < 0 else log.customer_ids[code].as_py() for code in log.contacts.customer]
    assert columns["customer_language"].to_pylist() == ["pt-BR" if name == "bert" else None for name in who]
    assert "bert" in who
    some = log_columns(log, np.array([3, 0]))
    for name in ("customer_language", "customer_since"):
        assert pa.array(some[name]).to_pylist() == pytest.approx(
            [columns[name].tolist()[i] for i in (3, 0)], nan_ok=True
        )
    nobodys = customer_columns(log, np.array([-1, log.customer_ids.index("bert").as_py()], np.int32))
    assert nobodys["customer_language"].to_pylist() == [None, "pt-BR"]
    assert nobodys["customer_since"].tolist() == pytest.approx([np.nan, at(5)], nan_ok=True)


def columns_of(rows: list[tuple[str, str | None]]) -> dict[str, list[str | None]]:
    return {"intent_text": [need for need, _ in rows], "transcript": [said for _, said in rows]}
