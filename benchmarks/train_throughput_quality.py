"""How well both sides of `train_throughput.py` rank after so many steps, by the truth of a generated centre.

Notable: ours is the exported bundle, that is the towers with what the join adds of history, as a router has it; the
peer's is the cosine of contact and profile texts, all that it learns. Both choose among the contact's eligible CSAs.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt
from train_throughput_sides import Load, Peer, contact_texts, profile_texts
from worlds import captured, said

from evaluation.ranking_model import ModelRanker
from evaluation.truth import Truth
from export.bundle import export_bundle
from train.run import run_training
from twotower.clock import format_time
from twotower.tables.log import Log


def captured_by_run(load: Load, steps: int, folder: Path, until: int, truth: Truth) -> float | None:
    """Share of the oracle's uplift over the queue that a run of so many steps captures."""
    with tempfile.TemporaryDirectory() as scratch:
        run, bundle = Path(scratch) / "run", Path(scratch) / "bundle"
        run_training(folder, run, format_time(until), (), load.flags(steps))
        export_bundle(run, bundle)
        score, _ = said(ModelRanker.load(bundle, Log.load(folder), "success"), truth)
    return captured(truth, score, everybody(truth))


def captured_by_peer(peer: Peer, load: Load, steps: int, folder: Path, truth: Truth) -> float | None:
    """The same of the peer's model after so many steps."""
    model = peer.fit(load, steps)
    log = Log.load(folder)
    contacts = dict(zip(log.contacts.ids.to_pylist(), contact_texts(log), strict=True))
    profiles = dict(zip(log.csas.ids.to_pylist(), profile_texts(log), strict=True))
    asked = [contacts[name] for name in truth.latents.contact_id[truth.contact].tolist()]
    return captured(truth, cosines(model, asked, [profiles[name] for name in truth.latents.csa_id.tolist()], truth),
                    everybody(truth))  # fmt: skip


def cosines(model: object, contacts: list[str], profiles: list[str], truth: Truth) -> npt.NDArray[np.float64]:
    """Cosines (P,) of the truth's pairs, of texts (n,) of its contacts and (J,) of its CSAs."""
    left, right = (
        np.asarray(model.eval().encode(texts, normalize_embeddings=True, show_progress_bar=False), np.float64)  # type: ignore[attr-defined]
        for texts in (contacts, profiles)
    )
    return np.asarray((left[truth.rows] * right[truth.csa]).sum(axis=1))


def everybody(truth: Truth) -> npt.NDArray[np.bool_]:
    """(J,) all CSAs may be chosen."""
    return np.ones(len(truth.latents.csa_id), np.bool_)
