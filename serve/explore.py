"""Exploration within a budget: now and then a contact goes to another than the predicted best, so that more is learnt.

A keyed hash of the contact gives u in (0, 1). With ω = `uniform` and s = `share`,

    u < ω        the uniform slice: anyone acceptable, with equal chances
    ω ≤ u < s    the policy, say Thompson sampling: logit ~ N(logit p_a, (scale · uncertainty_a)²), the largest is taken
    s ≤ u        greedy: the largest p_a
    π(a) = ω [a acceptable] / |acceptable| + (s − ω) P(policy takes a) + (1 − s) [a is the best]

Notable: what is random is the hash, over keys: for who does not know the key its values are independent uniform
numbers, one for each contact and purpose, whatever the order in which contacts come. The logged propensity is π(a), the
total probability over all of it, as above, and not the one given the part that happened to choose; inverse-propensity
weights need the former. P(policy takes a) is exact to 1e-9 (explore_chances.py). With the key everything is replayed:
the same contact and candidates give the same choice, bit for bit on one build of numpy, in whatever order they stand.

Acceptable is who is predicted to reach `floor` and to lose at most `most_loss` against the best. Urgent contacts go to
the best, with propensity 1, and so do those for whom nobody is acceptable. The best is the first of the candidates by
p, then by the logit that p is the calibrated map of, then by id: a map may be level, and then the logit still tells
them apart as the match does. Whatever else ties is decided in the same order.

Sources: Thompson, Biometrika 1933; Russo et al., "A tutorial on Thompson sampling", 2018; Horvitz and Thompson, JASA
1952, for the weights.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from serve.contact import MatchError
from serve.explore_chances import LEAST, Floats, chances_of_largest
from serve.explore_options import Exploration
from twotower.errors import ConfigError, shown
from twotower.scoring.calibration import EXTREME

Arm = Literal["uniform", "policy", "greedy"]
Ints = npt.NDArray[np.int64]

LEAST_KEY, MOST_KEY = 16, hashlib.blake2b.MAX_KEY_SIZE
LEAST_CHANCE = 1e-12  # of an acceptable candidate under Thompson sampling: what quadrature cannot tell from none


class Option(Protocol):
    """What is read of a candidate, such as `serve.answer.Candidate`."""

    @property
    def csa_id(self) -> str:
        """The CSA."""

    @property
    def p_resolved(self) -> float | None:
        """Predicted probability of success."""

    @property
    def uncertainty(self) -> float | None:
        """Posterior standard deviation of the logit of `p_resolved`."""

    @property
    def logit(self) -> float | None:
        """What orders those of equal `p_resolved`, the larger the better; None: behind those who have it."""


@dataclass(frozen=True)
class Decision:
    """Who was chosen for a contact, and with which probability. `as_json` is what a log keeps of it."""

    contact_id: str
    attempt: int
    urgent: bool
    csa_id: str
    """The chosen."""
    propensity: float
    """π of the chosen: total probability over the hash, so never that given `arm` alone."""
    policy: str
    """The whole policy that `propensity` belongs to: its kind and a digest of all options."""
    arm: Arm
    """Which part of it chose: the uniform slice, the policy proper, or greedy."""
    loss: float
    """Predicted loss against the best, 0 … `most_loss`."""
    csa_ids: tuple[str, ...]
    """All candidates, in the order given."""
    propensities: tuple[float, ...]
    """π of each; they sum to 1."""
    seed: int
    salt: str
    """Version of the key, and eight digits by which a replay knows whether it has the same one."""

    def interaction(self) -> dict[str, Any]:
        """What a row of interactions.parquet takes from it: contact_id, csa_id, policy and propensity."""
        return {name: getattr(self, name) for name in ("contact_id", "csa_id", "policy", "propensity")}

    def as_json(self) -> str:
        """One line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, line: str) -> Decision:
        """What `as_json` wrote. Raises MatchError for anything else."""
        try:
            found = json.loads(line)
            lists = {name: tuple(found[name]) for name in ("csa_ids", "propensities")}
            return cls(**{**found, **lists})
        except (ValueError, KeyError, TypeError) as error:
            raise MatchError(f"not a decision of this version ({error}): {line[:60]!r}") from None


@dataclass(frozen=True)
class _Pool:
    """Candidates, the best first: `p` f8[n], `acceptable` i8[m] places; `place` i8[n] where each candidate given
    stands. So whatever is compared, the first of the largest is the best of those who tie."""

    candidates: list[Option]
    place: Ints
    p: Floats
    acceptable: Ints


class Explorer:
    """Chooses among a contact's candidates. Safe to call from several threads.

    options: what may be explored; key: 16 to 64 secret bytes that nobody who can name a contact knows. Raises
    ConfigError for a key of another length or no bytes.
    """

    def __init__(self, options: Exploration, key: bytes) -> None:
        if not isinstance(key, bytes | bytearray):
            raise ConfigError(
                f"the key of exploration: bytes are expected, got {type(key).__name__}; read them from their file with "
                "Path.read_bytes()"
            )
        if not LEAST_KEY <= len(key) <= MOST_KEY:
            raise ConfigError(
                f"the key of exploration has {len(key)} bytes; {LEAST_KEY} to {MOST_KEY} are expected, "
                "such as secrets.token_bytes(32) makes"
            )
        self.options = options
        self.policy = options.name
        self._random = hashlib.blake2b(digest_size=8, key=key, person=b"explore")
        self._random.update(_framed(str(options.seed), options.salt))
        check = hashlib.blake2b(digest_size=4, key=key, person=b"explore-key").hexdigest()
        self.salt = f"{options.salt}:{check}"

    def choose(self, contact_id: str, candidates: Sequence[Option], *, urgent: bool, attempt: int = 0) -> Decision:
        """Chooses one of the candidates that a match returned; all it could return, or those left out are never tried.

        urgent: whether the contact must not be explored. It is the caller's word and has no default: what a number
        says of priority, and when a deadline is near, differs from centre to centre. attempt: how many hand-overs the
        contact had already; each draws anew, and the same one asked again gets the same answer.

        Raises MatchError where there is no candidate, one stands there twice, or lacks what the policy needs, and for
        an `urgent` that is neither True nor False (numpy's are), or an `attempt` that is no whole number from 0 on.
        """
        if not isinstance(contact_id, str):
            raise MatchError(f"contact_id: a text is expected, got {type(contact_id).__name__}")
        urgent, attempt = _flag(urgent), _count(attempt)
        pool = self._pool(candidates)
        share, uniform = self.options.share, self.options.uniform
        if urgent or not len(pool.acceptable):
            share = uniform = 0.0
        random = self._random.copy()
        random.update(_framed(contact_id, str(attempt)))
        drawn = _uniform(random, "arm")
        arm: Arm = "uniform" if drawn < uniform else "policy" if drawn < share else "greedy"
        found = self._mixture(pool, share, uniform)
        chosen = self._take(arm, pool, random)
        return Decision(
            contact_id=contact_id,
            attempt=attempt,
            urgent=urgent,
            csa_id=pool.candidates[chosen].csa_id,
            propensity=float(found[chosen]),
            policy=self.policy,
            arm=arm,
            loss=float(pool.p[0] - pool.p[chosen]),
            csa_ids=tuple(one.csa_id for one in candidates),
            propensities=tuple(found[pool.place].tolist()),
            seed=self.options.seed,
            salt=self.salt,
        )

    def replay(self, decision: Decision, candidates: Sequence[Option]) -> Decision:
        """The decision made again, from the contact and the candidates alone; equal to the one that was logged.

        candidates: as they were then, in any order. Raises ConfigError where the explorer has other options or another
        key, MatchError where the candidates are others.
        """
        for name, mine in (("policy", self.policy), ("salt", self.salt)):
            if getattr(decision, name) != mine:
                raise ConfigError(
                    f"replay: contact {decision.contact_id!r} was decided with {name} {getattr(decision, name)!r}, "
                    f"this explorer has {mine!r}; make one with the options and the key of that time"
                )
        there = {one.csa_id: one for one in candidates}
        if there.keys() != set(decision.csa_ids) or len(there) != len(candidates):
            raise MatchError(f"replay: contact {decision.contact_id!r} had other candidates when it was decided")
        again = [there[csa_id] for csa_id in decision.csa_ids]
        return self.choose(decision.contact_id, again, urgent=decision.urgent, attempt=decision.attempt)

    def _pool(self, candidates: Sequence[Option]) -> _Pool:
        """The candidates checked and in an order of their own, so that the one given does not matter."""
        if not candidates:
            raise MatchError("candidates: none, so nobody can be chosen; ask only where a match returned somebody")
        for csa_id, many in Counter(one.csa_id for one in candidates).items():
            if many > 1:
                raise MatchError(f"candidates: {csa_id!r} stands there twice")
        ranks = [(-_probability(one), -_logit(one), one.csa_id) for one in candidates]
        order = sorted(range(len(candidates)), key=ranks.__getitem__)
        place = np.empty(len(order), dtype=np.int64)
        place[order] = np.arange(len(order))
        p = np.array([-ranks[i][0] for i in order], dtype=np.float64)
        fine = (p >= self.options.floor) & (p[0] - p <= self.options.most_loss)
        return _Pool([candidates[i] for i in order], place, p, np.flatnonzero(fine))

    def _mixture(self, pool: _Pool, share: float, uniform: float) -> Floats:
        """π (n,) of everyone in the pool's order."""
        found = np.zeros(len(pool.p))
        if share > 0:
            found[pool.acceptable] = uniform / len(pool.acceptable)
            if share > uniform:
                found[pool.acceptable] += (share - uniform) * self._chances(pool)
        found[0] += 1 - share
        return np.minimum(found, 1.0)

    def _chances(self, pool: _Pool) -> Floats:
        """P(policy takes a) (m,) of the acceptable."""
        many = len(pool.acceptable)
        if self.options.policy == "uniform":
            return np.full(many, 1 / many)
        if self.options.policy == "thompson" and many > 1:
            mean, deviation = self._beliefs(pool)
            chances = np.maximum(chances_of_largest(mean, deviation), LEAST_CHANCE)
            return np.asarray(chances / chances.sum())
        return np.asarray(pool.acceptable == self._certain(pool), dtype=np.float64)

    def _take(self, arm: Arm, pool: _Pool, random: hashlib.blake2b) -> int:
        """The place of who is chosen, by one part of the mixture."""
        if arm == "greedy" or len(pool.acceptable) == 1:
            return 0
        if arm == "uniform" or self.options.policy == "uniform":
            # By id, so that who it is depends on who is acceptable alone.
            by_id = sorted(pool.acceptable.tolist(), key=lambda i: pool.candidates[i].csa_id)
            return int(by_id[int(_uniform(random, "uniform") * len(by_id))])
        if self.options.policy == "thompson":
            mean, deviation = self._beliefs(pool)
            names = [pool.candidates[i].csa_id for i in pool.acceptable]
            noise = np.array([_NORMAL.inv_cdf(_uniform(random, "thompson", name)) for name in names])
            return int(pool.acceptable[int((mean + deviation * noise).argmax())])
        return self._certain(pool)

    def _certain(self, pool: _Pool) -> int:
        """The place of who a policy without chance takes."""
        if self.options.policy == "greedy" or len(pool.acceptable) == 1:
            return 0
        mean, deviation = self._beliefs(pool)
        return int(pool.acceptable[int((mean + deviation).argmax())])

    def _beliefs(self, pool: _Pool) -> tuple[Floats, Floats]:
        """Means and scaled deviations (m,) of the acceptable candidates' logits."""
        p = np.clip(pool.p[pool.acceptable], EXTREME, 1 - EXTREME)
        deviation = np.array([self._uncertainty(pool.candidates[i]) for i in pool.acceptable]) * self.options.scale
        return np.log(p) - np.log1p(-p), np.where(deviation < LEAST, 0.0, deviation)

    def _uncertainty(self, candidate: Option) -> float:
        value = candidate.uncertainty
        if value is None:
            raise MatchError(
                f"candidate {candidate.csa_id!r}: uncertainty is None, so {self.options.policy} does not know what is "
                "open; export a bundle that states it, or set policy: uniform"
            )
        if not 0 <= value < math.inf:
            raise MatchError(f"candidate {candidate.csa_id!r}: uncertainty {value}; a deviation of 0 or more expected")
        return value


_NORMAL = NormalDist()


def _probability(candidate: Option) -> float:
    p = candidate.p_resolved
    if p is None:
        raise MatchError(
            f"candidate {candidate.csa_id!r}: p_resolved is None, as the bundle's log had no failures; explore with a "
            "bundle that was trained on outcomes, or take the first candidate as it is"
        )
    if not 0 <= p <= 1:
        raise MatchError(f"candidate {candidate.csa_id!r}: p_resolved {p}; a probability is expected")
    return p


def _logit(candidate: Option) -> float:
    logit = candidate.logit
    if logit is None:
        return -math.inf
    if math.isnan(logit):
        raise MatchError(f"candidate {candidate.csa_id!r}: logit {logit}; a number or None is expected")
    return float(logit)


def _flag(urgent: object) -> bool:
    if not isinstance(urgent, bool | np.bool_):
        raise MatchError(f"urgent: True or False expected, got {shown(urgent)}; the caller says which contacts are")
    return bool(urgent)


def _count(attempt: object) -> int:
    if isinstance(attempt, bool) or not isinstance(attempt, int | np.integer) or attempt < 0:
        raise MatchError(f"attempt: a whole number from 0 on is expected, got {shown(attempt)}")
    return int(attempt)


def _framed(*texts: str) -> bytes:
    """Texts as bytes of which no two lists give the same."""
    coded = [text.encode("utf-8", "surrogatepass") for text in texts]
    return b"".join(len(one).to_bytes(4, "big") + one for one in coded)


def _uniform(random: hashlib.blake2b, *purpose: str) -> float:
    """A number in (0, 1) of 52 bits, the centre of its interval."""
    mine = random.copy()
    mine.update(_framed(*purpose))
    return ((int.from_bytes(mine.digest(), "big") >> 12) + 0.5) / (1 << 52)
