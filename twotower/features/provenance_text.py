"""Features and what they came from, in lines for people.

Notable: columns that share an origin are listed above one line that states it; a vector is one line with its length,
and of many columns of one kind those that say nothing of the subject are counted, unless all are asked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from twotower.clock import format_time
from twotower.features.provenance import LEFT_OUT, Column, Explained, Shown, counted
from twotower.features.registry import FAMILIES

_LOG = "log(1 + "  # how units begin whose numbers are easier to read without the logarithm


@dataclass(frozen=True)
class _Line:
    name: str
    text: str
    origin: str = ""
    of: str = ""


def describe(explained: Explained, everything: bool = False) -> str:
    """The whole answer; everything: every component of a vector and every column."""
    subject = ", ".join(f"{kind} {name or 'unknown'}" for kind, name in explained.subject.items())
    at = format_time(explained.at)
    lines = [f"{subject}: features as of {at}, from what was known before"]
    left_out = [(count, LEFT_OUT[why].format(at=at)) for why, count in explained.left_out.items()]
    lines += [counted(count, what) for count, what in left_out if count]
    lines += explained.notes
    for family, meaning in FAMILIES.items():
        members = [shown for shown in explained.features if shown.declared["family"] == family]
        if members:
            lines += ["", f"{family}: {meaning}"]
            lines += _with_origins([line for shown in members for line in _lines(shown, everything)])
    reasons = dict.fromkeys(explained.absent.values())
    absent = [f"{why}: {', '.join(name for name, one in explained.absent.items() if one == why)}" for why in reasons]
    return "\n".join([*lines, *([""] if absent else []), *absent])


def _with_origins(lines: list[_Line]) -> Iterator[str]:
    """Lines with each origin once, after those it holds for; what is told of one group stands together."""
    groups = list(dict.fromkeys(line.of for line in lines))
    width = max(len(line.name) for line in lines)
    for origin, some in groupby(sorted(lines, key=lambda line: groups.index(line.of)), key=lambda line: line.origin):
        yield from (f"  {line.name:<{width}}  {line.text}" for line in some)
        if origin:
            yield f"  {'':<{width}}  from {origin}"


def _lines(shown: Shown, everything: bool) -> Iterator[_Line]:
    meaning = str(shown.declared["meaning"])
    if shown.is_vector and not everything:
        for name, some in groupby(shown.columns, key=lambda column: column.name.rpartition("_")[0]):
            columns = list(some)
            length = float(np.linalg.norm([float(column.value or 0) for column in columns]))
            yield _Line(name, f"{len(columns)} components, length {length:.4g}: {meaning}", columns[0].origin)
        return
    told = [column for column in shown.columns if everything or column.telling]
    for column in told:
        of = f", {column.of}" if column.of else ""
        unit = "" if _is_plain(shown, column) else f" [{shown.declared['unit']}]"
        size = (
            f", effective {column.more['effective']:.3g}" if "effective" in column.more and not _is_log(shown) else ""
        )
        yield _Line(column.name, f"{_value(shown, column)}{size}: {meaning}{of}{unit}", column.origin, column.of)
    if more := len(shown.columns) - len(told):
        others = "others" if told else "columns"
        yield _Line(shown.declared["name"], f"{more} {others} say nothing of this subject alone (--all)", of="others")


def _value(shown: Shown, column: Column) -> str:
    if column.value is None:
        return "unknown"
    if isinstance(column.value, str):
        if "probability" in column.more:
            return f"{column.value} (predicted, p {column.more['probability']:.2f})"
        code = column.more.get("code")
        return column.value if code is None else f"{column.value} (code {code})"
    if not _is_log(shown):
        return f"{column.value:.4g}"
    of = shown.declared["unit"].removeprefix(_LOG).removesuffix(")")
    return f"{column.value:.4g} = {_LOG}{np.expm1(column.value):.3g}{'' if of == 'n' else f' {of}'})"


def _is_plain(shown: Shown, column: Column) -> bool:
    """Whether the value says its unit itself, or has none."""
    return column.value is None or isinstance(column.value, str) or _is_log(shown) or shown.declared["unit"] == "1"


def _is_log(shown: Shown) -> bool:
    return str(shown.declared["unit"]).startswith(_LOG) and shown.declared["range"][0] == 0
