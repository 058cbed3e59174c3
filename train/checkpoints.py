"""Checkpoints as one safetensors file each: what Lightning holds between two steps, and nothing that runs when read.

Notable: Lightning's own checkpoints are pickles. Here tensors and arrays are the file's tensors, named by where they
were in the checkpoint, and everything else is JSON in the file's metadata, with tags where JSON has no word for a type.
A digest over both tells a damaged file from a whole one, and a file is written beside its place and renamed, so the
last checkpoint is whole whatever happens to the next.

Format: https://github.com/huggingface/safetensors.
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import shutil
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch.plugins.io import CheckpointIO
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from twotower.errors import ConfigError, OutputError
from twotower.files import atomic_file, system_errors

FORMAT = "twotower checkpoint 1"
TAG = "!"  # the key under which a JSON object says that it is no dict
PLAIN = (type(None), bool, int, str)
KINDS = "biufcmMSU"  # of numpy arrays whose bytes say all
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
REMEDY = "remove it and repeat the command, which then starts anew"


class SafeCheckpoints(CheckpointIO):
    """Lightning's checkpoints through `write` and `read`."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """See `write`."""
        write(checkpoint, Path(path))

    def load_checkpoint(
        self, path: str | Path, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """See `read`; everything lies on the CPU, from where Lightning puts it where it belongs."""
        return read(Path(path))

    def remove_checkpoint(self, path: str | Path) -> None:
        """Remove a checkpoint that others replaced."""
        Path(path).unlink(missing_ok=True)


def write(checkpoint: dict[str, Any], path: Path) -> None:
    """Write a checkpoint so that `path` holds the old one or the new one, never a part.

    Raises:
        ConfigError: the checkpoint holds something that has no place in it; the line names where.
        OutputError: the disk is full; what was at `path` stays.
    """
    tensors: dict[str, Tensor] = {}
    tree = json.dumps(Encoder(tensors).encode(checkpoint, ()), allow_nan=False)
    said = {"format": FORMAT, "tree": tree, "digest": digest(tree, tensors)}
    try:
        with atomic_file(path) as partial, system_errors(path):
            save_file(tensors, partial, said)  # from where the tensors lie: no copy of the file is made in memory
    except OSError as error:
        if error.errno not in FULL:
            raise
        needed = len(tree) + sum(tensor.nbytes for tensor in tensors.values())
        free = shutil.disk_usage(path.parent).free
        raise OutputError(
            f"{path}: the disk is full: the checkpoint needs {needed:,} bytes, {free:,} are free; the checkpoint "
            "before it stays: free some space and repeat the command, which continues there"
        ) from None


def read(path: Path) -> dict[str, Any]:
    """The checkpoint at `path`, bit for bit what was written. Raises ConfigError, one line, for a damaged file."""
    try:
        with safe_open(path, framework="pt") as file:
            said = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 — no mapping
    except SafetensorError as error:
        raise ConfigError(f"{path}: no whole checkpoint ({error}); {REMEDY}") from None
    if said.get("format") != FORMAT:
        raise ConfigError(f"{path}: {FORMAT!r} was expected, found {said.get('format')!r}; {REMEDY}")
    if said.get("digest") != digest(said.get("tree", ""), tensors):
        raise ConfigError(f"{path}: damaged: its content is not what its digest says; {REMEDY}")
    checkpoint: dict[str, Any] = decode(json.loads(said["tree"]), tensors)
    return checkpoint


def digest(tree: str, tensors: dict[str, Tensor]) -> str:
    """SHA-256 of everything a checkpoint says."""
    found = hashlib.sha256(tree.encode())
    for name, tensor in sorted(tensors.items()):
        found.update(f"\n{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        found.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


class Encoder:
    """Turns values into JSON and puts their tensors into `tensors`, each once however often it occurs."""

    def __init__(self, tensors: dict[str, Tensor]) -> None:
        self.tensors = tensors
        self._names: dict[int, str] = {}
        self._alive: list[Tensor] = []  # so that no id is given to another tensor
        self._memories: set[int] = set()

    def encode(self, value: Any, at: tuple[str, ...]) -> Any:
        """JSON of a value that stands at a place. Raises ConfigError for a type that is not known."""
        if type(value) in PLAIN:
            return value
        if type(value) is float:
            return value if math.isfinite(value) else {TAG: "float", "of": repr(value)}
        if type(value) is list:
            return [self.encode(item, (*at, str(i))) for i, item in enumerate(value)]
        if type(value) in (tuple, torch.Size):
            of = [self.encode(item, (*at, str(i))) for i, item in enumerate(value)]
            return {TAG: "tuple" if type(value) is tuple else "size", "of": of}
        if type(value) in (dict, OrderedDict):
            return self._mapping(value, at)
        if isinstance(value, Tensor):
            return {TAG: "tensor", "of": self._tensor(value, at)}
        if isinstance(value, np.ndarray | np.generic) and value.dtype.kind in KINDS and value.dtype.itemsize:
            return self._array(value, at)
        if isinstance(value, torch.dtype | torch.device):
            return {TAG: type(value).__name__, "of": str(value).removeprefix("torch.")}
        raise ConfigError(
            f"checkpoint: {'/'.join(at)} is a {type(value).__module__}.{type(value).__qualname__}, which is not saved: "
            "a callback or plugin that keeps it must keep tensors, arrays, numbers, texts, lists and dicts"
        )

    def _mapping(self, value: dict[Any, Any], at: tuple[str, ...]) -> Any:
        items = [(key, self.encode(item, (*at, str(key)))) for key, item in value.items()]
        if type(value) is dict and TAG not in value and all(type(key) is str for key in value):
            return dict(items)
        found = {TAG: type(value).__name__, "of": [[self.encode(key, at), item] for key, item in items]}
        versions = getattr(value, "_metadata", None)  # of a module's state
        return found if versions is None else {**found, "metadata": self.encode(versions, (*at, "_metadata"))}

    def _tensor(self, value: Tensor, at: tuple[str, ...]) -> str:
        if id(value) in self._names:
            return self._names[id(value)]
        if value.layout != torch.strided or value.is_quantized or value.dtype == torch.complex128:
            raise ConfigError(f"checkpoint: {'/'.join(at)} is a tensor of {value.layout}, {value.dtype}: not saved")
        name = self._put(value.detach().cpu().contiguous(), at)
        self._alive.append(value)
        self._names[id(value)] = name
        return name

    def _put(self, value: Tensor, at: tuple[str, ...]) -> str:
        name = plain = "/".join(at)
        count = 1
        while name in self.tensors:
            count += 1
            name = f"{plain} {count}"
        memory = value.untyped_storage().data_ptr()
        # The format has no views: what shares memory with another tensor becomes a tensor of its own.
        self.tensors[name] = value.clone() if memory in self._memories else value
        self._memories.add(memory)
        return name

    def _array(self, value: Any, at: tuple[str, ...]) -> Any:
        content, dtype = np.ascontiguousarray(value).tobytes(), value.dtype.str
        if isinstance(value, np.generic):
            return {TAG: "scalar", "dtype": dtype, "of": content.hex()}
        held = torch.from_numpy(np.frombuffer(content, np.uint8).copy())
        return {TAG: "array", "dtype": dtype, "shape": list(value.shape), "of": self._put(held, at)}


def decode(value: Any, tensors: dict[str, Tensor]) -> Any:
    """The value that `Encoder.encode` made this JSON of."""
    if isinstance(value, list):
        return [decode(item, tensors) for item in value]
    if not isinstance(value, dict):
        return value
    if TAG not in value:
        return {key: decode(item, tensors) for key, item in value.items()}
    kind, of = value[TAG], value["of"]
    if kind in ("dict", "OrderedDict"):
        return _mapping(kind, [(decode(key, tensors), decode(item, tensors)) for key, item in of], value, tensors)
    if kind in ("tuple", "size"):
        items = tuple(decode(item, tensors) for item in of)
        return items if kind == "tuple" else torch.Size(items)
    if kind == "tensor":
        return tensors[of]
    if kind == "scalar":
        return np.frombuffer(bytes.fromhex(of), value["dtype"])[0]
    if kind == "array":
        content = tensors[of].numpy().tobytes()
        return np.frombuffer(content, value["dtype"]).reshape(value["shape"]).copy()
    return {"float": float, "dtype": lambda name: getattr(torch, name), "device": torch.device}[kind](of)


def _mapping(kind: str, items: list[tuple[Any, Any]], value: dict[str, Any], tensors: dict[str, Tensor]) -> Any:
    if kind == "dict":
        return dict(items)
    found = OrderedDict(items)
    if "metadata" in value:
        found._metadata = decode(value["metadata"], tensors)  # type: ignore[attr-defined]
    return found
