"""Champion and challenger by how long customers would wait: a day of the newest window, played again under both.

Notable: a matcher that sends work to few CSAs resolves more on paper and lets everybody wait; only a queue shows it.
Both meet the same contacts with the same luck, so the bound is of a paired difference.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from loop.gate.rules import Check, GateSpec, not_worse, unanswered
from twotower.clock import DAY, format_time
from twotower.errors import ConfigError, DataError

REPLICATIONS = 8


def checks(champion: Path, challenger: Path, data: Path, end: int, spec: GateSpec, seed: int = 0) -> Iterator[Check]:
    """The rule of waits, if it is asked, on the last whole day before `end` (µs UTC). Raises BundleError."""
    from evaluation.simulate.replay import ReplaySpec, replay
    from evaluation.simulate.replay_bundle import AGE_PER_S, SCANNED, pair_values, scores_rule
    from evaluation.simulate.replicate import Trial, compare

    if spec.waits is None:
        return
    last = end // DAY * DAY
    given = {"tables": str(data), "from": format_time(last - DAY), "to": format_time(last), "outcomes": "by_class",
             "seed": seed}  # fmt: skip
    try:
        of = replay(ReplaySpec.model_validate(given))
        pairs = [pair_values(path, of.window, of.csa_ids) for path in (champion, challenger)]
    except (ConfigError, DataError) as error:
        yield unanswered("waits", str(error), spec.waits)
        return
    rules = tuple(scores_rule(of, values, AGE_PER_S, SCANNED, name)
                  for values, name in zip(pairs, ("champion", "new"), strict=True))  # fmt: skip
    found = compare(Trial(of.centre, rules, seed, demand=of.demand, truth=of.truth), REPLICATIONS)
    # The upper end of a two-sided interval is a one-sided bound of the confidence asked for.
    worse = found.less("new", "champion", "mean_wait_s", 2 * spec.confidence - 1)
    one, other = (found.of(name, "mean_wait_s").mean for name in ("champion", "new"))
    where = f" on {format_time(last - DAY)[:10]}"
    yield not_worse("waits", "s", one, other, worse.mean, worse.mean + worse.half, spec.waits.margin, where)
