"""A pair of the router's present roster, laid out to be explained."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from serve.pairs import Pair
from serve.pairs_families import contact_side, csa_side, whole_side
from serve.snapshot import Snapshot
from twotower.bundle.bundle import Bundle
from twotower.bundle.sessions import ContactInputs
from twotower.scoring.join import ContactVectors
from twotower.scoring.memory import Memory

NOT_ACTIVE = "The CSA does not work now, so nobody would be sent to them."


def pair_of(
    bundle: Bundle,
    view: Snapshot,
    contact: ContactVectors,
    memory: Memory,
    read: ContactInputs,
    code: int,
    features: npt.NDArray[np.float32],
    contact_id: str | None,
) -> Pair:
    """A contact (of length 1), of which the tower read `read`, and the CSA `code` of a snapshot.

    features (J, G): what the CSA tower reads; of a CSA who joined behind these only the vector is known.
    """
    who = np.array([code])
    present, roster = view.vectors_of(who)[0], bundle.roster
    if code < min(len(features), len(roster)):
        typical = features[view.active[: len(features)]].mean(axis=0)
        identity = int(roster.identity[code])
        side = csa_side(bundle.csa_encoder, bundle.schema, features[code].copy(), identity, typical, present)
    else:
        side = whole_side(view.vectors_of(np.flatnonzero(view.active)).mean(axis=0), present)
    return Pair(
        contact_id=contact_id,
        csa_id=view.ids[code],
        code=code,
        contact=contact,
        memory=memory,
        vector=present,
        deviation=view.deviations(contact, who),
        of_contact=contact_side(bundle.contact_encoder, bundle.schema, read),
        of_csa=side,
        contact_ids=bundle.history_contacts,
        notes=() if view.active[code] else (NOT_ACTIVE,),
    )
