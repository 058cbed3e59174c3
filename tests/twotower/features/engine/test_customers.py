"""Customers as of each of their contacts equal a plain account of what came before it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.twotower.features.engine.histories import BEGIN, CUSTOMER_SETTINGS, CUSTOMERS, END, draw_table, tables
from twotower.clock import DAY, HOUR, NULL_TIME
from twotower.errors import DataError
from twotower.features.customer import customer_features, customer_names
from twotower.features.engine.customers import (
    PER_CUSTOMER,
    CustomerHistory,
    CustomerReading,
)
from twotower.features.engine.events import Arrivals, KnownHandovers
from twotower.features.engine.settings import CustomerSettings

S = CUSTOMER_SETTINGS


def history():
    return CustomerHistory(S, CUSTOMERS)


def reference(arrivals, handovers, customer, moment):
    """Count, last contact, style (2, 2 + S) and the list of pairs of one customer."""
    mine = [i for i in range(len(arrivals)) if arrivals.customer[i] == customer and arrivals.arrived_at[i] < moment]
    style = np.zeros((2, 4))
    for i in mine:
        shown = not np.isnan(arrivals.signals[i]).any()
        row = [1, *([1, *arrivals.signals[i]] if shown else [0, 0, 0])]
        for h, half_life in enumerate(S.style_us):
            style[h] += 0.5 ** ((moment - arrivals.arrived_at[i]) / half_life) * np.array(row)
    pairs: list[dict[str, float]] = []
    for i in range(len(handovers)):
        known, csa, resolved = handovers.known_at[i], int(handovers.csa[i]), int(handovers.resolved[i])
        if handovers.customer[i] != customer or known >= moment:
            continue
        place = next((i for i, pair in enumerate(pairs) if pair["csa"] == csa), len(pairs))
        if place == S.pairs:
            place = min(range(S.pairs), key=lambda i: pairs[i]["last"])
        if place == len(pairs) or pairs[place]["csa"] != csa:
            pairs[place : place + 1] = [{"csa": csa, "together": 0, "good": 0, "bad": 0}]
        weight, of = 0.5 ** ((moment - known) / S.pair_us), pairs[place]
        of["together"] += weight
        of["good"] += weight * (resolved == 1)
        of["bad"] += weight * (resolved == 0)
        of["last"], of["end"] = int(known), resolved
    last = max((int(arrivals.arrived_at[i]) for i in mine), default=NULL_TIME)
    return len(mine), last, style, pairs


def agrees(reading, q, expected):
    count, last, style, pairs = expected
    assert reading.count[q] == count
    assert reading.last[q] == last
    np.testing.assert_allclose(reading.style[q], style, rtol=1e-9, atol=1e-12)
    assert [csa for csa in reading.pair_csa[q] if csa >= 0] == [pair["csa"] for pair in pairs]
    for place, pair in enumerate(pairs):
        sums = [pair["together"], pair["good"], pair["bad"]]
        np.testing.assert_allclose(reading.pair_sums[q, place], sums, rtol=1e-9, atol=1e-12)
        assert reading.pair_last[q, place] == pair["last"]
        assert reading.pair_end[q, place] == pair["end"]


@given(tables(most=25), st.integers(BEGIN, END + DAY))
def test_a_customer_is_what_was_known_of_them(table, moment):
    arrivals, handovers = table.arrivals(), table.handovers()
    found = history()
    found.advance(arrivals, handovers, moment)
    reading = found.read(range(CUSTOMERS))
    for customer in range(CUSTOMERS):
        agrees(reading, customer, reference(arrivals, handovers, customer, moment))


@given(tables(most=25))
def test_along_reads_each_contact_as_of_its_own_arrival(table):
    arrivals, handovers = table.arrivals(), table.handovers()
    reading = history().along(arrivals, handovers, arrivals.customer, arrivals.arrived_at)
    alone = [history() for _ in range(len(arrivals))]
    for q, one in enumerate(alone):
        one.advance(arrivals, handovers, int(arrivals.arrived_at[q]))
        single = one.read([int(arrivals.customer[q])])
        for name in PER_CUSTOMER:
            assert getattr(single, name)[0].tobytes() == getattr(reading, name)[q].tobytes()


@given(tables(), st.integers(0, 40))
def test_along_in_parts_is_along_in_one_go(table, cut):
    arrivals, handovers = table.arrivals(), table.handovers()
    who, when = arrivals.customer, arrivals.arrived_at
    whole, parted = history(), history()
    once = whole.along(arrivals, handovers, who, when)
    parts = [parted.along(arrivals, handovers, who[s], when[s]) for s in (slice(0, cut), slice(cut, None))]
    for name in PER_CUSTOMER:
        assert np.concatenate([getattr(p, name) for p in parts]).tobytes() == getattr(once, name).tobytes()


def test_contacts_of_one_microsecond_do_not_see_each_other():
    arrivals = Arrivals(np.zeros(3, np.int32), np.array([BEGIN, BEGIN, BEGIN + 1]), np.zeros((3, 2), np.float32))
    reading = history().along(arrivals, draw_table(np.random.default_rng(0), 0).handovers(), *vars_of(arrivals))
    assert reading.count.tolist() == [0, 0, 2]


def vars_of(arrivals):
    return arrivals.customer, arrivals.arrived_at


def test_nobody_has_no_past():
    found = history()
    found.advance(draw_table(np.random.default_rng(0), 30).arrivals(), handover([0], [BEGIN]), END)
    reading = found.read([-1])
    assert reading.count.tolist() == [0]
    assert reading.last.tolist() == [NULL_TIME]
    assert reading.pair_csa.tolist() == [[-1, -1]]
    assert not reading.style.any()


def handover(csa, known, customer=0, resolved=1):
    n = len(csa)
    return KnownHandovers(
        np.array(csa, np.int32), np.array(known, np.int64), np.full(n, resolved, np.int8), np.full(n, 60, np.float32),
        np.zeros((n, 3), np.float32), customer=np.full(n, customer, np.int32),
    )  # fmt: skip


def test_the_csa_met_longest_ago_makes_room():
    found = history()
    found.update(handovers=handover([3, 1, 3, 2], [BEGIN + i * DAY for i in range(4)]))
    reading = found.read([0], BEGIN + 4 * DAY)
    assert reading.pair_csa.tolist() == [[3, 2]]
    assert reading.pair_last.tolist() == [[BEGIN + 2 * DAY, BEGIN + 3 * DAY]]
    assert reading.pair_sums[0, 1, 0] == pytest.approx(0.5 ** (1 / 8))


def test_how_it_ended_is_the_latest_even_if_told_late():
    found = history()
    found.update(handovers=handover([3], [BEGIN + DAY], resolved=0))
    found.update(handovers=handover([3], [BEGIN], resolved=1))
    reading = found.read([0])
    assert reading.pair_end.tolist() == [[0, -1]]
    assert reading.pair_last[0, 0] == BEGIN + DAY
    assert found.moment == BEGIN + DAY + 1


@given(tables())
def test_single_updates_are_one_pass_to_the_bit(table):
    arrivals, handovers = table.arrivals(), table.handovers()
    whole, single = history(), history()
    whole.update(arrivals, handovers)
    for i in range(len(arrivals)):
        single.update(
            Arrivals(arrivals.customer[i : i + 1], arrivals.arrived_at[i : i + 1], arrivals.signals[i : i + 1])
        )
    single.update(handovers=handovers)
    for name in PER_CUSTOMER:
        assert (
            getattr(single.read(range(CUSTOMERS)), name).tobytes()
            == getattr(whole.read(range(CUSTOMERS)), name).tobytes()
        )


def test_features_by_name():
    reading = CustomerReading(
        moment=np.array([10 * DAY]), count=np.array([3]), last=np.array([7 * DAY]),
        style=np.array([[[1.0, 0.5, 1.0, 0.0], [2.0, 2.0, 1.0, 4.0]]]),
        pair_csa=np.full((1, 2), -1, np.int32), pair_last=np.zeros((1, 2), np.int64),
        pair_end=np.zeros((1, 2), np.int8), pair_sums=np.zeros((1, 2, 3)),
    )  # fmt: skip
    found = dict(zip(customer_names(S), customer_features(reading, S)[0].tolist(), strict=True))
    assert found == pytest.approx(
        {
            "contacts": np.log(4), "frequency_2d": np.log(2), "frequency_20d": np.log(3), "since_last": np.log(4),
            "style_n": np.log(3), "style_words": 0.5, "style_warmth": 2.0, "drift_words": 1.5, "drift_warmth": -2.0,
        }
    )  # fmt: skip


def test_a_customer_who_never_came_has_features_too():
    found = customer_features(history().read([0, -1], BEGIN), S)
    assert found.tolist() == [pytest.approx([0, 0, 0, np.log(3651), 0, 0, 0, 0, 0])] * 2


def test_style_that_is_half_there_is_refused():
    arrivals = Arrivals(np.zeros(2, np.int32), np.array([1, 2]), np.array([[np.nan] * 2, [1, np.nan]], np.float32))
    with pytest.raises(DataError, match="arrivals: signals of row 1; all numbers or all NaN are expected"):
        history().update(arrivals)


def test_style_of_another_width_is_refused():
    arrivals = Arrivals(np.zeros(1, np.int32), np.array([1]), np.zeros((1, 3), np.float32))
    with pytest.raises(DataError, match=r"signals \(1, 3\); \(1, 2\) is expected"):
        history().update(arrivals)


def test_no_style_is_no_style():
    found = CustomerHistory(CustomerSettings(), 1)
    found.update(Arrivals(np.zeros(1, np.int32), np.array([BEGIN])))
    assert found.read([0], BEGIN + HOUR).style[0, :, 1].tolist() == [0, 0]


def test_hand_overs_must_say_whose_they_are():
    stream = handover([0], [BEGIN])
    with pytest.raises(DataError, match="customer is missing"):
        history().update(handovers=KnownHandovers(*(getattr(stream, n) for n in list(vars(stream))[:5])))


def test_the_past_of_a_state_cannot_be_read():
    found = history()
    found.update(handovers=handover([0], [BEGIN]))
    with pytest.raises(ValueError, match="does not know what it was at"):
        found.read([0], BEGIN)
    with pytest.raises(ValueError, match="cannot go back"):
        found.advance(draw_table(np.random.default_rng(0), 0).arrivals(), handover([0], [BEGIN]), BEGIN)
    with pytest.raises(ValueError, match="ascending"):
        found.along(
            draw_table(np.random.default_rng(0), 0).arrivals(), handover([0], [BEGIN]), np.zeros(2), np.array([9, 8])
        )


def test_room_for_more_keeps_everyone():
    found = history()
    found.update(handovers=handover([3], [BEGIN], customer=5))
    found.grow(9)
    assert found.customers == 9
    assert found.read([5, 8]).pair_csa.tolist() == [[3, -1], [-1, -1]]


def test_the_first_contact_of_all_finds_nobody():
    assert CustomerHistory(S, 0).read([-1], BEGIN).count.tolist() == [0]
