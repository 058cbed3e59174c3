"""Small random memories, and what a kernel is by its definition."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from twotower.clock import NEVER, SECOND
from twotower.scoring.kernels import FLOOR, Kernel
from twotower.scoring.memory import PER_CUSTOMER
from twotower.scoring.rows import HistoryRows, build_rows

CSAS, WIDTH, CUSTOMERS, DAYS = 5, 4, 3, 50

KERNELS = tuple(
    Kernel(scope, statistic, sharpness, half_life, prior)  # type: ignore[arg-type]
    for scope in ("csa", "pair")
    for statistic in ("mass", "residual")
    for sharpness in (0.0, 8.0)
    for half_life in (None, 5 * 86400.0)
    for prior in ((1.0, 4.0) if statistic == "residual" else (1.0,))
)


def unit(vectors: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    """Rows scaled to length 1."""
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


def handovers(seed: int, n: int, csas: int = CSAS) -> dict[str, Any]:
    """Hand-overs in any order; some share a microsecond, some are never known, some customers are."""
    rng = np.random.default_rng(seed)
    days = rng.integers(0, DAYS, n) * 86400 * SECOND
    return {
        "csa": rng.integers(0, csas, n).astype(np.int32),
        "known_at": np.where(rng.random(n) < 0.1, NEVER, days),
        "vector": unit(rng.standard_normal((n, WIDTH))),
        "residual": rng.uniform(-1, 1, n).astype(np.float32),
        "resolved": rng.integers(-1, 2, n).astype(np.int8),
        "customer": rng.integers(-1, CUSTOMERS, n).astype(np.int32),
        "contact": rng.permutation(n).astype(np.int64),
    }


def rows(seed: int, n: int, per_csa: int) -> HistoryRows:
    """The memory of such hand-overs."""
    return build_rows(**handovers(seed, n), per_csa=per_csa)


def by_definition(
    kernel: Kernel, memory: HistoryRows, csa: int, vector: npt.NDArray[np.float32], customer: int, moment: int
) -> float:
    """The part's value for one contact and one CSA, in float64, one row after another."""
    counted = [i for i in range(len(memory)) if memory.known_at[i] < moment]
    if kernel.scope == "csa":
        counted = [i for i in counted if memory.csa[i] == csa and moment <= memory.until[i]]
    else:
        counted = [i for i in counted if memory.customer[i] == customer >= 0]
        counted = sorted(counted, key=lambda i: (memory.known_at[i], memory.contact[i]))[-PER_CUSTOMER:]
        counted = [i for i in counted if memory.csa[i] == csa]
    mass = residual = 0.0
    for i in counted:
        cosine = float(memory.vectors()[i].astype(np.float64) @ vector.astype(np.float64))
        age_s = (moment - int(memory.known_at[i])) / SECOND
        weight = math.exp(kernel.sharpness * (cosine - 1))
        if kernel.half_life_s is not None:
            weight *= 2 ** (-age_s / kernel.half_life_s)
        if kernel.statistic == "mass":
            mass += weight * float(memory.weight[i])
        elif memory.outcome[i]:
            mass += weight * float(memory.outcome[i])
            residual += weight * float(memory.outcome[i]) * float(memory.residual[i])
    return math.log(FLOOR + mass) if kernel.statistic == "mass" else residual / (mass + kernel.prior)
