"""How far off-policy estimates are off, how often their intervals hold the truth, and what the gates refuse.

    python benchmarks/ope.py --output docs/results/ope.json

Notable: three parts. *error*: IPS on bandit logs of 100,000 rounds and ten actions, relative to the true value.
*coverage*: 95 % intervals of IPS, SNIPS and DR on 2,000 bandit logs a world, by asymptotics and by the bootstrap; in
one world five rounds share a customer. *centre*: a generated centre whose log is drawn again and again (ope_centre.py):
bias, deviation and root mean squared error of every estimator against the known worth of a policy, with propensities
logged, estimated, falsified, and of a queue that goes by something hidden. Refused answers are counted and have no
error. The gates were not chosen on these worlds; the judge's priors were, on a centre of another seed and size.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from ope_centre import Centre, Fixed
from record import Record, measure_each

from evaluation.ope.answers import answers_of, rounds_of
from evaluation.ope.bandit import Bandit
from evaluation.ope.estimators import DR, IPS, SNIPS, TITLES
from evaluation.ope.found import Answer
from evaluation.ope.intervals import estimates
from evaluation.ope.outcome import judged
from evaluation.ope.overlap import overlap
from evaluation.ope.queue_features import QueueState
from evaluation.ope.queue_model import estimated
from evaluation.ope.sensitivity import sensitivity
from evaluation.ope.setting import asked_of, setting_of
from evaluation.ope.spec import OpeSpec
from evaluation.report_text import table
from twotower.progress import track

Rows = list[dict[str, Any]]
TARGETS = {"softmax": Bandit(), "sharper": Bandit(sharpness=2.0), "greedy": Bandit(sharpness=float("inf"))}
WORLDS = {"softmax": (Bandit(), 1000, 1), "greedy": (TARGETS["greedy"], 2000, 1), "customers": (Bandit(), 2000, 5)}
"""Coverage: bandit, rounds, and rounds a customer."""
LOGS = {"logged": {}, "estimated": {}, "falsified": {"falsified": 1.0}, "hidden": {"hidden": 0.5}}
BELIEF = 1.0
"""Error of the policies' log-odds in a centre."""


@cache
def worth_of(bandit: Bandit) -> float:
    """The value of a bandit's judged policy."""
    return bandit.true_value()


def errors(args: argparse.Namespace) -> tuple[Rows, str]:
    """IPS on large bandit logs."""
    rows = []
    for name, bandit in TARGETS.items():
        value, found, size = worth_of(bandit), [], 0.0
        for seed in track(range(args.logs), f"error, {name}", args.logs):
            log = bandit.log(args.rounds, seed)
            found.append(IPS().terms(log).value / value - 1)
            size += overlap(log.weight).effective / args.logs
        off = np.abs(found)
        rows.append({
            "part": "error", "target": name, "logs": args.logs, "rounds": args.rounds, "value": value,
            "effective": round(size), "rms": float(np.sqrt((off**2).mean())), "worst": float(off.max()),
            "within 2 %": float((off < 0.02).mean()),
        })  # fmt: skip
    head = ["IPS, ten actions", "logs", "rounds", "effective", "relative error, rms", "worst", "within 2 %"]
    lines = [[r["target"], f"{r['logs']}", f"{r['rounds']:,}", f"{r['effective']:,}", f"{r['rms']:.2%}",
              f"{r['worst']:.2%}", f"{r['within 2 %']:.0%}"] for r in rows]  # fmt: skip
    return rows, table([head, *lines])


def coverage(args: argparse.Namespace) -> tuple[Rows, str]:
    """How often 95 % intervals hold the truth."""
    rows, made = [], (IPS(), SNIPS(), DR())
    for name, (bandit, size, each) in WORLDS.items():
        value = worth_of(bandit)
        inside = np.zeros((2, len(made)))
        for seed in track(range(args.replications), f"coverage, {name}", args.replications):
            log = bandit.log(size, seed, each=each)
            terms = [one.terms(log) for one in made]
            found, _ = estimates(terms, [], log.cluster, draws=args.draws, seed=seed)
            inside[0] += [one.low <= value <= one.high for one in found]
            inside[1] += [one.bootstrap.low <= value <= one.bootstrap.high for one in found]
        for k, one in enumerate(made):
            asymptotic, boot = (inside[:, k] / args.replications).tolist()
            rows.append({
                "part": "coverage", "world": name, "rounds": size, "each": each, "estimator": one.name,
                "replications": args.replications, "asymptotic": asymptotic, "bootstrap": boot,
            })  # fmt: skip
    head = [f"95 % intervals, {args.replications:,} logs", "rounds", "asymptotic", "bootstrap"]
    lines = [[f"{r['world']}, {r['estimator']}", f"{r['rounds']:,}", f"{r['asymptotic']:.4f}", f"{r['bootstrap']:.4f}"]
             for r in rows]  # fmt: skip
    return rows, table([head, *lines])


def centre(args: argparse.Namespace) -> tuple[Rows, str]:
    """Every estimator on logs of a generated centre."""
    world = Centre.draw(args.contacts, args.csas, args.eligible, args.seed)
    policies = world.policies(BELIEF)
    found: dict[tuple[str, str, str], list[tuple[float, bool]]] = defaultdict(list)
    refused: dict[tuple[str, str], int] = defaultdict(int)
    held: dict[tuple[str, str], list[list[bool]]] = defaultdict(list)
    for kind, how in LOGS.items():
        for seed in track(range(args.centre_logs), f"centre, {kind}", args.centre_logs):
            for policy, answer, bounds in one_log(world, policies, kind, how, seed, args.strengths):
                worth = world.worth(policy)
                refused[kind, policy.name] += bool(answer.refused)
                held[kind, policy.name] += [bounds] if bounds else []
                for name, one in answer.estimates.items():
                    found[kind, policy.name, name].append((one.value - worth, one.low <= worth <= one.high))
    rows = [row(world, policy, kind, name, found[kind, policy.name, name], refused[kind, policy.name], args)
            for kind in LOGS for policy in policies for name in TITLES if found[kind, policy.name, name]]  # fmt: skip
    for kind in LOGS:
        for policy in policies:
            same: dict[str, Any] = {"part": "centre", "log": kind, "policy": policy.name}
            same |= {"refused": refused[kind, policy.name]}
            if not any(found[kind, policy.name, name] for name in TITLES):
                rows.append({**same, "estimator": "", "answered": 0})
            if held[kind, policy.name]:
                share = np.mean(held[kind, policy.name], axis=0).tolist()
                rows.append({**same, "estimator": "bounds", "strengths": args.strengths, "held": share})
    return rows, centre_table(rows, args)


def one_log(
    world: Centre, policies: list[Fixed], kind: str, how: dict[str, float], seed: int, strengths: list[float]
) -> list[tuple[Fixed, Answer, list[bool]]]:
    """Answers for all policies on one log; for a queue with something hidden, whether bounds hold the difference."""
    drawn, told = world.log(seed, **how), kind in ("logged", "falsified")
    spec = OpeSpec.model_validate({"policies": ["uniform"], "draws": 0, "sensitivity_draws": 0, "strengths": [1.0]})
    model = None if told else estimated(drawn.logged, drawn.past, world.fold)
    seen = QueueState.of(drawn.past).features(drawn.logged.contact, drawn.logged.pairs)
    setting = setting_of(spec, drawn.logged, told, model, seen)
    asked = [asked_of(setting, policy) for policy in policies]
    judge = judged(drawn.logged, world.features, "resolved", seed)
    answers, logging = answers_of(setting, asked, "resolved", judge, world.groups)
    done = []
    for policy, one, answer in zip(policies, asked, answers, strict=True):
        bounds: list[bool] = []
        if kind == "hidden" and not answer.refused and strengths:
            rounds = rounds_of(setting, one, drawn.logged.reward("resolved"), judge, None)
            less = world.worth(policy) - logging.value.value
            curve = sensitivity(rounds, strengths, draws=50, seed=seed)
            bounds = [bound.outer_low <= less <= bound.outer_high for bound in curve.bounds]
        done.append((policy, answer, bounds))
    return done


def row(
    world: Centre, policy: Fixed, kind: str, name: str, found: list[tuple[float, bool]], refused: int,
    args: argparse.Namespace,
) -> dict[str, Any]:  # fmt: skip
    """Figures of one estimator."""
    off = np.array([error for error, _ in found])
    return {
        "part": "centre", "log": kind, "policy": policy.name, "worth": world.worth(policy), "estimator": name,
        "answered": len(off), "refused": refused, "bias": float(off.mean()),
        "bias error": float(off.std(ddof=1) / np.sqrt(len(off))) if len(off) > 1 else float("nan"),
        "deviation": float(off.std()), "rmse": float(np.sqrt((off**2).mean())),
        "coverage": float(np.mean([inside for _, inside in found])), "seed": args.seed,
    }  # fmt: skip


def centre_table(rows: Rows, args: argparse.Namespace) -> str:
    """Bias and error by log, policy and estimator."""
    head = ["log, policy", "estimator", "answered", "bias", "deviation", "RMSE", "95 % interval holds"]
    lines = [head]
    for r in rows:
        name = f"{r['log']}, {r['policy']}"
        if r["estimator"] == "bounds":
            share = ", ".join(f"Λ = {s:g}: {h:.0%}" for s, h in zip(r["strengths"], r["held"], strict=True))
            lines.append([name, f"bounds hold: {share}", "", "", "", "", ""])
        elif not r["answered"]:
            lines.append([name, "refused", f"0 of {r['refused']}", "", "", "", ""])
        else:
            lines.append([
                name, TITLES[r["estimator"]], f"{r['answered']} of {args.centre_logs}",
                f"{r['bias']:+.4f} ± {1.96 * r['bias error']:.4f}", f"{r['deviation']:.4f}", f"{r['rmse']:.4f}",
                f"{r['coverage']:.0%}",
            ])  # fmt: skip
    return table(lines)


PARTS: dict[str, Callable[[argparse.Namespace], tuple[Rows, str]]] = {
    "error": errors, "coverage": coverage, "centre": centre
}  # fmt: skip


def main(argv: list[str] | None = None) -> int:
    """Measure the parts; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--rounds", type=int, default=100_000, help="of the logs whose error is measured")
    parser.add_argument("--logs", type=int, default=100, help="of these")
    parser.add_argument("--replications", type=int, default=2000, help="of coverage")
    parser.add_argument("--draws", type=int, default=500, help="of the bootstrap")
    parser.add_argument("--contacts", type=int, default=10_000, help="of the centre")
    parser.add_argument("--csas", type=int, default=50)
    parser.add_argument("--eligible", type=float, default=8.0)
    parser.add_argument("--centre-logs", type=int, default=50, help="logs of the centre, of each kind")
    parser.add_argument("--strengths", type=float, nargs="*", default=[1.0, 1.25, 1.5, 2.0], help="Λ of the bounds")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, help="JSON file, kept up to date part by part")
    args = parser.parse_args(argv)
    settings = {name: value for name, value in vars(args).items() if name not in ("parts", "output")}
    record = Record(args.output, json.loads(json.dumps(settings)), "rows", "part")
    return 0 if measure_each(record, args.parts, lambda part: PARTS[part](args)) else 1


if __name__ == "__main__":
    sys.exit(main())
