"""From a log to what the history engine is fed, the same for training, for rolling forward and for the router.

Notable: what a hand-over says of its *contact* (base embedding, intent, predicted complexity, whether it was upset)
comes from the contact's own row and from heads fitted on the past, so it was known when the contact arrived; what it
says of its *outcome* counts from `known_at` on. `expected` is one less the predicted risk of failure, so residuals are
against what was expected of such a contact before anybody took it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from twotower.features.complexity import COMPLEXITY
from twotower.features.contact import ContactRows
from twotower.features.customer import SETTINGS, CustomerRows, signatures, style_of
from twotower.features.engine.core import TWIN, Core
from twotower.features.engine.customers import CustomerHistory
from twotower.features.engine.events import Arrivals, KnownHandovers, Work, in_order
from twotower.text.signals import SIGNALS

if TYPE_CHECKING:
    from twotower.bundle.sessions import Encoded
    from twotower.features.schema import FeatureSchema
    from twotower.tables.log import Log

Floats = npt.NDArray[np.float32]
Codes = npt.NDArray[np.int64]

UPSET = 0.25  # of the signal n / (n + 3): one strong word
_NAMES = [one.name for one in COMPLEXITY]


@dataclass(frozen=True)
class Told:
    """What was known of N contacts on arrival: `base` f4 (N, K); `categories` i8 (N, C), null intents filled by the
    contact tower's head; `complexity` f4 (N, T), NaN where no head was fitted yet; `signals` f4 (N, S) or None."""

    base: Floats
    categories: Codes
    complexity: Floats
    signals: Floats | None

    def take(self, contacts: npt.NDArray[np.signedinteger[Any]]) -> Told:
        """Some of the contacts."""
        signals = None if self.signals is None else self.signals[contacts]
        return Told(self.base[contacts], self.categories[contacts], self.complexity[contacts], signals)

    @property
    def expected(self) -> Floats:
        """Probability (N,) of a resolution, NaN where it is not known."""
        return np.asarray(1 - self.complexity[:, _NAMES.index("failure_risk")])

    @property
    def upset(self) -> npt.NDArray[np.bool_] | None:
        """Whether each contact was upset (N,), None where texts were not looked at."""
        if self.signals is None:
            return None
        place = [signal.name for signal in SIGNALS].index("upset")
        return np.asarray(self.signals[:, place] >= UPSET)

    def groups(self, schema: FeatureSchema) -> npt.NDArray[np.int32] | None:
        """Codes (N, F) of the families of groups, −1 unknown; None where the schema has none."""
        families = [name for name, _ in schema.csa_settings.families]
        if not families:
            return None
        return np.column_stack([self._group(schema, name) for name in families]).astype(np.int32)

    def _group(self, schema: FeatureSchema, name: str) -> Codes:
        if name == "complexity":
            time = self.complexity[:, _NAMES.index("handle_time")]
            band = np.searchsorted(np.asarray(schema.bands, np.float32), np.nan_to_num(time))
            return np.where(np.isnan(time), -1, band)
        place = {value: code for code, value in enumerate(schema.groups[name])}
        lookup = np.array([-1, *(place.get(value, -1) for value in schema.categories[name])], dtype=np.int64)
        return np.asarray(lookup[self.categories[:, list(schema.categories).index(name)]])


def told_by(schema: FeatureSchema, rows: ContactRows, encoded: Encoded) -> Told:
    """What was known of contacts on arrival, as a bundle's contact tower tells it; NaN by heads without a fit."""
    return told_of(schema, rows, schema.codes(rows), encoded)


def told_of(schema: FeatureSchema, rows: ContactRows, categories: Codes, encoded: Encoded) -> Told:
    """`told_by`, where the category codes (N, C) of the contacts are there already."""
    fitted = [one.name in schema.heads for one in COMPLEXITY]
    complexity = np.where(fitted, encoded.complexity, np.float32(np.nan))
    categories = with_intents(schema, categories, encoded.intent)
    return Told(encoded.base, categories, complexity, rows.signals if schema.has("upset") else None)


def untold_of(log: Log, schema: FeatureSchema) -> Told:
    """Of a log's contacts (N,) nothing was known."""
    size = len(log.contacts)
    return Told(
        np.zeros((size, schema.csa_settings.width), np.float32),
        np.zeros((size, len(schema.categories)), np.int64),
        np.full((size, len(COMPLEXITY)), np.nan, np.float32),
        None,
    )


def told_of_some(log: Log, schema: FeatureSchema, contacts: Codes, encode: Callable[[dict[str, Any]], Encoded]) -> Told:
    """What was known of a log's contacts (N,) on arrival; blank but for some of them, by position, whom `encode` reads.

    Base embedding, intent and complexity do not depend on customers' past.
    """
    from twotower.features.schema import log_columns

    blank = untold_of(log, schema)
    if not len(contacts):
        return blank
    columns = log_columns(log, contacts)
    encoded = encode(columns)
    blank.base[contacts] = encoded.base[:, : blank.base.shape[1]]
    told = told_by(schema, schema.rows(columns), encoded)
    blank.complexity[contacts], blank.categories[contacts] = told.complexity, told.categories
    if told.signals is None:
        return blank
    signals = np.zeros((len(log.contacts), told.signals.shape[1]), np.float32)
    signals[contacts] = told.signals
    return replace(blank, signals=signals)


def with_intents(schema: FeatureSchema, categories: Codes, intent: Codes) -> Codes:
    """Categories (N, C) whose unknown intents are replaced by predicted codes (N,)."""
    place = list(schema.categories).index("intent")
    filled = categories.copy()
    filled[:, place] = np.where(categories[:, place] == 0, intent, categories[:, place])
    return filled


def csa_streams(log: Log, schema: FeatureSchema, told: Told) -> tuple[KnownHandovers, Work]:
    """Outcomes in the order in which they became known, and beginnings and ends; contacts as in the log.

    Beginnings and ends are left out where no feature asks for them, so that tables from which open hand-overs are
    missing give the same state.
    """
    moves, width = log.handovers, schema.csa_settings.width
    of = replace(told, base=told.base[:, :width]).take(moves.contact)  # width is 0 or all
    known = in_order(
        csa=moves.csa, known_at=moves.known_at, resolved=moves.resolved, handle_time_s=moves.handle_time_s,
        base=of.base, transferred=moves.transferred, csat=moves.csat,
        expected=of.expected.astype(np.float32), upset=of.upset,
        codes=of.groups(schema),
    )  # fmt: skip
    asked = slice(None) if schema.has("load") else slice(0)
    return known, Work.of(moves.csa[asked], moves.assigned_at[asked], moves.ended_at[asked])


def customer_streams(log: Log, rows: ContactRows, style: bool) -> tuple[Arrivals, KnownHandovers]:
    """Contacts when they arrived, and outcomes when they became known; rows: all contacts of the log; style: signals
    of manner are read off the texts."""
    contacts, moves = log.contacts, log.handovers
    signals = style_of(rows.signals) if style else np.full((len(rows), len(SETTINGS.signals)), np.nan, np.float32)
    known = in_order(
        csa=moves.csa, known_at=moves.known_at, resolved=moves.resolved, handle_time_s=moves.handle_time_s,
        base=np.zeros((len(moves.contact), 0), np.float32), customer=contacts.customer[moves.contact],
    )  # fmt: skip
    return Arrivals(contacts.customer, contacts.arrived_at, signals), known


class CustomerPast:
    """What was known of any customer of a log at any moment of it.

    rows: all contacts of the log; schema: which says whether anything is asked for. core: the engine's loops. The log
    is walked once as long as one question does not begin before the last one ended.
    """

    def __init__(self, log: Log, schema: FeatureSchema, rows: ContactRows, core: Core = TWIN) -> None:
        self._log, self._core = log, core
        self._needed = schema.has("frequency", "style", "relationship")
        self._signature = signatures(log.csas.ids.to_pylist())
        if self._needed:
            self._arrivals, self._known = customer_streams(log, rows, schema.has("style"))
            self._history = self._start()

    def _start(self) -> CustomerHistory:
        return CustomerHistory(SETTINGS, len(self._log.customer_ids), core=self._core)

    def at(self, customer: npt.NDArray[np.int32], moment: Codes) -> CustomerRows | None:
        """Of customers (N,), −1 nobody, each strictly before its moment (N,); None where no feature asks."""
        if not self._needed:
            return None
        if len(moment) and int(moment.min()) < self._history.moment:
            self._history = self._start()
        if (moment[1:] >= moment[:-1]).all():
            return CustomerRows(self._history.along(self._arrivals, self._known, customer, moment), self._signature)
        order = np.argsort(moment, kind="stable")
        reading = self._history.along(self._arrivals, self._known, customer[order], moment[order])
        return CustomerRows(reading.take(np.argsort(order, kind="stable")), self._signature)
