"""Drift of a data set: every statistic of the newest window, judged by the windows before it.

Notable: nothing here trains, and nothing later than the end of the newest window is read, so the same call on the same
tables says the same whenever it is made. A retraining step calls `drift` and keeps `as_json` beside what it decided.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loop.drift.calibrated import calibration
from loop.drift.inputs import inputs
from loop.drift.judge import RATE, Finding, Status, judged
from loop.drift.outcomes import Maturation, maturation, outcomes
from loop.drift.people import feedback, roster
from loop.drift.series import Series, unknown
from loop.drift.texts import vectors, words
from loop.drift.windows import Windows
from twotower.cli import plain
from twotower.clock import format_time
from twotower.errors import ConfigError
from twotower.tables.log import Log

if TYPE_CHECKING:
    from serve.rolling import RollingMatcher

FEW = 8


@dataclass(frozen=True)
class Drift:
    """What was found. start, stop: the newest window, µs UTC; edges: of all windows; maturation: (days since the
    hand-over, share of outcomes known); bundle: its digest."""

    start: int
    stop: int
    days: int
    edges: tuple[int, ...]
    contacts: int
    handovers: int
    rate: float
    findings: tuple[Finding, ...]
    maturation: tuple[tuple[float, float], ...]
    notes: tuple[str, ...]
    bundle: str | None = None

    def of(self, *statuses: Status) -> tuple[Finding, ...]:
        """The findings of some statuses, the least likely first."""
        found = [one for one in self.findings if one.status in statuses]
        return tuple(sorted(found, key=lambda one: 2.0 if one.p is None else one.p))

    @property
    def alarms(self) -> tuple[Finding, ...]:
        """What is to be acted on."""
        return self.of("alarm")

    @property
    def ok(self) -> bool:
        """Whether there is no alarm."""
        return not self.alarms

    def finding(self, name: str) -> Finding:
        """The finding of that name. Raises KeyError."""
        for one in self.findings:
            if one.name == name:
                return one
        raise KeyError(name)

    def as_json(self) -> dict[str, Any]:
        """Everything, with times as ISO 8601 and NaN as null."""
        data: dict[str, Any] = plain(
            {
                "from": format_time(self.start), "to": format_time(self.stop), "window_days": self.days,
                "window_ends": [format_time(edge) for edge in self.edges[1:]], "contacts": self.contacts,
                "handovers": self.handovers, "rate": self.rate, "bundle": self.bundle, "ok": self.ok,
                "alarms": [one.name for one in self.alarms], "watch": [one.name for one in self.of("watch")],
                "findings": [one.as_json() for one in self.findings], "maturation": self.maturation,
                "notes": self.notes,
            }
        )  # fmt: skip
        return data


def drift(
    data: str | Path | Log,
    bundle: str | Path | None = None,
    start: int | None = None,
    stop: int | None = None,
    days: int = 7,
    rate: float = RATE,
    digest: str | None = None,
    seed: int = 0,
) -> Drift:
    """Judge the newest window of a data set.

    Args:
        data: folder of tables, or a log.
        bundle: of which calibration, text vectors and roster are watched.
        start: µs UTC; None: the first contact. Windows begin there or later.
        stop: µs UTC, end of the newest window; None: just after the last contact.
        days: length of a window.
        rate: chance of any alarm where nothing drifts.
        digest: that the bundle must have.
        seed: which contacts and hand-overs of very large windows are read.

    Raises:
        DataError: the tables cannot be read. ConfigError: too few windows, or options that cannot be. BundleError: the
        bundle cannot be trusted.
    """
    if not 0 < rate < 0.5:
        raise ConfigError(
            f"--rate {rate:g}: the chance of a false alarm is more than 0 and less than 0.5; 0.05 is usual"
        )
    if start is not None and stop is not None and start >= stop:
        raise ConfigError(f"--from {format_time(start)}: is not before --to {format_time(stop)}")
    windows = Windows.of(data if isinstance(data, Log) else Log.load(data), days, start, stop)
    rolling = None if bundle is None else _rolling(bundle, windows.log, digest)
    curve = maturation(windows)
    findings = judged(list(_series(windows, curve, rolling, seed)), rate)
    newest = windows.contacts(len(windows) - 1)
    return Drift(
        int(windows.edges[-2]), int(windows.edges[-1]), days, tuple(int(edge) for edge in windows.edges),
        newest.stop - newest.start, len(windows.handovers(len(windows) - 1)), rate, findings,
        tuple(curve.points()), tuple(_notes(windows, rolling, findings)),
        None if rolling is None else rolling.bundle.manifest.id,
    )  # fmt: skip


def _rolling(bundle: str | Path, log: Log, digest: str | None) -> RollingMatcher:
    from serve.matcher import Matcher
    from serve.rolling import RollingMatcher

    return RollingMatcher(Matcher.load(bundle, digest), log)


def _series(windows: Windows, curve: Maturation, rolling: RollingMatcher | None, seed: int) -> Iterator[Series]:
    yield from inputs(windows)
    yield words(windows, seed)
    until = None if rolling is None else int(rolling.bundle.manifest.window["until"])
    if rolling is None or until is None:
        yield unknown("input.vectors", len(windows), "no --bundle was given")
    else:
        yield vectors(windows, rolling, seed)
    yield from outcomes(windows, curve)
    yield from calibration(windows, curve, rolling, until or 0, seed)
    yield from roster(windows, None if rolling is None else rolling.bundle.roster.ids, until)
    yield from feedback(windows)


def _notes(windows: Windows, rolling: RollingMatcher | None, findings: tuple[Finding, ...]) -> Iterator[str]:
    earlier = len(windows) - 1
    if earlier < FEW:
        yield (
            f"only {earlier} earlier windows say what is usual: ranges are wide, and only what is far outside is "
            f"found; {FEW} or more are better"
        )
    if windows.days % 7:
        yield f"windows of {windows.days} days differ in their days of the week; 7, 14 or 28 compare like with like"
    before = int((windows.log.contacts.arrived_at < windows.edges[0]).sum())
    if before:
        yield f"{before:,} contacts before the first whole window count as past, not as a window"
    if rolling is not None and rolling.calibrated:
        gap = next(one for one in findings if one.name == "calibration.gap")
        if gap.p is not None and gap.windows < earlier and sum(value == value for value in gap.values[:-1]) < 4:
            yield (
                "calibration: the usual range is what sampling alone makes of a calibrated model, as fewer than four "
                "earlier windows are newer than the bundle"
            )
