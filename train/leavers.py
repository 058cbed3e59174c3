"""Identities of who left long ago are released: a roster that changes for years does not make a model that only grows.

Notable: what leavers did still teaches what is common to all CSAs; only their own rows go, from the towers that are
kept, not from the training. Who comes back later starts as a member of the cohort that is declared.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import nn

from train.prepare import TrainingSet
from twotower.clock import DAY
from twotower.tables.log import Log
from twotower.towers.two_tower import TwoTower


@torch.no_grad()
def released(towers: TwoTower, data: TrainingSet, log: Log, days: float | None) -> TrainingSet:
    """The training set with codes of those whose identities stay; the towers lose the other rows, in place.

    days: since they left, at the end of the log; None: nobody's goes.
    """
    if days is None:
        return data
    left = log.csas.left_at[np.maximum(log.csas.row_at(data.end), 0)]
    gone = left <= data.end - days * DAY
    if not gone.any():
        return data
    stays = np.concatenate([[0], np.sort(data.identity[~gone & (data.identity > 0)])])
    rows, tower = torch.from_numpy(stays), towers.csa_tower
    tower.identities = nn.Parameter(tower.identities[rows])
    tower.log_std = nn.Parameter(tower.log_std[rows])
    tower.outcomes.own = tower.outcomes.own[rows]
    if tower.config.spread:
        tower.factors = tower.factors[rows]
    names = data.schema.identities
    schema = replace(data.schema, identities=[names[code - 1] for code in stays[1:]])
    return replace(data, schema=schema, identity=schema.identity_of(log.csas.ids))
