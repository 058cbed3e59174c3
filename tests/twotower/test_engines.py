"""Engines: the same results in the same order, few tasks at a time, and one line for whatever goes wrong."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import twotower
from twotower import engines
from twotower.engines import AHEAD, Engine, add_options, engine_of, ray_of
from twotower.errors import ClusterError, ConfigError, DataError, MissingExtraError

RAY = Engine("ray")
ENGINES = [Engine(), Engine(processes=2), RAY]


def scaled(by: np.ndarray, number: int) -> tuple[str, np.ndarray, bool]:
    by[0] += 0  # what all tasks share can be written to, wherever it is
    return twotower.__file__, by * number, by.flags.writeable


def refused(number: int) -> int:
    if number == 2:
        raise DataError("contacts.parquet, row 3: no such thing")
    return number


def broken(number: int) -> int:
    return 1 // number


def dies_once(mark: Path, number: int) -> int:
    if number == 1 and not mark.exists():
        mark.touch()
        os._exit(1)
    return number


def dies(number: int) -> int:
    os._exit(1)


def slow(folder: Path, number: int) -> int:
    if number:
        time.sleep(5)
        (folder / str(number)).touch()
    return number


@pytest.mark.parametrize("engine", ENGINES, ids=["here", "processes", "ray"])
def test_results_are_the_same_in_the_same_order(engine: Engine, cluster: str) -> None:
    by = np.linspace(0.1, 7.3, 5)
    found = list(engine.map(partial(scaled, by), range(7)))
    assert [one[0] for one in found] == [twotower.__file__] * 7  # the code of this checkout, and no other
    assert [one[1].tobytes() for one in found] == [(by * number).tobytes() for number in range(7)]
    assert all(one[2] for one in found)


@pytest.mark.parametrize("engine", [ENGINES[0], RAY], ids=["here", "ray"])
def test_items_are_asked_for_as_places_become_free(engine: Engine, cluster: str) -> None:
    asked = 0

    def items() -> Iterator[int]:
        nonlocal asked
        for number in range(1, 40):
            asked += 1
            yield number

    for done, _ in enumerate(engine.map(broken, items())):
        assert asked - done <= 2 * AHEAD + 1


@pytest.mark.parametrize("engine", [ENGINES[0], RAY], ids=["here", "ray"])
def test_what_a_task_raises_is_raised_here(engine: Engine, cluster: str) -> None:
    with pytest.raises(DataError, match=r"^contacts\.parquet, row 3: no such thing$"):
        list(engine.map(refused, range(4)))
    with pytest.raises(ZeroDivisionError):
        list(engine.map(broken, [1, 0]))


def test_a_task_whose_worker_died_is_run_again(cluster: str, tmp_path: Path) -> None:
    assert list(RAY.map(partial(dies_once, tmp_path / "mark"), range(3))) == [0, 1, 2]
    assert (tmp_path / "mark").exists()


def test_workers_that_keep_dying_are_one_line(cluster: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "RETRIES", 1)
    with pytest.raises(
        ClusterError, match=r"^a worker of Ray died \(WorkerCrashedError: .* too often to try again"
    ) as e:
        list(RAY.map(dies, [0]))
    assert "\n" not in str(e.value)


def test_whatever_ends_the_loop_ends_the_tasks(cluster: str, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        for _ in RAY.map(partial(slow, tmp_path), range(3)):
            raise KeyboardInterrupt
    ray, until = ray_of(), time.monotonic() + 4
    while ray.available_resources().get("CPU", 0) < 2 and time.monotonic() < until:
        time.sleep(0.1)
    assert ray.available_resources()["CPU"] == 2
    assert list(tmp_path.iterdir()) == []


def test_options_become_an_engine() -> None:
    parser = argparse.ArgumentParser()
    add_options(parser, "tasks")
    assert engine_of(parser.parse_args([])) == Engine()
    words = ["--engine", "ray", "--processes", "3", "--ray-address", "auto"]
    assert engine_of(parser.parse_args(words)) == Engine("ray", 3, "auto")
    for wrong, said in ((["--processes", "0"], "1 or more"), (["--ray-address", "auto"], "belongs to --engine ray")):
        with pytest.raises(ConfigError, match=said):
            engine_of(parser.parse_args(wrong))
    with pytest.raises(ConfigError, match="there are local and ray"):
        Engine("dask")


def test_without_ray_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'twotower-matcher\[cluster\]', or use --engine local"):
        list(RAY.map(broken, [1]))


@pytest.mark.parametrize(
    ("address", "cause", "said"),
    [
        ("10.0.0.1:6379", OSError("refused"), "--ray-address 10.0.0.1:6379: no cluster of Ray answers there (gone)"),
        ("auto", RuntimeError("InvalidAuthToken"), "--ray-address auto: the cluster asks for its token: set RAY_AUTH"),
        (None, OSError("full"), "Ray cannot be started on this machine: gone"),
    ],
)  # fmt: skip
def test_a_cluster_that_does_not_answer_is_one_line(
    address: str | None, cause: Exception, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def init(**_: Any) -> None:
        raise ConnectionError("gone\nat length") from cause

    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(init=init, is_initialized=lambda: False))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(ConfigError) as refused:
        ray_of(address)
    assert str(refused.value).startswith(said)


def test_the_address_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[dict[str, Any]] = []
    ray = SimpleNamespace(init=lambda **options: given.append(options), is_initialized=lambda: False)
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    ray_of()
    ray_of("other:6379")
    monkeypatch.delenv("RAY_ADDRESS")
    ray_of()
    assert [options["address"] for options in given] == ["head:6379", "other:6379", "local"]


def test_a_process_that_dies_is_one_line() -> None:
    engine = Engine(processes=2)
    with pytest.raises(ClusterError, match=r"^a process of this machine died in the middle of its work; where memory"):
        list(engine.map(dies, range(3)))
    with pytest.raises(ClusterError, match=r"^a process of this machine died"), engine.mapping() as mapped:
        list(mapped(dies, range(3)))
