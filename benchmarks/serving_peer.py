"""What a team builds that takes sentence embeddings for granted: MiniLM in int8, and a flat index of FAISS.

Notable: the graph is exported whole, pooling and unit length inside, and quantised by onnxruntime's own dynamic
quantiser; its session, its index and its mask run on one thread, as ours do. Vectors of the roster are random: what a
flat index reads does not depend on them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from twotower.index.vectors import faiss

TOKENS = 256


class Peer:
    """MiniLM and a flat index of `csas` vectors, of which `codes` are eligible; scratch: where its graph goes."""

    def __init__(self, scratch: Path, csas: int, codes: npt.NDArray[np.int64]) -> None:
        import onnxruntime as ort

        graph = scratch / "minilm-int8.onnx"
        if not graph.exists():
            export_int8(graph)
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = ort.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
        self._tokenizer = tokenizer()
        width = int(self._session.get_outputs()[0].shape[1])
        vectors = np.random.default_rng(0).standard_normal((csas, width)).astype(np.float32)
        self._index = faiss.IndexFlatIP(width)
        self._index.add(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
        allowed = np.zeros(csas, np.bool_)
        allowed[codes] = True
        self._bits = np.packbits(allowed, bitorder="little")

    def match(self, text: str, k: int) -> npt.NDArray[np.int64]:
        """Codes of the k nearest."""
        ids = np.array([self._tokenizer.encode(text).ids], np.int64)
        (vector,) = self._session.run(None, {"tokens": ids})
        chosen = faiss.SearchParameters(sel=faiss.IDSelectorBitmap(self._bits))
        found: npt.NDArray[np.int64] = self._index.search(vector, k, params=chosen)[1][0]
        return found


def tokenizer() -> Any:
    """MiniLM's, cut at `TOKENS`."""
    import tokenizers

    from twotower.towers.encoders import MINILM, encoder_path

    found = tokenizers.Tokenizer.from_file(str(Path(encoder_path(MINILM)) / "tokenizer.json"))
    found.enable_truncation(TOKENS)
    found.no_padding()
    return found


def export_int8(path: Path) -> None:
    """Write MiniLM with its pooling as a graph of int8 weights."""
    import torch
    from onnxruntime.quantization import QuantType, quantize_dynamic

    from twotower.towers.backbones import load_transformer
    from twotower.towers.encoders import MINILM

    plain = path.with_suffix(".fp32.onnx")
    backbone = load_transformer(MINILM).eval()
    axes = {"tokens": {0: "batch", 1: "length"}, "vector": {0: "batch"}}
    torch.onnx.export(
        backbone, (torch.ones(2, 8, dtype=torch.int64),), str(plain), input_names=["tokens"], output_names=["vector"],
        dynamic_axes=axes, dynamo=False,
    )  # fmt: skip
    quantize_dynamic(str(plain), str(path), weight_type=QuantType.QInt8)
    plain.unlink()
