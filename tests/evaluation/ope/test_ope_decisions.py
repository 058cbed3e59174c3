"""decisions.parquet: as the export writes it, and what cannot be is refused with its row."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from evaluation.ope.decisions import DECISIONS, FILE, OFFER, Decisions, read_decisions
from evaluation.ope.logged import Logged, read_logged
from serve.explore import Explorer
from serve.explore_options import Exploration
from serve.store import export
from tests.evaluation.ope import worlds
from tests.serve.store import day
from twotower.clock import parse_time
from twotower.errors import DataError
from twotower.tables.log import Log

BEGIN, END = parse_time(worlds.FROM), parse_time(worlds.TO)
Tables = dict[str, pa.Table]


@pytest.fixture(scope="module")
def content() -> Tables:
    return worlds.tables(300)


@pytest.fixture
def read(content: Tables, tmp_path: Path) -> Callable[..., tuple[Decisions, Log, Path]]:
    """Decisions with columns replaced, read back."""

    def written(**changes: Any) -> tuple[Decisions, Log, Path]:
        folder = worlds.write(content, tmp_path / "data", worlds.decided(content, **changes))
        log = Log.load(folder)
        found = read_decisions(folder, log)
        assert found is not None
        return found, log, folder

    return written


def test_the_columns_are_the_exports() -> None:
    assert OFFER == export.OFFER
    for column in DECISIONS.columns:
        assert export.DECISIONS.field(column.name).type == column.type


def test_a_folder_without_decisions(ope_data: Path, ope_log: Log) -> None:
    assert read_decisions(ope_data, ope_log) is None


def test_chances_of_everybody_are_read(read: Callable[..., tuple[Decisions, Log, Path]]) -> None:
    found, log, folder = read()
    assert len(found.contact) == 300
    assert found.whole.all()
    assert len(found.nobody) == 0
    logged, told = read_logged(folder, log, int(log.contacts.arrived_at[0]), END)
    assert told
    assert logged.chances == pytest.approx(worlds.chances(logged.pairs.csa.reshape(-1, 4)).ravel())
    assert logged.chances[logged.pairs.own] == pytest.approx(logged.propensity)
    assert (logged.score.reshape(-1, 4) == [0, -1, -2, -3]).all()


def offers(content: Tables, row: int, **changes: Any) -> list[Any]:
    """Candidates of every decision, those of one row changed."""
    lists = worlds.decided(content)["candidates"].to_pylist()
    lists[row] = [{**one, **changes} for one in lists[row]]
    return lists


@pytest.mark.parametrize("value", [0.0, -0.25, 1.5, float("nan")])
def test_a_propensity_that_is_none(
    read: Callable[..., tuple[Decisions, Log, Path]], content: Tables, value: float
) -> None:
    column = worlds.decided(content)["propensity"].to_pylist()
    column[7] = value
    with pytest.raises(
        DataError, match=rf"decisions.parquet, row 7, column propensity: is no probability.*found {value}"
    ):
        read(propensity=column)


def test_a_candidates_propensity_that_is_none(
    read: Callable[..., tuple[Decisions, Log, Path]], content: Tables
) -> None:
    with pytest.raises(DataError, match=r"decisions.parquet, row 4, column candidates.propensity: is no probability"):
        read(candidates=offers(content, 4, propensity=-0.1))


def test_chances_that_do_not_sum_to_one(read: Callable[..., tuple[Decisions, Log, Path]], content: Tables) -> None:
    with pytest.raises(DataError, match=r"row 11, column candidates.propensity: .* do not sum to 1.*found 0.4"):
        read(candidates=offers(content, 11, propensity=0.1))


def test_two_tellings_that_differ(read: Callable[..., tuple[Decisions, Log, Path]], content: Tables) -> None:
    column = worlds.decided(content)["propensity"].to_pylist()
    column[3] = 0.987
    with pytest.raises(DataError, match=r"row 3, column propensity: the candidates say 0\.\d+ of who was chosen"):
        read(propensity=column)


def test_somebody_without_a_chance_who_was_chosen(
    read: Callable[..., tuple[Decisions, Log, Path]], content: Tables
) -> None:
    lists = worlds.decided(content)["candidates"].to_pylist()
    chosen = worlds.decided(content)["chosen"].to_pylist()[5]
    lists[5] = [{**one, "propensity": 0.0 if one["csa_id"] == chosen else 1 / 3} for one in lists[5]]
    with pytest.raises(DataError, match=r"row 5, .*who was chosen has no chance among the candidates"):
        read(candidates=lists)


def test_chances_that_are_not_all_known(read: Callable[..., tuple[Decisions, Log, Path]], content: Tables) -> None:
    lists = offers(content, 2, propensity=None)
    found, log, folder = read(candidates=lists)
    assert np.flatnonzero(~found.whole).tolist() == [2]
    logged, _ = read_logged(folder, log, int(log.contacts.arrived_at[0]), END)
    assert np.isnan(logged.chances).sum() == 4
    assert np.isfinite(logged.propensity).all()


def test_candidates_whom_the_tables_do_not_hold_are_counted(
    read: Callable[..., tuple[Decisions, Log, Path]], content: Tables
) -> None:
    """A tenth of a round's chance is a stranger's: the others' are not all there was, that of the chosen stands."""
    lists, plain = offers(content, 0), worlds.decided(content)["propensity"].to_pylist()
    for row, theirs in ((2, 0.1), (3, 0.0)):
        shrunk = [{**one, "propensity": (1 - theirs) * one["propensity"]} for one in lists[row]]
        lists[row] = [*shrunk, {**lists[row][0], "csa_id": "csa-unknown", "propensity": theirs}]
    column = [0.9 * p if i == 2 else p for i, p in enumerate(plain)]
    found, log, folder = read(candidates=lists, propensity=column)
    assert np.flatnonzero(found.unknown).tolist() == np.flatnonzero(~found.whole).tolist() == [2]
    logged, told = read_logged(folder, log, int(log.contacts.arrived_at[0]), END)
    assert told
    assert logged.left_out.unknown == 1
    assert np.isnan(logged.chances).sum() == 4
    assert sorted(logged.propensity) == pytest.approx(sorted(column))


def test_a_missing_column(content: Tables, tmp_path: Path) -> None:
    folder = worlds.write(content, tmp_path / "data")
    pq.write_table(worlds.decided(content).drop_columns(["contact_id"]), folder / FILE)
    with pytest.raises(DataError, match=r"decisions.parquet, column contact_id: missing"):
        read_decisions(folder, Log.load(folder))


def test_decisions_that_chose_nobody_are_counted(
    read: Callable[..., tuple[Decisions, Log, Path]], content: Tables
) -> None:
    chosen = [None if i < 10 else name for i, name in enumerate(worlds.decided(content)["chosen"].to_pylist())]
    found, log, folder = read(chosen=chosen)
    assert (len(found.nobody), len(found.contact)) == (10, 290)
    logged, _ = read_logged(folder, log, int(log.contacts.arrived_at[0]), END)
    assert logged.left_out.unfollowed == 10
    assert len(logged) == 300  # interactions.parquet has their propensities
    late, _ = read_logged(folder, log, BEGIN, END)
    assert late.left_out.unfollowed == int((found.nobody >= late.contact[0]).sum())


def test_the_decision_before_the_hand_over_counts(content: Tables, tmp_path: Path) -> None:
    """A later decision of the same CSA, after the hand-over, is not the one that it followed."""
    table = worlds.decided(content)
    late = [{**row, "decided_at": row["decided_at"].replace(year=2027), "urgent": True} for row in table.to_pylist()]
    both = pa.concat_tables([table, pa.Table.from_pylist(late, table.schema)])
    folder = worlds.write(content, tmp_path / "data", both)
    log = Log.load(folder)
    logged, _ = read_logged(folder, log, int(log.contacts.arrived_at[0]), END)
    assert not logged.urgent.any()
    early = pa.concat_tables(
        [table, pa.Table.from_pylist([{**row, "urgent": True} for row in table.to_pylist()], table.schema)]
    )
    pq.write_table(early, folder / FILE)
    logged, _ = read_logged(folder, log, int(log.contacts.arrived_at[0]), END)
    assert logged.urgent.all()  # of two at one moment the later in the file


def test_who_was_offered_counts_as_eligible(read: Callable[..., tuple[Decisions, Log, Path]], content: Tables) -> None:
    lists = worlds.decided(content)["eligible"].to_pylist()
    chosen = worlds.decided(content)["chosen"].to_pylist()
    _, log, folder = read(eligible=[[name] for name in chosen])
    logged, _ = read_logged(folder, log, int(log.contacts.arrived_at[0]), END)
    assert isinstance(logged, Logged)
    assert logged.left_out.outside == 0
    order = {name: i for i, name in enumerate(content["contacts"]["contact_id"].to_pylist())}
    for i, contact in enumerate(log.contacts.ids.to_pylist()[:20]):
        part = slice(logged.pairs.offsets[i], logged.pairs.offsets[i + 1])
        assert [worlds.NAMES[j] for j in logged.pairs.csa[part]] == lists[order[contact]]


def test_an_explorers_decisions_are_read(tmp_path: Path) -> None:
    """What `Explorer` logs sums to 1 over the candidates, with 0 for who is not acceptable."""
    content = worlds.tables(200)
    explorer = Explorer(Exploration(policy="uniform", share=0.5, uniform=0.1, most_loss=0.3), bytes(16))

    class Option:
        def __init__(self, csa_id: str, p: float) -> None:
            self.csa_id, self.p_resolved, self.uncertainty, self.logit = csa_id, p, None, None

    table = worlds.decided(content)
    rows, chosen = table.to_pylist(), {}
    for row in rows:
        options = [Option(one["csa_id"], 0.2 + 0.2 * k) for k, one in enumerate(row["candidates"])]
        decision = explorer.choose(row["contact_id"], options, urgent=False)
        for one, p in zip(row["candidates"], decision.propensities, strict=True):
            one["propensity"] = p
        row["chosen"], row["propensity"] = decision.csa_id, decision.propensity
        chosen[row["contact_id"]] = decision.csa_id
    moves = content["interactions"]
    content = worlds.with_column(
        content, "interactions", "csa_id", [chosen[one] for one in moves["contact_id"].to_pylist()]
    )
    content = worlds.with_column(content, "interactions", "propensity", pa.nulls(200, pa.float64()))
    folder = worlds.write(content, tmp_path / "data", pa.Table.from_pylist(rows, table.schema))
    log = Log.load(folder)
    logged, told = read_logged(folder, log, int(log.contacts.arrived_at[0]), END)
    assert told
    assert logged.pairs.lengths.min() == 4
    assert sorted(set(np.round(logged.chances, 6))) == pytest.approx([0, 0.25, 0.75])


def test_an_export_of_the_store_is_read(tmp_path: Path) -> None:
    """A router tells its decisions and what became of them; the export is what was told."""
    pytest.importorskip("sqlalchemy")
    from serve.store.export import export as write_export
    from serve.store.store import Store

    customers = pa.table({"customer_id": ["customer-1"], "language": ["en"]})
    folder = worlds.write({**worlds.tables(150), "customers": customers}, tmp_path / "told")
    with Store.open(f"sqlite:///{tmp_path / 'feedback.db'}") as store:
        store.roster(day.read(folder, "csas"))
        for one in day.decisions(folder):
            who = [offer.csa_id for offer in one.candidates]
            chance = worlds.chances(np.array([[worlds.NAMES.index(name) for name in who]]))[0]
            one.candidates = [
                offer._replace(propensity=float(p)) for offer, p in zip(one.candidates, chance, strict=True)
            ]
            store.log.decided(one)
        store.feedback(*day.outcomes(folder))
        assert store.log.flush(60)
        write_export(store.engine, tmp_path / "export")
    log = Log.load(tmp_path / "export")
    begin = int(log.contacts.arrived_at[0])
    logged, told = read_logged(tmp_path / "export", log, begin, END)
    plain, _ = read_logged(folder, Log.load(folder), begin, END)
    assert told
    assert len(logged) == len(plain) == 150
    assert logged.propensity == pytest.approx(plain.propensity)
    assert np.array_equal(logged.reward("resolved"), plain.reward("resolved"))
    assert logged.chances == pytest.approx(worlds.chances(logged.pairs.csa.reshape(-1, 4)).ravel())
    assert np.isfinite(logged.score).all()
