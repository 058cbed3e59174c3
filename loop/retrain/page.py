"""The run report of a retraining: what was done, how long it took, and what the gate said of every rule."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

from evaluation.page import page, table

if TYPE_CHECKING:
    from loop.retrain.run import Turned
    from loop.steps import Done

HEADINGS = {
    "promoted": "Promoted: a new bundle is served",
    "kept out": "Kept out: the champion stays",
    "nothing new": "Nothing new: the champion stays",
    "failed": "Failed: the champion stays",
}
SAID = 160  # characters of what a step said


def html_report(found: Turned) -> str:
    """The page."""
    body = [f"<h1>{HEADINGS[found.outcome]}</h1>", f"<p>By what was known before {escape(found.until)}.</p>"]
    body.append(f"<p>Champion before: {escape(found.champion or 'none')}</p>")
    if found.error is not None:
        body.append(f'<p class="note">{escape(found.error)}</p>')
    if found.lines:
        body.append("<h2>The gate</h2>")
        body.append(
            table(("rule", "", "what it says"), [_rule(row) for row in _checks(found)]) if _checks(found) else ""
        )
        body += [f"<p>{escape(found.lines[-1])}</p>"]
    body += [
        "<h2>Steps</h2>",
        table(("step", "took", "what became of it"), [_row(*one) for one in found.steps.items()]),
    ]
    return page(f"retraining: {found.outcome}", body)


def text_report(found: Turned) -> str:
    """The same for a terminal."""
    lines = [f"{HEADINGS[found.outcome]} (by what was known before {found.until})"]
    lines += [f"  {line}" for line in found.lines]
    for name, done in found.steps.items():
        _, took, said = _row(name, done)
        lines.append(f"{name:<10}{took:>9}  {said}")
    return "\n".join(lines)


def _checks(found: Turned) -> list[dict[str, Any]]:
    return list(found.steps["gate"].said["checks"])


def _rule(row: dict[str, Any]) -> tuple[str, str, str]:
    return str(row["rule"]), "pass" if row["passed"] else "FAIL", str(row["said"])


def _row(name: str, done: Done) -> tuple[str, str, str]:
    if done.skipped is not None:
        return name, "–", f"left out: {done.skipped}"
    said = {key: value for key, value in done.said.items() if key not in ("checks", "lines")}
    text = ", ".join(f"{key} {_short(value)}" for key, value in said.items())
    return name, f"{done.seconds:.1f} s", ("done before; " if done.again else "") + text[:SAID]


def _short(value: Any) -> str:
    if isinstance(value, dict):
        return " ".join(f"{key} {item}" for key, item in value.items())
    return str(value)[:24]
