"""A roster that learns while it serves: what changes about a CSA at the moment at which a hand-over ends.

Notable: the same engine, features and rows as in training, told one hand-over at a time. What a CSA's numbers are
shrunk towards depends on everyone and is kept from the last `refresh`; their own sums, their vector and their memory
move at once, in time that does not depend on how much is remembered. Nobody else moves until the next refresh, which
brings all to one moment, as a snapshot in training does, and builds anew what nominates candidates. Columns that the
roster tells (skills, tenure and the like) stay those of the bundle.
"""

from __future__ import annotations

from collections import deque
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from serve.live_rows import Fresh, LiveRows, LiveVectors
from serve.outcome import Outcome
from serve.seen import Seen
from serve.snapshot import Searched, Snapshot, surrogates
from twotower.bundle.bundle import Bundle
from twotower.features.csa import of_past, past_columns
from twotower.features.engine.csa import CsaHistory
from twotower.features.engine.events import KnownHandovers, Work
from twotower.features.engine.readout import Priors
from twotower.features.streams import told_of
from twotower.index.build import QUERIES, build_history_index, build_profile_index
from twotower.index.history import history_queries, history_vectors, stale_vectors
from twotower.scoring.join import sigmoid

Floats = npt.NDArray[np.float32]


class Live:
    """The writer's side of a matcher's roster. One writer: calls must not overlap.

    bundle: where it starts; snapshot: the one made of it.
    """

    def __init__(self, bundle: Bundle, snapshot: Snapshot) -> None:
        self._bundle, self._schema, self._snapshot = bundle, bundle.schema, snapshot
        saved = bundle.engine
        self._engine = CsaHistory.restored(saved.settings, saved.state())
        self._features, self._past = bundle.roster.features.copy(), past_columns(bundle.schema)
        self._identity = bundle.roster.identity
        self._rows = LiveRows(bundle.history, len(snapshot.ids), int(bundle.manifest.history["per_csa"]))
        self._vectors = LiveVectors(bundle.roster.vectors)
        self._rate = float(bundle.manifest.history["staleness_rate"])
        self._indexed_at = int(bundle.manifest.window["until"])
        self._fresh = Fresh(snapshot.fresh[0].shape[1])
        self._asked: deque[tuple[Floats, Floats]] = deque(maxlen=QUERIES)
        self._priors = Priors()
        of_past(self._schema, self._engine, self._engine.moment, priors=self._priors)

    @property
    def moment(self) -> int:
        """Just after everything that was told, µs."""
        return self._engine.moment

    def ended(self, code: int, seen: Seen, outcome: Outcome) -> Snapshot:
        """The roster after a hand-over of a CSA ended. Raises DataError for an outcome that cannot be; then nothing
        has changed."""
        self._engine.update(self._known(code, seen, outcome))
        self._worked(code, outcome.ended_at, -1)
        told, level = outcome.resolved is not None, float(sigmoid(seen.encoded.level)[0])
        memory, good = seen.encoded.memory[0], outcome.resolved is not False
        residual = float(bool(outcome.resolved) - level) if told else 0.0
        self._rows.add(code, outcome.known_at, memory, residual, told, float(good))
        if good:
            at = np.array([outcome.known_at])
            self._fresh.add(code, stale_vectors(memory[None], at, self._indexed_at, self._rate)[0])
        self._asked.append((seen.encoded.profile[0], memory))
        return self._moved(code)

    def assigned(self, code: int, at: int) -> Snapshot:
        """The roster after a hand-over of a CSA began, µs."""
        if self._worked(code, at, 1):
            self._moved(code)
        return self._snapshot

    def refresh(self, moment: int) -> Snapshot:
        """Everyone as of a moment, not earlier than what was told, and what nominates candidates built anew."""
        self._priors = Priors()
        past = of_past(self._schema, self._engine, moment, priors=self._priors)
        if past.shape[1]:
            self._features[:, self._past] = past
            self._vectors = LiveVectors(self._bundle.csa_encoder.encode(self._features, self._identity))
        rows, view = self._rows.rows(), self._view()
        vectors = view.vectors_of(np.arange(len(view.ids)))
        if self._asked:
            profile, memory = (np.stack(part) for part in zip(*self._asked, strict=True))
            asked = history_queries(memory, self._bundle.join.default)
            history = build_history_index(history_vectors(rows, moment, self._rate), asked)
            view = replace(
                view,
                profiles=build_profile_index(vectors, profile),
                history=Searched.of(history, rows, len(view.ids)),
            )
            self._indexed_at, self._fresh = moment, Fresh(history.vectors.shape[1])
        self._snapshot = replace(
            view, surrogates=surrogates(self._bundle.join, vectors, rows, moment), fresh=self._fresh.view()
        )
        return self._snapshot

    def _worked(self, code: int, at: int, change: int) -> bool:
        """Count a beginning (1) or an end (−1) as load; False where nobody asks, or where the bundle's state holds it
        already, having come before the end of its data window."""
        if not self._schema.has("load") or at < int(self._bundle.manifest.window["until"]):
            return False
        self._engine.update_work(Work(np.array([code], np.int32), np.array([at]), np.array([change], np.int8)))
        return True

    def _moved(self, code: int) -> Snapshot:
        """The roster after something about one CSA has changed."""
        who = np.array([code])
        past = of_past(self._schema, self._engine, self.moment, who, self._priors)
        if past.shape[1]:
            self._features[code, self._past] = past[0]
            self._vectors.put(code, self._bundle.csa_encoder.encode(self._features[who], self._identity[who])[0])
        self._snapshot = self._view()
        return self._snapshot

    def _view(self) -> Snapshot:
        vectors, places = self._vectors.view()
        memory, fresh = self._rows.memory(), self._fresh.view()
        return replace(self._snapshot, vectors=vectors, places=places, memory=memory, fresh=fresh)

    def _known(self, code: int, seen: Seen, outcome: Outcome) -> KnownHandovers:
        """A hand-over as the engine is told it, like `streams.csa_streams` does from a log."""
        schema, width = self._schema, self._engine.settings.width
        told = told_of(schema, seen.row, seen.categories, seen.encoded)
        return KnownHandovers(
            csa=np.array([code], np.int32),
            known_at=np.array([outcome.known_at]),
            resolved=_flag(outcome.resolved),
            handle_time_s=_number(outcome.handle_time_s),
            base=told.base[:, :width],
            transferred=_flag(outcome.transferred),
            csat=_number(outcome.csat),
            expected=told.expected.astype(np.float32),
            upset=told.upset,
            codes=told.groups(schema),
        )


def _flag(value: bool | None) -> npt.NDArray[np.int8]:
    return np.array([-1 if value is None else value], np.int8)


def _number(value: float | None) -> Floats:
    return np.array([np.nan if value is None else value], np.float32)
