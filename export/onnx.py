"""Towers to ONNX, and the proof that the graphs say what torch says.

Notable: the dynamo exporter is named explicitly and its optimiser is off: it drops the small constant that keeps an
empty text from dividing by zero; onnxruntime optimises the graph when it loads it. Everything that describes the
exporting machine (stack traces, module names) is stripped, so the same weights give the same bytes.
"""

from __future__ import annotations

import contextlib
import io
import logging
import math
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from export.run import ExportError
from twotower.bundle.sessions import (
    CONTACT_INPUTS,
    CONTACT_OUTPUTS,
    CSA_INPUTS,
    CSA_OUTPUTS,
    open_session,
)
from twotower.features.schema import FeatureSchema
from twotower.towers.two_tower import TwoTower

TOLERANCE = 1e-4
TABLE = 1 << 18  # numbers in a table of embeddings from which on it is kept in half floats
ROUNDED = 1e-3  # what such tables may add to the distance
PARITY_BATCHES = (1, 7, 64)
Arrays = dict[str, npt.NDArray[Any]]


def export_towers(model: TwoTower, schema: FeatureSchema, folder: Path, halve: bool = True) -> None:
    """Write `contact_tower.onnx` and `csa_tower.onnx` and compare both with torch at several batch sizes.

    halve: large tables of embeddings are kept in half floats, once the graph has been compared as it is.

    Raises ExportError, one line, where an output of a graph is further than `TOLERANCE` in cosine from torch's, or
    `ROUNDED` with halved tables.
    """
    for part in ("contact_tower", "csa_tower"):
        export_tower(part, model, schema, folder, halve)


def export_tower(part: str, model: TwoTower, schema: FeatureSchema, folder: Path, halve: bool = True) -> None:
    """The same with one of them, `contact_tower` or `csa_tower`."""
    model.eval()
    _spell_out(model)
    tower, inputs, outputs = {
        "contact_tower": (model.contact_tower, CONTACT_INPUTS, CONTACT_OUTPUTS),
        "csa_tower": (model.csa_tower, CSA_INPUTS, CSA_OUTPUTS),
    }[part]
    path = folder / f"{part}.onnx"
    to_onnx(tower, path, _example(model, schema, part, batch=3, length=9), outputs)
    for limit in (TOLERANCE, ROUNDED) if halve else (TOLERANCE,):
        if limit == ROUNDED:
            onnx.save(halve_tables(onnx.load(path)), path)
        session = open_session(path, inputs, outputs)
        for batch in PARITY_BATCHES:
            feeds = _example(model, schema, part, batch, length=5 + batch)
            check_parity(part, session, tower, feeds, outputs, limit)


def to_onnx(tower: nn.Module, path: Path, feeds: Arrays, outputs: tuple[str, ...]) -> None:
    """Trace a tower on example inputs (batch of 2 or more); the batch, and the length of tokens, stay free."""
    batch, length = torch.export.Dim("batch", min=1), torch.export.Dim("length", min=1)
    shapes = tuple({0: batch, 1: length} if name == "tokens" else {0: batch} for name in feeds)
    with _quiet():
        torch.onnx.export(
            tower,
            tuple(torch.from_numpy(value) for value in feeds.values()),
            str(path),
            dynamo=True,
            optimize=False,
            external_data=False,
            input_names=list(feeds),
            output_names=list(outputs),
            dynamic_shapes=shapes,
        )
    onnx.save(strip(onnx.load(path)), path)


def strip(graph: onnx.ModelProto) -> onnx.ModelProto:
    """Remove what describes the exporting machine rather than the computation."""
    for message in (graph, graph.graph, *graph.functions):
        message.ClearField("metadata_props")
        message.ClearField("doc_string")
    for part in (graph.graph, *graph.functions):
        for node in part.node:
            node.ClearField("metadata_props")
            node.ClearField("doc_string")
    inner = graph.graph
    for value in (*inner.value_info, *inner.input, *inner.output, *inner.initializer):
        value.ClearField("metadata_props")
        value.ClearField("doc_string")
    return graph


def halve_tables(graph: onnx.ModelProto) -> onnx.ModelProto:
    """Keep large tables that rows are only looked up in as half floats, and widen the rows: half of the
    memory, at an error of some 0.0003 in a probability."""
    nodes = graph.graph.node
    for table in graph.graph.initializer:
        users = [node for node in nodes if table.name in node.input]
        looked_up = all(node.op_type == "Gather" and node.input[0] == table.name for node in users)
        if table.data_type != TensorProto.FLOAT or math.prod(table.dims) < TABLE or not looked_up:
            continue
        values = numpy_helper.to_array(table)
        if np.abs(values).max() > np.finfo(np.float16).max:
            continue
        table.CopyFrom(numpy_helper.from_array(values.astype(np.float16), table.name))
        for node in users:
            rows, node.output[0] = node.output[0], f"{node.output[0]}_halves"
            widen = helper.make_node("Cast", [node.output[0]], [rows], name=f"{node.name}_widen", to=TensorProto.FLOAT)
            nodes.insert(list(nodes).index(node) + 1, widen)
    return graph


def check_parity(
    part: str, session: Any, tower: nn.Module, feeds: Arrays, outputs: tuple[str, ...], limit: float = TOLERANCE
) -> None:
    """Compare a graph with its tower on the same inputs. Raises ExportError where an output is off by more."""
    with torch.inference_mode():
        expected = tower(*(torch.from_numpy(value) for value in feeds.values()))
    expected = (expected,) if isinstance(expected, torch.Tensor) else expected
    for name, wanted, found in zip(outputs, expected, session.run(list(outputs), feeds), strict=True):
        if not wanted.is_floating_point():
            continue  # a code: two that are equally probable may change places, and their probability is compared
        pair = (wanted.numpy(), found)
        # Complexity and outcomes are numbers side by side, not a direction: the risks are small beside the time.
        numbers = name in ("complexity", "outcomes")
        distance = row_distance(*(rows.ravel() for rows in pair)) if numbers else row_distance(*pair)
        if not distance <= limit:
            batch = len(next(iter(feeds.values())))
            raise ExportError(
                f"{part}.onnx: output {name!r} is {distance:.2g} away from torch at batch {batch}"
                f" (limit {limit:g}); nothing was written"
            )


def row_distance(wanted: npt.NDArray[Any], found: npt.NDArray[Any]) -> float:
    """Largest 1 − cosine over rows; where rows are numbers or zero vectors, the largest difference."""
    if wanted.shape != found.shape or not np.isfinite(found).all():
        return float("inf")
    difference = np.abs(wanted - found).max(initial=0.0)
    if wanted.ndim == 1:
        return float(difference / max(1.0, float(np.abs(wanted).max(initial=0.0))))
    norms = np.linalg.norm(wanted, axis=1) * np.linalg.norm(found, axis=1)
    dead = norms < 1e-8
    cosine = (wanted * found).sum(axis=1) / np.where(dead, 1, norms)
    apart = np.where(dead, np.abs(wanted - found).max(axis=1, initial=0.0), 1 - cosine)
    return float(apart.max(initial=0.0))


def _example(model: TwoTower, schema: FeatureSchema, part: str, batch: int, length: int) -> Arrays:
    """Random but fixed inputs of one tower; the last contact's text is empty."""
    rng = np.random.default_rng(batch)
    if part == "csa_tower":
        features = rng.standard_normal((batch, len(schema.csa_numbers))).astype(np.float32)
        return {"features": features, "identity": rng.integers(0, 1 + len(schema.identities), batch)}
    tower = model.contact_tower
    backbone = tower.backbone
    vocabulary = len(next((backbone if tower.reader is None else tower.reader).parameters()))
    tokens = rng.integers(1, vocabulary, (batch, min(length, schema.max_tokens)))
    lengths = rng.integers(1, tokens.shape[1] + 1, batch)
    tokens[np.arange(tokens.shape[1]) >= lengths[:, None]] = backbone.pad_id
    if batch > 1:
        tokens[-1] = backbone.pad_id
    categories = np.column_stack([rng.integers(0, size, batch) for size in tower.heads.sizes])
    numbers = rng.standard_normal((batch, len(schema.numbers))).astype(np.float32)
    return {"tokens": tokens, "categories": categories.astype(np.int64), "numbers": numbers}


def _spell_out(model: TwoTower) -> None:
    """Static backbones compute in plain operators, which is what a graph can hold."""
    for module in model.modules():
        if hasattr(module, "fused"):
            setattr(module, "fused", False)  # noqa: B010 — not every module has it


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporter prints progress and warns of packages nobody needs; neither belongs in a report."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
