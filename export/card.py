"""The model card: a template filled from the run's own figures and nothing else."""

from __future__ import annotations

from string import Template
from typing import Any

from export.run import Run
from twotower.clock import format_time

TEMPLATE = """\
# Model card: two-tower matcher

Bundle format ${format}, feature schema ${schema}, project version ${version}.

## What it is for

It ranks customer service associates (CSAs) for an arriving contact from what was known when the contact arrived.
A rank means ${ranks}; the default is `${default}`. ${calibrated}

It is made for routing contacts inside one contact centre. It is not made to judge people: figures about one CSA are
personal data and depend on the work they were given.

## Data

Hand-overs of ${csas} CSAs; ${history} remembered hand-overs (at most ${per_csa} a CSA).
Data window: ${window_from} to ${window_until} (half-open).

## Model

${model}

## Measured by the training run

${metrics}

## Limits

- It knows nothing after the end of its data window, unless it is given the history to roll forward with.
- Outcomes were observed only for pairs that the former routing made; for other pairs the model extrapolates.
- A CSA without hand-overs is ranked by profile and skills alone.
- CSA features move in steps of ${granularity}.
- Precision of the contact tower: ${precision}.

## How to load it

```python
from serve.matcher import Matcher

matcher = Matcher.load("path/to/bundle", expect_digest="the id in manifest.json")
matcher.match({"intent_text": "my card was declined abroad", "language": "en"}, k=5)
```
"""

MEANINGS = {
    "success": "`success`: the probability that this CSA resolves the contact",
    "handled": "`handled`: how likely this CSA takes the contact and resolves it",
}


def model_card(run: Run, manifest: dict[str, Any]) -> str:
    """The text of `MODEL_CARD.md`; manifest: the manifest's fields as far as they are known."""
    calibrated = "`p_resolved` is a calibrated probability."
    if not run.join.calibrated:
        calibrated = "The log had no failures, so `p_resolved` is not given."
    return Template(TEMPLATE).substitute(
        format=manifest["format"],
        schema=run.schema.version,
        version=manifest["versions"]["twotower"],
        ranks=" or ".join(MEANINGS[rank] for rank in sorted(run.join.ranks)),
        default=run.join.default,
        calibrated=calibrated,
        csas=len(run.csa_ids),
        history=len(run.history),
        per_csa=manifest["history"]["per_csa"],
        window_from=_moment(manifest["window"].get("from")),
        window_until=_moment(manifest["window"]["until"]),
        model=table("fact", manifest["model"]),
        metrics=table("metric", manifest["metrics"]),
        granularity=f"{manifest['history']['granularity_s'] / 86400:g} days",
        precision=manifest["quantisation"]["kept"],
    )


def table(title: str, values: dict[str, Any], prefix: str = "") -> str:
    """A Markdown table of plain values, nested names joined by a dot; a sentence where there are none."""
    rows = list(_flat(values, prefix))
    if not rows:
        return "None recorded."
    return "\n".join([f"| {title} | value |", "| --- | --- |", *(f"| {name} | {value} |" for name, value in rows)])


def _flat(values: dict[str, Any], prefix: str) -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for name, value in values.items():
        if isinstance(value, dict):
            rows += _flat(value, f"{prefix}{name}.")
        elif isinstance(value, float):
            rows.append((prefix + name, f"{value:.4g}"))
        elif value is not None:
            rows.append((prefix + name, str(value).replace("|", "\\|")))
    return rows


def _moment(time: Any) -> str:
    return "the beginning of the log" if time is None else format_time(int(time))
