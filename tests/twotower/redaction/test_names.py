"""Names that the customer's record gives, and detectors that a user adds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pytest

from twotower.errors import ConfigError
from twotower.redaction.redactor import PASSES, Redactor
from twotower.redaction.spans import BLANK, Span

REDACTOR = Redactor()


@pytest.mark.parametrize(
    ("text", "names", "wanted"),
    [
        ("jose garcia lopez here", ["José García López"], "[name] here"),
        ("I told you, Garcia is the name", ["José García López"], "I told you, [name] is the name"),
        ("jose again, the same garcía", ["José García López"], "[name] again, the same [name]"),
        ("Will it come? I am will smith", ["Will Smith"], "[name] it come? I am [name]"),
        ("it will come", ["Will Smith"], "it will come"),
        ("the bill for May", ["Bill May"], "the bill for [name]"),
        ("annabel is not anna", ["Anna"], "annabel is not [name]"),
        ("我是李小龙的朋友", ["李小龙"], "我是[name]的朋友"),
        ("van der Berg, Jan", ["Jan van der Berg"], "van der [name], [name]"),
        ("jan van der berg", ["Jan van der Berg"], "[name]"),
        ("nobody", [], "nobody"),
        ("nobody", ["", " ", "\0"], "nobody"),
    ],
)
def test_known_names_are_masked(text, names, wanted):
    assert REDACTOR.redact(text, None, names).text == wanted


class Plates:
    """Finds licence plates, and says what it was shown."""

    kinds: Sequence[str] = ("plate",)

    def __init__(self) -> None:
        self.seen: list[str] = []

    def spans(self, text: str, language: str | None) -> Iterable[Span]:
        self.seen.append(text)
        at = text.find("B-XY")
        return [Span(at, at + 8, "plate")] if at >= 0 else []


def test_a_further_detector_adds_its_kind():
    assert Redactor(detectors=[Plates()]).redact("my car B-XY 123 is gone").text == "my car [plate] is gone"


def test_a_further_detector_sees_what_was_masked_as_blanks():
    plates = Plates()
    Redactor(detectors=[plates]).redact("a@b.com B-XY 123")
    assert plates.seen[0] == BLANK * 7 + " B-XY 123"


def test_the_placeholders_of_a_further_detector_are_known():
    redactor = Redactor(detectors=[Plates()])
    once = redactor.redact("my car B-XY 123").text
    assert redactor.redact(once).text == once


class Everything(Plates):
    """Asks for more than there is, masked parts included."""

    def spans(self, text: str, language: str | None) -> Iterable[Span]:
        return [Span(-5, len(text) + 5, "plate")]


def test_a_further_detectors_span_is_cut_at_what_is_masked_already():
    assert Redactor(detectors=[Everything()]).redact("my a@b.com there").text == "[plate][email][plate]"


class Nibbler(Plates):
    """Never satisfied: one more letter every time it is asked."""

    def spans(self, text: str, language: str | None) -> Iterable[Span]:
        at = next((i for i, c in enumerate(text) if c.isalpha()), None)
        return [] if at is None else [Span(at, at + 1, "plate")]


def test_a_text_that_does_not_settle_is_masked_as_a_whole():
    redactor = Redactor(detectors=[Nibbler()])
    assert redactor.redact("a" * (PASSES - 1)).text == "[plate]" * (PASSES - 1)
    assert redactor.redact("a" * PASSES).text == "[text]"
    assert redactor.redact("[text]").spans == ()


class Failing(Plates):
    def spans(self, text: str, language: str | None) -> Iterable[Span]:
        raise RuntimeError("no model")


def test_what_a_further_detector_raises_is_raised():
    with pytest.raises(RuntimeError, match="no model"):
        Redactor(detectors=[Failing()]).redact("anything")


class Loud(Plates):
    kinds = ("PLATE",)


def test_a_kind_that_no_placeholder_can_name_is_refused():
    with pytest.raises(ConfigError, match="'PLATE'"):
        Redactor(detectors=[Loud()])
