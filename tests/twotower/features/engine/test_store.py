"""States on disk resume to the bit, hold no object and no customer's id, and forget whom they are told to."""

from __future__ import annotations

import os
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.twotower.features.engine.histories import BEGIN, CSAS, CUSTOMER_SETTINGS, END, SETTINGS, draw_table, tables
from twotower.clock import DAY
from twotower.errors import BundleError, ConfigError
from twotower.features.engine.csa import CsaHistory
from twotower.features.engine.customers import PER_CUSTOMER
from twotower.features.engine.events import Arrivals, KnownHandovers
from twotower.features.engine.record import csa_features
from twotower.features.engine.store import CustomerStore, load_csas, save_csas

SECRET, OTHER = bytes(range(32)), bytes(range(1, 33))
CSA_IDS = ["ada", "bob", "cy", "dan", "eve"]


def csas(table, moment):
    history = CsaHistory(SETTINGS, CSAS)
    history.advance(table.handovers(), moment, table.work())
    return history


def bits(arrays):
    return {name: array.tobytes() for name, array in arrays.items()}


def store(table=None, moment=END, names=("anna", "bert", "carl", "dora", "emil", "fred")):
    """A store that has met the customers of a table, code i being names[i]."""
    found = CustomerStore(SECRET, CUSTOMER_SETTINGS, CSA_IDS)
    table = draw_table(np.random.default_rng(0), 60) if table is None else table
    codes = np.append(found.codes(names, add=True), -1)
    arrivals, handovers = table.arrivals(), table.handovers()
    columns = {**vars(handovers), "customer": codes[handovers.customer]}
    found.history.advance(
        Arrivals(codes[arrivals.customer], arrivals.arrived_at, arrivals.signals), KnownHandovers(**columns), moment
    )
    return found


def known_of(found, *names, moment=END):
    reading = found.history.read(found.codes(names), moment)
    return {name: getattr(reading, name).tobytes() for name in PER_CUSTOMER}


@given(tables(), st.integers(BEGIN, END))
@settings(max_examples=25)
def test_a_saved_history_of_csas_goes_on_to_the_bit(tmp_path_factory, table, moment):
    path = tmp_path_factory.mktemp("state") / "features.state"
    on, straight = csas(table, moment), csas(table, END + DAY)
    save_csas(on, path)
    resumed = load_csas(path)
    assert resumed.moment == moment
    assert resumed.settings == SETTINGS
    resumed.advance(table.handovers(), END + DAY, table.work())
    assert bits(resumed.state()) == bits(straight.state())
    assert csa_features(resumed.read(), SETTINGS).tobytes() == csa_features(straight.read(), SETTINGS).tobytes()


@given(tables(), st.integers(BEGIN, END))
@settings(max_examples=25)
def test_a_saved_history_of_customers_goes_on_to_the_bit(tmp_path_factory, table, moment):
    path = tmp_path_factory.mktemp("state") / "customers.state"
    store(table, moment).save(path)
    resumed, names = CustomerStore.load(path, SECRET, CSA_IDS), ["anna", "bert", "carl", "dora", "emil", "fred"]
    codes = np.append(resumed.codes(names), -1)
    arrivals, handovers = table.arrivals(), table.handovers()
    resumed.history.advance(
        Arrivals(codes[arrivals.customer], arrivals.arrived_at, arrivals.signals),
        KnownHandovers(**{**vars(handovers), "customer": codes[handovers.customer]}),
        END + DAY,
    )
    straight = store(table, END + DAY)
    assert known_of(resumed, *names, moment=END + DAY) == known_of(straight, *names, moment=END + DAY)


def test_the_same_state_is_the_same_bytes(tmp_path):
    table = draw_table(np.random.default_rng(0), 60)
    for name in ("a", "b"):
        save_csas(csas(table, END), tmp_path / name)
        store(table).save(tmp_path / f"customers-{name}")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert (tmp_path / "customers-a").read_bytes() == (tmp_path / "customers-b").read_bytes()


def test_nothing_is_pickled(tmp_path):
    save_csas(csas(draw_table(np.random.default_rng(0), 60), END), tmp_path / "csas")
    store().save(tmp_path / "customers")
    for name in ("csas", "customers"):
        with np.load(tmp_path / name, allow_pickle=False) as data:
            kinds = {data[key].dtype.kind for key in data.files}
        assert kinds <= {"i", "u", "f"}


def test_a_store_names_no_customer_and_not_the_order_they_came_in(tmp_path):
    store().save(tmp_path / "one")
    content = (tmp_path / "one").read_bytes()
    assert not any(name in content for name in (b"anna", b"bert", b"carl", b"dora", b"emil", b"fred"))
    empty = draw_table(np.random.default_rng(0), 0)
    store(empty).save(tmp_path / "forth")
    store(empty, names=("fred", "emil", "dora", "carl", "bert", "anna")).save(tmp_path / "back")
    assert (tmp_path / "forth").read_bytes() == (tmp_path / "back").read_bytes()


def test_keys_depend_on_the_secret(tmp_path):
    keys = []
    for secret in (SECRET, OTHER):
        found = CustomerStore(secret, CUSTOMER_SETTINGS, CSA_IDS)
        found.codes(["anna"], add=True)
        found.save(tmp_path / "one")
        with np.load(tmp_path / "one") as data:
            keys.append(data["keys"].tobytes())
    assert keys[0] != keys[1]
    assert len(keys[0]) == len(keys[1]) == 16


def test_another_secret_is_refused(tmp_path):
    store().save(tmp_path / "customers")
    with pytest.raises(ConfigError, match="written with another secret"):
        CustomerStore.load(tmp_path / "customers", OTHER)


@pytest.mark.parametrize("length", [0, 15, 65])
def test_a_secret_of_another_length_is_refused(length):
    with pytest.raises(ConfigError, match=f"secret: {length} bytes; 16 to 64 are expected"):
        CustomerStore(bytes(length), CUSTOMER_SETTINGS, CSA_IDS)


def test_strangers_and_nobody_have_no_position():
    assert store().codes(["nobody we know", None]).tolist() == [-1, -1]


def test_an_id_may_hold_anything_a_string_may():
    found = CustomerStore(SECRET, CUSTOMER_SETTINGS, CSA_IDS)
    ids = ["", "\ud800", "a\x00b", "a", "ä", "a" * 10_000]
    assert len(set(found.codes(ids, add=True).tolist())) == len(ids)
    assert (found.codes(ids) >= 0).all()
    assert len(found) == len(ids)


def test_one_customer_is_erased_and_the_others_are_not():
    found = store()
    others = known_of(found, "anna", "bert", "dora", "emil", "fred")
    assert found.erase("carl")
    assert found.codes(["carl"]).tolist() == [-1]
    assert known_of(found, "anna", "bert", "dora", "emil", "fred") == others
    assert not found.erase("carl")


def test_the_file_of_an_erased_customer_is_that_of_one_never_met(tmp_path):
    empty = draw_table(np.random.default_rng(0), 0)
    gone, never = store(empty), store(empty, names=("anna", "bert"))
    for name in ("carl", "dora", "emil", "fred"):
        gone.erase(name)
    gone.save(tmp_path / "gone")
    never.save(tmp_path / "never")
    assert (tmp_path / "gone").read_bytes() == (tmp_path / "never").read_bytes()


def test_the_place_of_an_erased_customer_stays_empty():
    """Who kept the position for a moment must not find somebody else there."""
    found = store()
    place = int(found.codes(["carl"])[0])
    assert found.history.count[place] > 0
    found.erase("carl")
    fresh = known_of(CustomerStore(SECRET, CUSTOMER_SETTINGS, CSA_IDS), "zoe")
    assert found.codes(["zoe"], add=True).tolist() != [place]
    assert known_of(found, "zoe") == fresh
    assert found.history.read([place], END).count.tolist() == [0]


def test_a_csa_whom_only_an_erased_customer_met_is_not_named(tmp_path):
    found = CustomerStore(SECRET, CUSTOMER_SETTINGS, ["ada"])
    for place, name in enumerate(("anna", "bert")):
        one = KnownHandovers(
            csa=np.array([found.csa(("ada", "zed")[place])], np.int32),
            known_at=np.array([END]),
            resolved=np.ones(1, np.int8),
            handle_time_s=np.zeros(1, np.float32),
            base=np.zeros((1, 0), np.float32),
            customer=found.codes([name], add=True),
        )
        found.history.update(handovers=one)
    found.save(tmp_path / "both")
    found.erase("bert")
    found.save(tmp_path / "one")
    assert b"zed" in (tmp_path / "both").read_bytes()
    assert b"zed" not in (tmp_path / "one").read_bytes()
    assert CustomerStore.load(tmp_path / "one", SECRET).csa_ids == ["ada"]


def test_pairings_follow_the_roster(tmp_path):
    before = store()
    before.save(tmp_path / "customers")
    roster = ["new", "eve", "cy", "ada"]
    after = CustomerStore.load(tmp_path / "customers", SECRET, roster)
    assert after.csa_ids == ["new", "eve", "cy", "ada", "bob", "dan"]
    for name in ("anna", "bert", "carl", "dora", "emil", "fred"):
        old, new = (s.history.read(s.codes([name]), END).pair_csa[0] for s in (before, after))
        assert [CSA_IDS[c] if c >= 0 else "" for c in old] == [after.csa_ids[c] if c >= 0 else "" for c in new]
    assert (store().history.pair_csa >= 0).any()


@pytest.mark.parametrize("content", [None, b"", b"no state", b"PK\x03\x04 cut short"])
def test_what_is_no_state_is_refused_in_one_line(tmp_path, content):
    path = tmp_path / "some.state"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BundleError, match=r"some\.state: not a saved history of csas") as error:
        load_csas(path)
    assert "\n" not in str(error.value)
    with pytest.raises(BundleError, match=r"some\.state: not a saved history of customers"):
        CustomerStore.load(path, SECRET)


def test_one_kind_is_not_read_as_the_other(tmp_path):
    store().save(tmp_path / "customers")
    with pytest.raises(BundleError, match="holds 'customers 1', this program reads 'csas 1'"):
        load_csas(tmp_path / "customers")


@pytest.mark.parametrize("missing", ["settings", "origin", "sums", "cells"])
def test_a_state_without_one_of_its_parts_is_refused(tmp_path, missing):
    save_csas(csas(draw_table(np.random.default_rng(0), 60), END), tmp_path / "whole")
    with np.load(tmp_path / "whole") as data:
        np.savez(tmp_path / "part.npz", **{name: data[name] for name in data.files if name != missing})
    with pytest.raises(BundleError, match=r"part\.npz: not a saved history of csas"):
        load_csas(tmp_path / "part.npz")


@pytest.mark.parametrize("spoiled", ["keys", "pair_csa", "style"])
def test_a_store_whose_parts_do_not_fit_is_refused(tmp_path, spoiled):
    store().save(tmp_path / "whole")
    with np.load(tmp_path / "whole") as data:
        arrays = {name: data[name][:-1] if name == spoiled else data[name] for name in data.files}
    np.savez(tmp_path / "part.npz", **arrays)
    with pytest.raises(BundleError, match=r"part\.npz: not a saved history of customers"):
        CustomerStore.load(tmp_path / "part.npz", SECRET)


def test_an_object_array_is_refused(tmp_path):
    """Unpickling runs code; the loader must not."""
    np.savez(tmp_path / "evil.npz", header=np.array([os], dtype=object)[:0])
    with pytest.raises(BundleError, match="not a saved history"):
        load_csas(tmp_path / "evil.npz")


def test_saving_replaces_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "customers"
    store().save(path)
    before = path.read_bytes()

    def breaks(*args, **kwargs):
        raise OSError("disk full")

    monkeypatch.setattr(zipfile.ZipFile, "open", breaks)
    with pytest.raises(OSError, match="disk full"):
        store(draw_table(np.random.default_rng(1), 9)).save(path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["customers"]
