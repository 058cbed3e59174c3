"""Customers as of a moment: the first return, to the bits of the history engine, wherever the sums' origin stands."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.customers import Customers
from tests.serve import fakes, returning
from tests.serve.returning import SECRET, T
from tests.serve.returning import bundle as bundle
from tests.serve.returning import returning_data as returning_data
from twotower.clock import DAY, NULL_TIME
from twotower.features.customer import SETTINGS, STYLE, CustomerRows, signatures
from twotower.features.engine.customers import PER_CUSTOMER, CustomerHistory
from twotower.features.engine.events import Arrivals, KnownHandovers

pytestmark = pytest.mark.filterwarnings("error::RuntimeWarning")
# On arrival, a week later, and after everything has faded to nothing.
LATER = (1, 7 * DAY, 200 * 365 * DAY)


def nobody_yet() -> Customers:
    return Customers.empty(SECRET, "b" * 64, 2)


def past(found: Customers, customer_ids: list[str], at: int) -> CustomerRows:
    moments = np.full(len(customer_ids), at)
    return found.past(found.codes(customer_ids), moments, moments)


def bits(rows: CustomerRows) -> dict[str, bytes]:
    """Everything that is read of customers; whom they met, by signature, since a file numbers CSAs its own way."""
    reading = rows.reading
    told = {name: getattr(reading, name).tobytes() for name in PER_CUSTOMER if name != "pair_csa"}
    return {**told, "met": np.where(reading.pair_csa[..., None] < 0, 0, rows.signature[reading.pair_csa]).tobytes()}


def again(found: Customers, folder: Path) -> Customers:
    found.save(folder / "again")
    return Customers.load(folder / "again", SECRET)


@pytest.mark.parametrize("adopted", [False, True])
def test_the_first_return_to_an_empty_store_is_read(tmp_path: Path, adopted: bool) -> None:
    found = nobody_yet()
    if adopted:
        found.adopt("another", 3)
    found.update_arrival("anna", T, np.arange(len(STYLE), dtype=np.float32))
    rows = past(found, ["anna"], T + DAY)
    weights = [2 ** (-1 / 14), 2 ** (-1 / 180)]
    np.testing.assert_allclose(rows.reading.style[0, :, 0], weights, rtol=1e-15)
    np.testing.assert_allclose(rows.reading.style[0, :, 1], weights, rtol=1e-15)
    np.testing.assert_allclose(rows.style[0], [range(len(STYLE))] * 2, rtol=1e-15)
    assert rows.reading.count.tolist() == [1]
    assert rows.reading.pair_sums.sum() == 0
    kept = again(found, tmp_path)
    assert [bits(past(found, ["anna"], T + later)) for later in LATER] == [
        bits(past(kept, ["anna"], T + later)) for later in LATER
    ]


def test_the_first_csa_of_an_empty_store_is_read(tmp_path: Path) -> None:
    found = nobody_yet()
    found.update_handover("anna", "ada", T, True)
    rows = past(found, ["anna"], T + 180 * DAY)
    np.testing.assert_allclose(rows.reading.pair_sums[0, 0], [0.5, 0.5, 0], rtol=1e-15)
    assert rows.reading.style.sum() == 0
    np.testing.assert_allclose(rows.met("good")[0], np.log(1.5) * signatures(["ada"])[0], rtol=1e-6)
    assert bits(past(again(found, tmp_path), ["anna"], T + DAY)) == bits(past(found, ["anna"], T + DAY))
    found.update_handover("anna", "bob", T, False)
    rows = past(found, ["anna"], T + 180 * DAY)
    np.testing.assert_allclose(rows.met("bad")[0], np.log(1.5) * signatures(["bob"])[0], rtol=1e-6)


def each_once(content: dict[str, pa.Table]) -> dict[str, pa.Table]:
    """The tables with the first contact of each customer."""
    who = content["contacts"]["customer_id"].to_pylist()
    first = pa.array([name is not None and name not in who[:i] for i, name in enumerate(who)])
    contacts = content["contacts"].filter(first)
    known = pc.is_in(content["interactions"]["contact_id"], contacts["contact_id"])
    return {**content, "contacts": contacts, "interactions": content["interactions"].filter(known)}


@pytest.mark.parametrize("adopted", [False, True])
def test_customers_who_each_came_once_are_read_from_a_store_that_was_never_saved(
    bundle: Path, tmp_path: Path, adopted: bool
) -> None:
    content = each_once(returning.tables())
    found = returning.build(bundle, fakes.write_tables(content, tmp_path / "data"), None)
    names = sorted(set(content["contacts"]["customer_id"].to_pylist()))
    assert len(names) == found.counts()["contacts"] > 10
    if adopted:
        found.adopt("another", 3)
    read = [past(found, names, T + later) for later in LATER]
    assert (read[0].reading.style[:, :, 0] > 0).all()
    kept = again(found, tmp_path)
    assert [bits(rows) for rows in read] == [bits(past(kept, names, T + later)) for later in LATER]


@pytest.mark.parametrize("told", [T, 0])
def test_a_moment_ages_before_everything_told_reads_as_nothing(tmp_path: Path, told: int) -> None:
    found = nobody_yet()
    for at in (told, told + DAY):
        found.update_arrival("anna", at, np.ones(len(STYLE), np.float32))
        found.update_handover("anna", "ada", at, True)
    for store in (found, again(found, tmp_path)):
        reading = past(store, ["anna"], told - 60 * 365 * DAY).reading
        assert (reading.count.tolist(), reading.last.tolist()) == ([0], [NULL_TIME])
        assert np.abs(reading.style).sum() == 0
        assert np.abs(reading.pair_sums).sum() == 0


def engine(contacts: list[tuple[int, Any]], ends: list[tuple[int, int, int]], moment: int) -> CustomerRows:
    """What the history engine says of one customer who was told of at once."""
    arrivals = Arrivals(
        np.zeros(len(contacts), np.int32),
        np.array([at for at, _ in contacts], np.int64),
        np.array([style for _, style in contacts], np.float32).reshape(-1, len(STYLE)),
    )
    known, csa, resolved = (np.array(column) for column in zip(*ends, strict=True)) if ends else [np.empty(0, int)] * 3
    handovers = KnownHandovers(
        csa=csa.astype(np.int32),
        known_at=known.astype(np.int64),
        resolved=resolved.astype(np.int8),
        handle_time_s=np.zeros(len(ends), np.float32),
        base=np.zeros((len(ends), 0), np.float32),
        customer=np.zeros(len(ends), np.int32),
    )
    history = CustomerHistory(SETTINGS, 1)
    history.advance(arrivals, handovers, moment)
    return CustomerRows(history.read([0], moment), signatures([f"csa-{i}" for i in range(6)]))


# From 1970 to the year 2200, so that the origin moves and early contacts fade to nothing.
Times = st.lists(st.integers(0, 84_000 * DAY), min_size=1, max_size=8).map(sorted)


@given(Times, st.lists(st.tuples(st.integers(0, 84_000 * DAY), st.integers(0, 5), st.integers(-1, 1)), max_size=8))
def test_what_was_told_one_by_one_is_read_as_by_the_engine_to_the_bit(
    times: list[int], ends: list[tuple[int, int, int]]
) -> None:
    rng = np.random.default_rng(len(times))
    contacts = [(at, rng.random(len(STYLE), np.float32)) for at in times]
    ends = sorted(ends, key=lambda end: end[0])
    found, moment = nobody_yet(), max([times[-1], *(end[0] for end in ends)]) + 1
    for at, style in contacts:
        found.update_arrival("anna", at, style)
    for at, csa, resolved in ends:
        found.update_handover("anna", f"csa-{csa}", at, None if resolved < 0 else bool(resolved))
    for at in (moment, moment + 7 * DAY, moment + 20_000 * DAY):
        assert bits(past(found, ["anna"], at)) == bits(engine(contacts, ends, at))
