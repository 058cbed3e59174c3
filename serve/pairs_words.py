"""An explanation in sentences that a supervisor reads: no names of columns, no formulas, numbers with their sign."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from serve.pairs_families import IDENTITY, LEARNED, TEXT, WHOLE
from twotower.features.registry import FAMILIES

if TYPE_CHECKING:
    from serve.pairs import Explanation, Family, Handover, Kind, Past

PERSONAL = "This tells of one person: show it only to those whose task it is, and keep it no longer than they need it."
LEAST_SHARE = 0.02  # of all shares; families below are told together
ALIKE = ((0.9, "almost the same"), (0.7, "very alike"), (0.4, "alike"), (0.1, "a little alike"))
_FAMILIES = {
    TEXT: "what the customer wrote",
    IDENTITY: "what is known of this very CSA beyond their features",
    LEARNED: "what outcomes have taught of the CSA since training",
    WHOLE: "how the CSA differs from the average one",
    **FAMILIES,
}
# Of the memory: what a part is about, whose hand-overs are behind it.
_MEMORY: tuple[tuple[str, tuple[Kind, ...], str], ...] = (
    ("csa", ("like work",), "How past contacts like this one ended with the CSA"),
    ("csa", ("amount of work",), "How much the CSA has done lately, and how much of it like this contact"),
    ("pair", ("pairing",), "How this customer's earlier contacts ended with the CSA"),
    ("pair", ("amount of pairing",), "How often the CSA has served this customer before"),
)


def sentences(it: Explanation) -> list[str]:
    """What an explanation says, the probability first."""
    contact = "this contact" if it.contact_id is None else f"contact {it.contact_id}"
    said = [_probability(it, contact)]
    by = "that it ends well" if it.rank == "success" else "that the CSA takes it and it ends well"
    said.append(
        f"The score {_signed(it.score)} weighs the chance {by}, on a logarithmic scale, as it was on {_time(it.at)}; "
        "it is the sum of what follows."
    )
    said += _contact(it)
    said += _profile(it)
    for scope, kinds, about in _MEMORY:
        parts = [part for part in it.parts if part.kind in kinds]
        past = next((one for one in it.past if one.scope == scope), None)
        if parts:
            value, without = (sum(getattr(part, name) for part in parts) for name in ("value", "without"))
            said += _memory(about, value, without, past, [part.name for part in parts])
    return [*said, *it.notes, PERSONAL]


def _probability(it: Explanation, contact: str) -> str:
    if it.p_resolved is None or it.between is None:
        return f"No probability can be told for {it.csa_id} and {contact}: the records have no contacts that failed."
    low, high = map(_percent, it.between)
    between = "" if low == high else f"; from what is known it may be {low} to {high}"
    return f"{it.csa_id} is expected to resolve {contact} with a probability of {_percent(it.p_resolved)}{between}."


def _percent(probability: float) -> str:
    """In whole percents; what would round to none or all is neither."""
    if probability <= 0.005:
        return "less than 1%"
    return "more than 99%" if probability >= 0.995 else f"{probability:.0%}"


def _contact(it: Explanation) -> list[str]:
    said = []
    for part in it.parts:
        if part.kind == "level":
            said.append(f"How hard the contact is counts {_signed(part.value)}; this is the same whoever takes it.")
        if part.kind == "success":
            said.append(f"The chance that it ends well, once the CSA has it, counts {_signed(part.value)}.")
    return said


def _profile(it: Explanation) -> list[str]:
    part = next(part for part in it.parts if part.kind == "profile")
    whole = sum(abs(family.share) for family in it.families)
    told = [family for family in it.families if abs(family.share) >= LEAST_SHARE * whole and family.share]
    said = f"How the contact and the CSA fit by what is known of both counts {_signed(part.value)}"
    neutral = f"an average CSA with a contact of which nothing is known has {_signed(part.without)}"
    if not told:
        return [f"{said}; {neutral}."]
    rest = sum(family.share for family in it.families if family not in told)
    parts = [f"{_named(family)} {_signed(family.share)}" for family in told]
    if abs(rest) >= 0.005:
        parts.append(f"all else {_signed(rest)}")
    return [f"{said}; {neutral}.", f"The difference is made by {_listed(parts, '; ')}."]


def _named(family: Family) -> str:
    return _FAMILIES.get(family.name, family.name)


def _memory(about: str, value: float, without: float, past: Past | None, names: Sequence[str]) -> list[str]:
    if past is None or not past.count:
        return [f"{about} counts {_signed(value)}: no such contact is remembered."]
    base = f", where nothing at all would count {_signed(without)}" if abs(without) >= 0.005 else ""
    many = f"{past.count} are remembered" if past.count > 1 else "one is remembered"
    shares = [(one, sum(one.shares[name] for name in names)) for one in past.top]
    told = [f"{_handover(one)} {_signed(share)}" for one, share in shares if abs(share) >= 0.005]
    said = [f"{about} counts {_signed(value)}{base}: {many}."]
    others, count = sum(past.others[name] for name in names), past.count - len(past.top)
    if told:
        more = [f"the other {count} together {_signed(others)}"] if count else []
        said.append(f"The strongest of these: {_listed([*told, *more], '; ')}.")
    return said


def _handover(one: Handover) -> str:
    day = one.known_at[:10]
    like = next((word for least, word in ALIKE if one.likeness >= least), "unlike")
    if one.outcome is None:
        tone = "better" if one.better > 0 else "worse"
        return f"{one.stands_for:.0f} older ones up to {day} that went {tone} than expected ({like})"
    end = {"resolved": "resolved", "not resolved": "not resolved", "unknown": "end unknown"}[one.outcome]
    which = "the contact" if one.contact_id is None else f"contact {one.contact_id}"
    return f"{which} of {day} ({end}, {like})"


def _listed(parts: Sequence[str], between: str = ", ") -> str:
    if len(parts) < 2:
        return "".join(parts)
    return f"{between.join(parts[:-1])}{';' if ';' in between else ''} and {parts[-1]}"


def _time(at: str) -> str:
    return f"{at[:10]} at {at[11:16]} UTC"


def _signed(value: float) -> str:
    return f"{round(value, 2) + 0.0:+.2f}"  # no minus before a zero
