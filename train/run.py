"""A training run from tables to a folder that appears whole or not at all, and resumes where it was interrupted.

Notable: checkpoints live in a hidden folder beside the output, marked with a fingerprint of data and configuration; the
same command continues there, another one is refused in a line. The finished folder holds all that export needs and no
checkpoint.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from lightning.pytorch.callbacks import Callback

from train.align import align_memory
from train.checkpoints import read
from train.cli import MatcherCLI, build_cli
from train.data import MatcherData
from train.distil import learnt
from train.interrupted import LAST, SaveOften, fit, stoppable, work_of
from train.join import JoinOptions, fit_join, history_rows
from train.leavers import released
from train.medoids import summarised
from train.outcomes import Pairs, measure_outcomes, measured_by, write_outcomes
from train.prepare import TrainingSet
from train.stopping import StopEarly
from train.validate import outcome_metrics
from twotower.clock import NEVER, format_time
from twotower.errors import ConfigError, OutputError
from twotower.features.engine.store import save_csas
from twotower.files import atomic_directory, atomic_write, sha256_file, system_errors
from twotower.redaction.redactor import Redactor
from twotower.scoring.join import Join
from twotower.scoring.memory import Memory
from twotower.scoring.rows import HistoryRows
from twotower.tables.log import Log
from twotower.text.tokens import compose_text
from twotower.towers.store import save

Longs = npt.NDArray[np.int64]
MEMORY_EPOCHS, PROFILE_EPOCHS, SAMPLED_EPOCHS, STARTED_EPOCHS = 6, 40, 16, 2
PROBE = 512  # late hand-overs kept for parity and recall checks at export
MOST_CHARACTERS = 4096  # of a text that is kept; more than its tokens hold


@dataclass(frozen=True)
class Finished:
    """What a run came to: `folder`, `facts` (run.json) and whether it `resumed` an interrupted one."""

    folder: Path
    facts: dict[str, Any]
    resumed: bool


@stoppable
def run_training(
    folder: Path,
    output: Path,
    until: str | None = None,
    configs: Sequence[Path] = (),
    options: Sequence[str] = (),
    callbacks: Sequence[Callback] = (),
    placed: Mapping[str, Any] | None = None,
) -> Finished | None:
    """Train on the tables of `folder` and write the run to `output`, which must not exist.

    configs: YAML as in `configs/`, later ones win, and `options` over them.
    callbacks: of Lightning's, that look on (`train.profile`); they must not change what is trained. placed: arguments
    of the trainer by which a launcher places its processes (`train.on_ray`); the run does not tell of them.
    Returns None on the processes of a distributed run that do not write. Raises DataError, ConfigError, OutputError,
    TrainingError; Interrupted, where a signal ended it.
    """
    if output.exists():
        raise OutputError(f"{output}: exists already; choose another --output or remove it")
    work = work_of(output)
    cli = build_cli(configs, folder, until, work, options, placed)
    cli.trainer.callbacks[:0] = callbacks  # type: ignore[attr-defined]  # checkpoints come last
    cli.datamodule.setup("fit")
    if cli.config["trainer.max_epochs"] is None:
        cli.trainer.fit_loop.max_epochs = epochs_for(cli)
    last = claim(work, fingerprint(cli, folder)) if cli.trainer.is_global_zero else work / LAST
    resumed = last.is_file()
    if not fit(cli.trainer, cli.model, cli.datamodule, last if resumed else None):
        return None
    settle(cli)
    facts = write_run(cli, output)
    shutil.rmtree(work)
    return Finished(output, facts, resumed)


def epochs_for(cli: MatcherCLI) -> int:
    """Epochs of a run that names none: a trained memory overfits early, a profile only gets better.

    A sampled one goes a few sweeps an epoch and has found its mean, to the third digit, when these are over; one that
    goes on from another stands there from the first.
    """
    if cli.datamodule.with_memory:
        return MEMORY_EPOCHS
    if not cli.model.samples(cli.datamodule):
        return PROFILE_EPOCHS
    return SAMPLED_EPOCHS if cli.datamodule.start is None else STARTED_EPOCHS


def fingerprint(cli: MatcherCLI, folder: Path) -> str:
    """Digest of this program's version, the resolved configuration and the tables' bytes."""
    digest = hashlib.sha256(f"{version('twotower-matcher')}\n{cli.resolved}".encode())
    for path in sorted(folder.glob("*.parquet")):
        digest.update(f"{path.name} {sha256_file(path)}".encode())
    return digest.hexdigest()


def claim(work: Path, mark: str) -> Path:
    """Open the work folder for the run marked so; returns where its last checkpoint is, if there is one.

    Raises ConfigError where an unfinished run of other data, options or version stands there, or one that is not
    marked.
    """
    marker = work / "fingerprint"
    if (work / LAST).is_file() and not (marker.is_file() and marker.read_text() == mark):
        raise ConfigError(
            f"{work}: an unfinished run on other data or options is there, or of another version: "
            "repeat its command to finish it, or remove it"
        )
    work.mkdir(parents=True, exist_ok=True)
    for left in work.glob(".*.partial-*"):  # of a process that was killed while it wrote
        left.unlink()
    atomic_write(marker, mark)
    return work / LAST


def settle(cli: MatcherCLI) -> None:
    """Put the weights that are kept into the module: the best epoch's, or those at the end (see `train.stopping`)."""
    stopping = next(c for c in cli.trainer.callbacks if isinstance(c, StopEarly))  # type: ignore[attr-defined]
    named = (c for c in cli.trainer.checkpoint_callbacks if getattr(c, "monitor", None) is not None)
    watching = next(named, None)  # None: whoever watches no metric keeps the end
    if stopping.keeps_best(cli.datamodule.with_memory) and watching is not None:
        best = watching.best_model_path  # type: ignore[attr-defined]
        cli.model.load_state_dict(read(Path(best))["state_dict"])
    cli.model.to("cpu").eval()
    cli.model.write_sampled()


def write_run(cli: MatcherCLI, output: Path) -> dict[str, Any]:
    """Fit the join, measure, and write the run's folder."""
    module, data_module = cli.model, cli.datamodule
    data, options = data_module.training_set, JoinOptions(**cli.config["join"].as_dict())
    calibrated = data.has_failures and module.objective.name == "sigmoid"
    if calibrated and not data_module.with_memory and module.sampler is None:
        align_memory(module.towers, data)
    handovers = history_rows(module.towers, data)
    memory = Memory(summarised(handovers, options.history_per_csa, data.split), len(data.identity), pairs=handovers)
    join, calibration = fit_join(module.towers, data, memory, options, data_module.with_memory, calibrated)
    facts, pairs = run_facts(cli, data, options, join), Pairs(module.towers, data)
    start = data_module.start_folder
    outcomes = measure_outcomes(pairs, data_module.tables) if start is None else measured_by(start)
    facts["outcomes"] = outcomes.facts
    if calibration is not None:
        facts["calibration"] = calibration.facts()
    if module.sampler is not None:
        module.take_in()
        handovers = history_rows(module.towers, data)
    rows = summarised(handovers, options.history_per_csa, data.end)
    write_outcomes(pairs, data_module.tables, outcomes.heads)
    join = replace(join, outcomes=outcomes.heads)
    if module.sampler is not None:  # a gradient run may be a teacher, whose student reads the same identities
        data = released(module.towers, data, data_module.tables, data_module.release_days)
    with atomic_directory(output) as folder, system_errors(output):
        save(module.towers, data_module.towers, folder)
        (folder / "features.json").write_text(data.schema.to_json(), encoding="utf-8")
        data.tokenizer.save(folder / "tokenizer.json")
        join.save(folder / "calibration.json")
        save_csas(data.engine, folder / "features.state")
        (folder / "config.yaml").write_text(cli.resolved, encoding="utf-8")
        write_arrays(data_module, data, rows, folder)
        module.write_chain(folder)
        (folder / "run.json").write_text(json.dumps(facts, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    return facts


def write_arrays(data_module: MatcherData, data: TrainingSet, rows: HistoryRows, folder: Path) -> None:
    """The roster, the memory (`rows` that still count) without customers, and the probe, as npz without pickles."""
    log = data_module.tables
    row_arrays = ("csa", "known_at", "until", "code", "scale", "residual", "outcome", "weight")
    np.savez(
        folder / "csas.npz",
        ids=np.array(log.csas.ids.to_pylist(), dtype=np.str_),
        features=data.roster_features,
        identity=data.identity,
        active=log.csas.active_at(data.end),
    )
    pq.write_table(log.csas.declared_at(data.end), folder / "csas.parquet")
    rows = rows.take(rows.until == NEVER)
    np.savez(
        folder / "history.npz",
        contact_ids=np.array(log.contacts.ids.take(rows.contact).to_pylist(), dtype=np.str_),
        **{name: getattr(rows, name) for name in row_arrays},
    )
    late = data.validation()[-PROBE:]
    contacts = data.contact[late]
    np.savez(
        folder / "probe.npz",
        tokens=data.tokenizer.encode(masked_texts(log, contacts)),
        categories=data.categories[contacts], numbers=data.numbers[contacts],
        arrived_at=data.arrived_at[contacts], csa=data.csa[late], resolved=data.resolved[late],
    )  # fmt: skip


def masked_texts(log: Log, contacts: Longs) -> list[str]:
    """Texts of contacts (n,) as they may be stored: tokens can be read back, so what is personal is masked first."""
    redactor, rows = Redactor(), pa.array(contacts)
    columns = (getattr(log.contacts, name).take(rows).to_pylist() for name in ("intent_text", "transcript", "language"))
    return [
        redactor.redact(compose_text(need, said)[:MOST_CHARACTERS], language).text
        for need, said, language in zip(*columns, strict=True)
    ]


def run_facts(cli: MatcherCLI, data: TrainingSet, options: JoinOptions, join: Join) -> dict[str, Any]:
    """What run.json says: sizes, objective, window and validation metrics; no path, no wall-clock time."""
    outcomes = data.resolved[data.resolved >= 0]
    before = next(c for c in cli.trainer.callbacks if isinstance(c, SaveOften)).measured  # type: ignore[attr-defined]
    measured = before | {name: float(value) for name, value in cli.trainer.callback_metrics.items()}
    watched = {k: round(v, 6) for k, v in measured.items() if k.startswith("val_")}
    positions = data.validation()
    if join.calibrated:
        watched |= outcome_metrics(cli.model.towers, data, positions[data.resolved[positions] >= 0])
    return {
        "backbone": cli.datamodule.towers.backbone,
        "encoder": cli.datamodule.towers.encoder,
        "families": data.schema.families,
        "objective": cli.model.objective.name,
        "propensity": cli.datamodule.propensity,
        "solver": "gradient" if cli.model.sampler is None else "sampling",
        "topics": 0 if data.topics is None else data.topics.count,
        "memory": "trained" if cli.datamodule.with_memory else "the profile's" if join.calibrated else "pretrained",
        "max_tokens": cli.datamodule.towers.max_tokens,
        **learnt(cli.model.text_lr, cli.model.memory, cli.model.taught),
        "history_per_csa": options.history_per_csa,
        "seed": int(cli.config["seed_everything"]),
        "in_a_row": 0 if cli.datamodule.start is None else cli.datamodule.start.in_a_row + 1,
        "data": {
            "contacts": len(data.arrived_at),
            "handovers": len(data.contact),
            "csas": len(data.identity),
            "resolved_share": round(float((outcomes == 1).mean()), 6) if len(outcomes) else None,
        },
        "window": {
            "from": int(data.arrived_at[0]),
            "until": data.end,
            "from_time": format_time(int(data.arrived_at[0])),
            "until_time": format_time(data.end),
            "validation_from_time": format_time(data.split),
        },
        "metrics": watched,
    }
