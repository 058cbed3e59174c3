"""With a bundle: its calibration on what it has not seen, its own text vectors, and who it does not hold."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from evaluation.ranking_model import ModelRanker
from loop.drift.calibrated import said
from loop.drift.run import Drift, drift
from loop.drift.windows import Windows
from serve.matcher import Matcher
from serve.rolling import RollingMatcher
from tests.serve import fakes
from twotower.errors import BundleError
from twotower.tables.log import Log

DAYS = 4


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fakes.write_tables(fakes.tables(contacts=2400), tmp_path_factory.mktemp("drift-bundle") / "data")


@pytest.fixture(scope="module")
def bundle(tables: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drift-bundle-of")
    return fakes.fake_bundle(fakes.write_run(tables, folder / "run"), folder / "bundle")


@pytest.fixture(scope="module")
def found(tables: Path, bundle: Path) -> Drift:
    return drift(tables, bundle, days=DAYS)


def test_p_is_the_router_s_own(tables: Path, bundle: Path) -> None:
    windows = Windows.of(Log.load(tables), DAYS)
    rolling = RollingMatcher(Matcher.load(bundle), windows.log)
    rows = windows.handovers(len(windows) - 1)[:25]
    moves = windows.log.handovers
    ranker = ModelRanker.load(bundle, windows.log)
    positions = moves.contact[rows].astype(np.int64)
    every = ranker.p_resolved(windows.log, positions)
    assert every is not None
    listed = ~np.isnan(every[np.arange(len(rows)), moves.csa[rows]])
    assert listed.sum() > 10
    expected = every[np.arange(len(rows)), moves.csa[rows]][listed]
    assert said(windows, rolling, rows)[listed] == pytest.approx(expected, abs=1e-6)


def test_calibration_is_of_what_the_bundle_has_not_seen(found: Drift) -> None:
    gap = found.finding("calibration.gap")
    windows = np.isfinite(gap.values)
    until = np.array(found.edges[:-1]) >= fakes.until_us()
    assert windows[-1]
    assert not windows[~until][:-2].any()
    assert gap.p is not None
    assert any("sampling alone" in note for note in found.notes)
    assert found.bundle is not None


def test_a_model_that_is_too_sure_of_itself_is_found(tables: Path, bundle: Path) -> None:
    """Nothing is resolved any more."""
    log = Log.load(tables)
    late = log.handovers.assigned_at >= fakes.until_us()
    none = replace(log, handovers=replace(log.handovers, resolved=np.where(late, np.int8(0), log.handovers.resolved)))
    one = drift(none, bundle, days=DAYS).finding("calibration.gap")
    assert one.status == "alarm"
    assert one.value < -0.2
    assert one.sentence.startswith("P(resolved) is too high")


def test_vectors_are_watched_and_move_with_the_texts(tables: Path, bundle: Path, found: Drift) -> None:
    assert found.finding("input.vectors").status == "ok"
    log = Log.load(tables)
    texts = np.array(log.contacts.intent_text.to_pylist(), dtype=object)
    texts[log.contacts.arrived_at >= found.start] = "refund refund"
    import pyarrow as pa

    moved = replace(log, contacts=replace(log.contacts, intent_text=pa.array(texts.tolist(), pa.large_string())))
    one = drift(moved, bundle, days=DAYS).finding("input.vectors")
    assert one.status == "alarm"
    assert one.value > 10 * abs(found.finding("input.vectors").value)


def test_work_of_whom_the_bundle_does_not_know(tables: Path, bundle: Path, found: Drift) -> None:
    assert found.finding("roster.work_outside_bundle").value == 0
    log = Log.load(tables)
    ids = log.csas.ids.to_pylist()
    moves, joiner = log.handovers, ids.index("csa-11")  # joins on day 25, after the bundle's data
    given = np.where((moves.assigned_at >= found.start) & (moves.contact % 8 > 0), joiner, moves.csa).astype(np.int32)
    one = drift(replace(log, handovers=replace(moves, csa=given)), bundle, days=DAYS).finding(
        "roster.work_outside_bundle"
    )
    assert one.value == pytest.approx(7 / 8, abs=0.05)
    assert one.status == "alarm"
    assert list(one.named) == ["csa-11"]


def test_another_bundle_than_expected_is_refused(tables: Path, bundle: Path) -> None:
    with pytest.raises(BundleError, match="expected aaaaaaaaaaaa"):
        drift(tables, bundle, days=DAYS, digest="a" * 64)
