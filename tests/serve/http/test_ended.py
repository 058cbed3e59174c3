"""What a matcher learns of hand-overs that ended: each once, and no more kept of them than is needed."""

from __future__ import annotations

from serve.http import once
from serve.http.ended import Learner
from serve.http.once import Once
from serve.http.returning import Returning
from serve.matcher import Matcher
from serve.store import since
from serve.store.records import Feedback
from tests.serve.http.conftest import CONTACT
from twotower.clock import HOUR, parse_time

BEGUN = parse_time("2026-01-25T00:01:00Z")


def fact(number: int) -> Feedback:
    """How the hand-over of a contact ended."""
    told = {"csa_id": "csa-01", "assigned_at": BEGUN, "ended_at": BEGUN + HOUR, "resolved": True}
    return Feedback.of({"contact_id": f"c-{number}", **told})


def test_of_what_was_learnt_the_latest_is_remembered_and_no_more(matcher: Matcher) -> None:
    learner, seen = Learner(matcher, Returning(None)), matcher.read(CONTACT)
    learner.told = Once(4)
    assert all(learner.learn(fact(number), seen) for number in range(10))
    assert len(learner.told) == 4
    assert not any(learner.learn(fact(number), seen) for number in range(6, 10))
    assert learner.learn(fact(10), seen)
    assert not learner.learn(fact(7), seen)


def test_all_that_the_store_tells_again_is_remembered_with_as_much_that_comes_meanwhile() -> None:
    assert once.REMEMBERED >= 2 * since.MOST
