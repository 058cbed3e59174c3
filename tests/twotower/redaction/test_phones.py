"""Telephone numbers beside what is none, and long lists of them."""

from __future__ import annotations

import pytest

from twotower.redaction.config import RedactionConfig
from twotower.redaction.phones import ASKED
from twotower.redaction.redactor import Redactor

REDACTOR = Redactor()


def test_an_amount_before_it_does_not_hide_a_number_that_was_announced():
    assert REDACTOR.redact("on 2024-05-12 I paid $12.50; phone: 555-1234").text.endswith("phone: [phone]")


@pytest.mark.parametrize(
    ("language", "found"),
    [("es", True), ("es-MX", True), ("de", False), ("en-ES", True), ("ES_es", True), (None, True)],
)
def test_the_contacts_language_chooses_the_regions(language, found):
    assert (REDACTOR.redact("612345678", language).text == "[phone]") is found


def test_a_region_in_the_tag_comes_first():
    assert RedactionConfig().regions_for("fr-CH")[0] == "CH"


def test_a_language_without_regions_takes_the_default_ones():
    assert RedactionConfig(regions=("PL",)).regions_for("pl") == ("PL",)


def test_in_a_table_of_digits_every_long_group_is_masked():
    text = " ".join(f"98765{i:05d}" for i in range(5))
    assert REDACTOR.redact(text, "de").text == " ".join(["[phone]"] * 5)


def test_past_the_runs_that_the_library_is_asked_about_runs_are_masked_unasked():
    runs = [f"1{i:06d}" for i in range(ASKED + 5)]
    done = REDACTOR.redact("; ".join(runs), "en").text.split("; ")
    assert done[:ASKED] == runs[:ASKED]
    assert done[ASKED:] == ["[phone]"] * 5


def test_an_extension_belongs_to_the_number():
    assert REDACTOR.redact("+1 212 555 0123 ext. 45 please").text == "[phone] please"
