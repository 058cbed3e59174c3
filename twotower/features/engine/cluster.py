"""The walk through a log in shards of CSAs, in processes of their own, on Ray or on this machine.

Notable: nothing is implemented a second time. Each shard is a `CsaHistory` of its CSAs on which the same code runs as
in one process; parts are put together in order, so what comes out equals `walk`, or one `advance`, to the bit. To one
moment (`advanced`) a shard is a task, which can be run again where its worker dies; through many moments (`RayWalk`) it
is an actor of Ray, and at most two snapshots are under way at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from twotower.engines import Engine, got, ray_of
from twotower.features.engine.core import TWIN, compiled
from twotower.features.engine.csa import CsaHistory
from twotower.features.engine.events import KnownHandovers, Work
from twotower.features.engine.readout import CsaReading
from twotower.features.engine.roll import gathered, part_of, positions, shard_of, step, together
from twotower.features.engine.settings import CsaSettings

Longs = npt.NDArray[np.int64]
Compiler = Callable[..., Any]


class Shard:
    """One shard's history and its part of the streams; an ordinary object, which Ray makes an actor of."""

    def __init__(
        self,
        settings: CsaSettings,
        state: dict[str, npt.NDArray[Any]],
        handovers: KnownHandovers,
        work: Work | None,
        compiler: Compiler | None,
    ) -> None:
        # Machine code does not travel: it is made, or found in its cache, where it runs. Arrays that Ray hands out are
        # read-only; `restored` copies them.
        core = TWIN if compiler is None else compiled(compiler)
        self.history, self.handovers, self.work = CsaHistory.restored(settings, state, core), handovers, work

    def step(self, moment: int, families: Sequence[str]) -> CsaReading:
        """`roll.step` for this shard."""
        return step(self.history, self.handovers, self.work, moment, families)

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """`CsaHistory.state` of this shard."""
        return self.history.state()


class RayWalk:
    """A walk by `shards` Ray actors, from a history that is not changed itself.

    compiler: `numba.njit`, or None for the numpy loops. address: as of `engines.Engine`. Raises MissingExtraError
    where Ray is not installed; whoever reads raises ClusterError, one line, where an actor died: its sums are gone.
    """

    def __init__(
        self,
        history: CsaHistory,
        handovers: KnownHandovers,
        work: Work | None,
        shards: int,
        compiler: Compiler | None = None,
        address: str | None = None,
    ) -> None:
        self._ray = ray_of(address)
        self._csas, self._settings = history.csas, history.settings
        self._mine = positions(history.csas, shards)
        actor = self._ray.remote(Shard)
        self._actors = [
            actor.remote(
                history.settings,
                part_of(history, mine),
                shard_of(handovers, history.csas, mine),
                None if work is None else shard_of(work, history.csas, mine),
                compiler,
            )
            for mine in self._mine
        ]

    def walk(self, moments: Sequence[int] | Longs, families: Sequence[str] = ()) -> Iterator[CsaReading]:
        """As `roll.walk`."""
        coming: list[list[Any]] = []
        for moment in moments:
            coming.append([actor.step.remote(int(moment), families) for actor in self._actors])
            if len(coming) == 2:
                yield together(got(self._ray, coming.pop(0)), self._mine)
        for parts in coming:
            yield together(got(self._ray, parts), self._mine)

    def history(self) -> CsaHistory:
        """The whole history as the walk left it, to be saved or gone on with."""
        states = got(self._ray, [actor.state.remote() for actor in self._actors])
        parts = [CsaHistory.restored(self._settings, state) for state in states]
        return gathered(parts, self._mine, self._csas)

    def close(self) -> None:
        """End the actors."""
        for actor in self._actors:
            self._ray.kill(actor)
        self._actors = []


def advanced(
    engine: Engine,
    history: CsaHistory,
    handovers: KnownHandovers,
    work: Work | None,
    moment: int,
    compiler: Compiler | None = None,
) -> CsaHistory:
    """A history brought to a moment (`CsaHistory.advance`), a shard of CSAs for each place of an engine; the one that
    is given does not change.

    compiler: as of `RayWalk`. Of streams no more is cut into shards at once than tasks are under way.
    """
    mine = positions(history.csas, engine.places)
    shards = (
        (
            part_of(history, who),
            shard_of(handovers, history.csas, who),
            None if work is None else shard_of(work, history.csas, who),
        )
        for who in mine
    )
    states = engine.map(partial(_advanced, history.settings, moment, compiler), shards)
    parts = [CsaHistory.restored(history.settings, state, history.core) for state in states]
    return gathered(parts, mine, history.csas)


def _advanced(
    settings: CsaSettings,
    moment: int,
    compiler: Compiler | None,
    shard: tuple[dict[str, npt.NDArray[Any]], KnownHandovers, Work | None],
) -> dict[str, npt.NDArray[Any]]:
    state, handovers, work = shard
    of = CsaHistory.restored(settings, state, TWIN if compiler is None else compiled(compiler))
    of.advance(handovers, moment, work)
    return of.state()
