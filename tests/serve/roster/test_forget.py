"""An erased customer's blocked pairs are gone from the roster, from its journal, and from who follows it."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from serve.matcher import Matcher
from serve.roster.changes import Block, Join, Unblock
from serve.roster.forget import erase_pairs, open_journal
from serve.roster.journal import Journal, JournalError, journal_secret
from serve.roster.keeper import Keeper

ANNA, BERT = "anna", "bert"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "roster.journal"


def opened(bundle_folder: Path, path: Path) -> Keeper:
    """Another process, as far as the roster goes."""
    secret = journal_secret(path)
    return Keeper(Matcher.load(bundle_folder, secret=secret), Journal(path, secret))


def may_meet(keeper: Keeper, customer_id: str) -> set[str]:
    keeper.follow()
    return {one.csa_id for one in keeper.matcher.match({"customer_id": customer_id}, 99)}


def told(keeper: Keeper) -> None:
    """Pairs of both; anna also has one that was lifted."""
    keeper.update([Block("csa-05", ANNA), Block("csa-06", ANNA), Block("csa-05", BERT)])
    keeper.update([Join("new"), Block("csa-07", ANNA)])
    keeper.update([Unblock("csa-06", ANNA)])


def hashes(path: Path) -> tuple[bool, bool]:
    """Whether anna's and bert's stand in the journal."""
    journal, content = open_journal(path), path.read_bytes()
    return journal.keyed(ANNA).encode() in content, journal.keyed(BERT).encode() in content


def test_no_hash_stays_in_memory_or_in_the_journal(bundle_folder: Path, path: Path) -> None:
    keeper, other = opened(bundle_folder, path), opened(bundle_folder, path)
    told(keeper)
    other.follow()
    assert hashes(path) == (True, True)
    assert keeper.forget(ANNA) == 2
    assert hashes(path) == (False, True)
    for one in (keeper, other, opened(bundle_folder, path)):
        assert {"csa-05", "csa-06", "csa-07", "new"} <= may_meet(one, ANNA)
        assert "csa-05" not in may_meet(one, BERT)
        assert len(one.matcher.snapshot.blocked) == 1
        assert one.matcher.roster().version == 4
    before = path.read_bytes()
    assert keeper.forget(ANNA) == 0
    assert path.read_bytes() == before


def test_a_command_reaches_who_serves(bundle_folder: Path, path: Path) -> None:
    keeper = opened(bundle_folder, path)
    told(keeper)
    assert erase_pairs(open_journal(path), ANNA) == 2
    assert hashes(path) == (False, True)
    assert "csa-05" in may_meet(keeper, ANNA)
    assert keeper.update([Block("csa-05", ANNA)]) == 5  # a customer who comes again is a new one
    assert "csa-05" not in may_meet(keeper, ANNA)


def test_pairs_with_those_whom_the_bundle_does_not_know_are_erased_too(bundle_folder: Path, path: Path) -> None:
    journal = Journal(path, journal_secret(path))
    with journal.locked():
        journal.append([Block("of-another-bundle", ANNA)], 1_767_225_600_000_000)
    assert opened(bundle_folder, path).forget(ANNA) == 1
    assert hashes(path) == (False, False)


def test_pairs_that_were_lifted_before_leave_no_hash_either(bundle_folder: Path, path: Path) -> None:
    keeper = opened(bundle_folder, path)
    keeper.update([Block("csa-05", ANNA)])
    keeper.update([Unblock("csa-05", ANNA)])
    assert hashes(path) == (True, False)
    assert keeper.forget(ANNA) == 0
    assert hashes(path) == (False, False)
    assert keeper.matcher.roster().version == 2


def test_what_was_stopped_is_said_and_run_again(
    bundle_folder: Path, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeper = opened(bundle_folder, path)
    told(keeper)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr("serve.roster.journal.atomic_file", full)
        with pytest.raises(JournalError, match="cannot be compacted"):
            keeper.forget(ANNA)
    assert "csa-05" in may_meet(keeper, ANNA)
    assert hashes(path) == (True, True)
    assert keeper.forget(ANNA) == 0
    assert hashes(path) == (False, True)


def test_a_roster_in_memory_alone_forgets(bundle_folder: Path) -> None:
    keeper = Keeper(Matcher.load(bundle_folder))
    told(keeper)
    assert (keeper.forget(ANNA), keeper.forget(ANNA)) == (2, 0)
    assert "csa-05" in may_meet(keeper, ANNA)
    assert len(keeper.matcher.snapshot.blocked) == 1


def test_a_journal_that_is_not_there_is_not_made(path: Path) -> None:
    with pytest.raises(JournalError, match="no such file"):
        open_journal(path)
    assert not list(path.parent.iterdir())
