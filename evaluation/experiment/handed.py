"""What became of each contact of a log, from its hand-overs: who took it first, what was known, when the customer came
back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from twotower.clock import DAY, NEVER
from twotower.tables.log import Handovers, Log

Doubles = npt.NDArray[np.float64]
Longs = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Handed:
    """Of all N contacts of a log; NaN: not known."""

    csa: Longs
    """(N,) the first CSA, −1: nobody"""
    assigned_at: Longs
    """(N,) of the first hand-over; `NEVER`: none"""
    known_at: Longs
    """(N,) when the last of its outcomes became known; `NEVER`: not yet, or nobody took it"""
    policy: pa.Array
    """(N,) of the first hand-over"""
    columns: dict[str, Doubles]
    """resolved, abandoned, wait_s, handle_minutes, csat, quality, transferred, of the frame."""


def handed(log: Log) -> Handed:
    """Any hand-over that resolved it resolves a contact; handling is summed, and not known if one's is not; the rating
    is the last, the quality score the mean; a contact that was given up before anybody took it is abandoned."""
    moves, n = log.handovers, len(log.contacts)
    order = np.lexsort((moves.csa, moves.assigned_at, moves.contact))
    contact = moves.contact[order].astype(np.int64)
    first = np.full(n, -1, np.int64)
    starts = np.flatnonzero(np.diff(contact, prepend=-1))
    first[contact[starts]] = order[starts]
    took = first >= 0
    assigned = np.where(took, moves.assigned_at[first], NEVER)
    known = np.full(n, np.iinfo(np.int64).min)
    np.maximum.at(known, moves.contact, moves.known_at)
    arrived, gave_up = log.contacts.arrived_at, log.contacts.abandoned_at
    abandoned = (gave_up != NEVER) & (gave_up <= assigned)
    until = np.where(abandoned, gave_up, assigned)
    columns = _outcomes(moves, n)
    columns["resolved"][abandoned] = 0.0
    columns["abandoned"] = abandoned.astype(np.float64)
    columns["wait_s"] = np.where(until == NEVER, np.nan, (until - arrived) / 1e6)
    policy = moves.policy.take(pa.array(np.where(took, first, 0), mask=~took))
    csa = np.where(took, moves.csa[first], -1).astype(np.int64)
    return Handed(csa, assigned, np.where(took, known, NEVER), policy, columns)


def _outcomes(moves: Handovers, n: int) -> dict[str, Doubles]:
    """resolved, handle_minutes, csat, quality, transferred (n,) of contacts."""
    of = moves.contact
    found = {name: _any(of, getattr(moves, name), n) for name in ("resolved", "transferred")}
    count = np.bincount(of, minlength=n)
    handle = np.bincount(of, moves.handle_time_s.astype(np.float64), n) / 60
    found["handle_minutes"] = np.where(count > 0, handle, np.nan)
    rated = np.flatnonzero(~np.isnan(moves.csat))
    found["csat"] = np.full(n, np.nan)
    last = rated[np.argsort(moves.assigned_at[rated], kind="stable")]
    found["csat"][of[last]] = moves.csat[last]
    judged = ~np.isnan(moves.quality_score)
    with np.errstate(invalid="ignore"):
        score = np.bincount(of[judged], moves.quality_score[judged].astype(np.float64), n)
        found["quality"] = score / np.bincount(of[judged], minlength=n)
    return found


def _any(of: npt.NDArray[np.int32], flags: npt.NDArray[np.int8], n: int) -> Doubles:
    """1 where a hand-over has it, 0 where one is known not to and none has it, else NaN."""
    has, told = np.bincount(of[flags == 1], minlength=n), np.bincount(of[flags >= 0], minlength=n)
    return np.where(has > 0, 1.0, np.where(told > 0, 0.0, np.nan))


def came_back(log: Log, within_days: float, data_end: int) -> Doubles:
    """(N,) 1 where the contact's customer arrived again so soon, NaN without a customer or where it is too early to
    tell."""
    arrived, customer = log.contacts.arrived_at, log.contacts.customer
    order = np.lexsort((np.arange(len(arrived)), arrived, customer))
    same = customer[order[1:]] == customer[order[:-1]]
    soon = arrived[order[1:]] - arrived[order[:-1]] <= within_days * DAY
    found = np.zeros(len(arrived))
    found[order[:-1]] = (same & soon).astype(np.float64)
    found[(customer < 0) | (arrived > data_end - within_days * DAY)] = np.nan
    return found
