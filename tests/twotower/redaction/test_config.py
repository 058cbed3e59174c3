"""Options: what they do, and that a misspelt one is refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from twotower.errors import ConfigError
from twotower.redaction.config import KINDS, RedactionConfig, from_mapping, read_config
from twotower.redaction.redactor import Redactor

EXAMPLE = Path(__file__).parents[3] / "configs" / "redaction.yaml"


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "redaction.yaml"
    path.write_text(text)
    return path


def test_the_example_is_the_default_spelt_out():
    assert read_config(EXAMPLE) == RedactionConfig()


def test_an_empty_file_is_the_default(tmp_path):
    assert read_config(write(tmp_path, "# nothing\n")) == RedactionConfig()


def test_redaction_is_on_by_default():
    assert RedactionConfig().enabled
    assert set(RedactionConfig().kinds) == set(KINDS)


def test_switched_off_everything_passes():
    text = "a@b.com 4111111111111111"
    assert Redactor(RedactionConfig(enabled=False)).redact(text).text == text


def test_only_the_kinds_that_were_asked_for_are_masked():
    redactor = Redactor(RedactionConfig(kinds=("email",)))
    assert redactor.redact("a@b.com 4111111111111111").text == "[email] 4111111111111111"


def test_a_kind_that_is_off_takes_nothing_from_the_others():
    redactor = Redactor(RedactionConfig(kinds=("phone",)))
    assert redactor.redact("order number 2125550123", "en").text == "order number [phone]"


def test_what_is_kept_is_not_masked_in_any_spelling():
    redactor = Redactor(RedactionConfig(keep=("support@acme.com", "+1 212 555 0199")))
    text = "write to Support@acme.com or call +1 (212) 555-0199"
    assert redactor.redact(text).text == text
    assert redactor.redact("call 212-555-0198", "en").text == "call [phone]"


def test_only_the_languages_that_were_asked_for_are_listened_to():
    german = Redactor(RedactionConfig(languages=("de",)))
    assert german.redact("ich heiße Hans Müller").text == "ich heiße [name]"
    assert german.redact("me llamo juan pérez").text == "me llamo juan pérez"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("kind: [card]", "options: 'kind' is not known; there are enabled, kinds"),
        ("kinds: [cards]", "kinds: 'cards' is not known; there are card, iban"),
        ("kinds: card", "kinds: expected a list of texts"),
        ("languages: [xx]", "languages: 'xx' is not known"),
        ("regions: [XX]", "regions: 'XX' is no region with a telephone plan"),
        ("regions: [NO]", "regions: expected a list of texts"),
        ("language_regions: {en: [UK]}", "en: 'UK' is no region"),
        ("language_regions: [en]", "language_regions: expected names with lists under them"),
        ("enabled: 'no'", "enabled: expected true or false, not 'no'"),
        ("columns: {contacts: intent_text}", "columns.contacts: expected a list"),
        ("- card", "expected option: value"),
        ("kinds: [card", "is no YAML file"),
    ],
)
def test_a_wrong_option_is_refused_in_one_line(tmp_path, text, said):
    with pytest.raises(ConfigError) as refused:
        read_config(write(tmp_path, text))
    assert said in str(refused.value)
    assert str(refused.value).startswith(f"{tmp_path}/redaction.yaml: ")


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        read_config(tmp_path / "none.yaml")


def test_bytes_that_are_no_text_are_refused(tmp_path):
    path = tmp_path / "redaction.yaml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="is no YAML file"):
        read_config(path)


def test_a_mapping_serves_as_well_as_a_file():
    assert from_mapping({"regions": ["DE"]}).regions == ("DE",)
