"""How the texts move: by their words, and by what the contact tower makes of them.

Without a bundle, tokens are hashed into B buckets and adjacent windows compared by the Jensen–Shannon divergence of
their frequencies (Lin 1991), in bits, 0..1. With one, by the distance of mean vectors, as share of what they scatter:

    d = (‖m₁ − m₂‖² − tr Σ (1/n₁ + 1/n₂)) / tr Σ

Notable: d is unbiased: where nothing moves it scatters about 0 whatever the sizes of the windows, with standard
deviation √(2 tr Σ²) (1/n₁ + 1/n₂) / tr Σ (the linear maximum mean discrepancy, Gretton et al. 2012). Of large windows a
sample is read. Words are named only where many contacts have them, as texts may hold what is nobody's business.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING
from zlib import crc32

import numpy as np
import numpy.typing as npt

from loop.drift.series import Doubles, Series, unknown
from loop.drift.windows import LEAST, Ints, Windows
from twotower.progress import track

if TYPE_CHECKING:
    from serve.rolling import RollingMatcher

BUCKETS = 4096
SAMPLE = 4000
NAMED, NAMED_LEAST = 8, 20
_WORD = re.compile(r"\w+")


def sampled(windows: Windows, w: int, seed: int) -> Ints:
    """Positions, ascending, of at most SAMPLE contacts of a window."""
    here = windows.contacts(w)
    positions = np.arange(here.start, here.stop, dtype=np.int64)
    if len(positions) <= SAMPLE:
        return positions
    return np.sort(np.random.default_rng((seed, w)).choice(positions, SAMPLE, replace=False))


def words(windows: Windows, seed: int = 0) -> Series:
    """Divergence of hashed word frequencies between adjacent windows."""
    frequencies, having = [], []
    for w in track(range(len(windows)), "words", unit="window"):
        found, had = _counted(windows, sampled(windows, w, seed))
        frequencies.append(found)
        having.append(had)
    if not any(one.any() for one in frequencies):
        return unknown("input.words", len(windows), "no contact has text")
    values = np.full(len(windows), np.nan)
    for w in range(1, len(windows)):
        if min(frequencies[w - 1].sum(), frequencies[w].sum()) >= LEAST:
            values[w] = jensen_shannon(frequencies[w - 1], frequencies[w])
    return Series("input.words", values, np.zeros(len(windows)), named=_moved(having[-2], having[-1]))


def jensen_shannon(one: Doubles, other: Doubles) -> float:
    """Divergence in bits of two vectors of counts."""
    from scipy.special import rel_entr

    p, q = one / one.sum(), other / other.sum()
    mean = (p + q) / 2
    return float(max((rel_entr(p, mean) + rel_entr(q, mean)).sum() / (2 * np.log(2)), 0.0))


def vectors(windows: Windows, rolling: RollingMatcher, seed: int = 0) -> Series:
    """Distance of adjacent windows' mean profile vectors of the contact tower."""
    chosen = [sampled(windows, w, seed) for w in range(len(windows))]
    read = [rolling.contacts(one).profile.astype(np.float64) for one in chosen]
    values, noise = np.full(len(windows), np.nan), np.full(len(windows), np.nan)
    for w in range(1, len(windows)):
        if min(len(read[w - 1]), len(read[w])) >= LEAST:
            values[w], noise[w] = distance(read[w - 1], read[w])
    return Series("input.vectors", values, noise)


def distance(one: Doubles, other: Doubles) -> tuple[float, float]:
    """d of two sets of vectors (n, E) and (m, E), and its standard deviation where nothing moved."""
    n, m = len(one), len(other)
    inner = [part - part.mean(axis=0) for part in (one, other)]
    cov = sum(part.T @ part for part in inner) / (n + m - 2)
    total = float(np.trace(cov))
    if total <= 0:
        return 0.0, 0.0
    gap = one.mean(axis=0) - other.mean(axis=0)
    each = 1 / n + 1 / m
    return float((gap @ gap - total * each) / total), float(np.sqrt(2 * np.square(cov).sum()) * each / total)


def _counted(windows: Windows, positions: Ints) -> tuple[Doubles, Counter[str]]:
    """Frequencies (BUCKETS,) of hashed words, and in how many contacts each word stands."""
    contacts, had = windows.log.contacts, Counter[str]()
    buckets: Counter[int] = Counter()
    for text in (contacts.intent_text, contacts.transcript):
        for one in text.take(positions).to_pylist():
            found = Counter(_WORD.findall((one or "").lower()))
            had.update(found.keys())
            for word, times in found.items():
                buckets[crc32(word.encode()) % BUCKETS] += times
    out: npt.NDArray[np.float64] = np.zeros(BUCKETS)
    for bucket, times in buckets.items():
        out[bucket] = times
    return out, had


def _moved(before: Counter[str], now: Counter[str]) -> dict[str, float]:
    """The words, in many contacts of a window, whose share moved most, as change of the share."""
    sizes = max(sum(before.values()), 1), max(sum(now.values()), 1)
    common = [word for word in now | before if max(now[word], before[word]) >= NAMED_LEAST and not word.isdigit()]
    moved = {word: now[word] / sizes[1] - before[word] / sizes[0] for word in common}
    top = sorted(moved, key=lambda word: (-abs(moved[word]), word))[:NAMED]
    return {word: moved[word] for word in top}
