"""Everything around a rollout that is not its own: registry, links, what is known of contacts, the service's figures.

Notable: what is done to the registry is done so that twice is once, and names whom it believes to have an alias; where
that is another by now, nothing moves. MLflow's client raises whatever its transport does; here that is one line.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from loop.registry.follow import served, set_link
from loop.registry.registry import CHALLENGER, CHAMPION, Registry, Version
from loop.rollout.scraped import Scraped
from loop.rollout.shadowed import Compared, read_compared
from loop.rollout.state import State, Who
from loop.rollout.told import Looked, Tables
from twotower.errors import BundleError, ConfigError, TwoTowerError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pandas as pd

    from evaluation.experiment.plan import Plan
    from loop.gate.rules import Check, Margin

TAG = "twotower.rollout"
GATE = "twotower.gate"
SAID = 500
"""Letters of a tag's reason."""


class Contacts(Protocol):
    """What is known of contacts."""

    def look(self, plan: Plan, schedule: pd.DataFrame, at: int) -> Looked:
        """As known at a moment (µs UTC). Raises TwoTowerError where nothing is."""

    def shadowed(self, state: State) -> Compared:
        """What the challenger would have answered since the stage began. Raises TwoTowerError."""

    def value(self, state: State, margin: Margin, until: int) -> Check | None:
        """What its choices would have earned, by the gate's rule. Raises TwoTowerError."""


@dataclass(frozen=True)
class OfTables:
    """Of tables and a store."""

    tables: Tables

    def look(self, plan: Plan, schedule: pd.DataFrame, at: int) -> Looked:
        """As `Contacts.look`."""
        return self.tables.look(plan, schedule, at)

    def shadowed(self, state: State) -> Compared:
        """Raises ConfigError where there is no store."""
        if self.tables.store is None:
            raise ConfigError("what the challenger would have answered stands in the store: give its URL by --feedback")
        return read_compared(self.tables.store, state.challenger.digest, state.champion.digest, state.since)

    def value(self, state: State, margin: Margin, until: int) -> Check | None:
        """As `Contacts.value`."""
        champion, challenger = Path(state.champion.path), Path(state.challenger.path)
        found: Check | None = self.tables.value(champion, challenger, state.since, until, margin)
        return found


@dataclass(frozen=True)
class Aliases:
    """The registry, as a rollout needs it."""

    registry: Registry
    cache: Path
    """Where bundles of a remote store lie on this machine."""

    def both(self) -> tuple[Version | None, Version | None]:
        """Who is served, and who would like to be; None: nobody. Raises TwoTowerError where the registry cannot be
        asked."""
        with self._asked():
            known = self.registry.versions()
        found = [next((one for one in known if name in one.aliases), None) for name in (CHAMPION, CHALLENGER)]
        return found[0], found[1]

    def who(self, version: Version) -> Who:
        """A version with its bundle on this machine, verified. Raises BundleError."""
        with self._asked():
            return Who(version.number, version.digest, str(self.registry.open(version.number, self.cache).path))

    def named(self, which: int | str) -> Version:
        """Raises ConfigError."""
        with self._asked():
            return self.registry.version(which)

    def give_challenger(self, version: Version) -> None:
        """The alias `challenger`, if it has it not."""
        with self._asked():
            self.registry.promote(version.number, CHALLENGER)

    def promote(self, state: State) -> None:
        """Make the challenger the champion in the champion's place, if it is not by now. Raises ConfigError where
        another is."""
        with self._asked():
            champion = self.registry.alias(CHAMPION)
            if champion is None or champion.number != state.challenger.version:  # else it was cut off after it was done
                self.registry.promote(state.challenger.version, CHAMPION, state.champion.version)
            self.registry.drop(CHALLENGER, state.challenger.version)  # where it was cut off in the middle

    def take_back(self, state: State, what: str, why: str) -> None:
        """Nothing is left of the challenger but what is said of it: the champion before it is champion again, where it
        was made one, its alias is nobody's, its version says why."""
        number = state.challenger.version
        with self._asked():
            champion = self.registry.alias(CHAMPION)
            if state.promoted and champion is not None and champion.number == number:
                self.registry.rollback(why, number, state.champion.version)  # by the state: a tag may be older
            self.registry.drop(CHALLENGER, number)
            self.registry.tag(number, TAG, f"{what}: {why}"[:SAID])

    def tell(self, number: int, said: str) -> None:
        """Say something of a version."""
        with self._asked():
            self.registry.tag(number, TAG, said[:SAID])

    @contextmanager
    def _asked(self) -> Iterator[None]:
        try:
            yield
        except TwoTowerError:
            raise
        except Exception as error:
            raise BundleError(
                f"{self.registry.place}: the registry cannot be asked ({type(error).__name__}); what is served stays"
            ) from error


@dataclass(frozen=True)
class Outside:
    """All of it."""

    aliases: Aliases
    contacts: Contacts
    scrape: Callable[[], Scraped] | None = None
    loads: Callable[[Who], None] = lambda _: None
    """Loads a bundle and has it answer. Raises BundleError where it does not."""


def point(link: str, who: Who, verify: bool) -> bool:
    """Set a link to a bundle, where it is not; whether it moved. verify: its content, before. Raises BundleError."""
    if served(Path(link)) == who.digest:
        return False
    if verify:
        from twotower.bundle.bundle import Bundle

        Bundle.open(who.path, who.digest)
    set_link(Path(link), Path(who.path))
    return True


def answers(who: Who) -> None:
    """Load a bundle as `twotower serve` does and have it answer some contacts. Raises BundleError."""
    from serve.http.build import self_check
    from serve.matcher import Matcher

    self_check(Matcher.load(who.path, who.digest))


def told_of(error: Exception) -> str:
    """One line of what went wrong. Of a defect its kind and place alone: its message may hold what a customer said."""
    if isinstance(error, (TwoTowerError, OSError)):
        return str(error)
    places = traceback.extract_tb(error.__traceback__)
    where = f" at {Path(places[-1].filename).name}:{places[-1].lineno}" if places else ""
    return f"a defect ({type(error).__name__}{where})"


def refuse_kept_out(version: Version) -> None:
    """Raises ConfigError for a version that the gate kept out."""
    if version.tags.get(GATE) == "kept out":
        raise ConfigError(
            f"version {version.number}: the gate kept it out (`twotower models show {version.number}`); train another"
        )
