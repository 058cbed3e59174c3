"""Matching with history rolled forward: every contact sees what was known strictly before it arrived, nothing later.

Notable: contacts are encoded through the same graphs as in the router, and scores come from the same join; only the
memory and the CSA vectors move. A contact's result depends on its own row and on the past of its arrival alone, bit for
bit: neither the contacts matched beside it nor anything known later takes part in the arithmetic.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property

import numpy as np
import numpy.typing as npt

from serve.answer import Ranked
from serve.contact import MatchError
from serve.matcher import Matcher
from serve.roll import Roll
from twotower.bundle.bundle import Bundle
from twotower.bundle.sessions import Encoded
from twotower.features.contact import ContactRows
from twotower.features.schema import log_columns
from twotower.features.streams import CustomerPast, Told, told_by
from twotower.progress import track
from twotower.scoring.join import ContactVectors, Rank, Scored
from twotower.scoring.utility import Utility
from twotower.tables.log import Log

Floats = npt.NDArray[np.float32]
Positions = npt.NDArray[np.int64]


class RollingMatcher:
    """A matcher beside a log whose hand-overs it may use as they become known.

    matcher: loaded bundle; log: tables with codes for CSAs, which all results use. The contacts of the log are encoded
    once, on first use.
    """

    def __init__(self, matcher: Matcher, log: Log) -> None:
        self.log = log
        self._bundle, self._join = matcher.bundle, matcher.bundle.join
        self._until = int(self._bundle.manifest.window["until"])
        kernels = [kernel for weights in self._join.ranks.values() for kernel in weights.kernels]
        self._with_pairs = any(kernel.scope == "pair" for kernel in kernels)

    @property
    def bundle(self) -> Bundle:
        """The matcher's bundle."""
        return self._bundle

    @property
    def default_rank(self) -> Rank:
        """What a rank means unless a call says otherwise."""
        return self._join.default

    @property
    def calibrated(self) -> bool:
        """Whether `p_resolved` is a probability (the training log had failures)."""
        return self._join.calibrated and "success" in self._join.ranks

    def scores(self, positions: Positions, rank: Rank | None = None) -> Floats:
        """Joint scores (B, J) float32 of contacts of the log, −inf for CSAs who are not candidates.

        Candidates are the contact's eligible list, or everyone active at its arrival where it has none.
        """
        return self._matrix(positions, rank, -np.inf, "matching", lambda scored: scored.score)

    def p_resolved(self, positions: Positions) -> Floats | None:
        """P(resolved) (B, J) float32, NaN for CSAs who are not candidates; None where the log had no failures."""
        if not self.calibrated:
            return None
        return self._matrix(positions, "success", np.nan, "P(resolved)", lambda scored: scored.p_resolved)

    def candidates(self, position: int) -> Positions:
        """Codes, ascending, of the CSAs who can take a contact of the log."""
        eligible = self.log.contacts.eligible
        row = None if eligible is None else eligible.row(position)
        if row is None:
            return self.active(int(self.log.contacts.arrived_at[position]))
        return np.unique(row).astype(np.int64)

    def active(self, moment: int) -> Positions:
        """Codes of the CSAs who work at a moment."""
        return np.flatnonzero(self.log.csas.active_at(moment))

    def contacts(self, positions: Positions) -> ContactVectors:
        """Vectors of contacts of the log."""
        contacts, encoded = self.log.contacts, self._encoded
        return ContactVectors(
            encoded.profile[positions],
            encoded.memory[positions],
            encoded.level[positions],
            encoded.base[positions],
            contacts.arrived_at[positions],
            contacts.customer[positions],
            encoded.outcomes[positions],
        )

    def score(self, contact: ContactVectors, candidates: Positions, rank: Rank | None = None) -> Scored:
        """The join of one contact (ContactVectors of length 1, customers as coded in the log) with candidates i8[C]."""
        moment = int(contact.arrived_at[0])
        roll = self.roll(moment)
        meaning = self._join.default if rank is None else rank
        if meaning not in self._join.ranks:
            raise MatchError(f"this bundle does not rank by {meaning!r}; it has {', '.join(sorted(self._join.ranks))}")
        return self._join.score(meaning, contact, roll.memory, candidates, roll.profiles(moment)[candidates])

    def worth(self, contact: ContactVectors, candidates: Positions, utility: Utility) -> Scored:
        """The utility of one contact with candidates i8[C]. Raises BundleError as `Join.worth` does."""
        moment = int(contact.arrived_at[0])
        roll = self.roll(moment)
        vectors, own = roll.profiles(moment)[candidates], roll.own(moment)[candidates]
        return self._join.worth(utility, contact, roll.memory, candidates, vectors, own)

    def rank(
        self,
        contact: ContactVectors,
        candidates: Positions,
        k: int,
        rank: Rank | None = None,
        utility: Utility | None = None,
    ) -> Ranked:
        """The best k candidates of one contact, by a rank or a utility; codes are those of the log."""
        scored = self.score(contact, candidates, rank) if utility is None else self.worth(contact, candidates, utility)
        places = scored.best(k)
        best = candidates[places]
        logit = None if scored.logit is None else scored.logit[places]
        uncertainty = self._join.uncertainty(logit, self.deviations(contact, best))
        return Ranked(best, places, scored, uncertainty, self.expected(contact, best))

    def expected(self, contact: ContactVectors, candidates: Positions) -> Floats:
        """Expected outcomes (C, T) of one contact with candidates i8[C], NaN where there is no head."""
        moment = int(contact.arrived_at[0])
        roll = self.roll(moment)
        return self._join.expected(contact, roll.profiles(moment)[candidates], roll.own(moment)[candidates])

    def deviations(self, contact: ContactVectors, candidates: Positions) -> Floats:
        """Posterior standard deviations (C,) of profile · vector for one contact."""
        moment = int(contact.arrived_at[0])
        return self.roll(moment).spread(moment).deviations(contact.profile[0], candidates)

    def _matrix(self, positions: Positions, rank: Rank | None, blank: float, what: str, pick: object) -> Floats:
        out = np.full((len(positions), len(self.log.csas)), blank, dtype=np.float32)
        vectors = self.contacts(positions)
        for i in _in_time(vectors, what):
            codes = self.candidates(int(positions[i]))
            if len(codes):
                out[i, codes] = pick(self.score(vectors.take(np.array([i])), codes, rank))  # type: ignore[operator]
        return out

    def roll(self, moment: int) -> Roll:
        """The history that answers for a moment."""
        return self._resumed if moment >= self._until else self._replayed

    @cached_property
    def _encoded(self) -> Encoded:
        contacts = self.log.contacts
        past = self.customers.at(contacts.customer, contacts.arrived_at)
        return self._bundle.contact_encoder.encode(log_columns(self.log), past)

    @cached_property
    def customers(self) -> CustomerPast:
        """What was known of the log's customers at any moment."""
        return CustomerPast(self.log, self._bundle.schema, self._rows)

    @cached_property
    def _rows(self) -> ContactRows:
        return self._bundle.schema.rows(log_columns(self.log))

    @cached_property
    def _told(self) -> Told:
        return told_by(self._bundle.schema, self._rows, self._encoded)

    @cached_property
    def _resumed(self) -> Roll:
        return Roll(self._bundle, self.log, self._encoded, self._told, resume=True, with_pairs=self._with_pairs)

    @cached_property
    def _replayed(self) -> Roll:
        return Roll(self._bundle, self.log, self._encoded, self._told, resume=False, with_pairs=self._with_pairs)


def _in_time(vectors: ContactVectors, what: str) -> Iterator[int]:
    """Rows in order of arrival, so that history is advanced once; with a progress bar where they are many."""
    order = [int(i) for i in np.argsort(vectors.arrived_at, kind="stable")]
    return iter(order) if len(order) < 64 else track(order, what, unit="contact")
