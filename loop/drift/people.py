"""Who does the work: joiners and leavers, and work that the bundle knows nothing of; and what the loop does to itself.

Notable: a policy that learns from its own choices narrows them, and nothing in its own metrics tells. What tells is how
evenly work is spread (inverse Simpson 1 / Σ s², Gini), who at work was given nothing, how many of the pairs of CSA and
intent that could have met did, and how often chance had a say: the mean of 1 − propensity is the share of choices that
would have been another one, had the dice fallen otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from loop.drift.inputs import coded, stability
from loop.drift.series import Doubles, Series, share, unknown
from loop.drift.windows import LEAST, Ints, Windows
from twotower.clock import NEVER

NAMED = 8
SAMPLE = 20_000
"""Contacts of a window, the latest, whose eligible pairs are counted."""


def roster(windows: Windows, holds: Sequence[str] | None = None, until: int | None = None) -> Iterator[Series]:
    """Churn. holds: ids of the CSAs of the bundle; until: end of its data window, µs UTC."""
    size, csas = len(windows), windows.log.csas
    begins, ids = windows.begins(), windows.log.csas.ids
    left = np.full(len(csas), NEVER)
    np.minimum.at(left, csas.csa, csas.left_at)
    outside = None
    if holds is not None and until is not None:
        outside = ~np.isin(np.array(ids.to_pylist()), np.array(list(holds))) | (begins >= until)
    joined, gone, at_work, new_work, far_work, work = (np.zeros(size) for _ in range(6))
    for w in range(size):
        low, high = windows.edges[w], windows.edges[w + 1]
        new, off = (begins >= low) & (begins < high), (left >= low) & (left < high)
        taken = windows.log.handovers.csa[windows.handovers(w)]
        at_work[w] = (windows.active(w) | off).sum()
        joined[w], gone[w], work[w] = new.sum(), off.sum(), len(taken)
        new_work[w] = new[taken].sum()
        far_work[w] = 0 if outside is None else outside[taken].sum()
    newest = windows.log.handovers.csa[windows.handovers(size - 1)]
    low, high = windows.edges[-2:]
    yield _share("roster.joiners", joined, at_work, 1, _names(ids, (begins >= low) & (begins < high)))
    yield _share("roster.leavers", gone, at_work, 1, _names(ids, (left >= low) & (left < high)))
    counts = np.bincount(newest, minlength=len(csas))
    yield _work("roster.work_of_joiners", new_work, work, at_work, _most(ids, counts * (begins >= low)))
    if outside is None:
        yield unknown("roster.work_outside_bundle", size, "no --bundle was given")
    else:
        yield _work("roster.work_outside_bundle", far_work, work, at_work, _most(ids, counts * outside))


def feedback(windows: Windows) -> Iterator[Series]:
    """Exploration, spread of work and coverage."""
    from evaluation.simulate.figures import gini

    moves, size = windows.log.handovers, len(windows)
    codes, names = coded(moves.policy)
    window = np.searchsorted(windows.edges, moves.assigned_at, side="right").astype(np.int64) - 1
    yield stability("feedback.psi_policy", windows, window, codes, names)
    yield _chance(windows)
    effective, uneven, untried = (np.full(size, np.nan) for _ in range(3))
    idle, at_work = np.zeros(size), np.zeros(size)
    for w in range(size):
        counts = np.bincount(moves.csa[windows.handovers(w)], minlength=len(windows.log.csas)).astype(np.float64)
        if counts.sum() < LEAST:
            continue
        here = windows.active(w)
        effective[w], uneven[w] = inverse_simpson(counts), gini(counts[here])
        idle[w], at_work[w] = (counts[here] == 0).sum(), here.sum()
        untried[w] = _untried(windows, w)
    newest = np.bincount(moves.csa[windows.handovers(size - 1)], minlength=len(windows.log.csas))
    most = _most(windows.log.csas.ids, newest)
    yield Series("feedback.effective_csas", effective, np.zeros(size), named=most)
    yield Series("feedback.gini", uneven, np.full(size, 0.01), named=most)
    yield _share("feedback.idle", idle, at_work, 1, {})
    if np.isfinite(untried).any():
        yield Series("feedback.untried", untried, np.full(size, 0.005))
    else:
        yield unknown("feedback.untried", size, "no contact tells an intent or a queue")


def inverse_simpson(counts: Doubles) -> float:
    """Effective number of CSAs of hand-overs (J,): as many as would share the work evenly."""
    return float(np.square(counts.sum()) / np.square(counts).sum())


def _chance(windows: Windows) -> Series:
    moves, name = windows.log.handovers, "feedback.chance"
    if not np.isfinite(moves.propensity).any():
        return unknown(name, len(windows), "no hand-over has a propensity")
    values, noise = np.full(len(windows), np.nan), np.full(len(windows), np.nan)
    for w in range(len(windows)):
        p = moves.propensity[windows.handovers(w)].astype(np.float64)
        other = 1 - p[np.isfinite(p)]
        if len(other) >= LEAST:
            values[w], noise[w] = other.mean(), other.std(ddof=1) / np.sqrt(len(other))
    return Series(name, values, noise)


def _untried(windows: Windows, w: int) -> float:
    """Share of the pairs of CSA and intent (queue, where no contact has an intent) that were eligible in a window and
    that no hand-over of the window was."""
    contacts, moves = windows.log.contacts, windows.log.handovers
    labels = contacts.intent if contacts.intent.null_count < len(contacts) else contacts.queue
    if labels.null_count == len(contacts):
        return float("nan")
    codes, names = coded(labels)
    here = windows.contacts(w)
    positions = np.arange(max(here.start, here.stop - SAMPLE), here.stop, dtype=np.int64)
    width = len(windows.log.csas)
    pairs = _eligible_pairs(windows, w, positions, codes, width)
    rows = np.flatnonzero((moves.contact >= positions[0]) & (moves.contact <= positions[-1]))
    rows = rows[moves.assigned_at[rows] < windows.edges[w + 1]]
    tried = np.unique(codes[moves.contact[rows]] * width + moves.csa[rows])
    untold = len(names) - 1  # without a label there is no pair to try
    pairs = pairs[pairs // width != untold]
    return float(1 - np.isin(pairs, tried).mean()) if len(pairs) else float("nan")


def _eligible_pairs(windows: Windows, w: int, positions: Ints, codes: Ints, width: int) -> Ints:
    """Keys, each once, code of the label · J + CSA."""
    lists = windows.log.contacts.eligible
    everyone = np.flatnonzero(windows.active(w))
    open_: npt.NDArray[np.bool_] = np.ones(len(positions), np.bool_) if lists is None else lists.all_[positions]
    keys = [(np.unique(codes[positions[open_]])[:, None] * width + everyone).ravel()]
    if lists is not None:
        taken = lists.take(positions)
        keys.append(codes[positions[taken.rows]] * width + taken.values)
    return np.unique(np.concatenate(keys))


def _work(name: str, part: Doubles, whole: Doubles, at_work: Doubles, named: dict[str, float]) -> Series:
    """Shares of the work; it comes by the CSA, so CSAs and not hand-overs are what scatters."""
    values, _ = share(part, whole, LEAST)
    return Series(name, values, share(values * at_work, at_work)[1], named=named)


def _share(name: str, part: Doubles, whole: Doubles, least: float, named: dict[str, float]) -> Series:
    values, noise = share(part, whole, least)
    return Series(name, values, noise, named=named)


def _names(ids: pa.Array, which: npt.NDArray[np.bool_]) -> dict[str, float]:
    return {str(ids[int(i)]): 1.0 for i in np.flatnonzero(which)[:NAMED]}


def _most(ids: pa.Array, counts: npt.NDArray[np.integer]) -> dict[str, float]:
    """The CSAs with the most hand-overs, and how many."""
    order = np.argsort(-counts, kind="stable")[:NAMED]
    return {str(ids[int(i)]): float(counts[i]) for i in order if counts[i]}
