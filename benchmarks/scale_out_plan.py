"""The plan of a centre of any size from measured rates and bytes: processor hours, hours on a cluster, bytes, cost.

Notable: arithmetic alone, so that every number of a page is printed by a script. A rate is that of one process on one
processor of the machine that was measured; hours assume that work spreads over the cluster as far as it has parts,
which is said for each line. Cost is processor hours times a price that is given.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

YEAR, HOURS = 365.0, 3600.0
WINDOW = 90.0  # days that are trained on
EPOCHS = 10.0
POLICIES, REPLICATIONS = 4.0, 20.0
HOST_GB = 256.0


@dataclass(frozen=True)
class Line:
    """A part of the plan: how many units, how often, and how it is cut. at_once: parts that can run side by side."""

    part: str
    units: float
    rate: float
    at_once: float
    how: str

    def core_hours(self) -> float:
        """Of one processor."""
        return self.units / self.rate / HOURS


def lines_of(found: dict[str, Any], handovers: float, csas: float) -> list[Line]:
    """The parts, for hand-overs of one year."""
    rate = {one["part"]: float(one["local_per_s"]) for one in found["rates"]}
    day, window = handovers / YEAR, handovers / YEAR * WINDOW
    return [
        Line("texts, whole year, once", handovers, rate["texts embedded"], handovers / 16384, "`embed`, by batches"),
        Line("texts of a day", day, rate["texts embedded"], day / 16384, "`embed`, by batches"),
        Line("history, whole year, once", handovers, rate["history, numpy"], csas, "`features`, by shards of CSAs"),
        Line("history, compiled", handovers, rate["history, compiled"], csas, "`RayWalk`, by shards of CSAs"),
        Line("history of a day", day, rate["history, numpy"], csas, "the state of yesterday, advanced"),
        Line("CSA vectors", csas, rate["CSAs embedded"], csas / 4096, "`features`, by rounds"),
        Line(
            f"training, {WINDOW:.0f} days × {EPOCHS:.0f} epochs", window * EPOCHS, rate["training"], 64,
            "`train`, as many workers",
        ),
        Line(
            f"simulated day, {POLICIES:.0f} policies × {REPLICATIONS:.0f}", day * POLICIES * REPLICATIONS,
            rate["simulation"], REPLICATIONS, "`simulate`, by replications",
        ),
    ]  # fmt: skip


def bytes_of(found: dict[str, Any], handovers: float, csas: float) -> list[tuple[str, float, str]]:
    """What lies where, in bytes."""
    of, window = found["bytes"], handovers / YEAR * WINDOW
    snapshots = YEAR / 7
    return [
        ("tables, Parquet", of["tables_per_handover"] * handovers, "shared storage"),
        ("vectors of contacts", of["vectors_per_contact"] * handovers, "shared storage, if kept"),
        ("streams of the history, whole year", of["stream_per_handover"] * handovers, "the process that cuts shards"),
        ("streams of a day", of["stream_per_handover"] * handovers / YEAR, "the same"),
        ("state of all CSAs", of["state_per_csa"] * csas, "`features.state`"),
        ("weekly features of all CSAs", of["features_per_csa"] * csas * snapshots, "every training process"),
        (f"contacts of {WINDOW:.0f} days, prepared", of["training_per_contact"] * window, "every training process"),
        ("contacts of a year, prepared", of["training_per_contact"] * handovers, "every training process"),
    ]


def fits(found: dict[str, Any], csas: float) -> float:
    """Contacts that a training process of HOST_GB holds beside the weekly features of all CSAs."""
    of = found["bytes"]
    left = HOST_GB * 2**30 - of["features_per_csa"] * csas * YEAR / 7
    return max(0.0, left / of["training_per_contact"])


def plan_report(found: dict[str, Any], handovers: float, csas: float, cores: int, price: float) -> str:
    """The plan as Markdown."""
    rows = [
        f"| part | units | a second, one core | core hours | hours on {cores:,} cores | cost at {price:g} | cut by |",
        "| --- | ---: | ---: | ---: | ---: | ---: | --- |",
    ]
    for one in lines_of(found, handovers, csas):
        hours = one.core_hours() / max(1.0, min(cores, one.at_once))
        rows.append(
            f"| {one.part} | {one.units:,.0f} | {one.rate:,.0f} | {one.core_hours():,.1f} | {hours:,.2f} | "
            f"{one.core_hours() * price:,.2f} | {one.how} |"
        )
    rows += ["", "| bytes | GiB | where |", "| --- | ---: | --- |"]
    rows += [f"| {what} | {size / 2**30:,.1f} | {where} |" for what, size, where in bytes_of(found, handovers, csas)]
    rows += [
        "",
        f"A training process of {HOST_GB:.0f} GiB holds {fits(found, csas):,.0f} contacts beside all CSAs' features.",
    ]
    return "\n".join(rows)
