"""What a call holds up: saving sorts and writes outside of the lock, newcomers move nobody, copies go their own way."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import serve.customers as module
from serve.customers import Customers
from serve.customers_past import Latest
from serve.customers_rows import Remembered, RowsByCustomer
from tests.serve.returning import SECRET, T
from twotower.features.customer import STYLE
from twotower.features.engine.customers import CustomerHistory
from twotower.features.engine.store import AT_ONCE, CustomerStore
from twotower.scoring.join import ContactVectors

BUNDLE = "b" * 64


def contact(value: float) -> ContactVectors:
    one = np.array([[value, 1.0]], np.float32)
    return ContactVectors(one, one, np.zeros(1, np.float32), one, np.array([0]), np.zeros(1, np.int32))


def some(count: int = 5) -> Customers:
    found = Customers.empty(SECRET, BUNDLE, 2)
    for i in range(count):
        found.update_arrival(f"customer-{i}", T + i, np.ones(len(STYLE), np.float32), language="de")
        found.update_handover(f"customer-{i}", f"csa-{i}", T + i, True, contact(i), BUNDLE)
    return found


def told(found: Customers) -> None:
    """Every kind of fact, of somebody known and of somebody new."""
    for name in ("customer-1", "new"):
        found.update_arrival(name, T + 100, np.zeros(len(STYLE), np.float32), since=T, language="fi")
        found.update_handover(name, "zed", T + 100, False, contact(9), BUNDLE)


def written(found: Customers, path: Path) -> bytes:
    found.save(path)
    return path.read_bytes()


def test_a_save_sorts_and_writes_while_others_tell_and_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are let in at each step, and the file is the one of the moment at which it began."""
    found, steps = Customers.load(saved(tmp_path), SECRET), []
    expected = (tmp_path / "customers").read_bytes()

    def let_in(owner: Any, name: str) -> None:
        before = getattr(owner, name)

        def step(*args: Any) -> Any:
            assert not found._lock.locked()
            told(found)
            steps.append((name, found.counts()["contacts"]))
            return before(*args)

        monkeypatch.setattr(owner, name, step)

    let_in(CustomerStore, "order")
    let_in(RowsByCustomer, "gathered")
    let_in(CustomerStore, "state")
    let_in(module, "write_state")
    found.save(tmp_path / "meanwhile")
    assert steps == [("order", 7), ("gathered", 9), ("state", 11), ("write_state", 13)]
    assert (tmp_path / "meanwhile").read_bytes() == expected


def saved(folder: Path) -> Path:
    some().save(folder / "customers")
    return folder / "customers"


def test_an_erasure_waits_for_a_save_and_the_next_file_never_knew_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, write, held = Customers.load(saved(tmp_path), SECRET), module.write_state, []
    with_her = (tmp_path / "customers").read_bytes()
    eraser = threading.Thread(target=found.erase, args=("customer-3",))

    def slow(*args: Any) -> None:
        eraser.start()
        eraser.join(0.05)
        held.append((eraser.is_alive(), len(found)))
        write(*args)

    monkeypatch.setattr(module, "write_state", slow)
    found.save(tmp_path / "first")
    eraser.join()
    monkeypatch.undo()
    assert held == [(True, 5)]
    assert (tmp_path / "first").read_bytes() == with_her
    never = Customers.empty(SECRET, BUNDLE, 2)
    for i in (0, 1, 2, 4):
        never.update_arrival(f"customer-{i}", T + i, np.ones(len(STYLE), np.float32), language="de")
        never.update_handover(f"customer-{i}", f"csa-{i}", T + i, True, contact(i), BUNDLE)
    assert written(found, tmp_path / "second") == written(never, tmp_path / "never")


def test_counting_gathers_no_hand_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = Customers.load(saved(tmp_path), SECRET)
    told(found)
    told(found)
    found.erase("customer-0")
    monkeypatch.delattr(RowsByCustomer, "gathered")
    counts = found.counts()
    assert (counts["customers"], counts["contacts"]) == (5, 8)
    assert (counts["handovers"], counts["most"]) == (8, 3)


def test_newcomers_to_a_store_that_was_opened_move_nobody(tmp_path: Path) -> None:
    some(2 * AT_ONCE).save(tmp_path / "customers")
    found = Customers.load(tmp_path / "customers", SECRET)
    columns = [found._store.history.style, found._store.history.pair_last, found._latest.at, found._latest.style]
    for i in range(2 * AT_ONCE):
        found.update_arrival(f"new-{i}", T, np.ones(len(STYLE), np.float32))
    now = [found._store.history.style, found._store.history.pair_last, found._latest.at, found._latest.style]
    assert [len(column) for column in now] == [4 * AT_ONCE] * 4
    assert all(np.shares_memory(a, b) for a, b in zip(columns, now, strict=True))
    found.update_arrival("one more", T + 1)
    assert not np.shares_memory(now[0], found._store.history.style)
    who = found.codes(["customer-7", "new-7", "one more"])
    moments = np.full(3, T + 2 * AT_ONCE)
    assert found.past(who, moments, moments).reading.last.tolist() == [T + 7, T, T + 1]
    assert found.pairs(int(who[0]), T + 8, {"csa-7": 3}, BUNDLE).codes.tolist() == [3]


@given(st.lists(st.tuples(st.sampled_from(["add", "spare", "copy"]), st.integers(0, 40)), max_size=8))
def test_grown_columns_are_those_put_one_after_another(steps: list[tuple[str, int]]) -> None:
    latest, at = Latest.none(3), [1, 2, 3]
    latest.at[:] = at
    others: list[tuple[Latest, list[int]]] = []
    for what, rows in steps:
        if what == "add":
            latest.grow(len(at) + rows)
            latest.at[len(at) :] = range(rows)
            at = [*at, *range(rows)]
        elif what == "spare":
            latest.spare()
        else:
            others.append((latest.copy(), at))
    for found, expected in (*others, (latest, at)):
        assert found.at.tolist() == expected
        assert (len(found.style), len(found.since)) == (len(expected), len(expected))
        assert np.isnan(found.style).all()


def test_a_copy_of_a_store_goes_its_own_way() -> None:
    store = some()._store
    twin = store.copy()
    before = {name: array.tobytes() for name, array in twin.state(twin.order())[0].items()}
    twin = store.copy()
    store.history.style += 1
    store.history.pair_sums[:] = 7
    store.csa("zed")
    store.codes([f"new-{i}" for i in range(2 * AT_ONCE)], add=True)
    store.erase("customer-2")
    store.history.decay.move_to(0)
    assert {name: array.tobytes() for name, array in twin.state(twin.order())[0].items()} == before
    assert isinstance(twin.history, CustomerHistory)
    assert twin.csa("zed") == 5


def test_hand_overs_are_counted_as_they_are_gathered() -> None:
    row = Remembered.none(2).followed_by(
        Remembered.of(np.zeros(1, np.int32), np.array([T]), np.ones(1, np.int8), np.zeros(1), contact(1).memory)
    )
    rows = RowsByCustomer(row.followed_by(row, row), np.array([1, 0, 2]))
    assert rows.counts().tolist() == [1, 0, 2]
    twin = rows.copy()
    for customer in (0, 5, 5):
        rows.add(customer, row)
    rows.forget(2)
    assert rows.counts().tolist() == rows.gathered(np.arange(6))[1].tolist() == [2, 0, 0, 0, 0, 2]
    assert twin.counts().tolist() == [1, 0, 2]
