"""The way back of a rollout: by hand at any moment, whatever the registry says or holds up."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest

from loop.registry.registry import CHALLENGER, Busy
from loop.rollout import rollout
from loop.rollout.asked import ask, asked
from loop.rollout.state import Who
from loop.rollout.told import SCRATCH
from tests.loop.rolling import BAD, SPEC, Faked, Remembered, Rolled
from twotower.errors import ConfigError, OutputError

Roll = Callable[..., Rolled]


def away(*_: object) -> None:
    raise ConnectionError("nobody there")


def test_stop_is_back_at_once_in_every_stage(roll: Roll, monkeypatch: pytest.MonkeyPatch) -> None:
    rolled = roll()
    with pytest.raises(ConfigError, match="no rollout was begun here"):
        rolled.rollout.stop(rolled.now, "x")
    for stage in ("shadow", "canary", "promoting", "full"):
        rolled.registry.promote(2, CHALLENGER)
        rolled.start(SPEC if stage == "shadow" else SPEC.model_copy(update={"shadow": None}))
        if stage == "canary":
            while rolled.served != 2:
                assert rolled.step(4.0).stage == "canary"
        elif stage == "promoting":
            with monkeypatch.context() as patched:  # the registry goes away when the first alias has moved
                patched.setattr(Remembered, "delete_registered_model_alias", away)
                assert "cannot be asked" in rolled.until("promoting").log[-1][1]
            assert rolled.alias == (2, 2)
        elif stage == "full":
            rolled.until("full")
            assert rolled.alias == (2, None)
        state = rolled.rollout.stop(rolled.now, f"enough of {stage}")
        assert (state.stage, rolled.served, rolled.alias) == ("stopped", 1, (1, None))
        assert rolled.registry.version(2).tags["twotower.rollout"] == f"stopped: enough of {stage}"
        assert rolled.step(0.1) == state
        assert rolled.served == 1
    assert rolled.registry.version(2).rolled_back == "enough of full"
    with pytest.raises(ConfigError, match="no rollout is under way; the last one is stopped"):
        rolled.rollout.stop(rolled.now, "x")


def test_stop_waits_for_no_look(roll: Roll, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step reads contacts for minutes, with the folder's lock, and the link on the challenger."""
    rolled, other = roll(), roll()
    look, stopped = rolled.contacts.look, []

    def slow(*given: Any) -> Any:
        if rolled.served == 2:
            with pytest.raises(Busy, match="the link is the champion's"):
                other.rollout.stop(rolled.now, "waits")
            stopped.append(rolled.served)
        return look(*given)

    monkeypatch.setattr(rolled.contacts, "look", slow)
    rolled.start(SPEC.model_copy(update={"shadow": None}))
    state = rolled.until("stopped", hours=4.0)
    assert (stopped, rolled.served, rolled.alias, state.why) == ([1], 1, (1, None), "waits")
    rolled.registry.promote(2, CHALLENGER)
    rolled.start(SPEC.model_copy(update={"shadow": None}))  # and is not stopped by what was asked before
    assert rolled.step(0.1).stage == "canary"


def test_a_stop_between_whose_turn_it_is_and_the_link_wins(roll: Roll, monkeypatch: pytest.MonkeyPatch) -> None:
    rolled, moved = roll(), rollout.point

    def late(link: str, who: Who, verify: bool) -> bool:
        if who.version == 2:
            ask(rolled.folder / "rollout", "waits")
        return moved(link, who, verify)

    monkeypatch.setattr(rollout, "point", late)
    rolled.start(SPEC.model_copy(update={"shadow": None}))
    monkeypatch.setattr(rolled.rollout, "_next", lambda state, now: state)  # killed before it looks further
    while asked(rolled.folder / "rollout") is None:
        rolled.step(4.0)
    assert rolled.served == 1


def test_no_copy_of_contacts_outlives_a_stop(roll: Roll) -> None:
    """As a step leaves one that is killed while it looks."""
    rolled = roll()
    rolled.start()
    left = rolled.folder / "rollout" / SCRATCH / "feedback"
    for act in (lambda: rolled.rollout.stop(rolled.now, "x"), lambda: rolled.start(which=2), rolled.step):
        left.mkdir(parents=True)
        (left / "contacts.parquet").write_text("what a customer said")
        act()
        assert not left.parent.exists()


def test_the_registry_says_who_is_champion(roll: Roll) -> None:
    rolled = roll()
    rolled.start()
    rolled.registry.drop(CHALLENGER)
    state = rolled.step(0.1)
    assert (state.stage, state.why) == ("stopped", "the alias 'challenger' is nobody's by now")
    rolled.registry.promote(2, CHALLENGER)
    rolled.start()
    rolled.registry.promote(2)  # somebody is sure
    state = rolled.step(0.1)
    assert (state.stage, state.promoted, rolled.served) == ("full", True, 2)
    rolled.registry.rollback("waits")
    state = rolled.step(0.1)
    assert (state.stage, state.why, rolled.served) == ("overtaken", "version 1 is the champion by now", 1)


@pytest.mark.parametrize("tag", [None, "3"], ids=["no tag", "an old tag"])
def test_the_way_back_goes_by_the_state_and_by_no_tag(roll: Roll, tag: str | None) -> None:
    """As after a promotion by MLflow's own page, which writes none."""
    rolled = roll()
    rolled.start()
    client: Any = rolled.registry.client
    client._versions.append(deepcopy(client._versions[0]))  # an older champion
    client._versions[2].version = "3"
    if tag is not None:
        rolled.registry.tag(2, "twotower.replaced", tag)
    client.set_registered_model_alias(rolled.registry.model, "champion", "2")
    assert rolled.step(0.1).stage == "full"
    state = rolled.rollout.stop(rolled.now, "waits")
    assert (state.stage, rolled.alias, rolled.link.resolve().name) == ("stopped", (1, None), state.champion.digest)
    assert rolled.registry.version(2).rolled_back == "waits"
    assert rolled.registry.version(1).replaced is None


def test_a_promotion_that_somebody_else_was_faster_with_moves_nothing(
    roll: Roll, monkeypatch: pytest.MonkeyPatch
) -> None:
    rolled = roll()
    rolled.start(SPEC.model_copy(update={"shadow": None}))

    def faster(done: str) -> None:
        if done == "written promoting":
            rolled.registry.client.delete_registered_model_alias(rolled.registry.model, "champion")

    monkeypatch.setattr(rolled.rollout, "_watch", faster)
    state = rolled.until("overtaken", "full")
    assert state.stage == "overtaken"
    assert "look again, then promote" in (state.why or "")
    assert rolled.alias[0] is None


def test_a_registry_that_is_away_holds_up_neither_the_schedule_nor_the_way_back(
    roll: Roll, monkeypatch: pytest.MonkeyPatch
) -> None:
    rolled = roll(Faked(BAD))
    rolled.start(SPEC.model_copy(update={"shadow": None}))

    with monkeypatch.context() as patched:
        patched.setattr(type(rolled.registry), "versions", away)
        patched.setattr(type(rolled.registry), "alias", away)
        turns = set()
        for _ in range(60):
            state = rolled.step(4.0)
            turns.add(rolled.link.resolve().name)
            if state.stage == "rolling back":
                break
        assert state.stage == "rolling back"
        assert len(turns) == 2
        assert rolled.link.resolve().name == state.champion.digest
        assert "the registry cannot be asked (ConnectionError)" in state.log[-1][1]
        many = len(state.log)
        assert len(rolled.step(0.1).log) == many  # said once
    assert rolled.alias == (1, 2)
    assert rolled.step(0.1).stage == "rolled back"
    assert rolled.alias == (1, None)


def test_a_link_that_cannot_be_set_is_said(roll: Roll) -> None:
    rolled = roll()
    (rolled.folder / "file").write_text("")
    rolled.link = rolled.folder / "file" / "served"
    with pytest.raises((OutputError, OSError)):
        rolled.start()
