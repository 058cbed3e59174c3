"""One turn of the wheel: who was served, what was made, what the gate said, who is served now.

Notable: one retraining at a time works in a folder; another waits or says so. The report is written whatever happens,
so that a scheduler's failure has a page.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from loop.registry.registry import CHALLENGER, CHAMPION, locked
from loop.retrain.page import html_report
from loop.retrain.pipeline import REAL, RUNS, Makers, Sources, champion_of, how_trained, steps_of
from loop.retrain.runs import Kept, Runs, way_of
from loop.retrain.spec import RetrainSpec
from loop.steps import Done, Steps, Watch
from twotower.bundle.bundle import Bundle
from twotower.clock import format_time
from twotower.files import atomic_write

LOCK, REPORT, JSON = "retrain.lock", "report.html", "report.json"
Outcome = Literal["promoted", "kept out", "nothing new", "failed"]


@dataclass(frozen=True)
class Turned:
    """What came of it."""

    outcome: Outcome
    steps: Mapping[str, Done]
    champion: str | None
    """Digest of the bundle that was served before."""
    until: str
    error: str | None = None

    @property
    def lines(self) -> list[str]:
        """What the gate said, one a rule."""
        gate = self.steps.get("gate")
        return [] if gate is None or gate.skipped else [str(line) for line in gate.said["lines"]]

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        steps = {
            name: {"seconds": done.seconds, "again": done.again, "left_out": done.skipped, "said": dict(done.said)}
            for name, done in self.steps.items()
        }
        return {
            "outcome": self.outcome, "until": self.until, "champion": self.champion, "error": self.error,
            "gate": self.lines, "steps": steps,
        }  # fmt: skip


def retrain(
    sources: Sources, spec: RetrainSpec, work: Path, wait_s: float = 0.0, makers: Makers = REAL,
    watch: Watch | None = None,
) -> Turned:  # fmt: skip
    """Run what is left of the steps in the folder `work`, and write report.html and report.json there.

    wait_s: for another retraining in the same folder. Raises Busy where there still is one, and what a step raises.
    """
    work.mkdir(parents=True, exist_ok=True)
    with locked(work / LOCK, wait_s, f"{work}: another retraining works here"):
        before: str | None = None
        seen: dict[str, Done] = {}
        try:
            champion = champion_of(sources.registry, work / "champions")
            before = None if champion is None else champion.version.digest
            steps = Steps(work, steps_of(sources, spec, champion, work, makers), watch)
            steps.run(seen)
            found = Turned(_outcome(seen, before, sources, spec), seen, before, format_time(sources.until))
        except Exception as error:  # whatever it was, nobody may read yesterday's report for today's
            said = str(error) or type(error).__name__
            _write(Turned("failed", seen, before, format_time(sources.until), said), work)
            raise
        _write(found, work)
        steps.prune(spec.keep)
        served = (sources.registry.alias(name) for name in (CHAMPION, CHALLENGER))
        Runs(work / RUNS).prune(one.digest for one in served if one is not None)
    return found


def adopt(work: Path, spec: RetrainSpec, run: Path, bundle: Path, until: int) -> None:
    """Let turns in the folder `work` go on from a run that was not trained there, if its bundle is the champion.

    until: µs UTC, what the run knew; it must have been trained as `spec` says. Raises BundleError, ConfigError.
    """
    digest = Bundle.open(bundle).manifest.id
    Runs(work / RUNS).keep(run, Kept(digest, until, None, way_of(how_trained(spec))))


def _outcome(steps: Mapping[str, Done], champion: str | None, sources: Sources, spec: RetrainSpec) -> Outcome:
    """A turn that was done before promotes nobody again: who has been taken back since stays so."""
    if steps["export"].said["bundle"] == champion:
        return "nothing new"
    if steps["promote"].skipped is not None:
        return "kept out"
    now = sources.registry.alias(spec.alias)
    there = now is not None and now.digest == steps["export"].said["bundle"]
    return "promoted" if there else "nothing new"


def _write(found: Turned, work: Path) -> None:
    with suppress(OSError):  # the decision stands, whether it can be written down or not
        atomic_write(work / JSON, json.dumps(found.as_json(), indent=1, default=str) + "\n")
        atomic_write(work / REPORT, html_report(found))
