"""The gate lets through who is not worse with confidence, and says of every rule why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from evaluation.ranking_judge import Judged
from evaluation.ranking_outcomes import Judgement
from loop.gate.judged import Pair, checks, judged
from loop.gate.rules import Check, Decision, GateSpec, Margin, Ratio, at_most, decided, not_worse, unanswered
from loop.gate.served import checks as served_checks
from loop.gate.served import size
from tests.serve import fakes
from twotower.clock import DAY
from twotower.errors import ConfigError
from twotower.tables.log import Log


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fakes.write_tables(fakes.tables(), tmp_path_factory.mktemp("gate") / "data")


@pytest.fixture(scope="module")
def bundles(tables: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("gate-bundles")
    first = fakes.fake_bundle(fakes.write_run(tables, folder / "run"), folder / "first")
    return first, fakes.fake_bundle(fakes.write_run(tables, folder / "whole", families=fakes.ALL), folder / "second")


def pair_of(log: Log, first: Sequence[np.ndarray], p: Sequence[np.ndarray], outcome: np.ndarray) -> Pair:
    """Of ranks (n,) and probabilities (n,) of one hand-over a contact."""
    positions = np.arange(len(outcome))
    made = []
    for rank, of in zip(first, p, strict=True):
        said = Judgement("x", positions, positions, outcome, of.astype(np.float32), of.astype(np.float32),
                         csa=positions % len(log.csas))  # fmt: skip
        made.append(Judged("x", positions, rank.astype(np.float64), rank * 0.0, rank.astype(np.int32), said))
    return Pair(log, *made)


@pytest.fixture(scope="module")
def log(tables: Path) -> Log:
    return Log.load(tables)


def of(pair: Pair, **rules: Any) -> dict[str, Check]:
    return {check.rule: check for check in checks(pair, GateSpec(**{"band_least": 50, **rules}))}


def test_the_same_model_passes_and_a_worse_one_does_not(log: Log) -> None:
    random = np.random.default_rng(0)
    n = min(600, len(log.contacts))
    truth = random.random(n)
    outcome = random.random(n) < truth
    rank = random.integers(1, 4, n)
    same = of(pair_of(log, [rank, rank], [truth, truth], outcome))
    assert set(same) == {"ranking", "outcomes", "calibration", "bands"}
    assert all(check.passed and check.worse == 0 for check in same.values())
    worse = of(pair_of(log, [rank, rank + 3], [truth, 1 - truth], outcome))
    assert not any(check.passed for check in worse.values())
    assert worse["ranking"].bound is not None
    assert worse["ranking"].worse is not None
    assert worse["ranking"].bound > worse["ranking"].worse > 0
    over = of(pair_of(log, [rank, rank], [truth, np.clip(truth + 0.2, 0, 1)], outcome))
    assert over["ranking"].passed
    assert not over["calibration"].passed


def test_little_data_does_not_let_anybody_pass(log: Log) -> None:
    """Equal on the mean, but with so few contacts that it could be much worse."""
    rank = np.tile([1, 8], 6)
    found = of(pair_of(log, [rank, rank[::-1]], [np.full(12, 0.5)] * 2, np.tile([True, False], 6)))
    assert found["ranking"].worse == pytest.approx(0)
    assert not found["ranking"].passed
    assert found["bands"].said.startswith("not asked: no band has 50 hand-overs")
    assert found["bands"].passed
    asked = of(
        pair_of(log, [rank, rank], [np.full(12, 0.5)] * 2, np.tile([True, False], 6)),
        bands=Margin(margin=0.1),
        calibration=None,
    )
    assert "it has to be answered" in asked["bands"].said
    assert not asked["bands"].passed
    assert "calibration" not in asked


def test_a_band_that_suffers_is_found(log: Log) -> None:
    n = min(1200, len(log.contacts))
    random = np.random.default_rng(1)
    outcome = random.random(n) < 0.7
    p = np.full(n, 0.7)
    languages = np.array(log.contacts.language.to_pylist(), object)[:n]
    names, counts = np.unique(languages[languages != None].astype(str), return_counts=True)  # noqa: E711
    suffers = names[counts.argmax()]
    member = languages == suffers
    assert member.sum() >= 50
    bad = np.where(member & outcome, 0.45, p)
    found = of(pair_of(log, [np.ones(n, int)] * 2, [p, bad], outcome), outcomes=Margin(margin=1.0))
    assert found["outcomes"].passed
    assert not found["bands"].passed
    assert "the worst of" in found["bands"].said


def test_no_outcomes_are_no_answer(log: Log) -> None:
    rank = np.ones(50, int)
    whole = pair_of(log, [rank, rank], [np.full(50, 0.5)] * 2, np.ones(50, bool))
    without = replace(whole, challenger=replace(whole.challenger, outcomes=None))
    found = of(without, outcomes=Margin(margin=0.1))
    assert found["ranking"].passed
    assert not found["outcomes"].passed
    assert "tells no outcomes" in found["outcomes"].said


def test_a_decision_is_told_line_by_line() -> None:
    good = not_worse("ranking", "MRR@10", 0.50, 0.52, -0.02, 0.004, 0.01)
    bad = at_most("size", "bytes", 100, 180, Ratio(most=1.5))
    whole = decided([good, bad])
    assert not whole.passed
    assert whole.lines() == [
        "pass  ranking      0.5200 MRR@10 against 0.5000: 0.0200 better, at most 0.0040 worse (margin 0.01)",
        "FAIL  size         180 bytes against 100, 1.80 times (at most 1.5)",
        "the challenger is kept out by size",
    ]
    assert decided([good]).lines()[-1] == "the challenger is promoted"
    assert not Decision(()).passed
    assert not not_worse("ranking", "MRR@10", 0.5, 0.5, 0.0, float("nan"), 0.01).passed
    assert unanswered("value", "no propensities", Margin(margin=0.0, missing="passes")).passed
    assert not at_most("size", "bytes", 0, 1, Ratio(most=2)).passed


def test_a_file_that_is_wrong() -> None:
    for wrong in ({"confidence": 0.4}, {"ranking": {"margin": -1}}, {"rankings": None}, {"size": {"most": 0}}):
        with pytest.raises(ValidationError):
            GateSpec.model_validate(wrong)


def test_both_rank_the_newest_window_by_the_router_s_code(tables: Path, bundles: tuple[Path, Path]) -> None:
    start = int(Log.load(tables).contacts.arrived_at[-1]) - 4 * DAY
    pair = judged(bundles[0], bundles[0], tables, start)
    assert (pair.champion.first == pair.challenger.first).all()
    found = {check.rule: check for check in checks(pair, GateSpec())}
    assert found["ranking"].passed
    other = judged(*bundles, tables, start)
    assert len(other.champion.positions) == len(pair.champion.positions)
    with pytest.raises(ConfigError, match=r"champion: was made from data up to .* judge on what neither has seen"):
        judged(*bundles, tables, start - 20 * DAY)


def test_size_and_time_are_of_this_host(bundles: tuple[Path, Path]) -> None:
    contacts = [{"intent_text": f"my card was charged twice {i}", "language": "en"} for i in range(8)]
    found = {check.rule: check for check in served_checks(*bundles, contacts, GateSpec(latency=Ratio(most=100)))}
    assert found["latency"].passed
    assert found["size"].champion == size(bundles[0])
    tight = GateSpec(latency=Ratio(most=1e-6), size=None)
    assert [check.passed for check in served_checks(*bundles, contacts, tight)] == [False]
