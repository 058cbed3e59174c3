"""Who works in the centre and who turns to it.

A CSA's unknowns are a skill vector θ (16), an overall quality q and a way with upset customers h. They are Gaussian
about means that team and site share; the individual part holds four fifths of the variance of θ, so it has to be learnt
one CSA at a time:

    θ_a = site + team + lean·(mean need of the team's queue) + √0.8·N(0, I)
    q_a ~ N(0, 0.26²)       h_a ~ N(0, 0.70²)
    speed_a = −0.75·q_a / 0.26 + √(1 − 0.75²)·N(0, 1)

Fast CSAs are the worse ones on average, and the legacy queue favours the fast (queue.py): exposure and quality are
confounded. What a CSA declares (skills, profile) is a noisy and incomplete reflection of θ. Under `drift` θ moves from
week to week (drift.py).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from evaluation.generate import catalogue
from evaluation.generate.drift import walked_skills
from evaluation.generate.settings import Settings
from evaluation.generate.world import DIMENSIONS, Floats, World, choose
from twotower.clock import DAY, NEVER

Ints = npt.NDArray[np.int64]

SITE_SD, TEAM_SD, LEAN, INDIVIDUAL_SD = 0.25, 0.35, 0.40, 0.8**0.5
QUALITY_SD, HANDLING_SD = 0.26, 0.70
SPEED_AGAINST_QUALITY = 0.75
PER_TEAM = 16
JOINERS, LEAVERS = 0.22, 0.07
"""Shares of the roster that join and leave inside the window; half of the joiners come in its last fifth."""
SECOND_LANGUAGE, THIRD_LANGUAGE = 0.65, 0.30
ON_SHIFT = 0.305
"""Share of the roster on shift when a contact arrives, on average (queue.py)."""


@dataclass(frozen=True)
class Staff:
    """All CSAs; J of them, L languages."""

    site: Ints
    team: Ints
    queues: npt.NDArray[np.bool_]
    """(J, queues) whose contacts a CSA may be given."""
    fluency: npt.NDArray[np.float32]
    """(J, L), 0 where the language is not spoken, 1 for a native."""
    hired_at: Ints
    left_at: Ints
    """NEVER for who stays."""
    most: Ints
    """Contacts that a CSA is given before the test begins, at most; NEVER where nothing bounds them (joiners.py)."""
    theta: npt.NDArray[np.float32]
    """(J, D), in the first week where skills move."""
    skills: npt.NDArray[np.float32] | None
    """(weeks, J, D) θ week by week, None where it stays."""
    quality: npt.NDArray[np.float32]
    handling: npt.NDArray[np.float32]
    speed: npt.NDArray[np.float32]
    prior_mean: npt.NDArray[np.float32]
    """(J, D + 2) mean that (θ, quality, handling) was drawn about."""
    prior_sd: npt.NDArray[np.float32]
    """(D + 2,) standard deviations, independent of each other."""

    def __len__(self) -> int:
        return len(self.site)

    def theta_in(self, week: Ints, csa: Ints) -> npt.NDArray[np.float32]:
        """(n, D) θ of CSAs in weeks of the window."""
        return self.theta[csa] if self.skills is None else self.skills[week, csa]


@dataclass(frozen=True)
class Customers:
    """Who contacts the centre; K of them."""

    language: Ints
    style: Ints
    temper: npt.NDArray[np.float32]
    """Inclination to be upset, in logits."""
    domain: Ints
    """Line of business that about half of their contacts concern."""
    product: Ints
    """Which of its five products they own."""
    circumstance: Ints


def draw_staff(settings: Settings, world: World) -> Staff:
    """Draws the roster."""
    random = settings.random("staff")
    size, sites, queues = settings.csas, len(catalogue.SITES), len(catalogue.QUEUES)
    teams = max(queues, round(size / PER_TEAM))
    team = random.permutation(np.arange(size) % teams)
    site = team % sites
    home = (team // sites) % queues if teams >= sites * queues else team % queues
    fluency = _fluency(settings, random)
    member = random.random((size, queues)) < _coverage(settings, fluency)
    member[np.arange(size), home] = True
    prior_mean = _prior_mean(world, site, team, home, random)
    prior_sd = np.array([INDIVIDUAL_SD] * DIMENSIONS + [QUALITY_SD, HANDLING_SD])
    unknown = prior_mean + prior_sd * random.normal(0, 1, prior_mean.shape)
    speed = -SPEED_AGAINST_QUALITY * unknown[:, DIMENSIONS] / QUALITY_SD
    speed += np.sqrt(1 - SPEED_AGAINST_QUALITY**2) * random.normal(0, 1, size)
    hired_at, left_at = _careers(settings, random)
    return Staff(
        site=site,
        team=team,
        queues=member,
        fluency=fluency,
        hired_at=hired_at,
        left_at=left_at,
        most=np.full(size, NEVER),
        theta=unknown[:, :DIMENSIONS].astype(np.float32),
        skills=walked_skills(settings, unknown[:, :DIMENSIONS], prior_mean[:, :DIMENSIONS], INDIVIDUAL_SD),
        quality=unknown[:, DIMENSIONS].astype(np.float32),
        handling=unknown[:, DIMENSIONS + 1].astype(np.float32),
        speed=speed.astype(np.float32),
        prior_mean=prior_mean.astype(np.float32),
        prior_sd=prior_sd.astype(np.float32),
    )


def draw_customers(settings: Settings, world: World) -> Customers:
    """Draws one customer for every four contacts."""
    random = settings.random("customers")
    size = max(10, settings.contacts // 4)
    domain = choose(world.domain, random.random(size, np.float32))
    return Customers(
        language=choose(np.cumsum(language_shares(settings)), random.random(size, np.float32)),
        style=choose(np.array([0.35, 0.65, 1.0]), random.random(size, np.float32)),
        temper=random.normal(0, 0.7, size).astype(np.float32),
        domain=domain,
        product=random.integers(0, catalogue.PER_INTENT, size),
        circumstance=random.integers(0, len(catalogue.SLOTS["circumstance"]), size),
    )


def language_shares(settings: Settings) -> Floats:
    """Share of the contacts in each language: 1, 1/2, 1/3, … of the first."""
    weights = 1 / np.arange(1, len(settings.languages) + 1)
    return np.asarray(weights / weights.sum())


def _prior_mean(world: World, site: Ints, team: Ints, home: Ints, random: np.random.Generator) -> Floats:
    """(J, D + 2) means of the unknowns: site and team, with a lean towards what the team's queue needs."""
    queue_of = np.array(catalogue.DOMAIN_QUEUE)
    needed = np.stack([world.domain_centre[queue_of == queue].mean(axis=0) for queue in range(len(catalogue.QUEUES))])
    mean = random.normal(0, SITE_SD, (site.max() + 1, DIMENSIONS))[site]
    mean += random.normal(0, TEAM_SD, (team.max() + 1, DIMENSIONS))[team] + LEAN * needed[home]
    return np.concatenate([mean, np.zeros((len(site), 2))], axis=1)


def _coverage(settings: Settings, fluency: npt.NDArray[np.float32]) -> float:
    """Probability c that a CSA serves a queue besides their own, so that 4/3 of the wanted eligible are left to thin.

    Of the CSAs on shift who speak the contact's language, a share 1/3 + 2/3·c serves its queue.
    """
    speaking = float(language_shares(settings) @ (fluency > 0).mean(axis=0))
    wanted = settings.eligible / (0.75 * ON_SHIFT * speaking * settings.csas)
    return float(np.clip((wanted - 1 / 3) * 1.5, 0.15, 1.0))


def _fluency(settings: Settings, random: np.random.Generator) -> npt.NDArray[np.float32]:
    """(J, L): a native language drawn as customers' are, perhaps a second and a third."""
    size, languages = settings.csas, len(settings.languages)
    fluency = np.zeros((size, languages), dtype=np.float32)
    native = choose(np.cumsum(language_shares(settings)), random.random(size, np.float32))
    liking = np.where(np.arange(languages) == native[:, None], -1.0, random.random((size, languages)))
    order = np.argsort(liking, axis=1)
    levels = (np.ones(size), random.uniform(0.70, 0.95, size), random.uniform(0.55, 0.85, size))
    spoken = (np.ones(size), random.random(size) < SECOND_LANGUAGE, random.random(size) < THIRD_LANGUAGE)
    further = np.ones(size, dtype=bool)
    for rank in range(min(3, languages)):
        further &= spoken[rank].astype(bool)
        fluency[np.arange(size), order[:, rank]] = np.where(further, levels[rank], 0)
    return fluency


def _careers(settings: Settings, random: np.random.Generator) -> tuple[Ints, Ints]:
    """hired_at and left_at, at midnight: veterans of two months to seven years, joiners, and veterans who leave."""
    size = settings.csas
    who = random.permutation(size)
    joiners, leavers = max(4, round(JOINERS * size)), max(1, round(LEAVERS * size))
    before = np.exp(random.uniform(np.log(60), np.log(2500), size)).astype(np.int64)
    hired_at = settings.begins - before * DAY
    late = joiners // 2
    # One joiner per equal part of the time: every world has CSAs with no, few and some hand-overs at the test split.
    spread = (np.arange(joiners - late) + random.random(joiners - late)) / (joiners - late) * 0.8
    fresh = 0.8 + (np.arange(late) + random.random(late)) / late * 0.19
    day = (np.concatenate([spread, fresh]) * settings.days).astype(np.int64)
    hired_at[who[:joiners]] = settings.begins + day * DAY
    left_at = np.full(size, NEVER, dtype=np.int64)
    gone = who[joiners : joiners + leavers]
    left_at[gone] = settings.begins + random.integers(settings.days // 6, settings.days, len(gone)) * DAY
    return hired_at, left_at
