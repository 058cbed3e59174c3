"""Tickets, brought together with their comments, changes and metrics, and made into contacts with hand-overs.

Each time a ticket is assigned to somebody begins a hand-over, which ends with the next assignment or when the ticket is
solved. It is resolved if the ticket was solved under it and not opened again. That is known when the ticket is closed,
as it cannot be opened again then, else `reopen_days` after it was solved; that it is not resolved is known at the
moment when it is opened again or goes on to somebody else.

Notable: without audits only the last assignment has a time, and the hand-overs before it are not known; how often that
is so is noted, since a model then learns who finished tickets, not who worked on them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import lru_cache
from itertools import groupby
from typing import Any, NamedTuple

from twotower.imports.case import Case, Handover
from twotower.imports.connect_lens import as_text
from twotower.imports.customers import CustomerKeys
from twotower.imports.mapping import ZendeskMap
from twotower.imports.notes import DAMAGED, GUESSED, LEFT_OUT, REPAIRED
from twotower.imports.spill import Spill
from twotower.imports.zendesk import CHANGES, COMMENTS, TICKETS, Ticket

DAY = 86_400_000_000
DONE = ("solved", "closed")
SCORES = {"good": 5.0, "goodwithcomment": 5.0, "bad": 1.0, "badwithcomment": 1.0}
SYSTEM = "-1"
"""The author of what Zendesk itself writes."""
RULES = frozenset({"rule", "system", "automation", "trigger"})
AGENTS = frozenset({"agent", "admin"})
OUTCOMES = ("resolved", "csat", "quality_score", "handle_time_s", "policy", "propensity")
BATCH = 1_000


class Change(NamedTuple):
    """One change of a ticket: when (µs), of which field, to what, from what."""

    at: int
    field: str
    value: str | None
    previous: str | None


def arrange(spill: Spill, keys: CustomerKeys) -> None:
    """Tables in order of tickets, with indexes; and the customers."""
    db = spill.db
    with spill.once("sorted") as due:
        if due:
            names = ", ".join(Ticket._fields[1:])
            db.execute(f"CREATE TABLE sorted (n INTEGER PRIMARY KEY, {TICKETS})")
            db.execute(
                f"INSERT INTO sorted ({names}) SELECT {names} FROM tickets "
                "ORDER BY ticket_id, coalesce(updated, 0), rowid"
            )
            db.execute("DROP TABLE tickets")
            for table, columns, key in (("comments", COMMENTS, "comment_id"), ("changes", CHANGES, "event_id")):
                db.execute(f"CREATE TABLE by_{table} ({columns})")
                db.execute(f"INSERT INTO by_{table} SELECT * FROM {table} ORDER BY ticket_id, at, {key}, rowid")
                db.execute(f"DROP TABLE {table}")
                db.execute(f"CREATE INDEX {table}_of ON by_{table} (ticket_id)")
            db.execute("CREATE INDEX metrics_of ON metrics (ticket_id)")
            db.execute("CREATE INDEX user_of ON users (user_id)")
            db.execute("CREATE INDEX group_of ON groups (group_id)")
            _orphans(spill)
    with spill.once("customers") as due:
        if due and keys.identifies:
            asked = db.execute("SELECT DISTINCT requester FROM sorted WHERE requester IS NOT NULL ORDER BY requester")
            for n, (requester,) in enumerate(asked):
                user = _user(spill, requester)
                if user is not None and (user[1] or user[2]):
                    spill.add("customers", (keys.key(requester, "id"), user[1], user[2]))
                if n % BATCH == 0:
                    spill.flush()


def _orphans(spill: Spill) -> None:
    """Notes what belongs to tickets that are not there."""
    for table, what in (("by_comments", "comments"), ("by_changes", "changes"), ("metrics", "metrics")):
        query = f"SELECT count(*), min(ticket_id) FROM {table} WHERE ticket_id NOT IN (SELECT ticket_id FROM sorted)"
        count, first = spill.db.execute(query).fetchone()
        if count:
            spill.notes.add(LEFT_OUT, f"{what} of tickets that are not in the export", f"ticket {first}", count)


def _user(spill: Spill, user_id: str | None) -> tuple[str | None, str | None, int | None] | None:
    """(role, language, since) of a user; None where none is there."""
    query = "SELECT role, locale, created FROM users WHERE user_id = ? ORDER BY coalesce(updated, 0) DESC, rowid DESC"
    found: tuple[str | None, str | None, int | None] | None = spill.db.execute(query, (user_id,)).fetchone()
    return found


class Tickets:
    """Makes cases out of the table `sorted`."""

    def __init__(self, spill: Spill, options: ZendeskMap, keys: CustomerKeys) -> None:
        self._spill, self._options, self._keys, self._notes = spill, options, keys, spill.notes
        self._is_customer = lru_cache(maxsize=1 << 15)(self._by_role)

    def cases(self, after: int) -> Iterator[tuple[int, Case | None]]:
        """One case a ticket behind row `after`, with the number of the ticket's last row."""
        for _, rows in groupby(self._rows(after), key=lambda ticket: ticket.ticket_id):
            latest: Ticket | None = None
            for ticket in rows:
                if latest is not None:
                    self._notes.add(LEFT_OUT, "older states of a ticket", latest.place)
                latest = ticket
            if latest is not None:
                yield latest.n, self._case(latest)

    def _rows(self, after: int) -> Iterator[Ticket]:
        query = "SELECT * FROM sorted WHERE n > ? ORDER BY n LIMIT ?"
        while rows := self._spill.db.execute(query, (after, BATCH)).fetchall():
            yield from map(Ticket._make, rows)
            after = rows[-1][0]

    def _case(self, ticket: Ticket) -> Case | None:
        if ticket.status == "deleted" or ticket.merged:
            why = "tickets that were deleted" if not ticket.merged else "tickets that were merged into another"
            self._notes.add(LEFT_OUT, why, ticket.place)
            return None
        if ticket.created is None:
            self._notes.add(DAMAGED, "tickets without created_at", ticket.place)
            return None
        more = json.loads(ticket.more) if ticket.more else {}
        user = _user(self._spill, ticket.requester)
        case = Case(
            contact_id=ticket.ticket_id, place=ticket.place, arrived_at=ticket.created,
            channel=ticket.channel or self._guess("channel: none is stated; unknown", ticket, "unknown"),
            customer_id=more.get("customer_id") or self._keys.key(ticket.requester, "id"),
            queue=self._queue(ticket), language=more.get("language") or ticket.locale or (user[1] if user else None),
            intent=more.get("intent"), intent_text=more.get("intent_text") or ticket.subject or "",
            priority=more.get("priority", ticket.priority),
        )  # fmt: skip
        metrics = self._metrics(ticket)
        changes = self._changes(ticket)
        case.handovers = self._handovers(ticket, metrics, changes)
        self._outcomes(case, ticket, metrics, changes, more)
        self._texts(case, ticket, metrics)
        return case

    def _guess(self, reason: str, ticket: Ticket, value: Any) -> Any:
        self._notes.add(GUESSED, reason, ticket.place)
        return value

    def _queue(self, ticket: Ticket) -> str | None:
        if ticket.group_name or ticket.group_id is None:
            return ticket.group_name
        query = "SELECT name FROM groups WHERE group_id = ? ORDER BY rowid DESC"
        found = self._spill.db.execute(query, (ticket.group_id,)).fetchone()
        return str(found[0]) if found and found[0] else str(ticket.group_id)

    def _metrics(self, ticket: Ticket) -> dict[str, Any]:
        query = "SELECT payload FROM metrics WHERE ticket_id = ? ORDER BY coalesce(updated, 0) DESC, rowid DESC"
        found = self._spill.db.execute(query, (ticket.ticket_id,)).fetchone()
        return dict(json.loads(ticket.metrics or (found[0] if found else "{}")))

    def _changes(self, ticket: Ticket) -> list[Change]:
        query = "SELECT at, field, value, previous, event_id FROM by_changes WHERE ticket_id = ? ORDER BY rowid"
        seen, found = set(), []
        for at, field, value, previous, event_id in self._spill.db.execute(query, (ticket.ticket_id,)):
            key = (event_id or at, field, value)
            if key not in seen:
                seen.add(key)
                found.append(Change(at, field, value, previous))
        return found

    # Hand-overs.

    def _handovers(self, ticket: Ticket, metrics: dict[str, Any], changes: list[Change]) -> list[Handover]:
        assigned = [(one.at, one.value) for one in changes if one.field == "assignee_id"]
        if not assigned and ticket.assignee is not None:
            assigned = [(self._last_assigned(ticket, metrics), ticket.assignee)]
        found: list[Handover] = []
        for n, (at, csa_id) in enumerate(assigned):
            if csa_id is None:
                continue
            at = max(at, ticket.created or at)
            later = assigned[n + 1][0] if n + 1 < len(assigned) else None
            one = Handover(csa_id, at, queue=self._queue(ticket), team=self._queue(ticket))
            one.ended_at = self._ended(ticket, metrics, changes, at, later)
            one.transferred = any(other not in (None, csa_id) for _, other in assigned[n + 1 :])
            found.append(one)
        return found

    def _last_assigned(self, ticket: Ticket, metrics: dict[str, Any]) -> int:
        if (metrics.get("assignee_stations") or 0) > 1:
            self._guess("tickets that several had, without audits: only the last hand-over is known", ticket, None)
        for name in ("assigned_at", "initially_assigned_at"):
            if metrics.get(name) is not None:
                return int(metrics[name])
        return int(self._guess("assigned_at: neither audits nor metrics; when the ticket came", ticket, ticket.created))

    def _ended(
        self, ticket: Ticket, metrics: dict[str, Any], changes: list[Change], at: int, later: int | None
    ) -> int | None:
        solved = [one.at for one in changes if one.field == "status" and one.value in DONE and one.at >= at]
        if not any(one.field == "status" for one in changes) and metrics.get("solved_at") is not None:
            solved = [metrics["solved_at"]] if metrics["solved_at"] >= at else []
        times = [time for time in (*solved[:1], later) if time is not None]
        return max(at, min(times)) if times else None

    # Outcomes.

    def _outcomes(
        self, case: Case, ticket: Ticket, metrics: dict[str, Any], changes: list[Change], more: dict[str, Any]
    ) -> None:
        for n, one in enumerate(case.handovers):
            last = n + 1 == len(case.handovers)
            until = None if last else case.handovers[n + 1].assigned_at
            one.resolved, known = self._resolved(ticket, metrics, changes, one, until)
            one.known_at = None if known is None else max(known, one.assigned_at)
        if not case.handovers:
            return
        last_one = case.handovers[-1]
        told = {name: more[name] for name in OUTCOMES if name in more}
        for name, value in told.items():
            setattr(last_one, name, value)
        score, at = self._score(ticket, changes)
        if "csat" not in told and score is not None:
            last_one.csat = score
            self._know(last_one, at)
        if told:
            self._know(last_one, ticket.updated)

    def _resolved(
        self, ticket: Ticket, metrics: dict[str, Any], changes: list[Change], one: Handover, until: int | None
    ) -> tuple[bool | None, int | None]:
        """(whether the hand-over met the need, when that became known); (None, None) where it is not known."""
        status = [change for change in changes if change.field == "status"]
        within = [change for change in status if change.at >= one.assigned_at and (until is None or change.at < until)]
        solved = next((change.at for change in within if change.value in DONE), None)
        if status:
            opened = [c.at for c in status if solved is not None and c.at > solved and c.value not in DONE
                      and c.previous in (*DONE, None)]  # fmt: skip
            if opened:
                return False, opened[0]
        if until is not None and solved is None:
            return False, until
        if ticket.status not in DONE and solved is None:
            return None, None
        if not status:
            return self._by_metrics(ticket, metrics)
        closed = next((c.at for c in status if c.value == "closed"), None)
        at = solved if solved is not None else ticket.updated or one.assigned_at
        return True, min(int(at + self._options.reopen_days * DAY), closed if closed is not None else 1 << 62)

    def _by_metrics(self, ticket: Ticket, metrics: dict[str, Any]) -> tuple[bool | None, int | None]:
        solved = metrics.get("solved_at")
        if solved is None:
            solved = self._guess("resolved: no time at which it was solved; the last change", ticket, ticket.updated)
        if solved is None:
            return None, None
        if metrics.get("reopens") is None:
            self._guess("resolved: nothing tells of re-opened tickets; solved counts", ticket, None)
        changed = [time for time in (metrics.get("status_updated_at"), ticket.updated) if time is not None]
        if metrics.get("reopens"):
            return False, max([solved, *changed[:1]])
        waited = int(solved + self._options.reopen_days * DAY)
        if ticket.status == "closed" and changed:
            return True, max(solved, min(waited, changed[0]))
        return True, waited

    def _score(self, ticket: Ticket, changes: list[Change]) -> tuple[float | None, int | None]:
        rated = [one for one in changes if one.field == "score" and one.value in SCORES]
        if rated:
            return SCORES[rated[-1].value or ""], rated[-1].at
        return SCORES.get(ticket.score or ""), ticket.updated

    def _know(self, one: Handover, at: int | None) -> None:
        times = [time for time in (one.known_at, one.ended_at, at) if time is not None]
        one.known_at = max([*times, one.assigned_at])

    # Texts.

    def _texts(self, case: Case, ticket: Ticket, metrics: dict[str, Any]) -> None:
        chosen = [one.assigned_at for one in case.handovers[:1]]
        if case.handovers and metrics.get("initially_assigned_at") is not None:
            chosen.append(max(metrics["initially_assigned_at"], ticket.created))
        turns: list[tuple[str, str]] = []
        seen: set[tuple[int, str | None]] = set()
        query = "SELECT at, author, public, body, via FROM by_comments WHERE ticket_id = ? ORDER BY rowid"
        comments = self._spill.db.execute(query, (ticket.ticket_id,)).fetchall()
        for at, author, public, body, via in comments:
            if chosen and at > min(chosen):
                break
            if (at, author) in seen or not public:
                continue
            seen.add((at, author))
            who = self._who(ticket, author, via)
            if who is None:
                break  # an agent replied: somebody was chosen
            turns.append((who, body))
        if not comments and ticket.description and ticket.submitter in (None, ticket.requester):
            turns.append(("customer", ticket.description))
        elif not turns and comments:
            self._notes.add(REPAIRED, "tickets that an agent wrote first: no transcript", ticket.place)
        case.transcript = as_text(turns, self._options.turns == "everyone")

    def _who(self, ticket: Ticket, author: str | None, via: str) -> str | None:
        """Who wrote a comment; None: an agent, or somebody of whom that cannot be ruled out."""
        if author == ticket.requester and author is not None:
            return "customer"
        if author == SYSTEM or via in RULES:
            return "system"
        return "customer" if author is not None and self._is_customer(author) else None

    def _by_role(self, author: str) -> bool:
        """Whether a user is known to be no agent."""
        user = _user(self._spill, author)
        return user is not None and user[0] is not None and user[0] not in AGENTS
