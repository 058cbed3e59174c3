"""Walking through a log: what every CSA looked like at each snapshot, in one process or in shards of CSAs.

Notable: a CSA's sums depend on their own hand-overs alone, so shards of CSAs share nothing while they walk; priors do
depend on everyone, and are therefore computed from readings, after these have been put together. As each CSA's
hand-overs keep their order, and decay does not tell where its origin stood, a reading from any number of shards equals
the one from a single process to the bit. `walk` is that single process; on Ray (`engine/cluster.py`) the same `step`
runs in each shard.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import fields, replace
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from twotower.features.engine.csa import PER_CSA, CsaHistory
from twotower.features.engine.events import KnownHandovers, Work, take
from twotower.features.engine.readout import CsaReading, GroupReading

Longs = npt.NDArray[np.int64]
Owned = TypeVar("Owned", KnownHandovers, Work)


def step(
    history: CsaHistory, handovers: KnownHandovers, work: Work | None, moment: int, families: Sequence[str] = ()
) -> CsaReading:
    """Bring a history to a moment and read it."""
    history.advance(handovers, moment, work)
    return history.read(families=families)


def walk(
    history: CsaHistory,
    handovers: KnownHandovers,
    work: Work | None,
    moments: Sequence[int] | Longs,
    families: Sequence[str] = (),
) -> Iterator[CsaReading]:
    """A reading at each of the increasing moments, one at a time, so that no more than one need be in memory.

    The history is left at the last moment that was asked for.
    """
    for moment in moments:
        yield step(history, handovers, work, int(moment), families)


def positions(csas: int, shards: int) -> list[Longs]:
    """Which CSAs each shard has: every `shards`-th, so that neighbours in a sorted roster spread."""
    return [np.arange(i, csas, shards) for i in range(min(shards, csas))]


def shard_of(stream: Owned, csas: int, mine: Longs) -> Owned:
    """The rows of a stream that belong to some CSAs, with codes as positions in `mine`."""
    place = np.full(csas, -1, np.int32)
    place[mine] = np.arange(len(mine))
    rows = np.flatnonzero(place[stream.csa] >= 0)
    part = take(stream, rows)
    return replace(part, csa=place[part.csa])


def together(readings: Sequence[CsaReading], mine: Sequence[Longs]) -> CsaReading:
    """One reading from those of shards; mine: which CSAs each has."""
    order = np.argsort(np.concatenate(list(mine)))
    columns = {
        field.name: np.concatenate([getattr(reading, field.name) for reading in readings])[order]
        for field in fields(CsaReading)
        if field.name not in ("moment", "groups")
    }
    groups = {name: _groups_together([r.groups[name] for r in readings], mine) for name in readings[0].groups}
    return CsaReading(moment=readings[0].moment, groups=groups, **columns)


def _groups_together(groups: Sequence[GroupReading], mine: Sequence[Longs]) -> GroupReading:
    csa = np.concatenate([who[group.csa] for group, who in zip(groups, mine, strict=True)])
    code = np.concatenate([group.code for group in groups])
    order = np.lexsort((code, csa))
    sums = np.concatenate([group.sums for group in groups])
    return GroupReading(csa[order], code[order], sums[order], groups[0].codes)


def gathered(histories: Sequence[CsaHistory], mine: Sequence[Longs], csas: int) -> CsaHistory:
    """One history of `csas` CSAs from those of shards, or from one of another roster: CSA i of histories[s] stands at
    mine[s][i]; others have no past.

    Raises ValueError where the histories do not stand at one moment.
    """
    first = histories[0]
    if any(history.moment != first.moment for history in histories):
        raise ValueError("the histories stand at different moments")
    whole = CsaHistory(first.settings, csas, first.moment, first.core)
    codes = int(first.settings.offsets[-1])
    state, cells, groups = whole.state(), [], []
    for history, who in zip(histories, mine, strict=True):
        part = history.state()
        for name in (*PER_CSA, "embeddings"):
            state[name][who] = part[name]
        if codes:
            cells.append(who[part["cells"] // codes] * codes + part["cells"] % codes)
            groups.append(part["groups"])
    if cells:
        order = np.argsort(np.concatenate(cells))
        state["cells"], state["groups"] = np.concatenate(cells)[order], np.concatenate(groups)[order]
    return CsaHistory.restored(first.settings, state, first.core)


def part_of(history: CsaHistory, mine: Longs) -> dict[str, npt.NDArray[Any]]:
    """The state (`CsaHistory.state`) of some CSAs, in the order of `mine`."""
    state, codes = history.state(), int(history.settings.offsets[-1])
    place = np.full(history.csas, -1, np.int64)
    place[mine] = np.arange(len(mine))
    part = {name: array if array.ndim == 0 else array[mine] for name, array in state.items() if name not in APART}
    part.update({name: state[name] for name in ("origin", "load_origin")})
    owner = place[state["cells"] // codes] if codes else np.empty(0, np.int64)
    kept = np.flatnonzero(owner >= 0)
    cells = owner[kept] * codes + state["cells"][kept] % codes if codes else state["cells"]
    order = np.argsort(cells)
    part.update(cells=cells[order], groups=state["groups"][kept][order])
    return part


APART = ("origin", "load_origin", "cells", "groups")
