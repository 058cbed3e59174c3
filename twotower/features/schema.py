"""The feature schema: which features the towers read, in which order, with the vocabularies fitted on the log.

Notable: everything that turns a table's row into a tensor is in this object and its JSON (`features.json`), so a
bundle needs nothing else of training, and its digest says whether two bundles read the same features. Which features
there are is declared elsewhere (`registry.py`); the schema picks families of them and fits their vocabularies.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from twotower.clock import DAY
from twotower.errors import BundleError, ConfigError
from twotower.features import contact, customer
from twotower.features.contact import (
    CATEGORIES,
    Columns,
    ContactRows,
    category,
    codes_of,
    contact_categories,
    contact_numbers,
)
from twotower.features.csa import CSA, base_languages
from twotower.features.customer import CustomerRows
from twotower.features.engine.customers import CustomerHistory
from twotower.features.engine.record import RECORD
from twotower.features.engine.settings import CsaSettings
from twotower.features.feature import Feature, table
from twotower.features.registry import DEFAULT, FAMILIES, FEATURES

if TYPE_CHECKING:
    from twotower.tables.log import Log

VERSION = 2
MOST_VALUES = 512  # of a contact category; rarer values read as unknown
# Guesses of short texts stray: a language that nobody names is served from so many of them, and such a share, on.
LEAST_GUESSED = 20
LEAST_SHARE_GUESSED = 0.001
CSA_VALUES = ("languages", "skills", "site", "team", "kind")
MOST_CSA_VALUES = 64  # columns for languages, skills, sites, teams, kinds and the codes of a family of groups, each
GROUPS = ("intent", "language", "channel")  # beside the bands of complexity
HALF_LIVES = (7 * DAY, 30 * DAY, 90 * DAY)  # of a CSA's past
Some = TypeVar("Some", bound=Feature[Any])
Floats = npt.NDArray[np.float32]
Codes = npt.NDArray[np.int64]


@dataclass(frozen=True)
class FeatureSchema:
    """What the towers read.

    `families` of features that are on. `categories`: contact category → vocabulary (code = 1 + position, 0 unknown).
    `csa_values`: columns for `languages`, `skills` (level), `site`, `team`, `kind`. `groups`: family of groups → values
    that have cells of their own; `bands`, the upper edges of the bands of predicted handle time, log(1 + s); `heads`,
    which complexity heads were fitted, in time for the towers to learn from them.
    `identities`: CSA ids with an identity embedding (code = 1 + position, 0 a stranger). `base_dim` K of the base
    embedding. `granularity_us` between history snapshots, `max_tokens` read of a text.
    """

    families: list[str]
    categories: dict[str, list[str]]
    csa_values: dict[str, list[str]]
    groups: dict[str, list[str]]
    bands: list[float]
    heads: list[str]
    identities: list[str]
    base_dim: int
    max_tokens: int
    granularity_us: int
    version: int = VERSION

    @classmethod
    def fit(
        cls,
        log: Log,
        base_dim: int,
        max_tokens: int,
        families: Sequence[str] = DEFAULT,
        snapshots: int = 128,
    ) -> FeatureSchema:
        """Fit the vocabularies on a log.

        Snapshots are a day apart, or further where the log's span would need more than `snapshots` of them. A language
        that neither a contact's tag nor a customer names enters where at least `LEAST_GUESSED` contacts, and a share of
        `LEAST_SHARE_GUESSED`, were taken to be in it. Raises ConfigError for an unknown family, and where a tower would
        have nothing to read.
        """
        rows = ContactRows(log_columns(log))
        values = {name: _served(rows) if name == "language" else category(rows, name) for name in CATEGORIES}
        arrived = log.contacts.arrived_at
        span = int(arrived[-1] - arrived[0]) if len(arrived) else 0
        schema = cls(
            families=in_order(families),
            categories={name: _vocabulary(values[name], MOST_VALUES) for name in CATEGORIES},
            csa_values={name: _vocabulary(_values(log, name), MOST_CSA_VALUES) for name in CSA_VALUES},
            groups={name: _vocabulary(values[name], MOST_CSA_VALUES) for name in GROUPS},
            bands=[],
            heads=[],
            identities=log.csas.ids.to_pylist(),
            base_dim=base_dim,
            max_tokens=max_tokens,
            granularity_us=max(1, -(-span // (snapshots * DAY))) * DAY,
        )
        if not schema.numbers or not schema.csa_numbers:
            raise ConfigError(f"families {', '.join(families)}: each tower needs a feature, such as form and profile")
        return schema

    def has(self, *families: str) -> bool:
        """Whether one of the families is on."""
        return not set(families).isdisjoint(self.families)

    def chosen(self, features: Sequence[Some]) -> tuple[Some, ...]:
        """Those whose family is on, in their order."""
        return tuple(feature for feature in features if feature.family in self.families)

    @cached_property
    def numbers(self) -> list[str]:
        """Names of the contact tower's numbers, in the tensor's order; those of the relationship come last."""
        declared: tuple[Feature[Any], ...] = (*contact.NUMBERS, *customer.NUMBERS, *customer.RELATIONSHIP)
        return [name for feature in self.chosen(declared) for name in feature.names(self)]

    @property
    def relationship(self) -> int:
        """How many of the last numbers, and of the last CSA features (a third as many), code who met whom."""
        return len(customer.RELATIONSHIP) * customer.SIGNATURE if self.has("relationship") else 0

    @cached_property
    def csa_numbers(self) -> list[str]:
        """Names of the CSA features, in the tensor's order."""
        return [name for feature in self.chosen(CSA) for name in self.columns_of(feature)]

    def columns_of(self, feature: Feature[Any]) -> list[str]:
        """Names of a feature's columns under this schema."""
        return feature.names(self._widths(feature))

    @cached_property
    def csa_settings(self) -> CsaSettings:
        """What the history engine keeps of CSAs."""
        width = self.base_dim if self.has("history", "similarity") else 0
        codes = {**{name: len(values) for name, values in self.groups.items()}, "complexity": self._bands}
        families = tuple((name, count) for name, count in codes.items() if count) if self.has("groups") else ()
        return CsaSettings(width, HALF_LIVES, families=families)

    @property
    def _bands(self) -> int:
        return len(self.bands) + 1 if self.bands else 0

    def _widths(self, feature: Feature[Any]) -> Any:
        return self.csa_settings if feature in RECORD else self

    def rows(self, columns: Columns) -> ContactRows:
        """Contacts given as columns named as in contacts.parquet; absent columns and nulls are allowed everywhere.

        `arrived_at` and `customer_since` are microseconds.
        """
        return ContactRows(columns, self.categories["language"])

    def codes(self, rows: ContactRows) -> Codes:
        """Category codes (N, C) of contacts; the heads read them whether the towers read labels or not."""
        return contact_categories(rows, self._category_codes)

    @cached_property
    def _category_codes(self) -> dict[str, dict[str, int]]:
        """Codes by value, of each category."""
        return {name: codes_of(values) for name, values in self.categories.items()}

    def contact_inputs(self, columns: Columns | ContactRows, past: CustomerRows | None = None) -> tuple[Codes, Floats]:
        """(categories (N, C) int64, numbers (N, F) float32) of contacts; past: of their customers, None: not known."""
        rows = columns if isinstance(columns, ContactRows) else self.rows(columns)
        parts = [contact_numbers(rows, self.chosen(contact.NUMBERS))]
        of_customer = self.chosen((*customer.NUMBERS, *customer.RELATIONSHIP))
        if of_customer:
            parts.append(table(of_customer, nobody(len(rows)) if past is None else past, len(rows), self))
        return self.codes(rows), np.concatenate(parts, axis=1)

    def neutral(self, rows: int) -> dict[str, npt.NDArray[Any]]:
        """`categories` (B, C) and `numbers` (B, F) of contacts of whom only the text is known."""
        numbers = np.full((rows, len(self.numbers)), np.nan, np.float32)
        numbers[:, len(self.numbers) - self.relationship :] = 0
        return {"categories": np.zeros((rows, len(self.categories)), np.int64), "numbers": numbers}

    def identity_of(self, csa_ids: Sequence[str] | pa.Array) -> Codes:
        """Identity codes (J,) of CSA ids, 0 for those without an identity embedding."""
        ids = csa_ids if isinstance(csa_ids, pa.Array) else pa.array(csa_ids, pa.string())
        found = pc.index_in(ids.cast(pa.string()), pa.array(self.identities, pa.string()))
        return np.asarray(pc.fill_null(found, -1).to_numpy(zero_copy_only=False).astype(np.int64) + 1)

    def described(self) -> list[dict[str, Any]]:
        """Every feature that is on, with its columns: what a reader of the tensors, or a drift monitor, needs."""
        return [
            {**feature.describe(self._widths(feature)), "watched": feature.watched} for feature in self.chosen(FEATURES)
        ]

    def monitored(self) -> list[str]:
        """Columns of which drift means something, in the order of the tensors."""
        return [name for one in self.described() if one["watched"] for name in one["columns"]]

    def to_json(self) -> str:
        """Canonical JSON: equal schemas give equal text."""
        order = {"categories": list(self.categories), "numbers": self.numbers, "csa_numbers": self.csa_numbers}
        described = {**asdict(self), "order": order, "features": self.described()}
        return json.dumps(described, sort_keys=True, ensure_ascii=False, indent=1) + "\n"

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical JSON, in hexadecimal."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    @classmethod
    def load(cls, path: Path | str) -> FeatureSchema:
        """Read `features.json`. Raises BundleError for a schema of another version or with other features."""
        try:
            data: dict[str, Any] = json.loads(Path(path).read_text(encoding="utf-8"))
            if (version := data["version"]) == VERSION:
                fields = {name: data[name] for name in cls.__dataclass_fields__}
                # JSON sorts keys; the order of the tensor's columns is the stated one.
                for name, order in (("categories", CATEGORIES), ("csa_values", CSA_VALUES), ("groups", GROUPS)):
                    fields[name] = {key: fields[name][key] for key in order}
                unknown = [n for n in fields["families"] if n not in FAMILIES]
                schema = cls(**fields)
                same = not unknown and schema._order_of(data["order"])
        except (OSError, KeyError, TypeError, ValueError, AttributeError) as error:
            raise BundleError(f"{path}: not a features.json ({type(error).__name__}: {error})") from None
        if version != VERSION:
            raise BundleError(f"{path}: feature schema {version!r}, this program reads {VERSION}: export again with it")
        if unknown:
            raise BundleError(f"{path}: unknown feature {unknown[0]!r}: written by a newer program, export again")
        if not same:
            raise BundleError(f"{path}: its features are not those of this program: train and export again with it")
        return schema

    def _order_of(self, order: dict[str, Any]) -> bool:
        """Whether the tensors that were written down are the ones that this program makes."""
        mine = {"categories": list(self.categories), "numbers": self.numbers, "csa_numbers": self.csa_numbers}
        return {name: list(order[name]) for name in mine} == mine


def in_order(families: Sequence[str]) -> list[str]:
    """Families without repetition, in the registry's order. Raises ConfigError for an unknown one."""
    if unknown := [name for name in families if name not in FAMILIES]:
        raise ConfigError(f"family {unknown[0]!r} is unknown: {', '.join(FAMILIES)} were expected")
    return [name for name in FAMILIES if name in families]


def nobody(rows: int) -> CustomerRows:
    """What is known of the customers of contacts (N,) of whom nothing is."""
    history = CustomerHistory(customer.SETTINGS, 0, 0)
    return CustomerRows(history.read(np.full(rows, -1)), customer.signatures([""]))


def _values(log: Log, name: str) -> pa.Array:
    values = getattr(log.csas, name)
    if name == "skills":
        return pc.struct_field(pc.list_flatten(values), "name")
    return base_languages(pc.list_flatten(values)) if name == "languages" else values


def _served(rows: ContactRows) -> pa.Array:
    """Languages (N,) of contacts, null where nobody names the language and few texts were taken to be in it."""
    named, least = {*rows.tagged, *rows.of_customers}, max(LEAST_GUESSED, LEAST_SHARE_GUESSED * len(rows))
    stray = {one for one, count in Counter(rows.guessed).items() if count < least} - named
    return pa.array([None if one in stray else one for one in rows.languages], pa.large_string())


def _vocabulary(values: pa.Array, most: int) -> list[str]:
    """The most frequent values (ties by name), sorted by name so that small changes of counts move no code."""
    counts = pc.value_counts(pc.drop_null(values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values))
    pairs = sorted(((c["values"].as_py(), c["counts"].as_py()) for c in counts), key=lambda p: (-p[1], p[0]))
    return sorted(value for value, _ in pairs[:most])


def log_columns(log: Log, rows: npt.NDArray[np.int64] | None = None) -> dict[str, Any]:
    """The columns that contact features read, for all contacts of a log or for some."""
    contacts = log.contacts
    picked = None if rows is None else pa.array(rows)

    def pick(values: pa.Array) -> pa.Array:
        return values if picked is None else values.take(picked)

    customer = contacts.customer if rows is None else contacts.customer[rows]
    return {
        "intent_text": pick(contacts.intent_text),
        "transcript": pick(contacts.transcript),
        **{name: pick(getattr(contacts, name)) for name in CATEGORIES},
        "priority": contacts.priority if rows is None else contacts.priority[rows],
        "arrived_at": (contacts.arrived_at if rows is None else contacts.arrived_at[rows]).astype(np.float64),
        "customer_id": pa.array(np.full(len(customer), "known"), pa.string(), mask=customer < 0),
        **customer_columns(log, customer),
    }


def customer_columns(log: Log, customer: npt.NDArray[np.int32]) -> dict[str, Any]:
    """What customers.parquet tells contact features of customers (N,) of a log, −1 nobody: `customer_since` µs f8 (N,),
    NaN where it is not known, and `customer_language`, the tag as given."""
    since, known = np.full(len(customer), np.nan), customer >= 0
    if log.customer_since is not None and known.any():
        moments = log.customer_since[customer[known]]
        inside = (moments > np.iinfo(np.int64).min) & (moments < np.iinfo(np.int64).max)
        since[known] = np.where(inside, moments.astype(np.float64), np.nan)
    return {"customer_since": since, "customer_language": log.customer_language.take(pa.array(customer, mask=~known))}
