"""An off-policy evaluation as text for a terminal and as JSON for machines.

Notable: of what is refused both say why and nothing else; no estimate is to be found under another name.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from evaluation.ope.estimators import TITLES
from evaluation.ope.found import Answer, Found
from evaluation.ope.intervals import Estimate
from evaluation.ope.logged import METRICS
from evaluation.ope.overlap import Overlap
from evaluation.ope.sensitivity import Bound
from evaluation.report_text import table
from twotower.cli import plain

SHOWN = 5
"""Properties of the balance that a terminal is shown, the worst."""


def text_report(found: Found) -> str:
    """The whole report in plain text."""
    parts = [heading(found), *(f"note: {line}" for line in found.notes)]
    parts += [one.line() for one in found.judges.values()]
    if found.queue is not None:
        parts.append(found.queue.line(found.source))
    for metric in found.logging:
        parts += ["", f"{metric} ({METRICS[metric].unit})", table(value_rows(found, metric))]
        parts += said(found, metric)
    parts += ["", f"Weights, by {' and '.join(found.logging)}", table(weight_rows(found))]
    balance = balance_rows(found, SHOWN)
    if len(balance) > 1:
        parts += ["", "Balance after weighting, the worst (standardised differences)", table(balance)]
    for answer in found.answers:
        if answer.sensitivity is not None:
            parts += ["", sensitivity_line(answer, found.estimator), table(sensitivity_rows(answer.sensitivity.bounds))]
    return "\n".join(parts)


def heading(found: Found) -> str:
    """What was judged on what."""
    by = ", ".join(f"{name or 'not said'} {count:,}" for name, count in found.decided_by.items())
    return (
        f"{found.data}: {found.rounds:,} first hand-overs of contacts from {found.begin} to {found.end}, "
        f"{found.candidates:.1f} CSAs eligible on average; decided by {by}; propensities {found.source}; answered by "
        f"{TITLES[found.estimator]}, intervals of {found.confidence:.0%} over {found.clusters:,} "
        f"{'rounds' if found.cluster == 'none' else f'{found.cluster}s'}"
    )


def value_rows(found: Found, metric: str) -> list[list[str]]:
    """One line for the log's own policy and one for each answered policy and estimator; the one asked for first."""
    logging = found.logging[metric]
    rows = [["policy", "estimator", "value", "interval", "bootstrap", "less the log's", "interval"]]
    rows.append(["the log's own", f"mean of {logging.known:,}", *_bounds(logging.value, metric), "", ""])
    for answer in found.of(metric):
        names = sorted(answer.estimates, key=lambda name: name != found.estimator)
        for name in names:
            less = answer.less_logged[name]
            title = TITLES[name] + _detail(answer, name)
            ahead = [number(less.value, metric, True), span(less.low, less.high, metric, True)]
            rows.append([answer.policy, title, *_bounds(answer.estimates[name], metric), *ahead])
    return rows


def said(found: Found, metric: str) -> list[str]:
    """What the table does not say: refusals, verdicts, notes."""
    lines = []
    for answer in found.of(metric):
        lines += [f"refused: {answer.policy}, {metric}: {why}" for why in answer.refused]
        if not answer.refused:
            lines += [verdict(found, answer), *(f"note: {line}" for line in answer.notes)]
            lines += [
                f"{TITLES[name]} is withheld for {answer.policy}: {why}"
                for name, why in answer.withheld.items()
                if name != "mips" or answer.marginal is not None  # where there is nothing to group, nothing is missed
            ]
    return lines


def verdict(found: Found, answer: Answer) -> str:
    """The paired difference to the log's own policy in words."""
    metric, less = METRICS[answer.metric], answer.less_logged[found.estimator]
    low, high = (less.low, less.high) if metric.more_is_better else (-less.high, -less.low)
    word = "better than" if low > 0 else "worse than" if high < 0 else "not told apart from"
    line = (
        f"{answer.policy} is {word} what the log did: {number(less.value, answer.metric, True)} "
        f"{span(less.low, less.high, answer.metric, True)}"
    )
    if answer.less_first is not None:
        first = answer.less_first
        line += (
            f"; less the first policy: {number(first.value, answer.metric, True)} "
            f"{span(first.low, first.high, answer.metric, True)}"
        )
    return line


def weight_rows(found: Found) -> list[list[str]]:
    """One line for each policy and metric."""
    head = ["policy", "metric", "rounds", "could agree", "effective", "mean weight", "largest", "heaviest"]
    rows = [[*head, "no support"]]
    for answer in found.answers:
        rows.append([answer.policy, answer.metric, *_weights(answer.overlap)])
        if answer.marginal is not None and "mips" in answer.estimates:
            rows.append([f"{answer.policy}, groups", answer.metric, *_weights(answer.marginal)])
    return rows


def balance_rows(found: Found, shown: int | None = None) -> list[list[str]]:
    """Properties by policy, the worst first."""
    rows = [["property", "policy", "before", "after", "± standard error"]]
    for policy in found.policies:
        worst = sorted(policy.balances, key=lambda one: -one.beyond)
        rows += [
            [one.name, policy.name, f"{one.before:+.3f}", f"{one.after:+.3f}", f"{one.error:.3f}"]
            for one in worst[:shown]
        ]
    return rows


def sensitivity_line(answer: Answer, asked: str) -> str:
    """At which Λ the conclusion falls, and of which estimator that is where it is not the one that was asked for."""
    curve = answer.sensitivity
    flips = float("nan") if curve is None else curve.flips
    if flips == 1.0:
        text = "nothing is concluded at Λ = 1 already"
    elif flips == float("inf"):
        text = "the sign of the difference stands at every Λ that was tried"
    else:
        text = f"the sign of the difference stands up to Λ = {flips:.2f}"
    of = ""
    if curve is not None and curve.estimator != asked:
        of = f" (bounds of {TITLES[curve.estimator]}: {TITLES[asked]} has none of its own)"
    return f"Sensitivity of {answer.policy}, {answer.metric}, less the log's: {text}{of}"


def sensitivity_rows(bounds: tuple[Bound, ...]) -> list[list[str]]:
    """The curve as a table."""
    rows = [["Λ", "least", "most", "interval from", "to"]]
    for one in bounds:
        figures = (one.low, one.high, one.outer_low, one.outer_high)
        rows.append([f"{one.strength:g}", *("–" if value != value else f"{value:+.4f}" for value in figures)])
    return rows


def number(value: float, metric: str, signed: bool = False) -> str:
    """A value in the metric's digits; a dash for none."""
    if value != value:
        return "–"
    digits = 1 if metric == "handle_time_s" else 4
    return f"{value:+.{digits}f}" if signed else f"{value:.{digits}f}"


def span(low: float, high: float, metric: str, signed: bool = False) -> str:
    """`[0.712, 0.770]`."""
    return f"[{number(low, metric, signed)}, {number(high, metric, signed)}]"


def _detail(answer: Answer, name: str) -> str:
    """What was chosen for an estimator: groups of MIPS, τ of Switch-DR where it leaves anything to the judge."""
    if name == "mips" and answer.groups is not None:
        return f", {answer.groups[0]} groups"
    if name == "switch-dr" and answer.threshold is not None and answer.threshold < answer.overlap.largest:
        return f", τ = {answer.threshold:.3g}"
    return ""


def _bounds(value: Estimate, metric: str) -> list[str]:
    boot = value.bootstrap
    return [number(value.value, metric), span(value.low, value.high, metric), span(boot.low, boot.high, metric)]


def _weights(of: Overlap) -> list[str]:
    missing = "–" if of.unsupported != of.unsupported else f"{of.unsupported:.2%}"
    return [
        f"{of.rounds:,}",
        f"{of.agreeing:.1%}",
        f"{of.effective:,.0f}",
        f"{of.mean:.3f} ± {of.mean_error:.3f}",
        f"{of.largest:.1f}",
        f"{of.share:.2%}",
        missing,
    ]


def json_report(found: Found) -> dict[str, Any]:
    """Everything, as JSON holds it; NaN and infinity become null."""
    data = {
        name: getattr(found, name)
        for name in (
            "data", "rounds", "clusters", "cluster", "candidates", "decided_by", "source", "estimator", "confidence",
            "notes",
        )
    }  # fmt: skip
    data |= {"from": found.begin, "to": found.end, "refused": found.refused}
    data["left_out"] = asdict(found.left_out)
    data["gates"] = asdict(found.gates)
    data["judges"] = {name: asdict(one) for name, one in found.judges.items()}
    data["queue"] = None if found.queue is None else asdict(found.queue)
    data["logging"] = {name: {**_estimate(one.value), "known": one.known} for name, one in found.logging.items()}
    data["policies"] = [
        {"name": one.name, "described": one.described, "balance": [asdict(balance) for balance in one.balances]}
        for one in found.policies
    ]
    data["answers"] = [_answer(one) for one in found.answers]
    done: dict[str, Any] = plain(data)
    return done


def _answer(one: Answer) -> dict[str, Any]:
    data: dict[str, Any] = {name: getattr(one, name) for name in ("policy", "metric", "refused", "withheld", "notes")}
    data["overlap"] = asdict(one.overlap)
    data["estimates"] = {name: _estimate(value) for name, value in one.estimates.items()}
    data["less_logged"] = {name: _estimate(value) for name, value in one.less_logged.items()}
    data["less_first"] = None if one.less_first is None else _estimate(one.less_first)
    data["switch_threshold"] = one.threshold
    data["groups"] = one.groups
    data["overlap_of_groups"] = None if one.marginal is None else asdict(one.marginal)
    data["sensitivity"] = None if one.sensitivity is None else asdict(one.sensitivity)
    return data


def _estimate(value: Estimate) -> dict[str, Any]:
    return {
        "value": value.value,
        "error": value.error,
        "asymptotic": [value.low, value.high],
        "bootstrap": [value.bootstrap.low, value.bootstrap.high],
    }
