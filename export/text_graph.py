"""The tokenizer as a graph: texts in, the token ids that `twotower.text.tokens` gives, out.

Notable: onnxruntime-extensions has a BERT tokenizer, and it is not used: its lower case, accents and punctuation follow
other tables, it knows no special tokens inside a text, and a word of which only the beginning is known leaves that
beginning behind. Here a text becomes characters (an operator of onnxruntime), each is looked up in a table that was
read off the tokenizer itself (`text_characters.py`), and only the search for the longest known piece is the
extension's, word by word, so that a word with an unknown rest can become one unknown token.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from export.text_characters import Characters, exceptions, read_characters
from twotower.text.tokens import CHARACTERS_PER_TOKEN, Tokenizer

OPSETS = {"": 20, "ai.onnx.ml": 4, "com.microsoft": 1, "ai.onnx.contrib": 1}
SAME = "\n"  # what the table says of a character that it does not hold; it turns no character into that
Name = str


class Unsupported(Exception):
    """This tokenizer cannot be a graph; the text says why."""


@dataclass(frozen=True)
class Pieces:
    """A WordPiece tokenizer taken apart: what a graph of it holds.

    `prefix`, `suffix`: ids around every text; `special`: tokens that are found as they stand in a text.
    """

    vocabulary: dict[str, int]
    characters: Characters
    special: dict[str, int]
    prefix: list[int]
    suffix: list[int]
    unknown: str
    continuing: str
    longest_word: int
    pad: int
    max_tokens: int

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> Pieces:
        """Take a tokenizer apart. Raises Unsupported for another than BERT's kind."""
        import tokenizers

        text = tokenizer.to_json()
        backend, told = tokenizers.Tokenizer.from_str(text), json.loads(text)
        model, added = told["model"], told["added_tokens"]
        kinds = [(told[part] or {}).get("type") for part in ("normalizer", "pre_tokenizer", "model")]
        if kinds != ["BertNormalizer", "BertPreTokenizer", "WordPiece"]:
            raise Unsupported(f"the tokenizer is {', '.join(map(str, kinds))}, not BERT's WordPiece")
        if strange := exceptions(model["vocab"]):
            raise Unsupported(f"the tokenizer's vocabulary holds U+{ord(strange[0]):04X}, whose place has context")
        plain = all(not one[flag] for one in added for flag in ("single_word", "lstrip", "rstrip", "normalized"))
        contents = [one["content"] for one in added]
        if not plain or _overlap(contents) or any(c not in model["vocab"] or " " in c for c in contents):
            raise Unsupported("the tokenizer has added tokens that are not found as they stand")
        return cls(
            vocabulary=model["vocab"],
            characters=read_characters(text),
            special={one["content"]: one["id"] for one in added},
            **_frame(backend),
            unknown=model["unk_token"],
            continuing=model["continuing_subword_prefix"],
            longest_word=model["max_input_chars_per_word"],
            pad=tokenizer.pad_id,
            max_tokens=tokenizer.max_tokens,
        )


def _overlap(contents: Sequence[str]) -> bool:
    """Whether one token may begin inside another."""
    return any(
        (one[cut:] and other.startswith(one[cut:])) or one[cut:].startswith(other)
        for one in contents
        for other in contents
        for cut in range(1, len(one))
    )


def _frame(backend: Any) -> dict[str, list[int]]:
    """Ids that stand before and behind every text."""
    whole, bare = (backend.encode("a", add_special_tokens=framed).ids for framed in (True, False))
    start = next(i for i in range(len(whole)) if whole[i : i + len(bare)] == bare)
    return {"prefix": whole[:start], "suffix": whole[start + len(bare) :]}


@dataclass
class Graph:
    """Nodes and constants in the making; calling it adds a node and gives the names of its outputs."""

    prefix: str = "text"
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: list[onnx.TensorProto] = field(default_factory=list)
    known: dict[Any, Name] = field(default_factory=dict)

    def __call__(self, kind: str, *inputs: Name, domain: str = "", **attributes: Any) -> Name:
        return self.several(1, kind, *inputs, domain=domain, **attributes)[0]

    def several(self, count: int, kind: str, *inputs: Name, domain: str = "", **attributes: Any) -> list[Name]:
        """A node of several outputs."""
        outputs = [f"{self.prefix}.{len(self.nodes)}.{i}" for i in range(count)]
        self.nodes.append(helper.make_node(kind, inputs, outputs, outputs[0], domain=domain, **attributes))
        return outputs

    def constant(self, *values: Any, scalar: bool = False) -> Name:
        """The name of a constant (n,) of strings, int64 or float32; or of a scalar."""
        key = (type(values[0]) if values else int, values, scalar)
        if key not in self.known:
            name = self.known[key] = f"{self.prefix}.constant.{len(self.known)}"
            shape = [] if scalar else [len(values)]
            if values and isinstance(values[0], str):
                data = [value.encode() for value in values]
                self.constants.append(helper.make_tensor(name, TensorProto.STRING, shape, data))
            else:
                kind = np.float32 if values and isinstance(values[0], float) else np.int64
                self.constants.append(numpy_helper.from_array(np.array(values, kind).reshape(shape), name))
        return self.known[key]

    def any(self, flags: Name) -> Name:
        """Whether one of a row is true: (B, L) bool to (B, 1) bool."""
        total = self("ReduceSum", self("Cast", flags, to=TensorProto.INT64), self.constant(1), keepdims=1)
        return self("Greater", total, self.constant(0))

    def filled(self, strings: Name) -> Name:
        """Where a string is not empty."""
        return self("Not", self("Equal", strings, self.constant("")))

    def lookup(self, strings: Name, keys: Sequence[str], values: Sequence[int], default: int) -> Name:
        """The code of each string."""
        keys, values = list(keys), list(values)
        # An operator without keys is none.
        keys, values = (keys, values) if keys else ([SAME], [default])
        return self(
            "LabelEncoder",
            strings,
            domain="ai.onnx.ml",
            keys_strings=keys,
            values_int64s=values,
            default_int64=default,
        )


def add_tokens(graph: Graph, pieces: Pieces, need: Name, said: Name) -> Name:
    """Add what turns needs and transcripts, string (B,) each, into right-padded token ids (B, L) int64."""
    text = _composed(graph, pieces, need, said)
    words = _words(graph, pieces, text)
    return _framed(graph, pieces, *_found(graph, pieces, words))


def _characters(graph: Graph, text: Name, limit: int) -> Name:
    """Characters (B, L) of texts (B,), at most `limit`, empty strings behind the end."""
    apart = graph(
        "Tokenizer", text, domain="com.microsoft", mark=0, mincharnum=1, pad_value="", separators=[""]
    )  # fmt: skip
    return graph("Slice", apart, graph.constant(0), graph.constant(limit), graph.constant(1))


def _composed(graph: Graph, pieces: Pieces, need: Name, said: Name) -> Name:
    """`tokens.compose_text` and the cut behind it, in characters (B, L): gaps are empty strings."""
    limit = pieces.max_tokens * CHARACTERS_PER_TOKEN
    need, said = (_characters(graph, text, limit) for text in (need, said))
    blank, end = graph.constant(""), graph.constant(1)
    shape = graph("Shape", need)
    beside = graph("Concat", said, graph("Expand", blank, shape), axis=1)
    width = graph("Gather", shape, graph.constant(1))
    beside = graph("Slice", beside, graph.constant(0), width, end)
    differs = graph("And", graph("Not", graph("Equal", beside, need)), graph.filled(need))
    anything, repeated = graph.any(graph.filled(said)), graph("Not", graph.any(differs))
    need = graph("Where", graph("And", anything, repeated), blank, need)
    between = graph("And", anything, graph("Not", repeated))
    newline = graph("Where", between, graph.constant("\n"), blank)
    whole = graph("Concat", need, newline, said, axis=1)
    counts = graph("Cast", graph.filled(whole), to=TensorProto.INT64)
    place = graph("CumSum", counts, graph.constant(1, scalar=True))
    return graph("Where", graph("LessOrEqual", place, graph.constant(limit)), whole, blank)


def _words(graph: Graph, pieces: Pieces, characters: Name) -> Name:
    """Normalised words (B, W), empty strings behind the end; the last column is always empty."""
    if pieces.special:
        characters = _special(graph, pieces, characters)
    table = dict(pieces.characters.changed)
    table |= {token: f" {token} " for token in pieces.special}
    changed = graph(
        "LabelEncoder",
        characters,
        domain="ai.onnx.ml",
        keys_strings=list(table),
        values_strings=list(table.values()),
        default_string=SAME,
    )
    normal = graph("Where", graph("Equal", changed, graph.constant(SAME)), characters, changed)
    text = _joined(graph, normal)
    for ranges, instead in ((pieces.characters.removed, ""), (pieces.characters.isolated, r" \1 ")):
        if ranges:
            inside = "".join(f"\\x{{{ord(first):X}}}-\\x{{{ord(last):X}}}" for first, last in ranges)
            pattern = graph.constant(f"([{inside}])")
            text = graph("StringRegexReplace", text, pattern, graph.constant(instead), domain="ai.onnx.contrib")
    words = graph("Tokenizer", text, domain="com.microsoft", mark=0, mincharnum=1, pad_value="", separators=[" "])
    rows = graph("Shape", text)
    column = graph("Expand", graph.constant(""), graph("Concat", rows, graph.constant(1), axis=0))
    return graph("Concat", words, column, axis=1)


def _joined(graph: Graph, strings: Name) -> Name:
    """Texts (B,) of strings (B, L)."""
    nothing, along = graph.constant(""), graph.constant(1)
    return graph("StringJoin", strings, nothing, along, domain="ai.onnx.contrib")


def _special(graph: Graph, pieces: Pieces, characters: Name) -> Name:
    """The same characters, special tokens each in one string; only where a text has a character that begins one."""
    firsts = sorted({token[0] for token in pieces.special})
    hits = [graph("Equal", characters, graph.constant(first)) for first in firsts]
    hit = hits[0]
    for other in hits[1:]:
        hit = graph("Or", hit, other)
    total = graph("ReduceSum", graph("Cast", hit, to=TensorProto.INT64), keepdims=0)
    found = graph("Greater", total, graph.constant(0, scalar=True))
    with_them, as_they_are = Graph(f"{graph.prefix}.special"), Graph(f"{graph.prefix}.plain")
    expression = "|".join([*map(re.escape, sorted(pieces.special, key=len, reverse=True)), r"(?s:.)"])
    joined = _joined(with_them, characters)
    apart = with_them(
        "Tokenizer", joined, domain="com.microsoft", mark=0, mincharnum=1, pad_value="", tokenexp=expression
    )  # fmt: skip
    branches = {
        "then_branch": _branch(with_them, apart),
        "else_branch": _branch(as_they_are, as_they_are("Identity", characters)),
    }
    return graph("If", found, **branches)


def _branch(graph: Graph, output: Name) -> onnx.GraphProto:
    value = helper.make_tensor_value_info(output, TensorProto.STRING, [None, None])
    return helper.make_graph(graph.nodes, graph.prefix, [], [value], graph.constants)


def _found(graph: Graph, pieces: Pieces, words: Name) -> tuple[Name, Name]:
    """Ids of the pieces of words (B, W), each word's side by side in (B, W · P), and which of these cells count."""
    zero, one = graph.constant(0), graph.constant(1)
    tokens, _, begin, end = graph.several(
        4,
        "WordpieceTokenizer",
        graph("Reshape", words, graph.constant(-1)),
        graph.constant(),
        domain="ai.onnx.contrib",
        vocab=json.dumps(pieces.vocabulary, ensure_ascii=False),
        suffix_indicator=pieces.continuing,
        unknown_token=pieces.unknown,
        max_input_chars_per_word=pieces.longest_word,
    )
    unknown = pieces.vocabulary[pieces.unknown]
    ids = graph.lookup(tokens, list(pieces.vocabulary), list(pieces.vocabulary.values()), unknown)
    counts = graph("Sub", end, begin)
    widest = graph("ReduceMax", graph("Concat", counts, one, axis=0), keepdims=0)
    columns = graph(
        "Unsqueeze", graph("Range", graph.constant(0, scalar=True), widest, graph.constant(1, scalar=True)), zero
    )
    inside = graph("Less", columns, graph("Unsqueeze", counts, one))
    place = graph("Where", inside, graph("Add", graph("Unsqueeze", begin, one), columns), zero)
    cells = graph("Gather", graph("Concat", ids, zero, axis=0), place)
    # Of a word that ends in an unknown piece nothing is known: the unknown token alone stands for it.
    lost = graph.any(graph("And", inside, graph("Equal", cells, graph.constant(unknown))))
    cells = graph("Where", lost, graph.constant(unknown), cells)
    counted = graph("And", inside, graph("Or", graph("Not", lost), graph("Equal", columns, zero)))
    rows = graph("Concat", graph("Slice", graph("Shape", words), zero, one), graph.constant(-1), axis=0)
    return graph("Reshape", cells, rows), graph("Reshape", counted, rows)


def _framed(graph: Graph, pieces: Pieces, cells: Name, counted: Name) -> Name:
    """Ids (B, L): those that count one behind the other, cut, between the ids that frame every text."""
    zero, one = graph.constant(0), graph.constant(1)
    before, behind = len(pieces.prefix), len(pieces.suffix)
    most = pieces.max_tokens - before - behind
    counts = graph("Cast", counted, to=TensorProto.INT64)
    kept = graph("Min", graph("ReduceSum", counts, one, keepdims=1), graph.constant(most))
    # Cells that do not count go behind everything, where they are cut off again.
    width = graph("Max", graph("ReduceMax", kept, keepdims=0), graph.constant(0 if before + behind else 1, scalar=True))
    place = graph("Sub", graph("CumSum", counts, graph.constant(1, scalar=True)), one)
    fits = graph("And", counted, graph("Less", place, graph.constant(most)))
    whole = graph("Add", width, graph.constant(before + behind))
    place = graph("Where", fits, graph("Add", place, graph.constant(before)), whole)
    rows = graph("Slice", graph("Shape", cells), zero, one)
    ids = graph("Expand", graph.constant(pieces.pad), graph("Concat", rows, graph("Add", whole, one), axis=0))
    ids = graph("ScatterElements", ids, place, cells, axis=1)
    single = graph("Concat", rows, one, axis=0)
    for i, mark in enumerate((*pieces.prefix, *pieces.suffix)):
        at = graph("Expand", graph.constant(i), single)
        if i >= before:
            at = graph("Add", kept, graph.constant(i))
        ids = graph("ScatterElements", ids, at, graph("Expand", graph.constant(mark), single), axis=1)
    return graph("Slice", ids, zero, whole, one)
