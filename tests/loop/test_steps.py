"""Steps are done once for the same inputs, and a process that dies at any moment leaves nothing half done."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from loop.steps import BEGINS, DONE, ENDS, KEPT, SCRATCH, Done, Given, Step, Steps
from twotower.errors import ConfigError, DataError

Log = list[tuple[str, str]]


def writes(name: str, text: str, *needs: str, log: list[str] | None = None, **facts: Any) -> Step:
    def work(given: Given) -> dict[str, Any]:
        if log is not None:
            log.append(name)
        read = [one.folder.joinpath("out.txt").read_text() for one in given.before.values()]
        given.folder.joinpath("out.txt").write_text("".join([*read, text]))
        return {"characters": sum(map(len, read)) + len(text)}

    return Step(name, work, needs, {"text": text, **facts})


def test_what_is_done_is_not_done_again(tmp_path: Path) -> None:
    seen: Log = []
    steps = [writes("a", "one"), writes("b", "two", "a"), writes("c", "three", "a", "b")]
    first = Steps(tmp_path, steps, lambda *moment: seen.append(moment)).run()
    assert first["c"].folder.joinpath("out.txt").read_text() == "oneonetwothree"
    assert first["c"].said == {"characters": 14}
    assert seen == [(name, moment) for name in "abc" for moment in (BEGINS, ENDS)]
    seen.clear()
    again = Steps(tmp_path, steps, lambda *moment: seen.append(moment)).run()
    assert seen == [(name, KEPT) for name in "abc"]
    assert [one.again for one in again.values()] == [True] * 3
    assert {name: one.digest for name, one in again.items()} == {name: one.digest for name, one in first.items()}


def test_only_what_changed_is_done_and_what_follows_from_it(tmp_path: Path) -> None:
    log: list[str] = []
    Steps(tmp_path, [writes("a", "x", log=log), writes("b", "y", "a", log=log), writes("c", "z", log=log)]).run()
    log.clear()
    Steps(tmp_path, [writes("a", "new", log=log), writes("b", "y", "a", log=log), writes("c", "z", log=log)]).run()
    assert log == ["a", "b"]
    log.clear()  # a step that comes to the same result spares those that follow
    same = writes("a", "new", log=log, option=2)
    Steps(tmp_path, [same, writes("b", "y", "a", log=log), writes("c", "z", log=log)]).run()
    assert log == ["a"]


def test_what_a_step_raises_leaves_the_steps_before_it(tmp_path: Path) -> None:
    log: list[str] = []

    def fails(given: Given) -> dict[str, Any]:
        given.folder.joinpath("half.txt").write_text("half")
        given.scratch.joinpath("state.txt").write_text("state")
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        Steps(tmp_path, [writes("a", "x", log=log), Step("b", fails, ("a",))]).run()
    assert [path.name[:2] for path in tmp_path.iterdir() if path.name != SCRATCH] == ["a-"]
    [kept] = tmp_path.joinpath(SCRATCH).iterdir()
    assert kept.joinpath("state.txt").read_text() == "state"  # for the next try to go on from

    def works(given: Given) -> dict[str, Any]:
        return {"had": given.scratch.joinpath("state.txt").read_text()}

    done = Steps(tmp_path, [writes("a", "x", log=log), Step("b", works, ("a",))]).run()
    assert done["b"].said == {"had": "state"}
    assert log == ["a"]
    assert list(tmp_path.joinpath(SCRATCH).iterdir()) == []


def test_a_step_may_be_left_out_with_all_that_need_it(tmp_path: Path) -> None:
    def unless_long(before: dict[str, Done]) -> str | None:
        return "too short" if before["a"].said["characters"] < 3 else None

    steps: Callable[[str], list[Step]] = lambda text: [  # noqa: E731
        writes("a", text), Step("b", writes("b", "").work, ("a",), skip=unless_long), writes("c", "!", "b"),
    ]  # fmt: skip
    done = Steps(tmp_path, steps("x")).run()
    assert [one.skipped for one in done.values()] == [None, "too short", "b was left out"]
    assert Steps(tmp_path, steps("long")).run()["c"].folder.joinpath("out.txt").read_text() == "long!"


def test_what_cannot_be_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="two are called 'a'"):
        Steps(tmp_path, [writes("a", "x"), writes("a", "y")])
    with pytest.raises(ConfigError, match="'b': needs 'a', which does not come before it"):
        Steps(tmp_path, [writes("b", "x", "a"), writes("a", "y")])
    done = Steps(tmp_path, [writes("a", "x")]).run()
    (done["a"].folder / DONE).write_text("{}")
    with pytest.raises(DataError, match="not what step 'a' left; remove the folder"):
        Steps(tmp_path, [writes("a", "x")]).run()
    with pytest.raises(ConfigError, match="keep: 0"):
        Steps(tmp_path, []).prune(0)


def test_old_outputs_are_removed(tmp_path: Path) -> None:
    for text in ("one", "two", "three"):
        steps = Steps(tmp_path, [writes("a", text), writes("b", text)])
        done = steps.run()
        os.utime(done["a"].folder / DONE, ns=(0, len(text)))  # the third is older than the others by its time
    assert len(steps.prune(2)) == 2
    assert len(list(tmp_path.glob("a-*"))) == 2


KILLED = """
import os, signal, sys
from pathlib import Path
from loop.steps import Step, Steps

where, folder = sys.argv[1], Path(sys.argv[2])

def die(moment):
    if moment == where:
        os.kill(os.getpid(), signal.SIGKILL)

def work(name):
    def of(given):
        given.folder.joinpath("first.txt").write_text(name)
        given.scratch.joinpath("seen.txt").open("a").write("x")
        die(f"{name} inside")
        given.folder.joinpath("second.txt").write_text("".join(one.said["name"] for one in given.before.values()))
        return {"name": name}
    return of

names = ["ingest", "train", "register"]
steps = [Step(name, work(name), tuple(names[:i])) for i, name in enumerate(names)]
done = Steps(folder, steps, lambda name, moment: die(f"{name} {moment}")).run()
print(done["register"].digest)
"""
MOMENTS = [f"{name} {moment}" for name in ("ingest", "train", "register") for moment in (BEGINS, "inside", ENDS)]


def killed(where: str, folder: Path) -> subprocess.CompletedProcess[str]:
    root = Path(__file__).parents[2]
    return subprocess.run(
        [sys.executable, "-c", KILLED, where, str(folder)], cwd=root, capture_output=True, text=True, timeout=60
    )


def test_killed_at_any_moment_the_next_run_comes_to_the_same(tmp_path: Path) -> None:
    whole = killed("nowhere", tmp_path / "whole")
    assert whole.returncode == 0, whole.stderr
    for number, where in enumerate(MOMENTS):
        folder = tmp_path / str(number)
        assert killed(where, folder).returncode == -signal.SIGKILL
        for place in folder.glob("[a-z]*-*"):
            assert json.loads((place / DONE).read_text())["said"]["name"] == place.name.split("-")[0]
        again = killed("nowhere", folder)
        assert again.stdout == whole.stdout
        assert not list(folder.glob(".*"))
