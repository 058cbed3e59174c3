"""CSA features as of a moment: what the roster says of them, beside what the history engine says.

Notable: skills and profiles are read as *text* through the frozen base embedding, levels as weights, so a skill nobody
had when the model was trained still means something; a CSA hired a minute ago has every feature but a past.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from twotower.clock import DAY, NEVER, NULL_TIME
from twotower.features.history import HistoryEngine, KnownHandovers
from twotower.features.schema import FeatureSchema

if TYPE_CHECKING:
    from twotower.tables.log import Csas

Floats = npt.NDArray[np.float32]
Embed = Callable[[Sequence[str]], Floats]  # texts → (N, K) unit vectors of the frozen base embedding


class CsaFeatures:
    """Features of a roster as of any moment.

    csas: dated roster rows; schema: fitted; embed: the base embedding, called once a distinct text.
    """

    def __init__(self, csas: Csas, schema: FeatureSchema, embed: Embed) -> None:
        self.csas = csas
        self.schema = schema
        self._profile = _embed_distinct(csas.profile, schema.base_dim, embed)
        self._skills, self._level = self._skill_vectors(embed)
        self._values = np.column_stack(
            [
                self._one_hot_lists(csas.languages, schema.csa_values["languages"]),
                self._levels(schema.csa_values["skills"]),
                self._one_hot(csas.site, schema.csa_values["site"]),
                self._one_hot(csas.team, schema.csa_values["team"]),
                self._one_hot(csas.kind, schema.csa_values["kind"]),
            ]
        ).astype(np.float32)

    def at(self, moment: int, history: Floats) -> Floats:
        """Features (J, G) float32 as of a moment; history (J, 5 + 2 K) from `HistoryEngine.features` at that moment, of
        which the schema says how much is read.

        A CSA whose every dated row is later reads as one of whom nothing is known.
        """
        rows = self.csas.row_at(moment)
        listed = rows >= 0
        hired = np.where(listed, self.csas.hired_at[rows.clip(0)], NULL_TIME)
        dated = (hired != NULL_TIME) & (hired != NEVER)
        days = np.where(dated, (moment - np.where(dated, hired, moment)) / DAY, 0).clip(0)
        static = np.column_stack([self._profile, self._skills, self._values])[rows.clip(0)] * listed[:, None]
        numbers = np.column_stack([np.log1p(days), dated, np.where(listed, self._level[rows.clip(0)], 0)])
        return np.column_stack([static, numbers, history[:, : self.schema.history_columns]]).astype(np.float32)

    def _skill_vectors(self, embed: Embed) -> tuple[Floats, Floats]:
        """Level-weighted mean (R, K) of the skills' name vectors, and the mean level (R,)."""
        skills = self.csas.skills
        count = len(self.csas.csa)
        lengths = pc.fill_null(pc.list_value_length(skills), 0).to_numpy(zero_copy_only=False)
        flat = pc.list_flatten(skills)
        vectors, level = np.zeros((count, self.schema.base_dim), np.float32), np.zeros(count, np.float32)
        if not len(flat):
            return vectors, level
        owner = np.repeat(np.arange(count), lengths)
        levels = pc.fill_null(pc.struct_field(flat, "level").cast(pa.float32()), 0).to_numpy(zero_copy_only=False)
        names = _embed_distinct(pc.struct_field(flat, "name"), self.schema.base_dim, embed)
        np.add.at(vectors, owner, names * levels[:, None])
        np.add.at(level, owner, levels)
        many = np.maximum(lengths, 1).astype(np.float32)
        return vectors / many[:, None], level / many

    def _levels(self, vocabulary: list[str]) -> Floats:
        """Declared level (R, len(vocabulary)) of each known skill, 0 where it is not declared."""
        skills = self.csas.skills
        out = np.zeros((len(skills), len(vocabulary)), np.float32)
        lengths = pc.fill_null(pc.list_value_length(skills), 0).to_numpy(zero_copy_only=False)
        flat = pc.list_flatten(skills)
        if not len(flat) or not vocabulary:
            return out
        place = pc.index_in(pc.struct_field(flat, "name").cast(pa.string()), pa.array(vocabulary, pa.string()))
        column = pc.fill_null(place, -1).to_numpy(zero_copy_only=False)
        level = pc.fill_null(pc.struct_field(flat, "level").cast(pa.float32()), 0).to_numpy(zero_copy_only=False)
        owner = np.repeat(np.arange(len(skills)), lengths)
        out[owner[column >= 0], column[column >= 0]] = level[column >= 0]
        return out

    @staticmethod
    def _one_hot(values: pa.Array, vocabulary: list[str]) -> Floats:
        columns = (_equal(values, v) for v in vocabulary)
        return np.column_stack([np.zeros((len(values), 0)), *columns]).astype(np.float32)

    @staticmethod
    def _one_hot_lists(lists: pa.Array, vocabulary: list[str]) -> Floats:
        out = np.zeros((len(lists), len(vocabulary)), np.float32)
        lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False)
        owner = np.repeat(np.arange(len(lists)), lengths)
        for i, value in enumerate(vocabulary):
            out[owner[_equal(pc.list_flatten(lists), value)], i] = 1
        return out


def _equal(values: pa.Array, wanted: str) -> npt.NDArray[np.bool_]:
    return np.asarray(pc.fill_null(pc.equal(values, wanted), False).to_numpy(zero_copy_only=False), dtype=bool)


def _embed_distinct(values: pa.Array, width: int, embed: Embed) -> Floats:
    """Base embeddings (R, K) of texts, zero for null and empty ones; each distinct text is embedded once."""
    coded = pc.dictionary_encode(pc.fill_null(values, ""))
    coded = coded.combine_chunks() if isinstance(coded, pa.ChunkedArray) else coded
    texts = coded.dictionary.to_pylist()
    if not texts:
        return np.zeros((len(values), width), np.float32)
    vectors = np.where([[bool(t)] for t in texts], embed([t or " " for t in texts]), 0)
    return np.asarray(vectors[coded.indices.to_numpy(zero_copy_only=False)], dtype=np.float32)


def snapshots(
    features: CsaFeatures,
    engine: HistoryEngine,
    handovers: KnownHandovers,
    moments: Sequence[int],
    exposure: list[Floats] | None = None,
) -> Floats:
    """Features (S, J, G) float32 at increasing moments; the engine is left at the last of them.

    exposure: where given, each moment's decayed hand-overs (J,) of the CSAs are appended to it.
    """
    shape = (len(moments), len(features.csas.ids), len(features.schema.csa_numbers))
    out = np.zeros(shape, dtype=np.float32)
    for i, moment in enumerate(moments):
        engine.advance(handovers, int(moment))
        out[i] = features.at(int(moment), engine.features())
        if exposure is not None:
            exposure.append(engine.sums[:, 0].astype(np.float32))
    return out
