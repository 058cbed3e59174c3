"""A bundle in a replay: asked at every decision or computed beforehand it decides the same; one that learns is told."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from evaluation.simulate.policies import Rule
from evaluation.simulate.policy_specs import Beliefs, BundleScoresSpec, BundleSpec
from evaluation.simulate.replay import Replay, ReplaySpec, replay
from evaluation.simulate.replay_bundle import Learns, bundle_rule, fields_of, pair_values, scores_rule
from evaluation.simulate.run import Records, simulate
from evaluation.simulate.scenario import ScenarioSpec, read, scenario_of
from evaluation.simulate.state import NOBODY
from serve.matcher import Matcher
from tests.serve import fakes
from twotower.errors import BundleError, ConfigError

CSAS = 12
UNTIL = fakes.START + timedelta(days=fakes.UNTIL_DAY)
FROM, TO = UNTIL.isoformat(), (UNTIL + timedelta(days=1)).isoformat()


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thirty days of a small centre, with shifts."""
    content = fakes.tables(400, CSAS)
    days = [(f"csa-{j:02}", fakes.START + timedelta(days=d, hours=9 + j % 3)) for j in range(CSAS) for d in range(30)]
    moment = pa.timestamp("us", "UTC")
    content["shifts"] = pa.table({
        "csa_id": [name for name, _ in days],
        "starts_at": pa.array([at for _, at in days], moment),
        "ends_at": pa.array([at + timedelta(hours=2) for _, at in days], moment),
    })  # fmt: skip
    return fakes.write_tables(content, tmp_path_factory.mktemp("replayed") / "data")


@pytest.fixture(scope="module")
def bundle(tables: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the first twenty days."""
    folder = tmp_path_factory.mktemp("bundle")
    return fakes.fake_bundle(fakes.write_run(tables, folder / "run"), folder / "bundle")


@pytest.fixture(scope="module")
def one_day(tables: Path) -> Replay:
    """The day after, busy."""
    return replay(spec(tables, load=0.8))


def spec(tables: Path, /, **more: Any) -> ReplaySpec:
    return ReplaySpec.model_validate({"tables": str(tables), "from": FROM, "to": TO, "folds": 2} | more)


def values_of(replayed: Replay, bundle: Path) -> np.ndarray:
    return pair_values(str(bundle), replayed.window, replayed.csa_ids)


def ran(of: Replay, rule: Rule) -> Records:
    return simulate(of.centre, rule, 0, 0, of.demand, of.truth)


@pytest.mark.parametrize("age", [0.0, 0.02 / 60])
def test_both_variants_decide_the_same(one_day: Replay, bundle: Path, age: float) -> None:
    asked = ran(one_day, bundle_rule(one_day, str(bundle), age, 16, False, "asked"))
    scored = ran(one_day, scores_rule(one_day, values_of(one_day, bundle), age, 16, "scored"))
    assert (asked.csa != NOBODY).sum() > 90
    assert (asked.start > asked.arrival).sum() > 30  # some waited, so whom a free CSA takes was decided, too
    assert np.array_equal(asked.csa, scored.csa)
    assert np.array_equal(asked.start, scored.start, equal_nan=True)
    assert np.array_equal(asked.status, scored.status)


def test_values_are_the_matcher_s(one_day: Replay, bundle: Path) -> None:
    values = pair_values(bundle, one_day.window, one_day.csa_ids)
    assert values.shape == (len(one_day.window), len(one_day.csa_ids))
    assert values.dtype == np.float32
    matcher, contacts = Matcher.load(bundle), fields_of(one_day.window)
    for row in (0, 7, len(contacts) - 1):
        for one in matcher.match(contacts[row], 100, list(one_day.csa_ids)):
            assert one.p_resolved is not None
            assert values[row, one_day.csa_ids.index(one.csa_id)] == pytest.approx(one.p_resolved, abs=1e-6)


def test_fields_are_the_contacts_own(one_day: Replay, tables: Path) -> None:
    told = {row["contact_id"]: row for row in pq.read_table(tables / "contacts.parquet").to_pylist()}
    for one in fields_of(one_day.window):
        row = told[one["contact_id"]]
        for name in ("customer_id", "channel", "language", "intent", "intent_text", "transcript"):
            assert one[name] == row[name]
        assert one["arrived_at"] == int(row["arrived_at"].timestamp() * 1e6)
        assert one["queue"] is None
        assert one["priority"] is None


def test_one_that_learns_is_told(one_day: Replay, bundle: Path) -> None:
    rule = bundle_rule(one_day, str(bundle), 0.0, 4, True, "learns")
    assert rule.start is not None
    decide = rule.start()
    assert isinstance(decide, Learns)
    before = decide.matcher.latest
    records = ran(one_day, replace(rule, start=lambda: decide))
    assert decide.matcher.latest > before
    ended = np.nanmax(records.end[records.csa != NOBODY])
    assert decide.matcher.latest <= one_day.window.begin + round(ended * 1e6)
    still = ran(one_day, bundle_rule(one_day, str(bundle), 0.0, 4, False, "still"))
    assert not np.array_equal(records.csa, still.csa)


def test_who_joined_since_is_neither_preferred_nor_shunned(one_day: Replay, bundle: Path) -> None:
    names = (*one_day.csa_ids[:-1], "somebody new")
    values = pair_values(bundle, one_day.window, names)
    assert values[:, -1] == pytest.approx(values[:, :-1].mean(axis=1), abs=1e-6)
    joined = replace(one_day, centre=replace(one_day.centre, csas=names))
    asked = ran(joined, bundle_rule(joined, str(bundle), 0.0, 16, False, "asked"))
    assert (asked.csa == len(names) - 1).any()


def test_a_bundle_of_other_csas(one_day: Replay, bundle: Path) -> None:
    names = tuple(f"other {i}" for i in range(len(one_day.csa_ids)))
    other = replace(one_day, centre=replace(one_day.centre, csas=names))
    for rule in (lambda: values_of(other, bundle),
                 lambda: bundle_rule(other, str(bundle), 0.0, 16, False, "x")):  # fmt: skip
        with pytest.raises(ConfigError, match=r"bundle \w{12}: holds 0 of the \d+ CSAs who work in the window"):
            rule()


def test_one_that_would_learn_what_it_knows(tables: Path, bundle: Path) -> None:
    early = replay(spec(tables, **{"from": (UNTIL - timedelta(days=1)).isoformat()}))
    with pytest.raises(ConfigError, match=r"policy x: the bundle knows all outcomes until 2026-01-21.*must end before"):
        bundle_rule(early, str(bundle), 0.0, 16, True, "x")


def test_a_bundle_that_is_not_there(one_day: Replay, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="nowhere"):
        values_of(one_day, tmp_path / "nowhere")


def test_a_described_centre_has_no_contacts_for_a_bundle(one_day: Replay, bundle: Path) -> None:
    described = Beliefs(one_day.centre, one_day.known, (np.zeros((1, 1), np.int8), (0.0,)))
    for one in (BundleSpec(policy="bundle", bundle=str(bundle)),
                BundleScoresSpec(policy="bundle_scores", bundle=str(bundle))):  # fmt: skip
        with pytest.raises(ConfigError, match="needs contacts with texts; give the centre `tables`"):
            one.rule(described)


def test_a_file_names_bundles(tables: Path, bundle: Path, tmp_path: Path) -> None:
    path = tmp_path / "replay.yaml"
    path.write_text(
        f"centre: {{tables: {tables}, from: '{FROM}', to: '{TO}', folds: 2}}\n"
        f"policies: [fifo, {{policy: bundle, bundle: {bundle}}}, {{policy: bundle, learns: true, bundle: {bundle}}},\n"
        f"  {{policy: bundle_scores, bundle: {bundle}, age_per_minute: 0.01}}]\n"
    )
    scenario = scenario_of(read(path, ScenarioSpec))
    names = [rule.name for rule in scenario.trial.rules]
    assert names == ["FIFO, longest idle", "bundle", "bundle that learns", "bundle's scores"]
