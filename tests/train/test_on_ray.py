"""Training on workers of Ray: what as many processes on this machine learn, by the same options."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from tests.forked import ranks
from tests.train.runs import FILES, OPTIONS, digests, work_of
from train import on_ray
from train.cli import ClusterOptions, build_cli, cluster_options
from train.interrupted import SaveOften
from train.on_ray import Watch, refuse_too_much, train_on_ray
from train.ray_board import Asked, Board
from twotower.cli import main
from twotower.errors import ClusterError, ConfigError, DataError, Interrupted, OutputError

SMALL = ("--trainer.max_epochs=1", "--data.batch_size=50", "--data.memory_batch=50", "--model.solver=gradient")
NODE = "ab" * 28
CONFIG = Path(__file__).parents[2] / "configs" / "ray.yaml"


def test_workers_of_ray_learn_what_processes_of_this_machine_learn(cluster: str, tiny: Path, tmp_path: Path) -> None:
    """Both are DDP over gloo with noise of their own, so batches, noise and the order of sums agree."""
    there, here, options = tmp_path / "ray", tmp_path / "here", (*OPTIONS, *SMALL)
    steps: list[int] = []
    done = train_on_ray(tiny, there, options=options, progress=steps.append)
    words = ["train", "--data", str(tiny), "--output", str(here), *options]
    both = ranks(2, main, [*words, "--trainer.devices=2", "--trainer.strategy=ddp"])
    assert [one.status for one in both] == [0, 0], both[0].err
    assert set(digests(there)) == set(digests(here)) == FILES - {"chain.safetensors"}  # which is of the sampler
    assert [path for path in tmp_path.iterdir() if path not in (there, here)] == []
    one, other = (load_file(folder / "model.safetensors") for folder in (here, there))
    assert one.keys() == other.keys()
    for tensor, values in one.items():
        assert np.allclose(values, other[tensor], rtol=1e-6, atol=1e-6), tensor
    assert max(float(np.abs(values).max()) for tensor, values in one.items() if tensor.endswith("identities")) > 0.01
    facts = [json.loads((folder / "run.json").read_text()) for folder in (here, there)]
    assert facts[1]["metrics"] == pytest.approx(facts[0]["metrics"], abs=1e-6)
    assert done.facts["metrics"] == pytest.approx(facts[1]["metrics"])
    assert not done.resumed
    assert steps == sorted(steps)


def test_the_record_of_a_run_does_not_say_where_it_ran(tmp_path: Path) -> None:
    options = ["--cluster.workers=3", "--cluster.gpus=0.5"]
    assert cluster_options([CONFIG], tmp_path, None, tmp_path, options) == ClusterOptions(3, 8, 0.5, 3)
    told = [build_cli([], tmp_path, None, tmp_path, given).resolved for given in ([], options)]
    assert told[0] == told[1]
    with pytest.raises(ConfigError, match="at least one worker"):
        cluster_options([], tmp_path, None, tmp_path, ["--cluster.workers=0"])


def test_a_cluster_without_room_is_refused_before_anybody_waits() -> None:
    refuse_too_much(ClusterOptions(2, 1, 0), {"CPU": 2.0})
    with pytest.raises(
        ConfigError, match=r"^cluster\.workers 4 with cluster\.cpus 8 each: the cluster has 16; ask for"
    ):
        refuse_too_much(ClusterOptions(4, 8, 0), {"CPU": 16.0})
    with pytest.raises(ConfigError, match=r"cluster\.gpus 1 each: the cluster has 0"):
        refuse_too_much(ClusterOptions(2, 1, 1), {"CPU": 16.0})


class Here:
    """Ray with one actor, in this process."""

    def __init__(self) -> None:
        self.board = Board()
        methods = ("look", "tell", "read")
        self.handle = SimpleNamespace(**{name: SimpleNamespace(remote=getattr(self.board, name)) for name in methods})

    def get_runtime_context(self) -> Any:
        return SimpleNamespace(get_node_id=lambda: NODE)

    def remote(self, **given: Any) -> Any:
        self.given = given
        return lambda kind: SimpleNamespace(remote=lambda: self.handle)

    def get(self, value: Any) -> Any:
        return value

    def kill(self, actor: Any) -> None:
        pass

    def cluster_resources(self) -> dict[str, float]:
        return {"CPU": 8.0}


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> Here:
    """In place of Ray."""
    ray = Here()
    monkeypatch.setattr(on_ray, "ray_of", lambda address: ray)
    return ray


def test_what_a_worker_finds_wrong_is_raised_here(here: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: Any) -> Exception:
        here.board.tell(error=DataError("the log is too small"))
        here.board.tell(error=DataError("said second"))
        return RuntimeError("workers failed")

    monkeypatch.setattr(on_ray, "_fit", failing)
    with pytest.raises(DataError, match=r"^the log is too small$"):
        train_on_ray(tmp_path, tmp_path / "run")


def test_a_try_that_fails_without_a_word_is_tried_again_and_then_one_line(
    here: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is made of a try's end; here no worker dies, and nothing is gone on with."""
    left: list[tuple[Exception | None, dict[str, Any]]] = [
        (RuntimeError("worker 1 is gone"), {}), (None, {"facts": {"seed": 1}, "resumed": True})
    ]  # fmt: skip

    def tried(*_: Any) -> Exception | None:
        failed, told = left.pop(0)
        here.board.tell(**told)
        return failed

    monkeypatch.setattr(on_ray, "_fit", tried)
    done = train_on_ray(tmp_path, tmp_path / "run")
    assert (done.facts, done.resumed, left) == ({"seed": 1}, True, [])
    here.board.tell(facts=None)
    left[:] = [(RuntimeError("worker 0 is gone"), {}), (RuntimeError("worker 1 is gone"), {})]
    with pytest.raises(ClusterError, match=r"^a worker of Ray died \(RuntimeError: worker 1 is gone\)"):
        train_on_ray(tmp_path, tmp_path / "run")


@pytest.mark.parametrize("failed", [None, RuntimeError("cut off while it was taken down")], ids=["well", "cut off"])
def test_an_interrupt_after_the_run_is_finished_takes_nothing_away(
    failed: Exception | None, here: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def finished(*_: Any) -> Exception | None:
        here.board.tell(facts={"seed": 1})
        on_ray._stop(here, here.handle, signal.SIGINT)
        return failed

    monkeypatch.setattr(on_ray, "_fit", finished)
    assert train_on_ray(tmp_path, tmp_path / "run").facts == {"seed": 1}


@pytest.mark.parametrize(
    ("error", "told"),
    [(OSError(28, "No space left on device"), True), (DataError("too small"), True), (ConnectionResetError(), False)],
    ids=["a full disk", "ours", "another worker is gone"],
)
def test_what_a_worker_tells_of_its_error(
    error: Exception, told: bool, here: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray
    import ray.train
    import ray.train.lightning

    def fails(*_: Any) -> None:
        raise error

    monkeypatch.setattr(on_ray, "run_training", fails)
    monkeypatch.setattr(ray, "get", here.get)
    monkeypatch.setattr(ray.train, "get_context", lambda: SimpleNamespace(get_world_rank=lambda: 1))
    for name in ("RayDDPStrategy", "RayLightningEnvironment"):
        monkeypatch.setattr(ray.train.lightning, name, SimpleNamespace)
    with pytest.raises(type(error)):
        on_ray.run_here(here.handle, Asked(tmp_path, tmp_path / "run", None, (), ()))
    assert here.board.error is (error if told else None)


def test_the_board_lies_where_the_run_was_asked_for(here: Here) -> None:
    """A node that goes takes workers with it, which are started again; the board would be gone for good."""
    on_ray._board(here)
    placed = here.given["scheduling_strategy"]
    assert (placed.node_id, placed.soft) == (NODE, False)


@pytest.mark.parametrize("saved", [True, False], ids=["in a step", "between steps"])
def test_an_interrupt_ends_the_run_as_one_here(
    saved: bool, here: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any) -> None:
        on_ray._stop(here, here.handle, signal.SIGINT)
        if saved:
            here.board.tell(
                interrupted=(2, "stopped by SIGINT after step 3 of epoch 0 (from 0), which is saved: again")
            )

    monkeypatch.setattr(on_ray, "_fit", interrupted)
    with pytest.raises(Interrupted) as ended:
        train_on_ray(tmp_path, tmp_path / "run")
    assert ended.value.status == 130
    assert ("step 3" if saved else "before the first checkpoint") in ended.value.message
    with pytest.raises(KeyboardInterrupt):
        on_ray._stop(here, here.handle, signal.SIGINT)


def test_an_interrupt_while_it_is_waited_for_goes_to_the_workers(
    here: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(*_: Any) -> None:
        time.sleep(0.3)  # until it is waited for
        os.kill(os.getpid(), signal.SIGINT)
        until = time.monotonic() + 20
        while not here.board.stop and time.monotonic() < until:
            time.sleep(0.01)
        time.sleep(0.3)  # a step that is finished and saved
        here.board.tell(interrupted=(2, "stopped by SIGINT, which is saved"))

    monkeypatch.setattr(on_ray, "_run", run)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(Interrupted) as ended:
            train_on_ray(tmp_path, tmp_path / "run")
    finally:
        signal.signal(signal.SIGINT, before)
    assert (ended.value.status, ended.value.message) == (130, "stopped by SIGINT, which is saved")


def test_a_signal_reaches_the_first_workers_steps(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(on_ray, "LOOK_SECONDS", 0.01)
    ended: list[int] = []
    monkeypatch.setattr(on_ray.os, "_exit", ended.append)
    watch, saving = Watch(here.handle, here), SaveOften()
    trainer: Any = SimpleNamespace(estimated_stepping_batches=9, global_step=4, callbacks=[saving])
    watch.on_train_start(trainer, None)
    here.board.tell(stop=2)
    until = time.monotonic() + 10
    while not saving.notes.received and time.monotonic() < until:
        time.sleep(0.01)
    assert saving.notes.received == 2
    assert (here.board.done, here.board.total, ended) == (4, 9, [])
    watch.on_train_end(trainer, None)
    while not ended and time.monotonic() < until:
        time.sleep(0.01)
    watch.close()
    assert ended[0] == 130


def test_a_folder_that_exists_and_a_profile_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(OutputError, match="exists already"):
        train_on_ray(tmp_path, tmp_path)
    words = ["train", "--data", str(tmp_path), "--output", str(tmp_path / "run"), "--engine", "ray", "--profile"]
    assert main(words) == 1
    assert "--profile with --engine ray" in capsys.readouterr().err
    assert Asked(tmp_path, tmp_path, None, (), ()).at
    assert work_of(tmp_path / "run").name == ".run.training"
