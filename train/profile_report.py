"""What a profile says: rates beside ceilings and shares of the step, for JSON and for people.

Notable: contacts a second come from steps that nothing listened to; shares come from traced ones, which are slower, and
the table says by how much. Rates are those of the process that was profiled, with the operations and bytes of the one
step that was counted, by contact.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from train.ceilings import Ceilings
from train.costs import NOT_COUNTED, Costs
from train.profile_trace import Parts

LARGEST = 5  # operators named that move most
ESTIMATE = "every operator reads its inputs and writes its outputs once; nothing stays in a cache"
UNITS = ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""))


@dataclass(frozen=True)
class Measured:
    """What was seen of a run: `kind` step or sweep, `labels` of its parts; steps planned and `done`, contacts (`rows`)
    and `seconds`, by phase (`train.profile.Plan`); `costs` of the counted step, `parts` of the traced ones, None where
    the run ended before there was one."""

    kind: str
    labels: Mapping[str, str]
    plan: Mapping[str, int]
    done: Mapping[str, int]
    rows: Mapping[str, int]
    seconds: Mapping[str, float]
    costs: Costs | None
    parts: Parts | None
    precision: str
    processes: int


def facts_of(measured: Measured, ceilings: Ceilings) -> dict[str, Any]:
    """What profile.json holds."""
    timed = "timed" if measured.done.get("timed") else "traced"
    steps, seconds = measured.done.get(timed, 0), measured.seconds.get(timed, 0.0)
    contacts = measured.rows.get(timed, 0)
    contacts_per_s, each = contacts / seconds if seconds else None, seconds / steps if steps else None
    speed = {
        "from": f"{timed} {measured.kind}s",
        "s": each,
        "contacts": contacts / steps if steps else None,
        "contacts_per_s": contacts_per_s,
    }
    return {
        "kind": measured.kind,
        "torch": torch.__version__,
        "precision": measured.precision,
        "processes": measured.processes,
        "steps": {
            name: {"planned": count, "done": measured.done.get(name, 0)} for name, count in measured.plan.items()
        },
        "speed": speed,
        "costs": _costs(measured, ceilings, contacts_per_s),
        "ceilings": ceilings.facts(),
        "parts": _parts(measured, each),
    }


def _costs(measured: Measured, ceilings: Ceilings, contacts_per_s: float | None) -> dict[str, Any] | None:
    """Operations and bytes of the counted step, what is achieved of them, and that as shares of the ceilings."""
    costs, rows = measured.costs, measured.rows.get("counted", 0)
    if costs is None or not rows or contacts_per_s is None:
        return None
    flops, moved = (amount / rows * contacts_per_s for amount in (costs.flops, costs.moved))
    # Sweeps keep their digits at whatever precision the towers run.
    half = ceilings.bf16 if "16" in measured.precision and measured.kind == "step" else None
    product = half or ceilings.fp32
    return {
        "contacts": rows,
        "flops": costs.flops,
        "not_counted": NOT_COUNTED,
        "bytes_estimated": costs.moved,
        "estimate": ESTIMATE,
        "largest": dict(costs.moved_by.most_common(LARGEST)),
        "flops_per_s": flops,
        "bytes_per_s": moved,
        "ceiling": "bf16" if product is half else "fp32",
        "share_of_product": flops / product.per_s,
        "share_of_copy": moved / ceilings.copy.per_s,
    }


def _parts(measured: Measured, seconds: float | None) -> dict[str, Any] | None:
    """Seconds and shares of each part of a traced step; shares of the host, and of the device with what it idled, are 1
    in sum."""
    found = measured.parts
    if found is None or not found.steps:
        return None
    traced = found.seconds / found.steps
    rows = []
    busy = sum((found.device_s or {}).values())
    for name, label in measured.labels.items():
        row: dict[str, Any] = {"part": name, "label": label, "s": found.host_s[name] / found.steps}
        row["share"] = found.host_s[name] / found.seconds
        if found.device_s is not None:
            row["device_s"] = found.device_s[name] / found.steps
            row["device_share"] = found.device_s[name] / (busy + found.idle_s)
        rows.append(row)
    out: dict[str, Any] = {"steps": found.steps, "s": traced, "slower": traced / seconds if seconds else None}
    if found.device_s is not None:
        out["device_idle"] = {"s": found.idle_s / found.steps, "share": found.idle_s / (busy + found.idle_s)}
    return out | {"rows": rows}


def table_of(facts: dict[str, Any]) -> str:
    """The profile for people."""
    return "\n".join([_speed(facts), *_shares(facts), *_achieved(facts), _ceilings(facts)])


def _speed(facts: dict[str, Any]) -> str:
    speed, ceilings = facts["speed"], facts["ceilings"]
    place = ceilings["device"] if ceilings["device"] != "cpu" else f"CPU, threads: {ceilings['threads']}"
    several = f", one of {facts['processes']} processes" if facts["processes"] > 1 else ""
    where = f"{place}, {facts['precision']}{several}"
    if speed["contacts_per_s"] is None:
        return f"profile: no {facts['kind']} was timed ({where})"
    return (
        f"profile: {_time(speed['s'])} a {facts['kind']} of {speed['contacts']:,.0f} contacts, "
        f"{speed['contacts_per_s']:,.0f} contacts a second ({speed['from']}; {where})"
    )


def _shares(facts: dict[str, Any]) -> list[str]:
    parts = facts["parts"]
    if parts is None:
        return [f"  no {facts['kind']} was traced: the run was too short"]
    device = "device_idle" in parts
    slower = "" if parts["slower"] is None else f", {parts['slower']:.2f} times as long as untraced"
    lines = [f"  a traced {facts['kind']} ({parts['steps']} of them{slower})" + ("; on the device" if device else "")]
    for row in parts["rows"]:
        line = f"  {row['label']:<24} {_time(row['s']):>10} {row['share']:>6.1%}"
        lines.append(line + (f"   {_time(row['device_s']):>10} {row['device_share']:>6.1%}" if device else ""))
    if device:
        idle = parts["device_idle"]
        lines.append(f"  {'device idle':<24} {'':>10} {'':>6}   {_time(idle['s']):>10} {idle['share']:>6.1%}")
    return lines


def _achieved(facts: dict[str, Any]) -> list[str]:
    costs = facts["costs"]
    if costs is None:
        return [f"  no {facts['kind']} was counted: the run was too short"]
    return [
        f"  achieved {_big(costs['flops_per_s'])}FLOP/s, {costs['share_of_product']:.1%} of the {costs['ceiling']} "
        f"product (not counted: {costs['not_counted']})",
        f"  moved {_big(costs['bytes_per_s'])}B/s by estimate, {costs['share_of_copy']:.1%} of the copy "
        f"({costs['estimate']})",
    ]


def _ceilings(facts: dict[str, Any]) -> str:
    found = facts["ceilings"]
    bf16 = "none" if found["bf16"] is None else f"{_big(found['bf16']['per_s'])}FLOP/s"
    return (
        f"  ceilings measured here: product {_big(found['fp32']['per_s'])}FLOP/s in fp32, {bf16} in bf16, "
        f"copy {_big(found['copy']['per_s'])}B/s"
    )


def _time(seconds: float) -> str:
    return (
        f"{seconds:.2f} s"
        if seconds >= 1
        else f"{1e3 * seconds:.2f} ms"
        if seconds >= 1e-3
        else f"{1e6 * seconds:.0f} µs"
    )


def _big(value: float) -> str:
    scale, unit = next(((s, u) for s, u in UNITS if value >= s), UNITS[-1])
    return f"{value / scale:.3g} {unit}"
