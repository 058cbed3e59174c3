"""Running the trained towers over many contacts."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from train.buckets import cells_at_once, cut
from train.prepare import TrainingSet
from twotower.progress import track
from twotower.scoring.join import ContactVectors
from twotower.towers.backbones import StaticBackbone, Words, sent
from twotower.towers.two_tower import TwoTower

VECTORS = 4  # outputs of the contact tower that a score is made of
HELD = 1 << 18


@torch.inference_mode()
def encode(model: TwoTower, data: TrainingSet, contacts: npt.NDArray[np.int64], batch: int = 2048) -> ContactVectors:
    """Vectors of the contacts (B,), in evaluation mode; sorted by length inside, so that padding is cheap.

    Where the text is frozen, its vectors and topics are those that were computed once; where a transformer is not, as
    many texts are read at once as have `cells_at_once` tokens.
    """
    was_training = model.training
    model.eval()
    device = next(model.parameters()).device
    backbone, frozen = model.contact_tower.backbone, data.frozen_text
    static = isinstance(backbone, StaticBackbone)
    lengths = data.tokens.lengths(contacts)
    if static or frozen is not None:
        order = np.argsort(lengths, kind="stable")
        parts = [order[start : start + batch] for start in range(0, len(order), batch)]
    else:
        order, buckets = cut(lengths.clip(1), cells_at_once(device), device)
        parts = [order[first:last] for first, last, _ in buckets]
    pieces: list[tuple[Tensor, ...]] = []
    for part in parts:
        rows = contacts[part]
        text = (data.tokens.pad(rows),) if frozen is None else (frozen[rows, : backbone.width], data.read[rows])
        given = (*text, data.categories[rows], data.numbers[rows])
        speak = model.contact_tower if frozen is None else model.contact_tower.speak
        out = speak(*(torch.from_numpy(t).to(device) for t in given))[:VECTORS]
        pieces.append(tuple(t.float().cpu() for t in out))
    model.train(was_training)
    back = np.empty_like(order)
    back[order] = np.arange(len(order))
    profile, memory, level, base = (torch.cat([p[i] for p in pieces]).numpy()[back] for i in range(VECTORS))
    return ContactVectors(profile, memory, level, base, data.arrived_at[contacts], data.customer[contacts])


@torch.inference_mode()
def text_vectors(model: TwoTower, data: TrainingSet, held: int = HELD) -> npt.NDArray[np.float32]:
    """Output (N, width) of the text backbone for every contact, bucket by bucket of like length.

    held: vectors that wait on the device, so that it is asked for them seldom and has work meanwhile.
    """
    backbone, device = model.contact_tower.backbone.eval(), next(model.parameters()).device
    lengths = data.tokens.lengths(np.arange(len(data.tokens)))
    out = np.zeros((len(lengths), backbone.width), dtype=np.float32)
    order, buckets = cut(lengths, cells_at_once(device), device)
    waiting: list[Tensor] = []
    start = 0
    for first, last, _ in track(buckets, "reading texts"):
        rows = order[first:last]
        tokens = sent(torch.from_numpy(data.tokens.pad(rows)), device)
        waiting.append(backbone.encode(Words(tokens, lengths[rows])))
        if last - start >= held or last == buckets[-1].last:
            out[order[start:last]] = torch.cat(waiting).float().cpu().numpy()
            waiting, start = [], last
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
