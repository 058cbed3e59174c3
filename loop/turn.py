"""One turn of the wheel on what the demo made: its bundle is the champion, and the days of its test are the feedback.

Notable: it is `twotower retrain` and nothing else, with the demo's run kept as that of the champion, so that the
challenger goes on from it. The newest week is nobody's: both bundles are judged on it.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from loop.demo import BUNDLE, CENTRE, RUN
from loop.registry.registry import CHAMPION, Registry
from loop.retrain.pipeline import Sources
from loop.retrain.run import Turned, adopt, retrain
from loop.retrain.spec import RetrainSpec, Training
from twotower.clock import DAY, parse_time
from twotower.tables.log import Log

REGISTRY, WORK = "registry", "retrain"


def turn_the_wheel(folder: Path, until: str, seed: int, configs: Sequence[Path], options: Sequence[str]) -> Turned:
    """Registers and promotes the demo's bundle, and retrains on everything up to the last midnight of the centre.

    folder: of the demo; until: what its run knew; configs, options: of its training.
    """
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    registry = Registry(folder / REGISTRY)
    registry.promote(registry.register(folder / BUNDLE).number, CHAMPION)
    spec = RetrainSpec(seed=seed, train=Training(configs=tuple(map(str, configs)), options=tuple(options)))
    adopt(folder / WORK, spec, folder / RUN, folder / BUNDLE, parse_time(until, "until"))
    last = int(Log.load(folder / CENTRE).contacts.arrived_at[-1]) // DAY * DAY
    return retrain(Sources(folder / CENTRE, None, registry, last), spec, folder / WORK)
