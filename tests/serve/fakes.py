"""A small centre and a bundle without training: graphs written by hand, the rest by the code under test.

The contact graph averages token embeddings; the CSA graph is linear. `write_run` lays out a run folder as training
does, `fake_bundle` exports it with these graphs in place of torch's.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tokenizers
from onnx import TensorProto, helper, numpy_helper

from twotower.bundle.sessions import CONTACT_INPUTS, CONTACT_OUTPUTS, ContactEncoder, Encoded, open_session
from twotower.clock import DAY, NEVER
from twotower.features.csa import CsaFeatures
from twotower.features.history import HistoryEngine, KnownHandovers
from twotower.features.schema import FeatureSchema, log_columns
from twotower.scoring.join import Join, RankWeights, sigmoid
from twotower.scoring.kernels import Kernel
from twotower.scoring.rows import build_rows
from twotower.tables.log import Log
from twotower.text.tokens import Tokenizer

START = datetime(2026, 1, 1, tzinfo=UTC)
TOPICS = ("refund", "card", "delivery", "invoice", "password", "cancel")
FILLER = ("my", "the", "please", "now", "again", "where", "is", "it", "since", "monday")
BASE, MEMORY, PROFILE, PER_CSA = 8, 6, 5, 8
UNTIL_DAY = 20


def tables(contacts: int = 160, csas: int = 12, days: int = 30, seed: int = 0) -> dict[str, pa.Table]:
    """A centre in which CSA j is good at topic j mod 6; some lists of eligible CSAs, some late outcomes, returning
    customers, one CSA who joins on day 25 and one who leaves on day 22."""
    rng = np.random.default_rng(seed)
    ids = [f"csa-{j:02}" for j in range(csas)]
    minute = np.sort(rng.integers(0, days * 1440, contacts))
    topic = rng.integers(0, len(TOPICS), contacts)
    texts = [" ".join([TOPICS[t], *rng.choice(FILLER, rng.integers(0, 12))]) for t in topic]
    taker = rng.integers(0, csas - 1, contacts)  # the last one joins late
    wait = rng.integers(5, 4000, contacts)  # minutes until the outcome is known

    def times(values: Any) -> pa.Array:
        moments = [None if v is None else START + timedelta(minutes=int(v)) for v in values]
        return pa.array(moments, pa.timestamp("us", "UTC"))

    return {
        "contacts": pa.table(
            {
                "contact_id": [f"c{i:04}" for i in range(contacts)],
                "customer_id": [None if i % 5 == 0 else f"customer-{i % 17}" for i in range(contacts)],
                "arrived_at": times(minute),
                "channel": [("chat", "call")[i % 2] for i in range(contacts)],
                "language": ["en"] * contacts,
                "intent_text": texts,
                "transcript": ["" if i % 3 else "hello it is me" for i in range(contacts)],
                "eligible": [
                    None if i % 2 else sorted({ids[taker[i]], *rng.choice(ids[:-1], 4)}) for i in range(contacts)
                ],
            }
        ),
        "csas": pa.table(
            {
                "csa_id": ids,
                "valid_from": times([None] * csas),
                "hired_at": times([None] * (csas - 1) + [25 * 1440]),
                "left_at": times([22 * 1440] + [None] * (csas - 1)),
                "languages": [["en"]] * csas,
                "skills": [[{"name": TOPICS[j % len(TOPICS)], "level": 0.8}] for j in range(csas)],
                "profile": ["" if j % 2 else TOPICS[j % len(TOPICS)] for j in range(csas)],
                "capacity": [1] * csas,
            }
        ),
        "interactions": pa.table(
            {
                "contact_id": [f"c{i:04}" for i in range(contacts)],
                "csa_id": [ids[j] for j in taker],
                "assigned_at": times(minute + 1),
                "ended_at": times(minute + 4),
                "known_at": times(minute + wait),
                "resolved": [
                    bool((j % len(TOPICS) == t) or rng.random() < 0.4) for j, t in zip(taker, topic, strict=True)
                ],
                "handle_time_s": rng.uniform(60, 900, contacts),
            }
        ),
    }


def write_tables(content: dict[str, pa.Table], folder: Path) -> Path:
    """The tables as a data set."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, table in content.items():
        pq.write_table(table, folder / f"{name}.parquet")
    return folder


def until_us(day: int = UNTIL_DAY) -> int:
    """The end of the data window, µs."""
    return int((START + timedelta(days=day)).timestamp() * 1e6)


def join(calibrated: bool = True, handled: bool = True) -> Join:
    """A join with every kind of part."""
    success = RankWeights(
        kernels=(Kernel("csa", "residual", 8.0, None, 2.0), Kernel("pair", "residual", 0.0, None, 2.0)),
        profile=0.7,
        level=0.9,
        intercept=0.1,
        kernel_weights=(1.5, 0.5),
    )
    masses = RankWeights(
        kernels=(
            Kernel("csa", "mass", 0.0, 10 * 86400.0),
            Kernel("csa", "mass", 12.0, 10 * 86400.0),
            Kernel("pair", "mass", 0.0, None),
        ),
        profile=0.3,
        success=0.5,
        kernel_weights=(0.6, 0.9, 0.4),
    )
    ranks: dict[Any, RankWeights] = {"success": success}
    if handled:
        ranks["handled"] = masses
    return Join(ranks, "success" if calibrated else "handled", calibrated)


def write_tokenizer(path: Path) -> None:
    """Words of the fake centre, one id each."""
    words = {w: i for i, w in enumerate(["[PAD]", "[UNK]", *TOPICS, *FILLER, "hello", "me"])}
    backend = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="[UNK]"))
    backend.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    backend.add_special_tokens(["[PAD]", "[UNK]"])
    Tokenizer(backend, 16).save(path)


def _save(nodes: list[Any], inputs: list[Any], outputs: list[Any], weights: dict[str, Any], path: Path) -> None:
    values = [numpy_helper.from_array(np.asarray(v), name) for name, v in weights.items()]
    graph = helper.make_graph(nodes, path.stem, inputs, outputs, values)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def write_contact_tower(path: Path, schema: FeatureSchema, words: int = 20, seed: int = 0) -> None:
    """tokens → mean embedding → profile, memory, level, base; categories and numbers shift the level a little."""
    rng = np.random.default_rng(seed)
    f4, i8 = TensorProto.FLOAT, TensorProto.INT64
    node = helper.make_node
    eps = np.float32(1e-12)
    weights = {
        "table": rng.standard_normal((words, BASE)).astype(np.float32),
        "pad": np.array(0, dtype=np.int64),
        "one": np.array(1.0, dtype=np.float32),
        "eps": np.array(eps),
        "to_memory": rng.standard_normal((BASE, MEMORY)).astype(np.float32),
        "to_profile": rng.standard_normal((BASE, PROFILE - 1)).astype(np.float32),
        "small": np.array(0.01, dtype=np.float32),
        "axis": np.array([1], dtype=np.int64),
        "last": np.array([2], dtype=np.int64),
        "axis_in": np.array([-1], dtype=np.int64),
    }
    nodes = [
        node("Gather", ["table", "tokens"], ["embedded"]),
        node("Equal", ["tokens", "pad"], ["is_pad"]),
        node("Not", ["is_pad"], ["is_word"]),
        node("Cast", ["is_word"], ["mask"], to=f4),
        node("Unsqueeze", ["mask", "axis_in"], ["mask3"]),
        node("Mul", ["embedded", "mask3"], ["kept"]),
        node("ReduceSum", ["kept", "axis"], ["summed"], keepdims=0),
        *_unit("summed", "base"),
        node("MatMul", ["base", "to_memory"], ["raw_memory"]),
        *_unit("raw_memory", "memory"),
        node("MatMul", ["base", "to_profile"], ["raw_profile"]),
        node("ReduceSum", ["mask", "axis"], ["count"], keepdims=1),
        node("Sub", ["count", "count"], ["zero"]),
        node("Add", ["zero", "one"], ["ones"]),
        node("Concat", ["raw_profile", "ones"], ["profile"], axis=1),
        node("Cast", ["categories"], ["codes"], to=f4),
        node("ReduceSum", ["codes", "axis"], ["code_sum"], keepdims=0),
        node("ReduceSum", ["numbers", "axis"], ["number_sum"], keepdims=0),
        node("Add", ["code_sum", "number_sum"], ["side"]),
        node("Mul", ["side", "small"], ["level"]),
    ]
    info = helper.make_tensor_value_info
    inputs = [
        info("tokens", i8, ["batch", "length"]),
        info("categories", i8, ["batch", len(schema.categories)]),
        info("numbers", f4, ["batch", len(schema.numbers)]),
    ]
    outputs = [
        info("profile", f4, ["batch", PROFILE]),
        info("memory", f4, ["batch", MEMORY]),
        info("level", f4, ["batch"]),
        info("base", f4, ["batch", BASE]),
    ]
    _save(nodes, inputs, outputs, {k: v for k, v in weights.items() if k != "last"}, path)


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
    """features → vector, linear, with an embedding of the identity."""
    rng = np.random.default_rng(seed)
    width = len(schema.csa_numbers)
    weights = {
        "map": (rng.standard_normal((width, PROFILE)) / np.sqrt(width)).astype(np.float32),
        "own": (0.1 * rng.standard_normal((len(schema.identities) + 1, PROFILE))).astype(np.float32),
    }
    nodes = [
        helper.make_node("MatMul", ["features", "map"], ["mapped"]),
        helper.make_node("Gather", ["own", "identity"], ["known"]),
        helper.make_node("Add", ["mapped", "known"], ["vector"]),
    ]
    info = helper.make_tensor_value_info
    inputs = [
        info("features", TensorProto.FLOAT, ["batch", width]),
        info("identity", TensorProto.INT64, ["batch"]),
    ]
    _save(nodes, inputs, [info("vector", TensorProto.FLOAT, ["batch", PROFILE])], weights, path)


def write_run(
    data: Path, folder: Path, until: int | None = None, calibrated: bool = True, handled: bool = True
) -> Path:
    """A run folder over the tables cut at `until`, as training leaves it, without weights."""
    until = until_us() if until is None else until
    log = Log.load(data, until=until)
    folder.mkdir(parents=True)
    schema = FeatureSchema.fit(log, BASE, 16)
    (folder / "features.json").write_text(schema.to_json())
    write_tokenizer(folder / "tokenizer.json")
    write_contact_tower(folder / "contact_tower.onnx", schema)
    write_csa_tower(folder / "csa_tower.onnx", schema)
    join(calibrated, handled).save(folder / "calibration.json")
    encoder = fake_encoder(folder, schema)
    encoded = encoder.encode(log_columns(log))
    _write_roster(log, schema, encoder, encoded, folder, until)
    _write_history(log, encoded, folder)
    _write_probe(log, schema, folder)
    facts = {
        "objective": "by hand",
        "history_per_csa": PER_CSA,
        "window": {"from": int(log.contacts.arrived_at[0]), "until": until},
        "metrics": {"validation": {"mrr": 0.5}},
    }
    (folder / "run.json").write_text(json.dumps(facts))
    for name in ("model.safetensors", "model.json"):
        (folder / name).write_bytes(b"{}")
    return folder


def fake_encoder(folder: Path, schema: FeatureSchema) -> ContactEncoder:
    """The contact encoder of a run folder or bundle."""
    session = open_session(folder / "contact_tower.onnx", CONTACT_INPUTS, CONTACT_OUTPUTS)
    return ContactEncoder(session, Tokenizer.load(folder / "tokenizer.json", schema.max_tokens), schema)


def _write_roster(
    log: Log, schema: FeatureSchema, encoder: ContactEncoder, encoded: Encoded, folder: Path, until: int
) -> None:
    moves, step = log.handovers, schema.granularity_us
    known = KnownHandovers(moves.csa, moves.known_at, moves.resolved, moves.handle_time_s, encoded.base[moves.contact])
    first = int(log.contacts.arrived_at[0]) // step * step
    engine = HistoryEngine(len(log.csas), BASE, schema.history_half_life_s, first)
    engine.moment = min(first, int(moves.known_at[0]))
    for moment in range(first, until + 1, step):
        engine.advance(known, moment)
    engine.save(folder / "features.state")
    features = CsaFeatures(log.csas, schema, lambda texts: encoder.encode({"intent_text": list(texts)}).base)
    np.savez(
        folder / "csas.npz",
        ids=np.array(log.csas.ids.to_pylist()),
        features=features.at(engine.moment, engine.features()),
        identity=schema.identity_of(log.csas.ids),
        active=log.csas.active_at(until - 1),
    )


def _write_history(log: Log, encoded: Encoded, folder: Path) -> None:
    moves = log.handovers
    rows = build_rows(
        moves.csa, moves.known_at, encoded.memory[moves.contact],
        moves.resolved - sigmoid(encoded.level[moves.contact]), moves.resolved,
        log.contacts.customer[moves.contact], moves.contact.astype(np.int64), PER_CSA,
    )  # fmt: skip
    names = ("csa", "known_at", "until", "vector", "residual", "outcome", "weight")
    ids = np.array(log.contacts.ids.to_pylist())[rows.contact]
    np.savez(folder / "history.npz", **{n: getattr(rows, n) for n in names}, contact_ids=ids)


def _write_probe(log: Log, schema: FeatureSchema, folder: Path, count: int = 40) -> None:
    moves = log.handovers
    late = np.flatnonzero(moves.known_at < NEVER)[-count:]
    columns = log_columns(log, moves.contact[late].astype(np.int64))
    tokenizer = Tokenizer.load(folder / "tokenizer.json", schema.max_tokens)
    tokens = tokenizer.encode([str(t) for t in columns["intent_text"].to_pylist()])
    categories, numbers = schema.contact_inputs(columns)
    np.savez(
        folder / "probe.npz", tokens=tokens, categories=categories, numbers=numbers,
        arrived_at=log.contacts.arrived_at[moves.contact[late]], csa=moves.csa[late].astype(np.int64),
        resolved=moves.resolved[late],
    )  # fmt: skip


def copy_towers(run: Any, folder: Path) -> None:
    """Stands in for the torch export: the run folder holds the graphs already."""
    for name in ("contact_tower.onnx", "csa_tower.onnx"):
        (folder / name).write_bytes((run.folder / name).read_bytes())


def fake_bundle(run: Path, output: Path, quantise: bool = False) -> Path:
    """Export a run folder with its hand-made graphs."""
    from export.bundle import export_bundle

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("export.bundle.write_towers", copy_towers)
        export_bundle(run, output, quantise)
    return output


def days(count: float) -> int:
    """Days in µs."""
    return int(count * DAY)
