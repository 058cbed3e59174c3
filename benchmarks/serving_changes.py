"""Matching while the roster changes, beside matching while it rests, and while everyone is brought up to date.

    python benchmarks/serving_changes.py --csas 10000 --output docs/results/serving_changes.json
    python benchmarks/serving_changes.py --csas 10000 100000 --keep bundles

Notable: one thread matches without pause, another makes `--rate` changes a second by `update_roster` (joins, leaves,
states, skills), as a router has them. Rounds of rest and of change alternate, and the ratio of their 99 % is the median
of the rounds' ratios. What must hold is counted, not assumed: calls that failed; answers that began after a leave had
returned and name who left; and how long after it was told a CSA who joins is among the candidates of those listed.
Last, `rebuild` (all searches anew) and `refresh` (everyone's numbers, too) run in the other thread: their seconds, and
what matching took meanwhile.
"""

from __future__ import annotations

# ruff: noqa: E402 — numpy reads the number of threads when it is imported
import os

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"

import argparse
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from serving import Centre, K, Row, measure_sizes, options
from tqdm import tqdm

from evaluation.report_text import table
from serve.matcher import Matcher
from serve.roster.changes import Change, Join, Leave, RosterChange, State
from serve.roster.eligibility import Need

STAYS_BUSY = 0.95  # of the roster: 5 % are eligible, as in `serving.py`


class Call(NamedTuple):
    """One match: when it began and how long it took (s), and who was named; None where it failed."""

    begun: float
    seconds: float
    named: frozenset[str] | None


class Writer:
    """Changes of a roster, made at a rate until it is told to stop."""

    def __init__(self, matcher: Matcher, rate: float, seed: int) -> None:
        self.matcher, self.rate, self.rng = matcher, rate, np.random.default_rng(seed)
        self.present, self.joined = list(matcher.snapshot.ids), 0
        self.left: dict[str, float] = {}  # who left, and when the call had returned
        self.updates: list[float] = []
        self.until_found: list[float] = []
        self.declared = matcher.declared(self.present)

    def changes(self, contact: Row) -> Iterator[Callable[[], None]]:
        """Changes in turn, without end."""
        while True:
            yield lambda: self.join(contact)
            yield self.leave
            yield lambda: self.told(State(self._some(), "idle" if self.rng.random() > STAYS_BUSY else "busy"))
            yield lambda: self.told(Change(self._some(), {"skills": self._like_somebody()["skills"]}))

    def told(self, change: RosterChange) -> None:
        """One change, and what it took."""
        begun = time.perf_counter()
        self.matcher.update_roster([change])
        self.updates.append(time.perf_counter() - begun)

    def join(self, contact: Row) -> None:
        """Somebody like one who is there joins; how long until a match of theirs names them."""
        self.joined += 1
        csa_id, begun = f"joined-{self.joined}", time.perf_counter()
        self.told(Join(csa_id, self._like_somebody()))
        while csa_id not in {one.csa_id for one in self.matcher.match(contact, 1, [csa_id])}:
            pass
        self.until_found.append(time.perf_counter() - begun)
        self.present.append(csa_id)

    def leave(self) -> None:
        """Somebody leaves for good."""
        csa_id = self.present.pop(int(self.rng.integers(len(self.present))))
        self.told(Leave(csa_id))
        self.left[csa_id] = time.perf_counter()

    def run(self, contact: Row, seconds: float) -> None:
        """Changes at the rate, for so long."""
        begun = time.perf_counter()
        for i, change in enumerate(self.changes(contact)):
            if (wait := begun + i / self.rate - time.perf_counter()) > 0:
                time.sleep(wait)
            if time.perf_counter() - begun >= seconds:
                return
            change()

    def _some(self) -> str:
        return self.present[int(self.rng.integers(len(self.present)))]

    def _like_somebody(self) -> dict[str, Any]:
        csa = self.declared[int(self.rng.integers(len(self.declared)))]
        return {name: value for name, value in csa.items() if name != "csa_id"}


def matched(matcher: Matcher, contacts: list[Row], going: Callable[[], bool]) -> list[Call]:
    """Matches one after another as long as `going` says."""
    found: list[Call] = []
    while going():
        begun = time.perf_counter()
        try:
            named = frozenset(one.csa_id for one in matcher.match(contacts[len(found) % len(contacts)], K, Need()))
        except Exception:  # counted: a router would have nobody
            named = None
        found.append(Call(begun, time.perf_counter() - begun, named))
    return found


def beside(work: Callable[[], None], matcher: Matcher, contacts: list[Row]) -> tuple[list[Call], float]:
    """Matches while `work` runs in a thread of its own, and the seconds that it took. Raises what it raised."""
    took, failed = [0.0], []

    def timed() -> None:
        begun = time.perf_counter()
        try:
            work()
        except Exception as error:
            failed.append(error)
        took[0] = time.perf_counter() - begun

    thread = threading.Thread(target=timed)
    thread.start()
    calls = matched(matcher, contacts, thread.is_alive)
    thread.join()
    if failed:
        raise failed[0]
    return calls, took[0]


def percentile(values: list[float], share: float) -> float:
    """In ms."""
    return float(np.percentile(values, share) * 1e3)


def late(calls: list[Call], left: dict[str, float]) -> int:
    """Answers that name somebody whose leave had returned before they began."""
    return sum(any(left.get(csa_id, np.inf) < call.begun for csa_id in call.named or ()) for call in calls)


class Changing:
    """What is measured, by the size of the roster."""

    def __init__(self, args: argparse.Namespace, scratch: Path) -> None:
        self.args = args
        self.centre = Centre(args.keep or scratch, args)

    def measure(self, csas: int) -> tuple[list[Row], str]:
        """Rest, change, building searches anew, and bringing everyone up to date."""
        matcher, contacts = Matcher.load(self.centre.scaled(csas)), self.centre.contacts
        writer = Writer(matcher, self.args.rate, self.args.seed)
        busy = writer.rng.random(csas) < STAYS_BUSY
        matcher.update_roster([State(writer.present[code], "busy") for code in np.flatnonzero(busy)])
        matched(matcher, contacts, iter([True] * 200 + [False]).__next__)
        writer.run(contacts[0], 1.0)
        rounds = [self.round(writer, contacts) for _ in tqdm(range(self.args.rounds), f"{csas:,} CSAs", disable=None)]
        row = {
            "csas": csas, "eligible": csas - int(busy.sum()),
            "rounds": rounds,
            "ratio": float(np.median([one["changing_p99_ms"] / one["quiet_p99_ms"] for one in rounds])),
            "joiner_longest_ms": percentile(writer.until_found, 100),
            "update_p99_ms": percentile(writer.updates, 99),
        }  # fmt: skip
        for name, work in (("rebuild", matcher.rebuild), ("refresh", matcher.refresh)):
            calls, seconds = beside(work, matcher, contacts)
            spent = [call.seconds for call in calls]
            row |= {f"{name}_s": seconds, f"{name}_failed": sum(call.named is None for call in calls)}
            row |= {f"{name}_p{p}_ms": percentile(spent, p) for p in (50, 99)}
        return [row], told(row)

    def round(self, writer: Writer, contacts: list[Row]) -> dict[str, Any]:
        """One round of rest, and one of change."""
        matcher, seconds = writer.matcher, self.args.seconds
        end = time.perf_counter() + seconds
        quiet = matched(matcher, contacts, lambda: time.perf_counter() < end)
        before = len(writer.updates)
        changing, _ = beside(lambda: writer.run(contacts[0], seconds), matcher, contacts)
        found: dict[str, Any] = {}
        for name, calls in (("quiet", quiet), ("changing", changing)):
            spent = [call.seconds for call in calls]
            found |= {f"{name}_p{p}_ms": percentile(spent, p) for p in (50, 99)} | {f"{name}_calls": len(calls)}
        failed = sum(call.named is None for call in (*quiet, *changing))
        return found | {
            "changes": len(writer.updates) - before, "failed": failed, "named_who_left": late(changing, writer.left)
        }  # fmt: skip


def told(row: Row) -> str:
    """A table for people."""
    head = [
        f"{row['csas']:,} CSAs",
        "quiet, p50 / p99 ms",
        "changing, p50 / p99 ms",
        "changes",
        "failed",
        "named who left",
    ]
    lines = [head]
    for place, one in enumerate(row["rounds"]):
        pairs = [f"{one[f'{n}_p50_ms']:.2f} / {one[f'{n}_p99_ms']:.2f}" for n in ("quiet", "changing")]
        lines.append([f"round {place + 1}", *pairs, *(f"{one[n]:,}" for n in ("changes", "failed", "named_who_left"))])
    return (
        f"{table(lines)}\np99 changing / quiet: {row['ratio']:.2f}; a joiner was found after at most "
        f"{row['joiner_longest_ms']:.1f} ms; an update took {row['update_p99_ms']:.2f} ms at 99 %\n"
        + "\n".join(
            f"{what} in {row[f'{name}_s']:.1f} s, matching meanwhile p50 {row[f'{name}_p50_ms']:.2f}, "
            f"p99 {row[f'{name}_p99_ms']:.2f} ms, {row[f'{name}_failed']} failed"
            for name, what in (("rebuild", "searches built anew"), ("refresh", "everyone brought up to date"))
        )
    )


def main() -> None:
    """Parse options, measure size after size."""
    parser = options(__doc__)
    parser.add_argument("--rate", type=float, default=20.0, help="changes a second (default 20)")
    parser.add_argument("--seconds", type=float, default=10.0, help="of rest and of change in a round (default 10)")
    parser.add_argument("--rounds", type=int, default=3)
    measure_sizes(parser.parse_args(), Changing)


if __name__ == "__main__":
    main()
