"""What a matcher learns of hand-overs that ended: each once, and no more kept of them than is needed."""

from __future__ import annotations

import pytest

from serve.http import ended
from serve.http.ended import Learner
from serve.matcher import Matcher
from serve.store.records import Feedback
from tests.serve.http.conftest import CONTACT
from twotower.clock import HOUR, parse_time

BEGUN = parse_time("2026-01-25T00:01:00Z")


def fact(number: int) -> Feedback:
    """How the hand-over of a contact ended."""
    told = {"csa_id": "csa-01", "assigned_at": BEGUN, "ended_at": BEGUN + HOUR, "resolved": True}
    return Feedback.of({"contact_id": f"c-{number}", **told})


def test_of_what_was_learnt_the_latest_is_remembered_and_no_more(
    matcher: Matcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ended, "REMEMBERED", 4)
    learner, seen = Learner(matcher), matcher.read(CONTACT)
    assert all(learner.learn(fact(number), seen) for number in range(10))
    assert len(learner._told) == 4
    assert not any(learner.learn(fact(number), seen) for number in range(6, 10))
    assert learner.learn(fact(10), seen)
    assert not learner.learn(fact(7), seen)


def test_all_that_the_store_tells_again_is_remembered_with_as_much_that_comes_meanwhile() -> None:
    assert ended.REMEMBERED >= 2 * ended.MOST
