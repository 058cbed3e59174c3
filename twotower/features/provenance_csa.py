"""A CSA's features as of a moment with what they came from: the dated row that counts, hand-overs known, work begun.

Notable: rates are shrunken towards everyone's, so the whole log's outcomes take part in one CSA's figures, but texts
are encoded only where a value depends on them: the contacts that this CSA handled, or, where groups or upset contacts
are told apart, all that were handled. Which hand-overs count for a figure is asked of the engine's own `csa_values`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from twotower.clock import DAY, NEVER, NULL_TIME, format_time
from twotower.features.csa import CsaFeatures
from twotower.features.engine.csa import CsaHistory
from twotower.features.engine.events import KnownHandovers
from twotower.features.engine.readout import CsaReading
from twotower.features.engine.record import RECORD, Record, half_life_names
from twotower.features.engine.shrink import effective
from twotower.features.engine.values import GROUP_SUMS, SUMS, csa_values
from twotower.features.provenance import (
    NEWEST,
    Column,
    Evidence,
    Explained,
    Shown,
    declared,
    facts,
    left_out,
    silent,
    untold,
)
from twotower.features.registry import FEATURES
from twotower.features.schema import FeatureSchema, log_columns
from twotower.features.streams import Told, csa_streams, told_of_some, untold_of
from twotower.tables.log import Log
from twotower.tables.schema import CSAS

if TYPE_CHECKING:
    from twotower.bundle.sessions import ContactEncoder

Longs = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]

COUNTED_BY = {feature.name: feature.counted_by for feature in RECORD if feature.as_of == "outcomes"}
WHAT = {
    "handled": "hand-overs",
    "outcomes": "hand-overs with an outcome",
    "timed": "hand-overs with a handle time",
    "transfers_known": "hand-overs of which it is known whether they were transferred",
    "ratings": "hand-overs with a csat",
    "upset": "hand-overs of upset contacts with an outcome",
    "good": "hand-overs not known to have failed",
    "bad": "hand-overs that failed",
}
# The column of csas.parquet that a roster feature reads, where it is not called the same.
_COLUMN = {"skill": "skills", "skill_level": "skills"}
_MINE = {one.name for one in FEATURES if one.level == "csa"} | {"group_*:complexity"}


STALE = 7 * DAY  # without any outcome: a reader should know that the tables end there


@dataclass(frozen=True)
class CsaCase:
    """One CSA of a log at a moment (µs), with what training and the router would make of them.

    csa: its code; schema: of a bundle, or `provenance.unfitted`; row: where the dated row that counts stands in its
    file, from 0; encoder: a bundle's contact tower.
    """

    log: Log
    csa: int
    at: int
    schema: FeatureSchema
    row: int | None = None
    encoder: ContactEncoder | None = None

    @property
    def dated(self) -> int:
        """The position of the dated row that counts, −1 where every row is later."""
        return int(self.log.csas.row_at(self.at)[self.csa])

    @cached_property
    def handled(self) -> Longs:
        """Positions (n,) of the CSA's hand-overs whose outcome was known, in that order."""
        moves = self.log.handovers
        return np.flatnonzero((moves.csa == self.csa) & (moves.known_at < self.at))

    @cached_property
    def told(self) -> Told:
        """What was known of contacts on arrival; blank for contacts whose text no value depends on."""
        return told_of(self)

    @cached_property
    def history(self) -> CsaHistory:
        """Everybody's history as it stands at the moment."""
        known, work = csa_streams(self.log, self.schema, self.told)
        history = CsaHistory(self.schema.csa_settings, len(self.log.csas))
        history.advance(known, self.at, work)
        return history

    @cached_property
    def reading(self) -> CsaReading:
        """The history's sums."""
        return self.history.read(self.at, [name for name, _ in self.history.settings.families])

    @cached_property
    def record(self) -> Record:
        """What features of the past are computed from."""
        return Record(self.reading, self.history.settings)

    @cached_property
    def values(self) -> Floats:
        """The CSA's row (G,) of the tensor that the CSA tower would read."""
        everyone = CsaFeatures(self.log.csas, self.schema, self._embed).at(self.at, self.history)
        return np.asarray(everyone[self.csa])

    def _embed(self, texts: Sequence[str]) -> Floats:
        """The base embedding of this CSA's own texts, zero for those of others: nobody's row reads another's."""
        vectors = np.zeros((len(texts), self.schema.base_dim), np.float32)
        mine = self.log.csas.csa == self.csa
        skills = pc.list_flatten(self.log.csas.skills.filter(mine))
        own = {*self.log.csas.profile.filter(mine).to_pylist(), *pc.struct_field(skills, "name").to_pylist()}
        rows = [i for i, text in enumerate(texts) if text in own]
        if self.encoder is not None and rows:
            vectors[rows] = self.encoder.encode({"intent_text": [texts[i] for i in rows]}, quiet=True).base
        return vectors

    @cached_property
    def counted(self) -> dict[str, npt.NDArray[np.bool_]]:
        """Which of `handled` count (n,), by what is counted."""
        moves, of = self.log.handovers, self.told.take(self.log.handovers.contact[self.handled])
        known = KnownHandovers(
            csa=moves.csa[self.handled], known_at=moves.known_at[self.handled], resolved=moves.resolved[self.handled],
            handle_time_s=moves.handle_time_s[self.handled], base=of.base, transferred=moves.transferred[self.handled],
            csat=moves.csat[self.handled], expected=of.expected.astype(np.float32), upset=of.upset,
        )  # fmt: skip
        values, failed = csa_values(known), known.resolved == 0
        return {name: values[:, i] > 0 for i, name in enumerate(SUMS)} | {"good": ~failed, "bad": failed}

    @cached_property
    def cells(self) -> list[tuple[str, int, str]]:
        """Family of groups, code and value of each column of a group feature."""
        bands = [*(f"up to {np.expm1(edge):.0f} s" for edge in self.schema.bands), "longer"]
        named = {**self.schema.groups, "complexity": bands}
        families = self.schema.csa_settings.families
        return [(family, code, named[family][code]) for family, count in families for code in range(count)]


def told_of(case: CsaCase) -> Told:
    """What was known of a log's contacts (N,) on arrival, as far as the CSA's values depend on it."""
    log, schema = case.log, case.schema
    if case.encoder is None:
        told = untold_of(log, schema)
        if not schema.has("groups"):
            return told
        return replace(told, categories=schema.codes(schema.rows(log_columns(silent(log)))))
    everyone = schema.has("groups", "upset")
    known = log.handovers.known_at < case.at
    read = known if everyone else case.handled if schema.csa_settings.width else np.empty(0, np.int64)
    return told_of_some(log, schema, np.unique(log.handovers.contact[read]).astype(np.int64), case.encoder.encode)


def explain_csa(case: CsaCase, granularity: int | None = None) -> Explained:
    """The features of a CSA as of a moment; granularity (µs) of the snapshots that a bundle's towers read."""
    evidence = _evidence(case)
    values = dict(zip(case.schema.csa_numbers, case.values.tolist(), strict=True))
    shown = tuple(Shown(one, _columns(case, one, values, evidence)) for one in declared(case.schema, "csa"))
    moves, csas = case.log.handovers, case.log.csas
    mine = moves.csa == case.csa
    return Explained(
        subject={"csa": csas.ids[case.csa].as_py()},
        at=case.at,
        rows={CSAS.file: case.row},
        features=shown,
        evidence=evidence,
        left_out={
            **left_out(case.log, mine, case.at),
            "handovers_assigned_later": int((mine & (moves.assigned_at >= case.at)).sum()),
            "rows_valid_later": int(((csas.csa == case.csa) & (csas.valid_from > case.at)).sum()),
        },
        absent={name: why for name, why in untold(case.schema, case.encoder is not None).items() if name in _MINE},
        notes=tuple(_notes(case, granularity)),
    )


def _notes(case: CsaCase, granularity: int | None) -> list[str]:
    notes = []
    if not case.log.csas.active_at(case.at)[case.csa]:
        notes.append("does not work at that time: not hired yet, or gone")
    moves = case.log.handovers
    heard = moves.known_at[moves.known_at < NEVER]
    if len(heard) and case.at > (last := int(heard.max())) + STALE:
        days = (case.at - last) / DAY
        notes.append(f"the tables know of no outcome after {format_time(last)}, {days:.0f} days before that time")
    if not len(case.handled):
        notes.append("no hand-over was known before: everything of the past is a newcomer's")
    if case.schema.has("record", "groups"):
        outcomes = case.reading.counts[:, 1]
        notes.append(
            f"rates and means are less the centre's and shrunken towards it: {int(outcomes.sum())} outcomes of "
            f"{int((outcomes > 0).sum())} CSAs known before"
        )
    if granularity is not None:
        snapshot = format_time(case.at // granularity * granularity)
        notes.append(
            f"these are of the very time; a contact that arrives then reads the snapshot of {snapshot} "
            f"(one every {granularity / DAY:g} days)"
        )
    return notes


def _evidence(case: CsaCase) -> dict[str, Evidence]:
    """The hand-overs behind the features that are on, by kind."""
    found, features = {}, {one["name"] for one in declared(case.schema, "csa")}
    for name in dict.fromkeys(kind for feature, kind in COUNTED_BY.items() if feature in features):
        found[name] = facts(WHAT[name], case.log, case.handled[case.counted[name]])
    codes = case.told.take(case.log.handovers.contact[case.handled]).groups(case.schema)
    if codes is not None:
        names = [name for name, _ in case.schema.csa_settings.families]
        for family, code, value in case.cells:
            inside = codes[:, names.index(family)] == code
            for kind in ("outcomes", "timed"):
                rows = case.handled[inside & case.counted[kind]]
                if len(rows):
                    found[f"{kind}:{family}={value}"] = facts(f"{WHAT[kind]}, {family} {value}", case.log, rows)
    if "load" in case.schema.families:
        found |= _work(case)
    return found


def _work(case: CsaCase) -> dict[str, Evidence]:
    """What the load is of: hand-overs assigned, and of these the ended ones."""
    moves = case.log.handovers
    found = {}
    for name, times in (("assigned", moves.assigned_at), ("ended", moves.ended_at)):
        rows = np.flatnonzero((moves.csa == case.csa) & (times < case.at))
        rows = rows[np.argsort(times[rows], kind="stable")]
        newest = tuple(
            {
                "contact_id": case.log.contacts.ids[int(moves.contact[row])].as_py(),
                f"{name}_at": format_time(int(times[row])),
            }
            for row in rows[::-1][:NEWEST]
        )
        first, last = (int(times[rows[0]]), int(times[rows[-1]])) if len(rows) else (None, None)
        found[name] = Evidence("hand-overs", len(rows), first, last, newest, name)
    return found


def _columns(
    case: CsaCase, one: dict[str, Any], values: dict[str, float], evidence: dict[str, Evidence]
) -> tuple[Column, ...]:
    name, columns = one["name"], one["columns"]
    if one["as_of"] == "never":
        return tuple(Column(column, values[column], "the CSA's id") for column in columns)
    if one["as_of"] == "roster":
        origin = _row(case, "hired_at" if one["family"] == "tenure" else _COLUMN.get(name, name))
        several = "=" in columns[0] and len(columns) > 1
        return tuple(Column(c, values[c], origin, telling=not several or values[c] != 0) for c in columns)
    if one["as_of"] == "work":
        origin = evidence["assigned"].line + ("" if name != "open" else f"; {evidence['ended'].line}")
        return tuple(Column(column, values[column], origin, "assigned") for column in columns)
    if one["family"] == "groups":
        return tuple(
            _cell(case, name, column, values[column], cell, evidence)
            for column, cell in zip(columns, case.cells, strict=True)
        )
    return tuple(_past(case, one, column, values[column], evidence) for column in columns)


def _past(case: CsaCase, one: dict[str, Any], column: str, value: float, evidence: dict[str, Evidence]) -> Column:
    """A column of the record: decayed, so an effective sample size stands behind it."""
    kind = COUNTED_BY[one["name"]]
    origin, more = evidence[kind].line, {}
    age = column.removeprefix(f"{one['name']}_")
    ages = half_life_names(case.history.settings)
    if age in ages and kind in case.record.half_lives[0].size:
        half_life = ages.index(age)
        more["effective"] = float(case.record.half_lives[half_life].size[kind][case.csa])
    return Column(column, value, origin, kind, more=more)


def _cell(
    case: CsaCase, name: str, column: str, value: float, cell: tuple[str, int, str], evidence: dict[str, Evidence]
) -> Column:
    """A column of a group: what hand-overs of that kind say, or the prior where there are none."""
    family, code, said = cell
    kind = COUNTED_BY[name]
    key = f"{kind}:{family}={said}"
    of = f"{family} {said}"
    if key not in evidence:
        return Column(column, value, f"no hand-over of {of}: what is expected of the CSA there", of=of, telling=False)
    group = case.reading.groups[family]
    sums = dict(zip(GROUP_SUMS, group.sums[(group.csa == case.csa) & (group.code == code)][0], strict=True))
    size = float(effective(np.atleast_1d(sums[kind]), np.atleast_1d(sums[f"{kind}_squares"]))[0])
    return Column(column, value, evidence[key].line, key, of, {"effective": size})


def _row(case: CsaCase, column: str) -> str:
    """The dated row that counts."""
    if case.dated < 0:
        return f"no row of {CSAS.file} counts yet"
    since = int(case.log.csas.valid_from[case.dated])
    valid = "from the beginning" if since == NULL_TIME else f"from {format_time(since)}"
    where = CSAS.file if case.row is None else f"row {case.row} of {CSAS.file}"
    hired = int(case.log.csas.hired_at[case.dated])
    more = f" {format_time(hired)}" if column == "hired_at" and hired not in (NULL_TIME, NEVER) else ""
    return f"{where}, valid {valid}: {column}{more}"
