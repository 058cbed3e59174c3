"""From tables to tensors: everything a training run reads, computed once and kept in one folder.

Notable: texts are tokenised once into memory-mapped arrays; what every CSA looked like is kept as snapshots (S, J, G),
never pair by pair; the validation window is the last part of the log, and a training hand-over is one whose outcome was
known before that window opened. The folder is keyed by the data and the options, so a resumed run reads the same bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from twotower.clock import NEVER
from twotower.errors import DataError
from twotower.features.csa import CsaFeatures, snapshots
from twotower.features.history import HistoryEngine, KnownHandovers, snapshot_times
from twotower.features.schema import FeatureSchema, log_columns
from twotower.tables.log import Log, Ragged
from twotower.text.tokens import TokenArrays, Tokenizer, compose_text
from twotower.towers.backbones import StaticBackbone, sif_log_weights
from twotower.towers.config import TowerConfig
from twotower.towers.encoders import encoder_path, static_table
from twotower.towers.translate import Pivot
from twotower.towers.views import view_table

Floats = npt.NDArray[np.float32]
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
    backbone is frozen.
    """

    schema: FeatureSchema
    tokenizer: Tokenizer
    tokens: TokenArrays
    categories: npt.NDArray[np.int64]
    numbers: Floats
    base: Floats
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
    engine: HistoryEngine
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
    schema = FeatureSchema.fit(log, config.base_dim, config.max_tokens, history=config.history)
    tokenizer = load_tokenizer(config)
    tokens = tokenizer.encode_corpus(texts_of(log))
    before = int(np.searchsorted(arrived, split))
    log_weight = sif_log_weights(tokens.ids[: tokens.offsets[before]], tokenizer.size, tokenizer.special_ids())
    categories, numbers = schema.contact_inputs(log_columns(log))
    language, intent = (categories[:before, list(schema.categories).index(name)] - 1 for name in ("language", "intent"))
    table = token_table(log, config, tokenizer, log_weight, Pivot(language, intent))
    encoder = StaticBackbone(
        torch.from_numpy(table[:, : config.base_dim].copy()), torch.from_numpy(log_weight), tokenizer.pad_id
    )
    base = embed_tokens(encoder, tokens)
    known = KnownHandovers(
        handovers.csa[usable],
        handovers.known_at[usable],
        handovers.resolved[usable],
        handovers.handle_time_s[usable],
        base[handovers.contact[usable]],
    )
    moments = snapshot_times(int(arrived[0]), int(arrived[-1]), schema.granularity_us)
    engine = HistoryEngine(len(log.csas.ids), config.base_dim, schema.history_half_life_s, int(moments[0]))
    engine.moment = min(int(moments[0]), int(known.known_at[0]))
    features = CsaFeatures(log.csas, schema, lambda texts: embed_texts(encoder, tokenizer, texts))
    exposure: list[Floats] = []
    csa_features = snapshots(features, engine, known, [int(m) for m in moments], exposure)
    # The window's end comes from the data, not from an option, so that a cut table and a cut option give the same run.
    end = 1 + max(int(arrived[-1]), int(known.known_at[-1]))
    engine.advance(known, end)
    return TrainingSet(
        schema=schema, tokenizer=tokenizer, tokens=tokens, categories=categories, numbers=numbers, base=base,
        csa_features=csa_features, exposure=np.stack(exposure), moments=moments,
        snapshot=np.searchsorted(moments, arrived, side="right") - 1,
        identity=schema.identity_of(log.csas.ids), arrived_at=arrived, customer=log.contacts.customer,
        contact=handovers.contact[usable].astype(np.int64), csa=handovers.csa[usable].astype(np.int64),
        resolved=handovers.resolved[usable], known_at=handovers.known_at[usable], eligible=log.contacts.eligible,
        split=split, table=table, log_weight=log_weight, end=end, roster_features=features.at(end, engine.features()),
        engine=engine,
    )  # fmt: skip


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
