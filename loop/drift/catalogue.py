"""The statistics that are watched: what each is called, how it is judged, what it means and what to do.

Notable: one place for the text report, the page, the gauges and docs/drift.md, so none of them can call a thing
otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Scale = Literal["as it is", "root", "log"]
Side = Literal["up", "down", "both"]


@dataclass(frozen=True)
class Kind:
    """One statistic. unit: how values are shown ("share" of at most 1, "ratio", "number", "count"); side: what would be
    drift; scale: on which it scatters evenly; up, down: what it means to be above or below what is usual; todo: what to
    do; of_labels: which labels are known decides it."""

    name: str
    title: str
    unit: str
    side: Side
    scale: Scale
    up: str
    down: str
    todo: str
    of_labels: bool = False

    @property
    def group(self) -> str:
        """The part of the loop that it watches."""
        return self.name.partition(".")[0]

    def sentence(self, status: str, below: bool, reason: str | None) -> str:
        """One plain sentence on what was found, and what to do where that is anything."""
        if status == "not known":
            return f"Not known: {reason}."
        if status == "ok":
            return "As usual."
        return f"{self.down if below else self.up}: {self.todo}."


def _psi(column: str, title: str, todo: str) -> Kind:
    return Kind(
        f"input.psi_{column}", f"mix of {title} against the window before (PSI)", "number", "up", "root",
        f"the mix of {title} has changed more than from week to week", "", todo,
    )  # fmt: skip


LABELS = "see where outcomes are delivered late or got lost; do not retrain on this window before they are there"
_LIST = (
    Kind("input.volume", "contacts", "count", "both", "log", "more contacts than usual arrived",
         "fewer contacts than usual arrived", "see whether the export is whole, then staffing"),
    _psi("hour", "hours of the week", "see staffing, and whether times are in UTC"),
    _psi("channel", "channels", "see whether a channel was opened, closed or renamed"),
    _psi("queue", "queues", "see whether queues were renamed or routed otherwise"),
    _psi("language", "languages", "see who speaks them, and retrain if it stays"),
    _psi("intent", "intents", "see what customers ask for now, and retrain if it stays"),
    _psi("eligible", "lengths of eligible lists", "see whether the router asks for eligible CSAs as before"),
    Kind("input.new_intents", "contacts with an intent never seen before", "share", "up", "as it is",
         "an intent appeared that no earlier window had", "",
         "teach the label to whoever routes by it, and retrain: the towers have not seen it"),
    Kind("input.new_languages", "contacts in a language never seen before", "share", "up", "as it is",
         "a language appeared that no earlier window had", "",
         "see who speaks it and whether csas.parquet says so, and retrain"),
    Kind("input.words", "words of the texts against the window before (Jensen–Shannon, bits)", "number", "up", "root",
         "customers use other words than a window ago", "",
         "read some contacts of the window; retrain if it stays"),
    Kind("input.vectors", "mean text vector against the window before (squared, of the spread)", "number", "up",
         "as it is", "what the contact tower reads in the texts has moved", "",
         "see which words and intents changed; retrain if it stays"),
    Kind("labels.timely", "outcomes known, of those expected at their age", "ratio", "both", "as it is",
         "more outcomes are known than usual at this age", "outcomes are known later than usual", LABELS),
    Kind("labels.mature", "outcomes known of hand-overs that are old enough", "share", "both", "as it is",
         "more outcomes are known than usual of what is old enough",
         "fewer outcomes are known than usual of what is old enough", LABELS),
    Kind("outcome.resolved", "resolved, weighted by the maturation curve", "share", "both", "as it is",
         "more contacts are resolved than usual", "fewer contacts are resolved than usual",
         "see by queue and intent where; if the model's calibration is off too, retrain"),
    Kind("outcome.resolved_mature", "resolved, of hand-overs that are old enough", "share", "both", "as it is",
         "more contacts are resolved than usual", "fewer contacts are resolved than usual",
         "see by queue and intent where; if the model's calibration is off too, retrain"),
    Kind("outcome.csat", "mean rating", "number", "both", "as it is", "customers rate better than usual",
         "customers rate worse than usual", "read rated contacts of the window", of_labels=True),
    Kind("outcome.handle_time", "handle time (geometric mean, s)", "count", "both", "log",
         "contacts take longer than usual", "contacts take less time than usual",
         "see staffing, and whether the tool that measures it changed", of_labels=True),
    Kind("calibration.gap", "resolved less P(resolved), mean", "number", "both", "as it is",
         "P(resolved) is too low", "P(resolved) is too high", "export with a newer calibration, or retrain",
         of_labels=True),
    Kind("calibration.slope", "slope of a recalibration", "number", "both", "as it is",
         "P(resolved) differs too little between pairs", "P(resolved) differs too much between pairs: it says more "
         "than it knows", "retrain: the model tells good from bad pairs otherwise than outcomes do", of_labels=True),
    Kind("calibration.intercept", "intercept of a recalibration (logit, at the mean)", "number", "both", "as it is",
         "P(resolved) is too low at the mean", "P(resolved) is too high at the mean",
         "export with a newer calibration, or retrain", of_labels=True),
    Kind("calibration.error", "expected calibration error beyond chance", "number", "up", "as it is",
         "P(resolved) is off in some bins", "", "export with a newer calibration, or retrain",
         of_labels=True),
    Kind("roster.joiners", "CSAs who began in the window, of those at work", "share", "up", "as it is",
         "more CSAs joined than usual", "", "export again so that the bundle holds them, and let them be explored"),
    Kind("roster.leavers", "CSAs who left in the window, of those at work", "share", "up", "as it is",
         "more CSAs left than usual", "", "see whether csas.parquet is whole; export again"),
    Kind("roster.work_of_joiners", "hand-overs to CSAs who began in the window", "share", "up", "as it is",
         "CSAs of whom little is known do more of the work than usual", "",
         "export again so that the bundle holds them"),
    Kind("roster.work_outside_bundle", "hand-overs to CSAs whom the bundle does not hold or who began after it",
         "share", "up", "as it is", "the bundle does not know many of those who do the work", "",
         "export a newer bundle"),
    Kind("feedback.psi_policy", "who chooses, against the window before (PSI)", "number", "up", "root",
         "other policies choose than a window ago", "", "see whether that was meant; judge it by `twotower ope`"),
    Kind("feedback.chance", "probability that another CSA would have been taken, mean", "share", "both", "as it is",
         "more is explored than usual", "less is explored than usual",
         "see the explorer's share and floor: without chance nothing new is learnt of anybody"),
    Kind("feedback.effective_csas", "effective number of CSAs (inverse Simpson)", "count", "both", "log",
         "work is spread over more CSAs than usual", "work falls on fewer CSAs than usual",
         "see whether the policy has collapsed on a few, and explore"),
    Kind("feedback.gini", "Gini coefficient of hand-overs", "share", "both", "as it is",
         "work is spread less evenly than usual", "work is spread more evenly than usual",
         "see who takes most, and whether eligible lists or prices changed"),
    Kind("feedback.idle", "CSAs at work without any hand-over", "share", "both", "as it is",
         "more CSAs than usual were given nothing", "fewer CSAs than usual were given nothing",
         "see whether they are eligible, and explore: what is not tried is not learnt"),
    Kind("feedback.untried", "eligible pairs of CSA and intent that were not tried", "share", "both", "as it is",
         "fewer of the eligible pairs are tried than usual", "more of the eligible pairs are tried than usual",
         "explore, or training sees ever fewer pairs"),
)  # fmt: skip
KINDS = {kind.name: kind for kind in _LIST}
GROUPS = {
    "input": "What comes in", "labels": "When outcomes become known", "outcome": "What comes of it",
    "calibration": "Is P(resolved) right", "roster": "Who does the work", "feedback": "What the loop does to itself",
}  # fmt: skip
