"""The exported graphs say what torch says, whatever the batch, and the same weights give the same bytes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from export import onnx as module
from export.onnx import check_parity, export_tower, export_towers
from export.run import ExportError
from tests.serve import fakes
from twotower.bundle.sessions import CONTACT_INPUTS, CONTACT_OUTPUTS, CSA_INPUTS, CSA_OUTPUTS, open_session
from twotower.features.schema import FeatureSchema
from twotower.tables.log import Log
from twotower.towers.backbones import StaticBackbone
from twotower.towers.config import TowerConfig
from twotower.towers.store import assemble, heads_for
from twotower.towers.two_tower import TwoTower

WORDS = 40


@pytest.fixture(scope="module")
def schema(tmp_path_factory: pytest.TempPathFactory) -> FeatureSchema:
    folder = fakes.write_tables(fakes.tables(), tmp_path_factory.mktemp("data"))
    schema = FeatureSchema.fit(Log.load(folder), base_dim=8, max_tokens=16, families=fakes.ALL)
    return replace(schema, bands=[5.0, 6.0])


def towers(schema: FeatureSchema, seed: int = 0) -> TwoTower:
    """Small towers with random weights everywhere, also where training starts from zero."""
    torch.manual_seed(seed)
    config = TowerConfig(text_dim=16, base_dim=8, profile_dim=4, members=2, memory_dim=6, view_dim=0)
    table, weight = torch.randn(WORDS, 16), torch.randn(WORDS)
    backbone, reader = StaticBackbone(table, weight, 0), StaticBackbone(table[:, :12], weight, 0)
    heads = heads_for(config, schema, reader.width)
    heads.set_intent(torch.randn_like(heads.intent_weight), torch.randn_like(heads.intent_bias))
    heads.set_complexity(0.1 * torch.randn_like(heads.weight), torch.tensor([6.0, 1.0, 0.3, 0.4, 0.5]))
    model = assemble(config, schema, backbone, reader, heads)
    for tower in (model.contact_tower, model.csa_tower):
        for values in tower.outcomes.buffers():
            values.copy_(0.1 * torch.randn_like(values))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


@pytest.fixture(scope="module")
def exported(schema: FeatureSchema, tmp_path_factory: pytest.TempPathFactory) -> tuple[TwoTower, Path]:
    model, folder = towers(schema), tmp_path_factory.mktemp("graphs")
    export_towers(model, schema, folder)
    return model, folder


@pytest.fixture
def traced(exported: tuple[TwoTower, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Towers of one shape have one graph: it is not traced again, it gets their weights. What is exported so is
    compared with torch all the same."""

    def graph_of(tower: torch.nn.Module, path: Path, feeds: module.Arrays, outputs: tuple[str, ...]) -> None:
        graph = onnx.load(exported[1] / path.name)
        weights = {name: value.numpy() for name, value in tower.state_dict().items()}
        for one in graph.graph.initializer:
            if one.name in weights:
                one.CopyFrom(onnx.numpy_helper.from_array(weights[one.name], one.name))
        onnx.save(module.strip(graph), path)

    monkeypatch.setattr(module, "to_onnx", graph_of)


@pytest.mark.parametrize("batch", [1, 2, 7, 64])
@pytest.mark.parametrize("length", [1, 3, 16])
def test_the_contact_graph_equals_torch(
    exported: tuple[TwoTower, Path], schema: FeatureSchema, batch: int, length: int
) -> None:
    """Including an empty text, which torch gives a zero base vector rather than a division by zero."""
    model, folder = exported
    feeds = module._example(model, schema, "contact_tower", batch, length)
    feeds["tokens"][-1] = 0
    session = open_session(folder / "contact_tower.onnx", CONTACT_INPUTS, CONTACT_OUTPUTS)
    found = session.run(list(CONTACT_OUTPUTS), feeds)
    with torch.inference_mode():
        expected = model.contact_tower(*(torch.from_numpy(v) for v in feeds.values()))
    for name, wanted, got in zip(CONTACT_OUTPUTS, expected, found, strict=True):
        np.testing.assert_allclose(got, wanted.numpy(), rtol=1e-5, atol=2e-6, err_msg=name)
    assert not found[3][-1].any()


def test_the_csa_graph_equals_torch(exported: tuple[TwoTower, Path], schema: FeatureSchema) -> None:
    model, folder = exported
    session = open_session(folder / "csa_tower.onnx", CSA_INPUTS, CSA_OUTPUTS)
    for batch in (1, 7, 64):
        feeds = module._example(model, schema, "csa_tower", batch, 1)
        with torch.inference_mode():
            expected = model.csa_tower(*(torch.from_numpy(v) for v in feeds.values()))
        for name, wanted, got in zip(CSA_OUTPUTS, expected, session.run(list(CSA_OUTPUTS), feeds), strict=True):
            np.testing.assert_allclose(got, wanted.numpy(), rtol=1e-6, atol=2e-6, err_msg=name)


def test_the_fused_bag_equals_the_spelled_out_one(schema: FeatureSchema) -> None:
    """Training uses the fused form, export the plain one; both are the same function."""
    model = towers(schema)
    feeds = module._example(model, schema, "contact_tower", 7, 9)
    tokens = torch.from_numpy(feeds["tokens"])
    fused = model.contact_tower.backbone(tokens)
    module._spell_out(model)
    torch.testing.assert_close(model.contact_tower.backbone(tokens), fused)


def test_the_same_weights_give_the_same_bytes(
    schema: FeatureSchema, exported: tuple[TwoTower, Path], tmp_path: Path
) -> None:
    export_towers(towers(schema), schema, tmp_path)
    for name in ("contact_tower.onnx", "csa_tower.onnx"):
        assert (tmp_path / name).read_bytes() == (exported[1] / name).read_bytes()


def test_a_graph_does_not_tell_of_the_machine(exported: tuple[TwoTower, Path]) -> None:
    for name in ("contact_tower.onnx", "csa_tower.onnx"):
        content = (exported[1] / name).read_bytes()
        for trace in (b".py", b"site-packages", b"stack_trace", b"class_hierarchy", str(Path.cwd()).encode()):
            assert trace not in content


def test_a_graph_of_other_weights_fails_the_parity_check(
    schema: FeatureSchema, exported: tuple[TwoTower, Path]
) -> None:
    other = towers(schema, seed=1)
    module._spell_out(other)
    session = open_session(exported[1] / "contact_tower.onnx", CONTACT_INPUTS, CONTACT_OUTPUTS)
    feeds = module._example(other, schema, "contact_tower", 7, 5)
    with pytest.raises(ExportError, match=r"output 'profile' is .* away from torch at batch 7") as caught:
        check_parity("contact_tower", session, other.contact_tower, feeds, CONTACT_OUTPUTS)
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("traced")
def test_other_weights_of_the_same_shape_have_the_same_graph(schema: FeatureSchema, tmp_path: Path) -> None:
    """So the tests below may take it for theirs."""
    export_towers(towers(schema, seed=1), schema, tmp_path)


@pytest.mark.usefixtures("traced")
def test_a_disagreeing_graph_stops_the_export(
    schema: FeatureSchema, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One weight of the written graph is disturbed before it is checked."""
    plain = module.strip

    def disturb(graph: onnx.ModelProto) -> onnx.ModelProto:
        weight = next(w for w in graph.graph.initializer if len(w.dims) == 2)
        values = onnx.numpy_helper.to_array(weight).copy()
        values += 0.3
        weight.CopyFrom(onnx.numpy_helper.from_array(values, weight.name))
        return plain(graph)

    monkeypatch.setattr(module, "strip", disturb)
    with pytest.raises(ExportError, match="nothing was written"):
        export_towers(towers(schema), schema, tmp_path)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_graph_that_gives_no_number_is_far_away(bad: float) -> None:
    assert module.row_distance(np.ones((2, 3)), np.array([[1, 1, 1], [1, bad, 1]])) == np.inf


def test_distance_is_that_of_direction_for_vectors_and_of_value_for_numbers() -> None:
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((5, 4))
    assert module.row_distance(rows, rows) == pytest.approx(0, abs=1e-12)
    assert module.row_distance(rows, -rows) == pytest.approx(2)
    assert module.row_distance(np.zeros((1, 4)), np.full((1, 4), 0.5)) == pytest.approx(0.5)
    assert module.row_distance(np.array([1.0, 2.0]), np.array([1.0, 2.5])) == pytest.approx(0.25)


def test_a_category_without_values_exports(schema: FeatureSchema, tmp_path: Path) -> None:
    """A log may name no queue and no intent at all."""
    bare = replace(schema, categories={name: [] for name in schema.categories})
    export_tower("contact_tower", towers(bare), bare, tmp_path)
    assert (tmp_path / "contact_tower.onnx").is_file()


def test_towers_that_read_the_least_export(tmp_path: Path) -> None:
    """Neither categories nor who met whom, and a backbone that the heads read themselves."""
    folder = fakes.write_tables(fakes.tables(), tmp_path / "data")
    schema = FeatureSchema.fit(Log.load(folder), base_dim=8, max_tokens=16, families=("form", "profile"))
    config = TowerConfig(text_dim=16, base_dim=8, profile_dim=4, members=2, memory_dim=6, view_dim=0)
    backbone = StaticBackbone(torch.randn(WORDS, 16), torch.randn(WORDS), 0)
    export_towers(assemble(config, schema, backbone, None, heads_for(config, schema, 16)), schema, tmp_path)
    session = open_session(tmp_path / "contact_tower.onnx", CONTACT_INPUTS, CONTACT_OUTPUTS)
    assert session.get_outputs()[CONTACT_OUTPUTS.index("profile")].shape[1] == 2 * 4 + 1


def test_a_code_may_differ_where_a_vector_may_not(schema: FeatureSchema, exported: tuple[TwoTower, Path]) -> None:
    """Two intents that are equally probable may change places; their probability is compared."""
    model, folder = exported
    session = open_session(folder / "contact_tower.onnx", CONTACT_INPUTS, CONTACT_OUTPUTS)
    feeds = module._example(model, schema, "contact_tower", 7, 5)

    class Turned:
        """The graph, with one output a little off."""

        def __init__(self, name: str, by: float) -> None:
            self.name, self.by = name, by

        def run(self, outputs: list[str], feeds: module.Arrays) -> list[np.ndarray]:
            found = dict(zip(outputs, session.run(outputs, feeds), strict=True))
            found[self.name] = found[self.name] + np.array(self.by, found[self.name].dtype)
            return list(found.values())

    check_parity("contact_tower", Turned("intent", 1), model.contact_tower, feeds, CONTACT_OUTPUTS)
    for name in ("intent_p", "complexity", "outcomes"):
        with pytest.raises(ExportError, match=f"output '{name}' is 0.0"):
            check_parity("contact_tower", Turned(name, 0.01), model.contact_tower, feeds, CONTACT_OUTPUTS)


def test_a_number_that_is_missing_is_read_as_the_mean(exported: tuple[TwoTower, Path], schema: FeatureSchema) -> None:
    """By the graph too: explanations leave families of numbers out so."""
    model, folder = exported
    feeds = module._example(model, schema, "contact_tower", 1, 5)
    session, tower = open_session(folder / "contact_tower.onnx", CONTACT_INPUTS, CONTACT_OUTPUTS), model.contact_tower
    plain = tower.plain
    given = session.run(["profile"], feeds)[0]
    feeds["numbers"][:, :plain] = tower.standardise.mean[:plain].numpy()
    mean = session.run(["profile"], feeds)[0]
    feeds["numbers"][:, :plain] = np.nan
    np.testing.assert_allclose(session.run(["profile"], feeds)[0], mean, rtol=1e-5, atol=2e-6)
    assert np.abs(given - mean).max() > 0.01


@pytest.mark.usefixtures("traced")
def test_large_tables_are_half_floats_and_say_the_same(
    exported: tuple[TwoTower, Path], schema: FeatureSchema, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, folder = exported
    monkeypatch.setattr(module, "TABLE", WORDS * 16)
    export_tower("contact_tower", model, schema, tmp_path)
    plain, halved = (onnx.load(where / "contact_tower.onnx") for where in (folder, tmp_path))
    kinds = {one.name: one.data_type for one in halved.graph.initializer}
    changed = [one.name for one in plain.graph.initializer if kinds[one.name] != one.data_type]
    assert changed == ["backbone.table"]
    assert kinds["backbone.table"] == onnx.TensorProto.FLOAT16
    feeds = module._example(model, schema, "contact_tower", batch=9, length=12)
    graphs = (where / "contact_tower.onnx" for where in (folder, tmp_path))
    sessions = (open_session(graph, CONTACT_INPUTS, CONTACT_OUTPUTS) for graph in graphs)
    for one, other in zip(*(session.run(["profile", "memory"], feeds) for session in sessions), strict=True):
        assert 0 < np.abs(one - other).max() < 2e-2
        assert module.row_distance(one, other) < 1e-5
    export_tower("contact_tower", model, schema, tmp_path, halve=False)
    assert (tmp_path / "contact_tower.onnx").read_bytes() == (folder / "contact_tower.onnx").read_bytes()


@pytest.mark.usefixtures("traced")
def test_a_table_beyond_half_floats_stays_as_it_is(
    schema: FeatureSchema, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TABLE", WORDS * 16)
    model = towers(schema)
    with torch.no_grad():
        model.contact_tower.backbone.table[0, 0] = 1e5
    export_tower("contact_tower", model, schema, tmp_path)
    graph = onnx.load(tmp_path / "contact_tower.onnx").graph
    [table] = [one for one in graph.initializer if one.name == "backbone.table"]
    assert table.data_type == onnx.TensorProto.FLOAT
