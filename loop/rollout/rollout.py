"""A rollout, step by step: shadow, canary, full, or back to the champion.

Notable: a step is idempotent and may be killed at any moment. It first sets the link that the service follows to whose
turn it is, then looks whether anything speaks against the challenger, then moves on; what is done to the registry is
written down as a stage before it is done. The way back never waits for anything: the link goes first, the registry's
alias and tag follow, and are tried again by the next step where the registry cannot be reached.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from loop.registry.follow import served
from loop.registry.registry import Busy, locked
from loop.rollout.asked import answered, ask, asked
from loop.rollout.judge import Judged, Turns, judge, plan_of, said
from loop.rollout.outside import Outside, point, refuse_kept_out, told_of
from loop.rollout.spec import RolloutSpec
from loop.rollout.state import UNDER_WAY, Counted, Stage, State, Who, read_state, write_state
from loop.rollout.technical import counted, harm, silence, silent
from loop.rollout.told import SCRATCH
from loop.rollout.unheard import speaks_against
from twotower.clock import DAY, HOUR, SECOND, format_time
from twotower.errors import BundleError, ConfigError, TwoTowerError
from twotower.files import atomic_directory

if TYPE_CHECKING:
    import pandas as pd

    from evaluation.experiment.plan import Plan

LOCK, PLAN = "rollout.lock", "plan"
Watch = Callable[[str], None]
"""Told what has just been done: `written STAGE`, `link`."""


class Rollout:
    """One rollout, in a folder. watch: for tests, which kill it there."""

    def __init__(self, work: Path, outside: Outside, wait_s: float = 0.0, watch: Watch = lambda _: None) -> None:
        self.work, self._outside, self._wait_s, self._watch = work, outside, wait_s, watch
        self._planned: tuple[Plan, pd.DataFrame, Turns] | None = None
        self._planned_at = 0

    @property
    def state(self) -> State | None:
        """None: none was begun. Raises DataError."""
        return read_state(self.work)

    def start(
        self, spec: RolloutSpec, link: Path, now: int, which: int | str | None = None, shadow_link: Path | None = None
    ) -> State:
        """Begin with the version that has the alias `challenger`, or with `which`, which is given it.

        Raises ConfigError: one is under way, there is no champion or no challenger, or the gate kept it out;
        BundleError: it does not load; Busy.
        """
        with self._alone():
            before = self.state
            if before is not None and not before.ended:
                raise ConfigError(f"{self.work}: a rollout of version {before.challenger.version} is under way")
            for one in (link, shadow_link):
                if one is not None and one.exists() and not one.is_symlink():
                    raise ConfigError(f"{one}: is no link; name a new one, or move what is there away")
            champion, challenger = self._both(which)
            self._outside.loads(challenger)
            answered(self.work)
            self._planned = None
            unheard = None if shadow_link is None else str(shadow_link.absolute())
            begun = State(champion, challenger, str(link.absolute()), unheard, spec, "shadow", now, now)
            began = f"version {challenger.version} beside version {champion.version}"
            state = begun.goes("shadow", now, began)
            if spec.shadow is None:
                state = self._tried(state, now, "no shadow is asked for")
            self._save(state)
            self._point(state, now)
            return state

    def step(self, now: int) -> State:
        """Do what is to be done at a moment (µs UTC). Raises ConfigError where none was begun, Busy."""
        with self._alone():
            before = self._begun()
            state = self._unless_asked(before, now)
            if state is not before:
                self._save(state)
            state = self._pointed(state, now)
            for _ in UNDER_WAY:  # each stage is left at most once
                after = self._unless_asked(self._next(state, now), now)
                if after is not state:
                    self._save(after)
                moved = after.stage != state.stage
                state = after
                if not moved:
                    break
                state = self._pointed(state, now)
            return state

    def stop(self, now: int, why: str) -> State:
        """Back to the champion at once, whoever steps meanwhile. Raises ConfigError where none is under way, Busy where
        a step is: the link is the champion's then, and that step ends the rollout."""
        begun = self._begun()
        _refuse_ended(begun, self.work)
        ask(self.work, why)
        point(begun.link, begun.champion, False)  # a step may be reading contacts for minutes
        try:
            with self._alone():
                state = self._begun()
                if not state.ended and state.started == begun.started:
                    if state.stage != "stopping":
                        self._save(state := self._away("stopping", state, now, why))
                    self._point(state, now)
                    self._save(state := self._left(state, now))
                answered(self.work)
                state = self._pointed(state, now)
        except Busy:
            raise Busy(
                f"{self.work}: the link is the champion's, and the step that works here ends the rollout when it has "
                "looked; `twotower rollout status` says when it has"
            ) from None
        if state.stage not in ("stopping", "stopped"):
            _refuse_ended(state, self.work)
        return state

    def boundary(self, state: State, now: int) -> int | None:
        """When the link is to change next by the schedule, µs UTC; None: nobody knows of a moment."""
        return self._turns(state)[2].next(now) if state.stage == "canary" else None

    @contextmanager
    def _alone(self) -> Iterator[None]:
        with locked(self.work / LOCK, self._wait_s, f"{self.work}: another step works here"):
            shutil.rmtree(self.work / SCRATCH, ignore_errors=True)  # contacts that a step left which was killed
            yield

    def _unless_asked(self, state: State, now: int) -> State:
        """The same, and on its way back where a stop was asked for meanwhile."""
        why = None if state.ended or state.stage == "stopping" else asked(self.work)
        return state if why is None else self._away("stopping", state, now, why)

    def _begun(self) -> State:
        state = self.state
        if state is None:
            raise ConfigError(f"{self.work}: no rollout was begun here; `twotower rollout start` begins one")
        return state

    def _save(self, state: State) -> None:
        write_state(state, self.work)
        self._watch(f"written {state.stage}")

    def _both(self, which: int | str | None) -> tuple[Who, Who]:
        aliases = self._outside.aliases
        champion, challenger = aliases.both()
        if champion is None:
            raise ConfigError("nobody has the alias 'champion'; `twotower models promote` names the first one")
        if which is not None:
            challenger = aliases.named(which)
        if challenger is None:
            raise ConfigError("nobody has the alias 'challenger'; name the version, or `alias: challenger` in retrain")
        if challenger.number == champion.number:
            raise ConfigError(f"version {champion.number} is the champion already")
        refuse_kept_out(challenger)
        both = aliases.who(champion), aliases.who(challenger)
        aliases.give_challenger(challenger)
        return both

    # Who is served.

    def _turn(self, state: State, now: int) -> Who:
        if state.stage == "full":
            return state.challenger
        if state.stage == "canary" and self._turns(state)[2].challengers(now):
            return state.challenger
        return state.champion

    def _point(self, state: State, now: int) -> None:
        """Raises BundleError where the challenger's bundle is not whole."""
        if state.ended:
            self._follow(state.link)
        else:
            who = self._turn(state, now)
            # The champion is not looked at again: it was served, and the way back must not fail.
            if point(state.link, who, who.version == state.challenger.version):
                self._watch("link")
            if who != state.champion and asked(self.work) is not None:
                point(state.link, state.champion, False)
        if state.shadow_link is not None:
            unheard = state.challenger if state.stage in ("shadow", "canary") else state.champion
            point(state.shadow_link, unheard, False)

    def _follow(self, link: str) -> None:
        """With no rollout under way the link is the champion's, whoever that is by now."""
        champion, _ = self._outside.aliases.both()
        if champion is not None and served(Path(link)) != champion.digest:
            point(link, self._outside.aliases.who(champion), False)

    def _pointed(self, state: State, now: int) -> State:
        """The same, and back where the challenger's bundle is not whole."""
        try:
            self._point(state, now)
        except BundleError as error:
            if state.ended:  # the registry cannot be asked: the link stays
                return state
            state = self._away("rolling back", state, now, f"its bundle cannot be served: {error}")
            self._save(state)
            self._point(state, now)
        return state

    def _turns(self, state: State) -> tuple[Plan, pd.DataFrame, Turns]:
        """The canary's plan, read once: another rollout may have begun here since."""
        if self._planned is None or self._planned_at != state.since:
            self._planned_at = state.since
            from evaluation.experiment.plan import read_plan
            from evaluation.experiment.spans import read_schedule

            folder = self.work / PLAN
            plan, schedule = read_plan(folder / "plan.yaml"), read_schedule(folder / "schedule.parquet")
            self._planned = plan, schedule, Turns.of(plan, schedule)
        return self._planned

    # What comes next.

    def _next(self, state: State, now: int) -> State:
        """The state after one stage's work; the same one where there was none."""
        if state.ended:
            return state
        if state.stage in ("rolling back", "stopping"):
            return self._left(state, now)
        if state.stage == "promoting":
            return self._promoted(state, now)
        other = self._overtaken(state, now)
        if other is not None:
            return other
        state, why = self._technical(state, now)
        if why is not None:
            return self._away("rolling back", state, now, why)
        if state.stage == "shadow":
            return self._shadow(state, now)
        if state.stage == "canary":
            return self._canary(state, now)
        if now - state.since >= state.spec.full_hours * HOUR:
            return self._done(state, now)
        return state

    def _away(self, stage: Stage, state: State, now: int, why: str) -> State:
        return state.goes(stage, now, why, why=why)

    def _left(self, state: State, now: int) -> State:
        """The registry says what the link did already; again by the next step where it cannot."""
        ended: Stage = "rolled back" if state.stage == "rolling back" else "stopped"
        why = state.why or "by hand"
        try:
            self._outside.aliases.take_back(state, ended, why)
        except TwoTowerError as error:
            return self._noted(state, now, str(error))
        self._watch("taken back")
        return state.goes(ended, now, why)

    def _promoted(self, state: State, now: int) -> State:
        try:
            self._outside.aliases.promote(state)
        except (Busy, BundleError) as error:
            return self._noted(state, now, str(error))
        except ConfigError as error:
            return state.goes("overtaken", now, str(error), why=str(error))
        self._watch("promoted")
        return state.goes("full", now, f"version {state.challenger.version} is the champion", promoted=True)

    def _done(self, state: State, now: int) -> State:
        told = f"done: {format_time(now)}"
        try:
            self._outside.aliases.tell(state.challenger.version, told)
        except TwoTowerError as error:
            return self._noted(state, now, str(error))
        return state.goes("done", now, f"version {state.challenger.version} stays")

    def _overtaken(self, state: State, now: int) -> State | None:
        """What the registry says has happened meanwhile; None: nothing, or it cannot be asked."""
        try:
            champion, challenger = self._outside.aliases.both()
        except TwoTowerError:
            return None
        number = None if champion is None else champion.number
        if state.stage == "full":
            if number == state.challenger.version:
                return None
            why = f"version {number} is the champion by now"
            return state.goes("overtaken", now, why, why=why)
        if number == state.challenger.version:
            return state.goes("full", now, f"somebody made version {number} the champion", promoted=True)
        if number != state.champion.version:
            why = f"version {number} is the champion by now, and not version {state.champion.version}"
            return state.goes("overtaken", now, why, why=why)
        if challenger is None or challenger.number != state.challenger.version:
            whose = "nobody's" if challenger is None else f"version {challenger.number}'s"
            return self._away("stopping", state, now, f"the alias 'challenger' is {whose} by now")
        return None

    def _technical(self, state: State, now: int) -> tuple[State, str | None]:
        """What the service's figures say against the challenger."""
        if self._outside.scrape is None or state.stage not in ("canary", "full"):
            return state, None
        wanted = served(Path(state.link)) or ""
        try:
            found = self._outside.scrape()
        except TwoTowerError:  # as when the service starts anew, or as when the challenger has killed it
            unread = silent(state.counted, wanted, state.challenger.digest, now)
            return replace(state, counted=unread), silence(unread, state.spec.technical, now)
        seen: Counted = counted(state.counted, found, wanted, state.challenger.digest, now)
        state = replace(state, counted=seen)
        return state, harm(seen, found, state.challenger.digest, state.spec.technical, now)

    def _shadow(self, state: State, now: int) -> State:
        spec = state.spec.shadow
        if spec is None:
            return self._tried(state, now, "no shadow is asked for")
        over, every = state.since + int(spec.hours * HOUR), state.spec.canary.judge_minutes * 60 * SECOND
        if now - state.judged_at < every and not state.judged_at < over <= now:
            return state  # each look reads all that it answered
        state = replace(state, judged_at=now)
        try:
            found = self._outside.contacts.shadowed(state)
        except TwoTowerError as error:
            return self._noted(state, now, str(error))
        state = replace(state, judged={"shadow": found.as_json()})
        why = speaks_against(found, spec)
        if why is not None:
            return self._away("rolling back", state, now, why)
        if found.contacts < spec.contacts or now < over:
            return state
        if spec.value is not None:
            try:
                check = self._outside.contacts.value(state, spec.value, now)
            except TwoTowerError as error:
                return self._noted(state, now, str(error))
            if check is not None:
                state = replace(state, judged={**state.judged, "value": check.as_json()})
                if not check.passed:
                    return self._away("rolling back", state, now, f"by the log it is worth less: {check.said}")
        seen = f"{found.contacts:,} contacts, the same first choice of {found.agreement:.1%}"
        return self._tried(state, now, seen)

    def _tried(self, state: State, now: int, why: str) -> State:
        """Into the canary: its plan lies in the folder before the state says so."""
        from evaluation.experiment.plan import write_plan
        from evaluation.experiment.schedule import draw

        plan = plan_of(state.spec.canary, state.champion, state.challenger, now)
        schedule = draw(plan, [plan.unit])
        shutil.rmtree(self.work / PLAN, ignore_errors=True)
        with atomic_directory(self.work / PLAN) as folder:
            write_plan(plan, folder / "plan.yaml")
            schedule.to_parquet(folder / "schedule.parquet")
        self._planned = None
        return state.goes("canary", now, f"{why}; blocks from {plan.begins} to {plan.ends}", judged_at=now)

    def _canary(self, state: State, now: int) -> State:
        spec = state.spec.canary
        plan, schedule, turns = self._turns(state)
        due = now - state.judged_at >= spec.judge_minutes * 60 * SECOND or turns.ended(state.judged_at, now)
        if not due:
            return state
        try:
            found = judge(plan, schedule, spec, self._outside.contacts.look(plan, schedule, now), now)
        except Exception as error:  # nothing is known yet, or the store is away; a defect must not end the way back
            found = Judged(now, refused=(told_of(error),))
        state = replace(state, judged_at=now, judged={**state.judged, **found.as_json()})
        if found.broken:
            return self._away("rolling back", state, now, "; ".join(said(one) for one in found.broken))
        if found.not_followed is not None:
            return self._away("rolling back", state, now, f"nobody knows what it does: {found.not_followed}")
        missing = found.missing(spec)
        if not missing:
            shown = "; ".join(said(one) for one in found.guards)
            # From now on the challenger may be the champion by it, whatever comes between alias and file.
            return state.goes("promoting", now, f"not worse: {shown}", promoted=True)
        if now >= int(turns.ends.max()) + int(spec.mature_days * DAY):
            why = f"not shown within {spec.days} days: {'; '.join(missing)}"
            return self._away("rolling back", state, now, why)
        return state

    def _noted(self, state: State, now: int, what: str) -> State:
        """The same stage, with a line in the log, once."""
        return state if state.log and state.log[-1][1] == what else replace(state, log=(*state.log, (now, what)))


def _refuse_ended(state: State, work: Path) -> None:
    if state.ended:
        raise ConfigError(f"{work}: no rollout is under way; the last one is {state.stage}")
