"""Contacts of one call are matched together, and in order of arrival where that is asked for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from serve import assign
from serve.answer import Candidate
from serve.assign import assign_greedily, assign_together, assigned_by, values
from serve.contact import MatchError
from serve.sets.wait import Waiting
from twotower.errors import ConfigError

START = 1_767_225_600_000_000


def ranked(table: dict[str, float], calibrated: bool = True) -> list[Candidate]:
    """Candidates by probability, best first; those that are not calibrated have scores alone."""
    found = []
    for csa_id, p in sorted(table.items(), key=lambda one: -one[1]):
        logit = float(np.log(p / (1 - p))) if calibrated else None
        found.append(Candidate(csa_id, p if logit is None else logit, p if calibrated else None, None, (), logit=logit))
    return found


def called(tables: Sequence[dict[str, float]], calibrated: bool = True) -> Any:
    lists = [ranked(table, calibrated) for table in tables]
    return lambda i, k: lists[i][:k]


def ids(found: Sequence[Candidate | None]) -> list[str | None]:
    return [one and one.csa_id for one in found]


TWO: list[dict[str, Any]] = [{"arrived_at": START}, {"arrived_at": START + 1}]
TABLES = [{"ada": 0.9, "bob": 0.85}, {"ada": 0.8, "bob": 0.2}]


def test_together_they_are_worth_more_than_one_after_the_other() -> None:
    assert ids(assign_greedily(TWO, called(TABLES))) == ["ada", "bob"]
    assert ids(assign_together(TWO, called(TABLES))) == ["bob", "ada"]
    assert ids(assigned_by("greedy", TWO, called(TABLES), None, None, None)) == ["ada", "bob"]
    with pytest.raises(MatchError, match="method: 'best'; sets or greedy expected"):
        assigned_by("best", TWO, called(TABLES), None, None, None)  # type: ignore[arg-type]


def test_scores_that_are_not_calibrated_are_compared_within_a_contact() -> None:
    tables = [{"ada": 9.0, "bob": 8.0}, {"ada": 0.5, "bob": -3.0}]
    assert ids(assign_together(TWO, called(tables, calibrated=False))) == ["bob", "ada"]
    assert values(ranked({"ada": 9.0, "bob": 8.0}, calibrated=False)) == [0.0, -1.0]
    assert values([]) == []


def test_who_waits_when_there_are_too_few_is_who_has_waited_least_for_like_values() -> None:
    same = [{"ada": 0.7}] * 3
    contacts = [{"arrived_at": START + i * 60_000_000} for i in (2, 0, 1)]
    assert ids(assign_together(contacts, called(same))) == [None, "ada", None]
    assert ids(assign_together([{}, {"wait_s": 3}, {"wait_s": 2.0}], called(same))) == [None, "ada", None]
    better = [{"ada": 0.9}, {"ada": 0.7}, {"ada": 0.7}]
    assert ids(assign_together(contacts, called(better))) == ["ada", None, None]  # 0.2 is worth 200 s
    assert ids(assign_together(contacts, called(better), wait=Waiting(per_s=0.01))) == [None, "ada", None]


def test_a_guarantee_comes_before_all_values() -> None:
    tables = [{"ada": 0.99, "bob": 0.98}, {"ada": 0.01}]
    contacts = [{}, {"wait_s": 31.0, "guarantee_s": 30.0}]
    assert ids(assign_together(contacts, called(tables))) == ["bob", "ada"]
    one = [{"ada": 0.99}, {"ada": 0.01}]
    assert ids(assign_together(contacts, called(one))) == [None, "ada"]
    assert ids(assign_together([{}, {"wait_s": 29.0, "guarantee_s": 30.0}], called(one))) == ["ada", None]
    common = Waiting(guarantee_s=20.0)
    assert ids(assign_together([{"wait_s": 21}, {"wait_s": 22}], called(one), wait=common)) == [None, "ada"]


def test_priorities_count_where_somebody_says_which_comes_first() -> None:
    one = [{"ada": 0.9}, {"ada": 0.5}, {"ada": 0.1}]
    contacts = [{"priority": None}, {"priority": 1}, {"priority": 2.5}]
    assert ids(assign_together(contacts, called(one))) == ["ada", None, None]
    assert ids(assign_together(contacts, called(one), wait=Waiting(priority="higher"))) == [None, None, "ada"]
    assert ids(assign_together(contacts, called(one), wait=Waiting(priority="lower"))) == [None, "ada", None]
    late = [{"wait_s": 9.0, "guarantee_s": 8.0}, *contacts[1:]]
    assert ids(assign_together(late, called(one), wait=Waiting(priority="higher"))) == ["ada", None, None]
    with pytest.raises(MatchError, match="'priority'"):
        assign_together([{"priority": "high"}], called(one))
    with pytest.raises(ConfigError, match="priority: 'highest'; higher or lower expected"):
        Waiting(priority="highest")  # type: ignore[arg-type]


def test_as_many_as_possible_are_taken_up() -> None:
    tables = [{"ada": 0.9, "bob": 0.1}, {"ada": 0.2}, {"ada": 0.5, "cy": 0.4}]
    assert ids(assign_together([{}] * 3, called(tables))) == ["bob", "ada", "cy"]
    assert Counter(ids(assign_together([{}] * 3, called([{"ada": 0.5}] * 3), {"ada": 2}))) == {"ada": 2, None: 1}
    assert ids(assign_together([{}] * 2, called([{}, {}]))) == [None, None]
    assert assign_together([], called([])) == []


def test_a_large_call_leaves_nobody_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assign, "MOST", 2)
    tables = [{"ada": 0.9, "bob": 0.8, "cy": 0.7, "dee": 0.6, "eve": 0.5}] * 5
    assert set(ids(assign_together([{}] * 5, called(tables)))) == {"ada", "bob", "cy", "dee", "eve"}
    assert None not in ids(assign_together([{}] * 5, called(tables), {"ada": 0, "bob": 3}))


@pytest.mark.parametrize(
    ("contact", "said"),
    [
        ({"wait_s": -1}, "'wait_s'"),
        ({"wait_s": float("inf")}, "'wait_s'"),
        ({"wait_s": True}, "'wait_s'"),
        ({"guarantee_s": "soon"}, "'guarantee_s'"),
        ({"guarantee_s": -0.5}, "'guarantee_s'"),
    ],
)
def test_waits_that_cannot_be_are_named(contact: dict[str, Any], said: str) -> None:
    with pytest.raises(MatchError, match=said):
        assign_together([contact], called([{"ada": 0.5}]))
    with pytest.raises(MatchError, match="capacity of 'ada'"):
        assign_together([{}], called([{"ada": 0.5}]), {"ada": -1})
