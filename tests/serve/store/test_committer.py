"""Group commit by itself, over a writer that does as the test says."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from serve.store import committer as module
from serve.store.committer import MOST, Committer, Counts
from serve.store.errors import StoreUnavailable


class Writer:
    """Takes what it is given, unless `refuse` raises."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.refuse: Callable[[list[int]], None] = lambda batch: None
        self.unwanted: set[int] = set()
        self.tried = threading.Semaphore(0)

    def __call__(self, batch: list[int]) -> list[bool]:
        self.tried.release()
        self.refuse(batch)
        self.batches.append([one for one in batch if one not in self.unwanted])
        return [one not in self.unwanted for one in batch]

    @property
    def written(self) -> list[int]:
        return [one for batch in self.batches for one in batch]


def away(batch: list[int]) -> None:
    raise StoreUnavailable("away")


@pytest.fixture
def writer() -> Writer:
    return Writer()


@pytest.fixture
def committer(writer: Writer):
    made = Committer(writer, 1000, "test")
    yield made
    made.close(0.2)


def test_company_shares_a_commit_and_keeps_its_order(writer: Writer) -> None:
    committer = Committer(writer, 1000, "test", gather_s=0.5)
    for number in range(MOST + 10):
        assert committer.put(number)
    assert committer.flush()
    assert [len(batch) for batch in writer.batches] == [MOST, 10]
    assert writer.written == list(range(MOST + 10))
    committer.close()


def test_what_waits_while_the_database_is_away_is_written_when_it_is_back(writer: Writer, committer) -> None:
    writer.refuse = away
    for number in range(100):
        committer.put(number)
    assert writer.tried.acquire(timeout=10)
    assert writer.tried.acquire(timeout=10)  # tried again
    assert committer.away
    assert committer.counts.waiting == 100
    writer.refuse = lambda batch: None
    assert committer.flush()
    assert writer.written == list(range(100))
    assert not committer.away
    assert committer.counts == Counts(100, 100, 0, committer.counts.late, 0)


def test_one_that_is_refused_for_good_is_lost_alone(writer: Writer, committer, caplog) -> None:
    def refuse(batch: list[int]) -> None:
        if 7 in batch:
            raise ValueError("secret text")

    writer.refuse = refuse
    for number in range(20):
        committer.put(number)
    assert committer.flush()
    assert sorted(writer.written) == [number for number in range(20) if number != 7]
    assert (committer.counts.written, committer.counts.lost) == (19, 1)
    assert "ValueError" in caplog.text
    assert "secret" not in caplog.text


def test_a_database_that_goes_away_in_the_middle_of_one_by_one_loses_nothing(writer: Writer, committer) -> None:
    gone = iter([True, True, False])

    def refuse(batch: list[int]) -> None:
        if len(batch) > 1:
            raise ValueError
        if batch == [3] and next(gone, False):
            raise StoreUnavailable("away")

    writer.refuse = refuse
    for number in range(6):
        committer.put(number)
    assert committer.flush()
    assert writer.written == list(range(6))
    assert committer.counts.lost == 0


def test_a_full_queue_loses_the_newest(writer: Writer) -> None:
    committer = Committer(writer, 3, "test")
    writer.refuse = away
    committer.put(-1)
    assert writer.tried.acquire(timeout=10)  # the thread holds it now
    assert [committer.put(number) for number in range(5)] == [True, True, True, False, False]
    assert committer.counts == Counts(4, 0, 2, 0, 4)
    writer.refuse = lambda batch: None
    assert committer.flush()
    assert writer.written == [-1, 0, 1, 2]
    committer.close()


def test_closing_writes_what_waits(writer: Writer) -> None:
    committer = Committer(writer, 1000, "test", gather_s=5)
    committer.put(1)
    committer.close()
    assert writer.written == [1]
    assert not committer.put(2)
    assert committer.counts == Counts(1, 1, 1, 0, 0)


def test_closing_while_the_database_is_away_says_what_is_lost(writer: Writer, caplog) -> None:
    committer = Committer(writer, 1000, "test")
    writer.refuse = away
    for number in range(MOST + 2):
        committer.put(number)
    committer.close(0.3)
    assert committer.counts == Counts(MOST + 2, 0, MOST + 2, 0, 0)
    assert f"{MOST + 2} are lost" in caplog.text
    committer._thread.join(10)
    assert not committer._thread.is_alive()
    writer.refuse = lambda batch: None
    assert committer.flush(0.1)  # nothing that is lost is waited for


def test_what_must_not_be_written_any_more_counts_as_lost(writer: Writer, committer) -> None:
    writer.unwanted = {1, 3, 5}
    for number in range(6):
        committer.put(number)
    assert committer.flush()
    assert writer.written == [0, 2, 4]
    assert committer.counts == Counts(6, 3, 3, committer.counts.late, 0)


def test_what_is_written_after_the_window_is_late(writer: Writer, committer, monkeypatch) -> None:
    monkeypatch.setattr(module, "WINDOW_S", 0.0)
    committer.put(1)
    assert committer.flush()
    monkeypatch.setattr(module, "WINDOW_S", 3600.0)
    committer.put(2)
    assert committer.flush()
    assert committer.counts.late == 1


def test_a_thread_that_sleeps_is_woken(writer: Writer, monkeypatch) -> None:
    monkeypatch.setattr(module, "QUIET_S", -1.0)
    committer = Committer(writer, 1000, "test")
    for number in range(3):
        committer.put(number)
        assert committer.flush(10)
    assert writer.written == [0, 1, 2]
    committer.close(10)
    assert not committer._thread.is_alive()


def test_several_callers_lose_nothing(writer: Writer, committer) -> None:
    callers = [threading.Thread(target=lambda: [committer.put(number) for number in range(200)]) for _ in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert committer.flush()
    assert sorted(writer.written) == sorted(list(range(200)) * 4)
    assert committer.counts.written == 800
