"""`contact_tower_text.onnx`: the contact tower behind its tokenizer, for routers that have onnxruntime alone.

Notable: the graph is made of the graph that was exported already, so it says what that one says; what it cannot know
is held at what a missing value means: an unknown label, the mean of a number, no earlier meeting. Labels are inputs
that a caller may leave out. `query` is what meets a row of `vectors.npy`. Both the tokenizer and the tower are compared
with what the router's own encoder says of the same texts before the file stays.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.utils import Extractor

from export.onnx import PARITY_BATCHES, TOLERANCE, row_distance, strip
from export.run import ExportError
from export.text_graph import OPSETS, Graph, Name, Pieces, add_tokens
from twotower.bundle.sessions import CONTACT_INPUTS, CONTACT_OUTPUTS, open_session
from twotower.features.schema import FeatureSchema
from twotower.text.tokens import Tokenizer, compose_text

FILE = "contact_tower_text.onnx"
LIBRARY = "onnxruntime_extensions"
TEXTS = ("need", "transcript")
HEARD = ("profile", "memory", "level")
OUTPUTS = ("query", *HEARD)
IR_VERSION = 10
# Languages, scripts, marks, and what only a tokenizer would say: every branch of the graph is walked.
SAMPLES: tuple[tuple[str, str], ...] = (
    ("", ""),
    ("", "hello"),
    ("My card was declined abroad", ""),
    ("My card was declined", "My card was declined at the airport. I'm FURIOUS!!! What now?"),
    ("Où est mon colis ?", "Bonjour, ma commande n° 4711 n’est pas arrivée : ça fait déjà trois semaines…"),
    ("Rückerstattung", "Grüß Gott, ich hätte gern mein Geld zurück – 49,90 € für die Straßenkarte."),
    ("No puedo entrar", "¡Hola! ¿Podría alguien ayudarme? El código dice «inválido» desde el 3.º intento."),
    ("退款", "我的订单还没有到，请问ｗｈｙ？ ありがとう 감사합니다"),
    ("помогите", "Ёлка не пришла\tВОВСЕ\r\n\u00a0и чек — тоже"),
    ("[SEP] [MASK]x[CLS", "]y [PAD][UNK] [sep]"),
    ("e\u0301\u0300 İ ΑΣ", "a\u200bb\u00adc\u0000d\ue000e \U0001f600 \ufb01 x☃y unaffable " + "z" * 101),
    ("long", "word, " * 400 + "[SEP]"),
    ("x" * 3000, "[SEP] " * 100),
)


def write_text_tower(folder: Path, tokenizer: Tokenizer, schema: FeatureSchema, probe: Sequence[str]) -> None:
    """Write `contact_tower_text.onnx` beside the bundle's `contact_tower.onnx`, and prove it.

    probe: texts to prove it on, beside `SAMPLES`. Raises Unsupported where the tokenizer cannot be a graph, ExportError
    where the graph says anything else than the router's encoder.
    """
    pieces = Pieces.of(tokenizer)
    texts = [*SAMPLES, *((text, "") for text in probe)]
    check_tokens(tokens_graph(pieces), tokenizer, texts)
    path = folder / FILE
    onnx.save(text_tower(pieces, onnx.load(folder / "contact_tower.onnx"), schema), path)
    check_tower(path, folder / "contact_tower.onnx", tokenizer, schema, texts)


def tokens_graph(pieces: Pieces) -> onnx.ModelProto:
    """The tokenizer alone: `need` and `transcript` in, `tokens` out."""
    graph = Graph()
    graph.nodes.append(helper.make_node("Identity", [add_tokens(graph, pieces, *TEXTS)], ["tokens"]))
    output = helper.make_tensor_value_info("tokens", TensorProto.INT64, ["batch", "length"])
    return _model(graph.nodes, graph.constants, _text_inputs(), [output], OPSETS[""])


def text_tower(pieces: Pieces, tower: onnx.ModelProto, schema: FeatureSchema) -> onnx.ModelProto:
    """Texts and labels in, `OUTPUTS` out."""
    graph = Graph()
    tokens = add_tokens(graph, pieces, *TEXTS)
    rows = graph("Shape", TEXTS[0])
    codes = [_codes(graph, name, values, rows) for name, values in schema.categories.items()]
    last = schema.neutral(1)["numbers"][0]
    numbers = graph("Expand", graph.constant(*(float(value) for value in last)), _beside(graph, rows, len(last)))
    for name, found in zip(CONTACT_INPUTS, (tokens, graph("Concat", *codes, axis=1), numbers), strict=True):
        graph.nodes.append(helper.make_node("Identity", [found], [name]))
    kept = Extractor(tower).extract_model(list(CONTACT_INPUTS), list(HEARD)).graph
    one = graph("Expand", graph.constant(1.0), _beside(graph, rows, 1))
    behind = helper.make_node("Concat", ["profile", "memory", one], ["query"], axis=1)
    optional = [numpy_helper.from_array(np.array([""], object), name) for name in schema.categories]
    labels = [helper.make_tensor_value_info(name, TensorProto.STRING, [None]) for name in schema.categories]
    width = sum(value.type.tensor_type.shape.dim[1].dim_value for value in kept.output if value.name != "level") + 1
    query = helper.make_tensor_value_info("query", TensorProto.FLOAT, ["batch", width])
    opset = max(OPSETS[""], next(one.version for one in tower.opset_import if not one.domain))
    return _model(
        [*graph.nodes, *kept.node, behind],
        [*graph.constants, *kept.initializer, *optional],
        [*_text_inputs(), *labels],
        [query, *kept.output],
        opset,
    )


def _codes(graph: Graph, name: str, values: Sequence[str], rows: Name) -> Name:
    """Codes (B, 1) of a label (B,), or of one that all share."""
    codes = graph.lookup(name, values, range(1, 1 + len(values)), 0)
    return graph("Unsqueeze", graph("Expand", codes, rows), graph.constant(1))


def _beside(graph: Graph, rows: Name, columns: int) -> Name:
    return graph("Concat", rows, graph.constant(columns), axis=0)


def _text_inputs() -> list[onnx.ValueInfoProto]:
    return [helper.make_tensor_value_info(name, TensorProto.STRING, ["batch"]) for name in TEXTS]


def _model(nodes: Any, constants: Any, inputs: Any, outputs: Any, opset: int) -> onnx.ModelProto:
    opsets = [helper.make_opsetid(domain, version) for domain, version in {**OPSETS, "": opset}.items()]
    made = helper.make_graph(nodes, "contact_tower_text", inputs, outputs, constants)
    return strip(helper.make_model(made, opset_imports=opsets, ir_version=IR_VERSION, producer_name="twotower"))


def available() -> bool:
    """Whether the extension's operators are installed."""
    return find_spec(LIBRARY) is not None


def library() -> str:
    """Path of the shared library that holds the extension's operators."""
    import onnxruntime_extensions

    return str(onnxruntime_extensions.get_library_path())


def open_text(graph: Path | bytes) -> Any:
    """A session of a graph that takes texts, on one thread."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.register_custom_ops_library(library())
    return ort.InferenceSession(graph if isinstance(graph, bytes) else str(graph), options)


def feeds(texts: Sequence[tuple[str, str]]) -> dict[str, npt.NDArray[np.object_]]:
    """Needs and transcripts as the graph takes them."""
    return {name: np.array([pair[i] for pair in texts], object) for i, name in enumerate(TEXTS)}


def check_tokens(graph: onnx.ModelProto, tokenizer: Tokenizer, texts: Sequence[tuple[str, str]]) -> None:
    """Raises ExportError where the graph gives a text other tokens than the tokenizer, alone or in company."""
    session = open_text(graph.SerializeToString())
    for part in (texts, *([pair] for pair in texts)):
        found = session.run(["tokens"], feeds(part))[0]
        wanted = tokenizer.encode([compose_text(*pair) for pair in part])
        if not np.array_equal(found, wanted):
            raise ExportError(
                f"{FILE}: a batch of {len(part)} that begins with {json.dumps(part[0])[:80]} has other tokens than"
                " tokenizer.json gives; nothing was written (without onnxruntime-extensions the graph is left out)"
            )


def check_tower(
    path: Path, plain: Path, tokenizer: Tokenizer, schema: FeatureSchema, texts: Sequence[tuple[str, str]]
) -> None:
    """Raises ExportError where an output is further than `TOLERANCE` in cosine from the plain graph's."""
    session, other = open_text(path), open_session(plain, CONTACT_INPUTS, CONTACT_OUTPUTS)
    for batch in PARITY_BATCHES:
        part = [texts[i % len(texts)] for i in range(batch, 2 * batch)]
        tokens = tokenizer.encode([compose_text(*pair) for pair in part])
        wanted = other.run(list(HEARD), {"tokens": tokens, **schema.neutral(batch)})
        joined = np.concatenate([*wanted[:2], np.ones((batch, 1), np.float32)], axis=1)
        found = session.run(list(OUTPUTS), feeds(part))
        for name, expected, got in zip(OUTPUTS, (joined, *wanted), found, strict=True):
            distance = row_distance(expected, got)
            if not distance <= TOLERANCE:
                raise ExportError(
                    f"{FILE}: output {name!r} is {distance:.2g} away from contact_tower.onnx at batch {batch}"
                    f" (limit {TOLERANCE:g}); nothing was written"
                )
