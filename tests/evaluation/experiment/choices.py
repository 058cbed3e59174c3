"""A history, and what is chosen for it."""

from __future__ import annotations

import numpy as np

from evaluation.experiment.carry import Decay
from evaluation.experiment.design_choose import chosen
from evaluation.experiment.design_spec import Asked
from tests.evaluation.experiment.pasts import BEGINS, past
from twotower.clock import DAY

LATER = BEGINS + 70 * DAY
HISTORY = past(56, 800, csa_sd=0.05)
SITES = past(56, 800, sites=12)
NONE = np.zeros(0)


def asked(**more) -> Asked:
    """Three points of resolution."""
    return Asked.model_validate({"effect": 0.03, "show": None, **more})


def forgets(tau: float) -> Decay:
    """All of the arm before is left at first."""
    return Decay(1.0, tau, NONE, NONE, NONE, "log")


def choose(history=HISTORY, decay=None, **more):
    """What is chosen."""
    return chosen(asked(**more), history, decay, LATER, 0.0)
