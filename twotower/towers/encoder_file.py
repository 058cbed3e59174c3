"""A sentence encoder as one file: half-precision weights, and beside them, as text, all that is needed to read them.

Notable: it is a safetensors file whose metadata holds the JSON files of a sentence-transformers folder (architecture,
pooling, tokenizer), so it is opened as such a folder and no code of its own can drift from theirs. The header is
written sorted: the same encoder gives the same bytes. A digest over header and weights is kept in the metadata and
checked whenever the file is opened.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from twotower.errors import ConfigError
from twotower.files import atomic_write

if TYPE_CHECKING:
    from torch import Tensor

SUFFIX = ".safetensors"
VERSION = "1"
NEEDED = ("1_Pooling/config.json", "config.json", "modules.json", "tokenizer.json")
KEPT = (
    *NEEDED, "config_sentence_transformers.json", "sentence_bert_config.json", "special_tokens_map.json",
    "tokenizer_config.json",
)  # fmt: skip
MOST_HEADER = 100_000_000  # bytes; what safetensors itself reads


class Content(NamedTuple):
    """What an encoder file holds: its JSON `files` by name, and `shapes` of its weights by name."""

    files: dict[str, str]
    shapes: dict[str, list[int]]


def is_encoder_file(path: Path) -> bool:
    """Whether a path is meant as an encoder file, by its name."""
    return path.suffix == SUFFIX


def write_encoder_file(folder: Path, weights: dict[str, Tensor], path: Path) -> int:
    """Write the weights, in half precision, and the JSON files of a sentence-transformers folder; returns the bytes.

    The file appears whole or not at all. Raises ConfigError where a file is missing or a weight is too large for half
    precision.
    """
    from safetensors.torch import save

    files = {name: (folder / name).read_text(encoding="utf-8") for name in KEPT if (folder / name).is_file()}
    if missing := [name for name in NEEDED if name not in files]:
        raise ConfigError(f"{folder}: {missing[0]} is missing; a sentence-transformers folder was expected")
    halves = {name: _half(name, value) for name, value in weights.items()}
    header, data = _parts(save(halves))
    metadata = {"format": "pt", "twotower_encoder": VERSION, **files}
    header["__metadata__"] = {**metadata, "sha256": _digest(header, metadata, data)}
    text = json.dumps(header, sort_keys=True, ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # weights begin where they can be mapped
    content = len(text).to_bytes(8, "little") + text + data
    atomic_write(path, content)
    return len(content)


def read_encoder_file(path: Path) -> Content:
    """Check an encoder file and return what it says of itself.

    Raises ConfigError, one line, where it is missing, damaged, or no encoder file.
    """
    try:
        header, data = _parts(path.read_bytes())
        metadata = dict(header.pop("__metadata__", {}))
        shapes = {name: list(facts["shape"]) for name, facts in header.items()}
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such encoder file; {_HOW}") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise ConfigError(f"{path}: damaged, or no safetensors file; {_HOW}") from None
    if metadata.get("twotower_encoder") != VERSION or any(name not in metadata for name in NEEDED):
        raise ConfigError(f"{path}: weights without tokenizer and settings, or of another version; {_HOW}")
    if metadata.pop("sha256", "") != _digest(header, metadata, data):
        raise ConfigError(f"{path}: damaged, its content is not what its checksum says; {_HOW}")
    return Content({name: metadata[name] for name in KEPT if name in metadata}, shapes)


@contextmanager
def unpacked(path: Path) -> Iterator[Path]:
    """Yields an encoder file as a temporary sentence-transformers folder. Raises as `read_encoder_file` does."""
    content = read_encoder_file(path)
    with tempfile.TemporaryDirectory(prefix="twotower-encoder-") as place:
        folder = Path(place)
        for name, text in content.files.items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text(text, encoding="utf-8")
        (folder / "model.safetensors").symlink_to(path.absolute())
        yield folder


_HOW = "write one by: twotower encoder minilm --output FILE.safetensors"


def _half(name: str, value: Tensor) -> Tensor:
    if not value.is_floating_point():
        return value.contiguous()
    half = value.half().contiguous()
    if not bool(half.isfinite().all()):
        raise ConfigError(f"weight {name!r} holds values that half precision cannot: the encoder must stay a folder")
    return half


def _parts(content: bytes) -> tuple[dict[str, Any], bytes]:
    """Header and data of a safetensors file. Raises ValueError where there are none."""
    size = int.from_bytes(content[:8], "little")
    if not 2 <= size <= min(MOST_HEADER, len(content) - 8):
        raise ValueError(size)
    header = json.loads(content[8 : 8 + size])
    if not isinstance(header, dict):
        raise ValueError(header)
    return header, content[8 + size :]


def _digest(header: dict[str, Any], metadata: dict[str, str], data: bytes) -> str:
    """SHA-256 of what the header says, the digest itself aside, and of the weights."""
    said = {**header, "__metadata__": {k: v for k, v in metadata.items() if k != "sha256"}}
    digest = hashlib.sha256(json.dumps(said, sort_keys=True).encode())
    digest.update(data)
    return digest.hexdigest()
