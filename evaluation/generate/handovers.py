"""What came of the queue's choices: outcomes, handle times, ratings, transfers, and when each outcome became known.

`resolved` is a Bernoulli draw from the true probability (latents.py) and nothing else: of the unresolved, some are
transferred to a second CSA, drawn by the same softmax among the other eligible who may be given one, whose outcome
again is a draw from the true probability of the pair at the contact's arrival. Of the outcomes that end a contact,
which stay unknown or come late does not depend on what they are; a transfer is known at once.

    log handle time = log median[channel] − 0.25·speed_a + 0.25·difficulty + 0.25·[not resolved] + N(0, 0.45²)
    csat            = 3.1 + 1.4·[resolved] − 0.7·upset + 0.4·h_a + N(0, 0.7²), rounded into 1..5, given by a minority
    quality score   = 0.60 + 0.10·[resolved] + 0.25·q_a + N(0, 0.12²), clipped into 0..1, for a small sample
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from evaluation.generate.arrivals import Contacts
from evaluation.generate.latents import Latents
from evaluation.generate.queue import Choice, draw, normalise
from twotower.clock import HOUR, NEVER, SECOND

Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]

WAIT_S = np.array([45.0, 90.0, 3600.0, 5400.0])
HANDLE_S = np.array([540.0, 400.0, 700.0, 420.0])
"""Mean wait and median handle time by channel."""
TRANSFER = 0.17
"""Probability that an unresolved hand-over is transferred."""
UNKNOWN, LATE = 0.03, 0.35
LATE_MEDIAN, LATE_LONGEST = 20 * HOUR, 216 * HOUR
RATED, RATED_IF_BAD, SAMPLED = 0.24, 0.12, 0.06
PATIENCE_S = 300.0


@dataclass(frozen=True)
class Handovers:
    """Hand-overs of one block of contacts; positions of contacts and CSAs in the whole centre."""

    contact: Ints
    csa: Ints
    assigned_at: Ints
    ended_at: Ints
    known_at: Ints
    """NEVER where the outcome stays unknown."""
    resolved: Flags
    csat: Floats
    """NaN where not given."""
    quality_score: Floats
    handle_time_s: Floats
    transferred: Flags
    propensity: Floats


def draw_handovers(
    latents: Latents, contacts: Contacts, rows: slice, choice: Choice, random: np.random.Generator
) -> Handovers:
    """First hand-overs of a block, then the transfers out of them."""
    served = np.flatnonzero(choice.chosen >= 0)
    at = choice.chosen[served]
    contact = served + rows.start
    wait = _seconds(random.exponential(WAIT_S[contacts.channel[contact]]))
    assigned_at = contacts.arrived_at[contact] + wait
    first = _handle(latents, contacts, contact, choice.csa[at], assigned_at, choice.logged[at], True, random)
    rest, believed = (_of_the_rest(choice, at, part) for part in (choice.propensity, choice.logged))
    row = np.repeat(np.arange(len(choice.chosen)), np.diff(choice.offsets))
    others = np.bincount(row, rest, len(choice.chosen))[served] > 0
    moved = first.transferred & others
    first = _with(first, transferred=moved)

    again = draw(rest, choice.offsets, random.random(len(choice.chosen)))[served][moved]
    begins = first.ended_at[moved] + _seconds(random.exponential(60.0, len(again)))
    second = _handle(latents, contacts, contact[moved], choice.csa[again], begins, believed[again], False, random)
    known = _known_at(first, random)
    return _join(_with(first, known_at=known), _with(second, known_at=_known_at(second, random)))


def _of_the_rest(choice: Choice, at: Ints, propensity: Floats) -> Floats:
    """(pairs,) probabilities of who takes a transfer: those eligible who help, but for who was chosen first."""
    rest = np.where(choice.helps, propensity, 0.0)
    rest[at] = 0
    return normalise(rest, choice.offsets)


def abandoned_at(arrived_at: Ints, chosen: Ints, random: np.random.Generator) -> Ints:
    """(n,) when a contact that nobody could take gave up; NEVER for the others."""
    left = arrived_at + _seconds(5 + random.exponential(PATIENCE_S, len(arrived_at)))
    return np.where(chosen < 0, left, NEVER)


def _handle(
    latents: Latents,
    contacts: Contacts,
    contact: Ints,
    csa: Ints,
    assigned_at: Ints,
    propensity: Floats,
    may_transfer: bool,
    random: np.random.Generator,
) -> Handovers:
    """Hand-overs with everything but the moment at which the outcome is known."""
    n = len(contact)
    resolved = random.random(n) < latents.p_resolved(contact, csa)
    upset, good = latents.upset[contact], resolved.astype(np.float64)
    spread = random.normal(0, 0.45, n) - 0.25 * latents.speed[csa] + 0.25 * latents.difficulty[contact]
    handle = np.round(HANDLE_S[contacts.channel[contact]] * np.exp(spread + 0.25 * (1 - good)), 1)
    rating = 3.1 + 1.4 * good - 0.7 * upset + 0.4 * latents.handling[csa] + random.normal(0, 0.7, n)
    rated = random.random(n) < RATED + RATED_IF_BAD * (1 - good)
    score = 0.60 + 0.10 * good + 0.25 * latents.quality[csa] + random.normal(0, 0.12, n)
    sampled = random.random(n) < SAMPLED
    moves = random.random(n) < TRANSFER
    return Handovers(
        contact=contact,
        csa=csa,
        assigned_at=assigned_at,
        ended_at=assigned_at + _seconds(handle),
        known_at=np.full(n, NEVER),
        resolved=resolved,
        csat=np.where(rated, np.clip(np.round(rating), 1, 5), np.nan),
        quality_score=np.where(sampled, np.round(np.clip(score, 0, 1), 2), np.nan),
        handle_time_s=handle,
        transferred=moves & ~resolved if may_transfer else np.zeros(n, dtype=bool),
        propensity=propensity,
    )


def _known_at(handovers: Handovers, random: np.random.Generator) -> Ints:
    """A transfer is known at once; other outcomes at the end, or hours to days later, or never."""
    n = len(handovers.contact)
    delay = np.minimum(LATE_MEDIAN * np.exp(random.normal(0, 0.9, n)), LATE_LONGEST).astype(np.int64) // SECOND * SECOND
    fate = random.random(n)
    late = (fate >= UNKNOWN) & (fate < UNKNOWN + LATE) & ~handovers.transferred
    known = handovers.ended_at + np.where(late, delay, 0)
    return np.where((fate < UNKNOWN) & ~handovers.transferred, NEVER, known)


def _seconds(values: npt.NDArray[np.floating]) -> Ints:
    return np.asarray(np.ceil(values) * SECOND, dtype=np.int64)


def _with(handovers: Handovers, **changes: npt.NDArray[np.generic]) -> Handovers:
    return Handovers(**{**vars(handovers), **changes})


def _join(first: Handovers, second: Handovers) -> Handovers:
    pairs = zip(vars(first).items(), vars(second).values(), strict=True)
    return Handovers(**{name: np.concatenate([one, two]) for (name, one), two in pairs})
