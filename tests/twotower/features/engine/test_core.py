"""The compiled loops and their numpy twin give the same bits, and the twin loads nothing that a router must not."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.twotower.features.engine.histories import (
    BEGIN,
    CSAS,
    CUSTOMER_SETTINGS,
    CUSTOMERS,
    END,
    FAMILIES,
    SETTINGS,
    tables,
)
from twotower.clock import DAY
from twotower.features.engine.core import TWIN, compiled
from twotower.features.engine.csa import CsaHistory
from twotower.features.engine.customers import CustomerHistory
from twotower.features.engine.events import take

numba = pytest.importorskip("numba", reason="numba is not installed: pip install 'twotower-matcher[train]'")
NAMES = [name for name, _ in FAMILIES]


def both():
    return TWIN, compiled(numba.njit)


def bits(arrays):
    return {name: array.tobytes() for name, array in arrays.items()}


@given(tables(), st.integers(BEGIN, END + DAY))
@settings(max_examples=40)
def test_csas_are_the_same_to_the_bit(table, moment):
    states = []
    for core in both():
        history = CsaHistory(SETTINGS, CSAS, core=core)
        history.advance(table.handovers(), moment, table.work())
        states.append(bits(history.state()))
    assert states[0] == states[1]


@given(tables())
@settings(max_examples=40)
def test_customers_are_the_same_to_the_bit(table):
    found = []
    for core in both():
        history = CustomerHistory(CUSTOMER_SETTINGS, CUSTOMERS, core=core)
        arrivals = table.arrivals()
        reading = history.along(arrivals, table.handovers(), arrivals.customer, arrivals.arrived_at)
        found.append((bits(vars(reading)), bits(history.state())))
    assert found[0] == found[1]


@given(tables())
@settings(max_examples=40)
def test_the_twins_single_updates_are_the_compiled_pass_to_the_bit(table):
    """A router that resumes what training computed goes on as training would have."""
    handovers = table.handovers()
    whole, single = CsaHistory(SETTINGS, CSAS, core=compiled(numba.njit)), CsaHistory(SETTINGS, CSAS)
    whole.update(handovers)
    for i in range(len(handovers)):
        single.update(take(handovers, slice(i, i + 1)))
    assert bits(single.state()) == bits(whole.state())


def test_nothing_is_added_where_a_row_is_minus_one():
    for core in both():
        table = np.zeros((2, 1, 1))
        core.accumulate(table, np.array([[1, -1]]), np.ones((1, 1)), np.ones((1, 1)))
        core.accumulate(table, np.array([[-1, -1], [0, 1]]), np.ones((2, 1)), np.ones((2, 1)))
        assert table.ravel().tolist() == [1, 2]


def test_the_router_loads_no_compiler_and_no_tables():
    code = """
import sys
from twotower.features.engine import cluster, csa, customers, groups, readout, record, roll, settings, store
history = csa.CsaHistory(settings.CsaSettings(2), 3)
record.csa_features(history.read(), history.settings)
print(*sorted({"numba", "pandas", "ray", "scipy", "torch"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
