"""A small centre and a bundle without training: graphs written by hand, the rest by the code under test.

The graphs are those of `tests.serve.graphs`. `write_run` lays out a run folder as training does, with any families of
features, `fake_bundle` exports it with these graphs in place of torch's.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tokenizers

from tests.serve.graphs import BASE, write_contact_tower, write_csa_tower
from tests.serve.graphs import PROFILE as PROFILE
from twotower.bundle.sessions import CONTACT_INPUTS, CONTACT_OUTPUTS, ContactEncoder, Encoded, open_session
from twotower.clock import DAY, NEVER
from twotower.features.complexity import COMPLEXITY
from twotower.features.csa import CsaFeatures
from twotower.features.engine.csa import CsaHistory
from twotower.features.engine.store import save_csas
from twotower.features.registry import DEFAULT, FAMILIES
from twotower.features.schema import FeatureSchema, log_columns
from twotower.features.streams import CustomerPast, csa_streams, told_by
from twotower.scoring.join import Join, RankWeights, sigmoid
from twotower.scoring.kernels import Kernel
from twotower.scoring.outcomes import Head, Outcomes
from twotower.scoring.rows import build_rows
from twotower.tables.log import Log
from twotower.text.tokens import Tokenizer

START = datetime(2026, 1, 1, tzinfo=UTC)
TOPICS = ("refund", "card", "delivery", "invoice", "password", "cancel")
FILLER = ("my", "the", "please", "now", "again", "where", "is", "it", "since", "monday", "furious", "thanks")
WORDS = ("[PAD]", "[UNK]", *TOPICS, *FILLER, "hello", "me")
PER_CSA = 8
UNTIL_DAY = 20
ALL = tuple(FAMILIES)  # every family of features there is


def tables(contacts: int = 160, csas: int = 12, days: int = 30, seed: int = 0) -> dict[str, pa.Table]:
    """A centre in which CSA j is good at topic j mod 6; some lists of eligible CSAs, some late outcomes, returning
    customers, some of them furious, one CSA who joins on day 25 and one who leaves on day 22."""
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
                "intent": [TOPICS[t] if i % 3 else None for i, t in enumerate(topic)],
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
                "transferred": [None if i % 7 == 0 else i % 4 == 0 for i in range(contacts)],
                "csat": [None if i % 2 else float(1 + (i + t) % 5) for i, t in enumerate(topic)],
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
    heads = Outcomes((Head(0.1, 0.8), None, Head(-0.05, 0.3), Head(-0.02, 0.1)))
    return Join(ranks, "success" if calibrated else "handled", calibrated, outcomes=heads)


def write_tokenizer(path: Path) -> None:
    """Words of the fake centre, one id each."""
    words = {word: code for code, word in enumerate(WORDS)}
    backend = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="[UNK]"))
    backend.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    backend.add_special_tokens(["[PAD]", "[UNK]"])
    Tokenizer(backend, 16).save(path)


def write_run(
    data: Path,
    folder: Path,
    until: int | None = None,
    calibrated: bool = True,
    handled: bool = True,
    families: Sequence[str] = DEFAULT,
) -> Path:
    """A run folder over the tables cut at `until`, as training leaves it, without weights."""
    until = until_us() if until is None else until
    log = Log.load(data, until=until)
    folder.mkdir(parents=True)
    schema = FeatureSchema.fit(log, BASE, 16, families)
    write_tokenizer(folder / "tokenizer.json")
    write_contact_tower(folder / "contact_tower.onnx", schema, len(WORDS))
    encoded = _encode(log, schema, folder)
    schema = replace(
        schema, bands=_bands(encoded), heads=[one.name for one in COMPLEXITY]
    )  # which only CSAs are described by
    write_csa_tower(folder / "csa_tower.onnx", schema)
    (folder / "features.json").write_text(schema.to_json())
    join(calibrated, handled).save(folder / "calibration.json")
    _write_roster(log, schema, encoded, folder, until)
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


def _encode(log: Log, schema: FeatureSchema, folder: Path) -> Encoded:
    """All contacts of a log, each with what was known of its customer."""
    past = CustomerPast(log, schema, schema.rows(log_columns(log)))
    known = past.at(log.contacts.customer, log.contacts.arrived_at)
    return fake_encoder(folder, schema).encode(log_columns(log), known)


def _bands(encoded: Encoded) -> list[float]:
    time = encoded.complexity[:, [one.name for one in COMPLEXITY].index("handle_time")]
    return [float(edge) for edge in np.quantile(time, (0.25, 0.5, 0.75))]


def _write_roster(log: Log, schema: FeatureSchema, encoded: Encoded, folder: Path, until: int) -> None:
    """The CSAs and their history as of `until`."""
    encoder = fake_encoder(folder, schema)
    known, work = csa_streams(log, schema, told_by(schema, schema.rows(log_columns(log)), encoded))
    history = CsaHistory(schema.csa_settings, len(log.csas))
    history.advance(known, until, work)
    save_csas(history, folder / "features.state")
    features = CsaFeatures(log.csas, schema, lambda texts: encoder.encode({"intent_text": list(texts)}).base)
    pq.write_table(log.csas.declared_at(until), folder / "csas.parquet")
    np.savez(
        folder / "csas.npz",
        ids=np.array(log.csas.ids.to_pylist()),
        features=features.at(until, history),
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
    names = ("csa", "known_at", "until", "code", "scale", "residual", "outcome", "weight")
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


def copy_towers(run: Any, folder: Path, halve: bool) -> None:
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
