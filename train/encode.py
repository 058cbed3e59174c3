"""Running the trained towers over many contacts."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from train.prepare import TrainingSet
from twotower.progress import track
from twotower.scoring.join import ContactVectors
from twotower.towers.backbones import StaticBackbone
from twotower.towers.two_tower import TwoTower

VECTORS = 4  # outputs of the contact tower that a score is made of


@torch.inference_mode()
def encode(model: TwoTower, data: TrainingSet, contacts: npt.NDArray[np.int64], batch: int = 2048) -> ContactVectors:
    """Vectors of the contacts (B,), in evaluation mode; sorted by length inside, so that padding is cheap.

    Where a transformer is frozen, its text vectors are those that were computed once.
    """
    was_training = model.training
    model.eval()
    device = next(model.parameters()).device
    frozen = None if isinstance(model.contact_tower.backbone, StaticBackbone) else data.frozen_text
    order = np.argsort(data.tokens.lengths(contacts), kind="stable")
    pieces: list[tuple[Tensor, ...]] = []
    for start in range(0, len(order), batch):
        rows = contacts[order[start : start + batch]]
        text = (data.tokens.pad(rows),) if frozen is None else (frozen[rows], data.read[rows])
        part = (*text, data.categories[rows], data.numbers[rows])
        speak = model.contact_tower if frozen is None else model.contact_tower.speak
        out = speak(*(torch.from_numpy(t).to(device) for t in part))[:VECTORS]
        pieces.append(tuple(t.float().cpu() for t in out))
    model.train(was_training)
    back = np.empty_like(order)
    back[order] = np.arange(len(order))
    profile, memory, level, base = (torch.cat([p[i] for p in pieces]).numpy()[back] for i in range(VECTORS))
    return ContactVectors(profile, memory, level, base, data.arrived_at[contacts], data.customer[contacts])


@torch.inference_mode()
def text_vectors(model: TwoTower, data: TrainingSet, batch: int = 256) -> npt.NDArray[np.float32]:
    """Output (N, width) of the text backbone for every contact."""
    backbone = model.contact_tower.backbone.eval()
    out = np.empty((len(data.tokens), backbone.width), dtype=np.float32)
    order = np.argsort(data.tokens.lengths(np.arange(len(data.tokens))), kind="stable")
    device = next(model.parameters()).device
    for start in track(range(0, len(order), batch), "reading texts"):
        rows = order[start : start + batch]
        out[rows] = backbone(torch.from_numpy(data.tokens.pad(rows)).to(device)).float().cpu().numpy()
    return out


@torch.inference_mode()
def csa_vectors(model: TwoTower, data: TrainingSet, snapshot: int) -> npt.NDArray[np.float32]:
    """Vectors (J, P) of the roster at one snapshot."""
    return vectors_of(model, data.csa_features[snapshot], data.identity)


@torch.inference_mode()
def vectors_of(
    model: TwoTower, features: npt.NDArray[np.float32], identity: npt.NDArray[np.int64]
) -> npt.NDArray[np.float32]:
    """Vectors (J, P) of features (J, G) and identity codes (J,)."""
    was_training = model.training
    model.eval()
    device = next(model.parameters()).device
    tower, given = model.csa_tower, (torch.from_numpy(features).to(device), torch.from_numpy(identity).to(device))
    out = tower.vector(tower.members(*given))
    model.train(was_training)
    return np.asarray(out.float().cpu().numpy())
