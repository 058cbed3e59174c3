"""Cases into the spill, their texts masked on the way; and outcomes that only other contacts tell.

Notable: masking is by far the slowest part of an import, so it happens once: what was masked is committed with the
number of the case it came to, and a run that goes on masks the next one. Texts that are said again and again are masked
once.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import lru_cache

from twotower.imports.case import Case, Handover
from twotower.imports.formats import Format
from twotower.imports.notes import GUESSED
from twotower.imports.spill import Spill
from twotower.redaction.redactor import Redactor
from twotower.redaction.spans import Redacted

BATCH = 2_000
"""Cases of a transaction."""
CACHED = 1 << 12
"""Texts whose masked form is remembered, of up to `CACHED_LENGTH` characters."""
CACHED_LENGTH = 512
HOUR = 3_600_000_000


class Masking:
    """Masks texts and counts what was masked; without a redactor texts pass as they are."""

    def __init__(self, redactor: Redactor | None, spill: Spill) -> None:
        self._redactor, self._spill = redactor, spill
        self._short = lru_cache(maxsize=CACHED)(self._redact)

    def text(self, text: str, language: str | None) -> str:
        """The masked text."""
        if self._redactor is None or not text:
            return text
        done = self._short(text, language) if len(text) <= CACHED_LENGTH else self._redact(text, language)
        for span in done.spans:
            self._spill.counts[f"masked {span.kind}"] += 1
        return done.text

    def _redact(self, text: str, language: str | None) -> Redacted:
        if self._redactor is None:
            return Redacted(text, ())
        return self._redactor.redact(text, language)


def write_cases(source: Format, spill: Spill, masking: Masking, advance: Callable[[int], None]) -> None:
    """All cases that were not written yet. `advance` is told how many were."""
    after = spill.meta("cases") or 0
    pending = 0
    for number, case in source.cases(after):
        if case is not None:
            _add(spill, case, masking)
        after, pending = number, pending + 1
        if pending == BATCH:
            spill.commit(cases=after)
            advance(pending)
            pending = 0
    if pending:
        spill.commit(cases=after)
        advance(pending)


def _add(spill: Spill, case: Case, masking: Masking) -> None:
    spill.counts["contacts"] += 1
    spill.add(
        "contacts",
        (
            case.contact_id, case.customer_id, case.arrived_at, case.channel, case.queue, case.language, case.intent,
            masking.text(case.intent_text, case.language), masking.text(case.transcript, case.language), case.priority,
            case.abandoned_at, None if case.eligible is None else json.dumps(case.eligible),
        ),
    )  # fmt: skip
    for n, one in enumerate(sorted(case.handovers, key=lambda one: (one.assigned_at, one.csa_id))):
        spill.counts["handovers"] += 1
        spill.add("handovers", _row(case, n, one))


def _row(case: Case, n: int, one: Handover) -> tuple[object, ...]:
    return (
        case.contact_id, n, one.csa_id, one.assigned_at, one.ended_at, one.known_at, _flag(one.resolved), one.csat,
        one.quality_score, one.handle_time_s, _flag(one.transferred), one.policy, one.propensity,
        one.queue or case.queue, one.team, one.site, one.profile, case.language,
    )  # fmt: skip


def _flag(value: bool | None) -> int | None:
    return None if value is None else int(value)


def resolved_without_contact(spill: Spill, hours: float) -> None:
    """The last hand-over of a contact is resolved if its customer does not come again within so many hours of its end,
    which is known when they have passed; not resolved is known when the customer is there again.

    Known of customers alone, of hand-overs that ended, and where the export goes on for as long. A hand-over whose
    outcome is told already stays as it is.
    """
    with spill.once("without contact") as due:
        if not due:
            return
        db, window = spill.db, round(hours * HOUR)
        db.execute("CREATE INDEX handovers_of ON handovers (contact_id, n)")
        db.execute(
            "CREATE TEMP TABLE nexts AS SELECT contact_id, lead(arrived_at) OVER "
            "(PARTITION BY customer_id ORDER BY arrived_at, contact_id) AS again FROM contacts "
            "WHERE customer_id IS NOT NULL"
        )
        db.execute(
            "CREATE TEMP TABLE told AS SELECT h.rowid AS handover, h.contact_id, h.ended_at, h.known_at, x.again, "
            "coalesce(x.again <= h.ended_at + :window, 0) AS came FROM nexts x JOIN handovers h "
            "ON h.contact_id = x.contact_id AND h.resolved IS NULL AND h.ended_at IS NOT NULL "
            "AND h.n = (SELECT max(n) FROM handovers WHERE contact_id = x.contact_id) "
            "WHERE came OR h.ended_at + :window <= (SELECT max(arrived_at) FROM contacts)",
            {"window": window},
        )
        count, first = db.execute("SELECT count(*), min(contact_id) FROM told").fetchone()
        if count:
            reason = f"resolved: whether the customer came again within {hours:g} h"
            spill.notes.add(GUESSED, reason, f"contact {first}", count)
        db.execute(
            "UPDATE handovers SET resolved = 1 - t.came, known_at = max(coalesce(t.known_at, 0), "
            "iif(t.came, max(t.again, t.ended_at), t.ended_at + :window)) "
            "FROM told t WHERE t.handover = handovers.rowid",
            {"window": window},
        )
        db.execute("DROP TABLE told")
        db.execute("DROP TABLE nexts")
