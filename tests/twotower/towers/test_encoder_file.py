"""An encoder as one file: the same vectors and tokens, small, and anything else refused in one line."""

from __future__ import annotations

import json
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from tests.twotower.towers.encoders import small_encoder
from train.texts import load_tokenizer
from twotower.cli import run_verb
from twotower.errors import ConfigError
from twotower.towers.backbones import load_transformer
from twotower.towers.config import TowerConfig
from twotower.towers.encoder_file import NEEDED, read_encoder_file, unpacked
from twotower.towers.encoders import (
    MINILM,
    encoder_digest,
    encoder_path,
    load_encoder,
    save_encoder,
    static_table,
    transformer_of,
)

VERB = EntryPoint("encoder", "twotower.towers.verb:VERB", "twotower.verbs")
TEXTS = [
    "I was charged twice for one order",
    "Wo bleibt meine Rückerstattung?",
    "la tarjeta fue rechazada",
    "",
    "refund " * 60,
    "🙂 order #A-1029 [PAD] [MASK] never came",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A small encoder as a sentence-transformers folder."""
    return small_encoder(tmp_path_factory.mktemp("encoders") / "small")


@pytest.fixture(scope="module")
def small(folder, tmp_path_factory) -> Path:
    """The same as a file."""
    path: Path = tmp_path_factory.mktemp("encoders") / "small.safetensors"
    save_encoder(str(folder), path)
    return path


@pytest.fixture(scope="module")
def minilm(tmp_path_factory) -> Path:
    """MiniLM as a file, by the command."""
    path: Path = tmp_path_factory.mktemp("encoders") / "minilm.safetensors"
    assert run_verb("encoder", [MINILM, "--output", str(path), "--json"], VERB) == 0
    return path


def test_minilm_is_less_than_50_mb_and_says_the_same(minilm):
    assert minilm.stat().st_size < 50_000_000
    whole, half = load_encoder(MINILM), load_encoder(str(minilm))
    assert transformer_of(half).dtype == torch.float32
    assert half.max_seq_length == whole.max_seq_length
    cosine = (whole.encode(TEXTS) * half.encode(TEXTS)).sum(axis=1)
    assert cosine.min() > 0.9999
    assert half.tokenizer(TEXTS)["input_ids"] == whole.tokenizer(TEXTS)["input_ids"]


def test_minilm_from_a_file_is_the_default_encoder_where_it_is_named(minilm, monkeypatch):
    config = TowerConfig(max_tokens=24)
    packaged, digest = load_tokenizer(config), encoder_digest(MINILM)
    monkeypatch.setenv("TWOTOWER_MINILM", str(minilm))
    assert encoder_path(MINILM) == str(minilm)
    assert np.array_equal(load_tokenizer(config).encode(TEXTS), packaged.encode(TEXTS))
    assert encoder_digest(MINILM) == encoder_digest(str(minilm)) != digest
    monkeypatch.setenv("TWOTOWER_MINILM", str(minilm.parent / "nothing"))
    with pytest.raises(ConfigError, match=r"TWOTOWER_MINILM .*nothing: no such file or folder"):
        load_encoder(MINILM)


def test_a_file_is_read_back_as_the_folder_it_was_made_of(folder, small):
    whole, half = (transformer_of(load_encoder(str(name))).state_dict() for name in (folder, small))
    assert whole.keys() == half.keys()
    for name, value in whole.items():
        assert half[name].dtype == torch.float32
        assert torch.equal(half[name], value.half().float()), name
    with unpacked(small) as again:
        for name in NEEDED:
            assert (again / name).read_text() == (folder / name).read_text()
    assert not again.exists()


def test_a_backbone_and_a_static_table_come_from_a_file(folder, small, tmp_path, monkeypatch):
    monkeypatch.setenv("TWOTOWER_CACHE", str(tmp_path))
    tokens = torch.from_numpy(load_tokenizer(TowerConfig(encoder=str(small), max_tokens=24)).encode(TEXTS))
    whole, half = (load_transformer(str(name)) for name in (folder, small))
    assert half.width == whole.width == 16
    assert (whole(tokens) * half(tokens)).sum(dim=1).min() > 0.9999
    monkeypatch.setattr("twotower.towers.encoders._token_outputs", lambda name: np.eye(20, 16))
    assert static_table(str(small), 4).shape == (20, 4)
    assert [path.name for path in tmp_path.iterdir()] == [f"static-{encoder_digest(str(small))}-4.npy"]


def test_the_same_encoder_gives_the_same_bytes_and_another_one_another_digest(folder, small, tmp_path):
    facts = save_encoder(str(folder), tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == small.read_bytes()
    assert facts["digest"] == encoder_digest(str(small))
    assert facts["bytes"] == small.stat().st_size
    # A file is a source like a folder, and half precision loses nothing twice.
    save_encoder(str(small), tmp_path / "copy.safetensors")
    assert (tmp_path / "copy.safetensors").read_bytes() == small.read_bytes()
    other = small_encoder(tmp_path / "other", seed=1)
    assert save_encoder(str(other), tmp_path / "other.safetensors")["digest"] != facts["digest"]


def test_other_programs_read_it_as_safetensors(small):
    with safe_open(small, "pt") as file:
        assert file.metadata()["format"] == "pt"
        assert json.loads(file.metadata()["config.json"])["model_type"] == "bert"
        assert all(file.get_tensor(name).dtype == torch.float16 for name in file.keys())  # noqa: SIM118


def refused(path: Path, match: str) -> None:
    """The file is refused, in one line that names it."""
    for read in (lambda: read_encoder_file(path), lambda: load_encoder(str(path))):
        with pytest.raises(ConfigError, match=match) as error:
            read()
        assert str(path) in str(error.value)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("place", [0, 3, 9, 200, 5_000, -1, -40_000])
def test_a_flipped_byte_is_seen(small, tmp_path, place):
    content = bytearray(small.read_bytes())
    content[place] ^= 0x10
    path = tmp_path / "flipped.safetensors"
    path.write_bytes(content)
    refused(path, r"damaged|of another version")


@pytest.mark.parametrize("kept", [0, 7, 100, 0.5, 0.999])
def test_half_a_file_is_seen(small, tmp_path, kept):
    content, path = small.read_bytes(), tmp_path / "half.safetensors"
    path.write_bytes(content[: int(kept if kept > 1 else kept * len(content))])
    refused(path, "damaged")


def test_what_is_no_encoder_file_is_refused(small, folder, tmp_path):
    refused(tmp_path / "nothing.safetensors", "no such encoder file; write one by: twotower encoder minilm")
    refused(folder / "model.safetensors", "weights without tokenizer and settings")
    (tmp_path / "list.safetensors").write_bytes((16).to_bytes(8, "little") + b'["no","header"] ')
    refused(tmp_path / "list.safetensors", "damaged, or no safetensors file")
    with safe_open(small, "pt") as file:
        metadata = file.metadata()
    weights = load_file(small)
    for name, change in {"later": {"twotower_encoder": "2"}, "bare": {"tokenizer.json": None}}.items():
        changed = {k: v for k, v in {**metadata, **change}.items() if v is not None}
        save_file(weights, tmp_path / f"{name}.safetensors", changed)
        refused(tmp_path / f"{name}.safetensors", "of another version")
    changed = {**metadata, "config.json": metadata["config.json"].replace('"bert"', '"roberta"')}
    save_file(weights, tmp_path / "config.safetensors", changed)
    refused(tmp_path / "config.safetensors", "damaged, its content is not what its checksum says")


def test_weights_of_another_architecture_are_refused(folder, tmp_path):
    """A file whose checksum holds, and whose config.json asks for a layer that is not in it."""
    config = json.loads((folder / "config.json").read_text())
    bad = small_encoder(tmp_path / "bad")
    weights = load_file(bad / "model.safetensors")
    (bad / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 2}))
    from twotower.towers.encoder_file import write_encoder_file

    write_encoder_file(bad, weights, tmp_path / "bad.safetensors")
    with pytest.raises(ConfigError, match=r"its weights are not those of its config\.json \(encoder\.layer\.1\."):
        load_encoder(str(tmp_path / "bad.safetensors"))


def test_what_cannot_be_written_is_refused_and_leaves_nothing(folder, tmp_path, capsys):
    out = tmp_path / "out.safetensors"
    assert run_verb("encoder", [str(folder), "--output", str(tmp_path / "out.bin")], VERB) == 1
    assert "a name that ends in .safetensors was expected" in capsys.readouterr().err
    pooled = small_encoder(tmp_path / "cls", pooling="cls")
    assert run_verb("encoder", [str(pooled), "--output", str(out)], VERB) == 1
    assert "does not pool by the mean" in capsys.readouterr().err
    large = small_encoder(tmp_path / "large")
    weights = load_file(large / "model.safetensors")
    weights["embeddings.LayerNorm.weight"][0] = 1e6
    save_file(weights, large / "model.safetensors", {"format": "pt"})
    assert run_verb("encoder", [str(large), "--output", str(out)], VERB) == 1
    assert "holds values that half precision cannot" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == []


def test_the_command_says_what_it_wrote(folder, tmp_path, capsys):
    path = tmp_path / "new" / "small.safetensors"
    assert run_verb("encoder", [str(folder), "--output", str(path)], VERB) == 0
    said = capsys.readouterr().out
    assert "weights in half precision" in said
    assert encoder_digest(str(path)) in said
