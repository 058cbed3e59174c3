"""The state of a rollout as one page that needs nothing beside it, and as text for a terminal.

Notable: each metric is drawn as harm beyond its margin, so all pictures read alike: a band that is all above the line
takes the challenger back, one that is all below it lets it go on.
"""

from __future__ import annotations

import math
from functools import partial
from html import escape
from typing import Any

from evaluation.page import page, svg, table
from loop.rollout.state import State
from twotower.clock import format_time

PAGE = "rollout.html"
HEADINGS = {
    "shadow": "Shadow: the challenger answers unheard",
    "canary": "Canary: blocks of time by lot",
    "promoting": "The challenger is made the champion",
    "full": "Full: the challenger is the champion, and is watched",
    "rolling back": "Back to the champion",
    "stopping": "Stopping: back to the champion",
    "done": "Done: the challenger is the champion",
    "rolled back": "Rolled back: the champion stays",
    "stopped": "Stopped: the champion stays",
    "overtaken": "Overtaken: the registry has another champion",
}
STATES = {"held": "#2e8b57", "open": "#1b6ca8", "broken": "#c0392b", "not measured": "#9aa5b1"}
ARMS = ("#9aa5b1", "#d98c21")
LINES = 40
BLOCKS = ("from", "to", "bundle", "contacts", "mean of the first metric")


def text_report(state: State) -> str:
    """For a terminal."""
    lines = [f"{HEADINGS[state.stage]} (since {format_time(state.since)})"]
    lines += [f"champion: version {state.champion.version}, bundle {state.champion.digest[:12]}"]
    lines += [f"challenger: version {state.challenger.version}, bundle {state.challenger.digest[:12]}"]
    lines += [f"why: {state.why}"] if state.why else []
    found = state.judged.get("shadow")
    if found:
        lines.append(f"unheard: {_unheard(found)}")
    if "contacts" in state.judged:
        of = state.judged
        lines.append(
            f"judged at {of['at']}: {of['contacts'][0]:,} and {of['contacts'][1]:,} contacts, {of['blocks'][0]} and "
            f"{of['blocks'][1]} blocks"
        )
        lines += [f"  {one['state']:<12} {one['said']}" for one in of["metrics"]]
        lines += [f"  not yet: {said}" for said in of["refused"]]
    lines += [f"{format_time(at)}  {said}" for at, said in state.log[-LINES:]]
    return "\n".join(lines)


def html_report(state: State) -> str:
    """The page."""
    body = [f"<h1>{HEADINGS[state.stage]}</h1>", f"<p>Since {format_time(state.since)}.</p>"]
    body += [f'<p class="note">{escape(state.why)}</p>'] if state.why else []
    rows = [(name, f"{who.version}", who.digest) for name, who in
            (("champion", state.champion), ("challenger", state.challenger))]  # fmt: skip
    body.append(table(("when it began", "version", "bundle"), rows))
    of = state.judged
    if "shadow" in of:
        body += _shadow(of["shadow"])
    if "value" in of:
        body += ["<h2>What its choices would have earned</h2>", f"<p>{escape(of['value']['said'])}</p>"]
    if "contacts" in of:
        body += _canary(of)
    body += ["<h2>What happened</h2>", table(("at", ""), [(format_time(at), said) for at, said in reversed(state.log)])]
    return page(f"rollout: {state.stage}", body)


def _unheard(found: dict[str, Any]) -> str:
    agreement = _share(found["agreement"])
    return (
        f"{found['contacts']:,} contacts, the same first choice of {agreement}, candidates in common "
        f"{_share(found['overlap'])}, {found['errors']:,} not answered, {_number(found['times'])} times the time"
    )


def _shadow(found: dict[str, Any]) -> list[str]:
    rows = [
        (f"{one['kind']}: {one['value']}", f"{one['contacts']:,}", _share(one["agreement"]), _share(one["overlap"]))
        for one in found["bands"]
    ]
    return [
        "<h2>Unheard</h2>", f"<p>{escape(_unheard(found))}.</p>",
        table(("band", "contacts", "same first choice", "candidates in common"), rows) if rows else "",
    ]  # fmt: skip


def _canary(of: dict[str, Any]) -> list[str]:
    body = ["<h2>Champion and challenger by blocks</h2>", f"<p>As known at {escape(of['at'])}.</p>"]
    body += [f'<p class="note">Not to go on by: {escape(said)}</p>' for said in of["refused"]]
    drawn = [one for one in of["metrics"] if any(look[2] is not None for look in one["looks"])]
    if drawn:
        body += [
            "<p>Harm beyond the margin, with bounds that hold at all moments at once: all above the line takes the "
            "challenger back, all below it lets it go on.</p>",
            svg(partial(_sequences, metrics=drawn), 9, 2.2 * len(drawn)),
        ]
    rows = [(one["metric"], one["state"], _number(one["control"]), _number(one["treatment"]), one["said"])
            for one in of["metrics"]]  # fmt: skip
    body.append(table(("metric", "state", "champion", "challenger", "with bounds"), rows))
    if of["timeline"]:
        body += [
            "<p>Blocks: the champion's grey, the challenger's orange.</p>", svg(partial(_blocks, of=of), 9, 1.6),
            table(BLOCKS, [_block(one) for one in of["timeline"]]),
        ]  # fmt: skip
    return body


def _block(one: list[Any]) -> tuple[str, ...]:
    begins, ends, arm, contacts, mean = one
    return format_time(begins), format_time(ends), ("champion", "challenger")[arm], f"{contacts:,}", _number(mean)


def _sequences(figure: Any, metrics: list[dict[str, Any]]) -> None:
    import numpy as np

    for axes, one in zip(np.atleast_1d(figure.subplots(len(metrics), 1)), metrics, strict=True):
        known = [look for look in one["looks"] if look[2] is not None and look[3] is not None]
        when = np.array([look[0] for look in known], "datetime64[us]")
        value, low, high = (np.array([look[i] for look in known], np.float64) for i in (1, 2, 3))
        axes.fill_between(when, low, high, color=STATES[one["state"]], alpha=0.2, step="post", linewidth=0)
        axes.plot(when, value, color=STATES[one["state"]], drawstyle="steps-post")
        axes.axhline(0, color="black", linewidth=0.8)
        width = 3 * float(high[-1] - low[-1])
        axes.set_ylim(max(float(low.min()), -width), min(float(high.max()), width))
        axes.set_title(f"{one['metric']}: {one['state']}", fontsize=8, color=STATES[one["state"]])
        axes.spines[["top", "right"]].set_visible(False)


def _blocks(figure: Any, of: dict[str, Any]) -> None:
    import numpy as np

    axes = figure.subplots()
    for begins, ends, arm, contacts, _ in of["timeline"]:
        edges = np.array([begins, ends], "datetime64[us]")
        axes.fill_between(edges, 0, contacts, color=ARMS[arm], linewidth=0)
    axes.set_ylabel("contacts")
    axes.spines[["top", "right"]].set_visible(False)


def _share(value: float | None) -> str:
    return "–" if value is None or math.isnan(value) else f"{value:.1%}"


def _number(value: float | None) -> str:
    return "–" if value is None or math.isnan(value) else f"{value:.3g}"
