"""The whole loop on a generated centre: generate, check, train, export, match, evaluate, simulate,
an experiment designed, run and read out, and a retraining.

Notable: nothing here is the demo's own but the order. Every stage is the function behind its verb, with the defaults of
the verb, so what the demo shows is what the command line does. Everything follows from the size and the seed; only the
seconds differ from run to run, and they are kept out of the folder. Nothing is fetched from a network.
"""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loop.examples import Example, examples
from loop.place import owned_directory
from loop.stages import Stages
from twotower.errors import DataError

if TYPE_CHECKING:
    from evaluation.generate.centre import Summary
    from evaluation.ranking_run import Evaluation
    from evaluation.simulate.replicate import Comparison
    from loop.experiment import Tried
    from loop.retrain.run import Turned

MARKER = "demo.json"
CENTRE, RUN, BUNDLE, REPORT, SIMULATION = "centre", "run", "bundle", "report", "simulation"
EXPERIMENT = "experiment"
PEER_RUN, PEER = "peer-run", "in-batch-softmax"  # the folder's name is what the tables call it
LOAD, REPLICATIONS = 0.25, 4  # of a centre with nights: more, and who comes then waits for the morning
PATIENCE = 30.0  # minutes, a mean: in a generated log only who finds nobody for them gives up
PRICES = 0.5  # of the fluid model's: the whole of them holds people back too long in so small a centre
PEER_OPTIONS = (
    "--data.objective=in_batch", "--data.memory=off", "--data.batch_size=256", "--early_stopping.patience=5",
)  # fmt: skip


@dataclass(frozen=True)
class Demo:
    """What the demo made."""

    folder: Path
    """Holds the centre, both runs, both bundles and the reports."""
    centre: Summary
    until: str
    """Arrival of the first test contact; training saw nothing that was known later."""
    facts: dict[str, Any]
    """Of the training run."""
    bundle_id: str
    evaluation: Evaluation
    simulation: Comparison
    experiment: Tried
    turned: Turned
    examples: list[Example]
    stages: Stages = field(compare=False)


def run_demo(
    output: str | Path,
    contacts: int = 12_000,
    csas: int = 80,
    seed: int = 0,
    configs: Sequence[Path] = (),
    options: Sequence[str] = (),
) -> Demo:
    """Runs the loop and writes everything it made into the folder `output`.

    Args:
        output: must not exist, or be a folder that an earlier demo made, which is replaced.
        contacts, csas: size of the generated centre.
        seed: of the centre and of the training.
        configs, options: of both training runs, as in `twotower train`.

    Raises:
        TwoTowerError: a size is too small to train on, or `output` is somebody else's or cannot be written.
    """
    stages = Stages()
    seeded = [f"--seed_everything={seed}", *options]
    with owned_directory(output, MARKER) as folder:
        centre, until = make_centre(stages, folder, contacts, csas, seed)
        facts = train(stages, folder, until, configs, seeded)
        bundle_id = export(stages, folder)
        shown = match(stages, folder)
        found = judge(stages, folder)
        played = simulate(stages, folder, until, seed)
        tried = experiment(stages, folder, until, seed)
        turned = turn(stages, folder, until, seed, configs, options)
        said = {"contacts": contacts, "csas": csas, "seed": seed, "until": until, "bundle": bundle_id}
        (folder / MARKER).write_text(json.dumps(said, indent=1) + "\n", encoding="utf-8")
    return Demo(Path(output), centre, until, facts, bundle_id, found, played, tried, turned, shown, stages)


def make_centre(stages: Stages, folder: Path, contacts: int, csas: int, seed: int) -> tuple[Summary, str]:
    """Generates and checks the centre; returns what is in it and when the test begins."""
    with stages.stage("generate"):
        from evaluation.generate.centre import generate
        from evaluation.generate.settings import Settings

        made = generate(Settings(contacts=contacts, csas=csas, seed=seed), folder / CENTRE)
    with stages.stage("check"):
        from evaluation.ranking import split_log
        from twotower.clock import format_time
        from twotower.tables.check import check
        from twotower.tables.log import Log

        findings, _ = check(folder / CENTRE)
        if len(findings):
            raise DataError(f"the generated centre breaks the contract: {findings.text().splitlines()[0]}")
        log = Log.load(folder / CENTRE)
        begins = int(log.contacts.arrived_at[split_log(log).start])
    return made, format_time(begins)


def train(stages: Stages, folder: Path, until: str, configs: Sequence[Path], options: Sequence[str]) -> dict[str, Any]:
    """Trains the model on what was known before the test, and the naive peer; returns the model's facts."""
    with stages.stage("train"):
        from train.run import run_training

        with quiet():
            done = run_training(folder / CENTRE, folder / RUN, until, configs, options)
    with stages.stage("train the naive peer"), quiet():
        run_training(folder / CENTRE, folder / PEER_RUN, until, configs, [*options, *PEER_OPTIONS])
    return {} if done is None else done.facts


def export(stages: Stages, folder: Path) -> str:
    """Exports both runs; returns the bundle's id."""
    with stages.stage("export"):
        from export.bundle import export_bundle

        manifest = export_bundle(folder / RUN, folder / BUNDLE)
        export_bundle(folder / PEER_RUN, folder / PEER)
    return manifest.id


def match(stages: Stages, folder: Path) -> list[Example]:
    """Candidates of a few test contacts, as the router would have them."""
    with stages.stage("match"):
        return examples(folder / BUNDLE, folder / CENTRE)


def judge(stages: Stages, folder: Path) -> Evaluation:
    """Evaluates the bundle beside the peer and the baselines, and writes the report."""
    with stages.stage("evaluate"):
        from evaluation.ranking_run import evaluate
        from evaluation.report_html import write_report

        found = evaluate(folder / BUNDLE, folder / CENTRE, peers=[folder / PEER])
        write_report(found, folder / REPORT)
    return found


def simulate(stages: Stages, folder: Path, until: str, seed: int) -> Comparison:
    """A day of the test at a load at which people wait, under the queue's order, the bundle and the oracle."""
    with stages.stage("simulate"):
        from evaluation.simulate.replicate import compare
        from evaluation.simulate.report import write_report
        from evaluation.simulate.scenario import ScenarioSpec, scenario_of
        from twotower.clock import DAY, format_time, parse_time

        begin = -(-parse_time(until, "until") // DAY) * DAY
        window = {"tables": str(folder / CENTRE), "from": format_time(begin), "to": format_time(begin + DAY)}
        asked = {
            "policy": "sets",
            "name": "sets, by the bundle",
            "bundle": str(folder / BUNDLE),
            "prices": PRICES,
            "fill": True,
        }
        spec = ScenarioSpec.model_validate(
            {
                "name": "a day of the test",
                "centre": {**window, "outcomes": "truth", "load": LOAD, "patience": {"mean_minutes": PATIENCE},
                           "interval_minutes": 120, "seed": seed},
                "policies": ["fifo", asked, {"policy": "oracle", "prices": PRICES, "fill": True}],
                "replications": REPLICATIONS,
                "seed": seed,
            }
        )  # fmt: skip
        scenario = scenario_of(spec)
        found = compare(scenario.trial, scenario.replications)
        write_report(scenario.name, scenario.trial, found, folder / SIMULATION)
    return found


def experiment(stages: Stages, folder: Path, until: str, seed: int) -> Tried:
    """The bundle against the queue, on the test's own days, as a planned experiment would see it."""
    from loop.experiment import try_experiment

    return try_experiment(
        stages, folder / CENTRE, folder / BUNDLE, folder / EXPERIMENT, until, seed, LOAD, PATIENCE
    )  # fmt: skip


def turn(
    stages: Stages, folder: Path, until: str, seed: int, configs: Sequence[Path], options: Sequence[str]
) -> Turned:
    """The bundle as champion, and a challenger that goes on from its run, on what the test's days told."""
    with stages.stage("retrain"):
        from loop.turn import turn_the_wheel

        with quiet():
            return turn_the_wheel(folder, until, seed, configs, options)


@contextmanager
def quiet() -> Iterator[None]:
    """Silences Lightning's remarks about devices and loggers; enter after its import, which sets the levels anew."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="lightning")
        for logger in loggers:
            logger.setLevel(logging.WARNING)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
