"""A window of tables as a centre: what is real stays as it was, what is modelled is near what it models, and no
contact's outcome tells its own counterfactual."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from evaluation.generate.centre import generate
from evaluation.generate.latents import Latents
from evaluation.generate.settings import Settings
from evaluation.simulate import policies
from evaluation.simulate.loop import success
from evaluation.simulate.replay import Replay, ReplaySpec, replay
from evaluation.simulate.replay_outcomes import cross_fitted
from evaluation.simulate.replay_rates import rates_before
from evaluation.simulate.replay_staff import shifts_of
from evaluation.simulate.replay_times import handling, product_limit
from evaluation.simulate.replay_window import can_take, covered, window_of
from evaluation.simulate.replicate import compare
from evaluation.simulate.report import text_report
from evaluation.simulate.run import simulate, state_of, world_of
from evaluation.simulate.scenario import ScenarioSpec, read, scenario_of
from evaluation.simulate.state import NOBODY, RESOLVED
from twotower.clock import DAY, parse_time
from twotower.errors import ConfigError, DataError, TwoTowerError
from twotower.tables.log import Log, take_rows

FROM, TO = "2026-06-20T00:00:00Z", "2026-06-24T00:00:00Z"
BEGIN, END = parse_time(FROM), parse_time(TO)


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A generated centre of forty days."""
    folder = tmp_path_factory.mktemp("replay") / "centre"
    generate(Settings(contacts=2500, csas=24, days=40, eligible=8.0, languages=("en", "es")), folder)
    return folder


@pytest.fixture(scope="module")
def log(tables: Path) -> Log:
    """Its tables."""
    return Log.load(tables)


@pytest.fixture(scope="module")
def true(tables: Path) -> Replay:
    """Four days of it, by its truth."""
    return replay(spec(tables))


def spec(tables: Path, /, **more: Any) -> ReplaySpec:
    return ReplaySpec.model_validate({"tables": str(tables), "from": FROM, "to": TO, "outcomes": "truth"} | more)


def test_contacts_are_the_window_s_own(true: Replay, log: Log) -> None:
    inside = (log.contacts.arrived_at >= BEGIN) & (log.contacts.arrived_at < END)
    assert len(true.demand) == inside.sum()
    assert np.array_equal(true.demand.arrival, (log.contacts.arrived_at[inside] - BEGIN) / 1e6)
    assert np.array_equal(true.window.rows, np.flatnonzero(inside))
    names = [true.centre.classes[k].split(" / ") for k in true.demand.kind.tolist()]
    assert [one[0] for one in names] == log.contacts.queue.filter(inside).to_pylist()
    assert [one[2] for one in names] == log.contacts.channel.filter(inside).to_pylist()
    assert true.centre.horizon_s == 4 * 86400
    assert np.isclose(true.centre.rates.sum() / 2, len(true.demand))


def test_who_can_take_what_agrees_with_the_lists_of_eligible(log: Log) -> None:
    window = window_of(log, BEGIN, END)
    able = can_take(window, END)
    share = covered(window, able)
    assert share is not None
    assert share > 0.95
    assert 0.2 < able.mean() < 0.95


def test_the_simulator_draws_by_the_truth(true: Replay, tables: Path) -> None:
    latents = Latents.load(tables / "truth.npz")
    world, state = world_of(true.centre, true.truth, len(true.demand)), state_of(true.centre, true.demand, true.truth)
    contact = {name: i for i, name in enumerate(latents.contact_id.tolist())}
    csa = {name: i for i, name in enumerate(latents.csa_id.tolist())}
    random = np.random.default_rng(0)
    ids = true.window.log.contacts.ids
    for n, j in zip(random.integers(0, len(true.demand), 200), random.integers(0, len(true.csa), 200), strict=True):
        row = int(true.window.rows[true.demand.row[n]])
        at = np.array([contact[ids[row].as_py()]]), np.array([csa[true.csa_ids[j]]])
        assert success.py_func(world, state, int(n), int(j), 0.0) == pytest.approx(latents.p_resolved(*at)[0], abs=1e-6)


def test_a_run_keeps_to_shifts_and_abilities(true: Replay) -> None:
    records = simulate(true.centre, policies.fifo(), 0, 0, true.demand, true.truth)
    taken = records.csa != NOBODY
    assert taken.mean() > 0.7
    assert true.centre.can[records.kind[taken], records.csa[taken]].all()
    shifts = true.centre.shifts
    assert shifts is not None
    for csa, start in zip(records.csa[taken].tolist(), records.start[taken].tolist(), strict=True):
        mine = shifts.csa == csa
        assert ((shifts.starts[mine] <= start) & (start <= shifts.ends[mine])).any()
    p = 1 / (1 + np.exp(-np.asarray(true.truth.pairs)[records.row[taken], records.csa[taken]]))
    assert (records.status[taken] == RESOLVED).mean() == pytest.approx(p.mean(), abs=0.1)


def test_handling_times_find_the_fast(log: Log, tables: Path) -> None:
    window = window_of(log, BEGIN, END)
    found, speed = handling(window), Latents.load(tables / "truth.npz").speed
    assert np.corrcoef(np.log(found.mean_s).mean(axis=0), speed)[0, 1] < -0.85
    assert found.sigma == pytest.approx(np.full(len(window.classes), 0.49), abs=0.1)


def test_product_limit_is_kaplan_and_meier_s() -> None:
    # Of six: two abandon at 1 and 3; two are taken at 2 and 3, two at 5.
    found = product_limit(np.array([1.0, 2.0, 3.0, 3.0, 5.0, 5.0]), np.array([1, 0, 1, 0, 0, 0], np.bool_))
    assert found.at.tolist() == [1.0, 3.0]
    assert found.share == pytest.approx([5 / 6, 5 / 6 * 3 / 4])
    drawn = found.drawn(np.array([0.99, 0.7, 0.5, 0.9]), np.array([0.0, 0.0, 0.0, 1.0]))
    assert drawn.tolist() == [1.0, 3.0, np.inf, 3.0]


def test_who_abandoned_waits_as_long_as_they_did(true: Replay) -> None:
    contacts, rows = true.window.log.contacts, true.window.rows
    gone = contacts.abandoned_at[rows] < END + 10 * DAY
    assert gone.any()
    waited = (contacts.abandoned_at[rows] - contacts.arrived_at[rows])[gone] / 1e6
    assert np.array_equal(true.demand.patience[gone], waited)


def test_a_patience_that_is_stated_counts_for_all(tables: Path, true: Replay) -> None:
    found = replay(spec(tables, patience={"mean_minutes": 10}))
    assert found.demand.patience.mean() == pytest.approx(600, rel=0.15)
    assert np.array_equal(found.demand.arrival, true.demand.arrival)
    assert {one.kind for one in found.centre.patience} == {"exponential"}
    assert "patience: as stated and not as in the log, exponential, a mean of 10 minutes" in found.notes
    never = replay(spec(tables, patience={"kind": "never"}))
    assert np.isinf(never.demand.patience).all()
    assert any(note.endswith("nobody abandons") for note in never.notes)


def test_shifts_are_derived_where_nobody_wrote_them_down(log: Log, tmp_path: Path) -> None:
    window = window_of(log, BEGIN, END)
    shifts, derived = shifts_of(tmp_path, window)
    assert derived == len(np.unique(shifts.csa[shifts.starts < 4 * 86400]))
    moves = log.handovers
    inside = (moves.assigned_at >= BEGIN) & (moves.assigned_at < END)
    for csa, moment in zip(
        moves.csa[inside].tolist(), ((moves.assigned_at[inside] - BEGIN) / 1e6).tolist(), strict=True
    ):
        mine = shifts.csa == csa
        assert ((shifts.starts[mine] <= moment) & (moment <= shifts.ends[mine])).any()


@pytest.mark.parametrize("load", [0.03, 0.5])
def test_a_load_that_is_asked_for(tables: Path, true: Replay, load: float) -> None:
    found = replay(spec(tables, load=load))
    assert found.centre.load() == pytest.approx(load, rel=0.25)
    assert np.all(np.diff(found.demand.arrival) >= 0)
    assert (len(found.demand) > len(true.demand)) == (load > true.centre.load())
    assert "by chance" in found.notes[-1]
    moved = np.abs(found.demand.arrival - true.demand.arrival[found.demand.row])
    assert moved.max() <= 900
    assert len(simulate(found.centre, policies.fifo(), 0, 0, found.demand, found.truth)) == len(found.demand)


@pytest.fixture(scope="module")
def fitted(log: Log) -> tuple[Any, Any, np.ndarray]:
    """Outcomes of a model for two days and everybody, in two folds."""
    window = window_of(log, BEGIN, BEGIN + 2 * DAY)
    found, quality = cross_fitted(window, np.arange(len(log.csas)), folds=2)
    return window, quality, found


def test_the_model_tells_something_of_the_truth(fitted: tuple[Any, Any, np.ndarray], tables: Path) -> None:
    window, quality, found = fitted
    assert quality.auc > 0.54
    assert quality.error < 0.12
    latents = Latents.load(tables / "truth.npz")
    pair = np.repeat(window.rows, found.shape[1]), np.tile(np.arange(found.shape[1]), len(window))
    assert np.corrcoef(latents.logit(*pair), found.ravel())[0, 1] > 0.2
    assert "held out AUC" in quality.line()


def test_no_contact_s_own_outcome_tells_its_counterfactuals(fitted: tuple[Any, Any, np.ndarray], log: Log) -> None:
    window, _, found = fitted
    customer = log.contacts.customer
    known = set(log.handovers.contact[log.handovers.resolved >= 0].tolist())
    one = next(i for i, row in enumerate(window.rows.tolist()) if customer[row] >= 0 and row in known)
    theirs = customer[log.handovers.contact] == customer[window.rows[one]]
    told = log.handovers.resolved
    turned = replace(log, handovers=replace(log.handovers, resolved=np.where(theirs & (told >= 0), 1 - told, told)))
    other = cross_fitted(window_of(turned, BEGIN, BEGIN + 2 * DAY), np.arange(len(log.csas)), folds=2)[0]
    assert np.array_equal(other[one], found[one])
    assert not np.array_equal(other, found)


def test_policies_believe_what_was_known_before(log: Log) -> None:
    window = window_of(log, BEGIN, END)
    moves = log.handovers
    later = np.where(moves.known_at >= BEGIN, np.int8(1), moves.resolved)
    changed = replace(log, handovers=replace(moves, resolved=np.where(moves.resolved >= 0, later, moves.resolved)))
    assert np.array_equal(rates_before(window), rates_before(window_of(changed, BEGIN, END)))
    first = int(log.contacts.arrived_at[0])
    assert np.all(rates_before(window_of(log, first, first + DAY)) == 0.5)


def test_a_file_says_it(tables: Path, tmp_path: Path) -> None:
    path = tmp_path / "replay.yaml"
    path.write_text(
        f"name: a week\ncentre: {{tables: {tables}, from: {FROM}, to: {TO}, outcomes: truth}}\n"
        "policies: [fifo, greedy, skills, p_mu]\nreplications: 2\n"
    )
    scenario = scenario_of(read(path, ScenarioSpec))
    assert [rule.name for rule in scenario.trial.rules] == [
        "FIFO, longest idle", "greedy match", "skills with overflow", "pμ",
    ]  # fmt: skip
    found = compare(scenario.trial, scenario.replications)
    text = text_report(scenario.name, scenario.trial, found)
    assert "a week: " in text
    assert "outcomes: the generated centre's own truth" in text
    assert found.of("greedy match", "contacts").mean == len(scenario.trial.demand or ())


def without(log: Log, **kept: Any) -> Log:
    """With some of the hand-overs."""
    return replace(log, handovers=take_rows(log.handovers, kept["handovers"]))


@pytest.mark.parametrize(
    ("more", "error", "told"),
    [
        ({"tables": "nowhere/at/all"}, ConfigError, r"centre\.tables: nowhere/at/all: no such folder"),
        (
            {"from": "2027-01-01T00:00:00Z", "to": "2027-01-02T00:00:00Z"},
            ConfigError,
            "no contact from 2027.*has contacts",
        ),
        ({"from": TO, "to": FROM}, ConfigError, "no contact from"),
        ({"from": "2026-06-20"}, ConfigError, r"centre\.from: .*zone"),
        ({"to": "tomorrow"}, ConfigError, r"centre\.to: 'tomorrow' is no time"),
    ],
)
def test_what_cannot_be_is_said(tables: Path, more: dict[str, Any], error: type[TwoTowerError], told: str) -> None:
    with pytest.raises(error, match=told):
        replay(spec(tables, **more))


@pytest.fixture
def copied(tables: Path, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    return Path(shutil.copytree(tables, tmp_path / "copy"))


def spoil(name: str, change: Callable[[Any], Any]) -> Callable[[Path], None]:
    def doing(folder: Path) -> None:
        path = folder / f"{name}.parquet"
        pq.write_table(change(pq.read_table(path)), path)

    return doing


@pytest.mark.parametrize(
    ("change", "more", "told"),
    [
        (lambda folder: (folder / "csas.parquet").unlink(), {}, "csas.parquet: no such file"),
        (lambda folder: (folder / "truth.npz").unlink(), {}, "truth.npz: not found"),
        (spoil("shifts", lambda t: t.set_column(0, "csa_id", [["who"] * len(t)])), {}, "'who' is no csa_id"),
        (
            spoil("interactions", lambda t: t.set_column(
                t.column_names.index("resolved"), "resolved", [[True] * len(t)])),
            {"outcomes": "cross_fitted"}, r"centre\.outcomes: .* a cross-fitted model takes 100",
        ),
        (spoil("csas", lambda t: t.set_column(t.column_names.index("capacity"), "capacity", [[0] * len(t)])), {},
         "nobody who works in the window can take any"),
    ],
)  # fmt: skip
def test_tables_that_cannot_be_are_said(
    copied: Path, change: Callable[[Path], None], more: dict[str, Any], told: str
) -> None:
    change(copied)
    with pytest.raises(TwoTowerError, match=told):
        replay(spec(copied, **more))


def test_nobody_works(log: Log, tmp_path: Path) -> None:
    early = without(log, handovers=log.handovers.assigned_at < BEGIN - DAY)
    window = window_of(early, BEGIN, END)
    with pytest.raises(ConfigError, match="nobody works in the window"):
        shifts_of(tmp_path, window)


def test_truth_of_another_centre(copied: Path, tmp_path: Path) -> None:
    generate(Settings(contacts=100, csas=10, days=28, eligible=4.0, seed=1, languages=("en",)), tmp_path / "other")
    shutil.copy(tmp_path / "other" / "truth.npz", copied / "truth.npz")
    with pytest.raises(DataError, match=r"truth\.npz"):
        replay(spec(copied))


@pytest.mark.parametrize(
    ("centre", "told"),
    [
        ("{tables: x, from: 2026-06-20T00:00:00Z}", r"centre\.to: Field required"),
        ("{tables: x, from: a, to: b, outcome: truth}", r"centre\.outcome: no such field; did you mean outcomes\?"),
        ("{tables: x, from: a, to: b, outcomes: mine}", r"centre\.outcomes: .*cross_fitted"),
    ],
)
def test_a_file_that_is_wrong(tmp_path: Path, centre: str, told: str) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text(f"centre: {centre}\n")
    with pytest.raises(ConfigError, match=told):
        read(path, ScenarioSpec)


def test_failures_of_one_customer_alone(log: Log) -> None:
    # In the fold of this customer nobody else has failed, so the model knows no reason why anybody would.
    contacts, moves = log.contacts, log.handovers
    customer = int(np.bincount(contacts.customer[contacts.customer >= 0]).argmax())
    theirs = contacts.customer[moves.contact] == customer
    many = np.flatnonzero(~theirs)[: 40 * int(theirs.sum())]
    kept = np.sort(np.concatenate([many, np.tile(np.flatnonzero(theirs), 12)]))
    turned = take_rows(replace(moves, resolved=np.where(theirs, 0, 1).astype(np.int8)), kept)
    window = window_of(replace(log, handovers=turned), BEGIN, BEGIN + DAY)
    found, quality = cross_fitted(window, np.arange(len(log.csas)), folds=2)
    assert np.isfinite(found).all()
    assert np.isfinite(quality.loss)
