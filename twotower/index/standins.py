"""Stand-ins for the joint score (`twotower/scoring/standin.py`) as they are searched, and as a bundle keeps them.

Notable: fitting one reads all that is remembered many times over, which a router that starts must not wait for; so an
export writes them, in half floats, for every meaning of a rank.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from twotower.errors import BundleError
from twotower.scoring.join import Join, Rank
from twotower.scoring.rows import HistoryRows
from twotower.scoring.standin import surrogate_vectors

Floats = npt.NDArray[np.float32]
Halves = npt.NDArray[np.float16]
NAME = "standins.npz"
# Share of the variance that is searched; the rest would double the scan and move hardly a nomination.
KEPT_VARIANCE = 0.995
MOST_COMPONENTS = 1 << 28  # CSAs × width: some 3 GB while they are fitted


@dataclass(frozen=True)
class StandIn:
    """`vectors` f2 (J, D) of CSAs, whose products with queries (B, W) @ `basis` f4 (W, D) stand in for scores, up to a
    constant of each contact."""

    basis: Floats
    vectors: Halves


def compressed(vectors: Floats) -> StandIn:
    """Vectors (J, W) in the principal components that carry nearly all of their variance."""
    centred = vectors.astype(np.float64) - vectors.mean(axis=0, dtype=np.float64) if len(vectors) else vectors
    variance, basis = np.linalg.eigh(centred.T @ centred)
    carried = np.cumsum(variance[::-1]) / max(float(variance.sum()), 1e-12)
    kept = min(1 + int(np.searchsorted(carried, KEPT_VARIANCE)), len(carried))
    chosen = np.ascontiguousarray(basis[:, ::-1][:, :kept], dtype=np.float32)
    return StandIn(chosen, (centred @ chosen).astype(np.float16))


def fit_standins(join: Join, profiles: Floats, rows: HistoryRows, moment: int) -> dict[Rank, StandIn]:
    """The stand-in for every meaning of a rank as of a moment (µs), of CSA vectors (J, P) and the memory, sorted by
    CSA; none where the roster is too large."""
    if len(profiles) * (profiles.shape[1] + rows.width + 1) > MOST_COMPONENTS:
        return {}
    fitted = ((rank, surrogate_vectors(weights, profiles, rows, moment)) for rank, weights in join.ranks.items())
    return {rank: compressed(vectors) for rank, vectors in fitted}


def write_standins(standins: Mapping[Rank, StandIn], path: Path) -> None:
    """Write `standins.npz`; the same stand-ins give the same bytes."""
    arrays = {f"{rank}.{name}": getattr(one, name) for rank, one in standins.items() for name in ("basis", "vectors")}
    with path.open("wb") as file:
        np.savez(file, **arrays)


def read_standins(path: Path, csas: int) -> dict[str, StandIn]:
    """Read `standins.npz` by rank. Raises BundleError where it is not that of so many CSAs."""
    try:
        with np.load(path, allow_pickle=False) as data:
            found = {
                name.removesuffix(".basis"): StandIn(data[name], data[name.removesuffix("basis") + "vectors"])
                for name in data.files
                if name.endswith(".basis")
            }
    except (KeyError, OSError, ValueError, BadZipFile) as error:
        raise BundleError(f"{path}: not the stand-ins of a bundle ({error}); export again") from None
    for one in found.values():
        shape = csas, one.basis.shape[1]
        if one.vectors.shape != shape:
            raise BundleError(f"{path}: holds {one.vectors.shape}, expected {shape}; export again")
    return found
