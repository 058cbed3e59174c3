"""Checkpoints come back bit for bit, are whole or refused, and survive a full disk."""

from __future__ import annotations

import errno
import json
import random
import resource
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from tests.train.runs import digests, short, work_of
from train import checkpoints
from train import run as train_run
from train.checkpoints import read, write
from train.posterior import Design, PosteriorSampler
from twotower.errors import ConfigError, OutputError

NUMBERS: dict[str, Any] = {
    "int keys": {0: {"step": torch.tensor(3.0)}, 1: None, -7: True},
    "mixed keys": {("a", 1.5): 1, None: 2, True: 3, "!": 4},
    "tag as a key": {"!": "tensor", "of": "nothing"},
    "nesting": [1, (2, [3.5, ("x",)]), [], (), {}],
    "floats": [0.1, -0.0, 5e-324, float("inf"), -float("inf"), float("nan")],
    "large": 2**200,
    "text": 'ü "quoted"\n\x00',
    "scalars": [np.float32(0.1), np.float64("nan"), np.int64(2**62), np.bool_(True), np.str_("ab")],
    "time": np.datetime64("2026-01-01T00:00:00", "us"),
    "array": np.arange(12, dtype=">i4").reshape(3, 4)[:, ::2],
    "zero-dimensional": np.array(3.5),
    "texts": np.array(["ab", "c"]),
    "torch": [torch.Size([2, 3]), torch.float16, torch.device("cuda:1"), torch.device("cpu")],
    "tensors": [torch.zeros(0, 3), torch.tensor(True), torch.tensor([1 + 2j]), torch.tensor([float("nan"), -0.0])],
    "narrow": [torch.arange(5.0).bfloat16(), torch.arange(5.0).half(), torch.arange(5.0).to(torch.float8_e4m3fn)],
    "turned": torch.arange(12.0).reshape(3, 4).t(),
    "parameter": nn.Parameter(torch.ones(2)),
}


def same(a: Any, b: Any) -> bool:
    """Whether two values are of one type and bit for bit one value; a parameter comes back as its tensor."""
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        bits = [value.detach().contiguous().reshape(-1).view(torch.uint8) for value in (a, b)]
        return a.dtype == b.dtype and a.shape == b.shape and torch.equal(*bits)
    if type(a) is not type(b):
        return False
    if isinstance(a, np.ndarray | np.generic):
        return a.dtype == b.dtype and np.shape(a) == np.shape(b) and a.tobytes() == b.tobytes()
    if isinstance(a, dict):
        return list(map(repr, a)) == list(map(repr, b)) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return repr(a) == repr(b)


def back(value: Any, folder: Path) -> Any:
    """A value through a file."""
    write({"value": value}, folder / "one.ckpt")
    return read(folder / "one.ckpt")["value"]


@pytest.mark.parametrize("name", NUMBERS)
def test_what_lightning_may_hold_comes_back_bit_for_bit(tmp_path, name):
    assert same(NUMBERS[name], back(NUMBERS[name], tmp_path))


def test_generators_go_on_where_they_were(tmp_path):
    own, numpy_, python = np.random.default_rng(5), np.random.RandomState(5), random.Random(5)
    torch_ = torch.Generator().manual_seed(5)
    states = (torch_.get_state(), own.bit_generator.state, numpy_.get_state(), python.getstate())
    expected = (torch.rand(3, generator=torch_), own.random(3), numpy_.random_sample(3), python.random())
    loaded = back(states, tmp_path)
    torch_.set_state(loaded[0])
    own.bit_generator.state = loaded[1]
    numpy_.set_state(loaded[2])
    python.setstate(loaded[3])
    assert same(expected, (torch.rand(3, generator=torch_), own.random(3), numpy_.random_sample(3), python.random()))


def test_a_modules_state_keeps_its_versions_and_tied_tensors_their_values(tmp_path):
    module = nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 3), nn.Linear(3, 3))
    module[2].weight = module[1].weight
    state, whole = module.state_dict(), torch.arange(6.0)
    loaded, views = back((state, [whole[:3], whole[2:], whole, whole]), tmp_path)
    assert type(loaded) is OrderedDict
    assert loaded._metadata == state._metadata  # type: ignore[attr-defined]
    assert same(dict(state), dict(loaded))
    assert same([whole[:3], whole[2:], whole, whole], views)
    assert views[2] is views[3]


def test_a_chain_goes_on_from_its_state(tmp_path):
    """As many draws as it took, in one go and over a file in the middle."""
    rng = torch.Generator().manual_seed(0)
    csa = torch.arange(60) % 4
    design = Design(
        torch.randn(60, 3, generator=rng), torch.ones(60, 1), torch.ones(60, 1),
        (torch.rand(60, generator=rng) < 0.5).float(), csa.sort().values, torch.randn(4, 2, generator=rng),
        torch.zeros(2, dtype=torch.int64), torch.ones(60),
    )  # fmt: skip
    one, other = (PosteriorSampler(design, rank=2, sweeps=12, seed=1) for _ in range(2))
    for _ in range(6):
        one.sweep()
    other.load_state_dict(back(one.state_dict(), tmp_path))
    for _ in range(6):
        one.sweep()
        other.sweep()
    assert one.sweeps == 12
    assert same(dict(one.state_dict()), dict(other.state_dict()))


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (object(), "builtins.object"),
        ({1, 2}, "builtins.set"),
        (print, "builtin_function_or_method"),
        (Path("x"), "pathlib"),
        (np.array([None]), "numpy.ndarray"),
        (torch.eye(2).to_sparse(), "torch.sparse"),
    ],
)
def test_what_has_no_place_in_a_file_is_named(tmp_path, value, kind):
    with pytest.raises(ConfigError) as refused:
        write({"callbacks": {"mine": [0, {"kept": value}]}}, tmp_path / "one.ckpt")
    assert "callbacks/mine/1/kept" in str(refused.value)
    assert kind in str(refused.value)
    assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_is_tensors_by_name_and_json(tmp_path):
    """Read without this project, and nothing in it is run."""
    write({"state_dict": {"a.weight": torch.ones(2)}, "epoch": 3}, tmp_path / "one.ckpt")
    content = (tmp_path / "one.ckpt").read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    assert header["state_dict/a.weight"] == {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
    assert json.loads(header["__metadata__"]["tree"])["epoch"] == 3


def damaged(kind: str, content: bytes) -> bytes:
    middle = len(content) - 5
    return {
        "cut": content[:middle],
        "cut in the header": content[:100],
        "empty": b"",
        "one bit of a tensor": content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :],
        "one bit of a number": content.replace(b"step", b"steq", 1),
        "of another program": content.replace(b"twotower checkpoint 1", b"twotower checkpoint 9", 1),
    }[kind]


@pytest.mark.parametrize(
    "kind", ["cut", "cut in the header", "empty", "one bit of a tensor", "one bit of a number", "of another program"]
)
def test_a_damaged_file_is_refused_in_a_line(tmp_path, kind):
    path = tmp_path / "one.ckpt"
    write({"weights": torch.ones(100), "step": 7}, path)
    path.write_bytes(damaged(kind, path.read_bytes()))
    with pytest.raises(ConfigError) as refused:
        read(path)
    assert str(refused.value).startswith(f"{path}: ")
    assert "remove it and repeat the command" in str(refused.value)


def test_a_pickle_is_refused(tmp_path):
    torch.save({"weights": torch.ones(3)}, tmp_path / "one.ckpt")
    with pytest.raises(ConfigError, match="no whole checkpoint"):
        read(tmp_path / "one.ckpt")


@contextmanager
def refused() -> Iterator[None]:
    """The kernel writes no file of more than 1,000 bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def fill(patch: pytest.MonkeyPatch, after: int) -> None:
    """Checkpoints that come after so many cannot be written whole."""
    whole, left = checkpoints.save_file, iter(range(10**6))

    def save_file(*given: Any) -> None:
        with refused() if next(left) >= after else nullcontext():
            whole(*given)

    patch.setattr(checkpoints, "save_file", save_file)


def test_a_full_disk_leaves_the_checkpoint_before(tmp_path, monkeypatch):
    path = tmp_path / "last.ckpt"
    write({"epoch": 1}, path)
    before = path.read_bytes()
    fill(monkeypatch, 0)
    with pytest.raises(OutputError, match=r"last\.ckpt: the disk is full: .* needs 4,\d{3} bytes, [\d,]+ are free"):
        write({"epoch": torch.zeros(1000)}, path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["last.ckpt"]


def test_another_failure_of_the_disk_is_no_full_disk(tmp_path, monkeypatch):
    def save_file(*_: Any) -> None:
        raise SafetensorError("Error while serializing: I/O error: Input/output error (os error 5)")

    monkeypatch.setattr(checkpoints, "save_file", save_file)
    with pytest.raises(OSError, match=r"Input/output error: .*last\.ckpt") as failed:
        write({"epoch": 1}, tmp_path / "last.ckpt")
    assert failed.value.errno == errno.EIO
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_filled_the_disk_is_continued_when_there_is_room(tiny, tmp_path, monkeypatch, capsys):
    run, saving = tmp_path / "run", ("--saving.steps=2", "--model.solver=gradient")
    assert short(tiny, tmp_path / "whole", *saving) == 0
    with monkeypatch.context() as patch:
        fill(patch, 2)
        capsys.readouterr()
        assert short(tiny, run, *saving) == 1
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith("twotower train: ")
    assert "last.ckpt: the disk is full" in line
    assert "repeat the command, which continues there" in line
    assert not run.exists()
    assert sorted(p.name for p in work_of(run).iterdir()) == ["fingerprint", "last.ckpt"]
    assert read(work_of(run) / "last.ckpt")["global_step"] == 4
    assert short(tiny, run, *saving) == 0
    assert digests(run) == digests(tmp_path / "whole")


@pytest.mark.parametrize("part", ["save", "write_arrays"])
def test_a_run_that_cannot_be_written_is_a_line_and_its_checkpoint_stays(tiny, tmp_path, monkeypatch, capsys, part):
    """Weights are written by Rust, which has errors of its own, arrays by numpy, which names no file."""
    run, whole = tmp_path / "run", getattr(train_run, part)

    def written(*given: Any) -> None:
        with refused():
            whole(*given)

    with monkeypatch.context() as patch:
        patch.setattr(train_run, part, written)
        assert short(tiny, run, "--trainer.max_epochs=1") == 1
    assert capsys.readouterr().err.strip().splitlines()[-1] == f"twotower train: {run}: File too large"
    assert not run.exists()
    assert (work_of(run) / "last.ckpt").is_file()


def test_a_damaged_checkpoint_of_a_run_is_a_line(tiny, tmp_path, capsys):
    work_of(tmp_path / "run").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("train.run.fingerprint", lambda *_: "mark")
        (work_of(tmp_path / "run") / "fingerprint").write_text("mark")
        (work_of(tmp_path / "run") / "last.ckpt").write_bytes(b"half of something")
        assert short(tiny, tmp_path / "run") == 1
    assert "last.ckpt: no whole checkpoint" in capsys.readouterr().err.strip().splitlines()[-1]
