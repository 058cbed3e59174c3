"""Findings as gauges in Prometheus' text format, for the textfile collector of node_exporter.

Notable: the file is replaced as a whole, so a scrape never reads half of one. A statistic that is not known has no
value (a gap in the graph, not a zero) and says so in `twotower_drift_unknown`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

from loop.drift.judge import Finding
from loop.drift.run import Drift
from twotower.files import atomic_write

GAUGES: tuple[tuple[str, str, Callable[[Finding], float | None]], ...] = (
    ("twotower_drift", "Value of a statistic in the newest window.", lambda one: one.value),
    ("twotower_drift_low", "Lower end of its usual range.", lambda one: one.low if one.p is not None else None),
    ("twotower_drift_high", "Upper end of its usual range.", lambda one: one.high if one.p is not None else None),
    ("twotower_drift_p", "Its p value after Benjamini and Hochberg.", lambda one: one.adjusted),
    ("twotower_drift_alarm", "1 where it is an alarm.", lambda one: float(one.status == "alarm")),
    ("twotower_drift_watch", "1 where it is to be watched.", lambda one: float(one.status == "watch")),
    ("twotower_drift_unknown", "1 where it is not known.", lambda one: float(one.status == "not known")),
)


def gauges(found: Drift) -> str:
    """The file's text, with a line end at its end."""
    lines = []
    for name, told, value_of in GAUGES:
        lines += [f"# HELP {name} {told}", f"# TYPE {name} gauge"]
        for one in found.findings:
            value = value_of(one)
            if value is not None and not math.isnan(value):
                lines.append(f'{name}{{group="{one.group}",statistic="{one.name}"}} {_number(value)}')
    whole = (
        ("twotower_drift_window_end_seconds", "End of the newest window, Unix time.", found.stop / 1e6),
        ("twotower_drift_window_contacts", "Contacts of the newest window.", float(found.contacts)),
        ("twotower_drift_alarms", "Statistics that are an alarm.", float(len(found.alarms))),
    )
    for name, told, number in whole:
        lines += [f"# HELP {name} {told}", f"# TYPE {name} gauge", f"{name} {_number(number)}"]
    return "\n".join(lines) + "\n"


def write_gauges(found: Drift, path: str | Path) -> None:
    """Replace the file. Raises OSError where it cannot be written."""
    atomic_write(path, gauges(found))


def _number(value: float) -> str:
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return repr(float(value))
