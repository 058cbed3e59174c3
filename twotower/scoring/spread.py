"""How sure a logit is: the posterior deviation of pairs, from factors of the CSAs' covariances."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]


def deviations(profile: Floats, factors: npt.NDArray[np.number]) -> Floats:
    """Posterior standard deviations (C,) of profile · vector, for one contact (P,) and C candidates.

    factors (C, S, P): S − 1 rows of which each is one direction of a vector's error, and a last row of deviations of
    single components (`towers/spread.py`).
    """
    rows = factors.astype(np.float32)
    count, size, width = rows.shape
    along = (rows.reshape(-1, width) @ profile).reshape(count, size)[:, :-1]
    alone = rows[:, -1] * profile
    found: Floats = np.sqrt((along * along).sum(axis=1) + (alone * alone).sum(axis=1))
    return found
