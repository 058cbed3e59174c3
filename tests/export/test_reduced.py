"""The reduced mode: the graph that takes texts says what the towers say, and the bundle says what it loses."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from export import bundle as module
from export import reduced, text_tower
from export.bundle import export_bundle
from export.onnx import export_tower
from export.reduced import kept
from export.run import ExportError
from export.text_tower import FILE, HEARD, SAMPLES, feeds, open_text, write_text_tower
from serve.matcher import Matcher
from tests.serve import fakes
from tests.twotower.towers.encoders import small_encoder
from twotower.bundle.bundle import Bundle
from twotower.features.schema import FeatureSchema
from twotower.tables.log import Log
from twotower.text.tokens import Tokenizer, compose_text
from twotower.towers.backbones import StaticBackbone, load_transformer
from twotower.towers.config import TowerConfig
from twotower.towers.encoders import MINILM, encoder_path
from twotower.towers.store import assemble, heads_for, save
from twotower.towers.two_tower import TwoTower

ROOT = Path(__file__).parents[2]
MOST = 32
SOURCE = Path(encoder_path(MINILM)) / "tokenizer.json"
VOCABULARY = 30522
CONFIG = TowerConfig(text_dim=16, base_dim=8, profile_dim=4, members=2, memory_dim=6, view_dim=0)


@pytest.fixture(scope="module")
def schema(tmp_path_factory: pytest.TempPathFactory) -> FeatureSchema:
    folder = fakes.write_tables(fakes.tables(), tmp_path_factory.mktemp("tables") / "data")
    return FeatureSchema.fit(Log.load(folder), base_dim=8, max_tokens=MOST)


def towers(schema: FeatureSchema, backbone: str, folder: Path, seed: int = 0) -> tuple[TwoTower, TowerConfig]:
    """Random towers on the words of the packaged encoder."""
    torch.manual_seed(seed)
    config = replace(CONFIG, backbone=backbone)
    table = StaticBackbone(torch.randn(VOCABULARY, 16), torch.randn(VOCABULARY), 0)
    read = load_transformer(str(small_encoder(folder))) if backbone == "transformer" else table
    model = assemble(config, schema, read, table, heads_for(config, schema, 16))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval(), config


@pytest.fixture(scope="module", params=["static", "transformer"])
def exported(
    request: pytest.FixtureRequest, schema: FeatureSchema, tmp_path_factory: pytest.TempPathFactory
) -> tuple[TwoTower, Path]:
    """Towers of each backbone and the folder of their graphs."""
    folder = tmp_path_factory.mktemp(request.param)
    (folder / "encoder").mkdir()
    model, _ = towers(schema, request.param, folder / "encoder")
    export_tower("contact_tower", model, schema, folder, halve=False)  # what that rounds is shown in test_onnx.py
    write_text_tower(folder, Tokenizer.load(SOURCE, MOST), schema, ["refund please", "my parcel never came"])
    return model, folder


@pytest.mark.parametrize("batch", [1, 7, 64])
def test_the_graph_that_takes_texts_equals_torch(
    exported: tuple[TwoTower, Path], schema: FeatureSchema, batch: int
) -> None:
    model, folder = exported
    texts = [SAMPLES[i % len(SAMPLES)] for i in range(1, 1 + batch)]
    tokens = Tokenizer.load(SOURCE, MOST).encode([compose_text(*pair) for pair in texts])
    held = schema.neutral(batch)
    with torch.inference_mode():
        wanted = model.contact_tower(
            torch.from_numpy(tokens), torch.from_numpy(held["categories"]), torch.from_numpy(held["numbers"])
        )
    found = open_text(folder / FILE).run(list(HEARD), feeds(texts))
    for name, expected, got in zip(HEARD, wanted, found, strict=False):
        np.testing.assert_allclose(got, expected.numpy(), rtol=1e-4, atol=1e-5, err_msg=name)


def test_labels_may_be_given_and_left_out(exported: tuple[TwoTower, Path], schema: FeatureSchema) -> None:
    """A label that nobody knows is as good as none."""
    model, folder = exported
    session, texts = open_text(folder / FILE), [("refund", "please"), ("", "parcel"), ("", "")]
    language = [*schema.categories["language"], "xx", ""][:3]
    given = {"language": np.array(language, object), "queue": np.array(["nobody's", "", ""], object)}
    tokens = Tokenizer.load(SOURCE, MOST).encode([compose_text(*pair) for pair in texts])
    held = schema.neutral(3)
    held["categories"][:, list(schema.categories).index("language")] = [
        1 + schema.categories["language"].index(one) if one in schema.categories["language"] else 0 for one in language
    ]
    assert held["categories"].any()
    with torch.inference_mode():
        wanted = model.contact_tower(
            torch.from_numpy(tokens), torch.from_numpy(held["categories"]), torch.from_numpy(held["numbers"])
        )[0].numpy()
    np.testing.assert_allclose(session.run(["profile"], feeds(texts) | given)[0], wanted, rtol=1e-4, atol=1e-5)
    assert not np.allclose(session.run(["profile"], feeds(texts))[0], wanted, rtol=1e-4, atol=1e-5)


def test_the_query_is_what_meets_a_row(exported: tuple[TwoTower, Path]) -> None:
    query, profile, memory = open_text(exported[1] / FILE).run(["query", "profile", "memory"], feeds(SAMPLES))
    np.testing.assert_array_equal(query, np.concatenate([profile, memory, np.ones((len(SAMPLES), 1))], axis=1))


def test_a_graph_that_says_something_else_stops_the_export(
    exported: tuple[TwoTower, Path], schema: FeatureSchema, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One weight is disturbed on the way into the graph that takes texts."""
    plain = text_tower.text_tower

    def disturbed(pieces: Any, tower: onnx.ModelProto, schema: FeatureSchema) -> onnx.ModelProto:
        weight = next(one for one in tower.graph.initializer if one.name == "weight")
        values = onnx.numpy_helper.to_array(weight)
        weight.CopyFrom(onnx.numpy_helper.from_array(values + np.float32(0.3), weight.name))
        return plain(pieces, tower, schema)

    monkeypatch.setattr(text_tower, "text_tower", disturbed)
    (tmp_path / "contact_tower.onnx").write_bytes((exported[1] / "contact_tower.onnx").read_bytes())
    with pytest.raises(ExportError, match=r"output 'query' is .* away from contact_tower.onnx at batch 1"):
        write_text_tower(tmp_path, Tokenizer.load(SOURCE, MOST), schema, [])


def test_what_is_kept_is_the_share_of_the_gain_over_a_mean_choice() -> None:
    full = np.array([[0.0, 1, 2], [3, 0, 0]], np.float32)
    assert kept(full, full) == pytest.approx(1)
    assert kept(full, -full) == pytest.approx((0 - 1) / (2.5 - 1))
    assert kept(full, np.array([[0, 9, 0], [9, 0, 0]], np.float32)) == pytest.approx((2 - 1) / (2.5 - 1))
    assert kept(np.ones((2, 3), np.float32), full) == 1


@pytest.fixture
def hand_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """The run's own graphs instead of torch's."""
    monkeypatch.setattr(module, "write_towers", fakes.copy_towers)


@pytest.mark.usefixtures("hand_made")
def test_a_tokenizer_that_is_no_graph_is_told_and_the_rest_is_written(run_folder: Path, tmp_path: Path) -> None:
    manifest = export_bundle(run_folder, tmp_path / "bundle")
    assert manifest.reduced["graph"] == "left out: the tokenizer is None, Whitespace, WordLevel, not BERT's WordPiece"
    assert FILE not in manifest.files
    assert {"vectors.npy", "ids.json"} <= set(manifest.files)
    for known in ("text", "labels"):
        assert manifest.reduced[known]["kept"] <= 1
        assert 0 <= manifest.reduced[known]["top10_overlap"] <= 1
    other = next(name for name in manifest.reduced if name.startswith("with_"))
    assert manifest.reduced["text"]["kept"] >= manifest.reduced[other]["text"]["kept"]


@pytest.mark.usefixtures("hand_made")
def test_without_the_extension_the_manifest_says_so(
    run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text_tower, "LIBRARY", "no_such_library")
    said = export_bundle(run_folder, tmp_path / "bundle").reduced["graph"]
    assert said.startswith("left out: onnxruntime-extensions is not installed")
    assert "\n" not in said
    Matcher.load(tmp_path / "bundle")


@pytest.mark.usefixtures("hand_made")
@pytest.mark.parametrize("kind", reduced.KINDS)
def test_the_vectors_are_those_that_measured_better(
    run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """For those who are there, as of the end of the window."""
    said = iter(1.0 if one == kind else 0.5 for _ in ("text", "labels") for one in reduced.KINDS)
    monkeypatch.setattr(reduced, "kept", lambda full, scores: next(said))
    export_bundle(run_folder, tmp_path / "bundle")
    bundle = Bundle.open(tmp_path / "bundle")
    assert bundle.manifest.reduced["vectors"] == kind
    until = int(bundle.manifest.window["until"])
    wanted = reduced.csa_vectors(bundle.join, bundle.roster.vectors, bundle.history, kind, until)[bundle.roster.active]
    np.testing.assert_array_equal(np.load(tmp_path / "bundle" / "vectors.npy"), wanted)


@pytest.mark.usefixtures("hand_made")
def test_who_has_left_has_no_row(run_folder: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(run_folder, tmp_path / "run"))
    with np.load(run / "csas.npz") as found:
        csas = dict(found)
    csas["active"] = csas["active"] & (np.arange(len(csas["ids"])) != 3)
    np.savez(run / "csas.npz", **csas)
    export_bundle(run, tmp_path / "bundle")
    ids = json.loads((tmp_path / "bundle" / "ids.json").read_text())
    assert ids == [one for i, one in enumerate(csas["ids"].tolist()) if i != 3]
    assert len(np.load(tmp_path / "bundle" / "vectors.npy")) == len(ids)


def test_the_lines_of_the_page_need_onnxruntime_alone(tmp_path: Path) -> None:
    """A bundle of real towers on the packaged encoder's words; a process that can import nothing of this project."""
    run = fakes.write_run(fakes.write_tables(fakes.tables(), tmp_path / "data"), tmp_path / "run")
    schema = module.Run.load(run).schema
    Tokenizer.load(SOURCE, schema.max_tokens).save(run / "tokenizer.json")
    save(*towers(schema, "static", tmp_path), run)
    manifest = export_bundle(run, tmp_path / "bundles" / "first")
    assert manifest.reduced["graph"] == FILE
    page = (ROOT / "docs" / "reduced_mode.md").read_text(encoding="utf-8")
    [code] = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    blocked = {"twotower", "serve", "export", "train", "torch", "tokenizers", "faiss", "pyarrow", "transformers"}
    guard = (
        "import sys\n"
        "class Blocked:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name.partition('.')[0] in {blocked}:\n"
        "            raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Blocked())\n"
    )
    command = [sys.executable, "-c", guard + code]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    told = [line.split() for line in done.stdout.splitlines()]
    ids = json.loads((tmp_path / "bundles" / "first" / "ids.json").read_text())
    assert len(told) == 5
    assert {csa for csa, _ in told} <= set(ids)
    scores = [float(score) for _, score in told]
    assert scores == sorted(scores, reverse=True)
