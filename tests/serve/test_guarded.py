"""A matcher that always answers: the budget, faults of the model, the breaker, the queue's order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from serve.breaker import Breaker, Ticket
from serve.guarded import Decision, Guarded, Pace
from serve.matcher import Matcher, MatchError
from serve.roster.changes import Block, Leave, Shift, State
from serve.roster.eligibility import Need

CONTACT = {"intent_text": "where is my refund", "language": "en", "channel": "chat"}
QUEUE = ["csa-05", "csa-02", "csa-09"]


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def guarded(matcher: Matcher, clock: Clock) -> Guarded:
    return Guarded(matcher, 0.05, Breaker(3, 1.0, 4.0, clock), clock)


def broken(*_: Any, **__: Any) -> Any:
    raise RuntimeError("[ONNXRuntimeError] my card is 4111 1111 1111 1111")


def slow(clock: Clock, work: Callable[..., Any], seconds: float) -> Callable[..., Any]:
    def wrapped(*args: Any, **options: Any) -> Any:
        clock.now += seconds
        return work(*args, **options)

    return wrapped


def ids(decision: Decision) -> list[str]:
    return [one.csa_id for one in decision.candidates]


def entered(breaker: Breaker) -> Ticket:
    ticket = breaker.enter()
    assert ticket is not None
    return ticket


def ready_to_try(clock: Clock) -> Breaker:
    """Opened by one failure, and its pause of 1 s is over."""
    breaker = Breaker(1, 1.0, 4.0, clock)
    with entered(breaker):
        pass
    clock.now += 1.1
    return breaker


def test_the_models_answer_is_that_of_the_matcher(guarded: Guarded, matcher: Matcher) -> None:
    found = guarded.match(CONTACT, 4, queue=QUEUE)
    assert list(found.candidates) == matcher.match(CONTACT, 4)
    assert found.fallback is None
    assert found.model == matcher.bundle.manifest.id
    assert set(found.elapsed_s) == {"read", "rank", "whole"}


@pytest.mark.parametrize("stage", ["read", "match"])
def test_a_fault_of_the_model_gives_the_queues_order(
    guarded: Guarded, matcher: Matcher, stage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(matcher, stage, broken)
    found = guarded.match(CONTACT, 2, queue=QUEUE)
    assert ids(found) == QUEUE[:2]
    assert found.fallback == "error"
    assert found.why == "the model raised RuntimeError"
    assert guarded.counts.fallbacks == {"error": 1}


def test_a_session_that_raises_opens_the_breaker_and_closes_it_when_it_works_again(
    guarded: Guarded, matcher: Matcher, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    class Session:
        def run(self, *_: Any) -> Any:
            asked.append(1)
            return broken()

    with monkeypatch.context() as patch:
        patch.setattr(matcher.bundle.contact_encoder, "_session", Session())
        assert [guarded.match(CONTACT, queue=QUEUE).fallback for _ in range(5)] == ["error"] * 3 + ["open"] * 2
        assert len(asked) == 3
        clock.now += 1.01
        assert guarded.match(CONTACT, queue=QUEUE).fallback == "error"
        clock.now += 1.01  # the pause has doubled
        assert guarded.match(CONTACT, queue=QUEUE).fallback == "open"
        assert len(asked) == 4
    clock.now += 1.0
    assert guarded.match(CONTACT, queue=QUEUE).fallback is None
    assert guarded.breaker.state == "closed"
    assert guarded.breaker.opened == 1
    assert guarded.match(CONTACT).fallback is None


def test_what_comes_late_is_not_given_out(
    guarded: Guarded, matcher: Matcher, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(matcher, "match", slow(clock, matcher.match, 0.06))
    found = guarded.match(CONTACT, queue=QUEUE)
    assert (found.fallback, ids(found)) == ("late", QUEUE)
    assert found.elapsed_s["whole"] == pytest.approx(0.06)


def test_a_stage_that_cannot_fit_is_not_begun_and_tried_again_later(
    guarded: Guarded, matcher: Matcher, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(matcher, "read", slow(clock, matcher.read, 0.03))
    monkeypatch.setattr(matcher, "match", slow(clock, lambda *_, **__: [], 0.0))
    assert guarded.match(CONTACT).fallback is None
    refused = [guarded.match(CONTACT, queue=QUEUE, deadline_s=0.02).fallback for _ in range(30)]
    assert refused[0] == "no_time"
    assert "late" in refused  # the expectation fades until it is tried
    assert refused.count("late") < 6


def test_a_budget_that_is_over_asks_nobody(guarded: Guarded, matcher: Matcher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matcher, "read", broken)
    assert [guarded.match(CONTACT, queue=QUEUE, deadline_s=0.0).fallback for _ in range(9)] == ["no_time"] * 9
    assert guarded.breaker.state == "closed"


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_scores_that_are_no_numbers_are_a_fault(
    guarded: Guarded, matcher: Matcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = matcher.bundle.contact_encoder
    run = encoder._run
    monkeypatch.setattr(
        encoder,
        "_run",
        lambda *given: [np.full_like(one, np.nan) if one.dtype.kind == "f" else one for one in run(*given)],
    )
    assert guarded.match(CONTACT, queue=QUEUE).fallback == "error"


@pytest.mark.parametrize(
    "wrong",
    [
        {"contact": {"transcript": 5}},
        {"k": 0},
        {"eligible": ["nobody"]},
        {"rank": "nothing"},
    ],
)
def test_the_callers_mistakes_are_told_and_do_not_count_as_faults(guarded: Guarded, wrong: dict[str, Any]) -> None:
    for _ in range(5):
        with pytest.raises(MatchError):
            guarded.match(**{"contact": CONTACT, **wrong})
    assert guarded.breaker.state == "closed"


def test_they_are_told_while_the_breaker_is_open(
    guarded: Guarded, matcher: Matcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(matcher, "read", broken)
    for _ in range(3):
        guarded.match(CONTACT)
    with pytest.raises(MatchError, match="nobody"):
        guarded.match(CONTACT, eligible=["nobody"])


def test_the_fallback_has_only_who_may_take_it(guarded: Guarded, matcher: Matcher) -> None:
    matcher.update_roster([Leave("csa-05"), Block("csa-02", "anna"), Shift("csa-09", False)])
    contact = {**CONTACT, "customer_id": "anna"}
    queue = [*QUEUE, "unknown", "csa-03", "csa-03"]

    def fallen(eligible: Any) -> list[str]:
        return ids(guarded.fallback(contact, 9, eligible, queue, "deadline", "test"))

    assert fallen(None) == ["csa-09", "csa-03"]
    assert fallen(Need("en", "chat")) == ["csa-03"]
    assert fallen(["csa-02", "csa-09"]) == ["csa-09"]


def test_without_a_queue_the_longest_idle_come_first(guarded: Guarded, matcher: Matcher) -> None:
    start = matcher.bundle.manifest.window["until"]
    for i, csa_id in enumerate(["csa-04", "csa-02", "csa-07"]):
        matcher.update_roster([State(csa_id, "busy")], at=start + i)
        matcher.update_roster([State(csa_id, "idle")], at=start + 10 + i)
    matcher.update_roster([State("csa-04", "busy")], at=start + 5)
    found = guarded.fallback(CONTACT, 4, ["csa-04", "csa-02", "csa-07", "csa-01"], None, "deadline", "test")
    assert ids(found) == ["csa-01", "csa-02", "csa-07", "csa-04"]
    scores = [one.score for one in found.candidates]
    assert scores == sorted(scores, reverse=True)


def test_where_the_roster_cannot_be_asked_the_queue_comes_as_it_was_given(
    guarded: Guarded, matcher: Matcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(matcher, "match", broken)
    monkeypatch.setattr(matcher, "waiting", broken)
    assert ids(guarded.match(CONTACT, 2, queue=QUEUE)) == QUEUE[:2]
    assert guarded.counts.unfiltered == 1


def test_a_breaker_lets_one_call_try_at_a_time(clock: Clock) -> None:
    breaker = Breaker(1, 1.0, 4.0, clock)
    first = entered(breaker)
    with pytest.raises(RuntimeError), first:
        raise RuntimeError
    assert breaker.enter() is None
    clock.now += 1.1
    trial = entered(breaker)
    assert breaker.enter() is None
    with trial:
        trial.answered()
    assert breaker.enter() is not None


def test_a_trial_that_says_nothing_lets_the_next_one_try(clock: Clock) -> None:
    breaker = ready_to_try(clock)
    trial = entered(breaker)
    with pytest.raises(MatchError), trial:
        raise MatchError("the caller's")
    assert breaker.enter() is not None


def test_a_trial_that_does_not_come_back_has_failed_and_another_may_try(clock: Clock) -> None:
    breaker = ready_to_try(clock)
    hanging = entered(breaker)
    clock.now += 3.9
    assert breaker.enter() is None
    clock.now += 0.2
    second = entered(breaker)
    assert breaker.enter() is None
    with hanging:  # it comes back after all, and says nothing of the one that tries now
        hanging.answered()
    assert breaker.state == "open"
    assert breaker.enter() is None
    with second:
        pass
    clock.now += 3.9  # 1 s, doubled by each of the two
    assert breaker.enter() is None
    clock.now += 0.2
    third = entered(breaker)
    with third:
        third.answered()
    assert breaker.state == "closed"


def test_a_call_that_was_given_up_fails_once(
    guarded: Guarded, matcher: Matcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    tickets: list[Ticket] = []

    def given_up(*_: Any) -> Any:
        tickets[-1].overdue()
        return broken()

    monkeypatch.setattr(matcher, "read", given_up)
    found = [guarded.match(CONTACT, queue=QUEUE, entered=tickets.append).fallback for _ in range(4)]
    assert found == ["error"] * 3 + ["open"]


def test_a_wait_of_sizes_that_differ_is_not_mixed() -> None:
    pace = Pace()
    pace.took("read", 1_000_000, 0.3)
    pace.took("read", 600, 0.001)
    assert pace.expected("read", 700) == 0.001
    assert pace.expected("read", 999_999) == 0.3


ARRIVED = 1_767_225_600_000_000
CONTACTS: list[dict[str, Any]] = [{**CONTACT, "arrived_at": ARRIVED + i} for i in (2, 0, 1)]


def test_assign_gives_each_csa_once_in_order_of_arrival(matcher: Matcher) -> None:
    best = [one.csa_id for one in matcher.match(CONTACTS[1], 3, at=ARRIVED + 2)]
    found = matcher.assign(CONTACTS, at=ARRIVED + 2, method="greedy")
    assert [one.csa_id for one in found if one] == [best[2], best[0], best[1]]


def test_together_the_same_contacts_take_the_best_whoever_takes_whom(matcher: Matcher) -> None:
    best = [one.csa_id for one in matcher.match(CONTACTS[1], 3, at=ARRIVED + 2)]
    assert {one.csa_id for one in matcher.assign(CONTACTS, at=ARRIVED + 2) if one} == set(best)
    late = [{**CONTACTS[0], "guarantee_s": 5.0, "wait_s": wait} for wait in (4.0, 9.0, 6.0)]
    found = matcher.assign(late, [[best[0]]] * 3, at=ARRIVED + 2)
    assert [one and one.csa_id for one in found] == [None, best[0], None]


def test_assign_keeps_to_capacity_and_eligibility(matcher: Matcher) -> None:
    one, other = "csa-03", "csa-07"
    found = matcher.assign(CONTACTS, [[one, other]] * 3, {one: 2, other: 0})
    assert [None if each is None else each.csa_id for each in found] == [None, one, one]  # the latest waits
    with pytest.raises(MatchError, match="capacity of 'csa-03'"):
        matcher.assign(CONTACTS, capacity={one: -1})


def test_a_guarded_assignment_says_for_each_contact_who_answered(
    guarded: Guarded, matcher: Matcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = matcher.assign(CONTACTS)
    assert [one for one, _ in guarded.assign(CONTACTS)] == expected
    monkeypatch.setattr(matcher, "read", broken)
    found = guarded.assign(CONTACTS)
    assert {decision.fallback for _, decision in found} == {"error"}
    assert len({one.csa_id for one, _ in found if one}) == 3


def test_where_time_runs_short_contacts_are_assigned_one_after_the_other(
    guarded: Guarded, matcher: Matcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    def together(*_: Any) -> Any:
        raise AssertionError("nobody has time for that")

    monkeypatch.setattr("serve.guarded.assign_together", together)
    found = guarded.assign(CONTACTS, deadline_s=0.0)
    assert {decision.fallback for _, decision in found} == {"no_time"}
    assert len({one.csa_id for one, _ in found if one}) == 3
    expected = matcher.assign(CONTACTS, method="greedy")
    assert [one for one, _ in guarded.assign(CONTACTS, method="greedy")] == expected
    assert [one for one, _ in guarded.assign(CONTACTS)] == expected  # whatever goes wrong together
    monkeypatch.undo()
    with pytest.raises(MatchError, match="'wait_s'"):
        guarded.assign([{**CONTACT, "wait_s": -1.0}])
