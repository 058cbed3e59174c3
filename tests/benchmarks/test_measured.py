"""A verb is measured in a process of its own, on one core."""

from __future__ import annotations

import os
import resource
from importlib import import_module

import pytest


def test_a_verb_is_measured_and_its_report_comes_back(tmp_path):
    found = import_module("measured").measure_verb(
        "generate", "--contacts", "1200", "--csas", "14", "--output", str(tmp_path / "centre")
    )
    assert found.report["contacts"] == 1200
    assert found.seconds > 0
    # An interpreter with numpy and Arrow takes some tens of MB; the largest child so far bounds this one.
    assert 0.03 < found.peak_gb <= resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20 + 0.01


def test_a_verb_that_fails_says_why(tmp_path):
    with pytest.raises(SystemExit, match=r"^generate failed: twotower generate: .*exists already") as refused:
        import_module("measured").measure_verb(
            "generate", "--contacts", "1200", "--csas", "14", "--output", str(tmp_path)
        )
    assert len(str(refused.value).splitlines()) == 1


def test_one_core_is_bound_and_given_back():
    before = os.sched_getaffinity(0)
    with pytest.raises(KeyError), import_module("measured").one_core():
        assert len(os.sched_getaffinity(0)) == 1
        raise KeyError
    assert os.sched_getaffinity(0) == before
