"""Two towers written by hand as ONNX graphs, with the inputs and outputs of the trained ones.

The contact graph averages token embeddings and lets categories and numbers shift what it says; the CSA graph is linear.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from twotower.features.complexity import COMPLEXITY
from twotower.features.schema import FeatureSchema
from twotower.scoring.outcomes import TARGETS

BASE, MEMORY, PROFILE, FACTORS = 8, 6, 5, 3
FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64
# Of what the complexity heads tell of a text, where the sigmoid of its base embedding is 0 and 1.
LOW = np.array([4.0, 0.1, 0.05, 0.05, 0.05], np.float32)
# Outcomes of a contact about which they vary, and how much.
MIDDLES, SPREADS = np.array([3.5, 0.6, 6.0, 0.15], np.float32), np.array([0.5, 0.1, 0.4, 0.05], np.float32)
HIGH = np.array([7.0, 1.0, 0.95, 0.95, 0.95], np.float32)


def _save(nodes: list[Any], inputs: list[Any], outputs: list[Any], weights: dict[str, Any], path: Path) -> None:
    values = [numpy_helper.from_array(np.asarray(v), name) for name, v in weights.items()]
    graph = helper.make_graph(nodes, path.stem, inputs, outputs, values)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def write_contact_tower(path: Path, schema: FeatureSchema, words: int, seed: int = 0) -> None:
    """tokens → mean embedding → all eight outputs; categories and numbers shift the profile and level a little."""
    rng = np.random.default_rng(seed)
    intents = 1 + len(schema.categories["intent"])

    def normal(*shape: int) -> Any:
        return rng.standard_normal(shape).astype(np.float32)

    weights = {
        "table": normal(words, BASE),
        "pad": np.array(0, dtype=np.int64),
        "one": np.array(1.0, dtype=np.float32),
        "eps": np.array(1e-12, dtype=np.float32),
        "to_memory": normal(BASE, MEMORY),
        "to_profile": normal(BASE, PROFILE - 1),
        "small": np.array(0.01, dtype=np.float32),
        "axis": np.array([1], dtype=np.int64),
        "axis_in": np.array([-1], dtype=np.int64),
        "number_map": 0.02 * normal(len(schema.numbers), PROFILE - 1),
        "to_intent": 3 * normal(BASE, intents),
        "to_complexity": normal(BASE, len(COMPLEXITY)),
        "to_outcomes": normal(BASE, len(TARGETS)) * SPREADS,
        "outcomes_at": MIDDLES,
        "low": LOW,
        "span": HIGH - LOW,
    }
    info = helper.make_tensor_value_info
    inputs = [
        info("tokens", INT64, ["batch", "length"]),
        info("categories", INT64, ["batch", len(schema.categories)]),
        info("numbers", FLOAT, ["batch", len(schema.numbers)]),
    ]
    outputs = [
        info("profile", FLOAT, ["batch", PROFILE]),
        info("memory", FLOAT, ["batch", MEMORY]),
        info("level", FLOAT, ["batch"]),
        info("base", FLOAT, ["batch", BASE]),
        info("intent", INT64, ["batch"]),
        info("intent_p", FLOAT, ["batch"]),
        info("complexity", FLOAT, ["batch", len(COMPLEXITY)]),
        info("outcomes", FLOAT, ["batch", len(TARGETS)]),
    ]
    _save([*_vectors(), *_told()], inputs, outputs, weights, path)


def _vectors() -> list[Any]:
    """Profile, memory, level and base."""
    node = helper.make_node
    return [
        node("Gather", ["table", "tokens"], ["embedded"]),
        node("Equal", ["tokens", "pad"], ["is_pad"]),
        node("Not", ["is_pad"], ["is_word"]),
        node("Cast", ["is_word"], ["mask"], to=FLOAT),
        node("Unsqueeze", ["mask", "axis_in"], ["mask3"]),
        node("Mul", ["embedded", "mask3"], ["kept"]),
        node("ReduceSum", ["kept", "axis"], ["summed"], keepdims=0),
        *_unit("summed", "base"),
        node("MatMul", ["base", "to_memory"], ["raw_memory"]),
        *_unit("raw_memory", "memory"),
        node("MatMul", ["base", "to_profile"], ["of_text"]),
        node("MatMul", ["numbers", "number_map"], ["of_numbers"]),
        node("Add", ["of_text", "of_numbers"], ["raw_profile"]),
        node("ReduceSum", ["mask", "axis"], ["count"], keepdims=1),
        node("Sub", ["count", "count"], ["zero"]),
        node("Add", ["zero", "one"], ["ones"]),
        node("Concat", ["raw_profile", "ones"], ["profile"], axis=1),
        node("Cast", ["categories"], ["codes"], to=FLOAT),
        node("ReduceSum", ["codes", "axis"], ["code_sum"], keepdims=0),
        node("ReduceSum", ["numbers", "axis"], ["number_sum"], keepdims=0),
        node("Add", ["code_sum", "number_sum"], ["side"]),
        node("Mul", ["side", "small"], ["level"]),
    ]


def _told() -> list[Any]:
    """Intent, its probability, complexity and outcomes, from the base embedding alone."""
    node = helper.make_node
    return [
        node("MatMul", ["base", "to_intent"], ["logits"]),
        node("Softmax", ["logits"], ["p"], axis=1),
        node("ArgMax", ["p"], ["intent"], axis=1, keepdims=0),
        node("ReduceMax", ["p"], ["intent_p"], axes=[1], keepdims=0),
        node("MatMul", ["base", "to_complexity"], ["raw_complexity"]),
        node("Sigmoid", ["raw_complexity"], ["share"]),
        node("Mul", ["share", "span"], ["above"]),
        node("Add", ["above", "low"], ["complexity"]),
        node("MatMul", ["base", "to_outcomes"], ["raw_outcomes"]),
        node("Add", ["raw_outcomes", "outcomes_at"], ["outcomes"]),
    ]


def _unit(source: str, target: str) -> list[Any]:
    node = helper.make_node
    return [
        node("Mul", [source, source], [f"{target}_squares"]),
        node("ReduceSum", [f"{target}_squares", "axis"], [f"{target}_sum"], keepdims=1),
        node("Add", [f"{target}_sum", "eps"], [f"{target}_safe"]),
        node("Sqrt", [f"{target}_safe"], [f"{target}_norm"]),
        node("Div", [source, f"{target}_norm"], [target]),
    ]


def write_csa_tower(path: Path, schema: FeatureSchema, seed: int = 1) -> None:
    """features → vector and outcomes, linear, with an embedding of the identity; the spread is one of the identity's
    own."""
    rng = np.random.default_rng(seed)
    width = len(schema.csa_numbers)
    known = len(schema.identities)
    spread = 0.2 * rng.standard_normal((known + 1, FACTORS * PROFILE))
    spread[0] *= 3  # of a stranger less is known
    weights = {
        "map": (rng.standard_normal((width, PROFILE)) / np.sqrt(width)).astype(np.float32),
        "own": (0.1 * rng.standard_normal((known + 1, PROFILE))).astype(np.float32),
        "factors": spread.astype(np.float32),
        "outcome_map": (rng.standard_normal((width, len(TARGETS))) / np.sqrt(width) * SPREADS).astype(np.float32),
        "outcome_own": (0.3 * rng.standard_normal((known + 1, len(TARGETS))) * SPREADS).astype(np.float32),
    }
    nodes = [
        helper.make_node("MatMul", ["features", "map"], ["mapped"]),
        helper.make_node("Gather", ["factors", "identity"], ["spread"]),
        helper.make_node("Gather", ["own", "identity"], ["known"]),
        helper.make_node("Add", ["mapped", "known"], ["vector"]),
        helper.make_node("MatMul", ["features", "outcome_map"], ["outcomes_mapped"]),
        helper.make_node("Gather", ["outcome_own", "identity"], ["outcomes_known"]),
        helper.make_node("Add", ["outcomes_mapped", "outcomes_known"], ["outcomes"]),
    ]
    info = helper.make_tensor_value_info
    inputs = [info("features", FLOAT, ["batch", width]), info("identity", INT64, ["batch"])]
    widths = {"vector": PROFILE, "spread": FACTORS * PROFILE, "outcomes": len(TARGETS)}
    outputs = [info(name, FLOAT, ["batch", size]) for name, size in widths.items()]
    _save(nodes, inputs, outputs, weights, path)
