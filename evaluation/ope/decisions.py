"""`decisions.parquet`, as `twotower feedback export` writes it: every decision with its candidates and their chances.

Notable: a log of tables knows the probability of who was chosen; this one knows those of everybody else too, which
tells exactly where a policy would go that the router never does. What cannot be a probability is refused here with its
row, before anything is computed: one propensity of 0 is a weight without bound.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from evaluation.ope.rounds import Floats, Ints
from twotower.clock import ARROW_TIME, NULL_TIME, from_arrow
from twotower.tables.findings import short
from twotower.tables.load import codes
from twotower.tables.log import Log
from twotower.tables.ragged import Ragged
from twotower.tables.read import Problem, read_table, refuse
from twotower.tables.schema import FLAG, FLOAT, TEXT, Column, Table

FILE = "decisions.parquet"
OFFER = pa.struct([("csa_id", TEXT), ("score", FLOAT), ("p_resolved", FLOAT), ("propensity", FLOAT)])
DECISIONS = Table(
    "decisions",
    (
        Column("contact_id", TEXT, "for which contact", key=True),
        Column("decided_at", ARROW_TIME, "when", "UTC"),
        Column("urgent", FLAG, "whether it must not be explored", optional=True),
        Column("eligible", pa.list_(TEXT), "CSA ids who could have taken it", optional=True),
        Column("candidates", pa.list_(OFFER), "who was offered", optional=True),
        Column("chosen", TEXT, "whom the router took", optional=True),
        Column("propensity", FLOAT, "probability with which the chosen was", "(0, 1]", optional=True),
    ),
    required=False,
)
"""What is read of it; test_ope_decisions.py holds it to the export."""

NO_CHANCE = (
    "is no probability of a choice that was made; write one above 0 and at most 1, or null where it is not known"
)
SLACK = 0.01
"""How far chances may be from a sum of 1, or two tellings of one from each other."""


@dataclass(frozen=True)
class Decisions:
    """Decisions (D,) in which somebody was chosen whom the tables know; codes are those of the log.

    `offsets` (D + 1,), `candidate`, `score` and `chance` of the candidates; `whole` (D,): the chances of all are known,
    and the tables hold all who had one.
    """

    row: Ints
    """(D,) in the file."""
    contact: Ints
    csa: Ints
    decided_at: Ints
    urgent: npt.NDArray[np.bool_]
    propensity: Floats
    """(D,) NaN where it was not written down."""
    eligible: Ragged
    offsets: Ints
    candidate: Ints
    score: Floats
    chance: Floats
    whole: npt.NDArray[np.bool_]
    unknown: Ints
    """(D,) candidates with a chance, or of whom it is not known, whom csas.parquet does not hold."""
    nobody: Ints
    """Contacts of the decisions that chose nobody, or a CSA whom the tables do not hold; −1: contacts neither."""

    def offered(self, one: int) -> slice:
        """Where the candidates of a decision lie."""
        return slice(int(self.offsets[one]), int(self.offsets[one + 1]))


def check_propensities(folder: str | Path, file: str, column: str, values: Any) -> None:
    """Refuse what is no probability in (0, 1], by file, row and column. Raises DataError."""
    known = pc.is_valid(values).to_numpy(zero_copy_only=False) if len(values) else np.zeros(0, np.bool_)
    numbers = np.asarray(pc.fill_null(values, 1.0).to_numpy(zero_copy_only=False), np.float64)
    bad = np.flatnonzero(known & ~((numbers > 0) & (numbers <= 1)))
    if len(bad):
        row = int(bad[0])
        raise refuse(folder, Problem(file, NO_CHANCE, column, row, short(float(numbers[row]))))


def read_decisions(folder: str | Path, log: Log) -> Decisions | None:
    """The decisions of an export; None where the folder has none. Raises DataError, naming file, row and column."""
    if not (Path(folder) / FILE).is_file():
        return None
    table = read_table(folder, DECISIONS).combine_chunks()
    check_propensities(folder, FILE, "propensity", table["propensity"])
    contact = codes(table["contact_id"], log.contacts.ids).astype(np.int64)
    csa = codes(table["chosen"], log.csas.ids).astype(np.int64)
    kept = np.flatnonzero((contact >= 0) & (csa >= 0))
    offers = _offers(folder, table, log)
    rows = _ragged(offers.offsets, kept)
    found = Decisions(
        row=kept,
        contact=contact[kept],
        csa=csa[kept],
        decided_at=from_arrow(table["decided_at"], NULL_TIME)[kept],
        urgent=np.asarray(pc.fill_null(table["urgent"], False).to_numpy(zero_copy_only=False), np.bool_)[kept],
        propensity=_numbers(table["propensity"])[kept],
        eligible=_lists(table["eligible"], log, kept),
        offsets=np.concatenate(([0], np.cumsum(np.diff(offers.offsets)[kept]))),
        candidate=offers.csa[rows],
        score=offers.score[rows],
        chance=offers.chance[rows],
        whole=offers.whole[kept],
        unknown=offers.unknown[kept],
        nobody=np.delete(contact, kept),
    )
    agreeing = _agreeing(folder, found)
    # What somebody unknown had is missing from the chances of the others: they are not all that there was.
    return replace(agreeing, whole=agreeing.whole & (agreeing.unknown == 0))


@dataclass(frozen=True)
class _Offers:
    offsets: Ints
    csa: Ints
    score: Floats
    chance: Floats
    whole: npt.NDArray[np.bool_]
    unknown: Ints


def _offers(folder: str | Path, table: pa.Table, log: Log) -> _Offers:
    """Candidates of every row, checked; a list whose chances are all known must sum to 1."""
    lists = table["candidates"]
    lengths = np.asarray(pc.fill_null(pc.list_value_length(lists), 0).to_numpy(), np.int64)
    offsets = np.concatenate(([0], np.cumsum(lengths)))
    flat = pc.list_flatten(lists)
    chance = _numbers(pc.struct_field(flat, "propensity"))
    row = np.repeat(np.arange(len(lengths)), lengths)
    bad = np.flatnonzero((chance < 0) | (chance > 1))
    if len(bad):
        value = short(float(chance[bad[0]]))
        why = "is no probability; write one from 0 to 1, or null where it is not known"
        raise refuse(folder, Problem(FILE, why, "candidates.propensity", int(row[bad[0]]), value))
    told = np.bincount(row, np.isfinite(chance), len(lengths)) == lengths
    whole = told & (lengths > 0)
    total = np.bincount(row, np.nan_to_num(chance), len(lengths))
    off = np.flatnonzero(whole & (np.abs(total - 1) > SLACK))
    if len(off):
        why = "the candidates' propensities do not sum to 1; write those of all who could have been chosen"
        raise refuse(folder, Problem(FILE, why, "candidates.propensity", int(off[0]), short(float(total[off[0]]))))
    csa = codes(pc.struct_field(flat, "csa_id"), log.csas.ids).astype(np.int64)
    unknown = np.bincount(row[(csa < 0) & ~(chance == 0)], minlength=len(lengths)).astype(np.int64)
    return _Offers(offsets, csa, _numbers(pc.struct_field(flat, "score")), chance, whole, unknown)


def _agreeing(folder: str | Path, found: Decisions) -> Decisions:
    """The same, the propensity of the chosen taken from the candidates where it stands there; refused where the two
    tellings differ, or where who was chosen had no chance."""
    size, lengths = len(found.contact), np.diff(found.offsets)
    place = np.repeat(np.arange(size), lengths)
    mine = np.bincount(place, np.nan_to_num(found.chance) * (found.candidate == found.csa[place]), size)
    without = np.flatnonzero(found.whole & ~(mine > 0))
    if len(without):
        row, why = int(found.row[without[0]]), "who was chosen has no chance among the candidates"
        raise refuse(folder, Problem(FILE, why, "candidates.propensity", row, short(float(mine[without[0]]))))
    apart = np.flatnonzero(found.whole & (np.abs(mine - found.propensity) > SLACK))
    if len(apart):
        row, told = int(found.row[apart[0]]), float(found.propensity[apart[0]])
        why = f"the candidates say {mine[apart[0]]:.4g} of who was chosen; write one of the two right"
        raise refuse(folder, Problem(FILE, why, "propensity", row, short(told)))
    return replace(found, propensity=np.where(found.whole, mine, found.propensity))


def _ragged(offsets: Ints, rows: Ints) -> Ints:
    """Positions of the values of the lists at `rows`."""
    lengths = np.diff(offsets)[rows]
    ends = np.cumsum(lengths)
    return np.asarray(np.arange(ends[-1] if len(ends) else 0) + np.repeat(offsets[:-1][rows] - ends + lengths, lengths))


def _lists(column: Any, log: Log, kept: Ints) -> Ragged:
    """Codes of the lists at `kept`, without those whom the tables do not hold."""
    lengths = pc.list_value_length(column)
    offsets = np.concatenate(([0], np.cumsum(pc.fill_null(lengths, 0).to_numpy(), dtype=np.int64)))
    every = Ragged(offsets, codes(pc.list_flatten(column), log.csas.ids), pc.is_null(lengths).to_numpy())
    return every.take(kept).keep(np.arange(len(log.csas), dtype=np.int32))


def _numbers(column: Any) -> Floats:
    return np.asarray(pc.fill_null(column, float("nan")).to_numpy(zero_copy_only=False), np.float64)
