"""A roster that learns while it serves: what changes about a CSA at the moment at which a hand-over ends.

Notable: the same engine, features and rows as in training, told one hand-over at a time. What a CSA's numbers are
shrunk towards depends on everyone and is kept from the last `refresh`; their own sums, their vector (`beliefs.py`) and
their memory move at once, in time that but for a rare move of all rows (`live_rows.py`) does not depend on how much is
remembered. Nobody else moves until the next refresh, which brings the past of all to one moment, as a snapshot in
training does, and builds anew what nominates candidates. Who joins, and of whom something else is declared, reads by
the same features and tower; what nominates does not know them as they are now, so until it is built anew (at a refresh,
or beside everything else, `material`) they are nominated whenever they are eligible. Tenure stays that of the bundle.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from serve.beliefs import Beliefs
from serve.live_rows import Fresh, LiveRows, LiveVectors
from serve.outcome import Outcome
from serve.roster.book import Book, Told
from serve.roster.declared import csas_table
from serve.searches import Late, Material, Searches
from serve.searches_apart import build_searches
from serve.seen import Seen
from serve.snapshot import Snapshot
from twotower.bundle.bundle import Bundle
from twotower.bundle.tables import Roster
from twotower.features.csa import CsaFeatures, of_past, past_columns
from twotower.features.engine.csa import CsaHistory
from twotower.features.engine.events import KnownHandovers, Work
from twotower.features.engine.readout import Priors
from twotower.features.streams import told_of
from twotower.index.history import stale_vectors
from twotower.scoring.join import sigmoid
from twotower.tables.load import csas_of

Floats = npt.NDArray[np.float32]


class Mark(NamedTuple):
    """How far a roster was when somebody began to build: into which `fresh`, which had been `told` of so many, and
    after how many `moves`."""

    fresh: Fresh
    told: int
    moves: int


class Live:
    """The writer's side of a matcher's roster. One writer: calls must not overlap.

    bundle: where it starts; snapshot: the one made of it; asked: vectors (P,) and (Q,) of late contacts, by which
    searches are tuned when they are built anew.
    """

    def __init__(self, bundle: Bundle, snapshot: Snapshot, asked: deque[Late]) -> None:
        self._bundle, self._schema, self._snapshot = bundle, bundle.schema, snapshot
        saved = bundle.engine
        self._engine = CsaHistory.restored(saved.settings, saved.state())
        self._features, self._past = bundle.roster.features.copy(), past_columns(bundle.schema)
        self._identity = bundle.roster.identity.copy()
        self._rows = LiveRows(bundle.history, len(snapshot.ids), int(bundle.manifest.history["per_csa"]))
        roster = bundle.roster
        self._beliefs = Beliefs(roster.vectors, roster.spread)
        self._vectors = LiveVectors(roster.vectors, roster.own)
        self._encoded, self._own = roster.vectors.copy(), roster.own.copy()
        self._rate = float(bundle.manifest.history["staleness_rate"])
        self._indexed_at = int(bundle.manifest.window["until"])
        self._fresh = Fresh(snapshot.fresh[0].shape[1])
        self._asked = asked
        self._moves = 0  # of CSAs of whom something else was declared, so far
        self._unindexed: dict[int, int] = {}  # CSAs whom the indexes do not know as they are, and their last move
        self._priors = Priors()
        of_past(self._schema, self._engine, self._engine.moment, priors=self._priors)

    @property
    def moment(self) -> int:
        """Just after everything that was told, or the moment of the last refresh, µs."""
        return self._engine.moment

    @property
    def features(self) -> Floats:
        """What the CSA tower reads of everyone (J, G), as of the last change; not to be written to."""
        return self._features

    def ended(self, code: int, seen: Seen, outcome: Outcome) -> Snapshot:
        """The roster after the outcome of a hand-over became known."""
        self._engine.update(self._known(code, seen, outcome))
        if outcome.ended_at is not None:
            self._worked(code, outcome.ended_at, -1)
        told, level = outcome.resolved is not None, float(sigmoid(seen.encoded.level)[0])
        memory, good = seen.encoded.memory[0], outcome.resolved is not False
        residual = float(bool(outcome.resolved) - level) if told else 0.0
        self._rows.add(code, outcome.known_at, memory, residual, told, float(good))
        if good:
            at = np.array([outcome.known_at])
            self._fresh.add(code, stale_vectors(memory[None], at, self._indexed_at, self._rate)[0])
        if told and self._bundle.join.calibrated:
            given = self._bundle.join.weighed(seen.encoded.profile[0], float(seen.encoded.level[0]))
            self._beliefs.learn(code, *given, bool(outcome.resolved))
        return self._moved(code)

    def worked(self, code: int, at: int, change: int) -> Snapshot:
        """The roster after a hand-over of a CSA began (change 1) or ended (−1), µs."""
        if self._worked(code, at, change):
            self._moved(code)
        return self._snapshot

    def roster(self, book: Book, told: Told, at: int | None = None) -> Snapshot:
        """The roster after changes that `book` has taken in, at a moment (µs, by default that of the history)."""
        self._grow(book.capacity)
        moment = self.moment if at is None else max(at, self.moment)
        for code in (*told.joined, *told.moved):
            self._declared(code, book, moment)
        known = self._snapshot
        # Readers of the snapshot before may go on with the names: they only get longer.
        view = self._view() if told.joined or told.moved or book.capacity != len(known.active) else known
        self._snapshot = replace(
            view,
            ids=book.ids,
            codes=book.codes,
            active=book.bitmaps.mask(),
            bitmaps=book.bitmaps,
            blocked=book.blocked,
            left=np.array(sorted(book.left), np.int64),
            version=book.version,
            unindexed=self._moved_since(),
        )
        return self._snapshot

    def _declared(self, code: int, book: Book, moment: int) -> None:
        """Read what is declared of a CSA anew."""
        entry, ids = book.entry(code), [book.ids[code]]
        csas = csas_of("roster", csas_table(ids, [entry.declared]))
        before, after = CsaFeatures(csas, self._schema, self._embed).declared(moment)
        self._features[code, : self._past.start] = before[0]
        self._features[code, self._past.stop :] = after[0]
        self._identity[code] = self._schema.identity_of(ids)[0]
        who = np.array([code])
        past = of_past(self._schema, self._engine, self.moment, who, self._priors)
        self._features[code, self._past] = past[0]
        encoder, given = self._bundle.csa_encoder, (self._features[who], self._identity[who])
        (self._encoded[code],), (self._own[code],) = encoder.encode(*given)
        self._beliefs.begin(code, self._encoded[code], encoder.spread(*given))
        self._vectors.put(code, self._beliefs.vector(code, self._encoded[code]), self._own[code])
        self._moves += 1
        self._unindexed[code] = self._moves

    def _embed(self, texts: Sequence[str]) -> Floats:
        """Base embeddings (N, K) of texts, as the contact tower reads them."""
        return self._bundle.contact_encoder.encode({"intent_text": list(texts)}, quiet=True).base

    def _grow(self, capacity: int) -> None:
        more = capacity - len(self._identity)
        if more <= 0:
            return
        for name in ("_features", "_encoded", "_own", "_identity"):
            part = getattr(self, name)
            setattr(self, name, np.concatenate([part, np.zeros((more, *part.shape[1:]), part.dtype)]))
        for part in (self._engine, self._rows, self._beliefs, self._vectors):
            part.grow(capacity)

    def exported(self, book: Book) -> Roster:
        """The CSAs of a book as a bundle holds them: who did not change to the bit as the bundle had them. Only before
        hand-overs are told."""
        roster, count, encoder = self._bundle.roster, len(book), self._bundle.csa_encoder
        moved = self._moved_since()
        spread = roster.spread.grown(count - len(roster)).put(
            moved, encoder.spread(self._features[moved], self._identity[moved])
        )
        return Roster(
            tuple(book.ids),
            self._encoded[:count],
            spread,
            self._own[:count],
            self._features[:count],
            self._identity[:count],
            book.bitmaps.mask()[:count],
        )

    def refresh(self, moment: int) -> Snapshot:
        """Everyone as of a moment, not earlier than `moment` of this, and what nominates candidates built anew."""
        priors, features, identity = Priors(), self._features, self._identity
        past = of_past(self._schema, self._engine, moment, priors=priors)
        if past.shape[1]:
            features = features.copy()
            features[:, self._past] = past
            encoded, own = self._bundle.csa_encoder.encode(features, identity)
        else:
            encoded, own = self._encoded, self._own
        vectors = self._beliefs.all_vectors(encoded)
        material = Material(vectors, self._rows.rows(), moment, moment, self._rate)
        made = build_searches(self._bundle.join, material, self.asked(), self._snapshot)
        # All of it is there: only now does anything change.
        self._rows.settle()
        self._priors, self._features, self._encoded, self._own = priors, features, encoded, own
        self._vectors = LiveVectors(vectors, own)
        self._indexed_at, self._fresh, self._unindexed = moment, Fresh(self._fresh.width), {}
        self._engine.stand_at(moment)
        return self._searched(made)

    def asked(self) -> list[Late]:
        """Vectors (P,) and (Q,) of late contacts."""
        return list(self._asked.copy())  # a copy, as others append meanwhile

    def material(self) -> tuple[Material, Mark]:
        """What searches can be built of now (`build_searches`), by whoever need not write, and what `searched` is to be
        told with them."""
        vectors, _, places = self._vectors.view()
        made_of = Material(vectors[places], self._rows.rows(), self.moment, self._indexed_at, self._rate)
        return made_of, Mark(self._fresh, self._fresh.told, self._moves)

    def searched(self, made: Searches, mark: Mark) -> Snapshot:
        """The roster with searches that were built since `material`; as it is, where others were meanwhile."""
        if mark.fresh is self._fresh:
            self._fresh = self._fresh.since(mark.told)
            self._unindexed = {code: move for code, move in self._unindexed.items() if move > mark.moves}
            self._searched(made)
        return self._snapshot

    def _searched(self, made: Searches) -> Snapshot:
        self._snapshot = replace(
            self._view(), profiles=made.profiles, history=made.history, surrogates=made.surrogates,
            unindexed=self._moved_since(),
        )  # fmt: skip
        return self._snapshot

    def _moved_since(self) -> npt.NDArray[np.int64]:
        return np.array(sorted(self._unindexed), np.int64)

    def _worked(self, code: int, at: int, change: int) -> bool:
        """Count a beginning (1) or an end (−1) as load; False where nobody asks, where the bundle's state holds it
        already, having come before the end of its data window, and for an end where nothing is open."""
        if not self._schema.has("load") or at < int(self._bundle.manifest.window["until"]):
            return False
        begun, ended = self._engine.work[code, 0]
        if change < 0 and ended >= begun:
            return False
        self._engine.update_work(Work(np.array([code], np.int32), np.array([at]), np.array([change], np.int8)))
        return True

    def _moved(self, code: int) -> Snapshot:
        """The roster after something about one CSA has changed."""
        who = np.array([code])
        past = of_past(self._schema, self._engine, self.moment, who, self._priors)
        if past.shape[1]:
            self._features[code, self._past] = past[0]
            found = self._bundle.csa_encoder.encode(self._features[who], self._identity[who])
            (self._encoded[code],), (self._own[code],) = found
        vector = self._beliefs.vector(code, self._encoded[code])
        self._vectors.put(code, vector, self._own[code])
        self._snapshot = self._view()
        return self._snapshot

    def _view(self) -> Snapshot:
        vectors, own, places = self._vectors.view()
        spread, memory, fresh = self._beliefs.spread(), self._rows.memory(), self._fresh.view()
        return replace(
            self._snapshot, vectors=vectors, spread=spread, own=own, places=places, memory=memory, fresh=fresh
        )

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
