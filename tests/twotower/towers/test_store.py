"""A model on disk: the same bits back, a frozen text kept once, anything else refused in one line."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.twotower.towers.conftest import CONFIG, PAD, SCHEMA, WIDTH, WORDS, fitted_heads
from twotower.errors import ConfigError
from twotower.features.schema import FeatureSchema
from twotower.towers.backbones import StaticBackbone, TransformerBackbone
from twotower.towers.config import TowerConfig
from twotower.towers.store import assemble, load, save
from twotower.towers.two_tower import TwoTower


def written(model: TwoTower, folder: Path, config: TowerConfig = CONFIG, schema: FeatureSchema = SCHEMA) -> None:
    """A run's model, with its schema beside it."""
    save(model, config, folder)
    (folder / "features.json").write_text(schema.to_json())


def test_saving_and_loading_changes_no_bit(model, contacts, csas, tmp_path):
    written(model, tmp_path)
    again = load(tmp_path)
    assert not again.training
    for ours, theirs in zip(model.contact_tower(*contacts), again.contact_tower(*contacts), strict=True):
        assert torch.equal(ours, theirs)
    assert all(
        torch.equal(one, other) for one, other in zip(model.csa_tower(*csas), again.csa_tower(*csas), strict=True)
    )
    other = tmp_path / "other"
    other.mkdir()
    save(again, CONFIG, other)
    for name in ("model.safetensors", "model.json"):
        assert (other / name).read_bytes() == (tmp_path / name).read_bytes()


def test_a_reader_that_is_its_frozen_text_is_written_once(model, contacts, tmp_path):
    written(model, tmp_path)
    assert json.loads((tmp_path / "model.json").read_text())["tied"] is True
    assert not [name for name in load_file(tmp_path / "model.safetensors") if ".reader." in name]
    again = load(tmp_path)
    assert again.contact_tower.reader is None
    for ours, theirs in zip(model.contact_tower(*contacts), again.contact_tower(*contacts), strict=True):
        assert torch.equal(ours, theirs)


def test_a_reader_stays_as_it_was_where_the_text_was_trained(model, contacts, tmp_path):
    """What the heads read must not move with the text that the memory learns."""
    before = model.contact_tower(*contacts)
    with torch.no_grad():
        model.contact_tower.backbone.table.add_(1)
    trained = model.contact_tower(*contacts)
    written(model, tmp_path)
    assert json.loads((tmp_path / "model.json").read_text())["tied"] is False
    names = {name for name in load_file(tmp_path / "model.safetensors") if ".reader." in name}
    assert names == {"contact_tower.reader.table", "contact_tower.reader.log_weight"}
    again = load(tmp_path)
    for ours, theirs in zip(trained, again.contact_tower(*contacts), strict=True):
        assert torch.equal(ours, theirs)
    for name, was, now in zip(("base", "intent", "intent_p", "complexity"), before[3:7], trained[3:7], strict=True):
        assert torch.equal(was, now), name
    assert not torch.allclose(before[1], trained[1])
    assert not any(parameter.requires_grad for parameter in again.contact_tower.reader.parameters())


def test_a_transformer_is_loaded_with_its_reader(contacts, tmp_path):
    from transformers import BertConfig, BertModel

    size = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    text = TransformerBackbone(BertModel(BertConfig(vocab_size=WORDS, max_position_embeddings=16, **size)), 8, PAD)
    reader = StaticBackbone(torch.randn(WORDS, WIDTH), torch.randn(WORDS), PAD)
    config = replace(CONFIG, backbone="transformer")
    model = assemble(config, SCHEMA, text, reader, fitted_heads()).eval()
    written(model, tmp_path, config=config)
    assert json.loads((tmp_path / "model.json").read_text())["tied"] is False
    for ours, theirs in zip(model.contact_tower(*contacts), load(tmp_path).contact_tower(*contacts), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("missing", ["tied", "config", "pad_id", "families", "unknown"])
def test_a_model_of_another_version_is_refused_in_one_line(model, tmp_path, missing):
    written(model, tmp_path)
    facts = json.loads((tmp_path / "model.json").read_text())
    if missing == "unknown":
        facts["config"]["history"] = "all"
    else:
        del (facts["config"] if missing == "families" else facts)[missing]
    (tmp_path / "model.json").write_text(json.dumps(facts))
    with pytest.raises(ConfigError, match=r"model\.json: not of this program .*: train again with it") as error:
        load(tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("spoil", ["model.json", "model.safetensors"])
def test_a_run_without_its_model_is_refused_in_one_line(model, tmp_path, spoil):
    written(model, tmp_path)
    (tmp_path / spoil).unlink()
    with pytest.raises(ConfigError, match="not a training run") as error:
        load(tmp_path)
    assert "\n" not in str(error.value)


def test_weights_of_other_sizes_are_refused_in_one_line(model, tmp_path):
    written(model, tmp_path, schema=replace(SCHEMA, identities=["ada"]))
    with pytest.raises(ConfigError, match=r"weights do not fit model\.json") as error:
        load(tmp_path)
    assert "\n" not in str(error.value)
