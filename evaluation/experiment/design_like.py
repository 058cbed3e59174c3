"""A small centre like the one of a history, to show what an A/B test of contacts does where arms share people.

Notable: it is an illustration with the history's own handling times, patience, resolution and differences between
people, not a copy of the centre: traffic is even, everybody can take everything, and the matcher knows pairs with an
error that is stated. Whatever the history does not tell is assumed, and said.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from evaluation.experiment.design_blocks import icc
from evaluation.experiment.design_history import History
from evaluation.experiment.design_options import at_work
from evaluation.experiment.design_spec import Shown
from evaluation.experiment.simulated import Testbed
from evaluation.simulate.centre import HOUR, Centre, Patience
from evaluation.simulate.policies import fifo, p_mu
from evaluation.simulate.scenario import believed

Longs = npt.NDArray[np.int64]

CLASSES = 5
LEAST_CSAS, MOST_CSAS = 10, 40
RESOLVED, SPREAD, HANDLE_MINUTES = 0.7, 0.8, 8.0
"""Where the history does not say."""
MOST_SPREAD, MOST_PATIENCE_MINUTES = 1.5, 30.0


@dataclass(frozen=True)
class Like:
    """What the small centre is made of."""

    csas: int
    handle_minutes: float
    resolved: float
    spread: float
    """How CSAs differ, class by class: standard deviation of log-odds."""
    patience_minutes: float | None
    """Mean; None: nobody gives up."""
    notes: tuple[str, ...]


def like(history: History) -> Like:
    """From what the history tells."""
    notes = []
    csas = int(np.clip(round(at_work(history, 1.0)), LEAST_CSAS, MOST_CSAS))
    minutes = _mean(history, "handle_minutes")
    if minutes is None:
        minutes = HANDLE_MINUTES
        notes.append(f"handling times are not told: {HANDLE_MINUTES:g} minutes assumed")
    resolved, spread = _mean(history, "resolved"), SPREAD
    if resolved is None or not 0.02 < resolved < 0.98:
        resolved = RESOLVED
        notes.append(f"outcomes are not told: {RESOLVED:.0%} resolved and a spread of {SPREAD:g} log-odds assumed")
    else:
        y = history.columns["resolved"]
        # Who does what how well: a CSA and an intent together.
        pair = np.where(history.csa >= 0, history.csa * (int(history.groups[0].max()) + 1) + history.groups[0], -1)
        share = icc(y, pair.astype(np.int64))[0]
        spread = float(np.clip(np.sqrt(share / (resolved * (1 - resolved))), 0.05, MOST_SPREAD))
    patience = _patience(history)
    if patience is None:
        notes.append("nobody gave up in the history, so nobody does here")
    elif patience > MOST_PATIENCE_MINUTES:
        # Queues would take weeks to settle, and what is shown would be that.
        notes.append(f"patience of {patience:,.0f} minutes on average is shortened to {MOST_PATIENCE_MINUTES:g}")
        patience = MOST_PATIENCE_MINUTES
    return Like(csas, minutes, resolved, spread, patience, tuple(notes))


def _mean(history: History, name: str) -> float | None:
    y = history.columns.get(name)
    return None if y is None or np.isnan(y).all() else float(np.nanmean(y))


def _patience(history: History) -> float | None:
    """Minutes, exponential, by the waits of those who gave up and of those who did not have to (Kaplan and Meier's
    hazard, held constant): time waited by all, for each who gave up."""
    lost, wait = history.columns["abandoned"], history.columns["wait_s"]
    gone = float(np.nansum(lost))
    return float(np.nansum(wait)) / 60 / gone if gone > 0 else None


def bed_of(of: Like, load: float, asked: Shown, seed: int) -> Testbed:
    """At a load, the queue against the pair that is believed to resolve the most a second: it is better and faster."""
    random = np.random.default_rng((seed, 97))
    log_odds = np.log(of.resolved / (1 - of.resolved))
    success = 1 / (1 + np.exp(-(log_odds + of.spread * random.standard_normal((CLASSES, of.csas)))))
    patience = Patience() if of.patience_minutes is None else Patience("exponential", of.patience_minutes * 60.0)
    pace = np.exp(0.25 * random.standard_normal((CLASSES, of.csas)) - 0.25**2 / 2)
    centre = Centre(
        tuple(f"class {k + 1}" for k in range(CLASSES)), tuple(f"CSA {j + 1}" for j in range(of.csas)),
        np.ones((CLASSES, asked.days * 24)), 60.0 * of.handle_minutes * pace, success, HOUR, patience=(patience,),
    ).at_load(load)  # fmt: skip
    known = believed(centre, asked.belief_error, seed)
    return Testbed(centre, fifo(), p_mu(centre, known), seed=seed)
