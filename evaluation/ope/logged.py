"""What a log says of its decisions: who could have had each contact, who had it first, and how likely that was.

Notable: a round is a first hand-over. What becomes of a transfer is a later decision, taken because of how the first
one ended. Nothing is left out in silence: contacts that nobody took, choices outside of the eligible, rounds without a
propensity are counted, and the report says them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from evaluation.ope.decisions import Decisions, check_propensities, read_decisions
from evaluation.ope.rounds import Floats, Ints, Pairs
from twotower.clock import DAY, format_time
from twotower.errors import ConfigError
from twotower.progress import track
from twotower.tables.log import Log
from twotower.tables.read import Problem, read_table, refuse
from twotower.tables.schema import INTERACTIONS

Source = Literal["auto", "logged", "estimated"]
Cluster = Literal["customer", "day", "none"]
MOST_PAIRS = 60_000_000
"""Who could have been chosen, over all rounds, that are held at once."""


@dataclass(frozen=True)
class Metric:
    """A column of interactions.parquet as a reward: its bounds, and whether more is better."""

    name: str
    unit: str
    low: float
    high: float
    more_is_better: bool


METRICS = {
    "resolved": Metric("resolved", "share", 0.0, 1.0, True),
    "csat": Metric("csat", "rating 1..5", 1.0, 5.0, True),
    "handle_time_s": Metric("handle_time_s", "seconds", 0.0, np.inf, False),
    "transferred": Metric("transferred", "share", 0.0, 1.0, False),
    "quality_score": Metric("quality_score", "score 0..1", 0.0, 1.0, True),
}


@dataclass(frozen=True)
class LeftOut:
    """Contacts of the window that are no rounds, and why."""

    nobody: int = 0
    """Nobody took them."""
    other_policy: int = 0
    """Decided by a policy that was not asked for."""
    outside: int = 0
    """Who took it was not among those eligible."""
    without_propensity: int = 0
    """The log does not say how likely the choice was."""
    unfollowed: int = 0
    """Decisions of contacts of the window that no first hand-over followed: nobody was chosen, or another was taken."""
    unknown: int = 0
    """Rounds that were offered to somebody whom csas.parquet does not hold; they count, their chances as not told."""
    later: int = 0
    """Later hand-overs of the rounds' contacts: transfers are decisions of their own."""


@dataclass(frozen=True)
class Logged:
    """n rounds of a log, in order of arrival."""

    log: Log
    begin: int
    end: int
    contact: Ints
    """(n,) positions in `log.contacts`."""
    handover: Ints
    """(n,) positions in `log.handovers`."""
    pairs: Pairs
    propensity: Floats
    """(n,) of who was chosen; NaN where it is not known."""
    chances: Floats
    """(P,) of everybody who could have been; NaN in rounds where not all are known."""
    score: Floats
    """(P,) what the router's own scores were; NaN where they are not known."""
    urgent: npt.NDArray[np.bool_]
    left_out: LeftOut
    policies: dict[str, int] = field(default_factory=dict)
    """Rounds by who decided; the empty name where nobody wrote that down."""

    def __len__(self) -> int:
        return len(self.contact)

    def reward(self, metric: str) -> Floats:
        """(n,) one of `METRICS`, NaN where it is not known."""
        values = getattr(self.log.handovers, metric)[self.handover]
        if values.dtype == np.int8:
            return np.where(values < 0, np.nan, values).astype(np.float64)
        return np.asarray(values, np.float64)

    def cluster(self, by: Cluster) -> Ints | None:
        """(n,) what is drawn together: customers (contacts without one stand alone), or days of arrival."""
        if by == "none":
            return None
        if by == "day":
            return np.asarray(self.log.contacts.arrived_at[self.contact] // DAY)
        customer = self.log.contacts.customer[self.contact].astype(np.int64)
        return np.where(customer < 0, len(self.log.customer_ids) + np.arange(len(customer)), customer)


def read_logged(
    folder: str | Path,
    log: Log,
    begin: int,
    end: int,
    policies: Sequence[str] = (),
    source: Source = "auto",
) -> tuple[Logged, bool]:
    """The rounds of contacts that arrived in [begin, end), µs, and whether their propensities are logged.

    policies: of `interactions.policy`, those whose choices count; none: all. source: `logged` leaves out rounds without
    a propensity, `estimated` looks at none, `auto` takes whichever all rounds have.

    Raises:
        DataError: a propensity is not in (0, 1] (file and row), or `logged` and there is no such column.
        ConfigError: nothing arrived, was decided by such a policy, or was decided with a choice; `auto` where some
            rounds have a propensity and some have none; `estimated` without lists of who was eligible.
    """
    table = read_table(folder, INTERACTIONS, columns=["propensity"])
    check_propensities(folder, INTERACTIONS.file, "propensity", table["propensity"])
    decisions = read_decisions(folder, log)
    contact, handover, left = _first_handovers(log, begin, end)
    names = log.handovers.policy.take(pa.array(handover)).fill_null("").to_pylist()
    if policies:
        contact, handover, names, left = _of_policies(contact, handover, names, left, policies)
    chosen = _decided(decisions, log, contact, handover)
    left = _unfollowed(decisions, log, (begin, end), chosen, left)
    found = _rounds(log, (begin, end), contact, handover, decisions, chosen, left)
    known = np.isfinite(found.propensity)
    if source == "auto":
        if 0 < known.mean() < 1:
            raise ConfigError(
                f"{int(known.sum()):,} of {len(known):,} hand-overs of the window have a propensity, the others none: "
                "say --propensities logged, which leaves the others out, or --propensities estimated"
            )
        source = "logged" if known.all() else "estimated"
    if source == "logged":
        if not known.any():
            why = "null or missing in the window; --propensities logged needs the probability of each choice"
            raise refuse(folder, Problem(INTERACTIONS.file, why, "propensity"))
        found = _take(found, np.flatnonzero(known), without_propensity=int((~known).sum()))
    elif log.contacts.eligible is None:
        raise ConfigError(
            "contacts.parquet has no lists of who was eligible, so propensities cannot be estimated: who could have "
            "been chosen is not known; write `eligible`, or `propensity` for every hand-over"
        )
    return found, source == "logged"


def _first_handovers(log: Log, begin: int, end: int) -> tuple[Ints, Ints, LeftOut]:
    """Positions of contacts of the window and of their first hand-overs."""
    arrived, moves = log.contacts.arrived_at, log.handovers
    first, last = (int(i) for i in np.searchsorted(arrived, (begin, end)))
    span = f"from {format_time(begin)} to {format_time(end)}"
    if begin >= end or first == last:
        known = f"the log has contacts from {format_time(int(arrived[0]))} to {format_time(int(arrived[-1]))}"
        raise ConfigError(f"no contact {span}; {known}")
    order = np.lexsort((moves.csa, moves.assigned_at, moves.contact))
    here = order[(moves.contact[order] >= first) & (moves.contact[order] < last)]
    if not len(here):
        raise ConfigError(f"no hand-over of a contact that arrived {span}; choose a longer window")
    contact = moves.contact[here].astype(np.int64)
    starts = np.append(True, np.diff(contact) > 0)
    left = LeftOut(nobody=last - first - int(starts.sum()), later=int((~starts).sum()))
    return contact[starts], here[starts], left


def _of_policies(
    contact: Ints, handover: Ints, names: list[str], left: LeftOut, policies: Sequence[str]
) -> tuple[Ints, Ints, list[str], LeftOut]:
    there = sorted({name for name in names if name})
    if unknown := [name for name in policies if name not in there]:
        has = ", ".join(there[:10]) or "none"
        raise ConfigError(f"--logged {unknown[0]!r}: no hand-over of the window was decided by it; there are: {has}")
    kept = np.flatnonzero([name in policies for name in names])
    out = replace(left, other_policy=len(names) - len(kept))
    return contact[kept], handover[kept], [names[i] for i in kept.tolist()], out


def _decided(decisions: Decisions | None, log: Log, contact: Ints, handover: Ints) -> Ints:
    """(n,) position of the decision that each hand-over followed: the latest before it of this CSA; −1: none."""
    found = np.full(len(contact), -1, np.int64)
    if decisions is None or not len(decisions.contact):
        return found
    size = len(log.csas)
    order = np.lexsort((decisions.decided_at, decisions.contact * size + decisions.csa))
    key, moment = (decisions.contact * size + decisions.csa)[order], decisions.decided_at[order]
    wanted = contact * size + log.handovers.csa[handover]
    begun = log.handovers.assigned_at[handover]
    first, last = np.searchsorted(key, wanted), np.searchsorted(key, wanted, side="right")
    for i in np.flatnonzero(last > first).tolist():
        at = first[i] + np.searchsorted(moment[first[i] : last[i]], begun[i], side="right") - 1
        found[i] = order[at] if at >= first[i] else -1
    return found


def _unfollowed(decisions: Decisions | None, log: Log, window: tuple[int, int], chosen: Ints, left: LeftOut) -> LeftOut:
    """The same with the window's decisions that no first hand-over followed, those of other policies among them."""
    if decisions is None:
        return left
    first, last = np.searchsorted(log.contacts.arrived_at, window)
    of = np.concatenate([decisions.contact, decisions.nobody])
    here = int(((of >= first) & (of < last)).sum())
    return replace(left, unfollowed=here - len(np.unique(chosen[chosen >= 0])))


def _rounds(
    log: Log,
    window: tuple[int, int],
    contact: Ints,
    handover: Ints,
    decisions: Decisions | None,
    decided: Ints,
    left: LeftOut,
) -> Logged:
    """Rounds with who could have been chosen, and what is known of each one's chance."""
    lists, chances, scores, own = [], [], [], []
    csa = log.handovers.csa[handover].astype(np.int64)
    for i in track(range(len(contact)), "rounds", len(contact)):
        who, chance, score = _round(log, int(contact[i]), decisions, int(decided[i]))
        place = int(np.searchsorted(who, csa[i]))
        own.append(place if place < len(who) and who[place] == csa[i] else -1)
        lists.append(who)
        chances.append(chance)
        scores.append(score)
    inside = np.flatnonzero(np.array(own) >= 0)
    if not len(inside):
        raise ConfigError(
            "nobody who took a contact of the window was among those eligible; compare `eligible` with csa_id"
        )
    lengths = np.array([len(lists[i]) for i in inside], np.int64)
    offsets = np.concatenate(([0], np.cumsum(lengths)))
    if offsets[-1] > MOST_PAIRS:
        raise ConfigError(
            f"{offsets[-1]:,} pairs of contacts and CSAs in the window, {MOST_PAIRS:,} at most: narrow it by --from "
            "and --to"
        )
    pairs = Pairs(offsets, np.concatenate([lists[i] for i in inside]), offsets[:-1] + np.array(own, np.int64)[inside])
    stranger = np.zeros(len(contact), np.bool_)
    told = log.handovers.propensity[handover].astype(np.float64)
    urgent = np.zeros(len(contact), np.bool_)
    if decisions is not None:
        some = decided >= 0
        better = decisions.propensity[decided[some]]
        told[some] = np.where(np.isfinite(better), better, told[some])
        urgent[some] = decisions.urgent[decided[some]]
        stranger[some] = decisions.unknown[decided[some]] > 0
    names = log.handovers.policy.take(pa.array(handover[inside]))
    counted = pc.value_counts(pc.fill_null(names, "")).to_pylist()
    return Logged(
        log, *window, contact[inside], handover[inside], pairs, told[inside],
        np.concatenate([chances[i] for i in inside]), np.concatenate([scores[i] for i in inside]), urgent[inside],
        replace(left, outside=len(contact) - len(inside), unknown=int(stranger[inside].sum())),
        {one["values"]: one["counts"] for one in counted},
    )  # fmt: skip


def _round(log: Log, contact: int, decisions: Decisions | None, decided: int) -> tuple[Ints, Floats, Floats]:
    """Who could have been chosen for a contact, ascending, their chances and their scores, NaN where not known."""
    if decisions is None or decided < 0:
        who = _listed(log, contact)
        return who, np.full(len(who), np.nan), np.full(len(who), np.nan)
    part = decisions.offered(decided)
    there = decisions.candidate[part] >= 0
    offers = (decisions.candidate, decisions.chance, decisions.score)
    candidate, chance, score = (values[part][there] for values in offers)
    told = decisions.eligible.row(decided)
    who = np.union1d(_listed(log, contact) if told is None else told, candidate[~(chance == 0)]).astype(np.int64)
    chances, scores = np.full(len(who), np.nan), np.full(len(who), np.nan)
    kept = np.isin(candidate, who)
    place = np.searchsorted(who, candidate[kept])
    scores[place] = score[kept]
    if decisions.whole[decided]:
        chances[:] = 0.0
        chances[place] = chance[kept]
    return who, chances, scores


def _listed(log: Log, contact: int) -> Ints:
    """A contact's eligible list, or whoever worked when it arrived."""
    row = None if log.contacts.eligible is None else log.contacts.eligible.row(contact)
    if row is None:
        return np.flatnonzero(log.csas.active_at(int(log.contacts.arrived_at[contact])))
    return np.unique(row).astype(np.int64)


def _take(found: Logged, rows: Ints, without_propensity: int) -> Logged:
    """The rounds at `rows`."""
    pairs, at = found.pairs.take(rows)
    left = replace(found.left_out, without_propensity=without_propensity)
    names = pc.fill_null(found.log.handovers.policy.take(pa.array(found.handover[rows])), "")
    counted = {one["values"]: one["counts"] for one in pc.value_counts(names).to_pylist()}
    return Logged(
        found.log, found.begin, found.end, found.contact[rows], found.handover[rows], pairs, found.propensity[rows],
        found.chances[at], found.score[at], found.urgent[rows], left, counted,
    )  # fmt: skip
