"""CSA features as of a moment: what the roster says of them, beside what their past says.

Notable: skills and profiles are read as *text* through the frozen base embedding, levels as weights, so a skill nobody
had when the model was trained still means something; a CSA hired a minute ago has every feature but a past. What only
depends on a dated row is computed once a row, and looked up by the row that counts at a moment.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from twotower.clock import DAY, NEVER, NULL_TIME
from twotower.features.customer import SIGNATURE, signatures
from twotower.features.engine.csa import CsaHistory
from twotower.features.engine.readout import Priors
from twotower.features.engine.record import RECORD, Record
from twotower.features.engine.settings import CsaSettings
from twotower.features.feature import Feature, table
from twotower.text.identify import base_language

if TYPE_CHECKING:
    from twotower.features.schema import FeatureSchema
    from twotower.tables.log import Csas

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Embed = Callable[[Sequence[str]], Floats]  # texts → (N, K) unit vectors of the frozen base embedding
YOUNG_DAYS = (30, 180)  # half-lives of a beginner's curve


class RosterRows:
    """The R dated rows of a roster, and the embedding that reads their texts (once a distinct text)."""

    def __init__(self, csas: Csas, schema: FeatureSchema, embed: Embed) -> None:
        self.csas, self.schema, self._embed = csas, schema, embed

    def __len__(self) -> int:
        return len(self.csas.csa)

    def profile(self) -> Floats:
        """Base embedding (R, K) of the profile text."""
        return _embed_distinct(self.csas.profile, self.schema.base_dim, self._embed)

    @cached_property
    def _skills(self) -> tuple[npt.NDArray[np.int64], pa.Array, Floats]:
        """Of every declared skill: the row it stands in, its name, its level."""
        skills = self.csas.skills
        lengths = pc.fill_null(pc.list_value_length(skills), 0).to_numpy(zero_copy_only=False)
        flat = pc.list_flatten(skills)
        level = pc.fill_null(pc.struct_field(flat, "level").cast(pa.float32()), 0).to_numpy(zero_copy_only=False)
        return np.repeat(np.arange(len(self)), lengths), pc.struct_field(flat, "name").cast(pa.string()), level

    @cached_property
    def _skill_counts(self) -> Floats:
        return np.maximum(np.bincount(self._skills[0], minlength=len(self)), 1).astype(np.float32)

    def skill_vectors(self) -> Floats:
        """Level-weighted mean (R, K) of the skills' name vectors."""
        owner, names, level = self._skills
        vectors = np.zeros((len(self), self.schema.base_dim), np.float32)
        if len(owner):
            np.add.at(vectors, owner, _embed_distinct(names, self.schema.base_dim, self._embed) * level[:, None])
        return np.asarray(vectors / self._skill_counts[:, None])

    def skill_level(self) -> Floats:
        """Mean declared level (R,)."""
        owner, _, level = self._skills
        total = np.zeros(len(self), np.float32)
        np.add.at(total, owner, level)
        return np.asarray(total / self._skill_counts)

    def skill_levels(self) -> Floats:
        """Declared level (R, values) of each skill of the vocabulary, 0 where it is not declared."""
        vocabulary = self.schema.csa_values["skills"]
        out = np.zeros((len(self), len(vocabulary)), np.float32)
        owner, names, level = self._skills
        if len(owner) and vocabulary:
            place = pc.index_in(names, pa.array(vocabulary, pa.string()))
            column = pc.fill_null(place, -1).to_numpy(zero_copy_only=False)
            out[owner[column >= 0], column[column >= 0]] = level[column >= 0]
        return out

    def languages(self) -> Floats:
        """1 (R, values) where a base language of the vocabulary is spoken."""
        spoken = self.csas.languages
        vocabulary = self.schema.csa_values["languages"]
        out = np.zeros((len(self), len(vocabulary)), np.float32)
        lengths = pc.fill_null(pc.list_value_length(spoken), 0).to_numpy(zero_copy_only=False)
        owner, values = np.repeat(np.arange(len(self)), lengths), base_languages(pc.list_flatten(spoken))
        for i, value in enumerate(vocabulary):
            out[owner[_equal(values, value)], i] = 1
        return out

    def one_hot(self, name: str) -> Floats:
        """1 (R, values) where a row has a value of the vocabulary."""
        columns = (_equal(getattr(self.csas, name), value) for value in self.schema.csa_values[name])
        return np.column_stack([np.zeros((len(self), 0)), *columns]).astype(np.float32)


@dataclass(frozen=True)
class RosterMoment:
    """J CSAs at a moment (µs): the dated row that counts of each, −1 where none does yet."""

    csas: Csas
    rows: npt.NDArray[np.signedinteger[Any]]
    moment: int

    @cached_property
    def hired(self) -> npt.NDArray[np.bool_]:
        """Whether the day of hiring is known (J,)."""
        at = self._hired_at
        return np.asarray((at != NULL_TIME) & (at != NEVER))

    @cached_property
    def _hired_at(self) -> npt.NDArray[np.int64]:
        return np.where(self.rows >= 0, self.csas.hired_at[self.rows.clip(0)], NULL_TIME)

    @cached_property
    def days(self) -> Doubles:
        """Days (J,) since the hiring, 0 where that is not known or lies ahead."""
        return np.asarray(
            np.where(self.hired, (self.moment - np.where(self.hired, self._hired_at, 0)) / DAY, 0).clip(0)
        )

    def young(self, half_life: int) -> Doubles:
        """2^(−days / half-life) (J,), 0 where the hiring is not known."""
        return np.asarray(np.exp2(-self.days / half_life) * self.hired)


def _texts(name: str, family: str, meaning: str, compute: Callable[[RosterRows], Floats]) -> Feature[RosterRows]:
    def columns(schema: FeatureSchema) -> list[str]:
        return [f"{name}_{i}" for i in range(schema.base_dim)]

    unit = "components of a text"
    return Feature(name, "csa", family, unit, -1.0, 1.0, meaning, "roster", compute, columns, watched=False)


def _values(name: str, family: str, meaning: str, compute: Callable[[RosterRows], Floats]) -> Feature[RosterRows]:
    unit = "level" if name == "skills" else "0 or 1"

    def columns(schema: FeatureSchema) -> list[str]:
        return [f"{name}={value}" for value in schema.csa_values[name]]

    # `skills` is the mean of the names' vectors already.
    called = "skill" if name == "skills" else name
    return Feature(called, "csa", family, unit, 0.0, 1.0, meaning, "roster", compute, columns)


def _tenure(
    name: str, unit: str, high: float, meaning: str, compute: Callable[[RosterMoment], npt.NDArray[Any]]
) -> Feature[RosterMoment]:
    return Feature(name, "csa", "tenure", unit, 0.0, high, meaning, "roster", compute)


def _young(half_life: int) -> Feature[RosterMoment]:
    meaning = f"beginner's curve: 2^(−days since hiring / {half_life}), 0 where the hiring is not known"
    return _tenure(f"tenure_{half_life}d", "1", 1.0, meaning, lambda m: m.young(half_life))


ROSTER: tuple[Feature[RosterRows], ...] = (
    _texts("profile", "profile", "base embedding of the profile text", RosterRows.profile),
    _texts("skills", "skills", "mean base embedding of the skills' names, by level", RosterRows.skill_vectors),
    _values("languages", "roster", "speaks a language", RosterRows.languages),
    _values("skills", "skills", "declared level of a skill", RosterRows.skill_levels),
    _values("site", "roster", "works at a site", lambda rows: rows.one_hot("site")),
    _values("team", "roster", "belongs to a team", lambda rows: rows.one_hot("team")),
    _values("kind", "roster", "is of a kind, such as csa or bot", lambda rows: rows.one_hot("kind")),
    Feature(
        "skill_level", "csa", "skills", "level", 0, 1, "mean declared level", "roster", RosterRows.skill_level
    ),
)  # fmt: skip
TENURE: tuple[Feature[RosterMoment], ...] = (
    _tenure("tenure", "log(1 + days)", np.inf, "since hiring, 0 where that is not known", lambda m: np.log1p(m.days)),
    _tenure("tenure_known", "0 or 1", 1.0, "whether the day of hiring is known", lambda m: m.hired),
    *(_young(half_life) for half_life in YOUNG_DAYS),
)
SIGNED: Feature[Sequence[str]] = Feature(
    "signature", "csa", "relationship", "±1/√R", -1.0, 1.0, "code of the CSA's id, which met_* of a contact sum up",
    "never", signatures, lambda _: [f"signature_{i}" for i in range(SIGNATURE)], watched=False,
)  # fmt: skip
BEFORE: tuple[Feature[Any], ...] = (*ROSTER, *TENURE)
CSA: tuple[Feature[Any], ...] = (*BEFORE, *RECORD, SIGNED)


class CsaFeatures:
    """Features of a roster as of any moment.

    csas: dated roster rows; schema: fitted; embed: the base embedding, called once a distinct text.
    """

    def __init__(self, csas: Csas, schema: FeatureSchema, embed: Embed) -> None:
        self.csas, self.schema = csas, schema
        self._static = table(schema.chosen(ROSTER), RosterRows(csas, schema, embed), len(csas.csa), schema)
        self._tenure = schema.chosen(TENURE)
        self._signed = table(schema.chosen((SIGNED,)), csas.ids.to_pylist(), len(csas.ids), schema)

    def at(self, moment: int, history: CsaHistory) -> Floats:
        """Features (J, G) float32 as of a moment at which the history stands.

        A CSA whose every dated row is later reads as one of whom nothing is known.
        """
        before, after = self.declared(moment)
        return np.concatenate([before, of_past(self.schema, history, moment), after], axis=1)

    def declared(self, moment: int) -> tuple[Floats, Floats]:
        """What the roster says as of a moment: the columns before those of the past and those after them."""
        rows = self.csas.row_at(moment)
        static = self._static[rows.clip(0)] * (rows >= 0)[:, None]
        tenure = table(self._tenure, RosterMoment(self.csas, rows, moment), len(rows), self.schema)
        return np.concatenate([static, tenure], axis=1), self._signed


def of_past(
    schema: FeatureSchema,
    history: CsaHistory,
    moment: int,
    csas: npt.NDArray[np.int64] | None = None,
    priors: Priors | None = None,
) -> Floats:
    """What the past says (J, R) float32 of every CSA as of a moment, or of some, by the columns `past_columns`.

    csas: distinct codes; priors: of an earlier call for all, kept and handed in again for some; None: of this call.
    """
    chosen, settings = schema.chosen(RECORD), history.settings
    if not chosen:
        return np.zeros((history.csas if csas is None else len(csas), 0), np.float32)
    reading = history.read(moment, [name for name, _ in settings.families], csas)
    return table(chosen, Record(reading, settings, priors), len(reading.last), settings, _counts(chosen, settings))


@lru_cache(maxsize=8)
def _counts(features: tuple[Feature[Any], ...], settings: CsaSettings) -> list[int]:
    """How many columns each has. Their names take longer to make than the numbers of one CSA."""
    return [len(feature.names(settings)) for feature in features]


def past_columns(schema: FeatureSchema) -> slice:
    """Where the columns of the past stand among `schema.csa_numbers`."""
    before, past = (sum(len(schema.columns_of(one)) for one in schema.chosen(part)) for part in (BEFORE, RECORD))
    return slice(before, before + past)


def _equal(values: pa.Array, wanted: str) -> npt.NDArray[np.bool_]:
    return np.asarray(pc.fill_null(pc.equal(values, wanted), False).to_numpy(zero_copy_only=False), dtype=bool)


def base_languages(values: pa.Array) -> pa.Array:
    """Base language of each tag, null for one that says none; each distinct tag is read once."""
    coded = pc.dictionary_encode(values)
    bases = pa.array([base_language(tag) for tag in coded.dictionary.to_pylist()], pa.string())
    return bases.take(coded.indices)


def _embed_distinct(values: pa.Array, width: int, embed: Embed) -> Floats:
    """Base embeddings (R, K) of texts, zero for null and empty ones; each distinct text is embedded once."""
    coded = pc.dictionary_encode(pc.fill_null(values, ""))
    coded = coded.combine_chunks() if isinstance(coded, pa.ChunkedArray) else coded
    texts = coded.dictionary.to_pylist()
    if not texts:
        return np.zeros((len(values), width), np.float32)
    vectors = np.where([[bool(t)] for t in texts], embed([t or " " for t in texts]), 0)
    return np.asarray(vectors[coded.indices.to_numpy(zero_copy_only=False)], dtype=np.float32)


def snapshot_times(first: int, last: int, granularity: int) -> npt.NDArray[np.int64]:
    """Moments i8[S] of the snapshots that contacts arriving in [first, last] read: multiples of the granularity."""
    return np.arange(first // granularity, last // granularity + 1, dtype=np.int64) * granularity
