"""A small sentence encoder on disk, with MiniLM's tokenizer."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

from twotower.towers.encoder_file import KEPT
from twotower.towers.encoders import MINILM, encoder_path

SIZES = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}


def small_encoder(folder: Path, seed: int = 0, pooling: str = "mean_tokens") -> Path:
    """Write a sentence-transformers folder of one small layer with random weights; returns it."""
    from transformers import AutoConfig, AutoModel

    source = Path(encoder_path(MINILM))
    changes = {
        "config.json": SIZES,
        "1_Pooling/config.json": {
            "word_embedding_dimension": SIZES["hidden_size"],
            **{f"pooling_mode_{name}": name.startswith(pooling) for name in ("cls_token", "mean_tokens")},
        },
    }
    for name in KEPT:
        content = json.loads((source / name).read_text())
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(json.dumps({**content, **changes[name]} if name in changes else content))
    torch.manual_seed(seed)
    config = AutoConfig.from_pretrained(folder)
    config.initializer_range = 0.3
    weights = AutoModel.from_config(config).state_dict()
    save_file({k: v.contiguous() for k, v in weights.items()}, folder / "model.safetensors", {"format": "pt"})
    return folder
