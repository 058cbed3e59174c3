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
from twotower.towers.heads import Heads
from twotower.towers.topics import Topics
from twotower.towers.two_tower import KINDS_MET, ContactTower, CsaTower, TwoTower

Table = npt.NDArray[np.float32]


def build(
    config: TowerConfig,
    schema: FeatureSchema,
    table: Table,
    log_weight: Table,
    pad_id: int,
    heads: Heads,
    topics: Topics | None = None,
) -> TwoTower:
    """A fresh model.

    table (V, text_dim + view_dim): static token embeddings, those of the encoder first, by principal component;
    log_weight (V,): SIF log-weights; heads: fitted on that table's text vectors;
    topics: fitted, or None.
    """
    tokens, weights = torch.from_numpy(table), torch.from_numpy(log_weight)
    backbone: Backbone
    if config.backbone == "transformer":
        backbone = load_transformer(config.encoder)
    else:
        backbone = StaticBackbone(tokens, weights, pad_id)
    if backbone.pad_id != pad_id:
        raise ConfigError(f"the tokenizer pads with {pad_id}, the encoder with {backbone.pad_id}")
    return assemble(config, schema, backbone, StaticBackbone(tokens, weights, pad_id), heads, topics)


def heads_for(config: TowerConfig, schema: FeatureSchema, width: int) -> Heads:
    """Heads that nothing has been fitted into, on text vectors of a width."""
    sizes = [1 + len(values) for values in schema.categories.values()]
    return Heads(width, sizes, list(schema.categories).index("intent"), config.category_gain)


def assemble(
    config: TowerConfig,
    schema: FeatureSchema,
    backbone: Backbone,
    reader: StaticBackbone | None,
    heads: Heads,
    topics: Topics | None = None,
) -> TwoTower:
    """Both towers around given backbones; reader None: the backbone reads for the heads too."""
    relationship = schema.relationship
    read = schema.has("labels"), schema.has("complexity")
    contact = ContactTower(config, backbone, reader, heads, topics, len(schema.numbers), relationship, *read)
    csa = CsaTower(config, len(schema.csa_numbers), len(schema.identities), relationship // KINDS_MET)
    return TwoTower(contact, csa)


def save(model: TwoTower, config: TowerConfig, folder: Path) -> None:
    """Write `model.safetensors` and `model.json` into an existing folder.

    A reader that is its backbone to the bit, since that was frozen, is not written twice.
    """
    state = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    tower = model.contact_tower
    tied = tower.reader is None or _same(tower.backbone, tower.reader)
    if tied:
        state = {name: value for name, value in state.items() if not name.startswith(READER)}
    save_file(state, folder / "model.safetensors")
    facts: dict[str, Any] = {"config": asdict(config), "pad_id": tower.backbone.pad_id, "tied": tied}
    if isinstance(tower.backbone, TransformerBackbone):
        facts["transformer"] = json.loads(tower.backbone.model.config.to_json_string())
    (folder / "model.json").write_text(json.dumps(facts, indent=1, sort_keys=True) + "\n", encoding="utf-8")


READER = "contact_tower.reader."


def _same(backbone: Backbone, reader: StaticBackbone) -> bool:
    return isinstance(backbone, StaticBackbone) and all(
        torch.equal(mine, its) for mine, its in zip(backbone.parameters(), reader.parameters(), strict=True)
    )


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
    try:
        config = TowerConfig(**{**facts["config"], "families": tuple(facts["config"]["families"] or ())})
        pad_id, tied = int(facts["pad_id"]), bool(facts["tied"])
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"{folder / 'model.json'}: not of this program ({error}): train again with it") from None
    schema = FeatureSchema.load(folder / "features.json")
    backbone: Backbone
    if config.backbone == "transformer":
        backbone = _bare_transformer(facts["transformer"], pad_id)
    else:
        backbone = _bare_static(state["contact_tower.backbone.table"], pad_id)
    reader = None if tied else _bare_static(state[f"{READER}table"], pad_id)
    heads = heads_for(config, schema, state["contact_tower.heads.intent_weight"].shape[1])
    found = state.get("contact_tower.topics.weight")
    topics = None if found is None else Topics(*found.shape)
    model = assemble(config, schema, backbone, reader, heads, topics)
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise ConfigError(f"{folder}: weights do not fit model.json ({str(error).splitlines()[0]})") from None
    return model.eval()


def _bare_static(table: torch.Tensor, pad_id: int) -> StaticBackbone:
    return StaticBackbone(table, torch.zeros(len(table)), pad_id)


def _bare_transformer(facts: dict[str, Any], pad_id: int) -> Backbone:
    """A transformer of the stated architecture without pretrained weights: the run's own follow."""
    from transformers import AutoConfig, AutoModel

    config = AutoConfig.for_model(**facts)
    model = AutoModel.from_config(config)
    return TransformerBackbone(model, int(config.hidden_size), pad_id)
