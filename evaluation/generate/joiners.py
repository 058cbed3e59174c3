"""CSAs who are new when the test begins, in groups that have been given a stated number of contacts.

Notable: those who would have stayed all the time become joiners. Each is hired so long before the test as the group's
number takes at a CSA's pace, and the queue offers them no more once they have had that many, until the test begins; nor
do they take transfers before. So groups are exact wherever the window is long enough for the number to be reached.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from evaluation.generate.arrivals import Contacts
from evaluation.generate.latents import queue_gamma
from evaluation.generate.people import Staff
from evaluation.generate.settings import Settings
from evaluation.generate.world import Floats
from twotower.clock import DAY, NEVER

SPARE = 1.25
"""Times as long as the expected number takes, with two standard deviations on top."""
FIRST_DAYS = 7
"""Days before the test over which those who are given nothing are hired."""


def with_joiners(settings: Settings, staff: Staff, contacts: Contacts) -> Staff:
    """The staff with `settings.joiners` of them hired late; unchanged where that is 0."""
    size = round(settings.joiners * len(staff))
    if not size:
        return staff
    random = settings.random("joiners")
    stay = np.flatnonzero((staff.hired_at < settings.begins) & (staff.left_at == NEVER))
    who = random.permutation(stay)[:size]
    most = np.array(settings.joiner_contacts)[np.arange(len(who)) % len(settings.joiner_contacts)]
    begins = int(contacts.arrived_at[len(contacts) - settings.test_contacts])
    days = np.ceil(SPARE * (most + 2 * np.sqrt(most)) / _pace(settings, staff, begins)[who]).astype(np.int64)
    days += random.integers(1, FIRST_DAYS + 1, len(who))
    midnight = (begins - settings.begins) // DAY
    hired_at, given = staff.hired_at.copy(), staff.most.copy()
    hired_at[who] = settings.begins + np.maximum(midnight - days, 0) * DAY
    given[who] = most
    return replace(staff, hired_at=hired_at, most=given)


def _pace(settings: Settings, staff: Staff, moment: int) -> Floats:
    """(J,) contacts a day that the queue gives each CSA, as their weight among those employed at a moment has it."""
    weight = np.exp(queue_gamma(settings) * staff.speed.astype(np.float64))
    there = (staff.hired_at <= moment) & (staff.left_at > moment)
    return np.asarray(settings.contacts / settings.days * weight / weight[there].sum())
