"""A window of a data set as a centre: its contacts at their moments, its people on their shifts, other policies.

Notable: arrivals, texts, classes and shifts are the log's own; handling times, patience and how a contact would have
ended with somebody else are models of it (docs/replay.md says what that can and cannot tell). Policies believe what was
known of CSAs before the window; the truth is theirs who are asked for it by name.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BeforeValidator, Field

from evaluation.simulate.centre import HOUR, Centre, Patience, Shifts
from evaluation.simulate.demand import Demand, at
from evaluation.simulate.described import MINUTE, NotNegative, PatienceSpec, Positive, Share, Strict
from evaluation.simulate.policies import Vectors
from evaluation.simulate.replay_hard import hardest, split
from evaluation.simulate.replay_outcomes import cross_fitted, true_logits
from evaluation.simulate.replay_rates import rates_before
from evaluation.simulate.replay_staff import capacities, shifts_of
from evaluation.simulate.replay_times import Survival, handling, patience
from evaluation.simulate.replay_window import Window, can_take, covered, window_of
from evaluation.simulate.run import Truth
from twotower.clock import parse_time
from twotower.errors import ConfigError
from twotower.tables.log import Log

Doubles = npt.NDArray[np.float64]
Longs = npt.NDArray[np.int64]
CELLS = 500_000_000
"""Pairs of contacts and CSAs that are held at once, four bytes each."""
JITTER_S = 900.0
"""Seconds by which a contact that is put in again comes earlier or later than its original."""
OVERLAP = 0.95
"""Share of the listed eligible pairs below which the classes are said not to be the centre's."""


def _written(given: Any) -> Any:
    """YAML reads moments that have no quotes."""
    return given.isoformat() if isinstance(given, date | datetime) else given


Moment = Annotated[str, BeforeValidator(_written)]


class ReplaySpec(Strict):
    """A centre that is a window of tables."""

    tables: str
    """Folder of the data set, relative to the working directory."""
    begin: Moment = Field(alias="from")
    end: Moment = Field(alias="to")
    """Contacts that arrived in [from, to); ISO 8601 with a time zone."""
    outcomes: Literal["cross_fitted", "truth", "by_class"] = "cross_fitted"
    """`truth`: of a generated centre, by its truth.npz; `by_class`: what was known of classes and CSAs, in no time: for
    questions of waits, which outcomes have no part in."""
    load: Positive | None = None
    """Work offered for the time on shift: contacts are left out, or put in again, by chance until it is so."""
    interval_minutes: Positive = 30.0
    folds: Annotated[int, Field(ge=2, le=50)] = 5
    chats: NotNegative = 0.0
    """By how much each other contact in hand makes one take longer, as a share."""
    hard_share: Share = 0.0
    """Of contacts that count as hard: those least likely to be resolved, whoever takes them."""
    patience: PatienceSpec | None = None
    """Of every contact, where the log's own says too little; default: as the log tells."""
    seed: Annotated[int, Field(ge=0)] = 0


@dataclass(frozen=True)
class Replay:
    """What `simulate` and policies need. N contacts, J CSAs, K classes; `Demand.row` is the contact's place among N."""

    window: Window
    csa: Longs
    """(J,) positions in the log's CSAs."""
    centre: Centre
    demand: Demand
    truth: Truth
    """All of it in `pairs` (N, J); the centre's `success` is 0.5 throughout."""
    known: Doubles
    """(K, J) shares resolved, shrunken, as known when the window began: what policies by class believe."""
    notes: tuple[str, ...] = ()

    @property
    def csa_ids(self) -> tuple[str, ...]:
        """(J,)."""
        return self.centre.csas


def replay(spec: ReplaySpec) -> Replay:
    """Read the tables and make a centre of the window.

    Raises:
        DataError: tables or the truth are missing or cannot be read.
        ConfigError: the window holds no contact or nobody works in it, the log tells too few outcomes, or the pairs
            would not fit in memory.
    """
    if not Path(spec.tables).is_dir():
        raise ConfigError(f"centre.tables: {spec.tables}: no such folder; paths are relative to the working directory")
    log = Log.load(spec.tables)
    window = window_of(log, parse_time(spec.begin, "centre.from"), parse_time(spec.end, "centre.to"))
    shifts, derived = shifts_of(spec.tables, window)
    able, places = can_take(window, window.end), capacities(window)
    csa = np.unique(shifts.csa[shifts.starts < window.seconds(np.array([window.end]))[0]])
    csa = csa[(places[csa] > 0) & able[:, csa].any(axis=0)]
    if not len(csa):
        raise ConfigError("centre: nobody who works in the window can take any of its contacts, by csas and hand-overs")
    if len(window) * len(csa) > CELLS:
        raise ConfigError(
            f"centre: {len(window):,} contacts × {len(csa):,} CSAs are more than {CELLS:,} pairs; shorten the window"
        )
    times, random = handling(window), np.random.default_rng((spec.seed, 83))
    patient, of_class, notes = _patient(spec, window, random)
    centre = _centre(spec, window, csa, np.where(able, times.mean_s, 0.0)[:, csa], times.sigma, shifts, places)
    centre = replace(centre, patience=of_class)
    notes = [*_notes(window, able, derived), *notes]
    known = rates_before(window)[:, csa]
    if spec.outcomes == "by_class":
        share = np.clip(known[window.kind[window.rows]], 1e-6, 1 - 1e-6)
        pairs = np.log(share / (1 - share)).astype(np.float32)
        notes.append("outcomes: by class and CSA, as known before the window")
    elif spec.outcomes == "truth":
        pairs = true_logits(spec.tables, window, csa)
        notes.append("outcomes: the generated centre's own truth")
    else:
        pairs, quality = cross_fitted(window, csa, spec.folds, spec.seed)
        notes.append(quality.line())
    centre, demand, said = _at_load(spec, window, centre, patient, random)
    nothing = Vectors(np.zeros((0, 0), np.float32), np.zeros((len(csa), 0), np.float32))
    if spec.hard_share:
        can = centre.can[window.kind[window.rows]]
        centre, demand, known = split(centre, demand, known, hardest(pairs, can, spec.hard_share))
        centre = _counted(centre, demand.arrival, demand.kind)
    return Replay(window, csa, centre, demand, Truth(nothing, pairs=pairs), known, (*notes, *said))


def _centre(
    spec: ReplaySpec, window: Window, csa: Longs, handle_s: Doubles, sigma: Doubles, shifts: Shifts, places: Longs
) -> Centre:
    place = np.full(len(window.log.csas), -1)
    place[csa] = np.arange(len(csa))
    kept = place[shifts.csa] >= 0
    length, step = (window.end - window.begin) / 1e6, spec.interval_minutes * MINUTE
    names = window.log.csas.ids.to_pylist()
    return Centre(
        classes=window.classes,
        csas=tuple(names[i] for i in csa),
        rates=np.zeros((len(window.classes), max(1, int(np.ceil(length / step))))),
        handle_s=handle_s,
        success=np.full(handle_s.shape, 0.5),
        interval_s=step,
        sigma=sigma,
        shifts=Shifts(place[shifts.csa[kept]], shifts.starts[kept], shifts.ends[kept]),
        capacity=places[csa],
        chats=spec.chats,
        language=tuple(window.language.names[code] for code in window.parts[:, 1]),
    )


def _patient(
    spec: ReplaySpec, window: Window, random: np.random.Generator
) -> tuple[Doubles, tuple[Patience, ...], list[str]]:
    """Seconds (N,) that contacts wait, patience by class for what is not of the log, and what is to be said of it."""
    if spec.patience is not None:
        stated = spec.patience.patience()
        own = stated.seconds(1.0 - random.random(len(window)), random.standard_normal(len(window)))
        said = {"never": "nobody abandons", "quantiles": "by quantiles"}
        of = said.get(stated.kind, f"{stated.kind}, a mean of {spec.patience.mean_minutes:g} minutes")
        return own, (stated,) * len(window.classes), [f"patience: as stated and not as in the log, {of}"]
    own, survival = patience(window, random)
    of_class = tuple(_patience(survival, window, k) for k in range(len(window.classes)))
    none = not len(survival[""].at)
    return own, of_class, ["patience: nobody abandoned in the log, so nobody does here"] if none else []


def _patience(survival: dict[str, Survival], window: Window, kind: int) -> Patience:
    """Of a class, for what is not of the log."""
    found = survival.get(window.channel.names[window.parts[kind, 2]], survival[""])
    if not len(found.at):
        return Patience()
    table = found.drawn(np.linspace(1, 0, 101), np.zeros(101))
    with np.errstate(invalid="ignore"):  # infinite ones are as long as each other
        return Patience("quantiles", table=tuple(table.tolist()))


def _notes(window: Window, able: npt.NDArray[np.bool_], derived: int) -> list[str]:
    found = []
    share = covered(window, able)
    if share is not None:
        said = f"who can take what: {share:.1%} of the pairs that the log lists as eligible are possible here"
        found.append(said if share >= OVERLAP else f"{said}; the classes are not those of this centre")
    if derived:
        found.append(f"shifts of {derived} CSAs are derived from what they did: no row of shifts.parquet names them")
    return found


def _at_load(
    spec: ReplaySpec, window: Window, centre: Centre, patient: Doubles, random: np.random.Generator
) -> tuple[Centre, Demand, list[str]]:
    """The window's contacts, or as many of them, by chance, as make the load that is asked for."""
    arrival = window.seconds(window.log.contacts.arrived_at[window.rows])
    row, said = np.arange(len(window)), []
    counted = _counted(centre, arrival, window.kind[window.rows])
    if spec.load is not None:
        now = counted.load()
        if not 0 < now < np.inf:
            raise ConfigError("centre.load: nobody works in the window; there is no load to scale")
        row = _sampled(len(window), spec.load / now, random)
        again = np.concatenate([[False], row[1:] == row[:-1]])
        moved = arrival[row] + np.where(again, random.uniform(-JITTER_S, JITTER_S, len(row)), 0.0)
        # Not beyond the last interval, in which figures look for it.
        moved = np.clip(moved, 0.0, np.nextafter((window.end - window.begin) / 1e6, 0.0))
        order = np.argsort(moved, kind="stable")
        row, arrival = row[order], moved[order]
        counted = _counted(centre, arrival, window.kind[window.rows[row]])
        word = "left out" if len(row) < len(window) else "put in again, up to 15 minutes off"
        said = [f"load: {now:.2f} in the log; {abs(len(row) - len(window)):,} contacts {word}, by chance"]
    demand = at(counted, arrival, window.kind[window.rows[row]], spec.seed)
    return counted, replace(demand, patience=patient[row], row=row.astype(np.int32)), said


def _sampled(many: int, times: float, random: np.random.Generator) -> Longs:
    """Positions, ascending, each as often as a whole number whose mean is `times`."""
    often = np.floor(times) + (random.random(many) < times % 1)
    return np.repeat(np.arange(many), often.astype(np.int64))


def _counted(centre: Centre, arrival: Doubles, kind: npt.NDArray[np.integer]) -> Centre:
    """With the rates (K, I) at which contacts came."""
    rates = np.zeros_like(centre.rates)
    np.add.at(rates, (kind, np.minimum(arrival // centre.interval_s, rates.shape[1] - 1).astype(np.int64)), 1.0)
    return replace(centre, rates=rates * (HOUR / centre.interval_s))
