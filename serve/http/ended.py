"""What a matcher learns of hand-overs that ended: as feedback comes, and again from the store when it is loaded anew.

Notable: a hand-over is told once to one matcher, whichever way it comes, unless more than `REMEMBERED` others ended in
between. Of those that come from the store the contact is read anew, from its text as it is kept: masked, or not at all,
so what is learnt of them differs a little from what was learnt when they were live. Only what became known after the
bundle's data window counts.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from sqlalchemy import and_, select

from serve.contact import MatchError
from serve.matcher import Matcher
from serve.seen import Seen
from serve.store.engine import READING, plainly
from serve.store.records import Feedback
from serve.store.store import Store
from serve.store.tables import contacts, facts

_log = logging.getLogger("serve")
TOLD = ("resolved", "handle_time_s", "transferred", "csat")
MOST = 20_000  # hand-overs that are told again, the latest
REMEMBERED = 100_000  # hand-overs that were told, the latest: some 40 MB
Key = tuple[str, str, int]


class Learner:
    """Tells one matcher. Safe to call from several threads."""

    def __init__(self, matcher: Matcher) -> None:
        self.matcher = matcher
        self._told: OrderedDict[Key, None] = OrderedDict()
        self._lock = threading.Lock()

    def learn(self, fact: Feedback, seen: Seen) -> bool:
        """A hand-over of a contact that this process saw; False where nothing was learnt."""
        if fact.moment is None or seen.bundle != self.matcher.bundle_id:
            return False
        return self._ended(fact.key, seen, fact.moment, fact.outcome, tell_customers=True)

    def again(self, store: Store) -> int:
        """Everything of the store that became known since the end of the bundle's data; how many hand-overs. Raises
        StoreUnavailable."""
        done = 0
        for contact, key, known_at, outcome in _ended_since(store, int(self.matcher.bundle.manifest.window["until"])):
            done += self._ended(key, contact, known_at, outcome, tell_customers=False)
        return done

    def forget(self, unwanted: Callable[[str], bool]) -> None:
        """Keep no trace of contacts, by their id."""
        with self._lock:
            told = list(self._told)
        gone = [key for key in told if unwanted(key[0])]
        with self._lock:
            for key in gone:
                self._told.pop(key, None)

    def _ended(
        self,
        key: Key,
        contact: Mapping[str, Any] | Seen,
        known_at: int,
        outcome: Mapping[str, Any],
        tell_customers: bool,
    ) -> bool:
        told = {name: value for name, value in outcome.items() if name in TOLD and value is not None}
        with self._lock:
            if key in self._told or not told:
                return False
            self._told[key] = None
            if len(self._told) > REMEMBERED:
                self._told.popitem(last=False)
        try:
            self.matcher.ended(contact, key[1], known_at, tell_customers=tell_customers, **told)
        except MatchError as error:  # known before the window's end, or of a CSA whom this bundle does not know
            _log.debug("not learnt from: %s", error)
            return False
        except Exception:  # it is stored: the next bundle learns from it
            _log.exception("feedback could not be learnt from")
            return False
        return True


def _ended_since(store: Store, since: int) -> Iterable[tuple[dict[str, Any], Key, int, dict[str, Any]]]:
    """(contact, key, known_at, outcome) of hand-overs by when the last of their outcome became known."""
    latest = (
        select(facts, *(column.label(f"of_{column.name}") for column in contacts.columns))
        .join(contacts, and_(contacts.c.contact_id == facts.c.contact_id))
        .where(facts.c.known_at >= since)
        .order_by(facts.c.known_at.desc(), facts.c.feedback_id)
        .limit(MOST)
    )
    with plainly("feedback"), store.engine.connect().execution_options(**READING) as connection:
        rows = [dict(row) for row in connection.execute(latest).mappings()]
    found: dict[Key, tuple[dict[str, Any], int, dict[str, Any]]] = {}
    for row in reversed(rows):
        key = row["contact_id"], row["csa_id"], row["assigned_at"]
        outcome = {name: row[name] for name in TOLD if row[name] is not None}
        before = found.pop(key)[2] if key in found else {}
        contact = {name[3:]: value for name, value in row.items() if name.startswith("of_") and value is not None}
        found[key] = contact, row["known_at"], {**before, **outcome}
    return [(contact, key, known_at, outcome) for key, (contact, known_at, outcome) in found.items()]
