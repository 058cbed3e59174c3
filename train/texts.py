"""Texts of a log: tokens, the static token table that is fitted on them, and their frozen vectors.

Notable: the table is fitted on contacts before validation alone, and its vectors are read by everything that must not
move while the towers train: the heads, the base embedding, and, where the text is not trained, the towers themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from train.start import Start
from train.token_store import tokens_of
from twotower.features.contact import ContactRows
from twotower.features.schema import FeatureSchema
from twotower.tables.log import Log
from twotower.text.tokens import TokenArrays, Tokenizer
from twotower.towers.backbones import StaticBackbone, sif_log_weights, unit
from twotower.towers.config import TowerConfig
from twotower.towers.encoders import load_encoder, local_folder, static_table
from twotower.towers.translate import Pivot
from twotower.towers.views import view_table

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class ReadTexts:
    """Tokens of N contacts, the table (V, W) with its log-weights (V,), the frozen backbone of both, and its text
    vectors `read` f4 (N, W)."""

    tokenizer: Tokenizer
    tokens: TokenArrays
    table: Floats
    log_weight: Floats
    encoder: StaticBackbone
    read: Floats

    def base(self, texts: Sequence[str], width: int) -> Floats:
        """Base embeddings (n, width) of further texts."""
        return base_of(embed_texts(self.encoder, self.tokenizer, texts), width)


def read_texts(
    log: Log,
    config: TowerConfig,
    schema: FeatureSchema,
    rows: ContactRows,
    before: int,
    store: Path | None = None,
    start: Start | None = None,
) -> ReadTexts:
    """Tokenise all contacts, or read their tokens from `store`, and fit the table on the first `before` of them, or
    take that of `start`."""
    tokenizer = load_tokenizer(config)
    tokens = tokens_of(log, tokenizer, store)
    if start is not None:
        return _read(tokenizer, tokens, start.table, start.log_weight)
    log_weight = sif_log_weights(tokens.ids[: tokens.offsets[before]], tokenizer.size, tokenizer.special_ids())
    # Whether labels are read by the towers or not, words of several languages meet over them.
    codes = schema.codes(rows)[:before] - 1
    language, intent = (codes[:, list(schema.categories).index(name)] for name in ("language", "intent"))
    table = token_table(log, config, tokenizer, log_weight, Pivot(language, intent))
    # What an exported graph keeps of it, so that a router reads of a text what training read.
    return _read(tokenizer, tokens, table.astype(np.float16).astype(np.float32), log_weight)


def _read(tokenizer: Tokenizer, tokens: TokenArrays, table: Floats, log_weight: Floats) -> ReadTexts:
    encoder = StaticBackbone(torch.from_numpy(table), torch.from_numpy(log_weight), tokenizer.pad_id)
    return ReadTexts(tokenizer, tokens, table, log_weight, encoder, embed_tokens(encoder, tokens))


def load_tokenizer(config: TowerConfig) -> Tokenizer:
    """The encoder's own tokenizer, truncating at `config.max_tokens`."""
    with local_folder(config.encoder) as folder:
        if folder is not None and (folder / "tokenizer.json").is_file():
            return Tokenizer.load(folder / "tokenizer.json", config.max_tokens)
    return Tokenizer(load_encoder(config.encoder).tokenizer.backend_tokenizer, config.max_tokens)


def base_of(read: Floats, width: int) -> Floats:
    """Base embeddings (N, K) of frozen text vectors (N, W): their first components at unit length."""
    return unit(torch.from_numpy(read[:, :width])).numpy()


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
