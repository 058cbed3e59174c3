"""Champion and challenger by what their choices would have earned on the newest window, as far as its log can tell.

Notable: the difference is paired, by doubly robust estimates with a judge that is neither's. A log that cannot tell is
no reason against the challenger unless the file says so: the rule is then not asked, and the page says why.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

from loop.gate.rules import Check, GateSpec, not_worse, unanswered
from twotower.errors import ConfigError, DataError


def checks(champion: Path, challenger: Path, data: Path, start: int, spec: GateSpec, seed: int = 0) -> Iterator[Check]:
    """The rule of value, if it is asked. start: µs UTC. Raises BundleError."""
    from evaluation.ope.run import evaluate
    from evaluation.ope.spec import OpeSpec

    if spec.value is None:
        return
    policies = [{"bundle": str(path), "name": name} for path, name in ((champion, "champion"), (challenger, "new"))]
    asked = OpeSpec.model_validate({"policies": policies, "confidence": 2 * spec.confidence - 1, "seed": seed})
    try:
        found = evaluate(data, asked, start)
    except (ConfigError, DataError) as error:
        yield unanswered("value", str(error), spec.value)
        return
    one, other = found.answers
    refused = [*one.refused, *other.refused]
    if refused or other.less_first is None:
        yield unanswered("value", refused[0] if refused else "the log cannot compare them", spec.value)
        return
    less = other.less_first
    values = [answer.estimates[found.estimator].value for answer in (one, other)]
    bound = math.nan if math.isnan(less.low) else -less.low
    where = f" on {found.rounds:,} contacts"
    yield not_worse("value", "P(resolved)", values[0], values[1], -less.value, bound, spec.value.margin, where)
