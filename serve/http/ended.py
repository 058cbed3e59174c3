"""What a matcher learns of hand-overs that ended: as feedback comes, as other processes store it, and again from the
store when it is loaded anew.

Notable: a hand-over is told once to one matcher, whichever way it comes, unless more than `once.REMEMBERED` others
ended in between. Of those that come from the store the contact is read anew, from its text as it is kept: masked, or
not at all, so what is learnt of them differs a little from what was learnt when they were live. Only what became known
after the bundle's data window counts.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from serve.contact import MatchError
from serve.http.once import Once
from serve.http.returning import Returning
from serve.matcher import Matcher
from serve.seen import Seen
from serve.store.records import Feedback
from serve.store.since import TOLD, Ended, known_since
from serve.store.store import Store
from twotower.clock import now

_log = logging.getLogger("serve")


class Learner:
    """Tells one matcher. Safe to call from several threads. returning: what this process's customers are told."""

    def __init__(self, matcher: Matcher, returning: Returning) -> None:
        self.matcher, self.returning, self.told = matcher, returning, Once()

    @property
    def since(self) -> int:
        """The end of the bundle's data, µs: what became known earlier is in it."""
        return int(self.matcher.bundle.manifest.window["until"])

    def learn(self, fact: Feedback, seen: Seen) -> bool:
        """A hand-over of a contact that this process saw; False where nothing was learnt."""
        at = fact.moment
        return at is not None and self._tell(Ended(fact.key, seen.fields, at, fact.outcome, at, now()), seen)

    def hear(self, one: Ended, seen: Seen | None = None) -> bool:
        """A hand-over from the store; seen: its contact, where this process saw it. False where nothing was learnt."""
        return self._tell(one, one.contact if seen is None else seen)

    def again(self, store: Store) -> int:
        """Everything of the store that became known since the end of the bundle's data; how many hand-overs. Raises
        StoreUnavailable."""
        return sum(self.hear(one) for one in known_since(store, self.since))

    def forget(self, unwanted: Callable[[str], bool]) -> None:
        """Keep no trace of contacts, by their id."""
        self.told.forget(lambda key: unwanted(key[0]))
        self.returning.forget(unwanted)

    def _tell(self, one: Ended, contact: Mapping[str, Any] | Seen) -> bool:
        told = {name: value for name, value in one.outcome.items() if name in TOLD and value is not None}
        if not told or not self.told.add(one.key):
            return False
        tell = self.returning.ended(one)
        try:
            self.matcher.ended(contact, one.key[1], one.known_at, tell_customers=tell, **told)
        except MatchError as error:  # known before the window's end, or of a CSA whom this bundle does not know
            _log.debug("not learnt from: %s", error)
            return False
        except Exception:  # it is stored: the next bundle learns from it
            _log.exception("feedback could not be learnt from")
            return False
        return True
