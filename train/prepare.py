"""From tables to tensors: everything a training run reads, computed once.

Notable: what every CSA looked like is kept as snapshots (S, J, G), never pair by pair; the validation window is the
last part of the log, and a training hand-over is one whose outcome was known before that window opened.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from train.past import bands_of, engine_core, fit_heads, past_of_csas
from train.start import Start, labels_of
from train.texts import ReadTexts, base_of, read_texts
from train.topics import fit_topics, read_topics
from twotower.clock import NEVER
from twotower.errors import DataError
from twotower.features.complexity import COMPLEXITY
from twotower.features.csa import CsaFeatures, snapshot_times
from twotower.features.engine.csa import CsaHistory
from twotower.features.registry import DEFAULT
from twotower.features.schema import FeatureSchema, log_columns
from twotower.features.streams import CustomerPast, Told, with_intents
from twotower.tables.log import Log, Ragged
from twotower.text.tokens import TokenArrays, Tokenizer
from twotower.towers.config import TowerConfig
from twotower.towers.heads import Heads
from twotower.towers.topics import Topics

Floats = npt.NDArray[np.float32]
Longs = npt.NDArray[np.int64]
ENOUGH_TO_VALIDATE = 3000  # contacts; the join has a few weights, the towers many
LEAST_HANDOVERS = 50  # fewer cannot train and validate anything


@dataclass(frozen=True)
class TrainingSet:
    """What a run learns from; N contacts, M hand-overs sorted by known_at, J CSAs, S snapshots.

    `tokens` ragged (N); `categories` i8 (N, C), `numbers` f4 (N, F), `base` f4 (N, K); `csa_features` f4 (S, J, G) at
    `moments` i8 (S,) µs; `exposure` f4 (S, J) decayed hand-overs of each CSA; `snapshot` i8 (N,), the snapshot a
    contact reads; `contact`, `csa`, `resolved`, `known_at` of the hand-overs; `arrived_at`, `customer` (N,); `eligible`
    or None; `split` µs, where validation opens; `end` µs, just after the last thing the log knows; `roster_features` f4
    (J, G) and `engine`, the history state, as of `end`; `frozen_text` f4 (N, width), the text vectors where the
    backbone is frozen; `read` f4 (N, W + T), the frozen text vectors that the heads read, and the presence of topics;
    `told` f4 (N, T), complexity as
    it was known on arrival, NaN where it was not; `heads` the fitted heads.
    """

    schema: FeatureSchema
    tokenizer: Tokenizer
    tokens: TokenArrays
    categories: npt.NDArray[np.int64]
    numbers: Floats
    base: Floats
    read: Floats
    told: Floats
    heads: Heads
    topics: Topics | None
    csa_features: Floats
    exposure: Floats
    moments: npt.NDArray[np.int64]
    snapshot: npt.NDArray[np.int64]
    identity: npt.NDArray[np.int64]
    arrived_at: npt.NDArray[np.int64]
    customer: npt.NDArray[np.int32]
    contact: npt.NDArray[np.int64]
    csa: npt.NDArray[np.int64]
    resolved: npt.NDArray[np.int8]
    known_at: npt.NDArray[np.int64]
    eligible: Ragged | None
    split: int
    table: Floats
    log_weight: Floats
    end: int
    roster_features: Floats
    engine: CsaHistory
    frozen_text: Floats | None = None

    @property
    def has_failures(self) -> bool:
        """Whether some training hand-over is known not to have resolved its contact."""
        return bool((self.resolved[self.training()] == 0).any())

    def training(self) -> npt.NDArray[np.int64]:
        """Positions of the hand-overs known before validation opens."""
        return np.flatnonzero(self.known_at < self.split)

    def validation(self) -> npt.NDArray[np.int64]:
        """Positions of the hand-overs of contacts that arrived once validation was open."""
        return np.flatnonzero((self.arrived_at[self.contact] >= self.split) & (self.known_at < NEVER))


def prepare(
    log: Log,
    config: TowerConfig,
    validation_share: float | None,
    store: Path | None = None,
    start: Start | None = None,
) -> TrainingSet:
    """Fit the features on a log and compute what training reads of it; store: folder where its tokens are kept; start:
    the run that this one goes on from, whose words and topics stay.

    Raises DataError where the log is too small to train on, ConfigError where it does not go on from `start`.
    """
    usable, moves, arrived = usable_handovers(log), log.handovers, log.contacts.arrived_at
    share = min(0.1, ENOUGH_TO_VALIDATE / len(arrived)) if validation_share is None else validation_share
    split = int(arrived[int(len(arrived) * (1 - share))])
    schema = FeatureSchema.fit(log, config.base_dim, config.max_tokens, config.families or DEFAULT)
    # The window's end comes from the data, not from an option, so that a cut table and a cut option give the same run.
    end = 1 + max(int(arrived[-1]), int(moves.known_at[usable].max()))
    if start is not None:
        start.follows(split, end)
        start.fits(config, schema.families)
    core = engine_core(len(usable))
    rows = schema.rows(log_columns(log))
    past = CustomerPast(log, schema, rows, core).at(log.contacts.customer, arrived)
    categories, numbers = schema.contact_inputs(rows, past)
    texts = read_texts(log, config, schema, rows, int(np.searchsorted(arrived, split)), store, start)
    heads, intents, complexity = fit_heads(log, config, schema, texts.read, categories, split)
    fitted = [one.name for one, told in zip(COMPLEXITY, complexity.T, strict=True) if np.isfinite(told).any()]
    schema = replace(schema, bands=bands_of(complexity, arrived, split), heads=fitted)
    base = base_of(texts.read, config.base_dim)
    topics, read = with_topics(texts, config, schema, categories, int(np.searchsorted(arrived, split)), start)
    signals = rows.signals if schema.has("upset") else None
    told = Told(base, with_intents(schema, schema.codes(rows), intents), complexity, signals)
    features = CsaFeatures(log.csas, schema, lambda names: texts.base(names, config.base_dim))
    moments = snapshot_times(int(arrived[0]), int(arrived[-1]), schema.granularity_us)
    csas = past_of_csas(log, schema, features, told, moments, end, core)
    return TrainingSet(
        schema=schema, tokenizer=texts.tokenizer, tokens=texts.tokens, categories=categories, numbers=numbers,
        base=base, read=read, told=complexity, heads=heads, topics=topics, csa_features=csas.features,
        exposure=csas.exposure,
        moments=moments, snapshot=np.searchsorted(moments, arrived, side="right") - 1,
        identity=schema.identity_of(log.csas.ids), arrived_at=arrived, customer=log.contacts.customer,
        contact=moves.contact[usable].astype(np.int64), csa=moves.csa[usable].astype(np.int64),
        resolved=moves.resolved[usable], known_at=moves.known_at[usable], eligible=log.contacts.eligible,
        split=split, table=texts.table, log_weight=texts.log_weight, end=end, roster_features=csas.at_end,
        engine=csas.history,
    )  # fmt: skip


def with_topics(
    texts: ReadTexts,
    config: TowerConfig,
    schema: FeatureSchema,
    categories: Longs,
    before: int,
    start: Start | None = None,
) -> tuple[Topics | None, Floats]:
    """Topics fitted on the first `before` contacts, or those of `start`, where it knows their intents; and what is read
    of all contacts with them behind it."""
    if not config.topics:
        return None, texts.read
    label, language = (categories[:before, list(schema.categories).index(name)] - 1 for name in ("intent", "language"))
    if start is not None and start.knows(labels_of(schema.categories["intent"], label + 1)):
        topics: Topics | None = start.topics
    else:
        topics = fit_topics(texts.tokens.first(before), texts.tokenizer, label, language, config.topics)
    if topics is None:
        return None, texts.read
    return topics, np.concatenate([texts.read, read_topics(topics, texts.tokens)], axis=1)


def eligible_mask(data: TrainingSet, contacts: Longs) -> npt.NDArray[np.bool_] | None:
    """(B, J) who could have taken each contact, or None where the log does not say."""
    return None if data.eligible is None else data.eligible.mask(contacts, len(data.identity))


def usable_handovers(log: Log) -> Longs:
    """Positions of the hand-overs with a known end. Raises DataError where these are too few to train on."""
    usable = np.flatnonzero(log.handovers.known_at < NEVER)
    if len(usable) < LEAST_HANDOVERS:
        raise DataError(
            f"interactions.parquet: {len(usable)} hand-overs with a known end, {LEAST_HANDOVERS} are needed to train"
        )
    return usable
