"""How often `twotower drift` alarms where nothing drifts, and whether it finds what does and calls it by its name.

Generates centres with one seed each, judges their newest week by the weeks before, and then the same week spoilt in one
way at a time. Claims: no alarm in 95 % of the calm weeks; every kind of drift is named in 90 %; labels that come two
days later never look like a fall of the outcome rate.

    python benchmarks/drift.py --seeds 40
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from evaluation.generate.centre import generate
from evaluation.generate.settings import Settings
from loop.drift.run import Drift, drift
from twotower.clock import DAY, HOUR, NEVER
from twotower.files import atomic_write
from twotower.tables.log import Contacts, Csas, Handovers, Log, take_rows

Random = np.random.Generator
WORDS = ["wallet", "blockchain", "token", "staking", "ledger", "mining", "swap", "airdrop"]


@dataclass(frozen=True)
class Spoilt:
    """A kind of drift: what it makes of a log from `start` on, and what must be (one of `named`) and must not be an
    alarm (none of `never`)."""

    make: Callable[[Log, int, Random], Log]
    named: tuple[str, ...]
    never: tuple[str, ...] = ()


def centre(folder: Path, seed: int, weeks: int = 12, contacts: int = 750, csas: int = 80) -> Log:
    """A generated centre of so many contacts a week, with logged propensities."""
    made = folder / f"centre-{seed}"
    generate(Settings(contacts * weeks, csas, seed=seed, days=7 * weeks, propensities=True), made)
    return Log.load(made)


def newest(log: Log, days: int = 7) -> int:
    """Where the newest window begins, µs UTC."""
    return int(log.contacts.arrived_at[-1]) + 1 - days * DAY


def new_intent(log: Log, start: int, random: Random) -> Log:
    """Every twelfth contact asks for something new."""
    return _labels(log, "intent", (log.contacts.arrived_at >= start) & (random.random(len(log.contacts)) < 1 / 12),
                   "crypto_wallet")  # fmt: skip


def new_language(log: Log, start: int, random: Random) -> Log:
    """Every twentieth contact speaks a language that nobody spoke before."""
    return _labels(log, "language", (log.contacts.arrived_at >= start) & (random.random(len(log.contacts)) < 1 / 20),
                   "pl")  # fmt: skip


def other_words(log: Log, start: int, random: Random) -> Log:
    """Every fifth contact writes of something else."""
    which = (log.contacts.arrived_at >= start) & (random.random(len(log.contacts)) < 1 / 5)
    texts = np.array(log.contacts.intent_text.to_pylist(), dtype=object)
    texts[which] = [" ".join(random.choice(WORDS, 12)) for _ in range(int(which.sum()))]
    return _contacts(log, intent_text=pa.array(texts.tolist(), log.contacts.intent_text.type))


def fall(log: Log, start: int, random: Random, points: float = 0.15) -> Log:
    """Fifteen points fewer are resolved; outcomes become known when they did."""
    moves = log.handovers
    here = (moves.assigned_at >= start) & (moves.resolved >= 0)
    good = here & (moves.resolved == 1)
    lost = good & (random.random(len(moves)) < points * here.sum() / max(good.sum(), 1))
    return _handovers(log, resolved=np.where(lost, np.int8(0), moves.resolved))


def late(log: Log, start: int, random: Random) -> Log:
    """Every outcome of the window becomes known two days later."""
    return _later(log, log.handovers.assigned_at >= start)


def late_successes(log: Log, start: int, random: Random) -> Log:
    """Only the good ones do, as where a contact counts as resolved once nobody came back."""
    return _later(log, (log.handovers.assigned_at >= start) & (log.handovers.resolved == 1))


def joiners(log: Log, start: int, random: Random, count: int = 14) -> Log:
    """Fourteen CSAs who had worked for weeks begin in the window instead; others did what they did before it."""
    moves, csas = log.handovers, log.csas
    work = np.bincount(moves.csa[moves.assigned_at >= start], minlength=len(csas))
    new = np.argsort(-work, kind="stable")[5 : 5 + count]
    others = np.setdiff1d(np.flatnonzero(csas.active_at(start)), new)
    taken = np.isin(moves.csa, new) & (moves.assigned_at < start + DAY)
    hired = np.where(np.isin(csas.csa, new), start + 6 * HOUR, csas.hired_at)
    made = replace(log, csas=_csas(csas, hired_at=hired, valid_from=np.minimum(csas.valid_from, hired)))
    return _handovers(made, csa=np.where(taken, random.choice(others, len(moves)), moves.csa).astype(np.int32))


def collapse(log: Log, start: int, random: Random) -> Log:
    """Three CSAs are given everything."""
    moves = log.handovers
    chosen = random.choice(np.flatnonzero(log.csas.active_at(start)), 3, replace=False)
    csa = np.where(moves.assigned_at >= start, random.choice(chosen, len(moves)), moves.csa)
    return _handovers(log, csa=csa.astype(np.int32))


def greedy(log: Log, start: int, random: Random) -> Log:
    """Chance has no say any more."""
    moves = log.handovers
    return _handovers(log, propensity=np.where(moves.assigned_at >= start, np.float32(1), moves.propensity))


FALLS = ("outcome.resolved", "outcome.resolved_mature")
WORK = ("feedback.effective_csas", "feedback.gini", "feedback.idle")
SPOILT = {
    "new intent": Spoilt(new_intent, ("input.new_intents",)),
    "new language": Spoilt(new_language, ("input.new_languages",)),
    "other words": Spoilt(other_words, ("input.words",)),
    "fall by 15 points": Spoilt(fall, FALLS[:1]),
    "labels two days late": Spoilt(late, ("labels.timely",), FALLS),
    "successes two days late": Spoilt(late_successes, ("labels.timely",), FALLS),
    "wave of joiners": Spoilt(joiners, ("roster.joiners",)),
    "collapse on three": Spoilt(collapse, WORK),
    "no chance any more": Spoilt(greedy, ("feedback.chance",)),
}


def main() -> None:
    """Prints a table and the JSON, to `--output` as well."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=20, help="centres")
    parser.add_argument("--weeks", type=int, default=12, help="of each")
    parser.add_argument("--contacts", type=int, default=750, help="a week")
    parser.add_argument("--calm-only", action="store_true", help="only how often calm weeks alarm")
    parser.add_argument("--output", type=Path, default=None, help="write the figures here as JSON")
    args = parser.parse_args()
    found = measure(args.seeds, args.weeks, args.contacts, {} if args.calm_only else SPOILT)
    print(f"{'':<26} {'found':>6} {'other alarms':>13} {'wrongly':>8}")
    for name, row in found["spoilt"].items():
        print(f"{name:<26} {row['found']:>6.0%} {row['others']:>13.2f} {row['wrong']:>8.0%}")
    calm = found["calm"]
    print(f"{calm['weeks']} calm weeks: {calm['alarmed']:.1%} with an alarm, {calm['watched']:.1%} with a watch")
    text = json.dumps({"drift": found}, indent=2)
    print(text)
    if args.output:
        atomic_write(args.output, text + "\n")


def measure(seeds: int, weeks: int, contacts: int, spoilt: dict[str, Spoilt]) -> dict[str, Any]:
    """Alarms of calm weeks, the last of each centre and the one two before it, and of spoilt ones."""
    calm: list[Drift] = []
    rows = {name: Counter[str]() for name in spoilt}
    for seed in range(seeds):
        with tempfile.TemporaryDirectory() as folder:
            log = centre(Path(folder), seed, weeks, contacts)
        start = newest(log)
        calm += [drift(log), drift(log, stop=start - 7 * DAY)]
        for name, kind in spoilt.items():
            names = {one.name for one in drift(kind.make(log, start, np.random.default_rng(seed))).alarms}
            rows[name]["found"] += bool(names & set(kind.named))
            rows[name]["others"] += len(names - set(kind.named))
            rows[name]["wrong"] += bool(names & set(kind.never))
    alarms = Counter(one.name for week in calm for one in week.alarms)
    return {
        "seeds": seeds, "weeks": weeks, "contacts": contacts,
        "calm": {
            "weeks": len(calm), "alarmed": float(np.mean([not week.ok for week in calm])),
            "watched": float(np.mean([bool(week.of("watch")) for week in calm])), "alarms": dict(alarms.most_common()),
        },
        "spoilt": {name: {what: row[what] / seeds for what in ("found", "others", "wrong")}
                   for name, row in rows.items()},
    }  # fmt: skip


def _later(log: Log, which: Any, by: int = 2 * DAY) -> Log:
    moves = log.handovers
    return _handovers(log, known_at=np.where(which & (moves.known_at < NEVER), moves.known_at + by, moves.known_at))


def _labels(log: Log, column: str, which: Any, label: str) -> Log:
    values = np.array(getattr(log.contacts, column).to_pylist(), dtype=object)
    values[which] = label
    return _contacts(log, **{column: pa.array(values.tolist(), getattr(log.contacts, column).type)})


def _contacts(log: Log, **columns: Any) -> Log:
    contacts: Contacts = replace(log.contacts, **columns)
    return replace(log, contacts=contacts)


def _csas(csas: Csas, **columns: Any) -> Csas:
    return replace(csas, **columns)


def _handovers(log: Log, **columns: Any) -> Log:
    """Changed and in order again."""
    made: Handovers = replace(log.handovers, **columns)
    return replace(log, handovers=take_rows(made, np.lexsort((made.csa, made.contact, made.known_at))))


if __name__ == "__main__":
    main()
