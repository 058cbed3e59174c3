"""What a device can do at most: rates of this machine are positive, in order, and over memory beyond the caches."""

from __future__ import annotations

import json

import pytest
import torch

from train import ceilings
from train.ceilings import copy_bytes, copy_rate, last_level_cache, measure_ceilings, product_rate

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small products and buffers, which any machine has time for."""
    monkeypatch.setattr(ceilings, "CPU_SIZES", (64, 128))
    monkeypatch.setattr(ceilings, "CPU_LEAST", 1 << 22)
    monkeypatch.setattr(ceilings, "SAMPLE_S", 1e-3)


def test_ceilings_are_positive_and_arithmetic_is_faster_than_memory():
    found = measure_ceilings(CPU, samples=3)
    assert found.device == "cpu"
    assert found.threads == torch.get_num_threads()
    for rate in (found.fp32, found.bf16, found.copy):
        assert rate is not None
        assert 0 < rate.per_s <= rate.best
    # A copied float32 is eight bytes: a core multiplies more of them than its memory moves.
    assert found.fp32.per_s > found.copy.per_s / 8
    assert json.loads(json.dumps(found.facts()))["copy"]["size"] == found.copy.size


def test_a_rate_is_that_of_the_arithmetic_and_its_size_told(monkeypatch):
    monkeypatch.setattr(ceilings, "timed", lambda work, times, device: 0.5 * times)
    found = product_rate(CPU, torch.float32, samples=3)
    assert found is not None
    assert found.size == 64  # the next one would take longer than a sample may
    assert found.per_s == pytest.approx(2 * 64**3 / 0.5)
    copied = copy_rate(CPU, samples=3)
    assert copied.per_s == pytest.approx(2 * copied.size / 0.5)


def test_a_type_that_the_device_lacks_has_no_rate():
    assert product_rate(CPU, torch.bool, samples=1) is None


def test_the_copy_runs_over_more_than_the_caches_and_less_than_the_memory(monkeypatch):
    monkeypatch.setattr(ceilings, "last_level_cache", lambda: 1 << 23)
    monkeypatch.setattr(ceilings.os, "sysconf", lambda name: {"SC_AVPHYS_PAGES": 1 << 24}.get(name, 4096))
    assert copy_bytes(CPU) == 8 << 23
    monkeypatch.setattr(ceilings.os, "sysconf", lambda name: {"SC_AVPHYS_PAGES": 1 << 12}.get(name, 4096))
    assert copy_bytes(CPU) == (1 << 24) // 16


def test_the_last_cache_is_the_largest_that_is_told_of():
    assert last_level_cache() >= 1 << 15
