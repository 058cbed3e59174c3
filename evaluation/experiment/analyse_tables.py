"""The numbers of an analysis as tables of text: what the terminal prints and what stands beneath the pictures."""

from __future__ import annotations

from dataclasses import dataclass

from evaluation.experiment.analyse import Analysis, Found
from evaluation.experiment.bands import CHOSEN_BY_ARM, KINDS
from evaluation.experiment.effects import Effect
from evaluation.experiment.guards import Guard
from evaluation.experiment.plan import Plan
from evaluation.experiment.through_time import Asked
from evaluation.experiment.words import TITLES, UNTOLD, change, level, money, p_said, share, span
from twotower.clock import format_time


@dataclass(frozen=True)
class Table:
    """A title, a sentence for people who do not read code, a head and rows."""

    title: str
    explained: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def tables(analysis: Analysis) -> list[Table]:
    """All that there is something to say of; nothing where a check refused."""
    found, plan = analysis.found, analysis.plan
    if found is None:
        return []
    made: list[Table | None] = [
        _primary(plan, found),
        _looks(plan, found),
        _guards(found),
        _secondary(plan, found),
        _bands(plan, found),
    ]
    made += [_novelty(plan, found), _carry_over(plan, found), _taken(plan, found), _fifths(plan, found), _value(found)]
    return [one for one in made if one is not None and one.rows]


def _primary(plan: Plan, found: Found) -> Table:
    metric = plan.primary.metric
    rows = [
        (one.way, change(metric, one.value), span(metric, one.low, one.high), p_said(one.p))
        for one in found.sensitivity
    ]
    first = found.estimate.effect
    explained = (
        f"{TITLES[metric].capitalize()}: {level(metric, first.control)} under {plan.control.name}, "
        f"{level(metric, first.treatment)} under {plan.treatment.name} ({share(first.relative)}). Intervals are for a "
        f"single look and cover {100 * (1 - first.alpha):g} %; the first line is the design's own, the others show "
        f"what it hangs on. {_adjusted(first)}"
    )
    return Table("The effect", explained, ("inference", "effect", "interval", "p"), tuple(rows))


def _adjusted(first: Effect) -> str:
    if not first.adjusted:
        return "Nothing that was known before is adjusted for."
    return f"The covariate explains {first.explained:.1%} of a contact's variance."


def _looks(plan: Plan, found: Found) -> Table:
    """The confidence sequence, at most twenty looks of it, the last one among them."""
    seen, metric = found.estimate.monitored, plan.primary.metric
    step = max(1, -(-len(seen.value) // 20))
    places = sorted({*range(len(seen.value) - 1, -1, -step)})
    lift = found.estimate.lift or seen
    rows = [
        (
            format_time(int(seen.known_at[i])), change(metric, float(seen.value[i])),
            span(metric, float(seen.low[i]), float(seen.high[i])), share(float(lift.value[i])),
            f"{share(float(lift.low[i]))} to {share(float(lift.high[i]))}",
        )
        for i in places
    ]  # fmt: skip
    decides = "It decides." if plan.stopping.rule == "always_valid" else "The plan decides by a single look at the end."
    explained = (
        f"At every moment, with an interval that holds at all of them at once ({100 * (1 - seen.alpha):g} %), so that "
        f"one may stop whenever it leaves out zero. {decides}"
    )
    head = ("known at", "effect", "always-valid interval", "of the control's", "always-valid interval")
    return Table("The effect as it became known", explained, head, tuple(rows))


def harm(guard: Guard, value: float) -> str:
    """A change for the worse in the guardrail's units."""
    return share(value) if guard.of.relative else change(guard.of.metric, value)


def _guards(found: Found) -> Table:
    rows = [
        (
            TITLES[one.of.metric], level(one.of.metric, one.control), level(one.of.metric, one.treatment),
            harm(one, one.harm), f"{harm(one, one.low)} to {harm(one, one.high)}", harm(one, one.of.margin),
            one.state, one.said,
        )
        for one in found.guards
    ]  # fmt: skip
    head = ("guardrail", "control", "treatment", "change for the worse", "bounds", "margin", "state", "which means")
    explained = (
        "A guardrail is held where its upper bound is below its margin; bounds are one-sided, each at its own level."
    )
    return Table("Guardrails", explained, head, tuple(rows))


def _secondary(plan: Plan, found: Found) -> Table:
    rows = []
    for one in found.secondary:
        of = one.effect
        rows.append((
            TITLES[of.metric], level(of.metric, of.control), level(of.metric, of.treatment),
            change(of.metric, of.value), span(of.metric, of.low, of.high), p_said(of.p), p_said(one.q),
            p_said(one.q_any), "yes" if one.found else "no",
        ))  # fmt: skip
    head = ("metric", "control", "treatment", "effect", "interval", "p", "q (BH)", "q (BY)", "found")
    explained = (
        f"They decide nothing. Found: at a false-discovery rate of {plan.fdr:.0%} (q of Benjamini and Hochberg)."
    )
    return Table("Secondary metrics", explained, head, tuple(rows))


def _bands(plan: Plan, found: Found) -> Table:
    metric = plan.primary.metric
    rows = [
        (
            f"{KINDS[one.kind]}: {one.value}", f"{one.contacts:,}", change(metric, one.effect),
            span(metric, one.low, one.high), change(metric, one.shrunk), change(metric, one.apart), p_said(one.q),
            "yes" if one.found else "no",
        )
        for one in found.bands
    ]  # fmt: skip
    head = ("band", "contacts", "effect", "interval", "shrunk", "less the rest", "q", "differs")
    chosen = " and ".join(KINDS[kind] for kind in CHOSEN_BY_ARM)
    explained = (
        "The shrunk effect is the best guess of each: single bands are mostly lucky or unlucky. A band differs from "
        f"the rest at a false-discovery rate of {plan.fdr:.0%}. The {chosen} follows from whom the arm chose, so its "
        "bands also differ in whose contacts they are."
    )
    return Table("For whom", explained, head, tuple(rows))


def _asked(metric: str, title: str, one: Asked | None, nothing: str) -> tuple[str, str, str, str]:
    if one is None:
        return (title, UNTOLD, nothing, UNTOLD)
    return (title, change(metric, one.value), span(metric, one.low, one.high), p_said(one.p))


def _novelty(plan: Plan, found: Found) -> Table:
    metric = plan.primary.metric
    rows = [
        (
            f"{format_time(int(one.begins))[:16]} to {format_time(int(one.ends))[:16]}", change(metric, one.effect),
            span(metric, one.low, one.high), UNTOLD,
        )
        for one in found.novelty.stretches
    ]  # fmt: skip
    rows.append(_asked(metric, "change in a week", found.novelty.slope, "too few blocks to tell"))
    explained = "Does it fade as the new wears off, or grow as people learn? The last line is the trend."
    return Table("The effect since the start", explained, ("time", "effect", "interval", "p"), tuple(rows))


def _carry_over(plan: Plan, found: Found) -> Table | None:
    carried, metric = found.carry_over, plan.primary.metric
    if carried is None:
        return None
    rows = [
        (
            f"minutes {one.begins:.0f} to {one.ends:.0f} after a change", change(metric, one.effect),
            span(metric, one.low, one.high), UNTOLD,
        )
        for one in carried.minutes
    ]  # fmt: skip
    rows.append(_asked(metric, "early less later in a block", carried.early, "too few contacts to tell"))
    rows.append(
        _asked(metric, "what the arm before adds", carried.before, "arms alternate, so it cannot be told apart")
    )
    explained = (
        "What an arm leaves to the one after it. The first stretch is the wash-out, which counts nowhere else; if the "
        "last two lines are not zero, the wash-out is too short."
    )
    return Table("After a change of arm", explained, ("", "effect", "interval", "p"), tuple(rows))


def _taken(plan: Plan, found: Found) -> Table | None:
    parts, metric = found.taken, plan.primary.metric
    if parts is None:
        return None
    rows = (
        _asked(metric, "better CSAs take more", parts.who, ""),
        _asked(metric, "better matches, given who takes", parts.match, ""),
        _asked(metric, "contacts that nobody took", parts.nobody, ""),
        _asked("resolved", "share of contacts that the best fifth takes", parts.best, ""),
    )
    explained = (
        "The first three lines add up to the effect. What comes from better CSAs taking more is bounded by their time "
        f"and cannot be had twice. Past means of CSAs are {parts.source}."
    )
    return Table("Where the effect comes from", explained, ("part", "effect", "interval", "p"), rows)


def _fifths(plan: Plan, found: Found) -> Table | None:
    if found.taken is None:
        return None
    words = ("lowest past mean", "second", "third", "fourth", "highest past mean")
    rows = [(word, f"{a:.1%}", f"{b:.1%}") for word, (a, b) in zip(words, found.taken.fifths, strict=True)]
    head = ("fifth of CSAs", plan.control.name, plan.treatment.name)
    return Table("Who takes the contacts", "Shares of contacts that were taken.", head, tuple(rows))


def _value(found: Found) -> Table | None:
    worth = found.value
    if worth is None:
        return None
    rows = []
    for one in worth.parts:
        each = [1000 * part for part in (one.value, one.low, one.high)]
        rows.append(
            (TITLES[one.metric], change(one.metric, one.effect), *(money(part, worth.currency) for part in each))
        )
    each = [1000 * part for part in (worth.per_contact, worth.low, worth.high)]
    rows.append(("all together", "", *(money(part, worth.currency) for part in each)))
    rows.append(("a year at this traffic", "", *(money(part, worth.currency) for part in worth.per_year)))
    left = (
        f" Not measured, so not in it: {', '.join(TITLES[name] for name in worth.left_out)}." if worth.left_out else ""
    )
    explained = (
        f"By the plan's prices, per 1,000 contacts. It is worth something with probability {worth.positive:.0%}. The "
        f"interval is for a single look and knows both chance and how unsure prices are.{left}"
    )
    return Table("What it is worth", explained, ("outcome", "effect", "value", "low", "high"), tuple(rows))
