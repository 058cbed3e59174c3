"""A bandit log whose policies' values are known: what estimators and intervals are tried on.

Notable: nothing of a contact centre is in it. Contexts are Gaussian, rewards are Bernoulli with a logistic mean, the
logging policy is a softmax of other scores than those that the judged policy ranks by, mixed with chance so that every
action has at least `floor` of an equal share. The value is not a formula but the mean of Σ_a π(a | x) q(x, a) over
contexts; a draw of a million contexts tells it to 0.0005 (`true_value`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from evaluation.ope.rounds import Floats, Ints, Pairs, Rounds

DIMENSIONS = 5


@dataclass(frozen=True)
class Bandit:
    """A world of `actions` actions. `sharpness` of the judged policy's softmax, ∞ for greedy; `noise` in what it
    believes; `floor` the share of equal chance in the logging policy."""

    actions: int = 10
    sharpness: float = 1.0
    noise: float = 0.5
    floor: float = 0.3
    seed: int = 0

    def _weights(self) -> tuple[Floats, Floats, Floats]:
        random = np.random.default_rng((self.seed, 1))
        shape = (DIMENSIONS, self.actions)
        reward, logging = random.normal(0, 0.5, shape), random.normal(0, 0.4, shape)
        return reward, logging, reward + self.noise * random.normal(0, 0.5, shape)

    def contexts(self, size: int, seed: int) -> Floats:
        """(size, 5)."""
        return np.random.default_rng((self.seed, 2, seed)).normal(size=(size, DIMENSIONS))

    def success(self, contexts: Floats) -> Floats:
        """q(x, a) (n, actions)."""
        return np.asarray(1 / (1 + np.exp(-(contexts @ self._weights()[0] - 0.5))))

    def logging(self, contexts: Floats) -> Floats:
        """π₀ (n, actions)."""
        p = _softmax(contexts @ self._weights()[1])
        return np.asarray((1 - self.floor) * p + self.floor / self.actions)

    def target(self, contexts: Floats) -> Floats:
        """π (n, actions)."""
        score = contexts @ self._weights()[2]
        if np.isinf(self.sharpness):
            return np.asarray(np.arange(self.actions) == score.argmax(axis=1)[:, None], np.float64)
        return _softmax(self.sharpness * score)

    def true_value(self, size: int = 1_000_000) -> float:
        """V(π), by contexts that no log has."""
        total = 0.0
        for seed in range(20):
            x = self.contexts(size // 20, 1_000_000 + seed)
            total += float((self.target(x) * self.success(x)).sum(axis=1).mean())
        return total / 20

    def log(self, size: int, seed: int, error: float = 0.3, each: int = 1) -> Rounds:
        """A log of so many rounds, with a q̂ that is the true one with an error of its own in the log-odds.

        error: its standard deviation, by action and by dimension; the same in every log of a world. each: rounds that
        share a context, as the contacts of one customer do, and are a cluster; it divides `size`.
        """
        random = np.random.default_rng((self.seed, 3, seed))
        x = np.repeat(self.contexts(size // each, seed), each, axis=0)
        q, logging, target = self.success(x), self.logging(x), self.target(x)
        chosen = (np.cumsum(logging, axis=1) < random.random((size, 1))).sum(axis=1).clip(max=self.actions - 1)
        at = np.arange(size), chosen
        wrong = np.random.default_rng((self.seed, 4)).normal(0, error, (DIMENSIONS, self.actions))
        believed = 1 / (1 + np.exp(-(np.log(q / (1 - q)) + x @ wrong)))
        reward = (random.random(size) < q[at]).astype(np.float64)
        cluster = np.arange(size) // each if each > 1 else None
        expected = (target * believed).sum(axis=1)
        return Rounds(reward, logging[at], target[at], believed[at], expected, cluster=cluster)


def pairs_of(chosen: Ints, actions: int) -> Pairs:
    """Rounds in which everybody could have been chosen, as lists."""
    size = len(chosen)
    offsets = np.arange(size + 1, dtype=np.int64) * actions
    return Pairs(offsets, np.tile(np.arange(actions, dtype=np.int64), size), offsets[:-1] + chosen)


def _softmax(score: Floats) -> Floats:
    p = np.exp(score - score.max(axis=1, keepdims=True))
    return np.asarray(p / p.sum(axis=1, keepdims=True))
