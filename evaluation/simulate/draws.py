"""Random numbers that belong to a contact, not to a moment: common random numbers across policies.

Notable: every number is a function of the contact's key and of what it is for (how long it will take, how it will
end), by the finaliser of SplitMix64 (Steele, Lea and Flood, 2014). So the same contact has the same luck under every
policy, whoever takes it and whenever, and the difference between two policies has a small variance. A contact that
comes back has a key made of its first one.
"""

from __future__ import annotations

import math

import numpy as np

from evaluation.simulate.borrow import entry, inner

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
# What a number is for.
HANDLE, OUTCOME, REPEAT, DELAY, TRANSFER, CHOICE, PATIENCE, CHILD, AFTER = (np.uint64(2 * i) for i in range(1, 10))


@inner
def mix(z: np.uint64) -> np.uint64:
    """64 bits that look random, of 64 bits."""
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@inner
def uniform(key: np.uint64, purpose: np.uint64) -> float:
    """In (0, 1)."""
    return (float(mix(key + purpose * GOLDEN) >> np.uint64(11)) + 0.5) * 2.0**-53


@inner
def normal(key: np.uint64, purpose: np.uint64) -> float:
    """Standard normal, by Box and Muller; takes this purpose's number and the next."""
    radius = math.sqrt(-2.0 * math.log(uniform(key, purpose)))
    return radius * math.cos(2.0 * math.pi * uniform(key, purpose + np.uint64(1)))


@inner
def child(key: np.uint64) -> np.uint64:
    """The key of the contact that comes of this one, by a repeat or a transfer."""
    return mix(key + CHILD * GOLDEN)


@entry
def keys_of(seed: np.uint64, count: int) -> np.ndarray:
    """Keys (count,) of contacts 0, 1, … of a replication."""
    keys = np.empty(count, np.uint64)
    for i in range(count):
        keys[i] = mix(seed + np.uint64(i + 1) * GOLDEN)
    return keys
