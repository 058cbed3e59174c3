"""Rounds of a log: first hand-overs, who could have had them, what is left out and counted, what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from evaluation.ope import logged as module
from evaluation.ope.logged import METRICS, Logged, Source, read_logged
from tests.evaluation.ope import worlds
from twotower.clock import DAY, parse_time
from twotower.errors import ConfigError, DataError
from twotower.tables.log import Log
from twotower.tables.schema import INTERACTIONS

BEGIN, END = parse_time(worlds.FROM), parse_time(worlds.TO)
Tables = dict[str, pa.Table]
Reading = Callable[..., tuple[Logged, bool]]


@pytest.fixture(scope="module")
def content() -> Tables:
    return worlds.tables(300)


@pytest.fixture
def read(tmp_path: Path) -> Reading:
    """A data set's rounds."""

    def reading(content: Tables, begin: int = BEGIN, end: int = END, **more: Any) -> tuple[Logged, bool]:
        folder = worlds.write(content, tmp_path / "data")
        return read_logged(folder, Log.load(folder), begin, end, **more)

    return reading


def test_rounds_are_the_windows(read: Reading, content: Tables) -> None:
    logged, told = read(content)
    arrived = logged.log.contacts.arrived_at[logged.contact]
    assert told
    assert BEGIN <= arrived.min() <= arrived.max() < END
    assert len(logged) == int(
        ((logged.log.contacts.arrived_at >= BEGIN) & (logged.log.contacts.arrived_at < END)).sum()
    )
    assert logged.policies == {"queue": len(logged)}
    assert (logged.pairs.csa[logged.pairs.own] == logged.log.handovers.csa[logged.handover]).all()
    assert logged.propensity == pytest.approx(worlds.chances(logged.pairs.csa.reshape(-1, 4)).ravel()[logged.pairs.own])


def test_a_round_is_a_first_hand_over(tmp_path: Path, content: Tables) -> None:
    moves = content["interactions"]
    later = moves.slice(250, 40)
    for name, seconds in (("assigned_at", 60), ("ended_at", 600)):
        moved = pa.compute.add(later[name], pa.scalar(seconds * 1_000_000, pa.duration("us")))
        later = later.set_column(later.column_names.index(name), name, moved)
    folder = worlds.write({**content, "interactions": pa.concat_tables([later, moves])}, tmp_path / "more")
    plain = worlds.write(content, tmp_path / "plain")
    found, _ = read_logged(folder, Log.load(folder), BEGIN, END)
    alone, _ = read_logged(plain, Log.load(plain), BEGIN, END)
    assert found.left_out.later == 40
    assert len(found) == len(alone)
    assert (
        found.log.handovers.assigned_at[found.handover].tolist()
        == alone.log.handovers.assigned_at[alone.handover].tolist()
    )


def test_rewards(read: Reading, content: Tables) -> None:
    logged, _ = read(content)
    assert set(logged.reward("resolved")) == {0.0, 1.0}
    assert np.isnan(logged.reward("csat")).mean() == pytest.approx(2 / 3, abs=0.1)
    assert np.isnan(logged.reward("transferred")).any()
    assert logged.reward("handle_time_s").min() >= 60
    for name in METRICS:
        assert name in [column.name for column in INTERACTIONS.columns]


def test_clusters(read: Reading, content: Tables) -> None:
    logged, _ = read(content)
    assert logged.cluster("none") is None
    by_day = logged.cluster("day")
    assert by_day is not None
    assert len(np.unique(by_day)) == (END - BEGIN) // DAY
    by_customer = logged.cluster("customer")
    assert by_customer is not None
    known = logged.log.contacts.customer[logged.contact] >= 0
    assert len(np.unique(by_customer[~known])) == (~known).sum()


@pytest.mark.parametrize(("value", "shown"), [(0.0, "0.0"), (-0.5, "-0.5"), (1.25, "1.25"), (float("nan"), "nan")])
def test_propensities_that_are_none(read: Reading, content: Tables, value: float, shown: str) -> None:
    column = content["interactions"]["propensity"].to_pylist()
    column[17] = value
    with pytest.raises(DataError, match=rf"interactions.parquet, row 17, column propensity: is no .*found {shown}"):
        read(worlds.with_column(content, "interactions", "propensity", column))


def test_a_missing_column(content: Tables, tmp_path: Path) -> None:
    folder = worlds.write(content, tmp_path / "data")
    pq.write_table(content["interactions"].drop_columns(["csa_id"]), folder / "interactions.parquet")
    with pytest.raises(DataError, match=r"interactions.parquet, column csa_id: missing"):
        read_logged(folder, Log.load(folder), BEGIN, END)


@pytest.mark.parametrize("absent", [True, False])
def test_no_propensities_where_logged_ones_are_asked_for(read: Reading, content: Tables, absent: bool) -> None:
    nulls = pa.nulls(300, pa.float64())
    bare = worlds.with_column(content, "interactions", "propensity", nulls)
    if absent:
        bare = {**content, "interactions": content["interactions"].drop_columns(["propensity"])}
    with pytest.raises(DataError, match=r"interactions.parquet, column propensity: null or missing in the window"):
        read(bare, source="logged")


def test_what_auto_takes(read: Reading, content: Tables, tmp_path: Path) -> None:
    assert read(content)[1]
    bare = worlds.with_column(content, "interactions", "propensity", pa.nulls(300, pa.float64()))
    folder = worlds.write(bare, tmp_path / "bare")
    logged, told = read_logged(folder, Log.load(folder), BEGIN, END)
    assert not told
    assert np.isnan(logged.propensity).all()


def half(content: Tables) -> Tables:
    """Every other propensity left out."""
    column = [None if i % 2 else p for i, p in enumerate(content["interactions"]["propensity"].to_pylist())]
    return worlds.with_column(content, "interactions", "propensity", column)


def test_some_propensities_and_some_none(read: Reading, content: Tables) -> None:
    with pytest.raises(ConfigError, match=r"of \d+ hand-overs of the window have a propensity, .*say --propensities"):
        read(half(content))


@pytest.mark.parametrize("source", ["logged", "estimated"])
def test_some_propensities_and_a_word(read: Reading, content: Tables, source: Source) -> None:
    logged, told = read(half(content), source=source)
    assert told == (source == "logged")
    assert (logged.left_out.without_propensity > 0) == told
    assert np.isfinite(logged.propensity).all() == told
    assert sum(logged.policies.values()) == len(logged)


def test_an_empty_window(read: Reading, content: Tables) -> None:
    with pytest.raises(ConfigError, match=r"no contact from 2027-.*; the log has contacts from 2026-01-01T"):
        read(content, begin=parse_time("2027-01-01T00:00:00Z"), end=parse_time("2027-02-01T00:00:00Z"))


def test_a_window_that_nobody_worked_in(read: Reading, content: Tables) -> None:
    early = content["interactions"].slice(0, 100)
    with pytest.raises(ConfigError, match=r"no hand-over of a contact that arrived"):
        read({**content, "interactions": early})


def test_policies_are_told_apart(read: Reading, content: Tables, tmp_path: Path) -> None:
    names = ["pilot" if i % 3 == 0 else "queue" for i in range(300)]
    mixed = worlds.with_column(content, "interactions", "policy", names)
    folder = worlds.write(mixed, tmp_path / "mixed")
    log = Log.load(folder)
    whole, _ = read_logged(folder, log, BEGIN, END)
    pilot, _ = read_logged(folder, log, BEGIN, END, ["pilot"])
    assert pilot.policies == {"pilot": whole.policies["pilot"]}
    assert pilot.left_out.other_policy == whole.policies["queue"]
    with pytest.raises(
        ConfigError, match=r"--logged 'pilots': no hand-over .* was decided by it; there are: pilot, queue"
    ):
        read_logged(folder, log, BEGIN, END, ["pilots"])


def test_contacts_that_nobody_took(read: Reading, content: Tables) -> None:
    kept = content["interactions"].slice(0, 290)
    logged, _ = read({**content, "interactions": kept})
    assert logged.left_out.nobody == 10


def test_who_took_it_was_not_eligible(read: Reading, content: Tables) -> None:
    lists = content["contacts"]["eligible"].to_pylist()
    moves = dict(
        zip(
            content["interactions"]["contact_id"].to_pylist(),
            content["interactions"]["csa_id"].to_pylist(),
            strict=True,
        )
    )
    names = content["contacts"]["contact_id"].to_pylist()
    lists[-1] = [one for one in lists[-1] if one != moves[names[-1]]]
    logged, _ = read(worlds.with_column(content, "contacts", "eligible", lists))
    assert logged.left_out.outside == 1


def test_nobody_was_eligible(read: Reading, content: Tables) -> None:
    lists = [["csa-00"]] * 300
    with pytest.raises(ConfigError, match=r"nobody who took a contact of the window was among those eligible"):
        read(worlds.with_column(content, "contacts", "eligible", lists))


def test_without_lists_everybody_who_works_is_eligible(read: Reading, content: Tables) -> None:
    bare = {**content, "contacts": content["contacts"].drop_columns(["eligible"])}
    logged, _ = read(bare)
    arrived = logged.log.contacts.arrived_at[logged.contact]
    assert logged.pairs.lengths.tolist() == [int(logged.log.csas.active_at(int(t)).sum()) for t in arrived]


def test_without_lists_nothing_can_be_estimated(read: Reading, content: Tables) -> None:
    bare = {**content, "contacts": content["contacts"].drop_columns(["eligible"])}
    with pytest.raises(ConfigError, match=r"contacts.parquet has no lists of who was eligible"):
        read(bare, source="estimated")


def test_too_many_pairs(read: Reading, content: Tables, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_PAIRS", 100)
    with pytest.raises(
        ConfigError, match=r"pairs of contacts and CSAs in the window, 100 at most: narrow it by --from"
    ):
        read(content)
