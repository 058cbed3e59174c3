"""The way of a challenger: unheard, by blocks, to everybody; or back to the champion, who is untouched."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from loop.gate.rules import Check, Margin
from loop.registry.registry import CHALLENGER
from loop.rollout.page import html_report, text_report
from loop.rollout.shadowed import Compared
from loop.rollout.spec import RolloutSpec
from tests import forked
from tests.loop import rolling
from tests.loop.rolling import BAD, SAME, SPEC, Faked, Rolled, World
from twotower.bundle.manifest import NAME
from twotower.clock import HOUR, format_time, parse_time
from twotower.errors import BundleError, ConfigError

Roll = Callable[..., Rolled]


@pytest.fixture
def folder(registered: Path, tmp_path: Path) -> Path:
    """With a registry of MLflow's."""
    return rolling.copied(registered, tmp_path)


def test_a_good_challenger_goes_all_the_way(folder: Path) -> None:
    rolled = Rolled(folder)
    assert rolled.start().stage == "shadow"
    assert (rolled.served, rolled.alias) == (1, (1, 2))
    assert rolled.step(1.0).stage == "shadow"  # not before its hours
    state = rolled.step(1.0)
    assert state.stage == "canary"
    assert rolled.served == 1  # the first block begins with the hour
    turns = []
    while state.stage == "canary":
        state = rolled.step(8.0)
        turns.append(rolled.served)
    assert state.stage == "full", state.log
    assert {1, 2} <= set(turns[:-1])
    assert (rolled.served, rolled.alias) == (2, (2, None))
    assert rolled.step(1.0).stage == "full"
    state = rolled.step(5.0)
    assert state.stage == "done"
    [version] = [one for one in rolled.registry.versions() if one.number == 2]
    assert version.tags["twotower.rollout"].startswith("done: ")
    said = [line.split(":")[0] for _, line in state.log]
    assert said == ["shadow", "canary", "promoting", "full", "done"]
    assert state.judged["contacts"][0] >= SPEC.canary.contacts
    # Whoever is promoted later is followed: the link is the registry's champion.
    rolled.registry.promote(1)
    assert rolled.step(1.0).stage == "done"
    assert rolled.served == 1


def test_the_link_goes_by_the_schedule_that_an_analysis_reads(roll: Roll) -> None:
    from evaluation.experiment.plan import read_plan
    from evaluation.experiment.spans import read_schedule

    rolled = roll()
    rolled.start(SPEC.model_copy(update={"shadow": None}))
    plan = read_plan(rolled.folder / "rollout" / "plan" / "plan.yaml")
    schedule = read_schedule(rolled.folder / "rollout" / "plan" / "schedule.parquet")
    versions = rolled.registry.versions()
    assert [plan.control.policies[0], plan.treatment.policies[0]] == [f"bundle:{one.digest[:16]}" for one in versions]
    assert parse_time(plan.begins) == rolled.now + HOUR // 2
    assert rolled.rollout.boundary(rolled.step(), rolled.now) == parse_time(plan.begins)
    for span in schedule.head(8).itertuples():
        begins, ends = (int(one.value // 1000) for one in (span.begins_at, span.ends_at))
        for moment in (begins, ends - 1):
            rolled.now = moment
            assert rolled.step().stage == "canary"
            assert rolled.served == (2 if span.arm == "challenger" else 1)
        assert rolled.rollout.boundary(rolled.step(), ends - 1) == ends


def test_a_challenger_whose_feature_is_broken_is_taken_back(roll: Roll) -> None:
    rolled = roll(Faked(BAD))
    rolled.start()
    state = rolled.until("rolled back", "full")
    assert state.stage == "rolled back"
    assert (rolled.served, rolled.alias) == (1, (1, None))
    assert "worse by" in (state.why or "")
    tags = rolled.registry.version(2).tags
    assert tags["twotower.rollout"] == f"rolled back: {state.why}"
    assert rolled.registry.version(1).replaced is None  # untouched
    assert rolled.now - rolled.rollout.state.started < 6 * 24 * HOUR  # and not at the plan's end
    broken = {one["metric"] for one in state.judged["metrics"] if one["state"] == "broken"}
    assert broken
    assert rolled.step(1.0) == state  # again is nothing
    assert "rolled back" in text_report(state).lower()
    page = html_report(state)
    assert "<svg" in page
    assert "broken" in page


@pytest.mark.parametrize(
    ("world", "broken"),
    [
        (World(contacts=6000, effect=-0.3), "resolved"),
        (World(contacts=6000, wait_s=(40.0, 160.0)), "wait_s"),
        (World(contacts=6000, abandoned=(0.02, 0.25)), "abandoned"),
    ],
    ids=["resolution", "waits", "abandonment"],
)
def test_any_guardrail_takes_it_back(roll: Roll, world: World, broken: str) -> None:
    rolled = roll(Faked(world))
    rolled.start(SPEC.model_copy(update={"shadow": None}))
    state = rolled.until("rolled back", "full")
    assert state.stage == "rolled back"
    assert broken in {one["metric"] for one in state.judged["metrics"] if one["state"] == "broken"}
    assert rolled.served == 1


def test_what_is_not_shown_in_time_is_not_shown(roll: Roll) -> None:
    small = SPEC.canary.model_copy(
        update={"days": 2, "primary": SPEC.canary.primary.model_copy(update={"margin": 0.01})}
    )
    rolled = roll(Faked(replace(SAME, contacts=300)))
    rolled.start(SPEC.model_copy(update={"canary": small, "shadow": None}))
    state = rolled.until("rolled back", "full")
    assert state.stage == "rolled back"
    assert (state.why or "").startswith("not shown within 2 days: ")
    assert rolled.alias == (1, None)


def test_a_schedule_that_is_not_followed_takes_it_back(roll: Roll) -> None:
    """The service refuses the bundle, and goes on with the champion in the challenger's blocks."""
    rolled = roll(Faked(decided=lambda plan, frame: [plan.control.policies[0]] * len(frame)))
    rolled.start(SPEC.model_copy(update={"shadow": None}))
    state = rolled.until("rolled back", "full")
    assert state.stage == "rolled back"
    assert "nobody knows what it does: no hand-over in arm 'challenger'" in (state.why or "")


@pytest.mark.parametrize(
    ("unheard", "why"),
    [
        (Compared(90, 10, 0.7, 0.9, 0.001, 0.001), "it could not answer 10.0% of contacts"),
        (Compared(200, 0, 0.7, 0.9, 0.001, 0.005), "it takes 5.0 times the champion's time"),
        (Compared(200, 0, 0.1, 0.9, 0.001, 0.001), "it has the champion's first choice of 10.0% of contacts alone"),
    ],
    ids=["errors", "time", "agreement"],
)
def test_the_shadow_takes_it_back_before_anybody_has_its_answer(roll: Roll, unheard: Compared, why: str) -> None:
    rolled = roll(Faked(unheard=unheard))
    assert SPEC.shadow is not None
    rolled.start(SPEC.model_copy(update={"shadow": SPEC.shadow.model_copy(update={"least_agreement": 0.3})}))
    state = rolled.step(0.1)
    assert (state.stage, state.why) == ("rolled back", why)
    assert (rolled.served, rolled.alias) == (1, (1, None))


def test_the_shadow_is_looked_at_now_and_then_and_when_its_hours_are_over(roll: Roll) -> None:
    """Each look reads all that it answered since it began."""
    rolled = roll(Faked(unheard=Compared(99, 0, 0.7, 0.9, 0.001, 0.001)))
    assert SPEC.shadow is not None
    rolled.start(SPEC.model_copy(update={"shadow": SPEC.shadow.model_copy(update={"hours": 6.0})}))
    looks = [rolled.step(0.5).judged_at == rolled.now for _ in range(20)]
    assert [i for i, looked in enumerate(looks) if looked] == [0, 8, 11, 19]  # every four hours, and after six


def test_the_shadow_asks_the_log_where_it_is_told_to(roll: Roll) -> None:
    assert SPEC.shadow is not None
    spec = SPEC.model_copy(update={"shadow": SPEC.shadow.model_copy(update={"value": Margin(margin=0.02)})})
    for passed, stage in ((True, "canary"), (False, "rolled back")):
        rolled = roll(Faked(worth=Check("value", passed, "P(resolved) 0.71 and 0.6")))
        if not passed:
            rolled.rollout.stop(rolled.now, "another try")
            rolled.registry.promote(2, CHALLENGER)
        rolled.start(spec)
        state = rolled.step(3.0)
        assert state.stage == stage
    assert state.why == "by the log it is worth less: P(resolved) 0.71 and 0.6"


def test_too_little_is_seen_of_it(roll: Roll) -> None:
    rolled = roll(Faked(unheard=Compared(99, 0, 0.7, 0.9, 0.001, 0.001)))
    rolled.start()
    assert rolled.step(24.0).stage == "shadow"


def test_what_cannot_be_begun_is_not(roll: Roll) -> None:
    rolled = roll()
    with pytest.raises(ConfigError, match="no rollout was begun here"):
        rolled.step()
    with pytest.raises(ConfigError, match="version 1 is the champion already"):
        rolled.start(which=1)
    rolled.registry.tag(2, "twotower.gate", "kept out")
    with pytest.raises(ConfigError, match="version 2: the gate kept it out"):
        rolled.start()
    rolled.registry.tag(2, "twotower.gate", "passed")
    rolled.registry.drop(CHALLENGER)
    with pytest.raises(ConfigError, match="nobody has the alias 'challenger'"):
        rolled.start()
    rolled.link.mkdir()
    with pytest.raises(ConfigError, match="is no link"):
        rolled.start(which=2)
    rolled.link.rmdir()
    assert rolled.start(which=2).stage == "shadow"
    assert rolled.alias == (1, 2)
    with pytest.raises(ConfigError, match="a rollout of version 2 is under way"):
        rolled.start()


def test_a_bundle_that_is_not_whole_is_taken_back_when_its_turn_comes(roll: Roll) -> None:
    rolled = roll()
    state = rolled.start(SPEC.model_copy(update={"shadow": None}))
    broken = Path(state.challenger.path) / NAME
    whole = broken.read_bytes()
    (Path(state.challenger.path) / "features.json").rename(rolled.folder / "gone")
    try:
        state = rolled.until("rolled back", days=3)
    finally:
        (rolled.folder / "gone").rename(Path(state.challenger.path) / "features.json")
    assert (state.why or "").startswith("its bundle cannot be served: ")
    assert (rolled.served, rolled.alias) == (1, (1, None))
    assert broken.read_bytes() == whole


def test_one_that_does_not_load_is_not_begun_with(roll: Roll) -> None:
    rolled = roll()

    def fails(_: object) -> None:
        raise BundleError("bundle: does not pass its check")

    outside = replace(rolled.rollout._outside, loads=fails)
    rolled.rollout._outside = outside
    with pytest.raises(BundleError, match="does not pass"):
        rolled.start()
    assert rolled.rollout.state is None
    assert not rolled.link.exists()


def test_killed_anywhere_it_goes_on_where_it_was(registered: Path, tmp_path: Path) -> None:
    places = [tmp_path / name for name in ("same", "bad")]
    for place in places:
        place.mkdir()
        rolling.copied(registered, place)
    done = forked.call(rolling.killed_everywhere, *map(str, places))
    assert done.status == 0, done.err
    good, bad = json.loads(done.out)
    assert good == [
        "written shadow", "link", "written canary", "written promoting", "promoted", "written full", "written done",
        "status 0",
    ]  # fmt: skip
    assert bad == [
        "written shadow", "link", "written canary", "written rolling back", "taken back", "written rolled back",
        "status 0",
    ]  # fmt: skip
    for place, stage, served, alias in ((places[0], "done", 2, (2, None)), (places[1], "rolled back", 1, (1, None))):
        rolled = Rolled(place)
        state = rolled.rollout.state
        assert state is not None
        assert (state.stage, rolled.served, rolled.alias) == (stage, served, alias)
        assert rolled.step(0.1) == state


def test_the_state_is_what_people_read(roll: Roll) -> None:
    rolled = roll(Faked(unheard=Compared(99, 1, 0.7, 0.9, 0.001, 0.002)))
    rolled.start()
    state = rolled.step(0.5)
    found = json.loads(json.dumps(state.as_json(), default=str))
    assert found["since"] == format_time(rolled.now - HOUR // 2)
    assert found["judged"]["shadow"]["times"] == 2.0
    assert RolloutSpec.model_validate(found["spec"]) == SPEC
    assert "the same first choice of 70.0%" in text_report(state)
