"""Building, saving and loading a `TwoTower`: weights as safetensors, constructor arguments as JSON, never a pickle."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file, save_file

from twotower.errors import ConfigError
from twotower.features.schema import FeatureSchema
from twotower.towers.backbones import Backbone, StaticBackbone, TransformerBackbone, load_transformer
from twotower.towers.config import TowerConfig
from twotower.towers.two_tower import ContactTower, CsaTower, TwoTower

Table = npt.NDArray[np.float32]


def build(config: TowerConfig, schema: FeatureSchema, table: Table, log_weight: Table, pad_id: int) -> TwoTower:
    """A fresh model.

    table (V, text_dim + view_dim): static token embeddings, those of the encoder first, by principal component;
    log_weight (V,): SIF log-weights.
    """
    tokens, weights = torch.from_numpy(table), torch.from_numpy(log_weight)
    backbone: Backbone
    if config.backbone == "transformer":
        backbone = load_transformer(config.encoder)
    else:
        backbone = StaticBackbone(tokens, weights, pad_id)
    if backbone.pad_id != pad_id:
        raise ConfigError(f"the tokenizer pads with {pad_id}, the encoder with {backbone.pad_id}")
    base = StaticBackbone(tokens[:, : config.base_dim], weights, pad_id)
    return assemble(config, schema, backbone, base)


def assemble(config: TowerConfig, schema: FeatureSchema, backbone: Backbone, base: StaticBackbone) -> TwoTower:
    """Both towers around given backbones."""
    sizes = [1 + len(values) for values in schema.categories.values()]
    contact = ContactTower(config, backbone, base, sizes, len(schema.numbers))
    return TwoTower(contact, CsaTower(config, len(schema.csa_numbers), len(schema.identities)))


def save(model: TwoTower, config: TowerConfig, folder: Path) -> None:
    """Write `model.safetensors` and `model.json` into an existing folder."""
    state = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    save_file(state, folder / "model.safetensors")
    backbone = model.contact_tower.backbone
    facts: dict[str, Any] = {"config": asdict(config), "pad_id": backbone.pad_id}
    if isinstance(backbone, TransformerBackbone):
        facts["transformer"] = json.loads(backbone.model.config.to_json_string())
    (folder / "model.json").write_text(json.dumps(facts, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def load(folder: Path | str) -> TwoTower:
    """Load what `save` wrote beside a `features.json`, in evaluation mode.

    Raises ConfigError where a file is missing or does not fit the others.
    """
    folder = Path(folder)
    try:
        facts = json.loads((folder / "model.json").read_text(encoding="utf-8"))
        state = load_file(folder / "model.safetensors")
    except (OSError, ValueError) as error:
        raise ConfigError(f"{folder}: not a training run ({error})") from None
    config, pad_id = TowerConfig(**facts["config"]), int(facts["pad_id"])
    schema = FeatureSchema.load(folder / "features.json")
    base_table = state["contact_tower.base.table"]
    base = StaticBackbone(base_table, torch.zeros(len(base_table)), pad_id)
    backbone: Backbone
    if config.backbone == "transformer":
        backbone = _bare_transformer(facts["transformer"], pad_id)
    else:
        table = state["contact_tower.backbone.table"]
        backbone = StaticBackbone(table, torch.zeros(len(table)), pad_id)
    model = assemble(config, schema, backbone, base)
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise ConfigError(f"{folder}: weights do not fit model.json ({str(error).splitlines()[0]})") from None
    return model.eval()


def _bare_transformer(facts: dict[str, Any], pad_id: int) -> Backbone:
    """A transformer of the stated architecture without pretrained weights: the run's own follow."""
    from transformers import AutoConfig, AutoModel

    config = AutoConfig.for_model(**facts)
    model = AutoModel.from_config(config)  # type: ignore[no-untyped-call]
    return TransformerBackbone(model, int(config.hidden_size), pad_id)
