"""The one text that a tower reads of a contact."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twotower.text.tokens import compose_text


@pytest.mark.parametrize(
    ("need", "said", "text"),
    [
        ("refund", "where is my money", "refund\nwhere is my money"),
        ("refund", "", "refund"),
        ("refund", None, "refund"),
        ("", "where is my money", "where is my money"),
        (None, "where is my money", "where is my money"),
        (None, None, ""),
        ("", "", ""),
        ("refund", "refund of the card", "refund of the card"),
        ("refund", "refund", "refund"),
        ("null\0inside", "a\0b", "null\0inside\na\0b"),
        ("où", "ça", "où\nça"),
    ],
)
def test_the_need_comes_first_and_is_not_said_twice(need, said, text):
    assert compose_text(need, said) == text


def test_lone_surrogates_become_the_replacement_character():
    assert compose_text("lost \ud83d card", "\udc00") == "lost \ufffd card\n\ufffd"


def test_a_pair_of_surrogates_is_the_character_it_stands_for():
    assert compose_text("thanks \ud83d\ude00", "") == "thanks 😀"


@given(st.text(), st.text())
def test_every_character_that_is_one_is_kept(need, said):
    text = compose_text(need, said)
    assert need in text
    assert said in text


@given(st.text(alphabet=st.characters(codec=None)), st.text(alphabet=st.characters(codec=None)))
def test_the_text_can_always_be_encoded(need, said):
    assert compose_text(need, said).encode("utf-8").decode("utf-8") == compose_text(need, said)
