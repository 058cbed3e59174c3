"""History rolled forward through a log: what the memory and the CSAs looked like at any moment of it.

Notable: two starts are possible. A contact that arrives after the bundle's data window *resumes* it: the bundle's rows
and state, and from the log only what became known later. A contact from inside the window cannot use them, as they
know what came after it; for it the whole log is *replayed* from nothing. CSA features move in the grid of snapshots
that training used; the engine's sums do not tell in which steps they were reached, so the vectors at a moment do not
depend on which contacts were asked for before. A roll that resumes also learns from each outcome what a router learns
(`beliefs.py`); one that replays does not, because the bundle's vectors know these outcomes.
"""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from serve.beliefs import Beliefs, Spread
from twotower.bundle.bundle import Bundle
from twotower.bundle.sessions import Encoded
from twotower.clock import NEVER
from twotower.features.csa import CsaFeatures
from twotower.features.engine.csa import CsaHistory
from twotower.features.engine.roll import gathered, part_of
from twotower.features.streams import Told, csa_streams
from twotower.scoring.join import sigmoid
from twotower.scoring.memory import Memory
from twotower.scoring.rows import HistoryRows, build_rows, merge_rows
from twotower.scoring.spread import Factors
from twotower.tables.log import Log

Floats = npt.NDArray[np.float32]
Positions = npt.NDArray[np.int64]
# Snapshots of profile vectors, with how far they may be off, kept at once.
CACHE_BYTES = 256 << 20


class Roll:
    """The memory and the profile vectors of one log at any moment, from one start.

    resume: continue the bundle; False: replay the log alone. contacts: the encoded contacts of the log in its order,
    told: what was known of them on arrival (`streams.told_by`).
    `memory` answers for every moment; `profiles(moment)` gives the vectors (J, P) that a contact then reads. Codes
    are those of `log.csas.ids`.
    """

    def __init__(self, bundle: Bundle, log: Log, contacts: Encoded, told: Told, resume: bool, with_pairs: bool) -> None:
        self._schema, self._csa_encoder = bundle.schema, bundle.csa_encoder
        self._contact_encoder = bundle.contact_encoder
        self._identity = bundle.schema.identity_of(log.csas.ids)
        known = np.flatnonzero(log.handovers.known_at < NEVER)
        rows, pairs = _rows(bundle, log, contacts, known, resume)
        self.memory = Memory(rows, len(log.csas), pairs if with_pairs else None)
        self._known, self._work = csa_streams(log, bundle.schema, told)
        self._resumed = _resumed(bundle, log) if resume else None
        self._first = self._first_moment(log)
        self._features = CsaFeatures(log.csas, bundle.schema, self._embed)
        self._contacts, self._handovers = contacts, log.handovers
        self._join, self._learns = bundle.join, resume and bundle.join.calibrated
        self._engine = self._start()
        self._at_first = self._encode_first()
        self._beliefs, self._taught_until = Beliefs(*self._at_first), self._first
        self._kept: OrderedDict[int, tuple[Floats, Spread, Floats]] = OrderedDict()

    def profiles(self, arrived_at: int) -> Floats:
        """Profile vectors (J, P) as of the last snapshot at or before a moment."""
        return self._at(arrived_at)[0]

    def spread(self, arrived_at: int) -> Spread:
        """How far they may be off."""
        return self._at(arrived_at)[1]

    def own(self, arrived_at: int) -> Floats:
        """What they add to outcomes (J, T) (`twotower/scoring/outcomes.py`)."""
        return self._at(arrived_at)[2]

    def features(self, arrived_at: int) -> Floats:
        """What the CSA tower reads of everyone (J, G) as of that snapshot; computed anew, for explanations."""
        step = self._schema.granularity_us
        moment = max(arrived_at // step * step, self._first)
        self._kept.pop(moment, None)
        self._at(moment)
        return self._features.at(moment, self._engine)

    def _at(self, arrived_at: int) -> tuple[Floats, Spread, Floats]:
        step = self._schema.granularity_us
        moment = max(arrived_at // step * step, self._first)
        if moment not in self._kept:
            if self._engine.moment > moment:
                self._engine = self._start()
                self._beliefs, self._taught_until = Beliefs(*self._at_first), self._first
            self._engine.advance(self._known, moment, self._work)
            features = self._features.at(moment, self._engine)
            encoded, own = self._csa_encoder.encode(features, self._identity)
            self._learn(moment)
            self._kept[moment] = self._beliefs.all_vectors(encoded), self._beliefs.spread(), own
            most = max(2, CACHE_BYTES // max(1, sum(part.nbytes for part in self._kept[moment])))
            while len(self._kept) > most:
                self._kept.popitem(last=False)
        return self._kept[moment]

    def _encode_first(self) -> tuple[Floats, Factors]:
        """Vectors and factors of everyone at the first snapshot."""
        features = self._features.at(self._first, self._engine)
        vectors, _ = self._csa_encoder.encode(features, self._identity)
        return vectors, self._csa_encoder.spread(features, self._identity)

    def _learn(self, moment: int) -> None:
        """Take in the outcomes that became known since, before a moment, as a router would have been told them."""
        moves = self._handovers
        if self._learns:
            since = (moves.known_at >= self._taught_until) & (moves.known_at < moment) & (moves.resolved >= 0)
            rows = np.flatnonzero(since)
            for i in rows[np.argsort(moves.known_at[rows], kind="stable")].tolist():
                contact = int(moves.contact[i])
                given = self._join.weighed(self._contacts.profile[contact], float(self._contacts.level[contact]))
                self._beliefs.learn(int(moves.csa[i]), *given, bool(moves.resolved[i]))
        self._taught_until = moment

    def _start(self) -> CsaHistory:
        """A fresh engine at the first moment of this roll."""
        if self._resumed is not None:
            return CsaHistory.restored(self._resumed.settings, self._resumed.state())
        return CsaHistory(self._schema.csa_settings, len(self._identity))

    def _first_moment(self, log: Log) -> int:
        """The earliest snapshot: where the bundle's state stands, or the one before the log's first contact."""
        if self._resumed is not None:
            return self._resumed.moment
        step = self._schema.granularity_us
        return int(log.contacts.arrived_at[0]) // step * step if len(log.contacts) else 0

    def _embed(self, texts: object) -> Floats:
        return self._contact_encoder.encode({"intent_text": texts}, quiet=True).base


def _rows(
    bundle: Bundle, log: Log, contacts: Encoded, known: Positions, resume: bool
) -> tuple[HistoryRows, HistoryRows]:
    """The bounded rows of every CSA, and all hand-overs as rows for the pairing memory."""
    handovers, per_csa = log.handovers, int(bundle.manifest.history["per_csa"])
    contact = handovers.contact[known].astype(np.int64)
    resolved = handovers.resolved[known]

    def build(part: Positions, bound: int) -> HistoryRows:
        return build_rows(
            handovers.csa[known][part],
            handovers.known_at[known][part],
            contacts.memory[contact[part]],
            resolved[part] - sigmoid(contacts.level[contact[part]]),
            resolved[part],
            log.contacts.customer[contact[part]],
            contact[part],
            bound,
        )

    everything = np.arange(len(known))
    pairs = build(everything, max(1, len(known)))
    if not resume:
        return build(everything, per_csa), pairs
    later = np.flatnonzero(handovers.known_at[known] >= int(bundle.manifest.window["until"]))
    return merge_rows(_bundle_rows(bundle, log), build(later, per_csa), per_csa), pairs


def _places(bundle: Bundle, log: Log) -> npt.NDArray[np.int64]:
    """Where each CSA of the bundle stands in the log's roster, −1 where it is not there."""
    found = pc.index_in(pa.array(bundle.roster.ids, pa.string()), value_set=log.csas.ids.cast(pa.string()))
    return np.asarray(pc.fill_null(found, -1).to_numpy(zero_copy_only=False), dtype=np.int64)


def _bundle_rows(bundle: Bundle, log: Log) -> HistoryRows:
    """The bundle's rows under the log's codes; those of CSAs who are not in the log cannot be candidates and go."""
    code = _places(bundle, log)[bundle.history.csa]
    kept = np.flatnonzero(code >= 0)
    rows = bundle.history.take(kept)
    fields = {name: getattr(rows, name) for name in rows.__dataclass_fields__}
    return HistoryRows(
        **{**fields, "csa": code[kept].astype(np.int32), "contact": np.full(len(kept), -1, dtype=np.int64)}
    )


def _resumed(bundle: Bundle, log: Log) -> CsaHistory:
    """The bundle's history state under the log's codes; CSAs who joined since start empty."""
    saved, places = bundle.engine, _places(bundle, log)
    there = np.flatnonzero(places >= 0)
    kept = CsaHistory.restored(saved.settings, part_of(saved, there))
    return gathered([kept], [places[there]], len(log.csas))
