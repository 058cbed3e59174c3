"""`twotower train`: tables in, a finished run out."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from twotower.cli import Report, Verb
from twotower.engines import add_options, engine_of
from twotower.errors import ConfigError


def _configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="folder of tables")
    parser.add_argument(
        "--until", metavar="TIME", help="use nothing known only at TIME or later (2026-01-31T00:00:00Z)"
    )
    parser.add_argument(
        "--config",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="YAML configuration, see configs/; of several, later ones win",
    )
    parser.add_argument("--output", type=Path, required=True, metavar="RUN", help="folder to write, must not exist")
    parser.add_argument(
        "--profile",
        action="store_true",
        help="also write RUN.profile: where steps spend their time, and a trace of some",
    )
    add_options(parser, "its processes", processes=False)
    parser.epilog = (
        "Further --key value pairs go to Lightning: --model.lr 0.001, --data.towers.backbone transformer, "
        "--trainer.devices 2, --trainer.max_epochs 5, --join.history_per_csa 128, … (train.module, train.data, "
        "train.join document each). SIGTERM and Ctrl+C end a run when the step at hand is done and saved, with status "
        "143 and 130; the same command continues it, and one that was killed, from at most --saving.minutes before. "
        "With --engine ray, --cluster.workers, --cluster.cpus and --cluster.gpus say how many processes there are."
    )


def _run(args: argparse.Namespace) -> Report:
    import logging
    import warnings

    from train.profile import StepProfile
    from train.profile_report import table_of
    from train.run import Finished, run_training

    engine = engine_of(args)
    if args.profile and engine.name == "ray":
        raise ConfigError("--profile with --engine ray: steps are timed where they run; profile a local run")
    # After the import, which sets these levels anew.
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", module="lightning")
    profile = StepProfile(args.output.with_name(f"{args.output.name}.profile")) if args.profile else None
    watching = () if profile is None else (profile,)
    given = args.data, args.output, args.until, args.config, args.rest
    if engine.name == "ray":
        from train.on_ray import train_on_ray

        done: Finished | None = train_on_ray(*given, engine.address)
    else:
        done = run_training(*given, watching)
    if done is None:
        return Report("", {})
    facts = done.facts
    profiled = {} if profile is None else {"profile": profile.write()}
    data, until = facts["data"], facts["window"]["until_time"]
    lines = [
        f"{data['handovers']:,} hand-overs, {data['csas']:,} CSAs, until {until}",
        f"objective {facts['objective']} ({_why(facts)}), memory {facts['memory']}, backbone {facts['backbone']}",
        *_propensity(facts["propensity"]),
        f"features: {', '.join(facts['families'])}",
        "validation: " + ", ".join(f"{k.removeprefix('val_')} {v:.4f}" for k, v in facts["metrics"].items()),
        f"run {done.folder}" + (" (continued)" if done.resumed else ""),
        *(table_of(found) for found in profiled.values()),
    ]
    return Report("\n".join(lines), {**facts, **profiled, "run": str(done.folder)})


def _propensity(found: dict[str, Any] | None) -> list[str]:
    """What training found of who was chosen: nothing where the objective has no use for it."""
    if found is None:
        return []
    if found["source"] == "exposure":
        return [f"propensities: each CSA's share of recent hand-overs ({found['why']})"]
    where = "later" if found["held_out"] else "the same"
    losses = "{log_loss:.3f}, by share of hand-overs {log_loss_exposure:.3f}, at random {log_loss_equal:.3f}"
    return [
        f"propensities: {found['source']}, fitted on {found['fitted_on']:,.0f} hand-overs; log loss of {where} ones "
        + losses.format(**found)
    ]


def _why(facts: dict[str, object]) -> str:
    reasons = {
        "sigmoid": "the log has outcomes that failed",
        "corrected_softmax": "the log has successes only",
        "sampled_softmax": "the log has successes only, the roster is large",
        "in_batch": "as asked",
    }
    return reasons.get(str(facts["objective"]), "as asked")


VERB = Verb("train the towers on a folder of tables", _configure, _run, extra="train", passes_on=True)
