"""What is known of customers, outside of the bundle: how often they come, how they write, who served them how.

Notable: everything stands under keyed hashes (`features/engine/store.py`) in one file, so one customer can be erased,
and the file is then, to the byte, the one of a centre they never called. Each customer's latest contact is kept apart
from the sums: the contact that is being matched, or matched again while it waits, must not count as its own past, and
sums cannot be gone back on. So a customer is read as of the arrival of a contact, exactly, unless something was counted
since; what was counted since is left out as a whole rather than told to a contact that came before it.
Vectors of past hand-overs are one tower's: they belong to the bundle whose id stands in the file. Those of the bundle
before it are put by, in the file too: a canary goes to and fro between two.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from serve.customers_arrays import BY, arrays_of, restored
from serve.customers_languages import Languages, check_tag
from serve.customers_past import Latest, met, pairings
from serve.customers_rows import Remembered, RowsByCustomer
from twotower.clock import NEVER, NULL_TIME
from twotower.errors import BundleError, DataError
from twotower.features.customer import SETTINGS, CustomerRows, signatures
from twotower.features.engine.customers import CustomerReading
from twotower.features.engine.events import Arrivals, KnownHandovers
from twotower.features.engine.store import CustomerStore, read_state, refused, write_state
from twotower.features.schema import nobody
from twotower.scoring.join import ContactVectors
from twotower.scoring.rows import HistoryRows

Codes = npt.NDArray[np.int32]
Longs = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]

KIND = "returning customers"


@dataclass(frozen=True)
class Pairs:
    """A customer's past with CSAs of a roster: `rows` for the join's kernels, None where their vectors are another
    bundle's, and `codes` i8 of the CSAs who served them before, distinct."""

    rows: HistoryRows | None
    codes: Longs


class Customers:
    """Customers whom a router may know. Safe to call from several threads.

    A call for one customer holds a lock for as long whatever the number of customers, mostly well below a millisecond.
    `counts` holds it for a pass over a few columns, `save` while everything but the hand-overs is copied, and one in
    many new customers while all move, where there is no room left: room is left for as many again whenever a store is
    opened or they move. The sorting and writing of a save hold up erasures and other saves alone.
    `docs/customers.md` has the times.

    store: sums under keyed hashes, without the latest contacts; latest: those; rows: hand-overs by the store's
    positions; bundle: id of the bundle whose tower made their vectors; until: up to when a log was read, µs.
    """

    def __init__(self, store: CustomerStore, latest: Latest, rows: RowsByCustomer, bundle: str, until: int) -> None:
        self.bundle, self.until = bundle, until
        self._store, self._latest, self._rows = store, latest, rows
        self._by: tuple[str, RowsByCustomer] | None = None  # put by: of the bundle before, its id and hand-overs
        store.spare()
        latest.spare()
        # Places that are empty read the last row, so there is one where nobody is named.
        self.latest = self.moment
        """Just after the latest that was ever told, µs: `moment` without a look at everyone."""
        self._signature, self._signed = signatures(store.csa_ids or [""]), len(store.csa_ids)
        # Who takes both takes `_saving` first.
        self._lock, self._saving = threading.Lock(), threading.Lock()

    @classmethod
    def empty(cls, secret: bytes, bundle: str, width: int) -> Customers:
        """Nobody yet. secret: 16 to 64 bytes; bundle: its id; width: Q of its memory vectors."""
        rows = RowsByCustomer(Remembered.none(width), np.empty(0, np.int64))
        return cls(CustomerStore(secret, SETTINGS, []), Latest.none(0), rows, bundle, NULL_TIME)

    def __len__(self) -> int:
        return len(self._store)

    def lasts(self) -> tuple[int, int]:
        """When the last contact came, and when the last outcome became known, µs; `NULL_TIME` for none."""
        with self._lock:
            return _lasts(self._store, self._latest)

    @property
    def moment(self) -> int:
        """Just after everything that is known, µs."""
        return _moment(self._store, self._latest, self.until)

    def codes(self, customer_ids: Sequence[str | None]) -> Codes:
        """Positions (N,) of customers, −1 for None and for those of whom nothing is known."""
        with self._lock:
            return self._store.codes(customer_ids)

    def since(self, codes: Codes) -> Longs:
        """When they became customers i8[N] µs, `NULL_TIME` where that is not known."""
        found, there = np.full(len(codes), NULL_TIME), codes >= 0
        with self._lock:
            found[there] = self._latest.since[codes[there]]
        return found

    def languages(self, codes: Codes) -> list[str | None]:
        """Their languages (N,), tags as given, None where that is not known."""
        with self._lock:
            return self._latest.language.of(codes)

    def past(self, codes: Codes, arrived_at: Longs, moments: Longs) -> CustomerRows:
        """What was known of customers (N,), −1 nobody: contacts strictly before `arrived_at` i8[N] of the contact that
        is matched, hand-overs strictly before `moments` i8[N] of the match, not earlier."""
        there = np.flatnonzero(codes >= 0)
        with self._lock:
            who, signature, history = codes[there].astype(np.int64), self._signature, self._store.history
            found = {**met(history, self._latest, who, arrived_at[there]), **pairings(history, who, moments[there])}
        if len(there) == len(codes):
            return CustomerRows(CustomerReading(arrived_at, **found), signature)
        blank = replace(nobody(len(codes)).reading, moment=arrived_at)
        for name, values in found.items():
            getattr(blank, name)[there] = values
        return CustomerRows(blank, signature)

    def exact(self, codes: Codes, arrived_at: Longs, moments: Longs) -> npt.NDArray[np.bool_]:
        """Whether (N,) nothing was counted since that `past` had to leave out as a whole."""
        with self._lock:
            history, who = self._store.history, np.maximum(codes, 0)
            if not history.customers:
                return np.ones(len(codes), np.bool_)
            later = history.last[who] >= arrived_at
            later |= (history.pair_last[who] >= moments[:, None]).any(axis=1)
            return (codes < 0) | ~later

    def pairs(self, code: int, moment: int, roster: Mapping[str, int], bundle: str) -> Pairs:
        """Who of a roster (id → code) served a customer before, as known strictly before a moment."""
        with self._lock:
            history, csa_ids = self._store.history, self._store.csa_ids
            rows = self._rows.of(code)
            before = set(rows.csa[rows.known_at < moment].tolist())
            before.update(history.pair_csa[code][history.pair_last[code] < moment].tolist())
            before.discard(-1)
            found = {roster.get(csa_ids[csa], -1) for csa in before} - {-1}
            own = rows.history(csa_ids, roster) if bundle == self.bundle else None
        return Pairs(own, np.array(sorted(found), dtype=np.int64))

    def update_arrival(
        self,
        customer_id: str | None,
        arrived_at: int,
        style: Floats | None = None,
        since: int | None = None,
        language: str | None = None,
    ) -> None:
        """A customer's contact has arrived; it counts for contacts that arrive later. Nothing is kept of None.

        style: signals (S,) of `features.customer.style_of`, None where the text shows none; since, language: of the
        customer, None leaves what is known. A contact that is told twice counts twice. Raises DataError for a style of
        another width or with gaps, and for a language that is no text.
        """
        if customer_id is None:
            return
        _check_time("arrived_at", arrived_at)
        check_tag(language)
        shown = np.full(len(SETTINGS.signals), np.nan, np.float32) if style is None else style.astype(np.float32)
        if shown.shape != (len(SETTINGS.signals),) or not (np.isfinite(shown).all() or np.isnan(shown).all()):
            raise DataError(f"style {shown}: {len(SETTINGS.signals)} numbers, or NaN for all, are expected")
        with self._lock:
            code, latest = self._placed(customer_id), self._latest
            if latest.at[code] != NULL_TIME:
                later = arrived_at >= latest.at[code]
                at, told = (latest.at[code], latest.style[code].copy()) if later else (arrived_at, shown)
                one = Arrivals(np.array([code], np.int32), np.array([at]), told[None])
                self._store.history.update(one)
            if arrived_at >= latest.at[code]:
                latest.at[code], latest.style[code] = arrived_at, shown
            if since is not None:
                latest.since[code] = since
            if language is not None:
                latest.language.keep(code, language)
            self.latest = max(self.latest, arrived_at + 1)

    def update_handover(
        self,
        customer_id: str | None,
        csa_id: str,
        known_at: int,
        resolved: bool | None = None,
        contact: ContactVectors | None = None,
        bundle: str | None = None,
    ) -> None:
        """The outcome of a hand-over has become known. Nothing is kept of a customer None.

        contact: its vectors (length 1) as the matcher of `bundle`, an id, encoded it on arrival; of the bundle before
        the store's they are put by with its others; where that is yet another, or None, the pairing is counted and the
        join's kernels do not see this hand-over.
        Raises DataError for vectors of another width.
        """
        if customer_id is None:
            return
        _check_time("known_at", known_at)
        end = np.array([-1 if resolved is None else int(resolved)], np.int8)
        with self._lock:
            rows = None if contact is None else self._rows_of(bundle)
            if contact is not None and rows is not None and contact.memory.shape != (1, rows.width):
                raise DataError(f"contact: memory {contact.memory.shape}; (1, {rows.width}) is expected")
            code, csa = self._placed(customer_id), np.array([self._store.csa(csa_id)], np.int32)
            if new := self._store.csa_ids[self._signed :]:
                self._signature = np.concatenate([self._signature[: self._signed], signatures(new)])
                self._signed += len(new)
            at, none = np.array([known_at]), np.zeros((1, 0), np.float32)
            one = KnownHandovers(csa, at, end, np.zeros(1, np.float32), none, customer=np.array([code], np.int32))
            self._store.history.update(handovers=one)
            if contact is not None and rows is not None:
                rows.add(code, Remembered.of(csa, at, end, contact.level, contact.memory))
            self.latest = max(self.latest, known_at + 1)

    def adopt(self, bundle: str, width: int | None) -> None:
        """Go on with another bundle, its id: counts, style and pairings stay.

        width: Q of its memory vectors; hand-overs with vectors of the former one are put by until it comes back, and
        those that were put by are brought back where they are the new one's, else forgotten. None: its contact tower
        is the former one's, and they stay.
        """
        with self._lock:
            before, self.bundle = self.bundle, bundle
            if width is None or bundle == before:
                return
            known = None if self._by is None or self._by[0] != bundle else self._by[1]
            self._by = before, self._rows
            if known is None or known.width != width:
                known = RowsByCustomer(Remembered.none(width), np.empty(0, np.int64))
            self._rows = known

    def bring_back(self, bundle: str) -> bool:
        """Whether hand-overs are a bundle's; where they are put by they are not any more, as after a start in the other
        one's block."""
        with self._lock:
            if self._by is not None and self._by[0] == bundle:
                before = self.bundle, self._rows
                (self.bundle, self._rows), self._by = self._by, before
            return self.bundle == bundle

    def erase(self, customer_id: str) -> bool:
        """Forget a customer; False where nothing was known. `save` afterwards, and the file never knew them.

        Waits for a save that is under way, whose file still holds them.
        """
        return self.erase_key(self.key_of(customer_id))

    def key_of(self, customer_id: str) -> bytes:
        """What a customer stands under in every store with this secret, which does not tell who they are."""
        return self._store.key(customer_id)

    def erase_key(self, key: bytes) -> bool:
        """`erase` for who has the key alone."""
        # A save reads hand-overs where they lie, outside of the lock, and must not write what went here after this.
        with self._saving, self._lock:
            code = self._store.erase_key(key)
            if code >= 0:
                self._rows.forget(code)
                if self._by is not None:
                    self._by[1].forget(code)
                self._latest.forget(code)
            return code >= 0

    def save(self, path: Path | str) -> None:
        """Write the store, whole or not at all; the same facts give the same bytes."""
        with self._saving:
            with self._lock:
                store, latest, rows = self._store.copy(), self._latest.copy(), (self.bundle, self._rows.copy())
                by = None if self._by is None else (self._by[0], self._by[1].copy())
            # Later than what is left: that somebody was erased must not show in the time.
            store.history.moment = _moment(store, latest, self.until)
            write_state(path, KIND, arrays_of(store, latest, self.until, rows, by))

    @classmethod
    def load(cls, path: Path | str, secret: bytes) -> Customers:
        """What `save` wrote. Raises ConfigError for another secret, BundleError where the file is not such a store."""
        if not Path(path).is_file():
            raise BundleError(f"{path}: no such file; `twotower customers build` writes one")
        arrays = read_state(path, KIND)
        with refused(path, KIND):
            store = CustomerStore.restored(arrays, secret)
            if store.history.settings != SETTINGS:
                raise DataError("kept under other settings than this program's: build it again")
            language = Languages.restored(arrays, store.history.customers)
            latest = Latest(arrays["latest"], arrays["latest_style"], arrays["since"], language)
            bundle, rows = restored(arrays, "", "row", store, latest)
            found = cls(store, latest, rows, bundle, int(arrays["until"]))
            if f"{BY}_bundle" in arrays:
                found._by = restored(arrays, f"{BY}_", BY, store, latest)
            return found

    def counts(self) -> dict[str, Any]:
        """What the store holds, in numbers, naming no customer."""
        with self._lock:
            rows, history = self._rows.copy(), self._store.history
            found = {
                "customers": len(self._store),
                "contacts": int(history.count.sum() + np.count_nonzero(self._latest.at != NULL_TIME)),
                "moment": self.moment,
                "bundle": self.bundle,
            }
        counts = rows.counts()
        return {**found, "handovers": int(counts.sum()), "most": int(counts.max(initial=0))}

    def known_of(self, customer_id: str) -> dict[str, Any] | None:
        """All that is known of one customer, for who asks on their behalf; None where that is nothing."""
        codes = self.codes([customer_id])
        if codes[0] < 0:
            return None
        now = np.array([self.moment])
        past, since = self.past(codes, now, now), int(self.since(codes)[0])
        csa_ids, rows = self._store.csa_ids, self._rows.of(int(codes[0]))
        ends = _ends_of(rows, *([] if self._by is None else [self._by[1].of(int(codes[0]))]))
        return {
            "since": since,
            "language": self.languages(codes)[0],
            "contacts": int(past.reading.count[0]),
            "last_contact": int(past.reading.last[0]),
            "style": dict(zip(SETTINGS.signals, past.style[0, 1].tolist(), strict=True)),
            "met": _pairings_of(past.reading, csa_ids),
            "handovers": [
                {"csa_id": csa_ids[csa], "known_at": at, "resolved": None if end < 0 else bool(end)}
                for at, csa, end in ends
            ],
        }

    def _rows_of(self, bundle: str | None) -> RowsByCustomer | None:
        if bundle == self.bundle:
            return self._rows
        return self._by[1] if self._by is not None and self._by[0] == bundle else None

    def _placed(self, customer_id: str) -> int:
        code = int(self._store.codes([customer_id], add=True)[0])
        if self._store.history.customers > len(self._latest.at):
            self._latest.grow(self._store.history.customers)
        return code


def _moment(store: CustomerStore, latest: Latest, until: int) -> int:
    known = max(_lasts(store, latest))
    return max(until, known + (known > NULL_TIME))


def _lasts(store: CustomerStore, latest: Latest) -> tuple[int, int]:
    came = max(int(times.max(initial=NULL_TIME)) for times in (store.history.last, latest.at))
    return came, int(store.history.pair_last.max(initial=NULL_TIME))


def _check_time(name: str, at: int) -> None:
    if not NULL_TIME < at < NEVER:
        raise DataError(f"{name}: {at} lies outside time; microseconds since 1970 are expected")


def _ends_of(*parts: Remembered) -> list[tuple[int, int, int]]:
    """Hand-overs once, whichever bundles encoded them."""
    found = {
        one for rows in parts
        for one in zip(rows.known_at.tolist(), rows.csa.tolist(), rows.resolved.tolist(), strict=True)
    }  # fmt: skip
    return sorted(found)


def _pairings_of(reading: CustomerReading, csa_ids: Sequence[str]) -> list[dict[str, Any]]:
    met = []
    for csa, last, end, sums in zip(
        reading.pair_csa[0].tolist(), reading.pair_last[0].tolist(), reading.pair_end[0].tolist(),
        reading.pair_sums[0].tolist(), strict=True,
    ):  # fmt: skip
        if csa >= 0:
            resolved = None if end < 0 else bool(end)
            met.append({"csa_id": csa_ids[csa], "last": last, "resolved": resolved, "good": sums[1], "bad": sums[2]})
    return met
