"""What was told of a customer before they were erased is not written after it, by whichever process, however late."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from serve.store.committer import Committer
from serve.store.erasures import Erasures
from serve.store.errors import StoreUnavailable
from serve.store.store import Store
from serve.store.tables import abandoned, contacts, decisions, erasing, erasures, facts, handovers
from tests.serve.store import told
from tests.support import at
from twotower.cli import main

ANNA = "anna-the-customer"


@pytest.fixture
def router(url: str) -> Iterator[Store]:
    """Another process with the database open."""
    with Store.open(url, text="none") as opened:
        yield opened


class Away:
    """A committer whose database is away until `back`."""

    def __init__(self, committer: Committer[Any]) -> None:
        self._committer, self._write = committer, committer._write
        self.tried = threading.Event()
        committer._write = self._refuse  # type: ignore[method-assign]

    def _refuse(self, batch: list[Any]) -> list[bool]:
        self.tried.set()
        raise StoreUnavailable("away")

    def back(self) -> None:
        self._committer._write = self._write  # type: ignore[method-assign]
        assert self._committer.flush()


def of(contact_id: str, customer_id: str | None = ANNA, **more: Any) -> Any:
    return told.decided(contact_id, contact={"customer_id": customer_id}, **more)


def kept(store: Store) -> list[str]:
    """Contacts that any table names."""
    tables = (contacts, decisions, handovers, facts, abandoned)
    return sorted({row["contact_id"] for table in tables for row in told.rows(store, table)})


def by_the_command(store: Store, customer_id: str) -> None:
    url = store.engine.url.render_as_string(hide_password=False)
    assert main(["feedback", "erase", "--store", url, "--customer", customer_id]) == 0


@pytest.mark.parametrize("erase", [Store.erase, by_the_command], ids=["a service", "the command"])
def test_what_waits_in_a_queue_is_never_written(store: Store, router: Store, erase: Callable[..., Any]) -> None:
    router.log.decided(of("a1"))
    assert router.log.flush()
    away = Away(router.log._decisions)
    router.log.decided(of("a1", None))  # who it was is known from before
    assert away.tried.wait(30)  # one is being tried while the others wait
    router.log.decided(of("a9"))
    router.log.decided(of("b9", "bert"))
    erase(store, ANNA)
    away.back()
    assert kept(store) == ["b9"]
    assert (router.log.counts.written, router.log.counts.lost) == (2, 2)


def test_what_waits_in_the_process_that_erases_is_never_written(store: Store) -> None:
    away = Away(store.log._decisions)
    store.log.decided(of("a9"))
    store.log.decided(of("b9", "bert"))
    store.erase(ANNA)
    store.log.decided(of("a10"))  # a new customer
    away.back()
    assert kept(store) == ["a10", "b9"]


def test_who_comes_again_is_a_new_customer(store: Store, router: Store) -> None:
    router.log.decided(of("a1"))
    assert router.log.flush()
    store.erase(ANNA)
    router.log.decided(of("a2"))  # it has not heard of it
    assert router.log.flush()
    assert kept(store) == []
    router.log.decided(of("a1"))
    router.log.decided(of("a3"))
    assert router.log.flush()
    assert router.feedback(told.feedback("a3", ended_at=at(3), resolved=True), told.feedback("a1")) == 2
    assert kept(store) == ["a1", "a3"]
    assert store.erase(ANNA)["contacts"] == 2
    assert kept(store) == []


def test_who_polls_hears_of_it_without_writing(store: Store, router: Store) -> None:
    before = router.erasures.number
    store.erase(ANNA, memory=b"\x01\x02")
    store.erase("bert")
    news = router.erasures.news(before)
    assert (news.number, news.memory) == (before + 2, [b"\x01\x02"])
    assert [news.of(None, one) for one in (ANNA, "bert", "cy", None)] == [before + 1, before + 2, 0, 0]
    router.log.decided(of("a2"))
    assert router.log.flush()
    assert kept(store) == ["a2"]
    assert not router.erasures.news(news.number).numbers


def test_feedback_of_an_erased_contact_is_left_out_until_it_is_told_again(store: Store, router: Store) -> None:
    router.log.decided(of("a1"))
    assert router.log.flush()
    store.erase(ANNA)
    ended = told.feedback("a1", ended_at=at(3), resolved=True)
    assert router.feedback(ended, told.feedback("b1")) == 1
    assert not router.abandoned("a1", at(4))
    assert kept(store) == ["b1"]
    router.erasures.news(0)
    router.log.decided(of("a1"))
    assert router.log.flush()
    assert router.feedback(ended) == 1
    assert router.abandoned("a1", at(4))


def test_feedback_that_came_before_a_decision_that_is_left_out_goes_with_it(store: Store, router: Store) -> None:
    away = Away(router.log._decisions)
    router.log.decided(of("a9"))
    router.log.decided(of("a10"))
    assert router.feedback(told.feedback("a9", ended_at=at(3), resolved=True)) == 1
    store.erase(ANNA)  # nobody could say then whose it is
    store.log.decided(of("a10"))
    assert store.log.flush()
    assert store.feedback(told.feedback("a10")) == 1
    away.back()
    assert kept(store) == ["a10"]
    assert router.feedback(told.feedback("a9", minute=2)) == 0
    assert kept(store) == ["a10"]


def test_texts_that_wait_are_not_given_to_who_comes_again(url: str) -> None:
    with Store.open(url) as masking:
        away = Away(masking.log._texts)
        masking.log.decided(of("a1", decision_id="first"))
        assert masking.log._decisions.flush()
        assert away.tried.wait(30)
        masking.erase(ANNA)
        masking.log.decided(told.decided("a1", contact={"customer_id": ANNA, "intent_text": "about my parcel"}))
        assert masking.log._decisions.flush()
        away.back()
        assert [row["intent_text"] for row in told.rows(masking, contacts)] == ["about my parcel"]


def test_contacts_that_are_being_masked_are_left_out(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with Store.open(url) as importing, Store.open(url, text="none") as other:

        def meanwhile(texts: list[Any]) -> list[str]:
            other.erase(ANNA)
            return ["masked" for _ in texts]

        monkeypatch.setattr(importing._redacting, "redact", meanwhile)
        rows = [{"contact_id": "a1", "customer_id": ANNA}, {"contact_id": "b1", "customer_id": "bert"}]
        assert importing.contacts(rows) == 1
        assert [row["contact_id"] for row in told.rows(other, contacts)] == ["b1"]


def test_an_erasure_waits_for_what_is_being_written_and_deletes_it(
    store: Store, router: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked, go_on, whole = threading.Event(), threading.Event(), Erasures.kept

    def slowly(self: Erasures, *args: Any) -> list[bool]:
        found = whole(self, *args)
        looked.set()
        assert go_on.wait(30)
        return found

    with monkeypatch.context() as patch:
        patch.setattr(Erasures, "kept", slowly)
        router.log.decided(of("a1"))
        assert looked.wait(30)
        erasing_ = threading.Thread(target=store.erase, args=(ANNA,))
        erasing_.start()
        erasing_.join(0.5)  # if it did not wait, it would be through by now, and find nothing
        go_on.set()
        assert router.log.flush()
        erasing_.join()
    assert kept(store) == []
    assert router.log.counts.written == 1


def test_no_id_stands_in_the_record_and_old_records_are_forgotten(store: Store, router: Store) -> None:
    router.log.decided(of("a1-of-hers"))
    assert router.log.flush()
    store.erase(ANNA)
    found = told.rows(store, erasures)
    assert len(found) == 2
    assert not any(word in repr(found) for word in (ANNA, "a1-of-hers"))
    assert len({len(row["salt"]) for row in told.rows(store, erasing)}) == 1
    assert store.prune(at(0))["erasures"] == 0
    assert store.prune(found[0]["erased_at"] + 1)["erasures"] == 2
    gone = dict.fromkeys(("shadows", "decisions", "facts", "handovers", "abandoned", "contacts"), 0)
    assert store.erase(ANNA) == gone
    assert told.rows(store, erasures)[0]["number"] == found[0]["number"] + 1  # numbers go on


def test_two_databases_keep_the_same_customer_differently(store: Store, tmp_path: Any) -> None:
    with Store.open(f"sqlite:///{tmp_path / 'other.db'}", text="none") as other:
        for one in (store, other):
            one.erase(ANNA)
        assert told.rows(store, erasures)[0]["key"] != told.rows(other, erasures)[0]["key"]
