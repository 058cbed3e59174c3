"""Champion and challenger as a router has them: how large they are, and how long a match takes on this host.

Notable: both are loaded and asked in turns, some dozens of contacts each, and the processor's time counts, so that
whatever else the machine does falls on both alike.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from loop.gate.rules import Check, GateSpec, at_most
from serve.matcher import Matcher
from twotower.bundle.bundle import Bundle

CONTACTS, ROUNDS, K = 40, 5, 10


def checks(champion: Path, challenger: Path, contacts: Sequence[dict[str, Any]], spec: GateSpec) -> Iterator[Check]:
    """The rules of size and time, of those that are asked. contacts: as a router would ask about them."""
    if spec.size is not None:
        yield at_most("size", "bytes", size(champion), size(challenger), spec.size)
    if spec.latency is not None:
        one, other = latencies([champion, challenger], contacts)
        yield at_most("latency", "ms", one, other, spec.latency)


def size(bundle: Path) -> float:
    """Bytes of the files that the manifest lists."""
    return float(sum(int(facts["bytes"]) for facts in Bundle.open(bundle).manifest.files.values()))


def latencies(bundles: Sequence[Path], contacts: Sequence[dict[str, Any]]) -> list[float]:
    """The 99 % quantile of the processor's time (ms) of a match by each bundle, the median of some rounds."""
    matchers = [Matcher.load(bundle) for bundle in bundles]
    few = contacts[:CONTACTS]
    for matcher in matchers:
        for contact in few[:5]:
            matcher.match(contact, K)
    rounds = [[_quantile(matcher, few) for matcher in matchers] for _ in range(ROUNDS)]
    return [float(one) for one in np.median(rounds, axis=0)]


def _quantile(matcher: Matcher, contacts: Sequence[dict[str, Any]]) -> float:
    taken = []
    for contact in contacts:
        begun = time.thread_time_ns()
        matcher.match(contact, K)
        taken.append((time.thread_time_ns() - begun) / 1e6)
    return float(np.quantile(taken, 0.99))
