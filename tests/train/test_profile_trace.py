"""Reading traces: the parts' own times, and the device's by what launched it."""

from __future__ import annotations

from typing import Any

import pytest

from train.profile_trace import Parts, read_parts
from train.ranges import BACKWARD, DATA, OBJECTIVE, OTHER, PREFIX, STEP, STEP_PARTS, TEXT, TOWERS


def marked(part: str, start: float, seconds: float) -> dict[str, Any]:
    """A range of the trace, in µs."""
    return {"ph": "X", "cat": "user_annotation", "name": PREFIX + part, "ts": start, "dur": seconds, "tid": 1}


def kernel(launched: float, start: float, seconds: float, correlation: int) -> list[dict[str, Any]]:
    """A kernel and the call that launched it, on another thread."""
    return [
        {"ph": "X", "cat": "cuda_runtime", "name": "cudaLaunchKernel", "ts": launched, "dur": 1, "tid": 2,
         "args": {"correlation": correlation}},
        {"ph": "X", "cat": "kernel", "name": "gemm", "ts": start, "dur": seconds, "args": {"correlation": correlation}},
    ]  # fmt: skip


RANGES = [
    marked(STEP, 100, 100), marked(DATA, 100, 10), marked(OBJECTIVE, 120, 40), marked(TOWERS, 125, 20),
    marked(TEXT, 130, 5), marked(BACKWARD, 165, 30), marked(TEXT, 210, 1000), marked(STEP, 2000, 50),
    marked(BACKWARD, 2010, 40.001),
]  # fmt: skip
NOISE: list[dict[str, Any]] = [
    {"ph": "X", "cat": "cpu_op", "name": "aten::mm", "ts": 126, "dur": 3, "tid": 1},
    {"ph": "X", "cat": "user_annotation", "name": "ProfilerStep#3", "ts": 0, "dur": 5000, "tid": 1},
    {"ph": "M", "name": "process_name", "args": {"name": "python"}},
]


def read(*more: dict[str, Any]) -> Parts:
    """What is read of two steps."""
    return read_parts({"traceEvents": [*RANGES, *NOISE, *more]}, STEP_PARTS)


def test_a_part_has_what_no_range_inside_it_takes_and_parts_add_up_to_the_steps():
    found = read()
    assert found.steps == 2
    assert found.seconds == pytest.approx(150e-6)
    assert set(found.host_s) == set(STEP_PARTS)
    expected = {DATA: 10, OBJECTIVE: 20, TOWERS: 15, TEXT: 5, BACKWARD: 30 + 40, OTHER: 20 + 10}
    for part, microseconds in expected.items():
        assert found.host_s[part] == pytest.approx(microseconds * 1e-6, rel=1e-3), part
    assert sum(found.host_s.values()) == pytest.approx(found.seconds, rel=1e-9)
    assert found.device_s is None


def test_the_device_works_for_the_part_that_launched_it_on_whichever_thread():
    late = kernel(180, 300, 25, 2)  # launched in the backward pass, done after the step
    unseen = kernel(1500, 1600, 70, 3)  # launched between the steps
    found = read(*kernel(131, 140, 8, 1), *late, *unseen)
    assert found.device_s is not None
    assert found.device_s[TEXT] == pytest.approx(8e-6)
    assert found.device_s[BACKWARD] == pytest.approx(25e-6)
    assert sum(found.device_s.values()) == pytest.approx(33e-6)
    assert found.idle_s == pytest.approx(150e-6 - 33e-6)


def test_where_streams_overlap_the_time_counts_once():
    found = read(*kernel(131, 140, 10, 1), *kernel(141, 145, 10, 2), *kernel(142, 146, 2, 3))
    assert found.device_s is not None
    assert sum(found.device_s.values()) == pytest.approx(15e-6)


def test_a_range_of_another_name_is_other():
    found = read_parts({"traceEvents": [marked(STEP, 0, 10), marked("novel", 2, 3)]}, STEP_PARTS)
    assert found.host_s[OTHER] == pytest.approx(10e-6)


def test_a_trace_without_steps_has_none():
    found = read_parts({"traceEvents": NOISE}, STEP_PARTS)
    assert (found.steps, found.seconds) == (0, 0)
