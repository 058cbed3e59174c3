"""ciw and simpy, which others wrote and trust, say of the same queue what the simulator says, within all intervals."""

from __future__ import annotations

from dataclasses import asdict
from importlib import import_module

import numpy as np
import pytest

from evaluation.simulate.policies import fifo
from evaluation.simulate.replicate import estimate

HOUR = 3600.0


@pytest.mark.parametrize("peer", ["by_ciw", "by_simpy"])
def test_a_peer_agrees_within_intervals(peer: str) -> None:
    script, peers = import_module("simulate"), import_module("simulate_peers")
    queue = peers.Queue(arrivals=20 / 180, handle_s=180.0, patience_s=300.0, agents=21, horizon_s=9 * HOUR)
    theirs = [asdict(getattr(peers, peer)(queue, seed, HOUR)) for seed in range(12)]
    mine = [script.ours(queue, fifo(), seed) for seed in range(40)]
    for figure in ("waits", "abandoned", "mean_wait_s"):
        its, here = (estimate(np.array([run[figure] for run in runs])) for runs in (theirs, mine))
        # Independent intervals add by squares; they are to be narrow enough to say something.
        assert abs(its.mean - here.mean) <= 1.5 * np.hypot(its.half, here.half), figure
        assert its.half < 0.35 * its.mean, figure
