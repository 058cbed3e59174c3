"""What the benchmark of changing rosters counts, held by matchers that err on purpose."""

from __future__ import annotations

import itertools
import time
from importlib import import_module
from typing import Any

import pytest


@pytest.fixture
def benchmark() -> Any:
    """The script as a module."""
    return import_module("serving_changes")


class Broken:
    """A matcher whose every third call fails."""

    def __init__(self) -> None:
        self.calls = itertools.count()

    def match(self, *args: Any) -> list[Any]:
        """Nobody."""
        if next(self.calls) % 3 == 2:
            raise ValueError("no")
        time.sleep(0.001)
        return []


def test_failed_calls_are_counted_and_do_not_end_the_round(benchmark):
    rounds = iter([True] * 9 + [False])
    calls = benchmark.matched(Broken(), [{}], rounds.__next__)
    assert [call.named is None for call in calls] == [False, False, True] * 3


def test_only_who_had_left_before_the_call_began_is_late(benchmark):
    call, late = benchmark.Call, benchmark.late
    calls = [call(1.0, 0.5, frozenset({"a"})), call(2.0, 0.5, frozenset({"a", "b"})), call(3.0, 0.1, None)]
    assert late(calls, {"a": 1.2}) == 1
    assert late(calls, {"a": 0.9, "b": 2.1}) == 2
    assert late(calls, {"a": 2.5}) == 0


def test_matching_goes_on_while_the_other_thread_works_and_its_error_is_told(benchmark):
    calls, seconds = benchmark.beside(lambda: time.sleep(0.1), Broken(), [{}])
    assert seconds >= 0.1
    assert len(calls) > 5

    def fails() -> None:
        raise KeyError("the roster")

    with pytest.raises(KeyError, match="the roster"):
        benchmark.beside(fails, Broken(), [{}])
