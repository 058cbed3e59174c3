"""What of the store is in a window of time: the queries behind an export.

Notable: ids are ordered by their bytes on every database, and every order is total, so rows come in one order. A
hand-over belongs to the decision that its feedback names, else to the latest one before it that chose this CSA; one
that nobody named and that chose another has no say about its policy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, case, exists, func, or_, select
from sqlalchemy.sql.selectable import Subquery

from serve.store.tables import abandoned, contacts, decisions, facts, handovers


@dataclass(frozen=True)
class Window:
    """From `since` µs on, before `until` µs."""

    since: int
    until: int

    def holds(self, time: Any) -> ColumnElement[bool]:
        """Whether a column's time lies in it; a null does not."""
        return and_(time >= self.since, time < self.until)


def contacts_in(window: Window) -> Select[Any]:
    """Contacts of which anything became known, known before the end; with who was eligible and when they gave up."""
    chosen = _handovers(window)
    gone = abandoned.c.abandoned_at
    wanted = or_(
        contacts.c.arrived_at >= window.since,
        and_(gone.is_not(None), window.holds(gone)),
        contacts.c.contact_id.in_(select(chosen.c.contact_id)),
    )
    left = case((gone < window.until, gone)).label("abandoned_at")
    return (
        select(contacts, left, _eligible(window).label("eligible"))
        .outerjoin(abandoned, abandoned.c.contact_id == contacts.c.contact_id)
        .where(contacts.c.arrived_at < window.until, wanted)
        .order_by(contacts.c.arrived_at, contacts.c.contact_id)
    )


def handovers_in(window: Window) -> Select[Any]:
    """Hand-overs in the order of their beginning, one row for each of their facts, with what their decision says."""
    chosen = _handovers(window, _decision_of(window).label("mine"))
    key = ("contact_id", "csa_id", "assigned_at")
    same_fact = and_(*(facts.c[name] == chosen.c[name] for name in key))
    told = [column for column in facts.columns if column.name not in (*key, "feedback_id", "told")]
    return (
        select(
            chosen,
            *told,
            decisions.c.policy.label("decided_policy"),
            decisions.c.propensity.label("decided_propensity"),
        )
        .outerjoin(facts, same_fact)
        .outerjoin(decisions, decisions.c.decision_id == chosen.c.mine)
        .order_by(*(chosen.c[name] for name in ("assigned_at", "contact_id", "csa_id")), facts.c.feedback_id)
    )


def decisions_in(window: Window) -> Select[Any]:
    """Decisions for the contacts of the window, made before its end, in the order in which they were made."""
    wanted = contacts_in(window).order_by(None).subquery()
    return (
        select(decisions)
        .where(decisions.c.decided_at < window.until, decisions.c.contact_id.in_(select(wanted.c.contact_id)))
        .order_by(decisions.c.decided_at, decisions.c.decision_id)
    )


def without_contact(window: Window) -> Select[Any]:
    """How many hand-overs became known whose contact the log does not hold."""
    known = exists().where(contacts.c.contact_id == handovers.c.contact_id)
    return select(func.count()).select_from(handovers).where(window.holds(handovers.c.assigned_at), ~known)


def _handovers(window: Window, *more: ColumnElement[Any]) -> Subquery:
    """Hand-overs that began before the end, of contacts that arrived before it, with anything known in the window; and
    more columns of them."""
    fact = exists().where(
        *(facts.c[name] == handovers.c[name] for name in ("contact_id", "csa_id", "assigned_at")),
        or_(window.holds(facts.c.known_at), window.holds(facts.c.ended_at)),
    )
    arrived = contacts.c.arrived_at
    return (
        select(handovers, *more)
        .join(contacts, contacts.c.contact_id == handovers.c.contact_id)
        .where(
            handovers.c.assigned_at < window.until,
            arrived < window.until,
            or_(handovers.c.assigned_at >= window.since, arrived >= window.since, fact),
        )
        .subquery()
    )


def _decision_of(window: Window) -> ColumnElement[Any]:
    """The id of a hand-over's decision, null where none chose this CSA; one after it only where there is none before:
    clocks differ."""
    one, chosen = decisions.alias(), handovers
    mine = select(one.c.decision_id).where(
        one.c.contact_id == chosen.c.contact_id,
        one.c.chosen == chosen.c.csa_id,
        one.c.decided_at < window.until,
        or_(chosen.c.decision_id.is_(None), one.c.decision_id == chosen.c.decision_id),
    )
    before = mine.where(one.c.decided_at <= chosen.c.assigned_at).order_by(one.c.decided_at.desc(), one.c.decision_id)
    after = mine.where(one.c.decided_at > chosen.c.assigned_at).order_by(one.c.decided_at, one.c.decision_id)
    return func.coalesce(before.limit(1).scalar_subquery(), after.limit(1).scalar_subquery())


def _eligible(window: Window) -> Any:
    """Who could have taken a contact: by the latest decision up to its first hand-over, else by the latest."""
    one, first = decisions.alias(), handovers.alias()
    begun = (
        select(func.min(first.c.assigned_at))
        .where(first.c.contact_id == contacts.c.contact_id, first.c.assigned_at < window.until)
        .scalar_subquery()
    )
    return (
        select(one.c.eligible)
        .where(one.c.contact_id == contacts.c.contact_id, one.c.decided_at < window.until)
        .order_by(case((one.c.decided_at <= begun, 0), else_=1), one.c.decided_at.desc(), one.c.decision_id)
        .limit(1)
        .scalar_subquery()
    )
