"""As-of-known time: what became known at a contact's arrival or later moves none of its features by a bit.

The check itself is checked: engines that count what is known *at* the moment, or from when it ended, fail it.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from tests.twotower.features.engine.histories import (
    BEGIN,
    CSAS,
    CUSTOMER_SETTINGS,
    CUSTOMERS,
    END,
    FAMILIES,
    SETTINGS,
    Table,
    draw_content,
    draw_table,
    joined,
)
from twotower.clock import DAY, NEVER, SECOND
from twotower.features.customer import customer_features
from twotower.features.engine.csa import CsaHistory
from twotower.features.engine.customers import CustomerHistory
from twotower.features.engine.groups import group_features
from twotower.features.engine.record import csa_features

NAMES = [name for name, _ in FAMILIES]
OUTCOME = ("resolved", "transferred", "handle_time_s", "csat", "expected", "upset", "codes", "base")


class CountsTheMoment(CsaHistory):
    """Planted: known at the moment, rather than before it, is enough."""

    def advance(self, handovers, moment, work=None):
        super().advance(handovers, moment + 1, work)


class MeetsTheMoment(CustomerHistory):
    """Planted: the same for customers."""

    def advance(self, arrivals, handovers, moment):
        super().advance(arrivals, handovers, moment + 1)


def features(table: Table, moment: int, planted: str = "") -> bytes:
    """Everything a contact arriving at a moment could be given, as bytes."""
    handovers, work, arrivals = table.handovers(), table.work(), table.arrivals()
    if planted == "ended":
        handovers = replace(table, known_at=table.ended_at).handovers()
    if planted == "no assignment yet":
        work = replace(table, assigned_at=table.assigned_at - 5 * DAY).work()
    csas = (CountsTheMoment if planted == "at the moment" else CsaHistory)(SETTINGS, CSAS)
    customers = (MeetsTheMoment if planted == "met" else CustomerHistory)(CUSTOMER_SETTINGS, CUSTOMERS)
    csas.advance(handovers, moment, work)
    customers.advance(arrivals, handovers, moment)
    reading, known = csas.read(families=NAMES), customers.read(range(CUSTOMERS))
    groups = [group_features(reading, SETTINGS, name, range(-1, codes)) for name, codes in FAMILIES]
    pairs = (known.pair_csa, known.pair_last, known.pair_end, known.pair_sums)
    found = (csa_features(reading, SETTINGS), reading.counts, reading.first, reading.last, reading.work, *groups)
    return b"".join(array.tobytes() for array in (*found, customer_features(known, CUSTOMER_SETTINGS), *pairs))


def otherwise(table: Table, moment: int, rng: np.random.Generator) -> Table:
    """The same past of a moment with another future: other and late outcomes, other and more contacts, shuffled."""
    other, new = {**vars(table)}, draw_content(rng, len(table))

    def later(count: int) -> np.ndarray:
        return moment + rng.choice([0, 0, 1, SECOND, DAY], count)

    unknown, running = table.known_at >= moment, table.ended_at >= moment
    for name in OUTCOME:
        other[name] = np.where(unknown.reshape(-1, *[1] * (other[name].ndim - 1)), new[name], other[name])
    other["ended_at"] = np.where(running, later(len(table)), table.ended_at)
    known = np.where(rng.random(len(table)) < 0.3, NEVER, later(len(table)))
    other["known_at"] = np.where(unknown, known, table.known_at)
    coming = table.assigned_at >= moment
    other["csa"] = np.where(coming, new["csa"], table.csa)
    other["assigned_at"] = np.where(coming, later(len(table)), table.assigned_at)
    unmet = table.arrived_at >= moment
    other["arrived_at"] = np.where(unmet, later(len(table)), table.arrived_at)
    other["customer"] = np.where(unmet, new["customer"], table.customer)
    other["signals"] = np.where(unmet[:, None], new["signals"], table.signals)
    other["ended_at"] = np.maximum(other["ended_at"], other["assigned_at"])
    added = draw_table(rng, int(rng.integers(0, 10)), moment, moment + 2 * SECOND)
    together = joined(Table(**other), added)
    return together.take(rng.permutation(len(together)))


def check(planted: str = "", phases=tuple(Phase)) -> None:
    @settings(phases=phases, report_multiple_bugs=False, database=None)
    @given(st.integers(0, 2**32), st.integers(0, 40), st.booleans())
    def holds(seed, count, crowded):
        rng = np.random.default_rng(seed)
        # Crowded: the whole past within a few seconds around the moment.
        table = draw_table(rng, count, *((BEGIN, BEGIN + 4 * SECOND) if crowded else (BEGIN, END)))
        moment = int(rng.choice([*table.arrived_at, *table.known_at[table.known_at < NEVER], BEGIN + 2 * SECOND]))
        assert features(otherwise(table, moment, rng), moment, planted) == features(table, moment, planted)

    holds()


def test_what_becomes_known_at_the_moment_or_later_changes_no_bit():
    check()


@pytest.mark.parametrize("planted", ["at the moment", "met", "ended", "no assignment yet"])
def test_a_planted_leak_is_found(planted):
    with pytest.raises(AssertionError):
        check(planted, (Phase.generate,))


def test_the_past_does_count():
    """The check would pass for features that know nothing at all."""
    table = draw_table(np.random.default_rng(0), 40)
    moment = BEGIN + 20 * DAY
    changed = replace(table, resolved=np.where(table.known_at < moment, 1 - table.resolved.clip(0), table.resolved))
    assert features(changed, moment) != features(table, moment)


@pytest.mark.parametrize("column", ["csa", "customer", "signals", "base", "codes", "csat", "ended_at", "handle_time_s"])
def test_every_column_of_the_past_is_seen(column):
    table = draw_table(np.random.default_rng(1), 40)
    values = getattr(table, column).copy()
    values[:] = values[::-1]
    assert features(replace(table, **{column: values}), END + DAY) != features(table, END + DAY)
