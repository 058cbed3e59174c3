"""A roster's journal: durable before it is acknowledged, followed by others, compacted, whole after a kill."""

from __future__ import annotations

import errno
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from serve.matcher import Matcher, MatchError
from serve.roster import keeper as module
from serve.roster.changes import Block, Change, Join, Leave, RosterChange, Shift, State
from serve.roster.journal import Journal, JournalError, JournalGap, journal_secret
from serve.roster.keeper import Keeper, RosterStale
from twotower.errors import ConfigError

SECRET = b"s" * 32


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "roster.journal"


def opened(bundle_folder: Path, path: Path) -> Keeper:
    """Another process, as far as the roster goes."""
    return Keeper(Matcher.load(bundle_folder, secret=SECRET), Journal(path, SECRET))


def state(keeper: Keeper) -> tuple[int, dict[str, Any], set[bytes]]:
    view = keeper.matcher.roster()
    return view.version, {name: vars(csa) for name, csa in view}, set(keeper.matcher.snapshot.blocked)


CHANGES: list[list[RosterChange]] = [
    [Join("new", {"languages": ["fr"], "skills": [{"name": "card", "level": 1.0}]}), State("csa-01", "busy")],
    [Leave("csa-03"), Block("csa-05", "anna")],
    [Shift("csa-04", False)],
    [Change("new", {"capacity": 3})],
]


def test_a_restart_has_what_was_acknowledged(bundle_folder: Path, path: Path) -> None:
    first = opened(bundle_folder, path)
    assert [first.update(one) for one in CHANGES] == [1, 2, 3, 4]
    assert state(opened(bundle_folder, path)) == state(first)


def test_others_follow(bundle_folder: Path, path: Path) -> None:
    first, second = opened(bundle_folder, path), opened(bundle_folder, path)
    first.update(CHANGES[0])
    second.follow()
    assert state(second) == state(first)
    assert second.update(CHANGES[1]) == 2
    first.follow()
    assert state(second) == state(first)
    assert first.age_s < 1


def test_who_writes_has_read_what_others_wrote(bundle_folder: Path, path: Path) -> None:
    first, second = opened(bundle_folder, path), opened(bundle_folder, path)
    first.update([Join("new")])
    assert second.update([Leave("new")]) == 2
    with pytest.raises(MatchError, match="does not hold"):
        first.update([Leave("never")])
    assert first.update([Shift("csa-01", True)]) == 3


def test_a_change_that_cannot_be_writes_nothing(bundle_folder: Path, path: Path) -> None:
    keeper = opened(bundle_folder, path)
    keeper.update(CHANGES[0])
    before = path.read_bytes()
    with pytest.raises(MatchError):
        keeper.update([Leave("csa-02"), State("nobody", "idle")])
    assert path.read_bytes() == before
    assert keeper.matcher.roster().version == 1


def test_customers_stand_as_hashes_alone(bundle_folder: Path, path: Path) -> None:
    opened(bundle_folder, path).update([Block("csa-05", "anna-who-is-nobody-else")])
    assert b"anna" not in path.read_bytes()
    again = opened(bundle_folder, path)
    contact = {"customer_id": "anna-who-is-nobody-else"}
    assert "csa-05" not in [one.csa_id for one in again.matcher.match(contact, 99)]
    assert "csa-05" in [one.csa_id for one in again.matcher.match({"customer_id": "bert"}, 99)]


@pytest.mark.parametrize("cut", [1, 7, 40])
def test_a_torn_last_line_is_dropped_and_written_over(bundle_folder: Path, path: Path, cut: int) -> None:
    keeper = opened(bundle_folder, path)
    keeper.update(CHANGES[0])
    before, whole = state(keeper), path.read_bytes()
    keeper.update(CHANGES[1])
    path.write_bytes(path.read_bytes()[:-cut])
    again = opened(bundle_folder, path)
    assert state(again) == before
    assert again.update(CHANGES[2]) == 2
    assert path.read_bytes().startswith(whole)
    assert state(opened(bundle_folder, path)) == state(again)


def test_a_damaged_line_in_the_middle_is_refused(bundle_folder: Path, path: Path) -> None:
    keeper = opened(bundle_folder, path)
    for one in CHANGES:
        keeper.update(one)
    content = path.read_bytes()
    path.write_bytes(content.replace(b'"csa-03"', b'"csa-02"', 1))
    with pytest.raises(JournalError, match="damaged at byte"):
        opened(bundle_folder, path)


def test_another_file_is_refused(bundle_folder: Path, path: Path) -> None:
    path.write_text('{"journal": 1, "version": 0}\n')
    with pytest.raises(JournalError, match="not a roster's journal"):
        opened(bundle_folder, path)


def test_a_full_disk_changes_nothing(bundle_folder: Path, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keeper = opened(bundle_folder, path)
    keeper.update(CHANGES[0])
    before = state(keeper), path.read_bytes()

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr("serve.roster.journal.os.fsync", full)
        with pytest.raises(JournalError, match="No space left"):
            keeper.update(CHANGES[1])
    assert (state(keeper), path.read_bytes()) == before
    assert keeper.update(CHANGES[1]) == 2
    assert state(opened(bundle_folder, path)) == state(keeper)


def test_a_line_that_only_partly_fits_changes_nothing(bundle_folder: Path, path: Path) -> None:
    """The system itself refuses in the middle of a write, as it does where a disk is full."""
    keeper = opened(bundle_folder, path)
    keeper.update(CHANGES[0])
    before = state(keeper), path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before[1]) + 20, limits[1]))
    try:
        with pytest.raises(JournalError, match="cannot be written"):
            keeper.update(CHANGES[1])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (state(keeper), path.read_bytes()) == before
    assert keeper.update(CHANGES[1]) == 2
    assert state(opened(bundle_folder, path)) == state(keeper)


def test_a_compacted_journal_comes_to_the_same(
    bundle_folder: Path, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LEAST_COMPACTED", 4000)
    first, second = opened(bundle_folder, path), opened(bundle_folder, path)
    sizes = []
    for i in range(300):
        first.update([State(f"csa-{i % 5:02}", "busy" if i % 3 else "idle")])
        if i % 10 == 0:  # it sees every generation of the file
            second.follow()
        sizes.append(path.stat().st_size)
    assert max(sizes) < 9000
    second.follow()
    assert state(first)[0] == 300
    assert state(second) == state(first) == state(opened(bundle_folder, path))


def test_who_missed_records_that_are_gone_is_told(bundle_folder: Path, path: Path) -> None:
    writer = opened(bundle_folder, path)
    writer.update(CHANGES[0])
    late = Journal(path, SECRET)
    late.read()
    late.close()  # as if its file had been closed by two compactions
    writer.update(CHANGES[1])
    assert writer.journal is not None
    with writer.journal.locked():
        writer.journal.compact([])
    with pytest.raises(JournalGap):
        late.read()


def test_a_journal_that_cannot_be_read_refuses_after_the_bound(
    bundle_folder: Path, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    keeper = Keeper(Matcher.load(bundle_folder, secret=SECRET), Journal(path, SECRET), lambda: now[0])
    keeper.update(CHANGES[0])
    assert keeper.age_s == 0

    def failing(*_: Any) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "seen", failing)
        now[0] += 0.2
        keeper.follow()
        now[0] += 0.1
        with pytest.raises(RosterStale, match="not known by now"):
            keeper.follow()
    keeper.follow()
    assert keeper.age_s == 0


def test_a_change_that_the_model_cannot_read_is_made_when_it_can(
    bundle_folder: Path, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeper = opened(bundle_folder, path)

    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("onnxruntime")

    with monkeypatch.context() as patch:
        patch.setattr(keeper.matcher.bundle.csa_encoder, "encode", broken)
        with pytest.raises(RuntimeError):
            keeper.update([Join("new")])
        assert "new" not in keeper.matcher.snapshot.codes
    keeper.follow()
    assert "new" in [one.csa_id for one in keeper.matcher.match({}, 99)]
    assert state(opened(bundle_folder, path)) == state(keeper)


def test_another_bundle_gets_the_roster_joined_again(bundle_folder: Path, whole_bundle: Path, path: Path) -> None:
    keeper = opened(bundle_folder, path)
    for one in CHANGES:
        keeper.update(one)
    moved = opened(whole_bundle, path)
    assert state(moved) == state(keeper)
    assert "new" in [one.csa_id for one in moved.matcher.match({}, 99)]


def test_who_is_unknown_to_another_bundle_is_left_out(path: Path, bundle_folder: Path) -> None:
    journal = Journal(path, SECRET)
    with journal.locked():
        journal.append([State("of-another-bundle", "busy"), Shift("csa-01", False)], 1_767_225_600_000_000)
    keeper = opened(bundle_folder, path)
    assert keeper.skipped == 1
    assert not dict(keeper.matcher.roster())["csa-01"].on_shift


def test_threads_and_followers_agree(bundle_folder: Path, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serve.roster.keeper.BOUND_S", 60.0)  # of a machine that has other work
    keepers = [opened(bundle_folder, path) for _ in range(3)]
    failed: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for i in range(20):
                keeper = keepers[(number + i) % 3]
                keeper.update([Join(f"new-{number}-{i}")])
                keepers[(number + i + 1) % 3].follow()
                assert f"new-{number}-{i}" in keepers[(number + i + 1) % 3].matcher.snapshot.codes
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    for keeper in keepers:
        keeper.follow()
    states = [state(keeper) for keeper in keepers]
    assert states[0][0] == 80
    assert all(sorted(one[1]) == sorted(states[0][1]) for one in states)


WRITER = """
import sys
from serve.matcher import Matcher
from serve.roster.changes import Join
from serve.roster.journal import Journal
from serve.roster.keeper import Keeper
keeper = Keeper(Matcher.load(sys.argv[1], secret=b"s" * 32), Journal(sys.argv[2], b"s" * 32))
i = 0
while True:
    keeper.update([Join(f"new-{i}", {"profile": "x" * 3000})])
    print(i, flush=True)
    i += 1
"""


@pytest.mark.parametrize("after", [3, 11])
def test_a_killed_writer_loses_nothing_that_was_acknowledged(bundle_folder: Path, path: Path, after: int) -> None:
    command = [sys.executable, "-c", WRITER, str(bundle_folder), str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        told = [int(process.stdout.readline()) for _ in range(after)]
        time.sleep(0.003 * after)
        process.send_signal(signal.SIGKILL)
        told += [int(line) for line in process.stdout.read().split()]
    keeper = opened(bundle_folder, path)
    assert {f"new-{i}" for i in told} <= set(keeper.matcher.snapshot.codes)
    assert keeper.matcher.roster().version - len(told) in (0, 1)  # one may have been written and not told
    keeper.update([Leave("new-0")])


def test_the_clock_may_jump(bundle_folder: Path, path: Path) -> None:
    now = [1_767_225_600_000_000]
    keeper = Keeper(Matcher.load(bundle_folder, secret=SECRET), Journal(path, SECRET), now=lambda: now[0])
    versions: list[int] = []
    for jump in (0, 10**14, -(10**14), -(10**13)):
        now[0] += jump
        versions.append(keeper.update([State("csa-01", "busy" if len(versions) % 2 else "away")]))
    assert versions == [1, 2, 3, 4]
    keeper.follow()
    assert keeper.matcher.match({}, 1)
    assert state(opened(bundle_folder, path)) == state(keeper)


def test_the_secret_is_made_once_for_its_owner_alone(path: Path) -> None:
    secret = journal_secret(path)
    file = path.with_name("roster.journal.key")
    assert journal_secret(path) == secret
    assert file.stat().st_mode & 0o777 == 0o600
    file.write_bytes(b"short")
    with pytest.raises(ConfigError, match="not a journal's secret"):
        journal_secret(path)
