"""What a challenger that answers unheard is taken back for: what is shown, however often one looks."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from loop.rollout.shadowed import Compared, compared_of
from loop.rollout.spec import ShadowSpec
from loop.rollout.unheard import LEVEL, shown, speaks_against

SPEC = ShadowSpec(least_agreement=0.3)


def found(contacts: int, errors: int, agreement: float = 0.9, times: float = 1.0) -> Compared:
    return Compared(contacts, errors, agreement, agreement, 0.001, 0.001 * times)


def test_one_error_among_the_first_contacts_shows_nothing() -> None:
    assert speaks_against(found(49, 1), SPEC) is None
    assert speaks_against(found(98, 1), SPEC) is None
    assert speaks_against(found(47, 3), SPEC) is None
    assert speaks_against(found(42, 8), SPEC) == "it could not answer 16.0% of contacts"
    assert speaks_against(found(9700, 300), SPEC) == "it could not answer 3.0% of contacts"
    assert speaks_against(found(0, 49), SPEC) is None  # too few to say anything
    assert speaks_against(found(0, 50), SPEC) == "it could not answer 100.0% of contacts"


def test_agreement_and_time() -> None:
    assert speaks_against(found(60, 0, agreement=0.25), SPEC) is None
    assert "of 10.0% of contacts alone" in str(speaks_against(found(200, 0, agreement=0.1), SPEC))
    assert speaks_against(found(60, 0, agreement=0.0), ShadowSpec()) is None  # not asked
    assert speaks_against(found(60, 0, times=3.5), SPEC) == "it takes 3.5 times the champion's time"


def test_a_share_that_is_allowed_is_hardly_ever_shown_to_be_more() -> None:
    """Looked at after every contact: without correction one in two would be."""
    rng = np.random.default_rng(0)
    rivals, length = 200, 1500
    errors = (rng.random((rivals, length)) < 0.01).cumsum(axis=1)
    looks = np.arange(49, length, 10)
    taken = [any(shown(int(one[at]), int(at + 1), 0.01) for at in looks if one[at] > 0.02 * at) for one in errors]
    assert np.mean(taken) <= LEVEL * 5
    naive = (errors[:, looks] / (looks + 1) > 0.01).any(axis=1)
    assert naive.mean() > 0.5
    assert all(shown(round(0.05 * n), n, 0.01) for n in (400, 4000))


def test_the_ends_of_the_scale() -> None:
    assert not shown(0, 100, 0.0)
    assert shown(1, 100, 0.0)
    assert not shown(100, 100, 1.0)


def test_a_stall_is_not_the_challengers_time() -> None:
    def row(shadow_s: float) -> Any:
        return SimpleNamespace(error=None, same_first=True, overlap=1.0, served_s=0.001, shadow_s=shadow_s,
                               channel="chat", language=None, queue=None)  # fmt: skip

    assert compared_of([row(0.001)] * 49 + [row(10.0)]).times == 1.0
