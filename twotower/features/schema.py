"""The feature schema: which features the towers read, in which order, with the vocabularies fitted on the log.

Notable: everything that turns a table's row into a tensor is in this object and its JSON (`features.json`), so a
bundle needs nothing else of training, and its digest says whether two bundles read the same features.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from twotower.clock import DAY
from twotower.errors import BundleError
from twotower.features.contact import CATEGORIES, NUMBERS, Columns, contact_categories, contact_numbers, strings
from twotower.features.history import HISTORY_NUMBERS, history_names

if TYPE_CHECKING:
    from twotower.tables.log import Log

VERSION = 1
MOST_VALUES = 512  # of a contact category; rarer values read as unknown
CSA_VALUES = ("languages", "skills", "site", "team", "kind")
MOST_CSA_VALUES = 64  # columns for languages, skills, sites, teams and kinds each


@dataclass(frozen=True)
class FeatureSchema:
    """What the towers read.

    `categories`: contact category → vocabulary (code = 1 + position, 0 unknown). `numbers`: contact numbers, in order.
    `csa_values`: columns for `languages`, `skills` (level), `site`, `team`, `kind`. `identities`: CSA ids with an
    identity embedding (code = 1 + position, 0 a stranger). `base_dim` K of the base embedding. `granularity_us` between
    history snapshots, `history_half_life_s` of the history sums, `max_tokens` read of a text, `history` (`none`,
    `rates` or `all`) how much of the engine's features the CSA tower reads.
    """

    categories: dict[str, list[str]]
    numbers: list[str]
    csa_values: dict[str, list[str]]
    identities: list[str]
    base_dim: int
    max_tokens: int
    granularity_us: int
    history_half_life_s: float
    history: str = "none"
    version: int = VERSION

    @classmethod
    def fit(
        cls,
        log: Log,
        base_dim: int,
        max_tokens: int,
        half_life_days: float = 90.0,
        snapshots: int = 128,
        history: str = "none",
    ) -> FeatureSchema:
        """Fit the vocabularies on a log.

        Snapshots are a day apart, or further where the log's span would need more than `snapshots` of them.
        """
        columns = log_columns(log)
        arrived = log.contacts.arrived_at
        span = int(arrived[-1] - arrived[0]) if len(arrived) else 0
        return cls(
            categories={name: _vocabulary(strings(columns, name), MOST_VALUES) for name in CATEGORIES},
            numbers=list(NUMBERS),
            csa_values={name: _vocabulary(_values(log, name), MOST_CSA_VALUES) for name in CSA_VALUES},
            identities=log.csas.ids.to_pylist(),
            base_dim=base_dim,
            max_tokens=max_tokens,
            granularity_us=max(1, -(-span // (snapshots * DAY))) * DAY,
            history_half_life_s=half_life_days * 86400,
            history=history,
        )

    @property
    def csa_numbers(self) -> list[str]:
        """Names of the CSA features, in the tensor's order."""
        texts = [f"{part}_{i}" for part in ("profile", "skills") for i in range(self.base_dim)]
        values = [f"{name}={value}" for name, known in self.csa_values.items() for value in known]
        past = history_names(self.base_dim)[: self.history_columns]
        return [*texts, *values, "tenure", "tenure_known", "skill_level", *past]

    @property
    def history_columns(self) -> int:
        """How many of the columns of `HistoryEngine.features` the CSA tower reads."""
        return {"none": 0, "rates": len(HISTORY_NUMBERS), "all": len(HISTORY_NUMBERS) + 2 * self.base_dim}[self.history]

    def contact_inputs(self, columns: Columns) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        """(categories (N, C) int64, numbers (N, F) float32) of rows given as columns named as in contacts.parquet.

        `arrived_at` and `customer_since` are microseconds; absent columns and nulls are allowed everywhere.
        """
        return contact_categories(columns, self.categories), contact_numbers(columns, self.numbers)

    def identity_of(self, csa_ids: Sequence[str] | pa.Array) -> npt.NDArray[np.int64]:
        """Identity codes (J,) of CSA ids, 0 for those without an identity embedding."""
        ids = csa_ids if isinstance(csa_ids, pa.Array) else pa.array(csa_ids, pa.string())
        found = pc.index_in(ids.cast(pa.string()), pa.array(self.identities, pa.string()))
        return np.asarray(pc.fill_null(found, -1).to_numpy(zero_copy_only=False).astype(np.int64) + 1)

    def to_json(self) -> str:
        """Canonical JSON: equal schemas give equal text."""
        described = {
            **asdict(self),
            "contact": {"categories": list(self.categories), "numbers": {n: NUMBERS[n][0] for n in self.numbers}},
            "csa": {"numbers": self.csa_numbers},
        }
        return json.dumps(described, sort_keys=True, ensure_ascii=False, indent=1) + "\n"

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical JSON, in hexadecimal."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    @classmethod
    def load(cls, path: Path | str) -> FeatureSchema:
        """Read `features.json`. Raises BundleError for a schema of another version or with unknown features."""
        try:
            data: dict[str, Any] = json.loads(Path(path).read_text(encoding="utf-8"))
            if (version := data["version"]) == VERSION:
                fields = {name: data[name] for name in cls.__dataclass_fields__}
                # JSON sorts keys; the order of the tensor's columns is the stated one.
                fields["categories"] = {name: fields["categories"][name] for name in data["contact"]["categories"]}
                fields["csa_values"] = {name: fields["csa_values"][name] for name in CSA_VALUES}
                unknown = [n for n in fields["numbers"] if n not in NUMBERS]
                unknown += [n for n in fields["categories"] if n not in CATEGORIES]
                unknown += [n for n in [fields["history"]] if n not in ("none", "rates", "all")]
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise BundleError(f"{path}: not a features.json ({type(error).__name__}: {error})") from None
        if version != VERSION:
            raise BundleError(f"{path}: feature schema {version!r}, this program reads {VERSION}: export again with it")
        if unknown:
            raise BundleError(f"{path}: unknown feature {unknown[0]!r}: written by a newer program, export again")
        return cls(**fields)


def _values(log: Log, name: str) -> pa.Array:
    values = getattr(log.csas, name)
    if name == "skills":
        return pc.struct_field(pc.list_flatten(values), "name")
    return pc.list_flatten(values) if name == "languages" else values


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
    since = np.full(len(customer), np.nan)
    known = customer >= 0
    if log.customer_since is not None and known.any():
        moments = log.customer_since[customer[known]]
        inside = (moments > np.iinfo(np.int64).min) & (moments < np.iinfo(np.int64).max)
        since[known] = np.where(inside, moments.astype(np.float64), np.nan)
    return {
        "intent_text": pick(contacts.intent_text),
        "transcript": pick(contacts.transcript),
        **{name: pick(getattr(contacts, name)) for name in CATEGORIES},
        "priority": contacts.priority if rows is None else contacts.priority[rows],
        "arrived_at": (contacts.arrived_at if rows is None else contacts.arrived_at[rows]).astype(np.float64),
        "customer_id": pa.array(np.full(len(known), "known"), pa.string(), mask=~known),
        "customer_since": since,
    }
