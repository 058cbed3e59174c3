"""ONNX sessions for a process that must not fight over its cores, and the two towers behind them.

Notable: one thread a call and no spinning, because concurrency comes from the router's callers. Rows are encoded one by
one even where there are many: matrix kernels treat rows of a batch differently by their place in it, and a contact's
vectors must not depend, in any bit, on the contacts encoded with it. For these towers a batch would save little.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from twotower.errors import BundleError
from twotower.progress import bar

if TYPE_CHECKING:
    from twotower.features.contact import ContactRows
    from twotower.features.customer import CustomerRows
    from twotower.features.schema import FeatureSchema
    from twotower.scoring.spread import Factors
    from twotower.text.tokens import Tokenizer

Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]

CONTACT_INPUTS = ("tokens", "categories", "numbers")
CONTACT_OUTPUTS = ("profile", "memory", "level", "base", "intent", "intent_p", "complexity", "outcomes")
CSA_INPUTS, CSA_OUTPUTS = ("features", "identity"), ("vector", "spread", "outcomes")
ENCODED = ("vector", "outcomes")  # of the CSA tower: what moves with the features
# Contacts per round: their tokens and columns are in memory at once.
ROUND = 4096
ALIGNMENT = 64


def open_session(path: Path, inputs: Sequence[str], outputs: Sequence[str]) -> ort.InferenceSession:
    """Open a graph on one thread. Raises BundleError where it is unreadable or has other inputs or outputs."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    options.log_severity_level = 3
    try:
        session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises several types that share no base but Exception
        raise BundleError(f"{path}: not a graph that onnxruntime can load ({str(error).splitlines()[0]})") from None
    for kind, wanted, found in (
        ("inputs", inputs, [v.name for v in session.get_inputs()]),
        ("outputs", outputs, [v.name for v in session.get_outputs()]),
    ):
        if set(wanted) != set(found):
            raise BundleError(f"{path}: {kind} are {', '.join(found)}, expected {', '.join(wanted)}; export again")
    return session


@dataclass(frozen=True)
class Encoded:
    """Outputs of the contact tower for B contacts: `profile` (B, P), `memory` (B, Q), `level` (B,), `base` (B, K),
    `intent` i8 (B,) the most probable code with `intent_p` (B,), `complexity` (B, C), `outcomes` (B, T) levels."""

    profile: Floats
    memory: Floats
    level: Floats
    base: Floats
    intent: Integers
    intent_p: Floats
    complexity: Floats
    outcomes: Floats

    def __len__(self) -> int:
        return len(self.level)


class ContactInputs(NamedTuple):
    """What the contact tower reads of B contacts: `tokens` i8 (B, L), `categories` i8 (B, C), `numbers` f4 (B, F)."""

    tokens: Integers
    categories: Integers
    numbers: Floats


class ContactEncoder:
    """Raw contact columns in, the contact tower's vectors out."""

    def __init__(self, session: ort.InferenceSession, tokenizer: Tokenizer, schema: FeatureSchema) -> None:
        self._session = session
        self._tokenizer = tokenizer
        self._schema = schema

    def encode_one(self, contact: Mapping[str, Any], past: CustomerRows | None = None) -> Encoded:
        """Vectors of one contact, keys as in `contacts.parquet`; absent keys and None are unknown; past: of its
        customer, None where nothing is known."""
        return self.read_one(contact, past)[0]

    def read_one(
        self, contact: Mapping[str, Any], past: CustomerRows | None = None
    ) -> tuple[Encoded, ContactRows, Integers]:
        """`encode_one`, and what it read on the way: the contact's row and its category codes (1, C)."""
        read, rows = self._inputs(contact, past)
        return Encoded(*self._run(*read)), rows, read.categories

    def inputs(self, contact: Mapping[str, Any], past: CustomerRows | None = None) -> ContactInputs:
        """What the tower would read of one contact; arguments as those of `encode_one`."""
        return self._inputs(contact, past)[0]

    def inputs_of(self, columns: Mapping[str, Any], past: CustomerRows | None = None) -> ContactInputs:
        """The same of contacts given as columns, as in `encode`."""
        return ContactInputs(
            self._tokenizer.encode(self._texts(columns)), *self._schema.contact_inputs(self._schema.rows(columns), past)
        )

    def words(self, text: str) -> Integers:
        """Tokens (1, L) of a text."""
        return self._tokenizer.encode([text])

    def profile(self, read: ContactInputs) -> Floats:
        """The profile vector (P,) of one contact from what is read of it."""
        feeds = {**read._asdict(), "numbers": _aligned(read.numbers)}
        found: Floats = self._session.run(("profile",), feeds)[0][0]
        return found

    def _inputs(self, contact: Mapping[str, Any], past: CustomerRows | None) -> tuple[ContactInputs, ContactRows]:
        columns = {name: [value] for name, value in contact.items()} or {"intent_text": [None]}
        tokens, rows = self._tokenizer.encode(self._texts(columns)), self._schema.rows(columns)
        return ContactInputs(tokens, *self._schema.contact_inputs(rows, past)), rows

    def encode(self, columns: Mapping[str, Any], past: CustomerRows | None = None, quiet: bool = False) -> Encoded:
        """Vectors of many contacts; columns of equal length N, lists or Arrow arrays; past: of their customers.
        `quiet`: no progress bar."""
        size = len(next(iter(columns.values())))
        rounds = [
            self._encode_round(_slice(columns, start, ROUND), None if past is None else past.part(start, ROUND))
            for start in _rounds(size, quiet)
        ]
        if not rounds:
            empty = self._encode_round({"intent_text": [""]}, None)
            rounds = [Encoded(*(getattr(empty, name)[:0] for name in CONTACT_OUTPUTS))]
        return Encoded(*(np.concatenate([getattr(r, name) for r in rounds]) for name in CONTACT_OUTPUTS))

    def _encode_round(self, columns: Mapping[str, Any], past: CustomerRows | None) -> Encoded:
        tokens = self._tokenizer.encode_corpus(self._texts(columns))
        categories, numbers = self._schema.contact_inputs(columns, past)
        outputs: list[npt.NDArray[Any]] = []
        for i in range(len(tokens)):
            row = slice(i, i + 1)
            results = self._run(tokens.pad(np.array([i])), categories[row], numbers[row])
            outputs = outputs or [np.empty((len(tokens), *r.shape[1:]), r.dtype) for r in results]
            for whole, part in zip(outputs, results, strict=True):
                whole[i] = part[0]
        return Encoded(*outputs)

    def _run(self, tokens: Integers, categories: Integers, numbers: Floats) -> list[npt.NDArray[Any]]:
        feeds = {"tokens": tokens, "categories": categories, "numbers": _aligned(numbers)}
        return [np.asarray(o) for o in self._session.run(CONTACT_OUTPUTS, feeds)]

    @staticmethod
    def _texts(columns: Mapping[str, Any]) -> list[str]:
        from twotower.text.tokens import compose_text

        size = len(next(iter(columns.values())))
        need, said = (_strings(columns.get(name), size) for name in ("intent_text", "transcript"))
        return [compose_text(a, b) for a, b in zip(need, said, strict=True)]


class CsaEncoder:
    """CSA features in; out come profile vectors, how far these may be off, and what CSAs add to outcomes."""

    def __init__(self, session: ort.InferenceSession) -> None:
        self._session = session

    def encode(self, features: Floats, identity: Integers) -> tuple[Floats, Floats]:
        """Profile vectors (J, P) and outcomes (J, T) of features (J, G) and identities (J,)."""
        vectors, own = (np.empty((len(identity), self._width(name)), np.float32) for name in ENCODED)
        for i in range(len(identity)):
            feeds = {"features": _aligned(features[i : i + 1]), "identity": identity[i : i + 1]}
            (vectors[i],), (own[i],) = self._session.run(ENCODED, feeds)
        return vectors, own

    def _width(self, name: str) -> int:
        return next(int(output.shape[1]) for output in self._session.get_outputs() if output.name == name)

    def spread(self, features: Floats, identity: Integers) -> Factors:
        """Factors (J) of the vectors' posterior covariances, by the same inputs."""
        from twotower.scoring.spread import Factors

        width, whole = self._width("vector"), self._width("spread")
        factors = np.empty((len(identity), whole // width, width), np.float16)
        for i in range(len(identity)):
            feeds = {"features": _aligned(features[i : i + 1]), "identity": identity[i : i + 1]}
            factors[i] = self._session.run(("spread",), feeds)[0].reshape(factors.shape[1:])
        return Factors.of(factors)


def _aligned(values: Floats) -> Floats:
    """A copy that begins on a cache line: onnxruntime sums an unaligned input in another order, bit for bit."""
    buffer = np.empty(values.nbytes + ALIGNMENT, dtype=np.uint8)
    start = -buffer.ctypes.data % ALIGNMENT
    copy = buffer[start : start + values.nbytes].view(np.float32).reshape(values.shape)
    copy[...] = values
    return copy


def _rounds(size: int, quiet: bool) -> Iterator[int]:
    starts = range(0, size, ROUND)
    if quiet or size < ROUND:
        yield from starts
        return
    with bar("encoding contacts", total=size, unit="contact") as advance:
        for start in starts:
            yield start
            advance(min(ROUND, size - start))


def _slice(columns: Mapping[str, Any], start: int, count: int) -> dict[str, Any]:
    return {name: values[start : start + count] for name, values in columns.items()}


def _strings(values: Any, size: int) -> Sequence[str | None]:
    if values is None:
        return [None] * size
    return values.to_pylist() if hasattr(values, "to_pylist") else values  # type: ignore[no-any-return]
