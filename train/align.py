"""Where nothing else trained it, the memory takes its metric from the profile.

Notable: two contacts are alike for *success* if CSAs do equally well on them, and that is what the profile's contact
side measures: with v(a) ~ N(0, I), the logits of x and y over CSAs covary as u(x)·u(y). So the memory's linear map
becomes the leading principal components of u, centred, and the kernel of outcome residuals works in the space that
outcomes taught.
"""

from __future__ import annotations

import numpy as np
import torch

from train.encode import encode
from train.prepare import TrainingSet
from twotower.towers.two_tower import TwoTower

MOST_CONTACTS = 20_000


def align_memory(model: TwoTower, data: TrainingSet) -> None:
    """Set `to_memory` to the first `memory_dim` principal components of the profile's contact vectors, in place."""
    tower = model.contact_tower
    contacts = np.flatnonzero(data.arrived_at < data.split)
    contacts = contacts[np.linspace(0, len(contacts) - 1, min(len(contacts), MOST_CONTACTS)).astype(np.int64)]
    width = tower.config.members * tower.config.profile_dim
    profile = encode(model, data, contacts).profile[:, :width].astype(np.float64) * tower.config.members
    centre = profile.mean(axis=0)
    _, vectors = np.linalg.eigh(np.cov((profile - centre).T))
    side = min(tower.config.memory_dim, profile.shape[1])
    basis = vectors[:, ::-1][:, :side]
    basis = basis * np.sign(basis[np.abs(basis).argmax(axis=0), np.arange(side)])
    rotation = torch.from_numpy(basis.T.astype(np.float32))
    with torch.no_grad():
        tower.to_memory.weight.zero_()
        tower.to_memory.bias.zero_()
        tower.to_memory.weight[:side] = rotation @ tower.weight.detach().cpu()
        tower.to_memory.bias[:side] = -rotation @ torch.from_numpy(centre.astype(np.float32))
