"""What holds for every text: nothing raises, twice is once, and the work grows with the length and no faster."""

from __future__ import annotations

import importlib
import pkgutil
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import twotower.redaction
from tests.twotower.redaction.test_found import ALL, PHONES
from tests.twotower.redaction.test_left_alone import NUMBERS, WORDS
from twotower.redaction.redactor import Redactor
from twotower.redaction.spans import View, flatten

REDACTOR = Redactor()
# Every text the tables know, cut into words and glued at random: near every pattern, and across its edges.
SNIPPETS = sorted(
    {piece for text, *_ in [*ALL, *PHONES] for piece in (text, *text.split(" "))}
    | {piece for text in [*NUMBERS, *WORDS] for piece in text.split(" ")}
    | {"[card]", "[name]", "[", "]", "\ufffc", "\0", "\ud800", "\n", "é", "e\u0301", "١٢٣", "😀"}
)
MIXED = st.lists(st.sampled_from(SNIPPETS) | st.text(max_size=4), max_size=14).flatmap(
    lambda parts: st.sampled_from([" ", "", "\n", ", "]).map(lambda glue: glue.join(parts))
)
TEXTS = MIXED | st.text(alphabet=st.characters()) | st.text(alphabet="0123456789 -+().,@aA\n")
TAGS = st.sampled_from([None, "en", "en-GB", "es-MX", "de", "fr", "zh-Hant-TW", "", "x"])
NAMES = st.lists(st.sampled_from(["Anna Smith", "José", "Will", "李小龍", "", "\0", "de la"]), max_size=2)


@given(TEXTS, TAGS, NAMES)
@settings(max_examples=600)
def test_redacting_twice_is_redacting_once(text, language, names):
    once = REDACTOR.redact(text, language, names)
    again = REDACTOR.redact(once.text, language, names)
    assert again.text == once.text
    assert again.spans == ()


@given(TEXTS, TAGS, NAMES)
@settings(max_examples=300)
def test_the_spans_are_in_order_and_rebuild_the_text(text, language, names):
    done = REDACTOR.redact(text, language, names)
    built, at = "", 0
    for span in done.spans:
        assert at <= span.start < span.end <= len(text)
        built += text[at : span.start] + f"[{span.kind}]"
        at = span.end
    assert done.text == built + text[at:]


@given(st.text(alphabet=st.characters()))
def test_the_flat_form_keeps_every_place(text):
    assert len(flatten(text)) == len(text)


@pytest.mark.parametrize("text", ["", "\0", "\ud800\udfff \udc00", "a\0b@c.com", "\ud83d my name is Anna", "\ufffc"])
def test_no_text_is_too_strange(text):
    assert isinstance(REDACTOR.redact(text).text, str)


def test_what_is_between_lone_surrogates_is_found():
    assert REDACTOR.redact("\ud800 a@b.com \udc00\0").text == "\ud800 [email] \udc00\0"


def test_placeholders_are_left_as_they_are():
    text = "[card] [phone] my name is [name] order number [order] [text]"
    assert REDACTOR.redact(text).text == text


UNITS = {
    "letters": "a",
    "at signs": "a@a.",
    "digits": "4",
    "digits apart": "4 ",
    "digits in fours": "4111 ",
    "dashes": "1-2-",
    "ibans": "DE89 ",
    "numbers": "61 234 5678,",
    "keywords": "order no no no ",
    "ids": "order 1-1-1-",
    "introductions": "my name is name is ",
    "capitals": "Aa Bb Mr Cc ",
    "streets": "12 a b c street ",
    "rues": "1 rue de la ",
    "calles": "calle de la de la ",
    "states": "Aa Bb Cc NY 12345 ",
    "sign-offs": "regards, lg ",
    "spoken": "a dot b at x dot ",
    "placeholders": "[card",
    "blanks": " \n",
}


@pytest.mark.parametrize("unit", UNITS.values(), ids=UNITS.keys())
def test_text_made_to_be_slow_comes_through(unit):
    """Quadratic work would take minutes here; that no expression can do it is held by the walk below."""
    text = (unit * (200_000 // len(unit) + 1))[:200_000]
    assert REDACTOR.redact(text).text


@pytest.mark.parametrize("unit", ["a@", "4 1", "Aa ", "order 12", "1, "])
def test_a_megabyte_comes_through(unit):
    text = (unit * 1_000_000)[:1_000_000]
    assert REDACTOR.redact(text).text


def patterns() -> list[tuple[str, re.Pattern[str]]]:
    """Every compiled expression of the package: of its modules, and of its detectors."""
    modules = [
        importlib.import_module(f"twotower.redaction.{m.name}")
        for m in pkgutil.iter_modules(twotower.redaction.__path__)
    ]
    owners = [(m.__name__, vars(m)) for m in modules] + [(type(d).__name__, vars(d)) for d in REDACTOR._built_in]
    return [(f"{o}.{n}", v) for o, values in owners for n, v in values.items() if isinstance(v, re.Pattern)]


def endless(parsed: object) -> bool:
    """Whether a repeat without a bound can be taken back, the root of every catastrophe of backtracking."""
    from re import _constants, _parser  # type: ignore[attr-defined]

    for operation, value in parsed:  # type: ignore[attr-defined]
        if operation in (_constants.MAX_REPEAT, _constants.MIN_REPEAT) and value[1] == _constants.MAXREPEAT:
            return True
        inner = value if isinstance(value, tuple | list) else (value,)
        flat = [part for item in inner for part in (item if isinstance(item, list) else [item])]
        if any(isinstance(part, _parser.SubPattern) and endless(part) for part in flat):
            return True
    return False


def parse(pattern: str) -> object:
    from re import _parser  # type: ignore[attr-defined]

    return _parser.parse(pattern)


def test_the_probe_sees_an_endless_repeat():
    assert endless(parse(r"a(b(?:c|d*))"))
    assert not endless(parse(r"a(b(?:c|d*+))"))


@pytest.mark.parametrize(("name", "pattern"), patterns(), ids=[name for name, _ in patterns()])
def test_no_expression_repeats_without_end(name, pattern):
    assert not endless(parse(pattern.pattern))


def test_a_view_blanks_without_moving_anything():
    view = View("call a@b.com now")
    assert len(view.without(REDACTOR.redact(view.text).spans).text) == len(view.text)
