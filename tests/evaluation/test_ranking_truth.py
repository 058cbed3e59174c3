"""First choices against the truth of a generated centre."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from evaluation.generate.centre import generate
from evaluation.generate.settings import Settings
from evaluation.ranking import split_log
from evaluation.ranking_judge import judge
from evaluation.ranking_run import evaluate_rankers
from evaluation.ranking_truth import judge_by_truth
from evaluation.report_text import json_report, text_report
from evaluation.truth import Truth
from tests.evaluation.test_ranking import Fixed
from twotower.tables.log import Log


class Knowing:
    """Scores by the truth; `sign` −1 chooses the worst."""

    def __init__(self, folder: Path, log: Log, name: str, sign: float = 1.0) -> None:
        self.name = name
        truth = Truth.load(folder)
        contact = np.array([str(c) for c in log.contacts.ids.to_pylist()])
        csa = np.array([str(c) for c in log.csas.ids.to_pylist()])
        order = np.argsort(contact)
        rows = order[np.searchsorted(contact[order], truth.latents.contact_id[truth.contact[truth.rows]].astype(str))]
        columns = np.searchsorted(csa, truth.latents.csa_id[truth.csa].astype(str))
        self._scores = np.zeros((len(contact), len(csa)), dtype=np.float32)
        self._scores[rows, columns] = sign * truth.p_resolved

    def scores(self, log: Log, positions: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        return self._scores[positions]


@pytest.fixture(scope="module")
def centre(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small centre."""
    folder = tmp_path_factory.mktemp("truth") / "centre"
    generate(Settings(contacts=1500, csas=40, seed=3), folder)
    return folder


def test_one_who_knows_captures_everything_and_one_by_lot_next_to_nothing(centre: Path) -> None:
    log = Log.load(centre)
    split = split_log(log)
    rankers = [Knowing(centre, log, "oracle"), Knowing(centre, log, "worst", -1.0), Fixed([0.0] * len(log.csas), "lot")]
    report = judge_by_truth(centre, log, [judge(ranker, log, split.test) for ranker in rankers])
    assert report.captured["oracle"].captured == pytest.approx(1.0)
    assert report.captured["worst"].captured < -0.5
    assert abs(report.captured["lot"].captured) < 0.25
    assert 0 < report.ceiling.captured < 1
    assert report.of_ceiling("oracle") == pytest.approx(1 / report.ceiling.captured)
    assert report.captured["lot"].missing == 0


def test_the_truth_stands_in_the_report(centre: Path) -> None:
    log = Log.load(centre)
    found = evaluate_rankers(log, split_log(log), [Knowing(centre, log, "oracle")], "success", centre)
    text, data = text_report(found), json_report(found)
    assert found.truth is not None
    assert data["truth"]["captured"]["oracle"]["captured"] == pytest.approx(1.0)
    assert data["truth"]["ceiling"]["captured"] == found.truth.ceiling.captured
    assert f"{found.truth.captured['blend'].captured:.3f} [" in text
    assert "whoever assigned it" in text
    assert found.outcomes["oracle"]["concordance"] is not None
    assert found.best_rate is not None
