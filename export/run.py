"""A training run as the exporter reads it: every file checked for what the bundle needs before anything is written."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from twotower.clock import NEVER
from twotower.errors import ConfigError, TwoTowerError
from twotower.features.schema import FeatureSchema
from twotower.scoring.join import Join
from twotower.scoring.rows import HistoryRows

NEEDED = (
    "model.safetensors",
    "model.json",
    "features.json",
    "tokenizer.json",
    "calibration.json",
    "run.json",
    "csas.npz",
    "csas.parquet",
    "history.npz",
    "features.state",
)
Floats = npt.NDArray[np.float32]


class ExportError(TwoTowerError):
    """The towers cannot be exported, or what was exported does not agree with them."""


@dataclass(frozen=True)
class Probe:
    """Late contacts kept to measure on, never shown: `tokens` (N, L), `categories` (N, C), `numbers` (N, F),
    `arrived_at` i8[N], `csa` i8[N] who took each (a roster code), `resolved` i1[N] (−1 null)."""

    tokens: npt.NDArray[np.int64]
    categories: npt.NDArray[np.int64]
    numbers: Floats
    arrived_at: npt.NDArray[np.int64]
    csa: npt.NDArray[np.int64]
    resolved: npt.NDArray[np.int8]

    def __len__(self) -> int:
        return len(self.csa)


@dataclass(frozen=True)
class Run:
    """A finished training run.

    `facts` is `run.json`; `csa_ids` (J), `features` (J, G), `identity` i8[J], `active` bool[J] describe the roster as
    of the end of the data window; `history` the rows that count then, with `contact` positions in `contact_ids`.
    """

    folder: Path
    facts: dict[str, Any]
    schema: FeatureSchema
    join: Join
    csa_ids: tuple[str, ...]
    features: Floats
    identity: npt.NDArray[np.int64]
    active: npt.NDArray[np.bool_]
    history: HistoryRows
    contact_ids: pa.Array
    probe: Probe | None

    @classmethod
    def load(cls, folder: str | Path) -> Run:
        """Read a run folder. Raises ConfigError, one line, where a file is missing or damaged."""
        path = Path(folder)
        if not path.is_dir():
            raise ConfigError(f"{path}: no such folder; name a folder that `twotower train` wrote")
        if missing := [name for name in NEEDED if not (path / name).is_file()]:
            raise ConfigError(f"{path}: not a finished training run ({missing[0]} is missing); train it again")
        try:
            facts = json.loads((path / "run.json").read_bytes())
            csas = _arrays(path / "csas.npz", ("ids", "features", "identity", "active"))
            history, contact_ids = _history(path / "history.npz")
            probe = _probe(path / "probe.npz")
            int(facts["window"]["until"]), int(facts["history_per_csa"])
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigError(f"{path}: not a run that this version can export ({error}); train it again") from None
        return cls(
            folder=path,
            facts=facts,
            schema=FeatureSchema.load(path / "features.json"),
            join=Join.load(path / "calibration.json"),
            csa_ids=tuple(str(i) for i in csas["ids"]),
            features=csas["features"].astype(np.float32),
            identity=csas["identity"].astype(np.int64),
            active=csas["active"].astype(np.bool_),
            history=history,
            contact_ids=contact_ids,
            probe=probe,
        )


def _history(path: Path) -> tuple[HistoryRows, pa.Array]:
    """The rows that still count at the end of the window, and the contact ids they refer to."""
    names = ("csa", "known_at", "until", "code", "scale", "residual", "outcome", "weight")
    data = _arrays(path, (*names, "contact_ids"))
    count = len(data["csa"])
    rows = HistoryRows(
        **{name: data[name] for name in names},
        customer=np.full(count, -1, dtype=np.int32),
        contact=np.arange(count, dtype=np.int64),
    )
    return rows.take(rows.until == NEVER), pa.array(data["contact_ids"].tolist(), pa.string())


def _probe(path: Path) -> Probe | None:
    return Probe(**_arrays(path, tuple(Probe.__dataclass_fields__))) if path.is_file() else None


def _arrays(path: Path, names: tuple[str, ...]) -> dict[str, Any]:
    try:
        with np.load(path, allow_pickle=False) as data:
            return {name: data[name] for name in names}
    except (KeyError, OSError, ValueError) as error:
        raise ValueError(f"{path.name}: {error}") from None
