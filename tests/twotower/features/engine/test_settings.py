"""Settings: what cannot be is refused in one line, and what is saved comes back."""

from __future__ import annotations

import pytest

from tests.twotower.features.engine.histories import CUSTOMER_SETTINGS, SETTINGS
from twotower.clock import DAY
from twotower.errors import ConfigError
from twotower.features.engine.settings import CsaSettings, CustomerSettings, from_bytes, to_bytes


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": -1}, "width: -1; the embedding's width, or 0 for none, is expected"),
        ({"half_lives_us": ()}, r"half_lives_us: \(\); whole microseconds"),
        ({"half_lives_us": (1.5 * DAY,)}, "half_lives_us: .* a second .* at least, are expected"),
        ({"activity_us": (10,)}, "activity_us: .* a second .* at least"),
        ({"group_half_life": 3}, "group_half_life: 3 is no position in the 3 half-lives"),
        ({"families": (("intent", 2), ("intent", 3))}, "families: .* distinct names"),
        ({"families": (("intent", 0),)}, "families: .* one code at least"),
    ],
)
def test_settings_of_csas_that_cannot_be(options, message):
    with pytest.raises(ConfigError, match=message):
        CsaSettings(**{"width": 4, **options})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"style_us": (DAY, DAY)}, "style_us: .* a fast half-life and a longer slow one"),
        ({"style_us": (DAY,)}, "style_us: .* a fast half-life and a longer slow one"),
        ({"pair_us": 0}, "pair_us: .* a second"),
        ({"pairs": 0}, "pairs: 0; one CSA at least is remembered"),
    ],
)
def test_settings_of_customers_that_cannot_be(options, message):
    with pytest.raises(ConfigError, match=message):
        CustomerSettings(**options)


def test_settings_come_back_as_they_were():
    assert from_bytes(CsaSettings, to_bytes(SETTINGS)) == SETTINGS
    assert from_bytes(CustomerSettings, to_bytes(CUSTOMER_SETTINGS)) == CUSTOMER_SETTINGS


def test_codes_of_families_stand_one_after_another():
    assert SETTINGS.offsets.tolist() == [0, 4, 6]
    assert SETTINGS.family("language") == 1


def test_a_family_that_is_not_kept_is_named():
    with pytest.raises(ConfigError, match="family 'channel': not kept; the engine has intent, language"):
        SETTINGS.family("channel")
