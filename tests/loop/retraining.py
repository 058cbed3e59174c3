"""A retraining of the fake centre, in whichever process: training and export are those of `tests.serve.fakes`."""

from __future__ import annotations

import importlib
import json
import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import loop.steps
from loop.gate.rules import GateSpec, Margin
from loop.registry.registry import Registry
from loop.retrain.pipeline import Makers, Sources
from loop.retrain.run import Turned, retrain
from loop.retrain.spec import RetrainSpec
from loop.steps import ENDS
from tests.serve import fakes
from twotower.clock import parse_time

NAMES = (
    "ingest",
    "check",
    "drift",
    "train",
    "export",
    "judge",
    "value",
    "waits",
    "host",
    "gate",
    "register",
    "promote",
)
UNTIL = fakes.until_us(30)
IMPORTED = (
    "mlflow.tracking", "export.bundle", "loop.gate.judged", "loop.gate.valued", "loop.gate.waited", "loop.gate.served",
    "evaluation.ope.run", "evaluation.simulate.replay_bundle", "twotower.tables.check",
)  # fmt: skip
WIDE = Margin(margin=10.0, missing="passes")
LENIENT = GateSpec(
    ranking=WIDE, outcomes=WIDE, calibration=WIDE, bands=None, value=WIDE, latency=None, size=None,
    waits=WIDE.model_copy(update={"margin": 1e6}),
)  # fmt: skip
SPEC = RetrainSpec(window_days=10, gate=LENIENT)


def train(tables: Path, output: Path, until: str, spec: RetrainSpec, more: Sequence[str]) -> None:
    """Another seed is another set of features, so another bundle."""
    families = fakes.ALL if spec.seed else fakes.DEFAULT
    fakes.write_run(tables, output, parse_time(until, "until"), families=families)


MAKERS = Makers(train, fakes.fake_bundle)


def turn(folder: Path, seed: int = 0, spec: RetrainSpec = SPEC, watch: Any = None, wait_s: float = 0.0) -> Turned:
    """One turn by the tables `data`, the registry `registry` and the outputs `work` in a folder."""
    sources = Sources(folder / "data", None, Registry(folder / "registry"), UNTIL)
    seeded = spec.model_copy(update={"seed": seed})
    return retrain(sources, seeded, folder / "work", wait_s, MAKERS, watch)


def killed_everywhere(folder: str) -> int:
    """In a process of its own, which imports everything once: turns that are killed when a step has all but returned
    (`inside`) and then when it is done (`ends`), step by step. Prints how each ended."""
    for module in IMPORTED:
        importlib.import_module(module)
    told = {}
    for step in NAMES:
        for where in ("inside", "ends"):
            child = os.fork()
            if child == 0:
                os._exit(_killed(Path(folder), step, where))
            told[f"{step} {where}"] = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    print(json.dumps(told))
    return 0


def _killed(folder: Path, step: str, where: str) -> int:
    registry = Registry(folder / "registry")
    for one in registry.versions():  # nobody is registered whose bundle is not whole
        if registry.open(one.number, folder / "cache").manifest.id != one.digest:
            return 3

    def die(name: str, moment: str) -> None:
        if where == "ends" and (name, moment) == (step, ENDS):
            os.kill(os.getpid(), signal.SIGKILL)

    if where == "inside":
        whole = loop.steps._digest

        def last(place: Path, said: Any) -> str:
            if place.name.startswith(f".{step}-"):
                os.kill(os.getpid(), signal.SIGKILL)
            return whole(place, said)

        loop.steps._digest = last
    turn(folder, 1, watch=die)
    return 0
