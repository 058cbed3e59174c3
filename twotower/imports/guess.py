"""Which column is what: names and values together, each guess with how sure it is and why.

A guess's confidence is 0.6 times what the name says and 0.4 times what the values say; values that cannot be rule it
out, and a few kinds of values (a column of telephone numbers) are a weak guess without a name. Columns and targets are
matched greedily, the surest pair first: a column is one thing, and a thing one column.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from twotower.imports.look import Look
from twotower.imports.names import likeness

SURE = 0.45
"""Confidence from which a guess is written down as one; below it is a TODO."""
NAME, VALUES = 0.6, 0.4


@dataclass(frozen=True)
class Guess:
    """That a column is a target."""

    target: str
    look: Look
    confidence: float
    why: str


def _time(look: Look) -> float:
    return 1.0 if look.formats else 0.6 if look.day_formats else 0.0


def _clock_or_time(look: Look) -> float:
    return max(_time(look), 0.5 * (look.share("clock") >= 0.9))


def _id(look: Look) -> float:
    if look.formats or look.words > 2:
        return 0.0
    return 0.4 + 0.6 * look.share_distinct


def _unique(look: Look) -> float:
    return _id(look) if look.share_distinct > 0.3 else 0.0


def _person(look: Look) -> float:
    """An employee's id or name: few, and each in many rows."""
    if look.formats or look.words > 4 or look.share("flag") > 0.9:
        return 0.0
    return 1.0 if look.share_distinct < 0.5 else 0.5


def _category(look: Look) -> float:
    if look.formats or look.words > 6 or look.distinct > 500:
        return 0.0
    return 1.0 if look.common else 0.6


def _text(look: Look) -> float:
    return 0.0 if look.formats or look.share("number") > 0.5 else min(1.0, look.words / 4)


def _number(look: Look) -> float:
    return look.share("number") if look.share("number") >= 0.8 else 0.0


def _rating(look: Look) -> float:
    few = look.distinct <= 101 and look.low is not None and look.low >= 0 and look.high is not None and look.high <= 100
    return _number(look) if few else 0.0


def _duration(look: Look) -> float:
    if (look.low is not None and look.low < 0) or look.formats:
        return 0.0
    return max(_number(look), look.share("clock") if look.share("clock") >= 0.8 else 0.0)


def _flag(look: Look) -> float:
    if not look.common or look.formats:
        return 0.0
    return 1.0 if look.share("flag") == 1 else 0.5 if look.distinct <= 8 else 0.0


def _language(look: Look) -> float:
    return look.share("language") if look.common and look.share("language") >= 0.8 else 0.0


def _customer(look: Look) -> float:
    if look.formats or look.words > 3:
        return 0.0
    return max(0.5, look.share("phone"), look.share("email"))


def _list(look: Look) -> float:
    joined = sum(1 for text in look.common if any(sign in text for sign in "|;,")) / max(1, len(look.common))
    return 0.0 if look.formats else 0.5 + 0.5 * joined


def _unlikely(look: Look) -> float:
    return 0.0 if look.formats else 0.5


FITS: dict[str, Callable[[Look], float]] = {
    "contact_id": _unique, "customer_id": _customer, "arrived_at": _time, "channel": _category, "queue": _category,
    "language": _language, "intent": _category, "intent_text": _text, "transcript": _text, "priority": _number,
    "abandoned_at": _time, "csa_id": _person, "assigned_at": _clock_or_time, "ended_at": _clock_or_time,
    "resolved": _flag, "csat": _rating, "quality_score": _rating, "handle_time_s": _duration, "wait_s": _duration,
    "transferred": _flag, "hired_at": _time, "left_at": _time, "team": _category, "site": _category, "languages": _list,
    "skills": _list, "profile": _unlikely, "capacity": _number, "cost": _number, "kind": _category, "since": _time,
    "starts_at": _time, "ends_at": _time,
}  # fmt: skip
"""How well values can be a target, 0 to 1; 0 rules it out."""
BY_VALUES: dict[str, tuple[Callable[[Look], bool], str]] = {
    "customer_id": (lambda look: max(look.share("phone"), look.share("email")) > 0.9, "telephone numbers or addresses"),
    "language": (lambda look: look.share("language") == 1 and bool(look.common), "all values are languages"),
    "intent_text": (lambda look: look.words >= 6, "whole sentences"),
    "contact_id": (lambda look: look.share("uuid") > 0.9 and look.share_distinct == 1, "a different UUID in each row"),
}
WITHOUT_NAME = 0.46
"""Confidence of what values alone say."""


def guess_of(look: Look, target: str) -> Guess | None:
    """How likely a column is a target; None where it cannot be."""
    if not look.filled:
        return None
    fit = FITS[target](look)
    if fit <= 0:
        return None
    name, phrase = likeness(look.name, target)
    if name > 0:
        return Guess(target, look, NAME * name + VALUES * fit, f"the name says {phrase!r}; {values_say(look)}")
    alone = BY_VALUES.get(target)
    if alone is not None and alone[0](look):
        return Guess(target, look, WITHOUT_NAME, f"{alone[1]}, by their look alone; {values_say(look)}")
    return None


def values_say(look: Look) -> str:
    """What the values are, in words: times and the names of a few kinds are shown, texts and ids never."""
    if look.formats:
        what = f"times like {look.examples[0]}"
    elif look.day_formats:
        what = f"dates like {look.examples[0]}"
    elif look.common and look.distinct <= 6 and look.words <= 3:
        what = "values " + ", ".join(look.common)
    elif look.share("phone") > 0.9 or look.share("email") > 0.9:
        what = "telephone numbers or addresses"
    elif look.share("number") >= 0.9 and look.low is not None and look.high is not None:
        what = f"numbers from {look.low:g} to {look.high:g}"
    else:
        what = f"texts of {look.words:.0f} words" if look.words >= 1.5 else "single words"
    return f"{look.distinct:,} distinct in {look.filled:,} of {look.rows:,} rows, {what}"


def match(looks: Sequence[Look], targets: Iterable[str]) -> dict[str, Guess]:
    """The surest guess of each target, every column used once."""
    every = [guess for look in looks for target in targets if (guess := guess_of(look, target)) is not None]
    every.sort(key=lambda guess: (-guess.confidence, looks.index(guess.look), guess.target))
    found: dict[str, Guess] = {}
    used: set[str] = set()
    for guess in every:
        if guess.target not in found and guess.look.name not in used:
            found[guess.target] = guess
            used.add(guess.look.name)
    return found
