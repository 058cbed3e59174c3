"""What CSAs say about themselves: skills and a profile in words, noisy and incomplete reflections of what they can do.

A CSA's true affinity to a line of business is ⟨mean need, θ⟩ over its norm. Each CSA reads it with noise and a bias of
their own (some are modest), and declares mostly what their queues need. Some declare nothing. A few revise
their declaration in the middle of the window, with less noise: a second dated row.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from evaluation.generate import catalogue, frames
from evaluation.generate.drift import week_of
from evaluation.generate.lexicon import Lexicon
from evaluation.generate.people import Staff
from evaluation.generate.settings import Settings
from evaluation.generate.world import World
from twotower.clock import DAY, NEVER, NULL_TIME, to_arrow
from twotower.tables import schema

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

NOISE, REVISED_NOISE, BIAS = 0.9, 0.4, 0.5
"""Standard deviations in units of the affinity's own."""
REVISED, SILENT_SKILLS, SILENT_PROFILE = 0.08, 0.08, 0.15
DECLARES_OWN, DECLARES_OTHER = 0.8, 0.2
"""Probability of declaring a line of business of one's own queues, and of others."""


@dataclass(frozen=True)
class Declaration:
    """One dated row of some CSAs."""

    csa: Ints
    valid_from: Ints
    skills: list[list[dict[str, Any]]]
    profile: list[str]


def csas_table(settings: Settings, ids: frames.Names, world: World, staff: Staff, lexicon: Lexicon) -> pa.Table:
    """csas.parquet: a row for every CSA and a later one for those who revised theirs."""
    random = settings.random("declared")
    everyone = np.arange(len(staff))
    rows = [_declare(settings, world, staff, lexicon, everyone, np.full(len(staff), NULL_TIME), NOISE, random)]
    middle = settings.begins + settings.days // 2 * DAY
    there = (staff.hired_at < middle - 28 * DAY) & (staff.left_at > middle + 28 * DAY)
    revising = np.flatnonzero(there & (random.random(len(staff)) < REVISED))
    when = settings.begins + random.integers(settings.days // 3, settings.days * 2 // 3, len(revising)) * DAY
    rows.append(_declare(settings, world, staff, lexicon, revising, when, REVISED_NOISE, random))
    capacity = random.integers(1, 4, len(staff))
    return pa.concat_tables([_table(settings, ids, staff, row, capacity) for row in rows])


def _table(settings: Settings, ids: frames.Names, staff: Staff, rows: Declaration, capacity: Ints) -> pa.Table:
    csa = rows.csa
    languages = [
        [settings.languages[code] for code in np.argsort(-row, kind="stable") if row[code] > 0]
        for row in staff.fluency[csa]
    ]
    columns = {
        "csa_id": pc.take(ids.csas, pa.array(csa)),
        "valid_from": to_arrow(rows.valid_from),
        "hired_at": to_arrow(staff.hired_at[csa]),
        "left_at": to_arrow(np.where(staff.left_at[csa] < settings.ends, staff.left_at[csa], NEVER)),
        "site": pa.array([catalogue.SITES[site] for site in staff.site[csa]]),
        "team": pa.array([f"T{team:02d}" for team in staff.team[csa]]),
        "languages": pa.array(languages, pa.list_(pa.string())),
        "skills": pa.array(rows.skills, schema.SKILLS),
        "profile": pa.array(rows.profile, pa.string()),
        "capacity": pa.array(capacity[csa]),
        "kind": pa.array(["csa"] * len(csa), pa.string()),
    }
    return pa.table(columns, schema=frames.arrow_schema(schema.CSAS))


def _declare(
    settings: Settings,
    world: World,
    staff: Staff,
    lexicon: Lexicon,
    csa: Ints,
    valid_from: Ints,
    noise: float,
    random: np.random.Generator,
) -> Declaration:
    theta = staff.theta_in(week_of(settings, np.maximum(valid_from, staff.hired_at[csa])), csa)
    domains = _perceived(theta, world.domain_centre, noise, random)
    causes = _perceived(theta, world.offset["cause"], noise, random)
    calm = staff.handling[csa] + random.normal(0, noise * 0.7, len(csa)) > 0.7
    in_queue = staff.queues[csa][:, np.array(catalogue.DOMAIN_QUEUE)]
    speaks_up = random.random((len(csa), 1)) >= SILENT_SKILLS
    declares = (random.random(in_queue.shape) < np.where(in_queue, DECLARES_OWN, DECLARES_OTHER)) & speaks_up
    level = np.round(np.clip(0.55 + 0.17 * domains, 0, 1), 2)
    names = tuple(catalogue.DOMAINS)
    skills = [
        [{"name": names[d], "level": float(level[row, d])} for d in np.flatnonzero(declares[row])]
        for row in range(len(csa))
    ]
    profile = [_profile(lexicon, domains[row], causes[row], bool(calm[row]), random) for row in range(len(csa))]
    return Declaration(csa, valid_from, skills, profile)


def _perceived(theta: npt.NDArray[np.float32], direction: Floats, noise: float, random: np.random.Generator) -> Floats:
    """(n, values) affinity to each direction as the CSAs see it, in its own standard deviations."""
    affinity = theta @ (direction / np.linalg.norm(direction, axis=1, keepdims=True)).T
    bias = random.normal(0, BIAS, (len(theta), 1))
    return np.asarray(affinity + bias + random.normal(0, noise, affinity.shape))


def _profile(lexicon: Lexicon, domains: Floats, causes: Floats, calm: bool, random: np.random.Generator) -> str:
    """A few sentences in the centre's first language, or nothing."""
    if random.random() < SILENT_PROFILE:
        return ""
    opens, strong, cause, upset = (lexicon.wording("profile", 0, part, random.random()) for part in range(4))
    sentences = [opens[0]]
    for domain in np.argsort(-domains)[: 1 + int(random.random() < 0.7)]:
        sentences.append(lexicon.wording("domain", 0, int(domain), 0.0)[0].join(strong))
        strong = lexicon.wording("profile", 0, 1, random.random())
    if random.random() < 0.6:
        sentences.append(lexicon.wording("cause", 0, int(causes.argmax()), random.random())[0].join(cause))
    if calm:
        sentences.append(upset[0])
    return " ".join(sentences)
