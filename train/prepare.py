"""From tables to tensors: everything a training run reads, computed once and kept in one folder.

Notable: texts are tokenised once into memory-mapped arrays; what every CSA looked like is kept as snapshots (S, J, G),
never pair by pair; the validation window is the last part of the log, and a training hand-over is one whose outcome was
known before that window opened. The folder is keyed by the data and the options, so a resumed run reads the same bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from train.heads import blocks, complexity_heads, intent_head, targets
from twotower.clock import NEVER
from twotower.errors import DataError
from twotower.features.complexity import COMPLEXITY
from twotower.features.csa import CsaFeatures, snapshot_times
from twotower.features.engine.core import TWIN, Core, compiled
from twotower.features.engine.csa import CsaHistory
from twotower.features.schema import FeatureSchema, log_columns
from twotower.features.streams import CustomerPast, Told, csa_streams, with_intents
from twotower.progress import track
from twotower.tables.log import Log, Ragged
from twotower.text.tokens import TokenArrays, Tokenizer, compose_text
from twotower.towers.backbones import StaticBackbone, sif_log_weights, unit
from twotower.towers.config import TowerConfig
from twotower.towers.encoders import encoder_path, static_table
from twotower.towers.heads import Heads
from twotower.towers.store import heads_for
from twotower.towers.translate import Pivot
from twotower.towers.views import view_table

Floats = npt.NDArray[np.float32]
Longs = npt.NDArray[np.int64]
ENOUGH_TO_VALIDATE = 3000  # contacts; the join has a few weights, the towers many
LEAST_HANDOVERS = 50  # fewer cannot train and validate anything
ENOUGH_TO_COMPILE = 200_000  # hand-overs; below that numpy is done before a compiler would be
CHUNK = 8192  # contacts that the heads read at once
LEAST_SPREAD = 0.01  # of predicted log handle times; less is no difference


@dataclass(frozen=True)
class TrainingSet:
    """What a run learns from; N contacts, M hand-overs sorted by known_at, J CSAs, S snapshots.

    `tokens` ragged (N); `categories` i8 (N, C), `numbers` f4 (N, F), `base` f4 (N, K); `csa_features` f4 (S, J, G) at
    `moments` i8 (S,) µs; `exposure` f4 (S, J) decayed hand-overs of each CSA; `snapshot` i8 (N,), the snapshot a
    contact reads; `contact`, `csa`, `resolved`, `known_at` of the hand-overs; `arrived_at`, `customer` (N,); `eligible`
    or None; `split` µs, where validation opens; `end` µs, just after the last thing the log knows; `roster_features` f4
    (J, G) and `engine`, the history state, as of `end`; `frozen_text` f4 (N, width), the text vectors where the
    backbone is frozen; `read` f4 (N, W), the frozen text vectors that the heads read; `told` f4 (N, T), complexity as
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


def texts_of(log: Log) -> list[str]:
    """The text (N) that the contact tower reads of each contact."""
    both = zip(log.contacts.intent_text.to_pylist(), log.contacts.transcript.to_pylist(), strict=True)
    return [compose_text(need, said) for need, said in both]


def load_tokenizer(config: TowerConfig) -> Tokenizer:
    """The encoder's own tokenizer, truncating at `config.max_tokens`."""
    path = Path(encoder_path(config.encoder)) / "tokenizer.json"
    if path.is_file():
        return Tokenizer.load(path, config.max_tokens)
    from twotower.towers.encoders import load_encoder

    return Tokenizer(load_encoder(config.encoder).tokenizer.backend_tokenizer, config.max_tokens)


def prepare(log: Log, config: TowerConfig, validation_share: float | None) -> TrainingSet:
    """Fit the features on a log and compute what training reads of it.

    Raises DataError where the log is too small to train on.
    """
    handovers = log.handovers
    usable = np.flatnonzero(handovers.known_at < NEVER)
    if len(usable) < LEAST_HANDOVERS:
        raise DataError(
            f"interactions.parquet: {len(usable)} hand-overs with a known end, {LEAST_HANDOVERS} are needed to train"
        )
    arrived = log.contacts.arrived_at
    share = min(0.1, ENOUGH_TO_VALIDATE / len(arrived)) if validation_share is None else validation_share
    split = int(arrived[int(len(arrived) * (1 - share))])
    before = int(np.searchsorted(arrived, split))
    schema = FeatureSchema.fit(log, config.base_dim, config.max_tokens, config.families)
    core = engine_core(len(usable))
    rows = schema.rows(log_columns(log))
    past = CustomerPast(log, schema, rows, core).at(log.contacts.customer, arrived)
    categories, numbers = schema.contact_inputs(rows, past)
    tokenizer = load_tokenizer(config)
    tokens = tokenizer.encode_corpus(texts_of(log))
    log_weight = sif_log_weights(tokens.ids[: tokens.offsets[before]], tokenizer.size, tokenizer.special_ids())
    language, intent = (categories[:before, list(schema.categories).index(name)] - 1 for name in ("language", "intent"))
    table = token_table(log, config, tokenizer, log_weight, Pivot(language, intent))
    encoder = StaticBackbone(torch.from_numpy(table), torch.from_numpy(log_weight), tokenizer.pad_id)
    read = embed_tokens(encoder, tokens)
    heads, intents, complexity = fit_heads(log, config, schema, read, categories, split)
    schema = replace(schema, bands=bands_of(complexity, arrived, split))
    base = base_of(read, config.base_dim)
    told = Told(
        base, with_intents(schema, categories, intents), complexity, rows.signals if schema.has("upset") else None
    )
    features = CsaFeatures(
        log.csas, schema, lambda texts: base_of(embed_texts(encoder, tokenizer, texts), config.base_dim)
    )
    moments = snapshot_times(int(arrived[0]), int(arrived[-1]), schema.granularity_us)
    # The window's end comes from the data, not from an option, so that a cut table and a cut option give the same run.
    end = 1 + max(int(arrived[-1]), int(handovers.known_at[usable].max()))
    csas = past_of_csas(log, schema, features, told, moments, end, core)
    return TrainingSet(
        schema=schema, tokenizer=tokenizer, tokens=tokens, categories=categories, numbers=numbers, base=base,
        read=read, told=complexity, heads=heads, csa_features=csas.features, exposure=csas.exposure, moments=moments,
        snapshot=np.searchsorted(moments, arrived, side="right") - 1,
        identity=schema.identity_of(log.csas.ids), arrived_at=arrived, customer=log.contacts.customer,
        contact=handovers.contact[usable].astype(np.int64), csa=handovers.csa[usable].astype(np.int64),
        resolved=handovers.resolved[usable], known_at=handovers.known_at[usable], eligible=log.contacts.eligible,
        split=split, table=table, log_weight=log_weight, end=end, roster_features=csas.at_end, engine=csas.history,
    )  # fmt: skip


def engine_core(handovers: int) -> Core:
    """The history engine's loops: compiled where there is enough to do for it and a compiler, else numpy."""
    if handovers < ENOUGH_TO_COMPILE:
        return TWIN
    try:
        import numba
    except ImportError:
        return TWIN
    return compiled(numba.njit)


def base_of(read: Floats, width: int) -> Floats:
    """Base embeddings (N, K) of frozen text vectors (N, W): their first components at unit length."""
    return unit(torch.from_numpy(read[:, :width])).numpy()


def fit_heads(
    log: Log, config: TowerConfig, schema: FeatureSchema, read: Floats, categories: Longs, split: int
) -> tuple[Heads, Longs, Floats]:
    """Fitted heads, the intent code (N,) that they say of each contact, and its complexity (N, T) as of its arrival."""
    heads = heads_for(config, schema, read.shape[1])
    arrived, place = log.contacts.arrived_at, heads.intent
    before = int(np.searchsorted(arrived, split))
    weight, bias = intent_head(read[:before], categories[:before, place], heads.sizes[place] - 1)
    heads.set_intent(torch.from_numpy(weight), torch.from_numpy(bias))
    intents = np.concatenate(
        [
            heads(torch.from_numpy(read[part]), torch.from_numpy(categories[part])).intent.numpy()
            for part in np.array_split(np.arange(len(arrived)), -(-len(arrived) // CHUNK))
        ]
    )

    def inputs(contacts: Longs) -> Floats:
        rows: Floats = heads.inputs(torch.from_numpy(read[contacts]), torch.from_numpy(categories[contacts])).numpy()
        return rows

    fitted = complexity_heads(inputs, arrived, targets(log), split)
    heads.set_complexity(torch.from_numpy(fitted.weight), torch.from_numpy(fitted.bias))
    return heads, intents, fitted.told


def bands_of(complexity: Floats, arrived_at: Longs, split: int) -> list[float]:
    """Edges between four bands of predicted handle time, on the first block of contacts that has predictions.

    Another block would let what was known after a contact's arrival move the band that it is in.
    """
    time = complexity[:, [one.name for one in COMPLEXITY].index("handle_time")]
    for start, end in blocks(arrived_at, split):
        first = time[(arrived_at >= start) & (arrived_at < end)]
        first = first[~np.isnan(first)]
        if len(first):
            spread = len(first) > 1 and float(np.ptp(first)) >= LEAST_SPREAD
            return [float(edge) for edge in np.quantile(first, (0.25, 0.5, 0.75))] if spread else []
    return []


@dataclass(frozen=True)
class CsaPast:
    """CSA features f4 (S, J, G) and decayed hand-overs f4 (S, J) at snapshots, features f4 (J, G) at the end of the
    window, and the history as it stands there."""

    features: Floats
    exposure: Floats
    at_end: Floats
    history: CsaHistory


def past_of_csas(
    log: Log, schema: FeatureSchema, features: CsaFeatures, told: Told, moments: Longs, end: int, core: Core
) -> CsaPast:
    """Roll the history forward from snapshot to snapshot."""
    known, work = csa_streams(log, schema, told)
    history = CsaHistory(schema.csa_settings, len(log.csas.ids), core=core)
    out = np.zeros((len(moments), len(log.csas.ids), len(schema.csa_numbers)), dtype=np.float32)
    exposure = np.zeros(out.shape[:2], dtype=np.float32)
    for i, moment in enumerate(track(moments, "history")):
        history.advance(known, int(moment), work)
        out[i], exposure[i] = features.at(int(moment), history), history.handled()
    history.advance(known, end, work)
    return CsaPast(out, exposure, features.at(end, history), history)


def token_table(log: Log, config: TowerConfig, tokenizer: Tokenizer, log_weight: Floats, pivot: Pivot) -> Floats:
    """Static token embeddings (V, text_dim + view_dim): the encoder's, then those of the first contacts, the pivot's.

    Blocks are scaled so that a component weighs about the same in either.
    """
    distilled = static_table(config.encoder, config.text_dim)
    if not config.view_dim:
        return distilled
    views = [
        tokenizer.encode_corpus(column[: len(pivot.label)].to_pylist())
        for column in (log.contacts.intent_text, log.contacts.transcript)
    ]
    fitted = view_table(views[0], views[1], log_weight, config.view_dim, pivot)
    norm = np.linalg.norm(fitted, axis=1)
    if not norm.any():
        return np.concatenate([distilled, fitted], axis=1)
    share = np.float32((distilled.shape[1] / fitted.shape[1]) ** 0.5)
    return np.concatenate([distilled * share, fitted / norm[norm > 0].mean()], axis=1)


def embed_tokens(encoder: StaticBackbone, tokens: TokenArrays, batch: int = 4096) -> Floats:
    """Vectors (N, width) of tokenised texts."""
    out = [
        encoder(torch.from_numpy(tokens.pad(np.arange(start, min(start + batch, len(tokens))))))
        for start in range(0, len(tokens), batch)
    ]
    return torch.cat(out).detach().numpy() if out else np.zeros((0, encoder.width), np.float32)


def embed_texts(encoder: StaticBackbone, tokenizer: Tokenizer, texts: Sequence[str]) -> Floats:
    """Vectors (N, width) of texts."""
    vectors: Floats = encoder(torch.from_numpy(tokenizer.encode(texts))).detach().numpy()
    return vectors
