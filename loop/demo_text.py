"""What the demo says at the end: examples, the uplift captured, where everything is, and how long it took."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import shorten, wrap
from typing import Any

from evaluation.experiment.analyse_text import json_report as experiment_report
from evaluation.report_text import json_report as evaluation_report
from evaluation.report_text import share, table
from loop.demo import BUNDLE, CENTRE, EXPERIMENT, PEER, REPORT, SIMULATION, Demo
from loop.examples import Example
from loop.experiment import ANALYSIS, PLAN, TABLES


def text_report(done: Demo) -> str:
    """The whole report in plain text."""
    parts = [_heading(done), "", "Contacts of the test, their candidates and why (effects on the logit of success,"]
    parts += ["against the mean of the candidates; true P is known because the centre is generated):"]
    for number, one in enumerate(done.examples, start=1):
        parts += ["", *_example(number, one)]
    parts += ["", "First choices on the test, by their true probability of success:", uplift_table(done), ""]
    parts += ["The same bundle in a simulated centre that is busy, a day of the test:", policy_table(done), ""]
    parts += ["An experiment, designed before the test, run on its days and read out:", experiment_said(done), ""]
    parts += ["A turn of the wheel: the bundle is served, and a challenger has seen the test's first days as well:"]
    parts += [turn_said(done), ""]
    parts += [table([("stage", "took", "share"), *done.stages.rows()]), "", _where(done)]
    return "\n".join(parts)


def uplift_table(done: Demo) -> str:
    """Queue, naive peer, model, ceiling and oracle: what their first choices are worth."""
    truth, model = done.evaluation.truth, done.evaluation.model
    if truth is None:
        return "the centre holds no truth"
    top = truth.ceiling
    rows: list[Sequence[str]] = [("", "P(resolved)", "captured of the oracle's uplift", "of the ceiling's")]
    rows.append(("queue", f"{top.queue:.4f}", "0.000", "0.000"))
    for label, name in ((f"naive peer ({PEER})", PEER), (f"model ({model})", model)):
        one = truth.captured[name]
        captured = share(one.captured, one.low, one.high)
        rows.append((label, f"{one.model:.4f}", captured, f"{truth.of_ceiling(name):.3f}"))
    rows.append(("ceiling: knows all needs", f"{top.model:.4f}", share(top.captured, top.low, top.high), "1.000"))
    rows.append(("oracle: knows everything", f"{top.oracle:.4f}", "1.000", ""))
    return table(rows)


def policy_table(done: Demo) -> str:
    """What each policy resolves, and how long contacts wait."""
    found = done.simulation
    rows: list[Sequence[str]] = [("", "resolved", "more", "mean wait", "occupancy")]
    for name in found.names:
        of = {figure: found.of(name, figure) for figure in ("resolved", "mean_wait_s", "occupancy")}
        more = found.less(name, found.names[0], "resolved")
        rows.append(
            (
                name, f"{of['resolved'].mean:.3f}", f"{more.mean:+.3f} ± {more.half:.3f}",
                f"{of['mean_wait_s'].mean:.0f} s", f"{of['occupancy'].mean:.3f}",
            )
        )  # fmt: skip
    return table(rows)


def experiment_said(done: Demo) -> str:
    """The verdict, and the truth that no real experiment shows."""
    plan, tried = done.experiment.plan, done.experiment
    (queue, matcher), (wait, longer) = (tried.rehearsed.truth[name] for name in ("resolved", "wait_s"))
    lines = [f"{plan.hypothesis}; {plan.design}, {plan.begins} to {plan.ends}"]
    lines += wrap(tried.analysis.verdict.paragraph, 118)
    lines.append(
        f"The truth, each policy alone on the same contacts: {100 * (matcher - queue):+.2f} points of resolution, "
        f"{longer - wait:+.0f} s of wait"
    )
    return "\n".join(lines)


def turn_said(done: Demo) -> str:
    """What the gate said, rule by rule, and how long the training took that went on from the champion's."""
    took = done.turned.steps["train"].seconds
    told = [f"{done.turned.outcome}; going on from the champion's run, the training took {took:.0f} s"]
    return "\n".join([*told, *(f"  {line}" for line in done.turned.lines)])


def json_report(done: Demo) -> dict[str, Any]:
    """The same for machines, with the whole evaluation."""
    return {
        "output": str(done.folder),
        "bundle": str(done.folder / BUNDLE),
        "bundle_id": done.bundle_id,
        "report": str(done.folder / REPORT / "report.html"),
        "centre": vars(done.centre),
        "until": done.until,
        "examples": [_plain(one) for one in done.examples],
        "evaluation": evaluation_report(done.evaluation),
        "simulation": {
            name: {figure: done.simulation.of(name, figure).mean for figure in ("resolved", "mean_wait_s", "occupancy")}
            for name in done.simulation.names
        },
        "experiment": {**experiment_report(done.experiment.analysis), "truth": done.experiment.rehearsed.truth},
        "turn": done.turned.as_json(),
        "seconds": {**done.stages.seconds, "total": done.stages.total},
    }


def _heading(done: Demo) -> str:
    made, facts = done.centre, done.facts
    return (
        f"A generated centre: {made.contacts:,} contacts, {made.csas:,} CSAs, {made.handovers:,} hand-overs, "
        f"{made.resolved:.1%} of them resolved.\n"
        f"Trained ({facts.get('backbone')} text, objective {facts.get('objective')}) on what was known before "
        f"{done.until}; the test is the {done.centre.contacts // 10:,} contacts from then on."
    )


def _example(number: int, one: Example) -> list[str]:
    lines = [f"{number}. “{shorten(one.text, 100)}”", f"   {one.labels}; {len(one.true)} could take it"]
    rows = []
    for candidate in one.candidates:
        p = "–" if candidate.p_resolved is None else f"{candidate.p_resolved:.2f}"
        why = ", ".join(f"{reason.part} {reason.effect:+.2f}" for reason in candidate.reasons)
        rows.append([f"   {candidate.csa_id}", f"P {p}", f"true {_true(one, candidate.csa_id)}", why])
    widths = [max(len(row[i]) for row in rows) for i in range(3)]
    lines += ["  ".join([*(cell.ljust(w) for cell, w in zip(row[:3], widths, strict=True)), row[3]]) for row in rows]
    queue = "nobody in time" if one.chosen is None else f"{one.chosen}, true {_true(one, one.chosen)}"
    return [*lines, f"   the queue took {queue}; the best was {one.best}, true {_true(one, one.best)}"]


def _true(one: Example, csa_id: str) -> str:
    return f"{one.true[csa_id]:.2f}" if csa_id in one.true else "–"


def _where(done: Demo) -> str:
    folder = done.folder
    return (
        f"tables  {folder / CENTRE}\n"
        f"bundle  {folder / BUNDLE}  (id {done.bundle_id[:12]})\n"
        f"report  {folder / REPORT / 'report.html'}  (open it in a browser)\n"
        f"        {folder / SIMULATION / 'report.html'}  (the simulated centre)\n"
        f"        {folder / EXPERIMENT / PLAN / 'report.html'}  (the experiment's plan)\n"
        f"        {folder / EXPERIMENT / ANALYSIS / 'report.html'}  (what it says)\n"
        f"again   twotower experiment analyse --plan {folder / EXPERIMENT / PLAN / 'plan.yaml'} "
        f"--data {folder / EXPERIMENT / TABLES}"
    )


def _plain(one: Example) -> dict[str, Any]:
    return {
        "contact_id": one.contact_id,
        "text": one.text,
        "labels": one.labels,
        "candidates": [
            {
                "csa_id": candidate.csa_id,
                "score": candidate.score,
                "p_resolved": candidate.p_resolved,
                "true": one.true.get(candidate.csa_id),
                "why": {reason.part: reason.effect for reason in candidate.reasons},
            }
            for candidate in one.candidates
        ],
        "chosen": one.chosen,
        "best": one.best,
    }
