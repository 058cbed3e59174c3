"""The walk on Ray equals the local one to the bit."""

from __future__ import annotations

import numpy as np
import pytest

from tests.twotower.features.engine.histories import BEGIN, CSAS, END, FAMILIES, SETTINGS, draw_table
from twotower.clock import DAY
from twotower.engines import Engine, ray_of
from twotower.errors import ClusterError
from twotower.features.engine.cluster import RayWalk, advanced
from twotower.features.engine.csa import CsaHistory
from twotower.features.engine.roll import walk

NAMES = [name for name, _ in FAMILIES]
MOMENTS = np.arange(BEGIN + 7 * DAY, END + 2 * DAY, 7 * DAY)


def test_shards_on_ray_are_the_local_walk_to_the_bit(cluster):
    table = draw_table(np.random.default_rng(0), 400)
    handovers, work = table.handovers(), table.work()
    begun, local = CsaHistory(SETTINGS, CSAS), CsaHistory(SETTINGS, CSAS)
    for history in (begun, local):
        history.advance(handovers, BEGIN + 3 * DAY, work)
    remote = RayWalk(begun, handovers, work, shards=2)
    readings = list(remote.walk(MOMENTS, NAMES))
    assert len(readings) == len(MOMENTS)
    for found, expected in zip(readings, walk(local, handovers, work, MOMENTS, NAMES), strict=True):
        arrays = [name for name, value in vars(expected).items() if isinstance(value, np.ndarray)]
        assert {n: getattr(found, n).tobytes() for n in arrays} == {n: getattr(expected, n).tobytes() for n in arrays}
        for name in NAMES:
            assert found.groups[name].sums.tobytes() == expected.groups[name].sums.tobytes()
            assert found.groups[name].csa.tolist() == expected.groups[name].csa.tolist()
    gone_on, state = remote.history().state(), local.state()
    assert {name: array.tobytes() for name, array in gone_on.items()} == {n: a.tobytes() for n, a in state.items()}
    assert begun.moment == BEGIN + 3 * DAY
    remote.close()


def test_compiled_shards_are_the_local_walk_to_the_bit(cluster):
    numba = pytest.importorskip("numba", reason="numba is not installed: pip install 'twotower-matcher[train]'")
    table = draw_table(np.random.default_rng(1), 400)
    handovers, local = table.handovers(), CsaHistory(SETTINGS, CSAS)
    local.advance(handovers, END)
    remote = RayWalk(CsaHistory(SETTINGS, CSAS), handovers, None, shards=2, compiler=numba.njit)
    (reading,) = remote.walk([END])
    assert reading.sums.tobytes() == local.read().sums.tobytes()
    assert reading.embeddings.tobytes() == local.read().embeddings.tobytes()
    remote.close()


@pytest.mark.parametrize("engine", [Engine(), Engine(processes=2), Engine("ray")], ids=["here", "processes", "ray"])
def test_shards_brought_to_a_moment_are_one_advance_to_the_bit(engine, cluster):
    table = draw_table(np.random.default_rng(2), 400)
    handovers, work = table.handovers(), table.work()
    begun = CsaHistory(SETTINGS, CSAS)
    begun.advance(handovers, BEGIN + 9 * DAY, work)
    before = begun.state()["sums"].tobytes()
    found = advanced(engine, begun, handovers, work, END).state()
    assert begun.state()["sums"].tobytes() == before
    begun.advance(handovers, END, work)
    assert {name: array.tobytes() for name, array in found.items()} == {
        name: array.tobytes() for name, array in begun.state().items()
    }
    assert found["counts"].sum() > 300


def test_an_actor_that_died_is_one_line(cluster):
    table = draw_table(np.random.default_rng(3), 50)
    remote = RayWalk(CsaHistory(SETTINGS, CSAS), table.handovers(), None, shards=2)
    ray_of().kill(remote._actors[0])
    with pytest.raises(ClusterError, match=r"^a worker of Ray died"):
        remote.history()
    remote.close()
