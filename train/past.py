"""What CSAs looked like at every snapshot of a log, and what the heads told of every contact as it arrived.

Notable: both roll forward through the log once. Nothing that a contact reads depends on a hand-over that was known at
its arrival or later: complexity heads are those of its block, bands are cut on the first block that has predictions,
snapshots are read by contacts that arrive after them. What is learnt from contacts alone, vocabularies, token tables
and the intent head, is learnt from all of them before validation, as the towers are.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from train.heads import blocks, complexity_heads, intent_head, targets
from twotower.features.complexity import COMPLEXITY
from twotower.features.csa import CsaFeatures
from twotower.features.engine.core import TWIN, Core, compiled
from twotower.features.engine.csa import CsaHistory
from twotower.features.schema import FeatureSchema
from twotower.features.streams import Told, csa_streams
from twotower.progress import track
from twotower.tables.log import Log
from twotower.towers.config import TowerConfig
from twotower.towers.heads import Heads
from twotower.towers.store import heads_for

Floats = npt.NDArray[np.float32]
Longs = npt.NDArray[np.int64]
ENOUGH_TO_COMPILE = 200_000  # hand-overs; below that numpy is done before a compiler would be
CHUNK = 8192  # contacts that the heads read at once
LEAST_TOLD = 0.25  # of the training contacts that a head must have told something
LEAST_SPREAD = 0.01  # of predicted log handle times; less is no difference


def engine_core(handovers: int) -> Core:
    """The history engine's loops: compiled where there is enough to do for it and a compiler, else numpy."""
    if handovers < ENOUGH_TO_COMPILE:
        return TWIN
    try:
        import numba
    except ImportError:
        return TWIN
    return compiled(numba.njit)


def fit_heads(
    log: Log, config: TowerConfig, schema: FeatureSchema, read: Floats, categories: Longs, split: int
) -> tuple[Heads, Longs, Floats]:
    """Fitted heads, the intent code (N,) that they say of each contact, and its complexity (N, T) as of its arrival.

    A head that was fitted too late for the towers to learn from it says nothing to anybody.
    """
    heads = heads_for(config, schema, read.shape[1])
    arrived, place = log.contacts.arrived_at, heads.intent
    before = int(np.searchsorted(arrived, split))
    weight, bias = intent_head(read[:before], categories[:before, place], heads.sizes[place] - 1)
    heads.set_intent(torch.from_numpy(weight), torch.from_numpy(bias))
    intents = np.concatenate(
        [
            heads(torch.from_numpy(read[part]), torch.from_numpy(categories[part])).intent.numpy()
            for part in np.array_split(np.arange(len(arrived)), -(-len(arrived) // CHUNK))
        ]
    )

    def inputs(contacts: Longs) -> Floats:
        rows: Floats = heads.inputs(torch.from_numpy(read[contacts]), torch.from_numpy(categories[contacts])).numpy()
        return rows

    fitted = complexity_heads(inputs, arrived, targets(log), split)
    late = np.isfinite(fitted.told[:before]).mean(axis=0) < LEAST_TOLD
    weight, bias, told = fitted.weight.copy(), fitted.bias.copy(), fitted.told.copy()
    weight[late], bias[late], told[:, late] = 0, 0, np.nan
    heads.set_complexity(torch.from_numpy(weight), torch.from_numpy(bias))
    return heads, intents, told


def bands_of(complexity: Floats, arrived_at: Longs, split: int) -> list[float]:
    """Edges between four bands of predicted handle time, on the first block of contacts that has predictions.

    Another block would let what was known after a contact's arrival move the band that it is in.
    """
    time = complexity[:, [one.name for one in COMPLEXITY].index("handle_time")]
    for start, end in blocks(arrived_at, split):
        first = time[(arrived_at >= start) & (arrived_at < end)]
        first = first[~np.isnan(first)]
        if len(first):
            spread = len(first) > 1 and float(np.ptp(first)) >= LEAST_SPREAD
            return [float(edge) for edge in np.quantile(first, (0.25, 0.5, 0.75))] if spread else []
    return []


@dataclass(frozen=True)
class CsaPast:
    """CSA features f4 (S, J, G) and decayed hand-overs f4 (S, J) at snapshots, features f4 (J, G) at the end of the
    window, and the history as it stands there."""

    features: Floats
    exposure: Floats
    at_end: Floats
    history: CsaHistory


def past_of_csas(
    log: Log, schema: FeatureSchema, features: CsaFeatures, told: Told, moments: Longs, end: int, core: Core
) -> CsaPast:
    """Roll the history forward from snapshot to snapshot."""
    known, work = csa_streams(log, schema, told)
    history = CsaHistory(schema.csa_settings, len(log.csas.ids), core=core)
    out = np.zeros((len(moments), len(log.csas.ids), len(schema.csa_numbers)), dtype=np.float32)
    exposure = np.zeros(out.shape[:2], dtype=np.float32)
    for i, moment in enumerate(track(moments, "history")):
        history.advance(known, int(moment), work)
        out[i], exposure[i] = features.at(int(moment), history), history.handled()
    history.advance(known, end, work)
    return CsaPast(out, exposure, features.at(end, history), history)
