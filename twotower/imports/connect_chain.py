"""Contact records of one chain, brought together and made into a contact with its hand-overs.

A transfer makes a new record, whose InitialContactId names the first of the chain and PreviousContactId the one before.
The chain is one contact, each record with an agent one of its hand-overs.

Notable: records come from any file in any order, so the chains are sorted on disk, not collected in memory. A chain
whose first record lies outside of the export is made from what is there. Records that name each other in a circle are
one chain under the smallest id of the circle.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import groupby
from typing import Any

from twotower.imports.case import Case, Handover
from twotower.imports.connect import LEGS, Leg
from twotower.imports.connect_lens import Turn, as_text, before
from twotower.imports.mapping import ConnectMap
from twotower.imports.notes import DAMAGED, GUESSED, LEFT_OUT, REPAIRED
from twotower.imports.spill import Spill

SECOND = 1_000_000
SKEW = 60 * SECOND
"""How much earlier than the contact itself an agent may seem to be connected, by clocks that differ."""
MOST_LEGS = 500
"""Records of one chain that are looked at."""
MOST_STEPS = 1_000
SHORT = 300
"""Characters of a customer's turn that become the stated need."""
AGENTS_OWN = frozenset({"OUTBOUND", "EXTERNAL_OUTBOUND", "AGENT_REPLY"})
"""Ways to begin a contact in which the agent chose the customer."""
KNOWN_METHODS = AGENTS_OWN | {
    "INBOUND", "TRANSFER", "CALLBACK", "API", "QUEUE_TRANSFER", "MONITOR", "DISCONNECT", "WEBRTC_API", "FLOW",
}  # fmt: skip
GIVEN_UP = frozenset({None, "CUSTOMER_DISCONNECT"})
OUTCOMES = ("resolved", "csat", "quality_score", "policy", "propensity")
BATCH = 2_000


def arrange(spill: Spill) -> None:
    """Roots, then chains in order: the table `chains`; and an index of the transcripts."""
    with spill.once("roots") as due:
        if due:
            spill.db.execute("CREATE INDEX legs_by_id ON legs (contact_id, root)")
            _find_roots(spill)
    with spill.once("chains") as due:
        if due:
            spill.db.execute(f"CREATE TABLE chains (n INTEGER PRIMARY KEY, {LEGS})")
            names = ", ".join(Leg._fields[1:])
            spill.db.execute(
                f"INSERT INTO chains ({names}) SELECT {names} FROM legs "
                "ORDER BY root, contact_id, coalesce(updated, 0), rowid"
            )
            count, place = spill.db.execute(
                "SELECT count(*), min(place) FROM said s WHERE NOT EXISTS "
                "(SELECT 1 FROM legs l WHERE l.contact_id = s.contact_id)"
            ).fetchone()
            if count:
                spill.notes.add(LEFT_OUT, "transcripts of contacts without a contact record", place, count)
            spill.db.execute("DROP TABLE legs")
            spill.db.execute("CREATE INDEX said_by_id ON said (contact_id)")


def _find_roots(spill: Spill) -> None:
    """Sets `root` where a record does not name the first one itself, or where what it names has one of its own."""
    db = spill.db
    doubtful = [
        "SELECT DISTINCT contact_id FROM legs WHERE root IS NULL",
        "SELECT contact_id FROM legs GROUP BY contact_id HAVING count(DISTINCT coalesce(root, '')) > 1",
        "SELECT DISTINCT l.contact_id FROM legs l JOIN legs r ON r.contact_id = l.root "
        "WHERE l.root != l.contact_id AND r.root IS NOT r.contact_id",
    ]
    db.execute("CREATE TEMP TABLE found (contact_id TEXT PRIMARY KEY, root TEXT)")
    for query in doubtful:
        for (contact_id,) in db.execute(query):
            root, circle = _root(spill, contact_id)
            if circle:
                spill.notes.add(
                    REPAIRED, "transfer chains that lead in a circle: one contact", _place(spill, contact_id)
                )
            db.execute("INSERT OR IGNORE INTO found VALUES (?, ?)", (contact_id, root))
    db.execute("UPDATE legs SET root = f.root FROM found f WHERE f.contact_id = legs.contact_id")
    db.execute("DROP TABLE found")


def _root(spill: Spill, contact_id: str) -> tuple[str, bool]:
    """(the first contact of the chain, whether its records name each other in a circle)."""
    path: list[str] = []
    at = contact_id
    while at not in path and len(path) < MOST_STEPS:
        path.append(at)
        found = spill.db.execute(
            "SELECT root, previous FROM legs WHERE contact_id = ? ORDER BY coalesce(updated, 0) DESC, rowid DESC", (at,)
        ).fetchone()
        parent = None if found is None else found[1] if found[0] in (None, at) else found[0]
        if parent is None or parent == at:
            return at, False
        at = parent
    return min(path[path.index(at) :] if at in path else path), True


def _place(spill: Spill, contact_id: str) -> str:
    found = spill.db.execute("SELECT place FROM legs WHERE contact_id = ?", (contact_id,)).fetchone()
    return str(found[0])


class Chains:
    """Makes cases out of the table `chains`."""

    def __init__(self, spill: Spill, options: ConnectMap) -> None:
        self._spill, self._options, self._notes = spill, options, spill.notes

    def cases(self, after: int) -> Iterator[tuple[int, Case | None]]:
        """One case a chain behind row `after`, with the number of the chain's last row."""
        for _, rows in groupby(self._rows(after), key=lambda leg: leg.root):
            latest: dict[str, Leg] = {}
            older = beyond = last = 0
            for leg in rows:  # by id, the latest delivery last
                last = leg.n
                if leg.contact_id in latest:
                    older += 1
                elif len(latest) == MOST_LEGS:
                    beyond += 1
                    continue
                latest[leg.contact_id] = leg
            yield last, self._case(list(latest.values()), older, beyond)

    def _rows(self, after: int) -> Iterator[Leg]:
        while rows := self._spill.db.execute(
            "SELECT * FROM chains WHERE n > ? ORDER BY n LIMIT ?", (after, BATCH)
        ).fetchall():
            yield from map(Leg._make, rows)
            after = rows[-1][0]

    def _case(self, legs: list[Leg], older: int, beyond: int) -> Case | None:
        if older:
            self._notes.add(LEFT_OUT, "older deliveries of a contact record", legs[0].place, older)
        if beyond:
            self._notes.add(DAMAGED, f"records of a chain beyond its first {MOST_LEGS}", legs[-1].place, beyond)
        legs = sorted(legs, key=_begun)
        legs = [leg for leg in legs if not self._watched(leg)]
        if not legs or self._agents_own(legs):
            return None
        arrived = self._arrived(legs)
        if arrived is None:
            return None
        case = self._contact(legs, arrived)
        case.handovers = self._handovers(legs, case)
        if not case.handovers and legs[0].enqueued is None and not any(leg.enqueued for leg in legs):
            self._left("contacts that were never queued and met no agent", legs, LEFT_OUT)
            return None
        self._texts(case, legs)
        return case

    def _left(self, why: str, legs: list[Leg], kind: str) -> None:
        self._notes.add(kind, why, legs[0].place, len(legs))

    def _watched(self, leg: Leg) -> bool:
        """Whether a record is a supervisor's, who listened."""
        if leg.method == "MONITOR":
            self._notes.add(LEFT_OUT, "supervisors who listened in", leg.place)
        elif leg.method not in KNOWN_METHODS:
            self._notes.add(
                GUESSED, "InitiationMethod that is not known: taken for a contact of the customer's", leg.place
            )
        return bool(leg.method == "MONITOR")

    def _agents_own(self, legs: list[Leg]) -> bool:
        own = legs[0].method in AGENTS_OWN
        if own:
            self._left("contacts that an agent began, for which nobody was chosen", legs, LEFT_OUT)
        return own

    def _arrived(self, legs: list[Leg]) -> int | None:
        """When the contact began to wait."""
        queued = min((leg.enqueued for leg in legs if leg.enqueued is not None), default=None)
        begun = [time for leg in legs[:1] for time in (leg.connected, leg.initiated, leg.agent_at) if time is not None]
        arrived = begun[0] if queued is None and begun else queued
        if arrived is None:
            self._left("contacts without a time at which they began", legs, DAMAGED)
            return None
        met = min((leg.agent_at for leg in legs if leg.agent_at is not None), default=None)
        if met is None or met >= arrived:
            return int(arrived)
        if met >= arrived - SKEW:
            self._notes.add(REPAIRED, "agents connected up to a minute before the contact arrived: arrived then",
                            legs[0].place)  # fmt: skip
            return int(met)
        straight = next(leg for leg in legs if leg.agent_at == met)
        if straight.enqueued is None and begun and met >= begun[0] - SKEW:
            return int(min(begun[0], met))  # straight to an agent, who sent it to a queue
        self._left("contacts whose agent was connected over a minute before they began", legs, DAMAGED)
        return None

    def _contact(self, legs: list[Leg], arrived: int) -> Case:
        first = legs[0]
        if first.contact_id != first.root:
            self._notes.add(GUESSED, "chains whose first record is not in the export: made of the others", first.place)
        met = next((at for at, leg in enumerate(legs) if leg.agent_at is not None), len(legs) - 1)
        more: dict[str, Any] = {}
        for leg in reversed(legs[: met + 1]):  # what later ones tell was said to a CSA; the earliest counts
            more |= _more(leg)
        return Case(
            contact_id=first.root or first.contact_id, place=first.place, arrived_at=arrived, channel=first.channel,
            customer_id=more.get("customer_id") or next((leg.customer for leg in legs if leg.customer), None),
            queue=next((leg.queue for leg in legs if leg.enqueued is not None and leg.queue), first.queue),
            language=more.get("language") or next((leg.language for leg in legs if leg.language), None),
            intent=more.get("intent"), intent_text=more.get("intent_text") or "", priority=more.get("priority"),
        )  # fmt: skip

    def _handovers(self, legs: list[Leg], case: Case) -> list[Handover]:
        found: list[Handover] = []
        for at, leg in enumerate(legs):
            if leg.csa_id is None and leg.agent_at is None:
                self._late_outcome(leg, found)
                continue
            if leg.csa_id is None or leg.agent_at is None:
                missing = "name" if leg.csa_id is None else "time"
                self._notes.add(REPAIRED, f"hand-overs without the agent's {missing}: left out", leg.place)
                continue
            one = self._handover(leg, leg.csa_id, leg.agent_at)
            one.transferred = bool(leg.outside) or any(
                later.method in ("TRANSFER", "QUEUE_TRANSFER") for later in legs[at + 1 :]
            )
            found.append(one)
        known = any(one.resolved is not None for one in found) or self._options.resolved_without_contact_h is not None
        for earlier in found[:-1]:
            if known and earlier.resolved is None and earlier.ended_at is not None:
                self._notes.add(GUESSED, "hand-overs that went on to another CSA count as not resolved", case.place)
                earlier.resolved, earlier.known_at = False, max(earlier.known_at or 0, earlier.ended_at)
        if not found:
            self._abandoned(legs, case)
        return found

    def _handover(self, leg: Leg, csa_id: str, assigned: int) -> Handover:
        more = _more(leg)
        if leg.initiated is not None and assigned < leg.initiated:
            self._notes.add(REPAIRED, "agents connected before their record began: taken as they stand", leg.place)
        worked = [seconds for seconds in (leg.talk_s, leg.hold_s, leg.acw_s) if seconds is not None]
        ended = leg.acw_end
        if ended is None and worked:
            ended = assigned + round(sum(worked) * SECOND)
        ended = leg.disconnected if ended is None else ended
        if ended is not None and ended < assigned:
            self._notes.add(REPAIRED, "hand-overs that ended before they began: the end is left out", leg.place)
            ended = None
        handle = more.get("handle_time_s", sum(worked) if worked else None)
        one = Handover(
            csa_id, assigned, ended, handle_time_s=handle, queue=leg.queue, team=leg.team, site=leg.site,
            profile=leg.profile, **{name: more.get(name) for name in OUTCOMES},
        )  # fmt: skip
        if one.resolved is not None or one.csat is not None or one.quality_score is not None:
            one.known_at = max(time for time in (assigned, ended, leg.updated) if time is not None)
        return one

    def _late_outcome(self, leg: Leg, found: list[Handover]) -> None:
        """What a record without an agent tells of the hand-over before it: a survey after the call."""
        told = {name: value for name, value in _more(leg).items() if name in OUTCOMES[:3]}
        if told and found:
            for name, value in told.items():
                setattr(found[-1], name, value)
            times = (found[-1].known_at, found[-1].assigned_at, leg.disconnected, leg.updated)
            found[-1].known_at = max(time for time in times if time is not None)

    def _abandoned(self, legs: list[Leg], case: Case) -> None:
        waited = [leg for leg in legs if leg.method != "DISCONNECT"] or legs  # without the flow that runs afterwards
        last, after = waited[-1], {leg.contact_id for leg in legs if leg.method == "DISCONNECT"}
        if any(leg.csa_id is not None or leg.agent_at is not None for leg in legs):
            return  # somebody was met, of whom the records do not tell enough
        if (
            last.reason in GIVEN_UP
            and last.disconnected is not None
            and last.next in {None, *after}
            and not last.outside
        ):
            case.abandoned_at = max(int(last.disconnected), case.arrived_at)
        else:
            self._notes.add(GUESSED, "queued contacts that met no agent and were not given up by the customer: "
                            "no abandoned_at", last.place)  # fmt: skip

    def _texts(self, case: Case, legs: list[Leg]) -> None:
        """The transcript before the first CSA, its language, and a stated need where nothing states one."""
        chosen = case.handovers[0].assigned_at if case.handovers else None
        turns: list[tuple[str, str]] = []
        for leg in legs:
            found = self._said(leg)
            if found is None or (chosen is not None and _begun(leg)[0] > chosen):
                continue
            language, said = found
            case.language = case.language or language
            recorded = leg.recorded if leg.recorded is not None else leg.agent_at or leg.connected or leg.initiated
            turns += before(said, chosen, recorded)
        case.transcript = as_text(turns, self._options.turns == "everyone")
        if not case.intent_text:
            case.intent_text = next((said[:SHORT] for who, said in turns if who == "customer"), "")
            if case.intent_text:
                self._notes.add(GUESSED, "intent_text: the customer's first turn before an agent", case.place)
            else:
                self._notes.add(GUESSED, "intent_text: nothing states one; empty", case.place)

    def _said(self, leg: Leg) -> tuple[str | None, list[Turn]] | None:
        rows = self._spill.db.execute(
            "SELECT language, turns, place FROM said WHERE contact_id = ? ORDER BY preferred, place, rowid",
            (leg.contact_id,),
        ).fetchall()
        if len(rows) > 1:
            self._notes.add(LEFT_OUT, "further transcripts of the same contact record", rows[0][2], len(rows) - 1)
        return (rows[-1][0], [tuple(turn) for turn in json.loads(rows[-1][1])]) if rows else None


def _begun(leg: Leg) -> tuple[int, int]:
    """When a record began, as far as it says; its row decides between equals."""
    times = [time for time in (leg.initiated, leg.connected, leg.enqueued, leg.agent_at) if time is not None]
    return (times[0] if times else 0, leg.n)


def _more(leg: Leg) -> dict[str, Any]:
    return dict(json.loads(leg.more)) if leg.more else {}
