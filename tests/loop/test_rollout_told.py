"""What a rollout reads: outcomes from a router's store, by the bundle that decided, and what the shadow wrote there."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from evaluation.experiment.deciders import deciders
from evaluation.experiment.read_out import read_out
from evaluation.experiment.schedule import draw
from loop.retrain.merge import feedback_tables
from loop.rollout.judge import Turns, judge, plan_of
from loop.rollout.outside import OfTables
from loop.rollout.shadowed import compared_of
from loop.rollout.spec import CanarySpec, Least
from loop.rollout.state import State, Who
from loop.rollout.told import SCRATCH, Tables
from serve.store.records import Decided, Feedback, Offered
from serve.store.shadows import Shadowed
from serve.store.store import Store
from twotower.clock import DAY, SECOND, format_time, parse_time
from twotower.errors import ConfigError, DataError, TwoTowerError

NOW = parse_time("2026-03-02T00:00:00Z")
ONE, OTHER = Who(1, "1" * 64, "one"), Who(2, "2" * 64, "other")
SPEC = CanarySpec(
    block_hours=4.0, days=4, contacts=50, blocks=3, primary=Least(metric="resolved", margin=0.2),
    guardrails=(Least(metric="wait_s", margin=1.0, relative=True),), history_days=1.0,
)  # fmt: skip
PLAN = plan_of(SPEC, ONE, OTHER, NOW)
SCHEDULE = draw(PLAN, ["centre"])
TURNS = Turns.of(PLAN, SCHEDULE)
EVERY = 10 * 60 * SECOND


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A contact every ten minutes, as a router tells its store; the champion resolves nine of ten, the challenger four.
    The router only asks for rankings, so no decision names who was chosen, and no hand-over a policy."""
    facts = []
    place = f"sqlite:///{tmp_path_factory.mktemp('store') / 'store.db'}"
    with Store.open(place, text="none") as store:
        for i, arrived in enumerate(range(NOW, NOW + 4 * DAY, EVERY)):
            challengers = TURNS.challengers(arrived)
            contact = {"contact_id": f"c{i}", "customer_id": f"k{i}", "arrived_at": arrived, "channel": "chat"}
            who = OTHER if challengers else ONE
            for late in (5, 3) if i % 3 else (5,):  # asked about again, while it waits
                store.log.decided(
                    Decided(contact, [Offered("ada", 1.0), Offered("bob", 0.5)], model=who.digest,
                            decided_at=arrived + late * SECOND, fallback="late" if i % 7 == 0 else None)
                )  # fmt: skip
            if i % 50 == 25:
                store.log.decided(Decided(contact, [Offered("ada", 1.0)], model="3" * 64, decided_at=arrived + DAY))
            taken = arrived + 10 * SECOND
            fact = {"contact_id": f"c{i}", "csa_id": "ada", "assigned_at": taken, "ended_at": taken + 60 * SECOND}
            facts.append(Feedback.of({**fact, "resolved": (i * 7919) % 10 < (4 if challengers else 9)}))
        store.log.flush()
        store.feedback(*facts)
    return place


def test_outcomes_are_of_the_bundle_that_decided(url: str, tmp_path: Path) -> None:
    tables = Tables(None, url, tmp_path)
    at = NOW + 3 * DAY
    looked = tables.look(PLAN, SCHEDULE, at)
    frame = looked.frame
    assert len(frame) == 3 * 144
    arms = frame["arm"].to_numpy()
    assert set(frame["policy"][arms == 0]) == {f"bundle:{ONE.digest}"}
    assert set(frame["policy"][arms == 1]) == {f"bundle:{OTHER.digest}"}
    assert frame["resolved"][arms == 0].mean() == pytest.approx(0.9, abs=0.02)
    assert not (tmp_path / SCRATCH).exists()  # no copy of anybody stays
    found = judge(PLAN, SCHEDULE, SPEC, looked, at)
    assert found.not_followed is None
    assert [one.of.metric for one in found.broken] == ["resolved"]
    assert found.blocks == (9, 9)


def test_an_analysis_reads_the_same_plan(url: str, tmp_path: Path) -> None:
    folder = feedback_tables(url, tmp_path / "export", NOW + 5 * DAY)
    found = read_out(PLAN, SCHEDULE, folder)
    assert found.refusals == ()
    assert found.found is not None
    assert found.found.estimate.effect.value == pytest.approx(-0.5, abs=0.05)
    (folder / "decisions.parquet").unlink()
    with pytest.raises(DataError, match=r"decisions\.parquet: no such file; arms of this plan are bundles"):
        read_out(PLAN, SCHEDULE, folder)


def test_the_last_decision_before_somebody_takes_it_counts(tmp_path: Path) -> None:
    import pandas as pd
    import pyarrow as pa

    minute = 60 * SECOND
    made = [("a", 1, "x"), ("a", 3, "y"), ("a", 9, "z"), ("b", 8, "late"), ("b", 9, "later"), ("c", 1, None)]
    rows = {
        "contact_id": [one[0] for one in made],
        "decided_at": pa.array([one[1] * minute for one in made], pa.int64()).cast(pa.timestamp("us", "UTC")),
        "model": [one[2] for one in made],
    }
    pq.write_table(pa.table(rows), tmp_path / "decisions.parquet")
    frame = pd.DataFrame(
        {
            "contact_id": ["a", "b", "c", "d", "a2"], "wait_s": [300.0, 300.0, 300.0, np.nan, 0.0],
            "arrived_at": pd.to_datetime([0] * 5, unit="us", utc=True).as_unit("us"),
        }
    )  # fmt: skip
    assert deciders(tmp_path, frame).tolist() == ["bundle:y", "bundle:late", None, None, None]
    assert deciders(tmp_path, frame, 2 * minute).tolist()[:2] == ["bundle:x", None]


def test_tables_and_feedback_are_one(url: str, tmp_path: Path) -> None:
    whole = feedback_tables(url, tmp_path / "export", NOW + 5 * DAY)
    both = Tables(whole, url, tmp_path).look(PLAN, SCHEDULE, NOW + 2 * DAY)
    alone = Tables(whole, None, tmp_path).look(PLAN, SCHEDULE, NOW + 2 * DAY)
    columns = ["contact_id", "arm", "resolved", "policy", "wait_s"]
    assert both.frame[columns].equals(alone.frame[columns])
    with pytest.raises(ConfigError, match="nothing tells what becomes of contacts"):
        Tables(None, None, tmp_path)
    with pytest.raises(ConfigError, match="no such folder"):
        Tables(tmp_path / "nowhere", None, tmp_path)
    with pytest.raises(TwoTowerError):
        Tables(None, url, tmp_path).look(PLAN, SCHEDULE, NOW - DAY)


def test_what_the_shadow_wrote_is_compared_by_band(url: str) -> None:
    with Store.open(url, text="none") as store:
        for i in range(60):
            told: dict[str, Any] = {"error": "MatchError"} if i % 6 == 5 else {
                "answered": [Offered("ada", 1.0)], "same_first": i % 2 == 0, "overlap": 0.5, "served_s": 0.001,
                "shadow_s": 0.002,
            }  # fmt: skip
            store.shadowed(Shadowed(f"d{i}", f"c{i}", None, 0, ONE.digest, OTHER.digest, decided_at=NOW + i, **told))
        assert store.flush_shadows()
    state: Any = SimpleNamespace(challenger=OTHER, champion=ONE, since=NOW)
    found = OfTables(Tables(None, url, Path())).shadowed(state)
    assert (found.contacts, found.errors, found.asked) == (50, 10, 60)
    assert found.failed == pytest.approx(1 / 6)
    assert found.agreement == 0.6
    assert found.times == pytest.approx(2.0)
    assert [(one.kind, one.value, one.contacts) for one in found.bands] == [("channel", "chat", 50)]
    state.since = NOW + 30
    assert OfTables(Tables(None, url, Path())).shadowed(state).asked == 30
    assert compared_of([]).failed == 0.0


def test_a_shadow_needs_a_store(tmp_path: Path) -> None:
    state: Any = State
    with pytest.raises(ConfigError, match="stands in the store"):
        OfTables(Tables(tmp_path, None, tmp_path)).shadowed(state)


def test_whose_turn_it_is() -> None:
    begins, ends = int(TURNS.begins[0]), int(TURNS.ends[-1])
    assert not TURNS.challengers(begins - 1)
    assert not TURNS.challengers(ends)
    assert TURNS.next(begins - 1) == begins
    assert TURNS.next(ends) is None
    assert TURNS.ended(begins, int(TURNS.ends[0]))
    assert not TURNS.ended(int(TURNS.ends[0]), int(TURNS.ends[0]) + 1)
    assert sum(TURNS.arm) == len(TURNS.arm) // 2
    assert (PLAN.begins, PLAN.ends) == (format_time(NOW), format_time(NOW + 4 * DAY))
    assert PLAN.guardrails[0].alpha == pytest.approx(0.025)  # shared with the primary metric
    assert plan_of(SPEC, ONE, OTHER, NOW + 1).begins == format_time(NOW + 3600 * SECOND)
