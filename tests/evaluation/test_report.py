"""The report says what was measured: as text, as JSON and as a page that a browser can read."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from evaluation.baselines_rates import Outcomes, RateBaseline
from evaluation.ranking import split_log
from evaluation.ranking_run import Evaluation, evaluate_rankers
from evaluation.report_html import html_report, write_report
from evaluation.report_text import json_report, short, table, text_report
from tests.evaluation.logs import log, random_centre
from twotower.errors import OutputError
from twotower.metrics import Interval

VOID = {"meta", "path", "use", "rect", "br", "image"}


class Page(HTMLParser):
    """Checks that every element that opens closes, in order, and keeps the text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: dict[str, int] = {}
        self.words = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen[tag] = self.seen.get(tag, 0) + 1
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen[tag] = self.seen.get(tag, 0) + 1

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data


@pytest.fixture(scope="module")
def found() -> Iterator[Evaluation]:
    """A model that knows rates, on a centre with failures and enough contacts for slices and bands."""
    contacts, handovers, csas = random_centre(0, n=2000)
    contacts = [{**row, "queue": "<b>&co</b>" if row["queue"] == "q0" else "q1"} for row in contacts]
    small = log(contacts, handovers, csas)
    model = RateBaseline("my model", Outcomes(small), "csa", 2.0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("evaluation.calibration.LEAST", 20)
        yield evaluate_rankers(small, split_log(small), [model], warnings=["it has seen the test"])


def test_the_text_has_every_ranker_and_the_verdict(found: Evaluation) -> None:
    text = text_report(found)
    for name in ("my model", "popularity", "tfidf-knn", "customer", "blend", "centre's rate", "CSA's rate in intent"):
        assert f"\n{name} " in text
    assert f"{found.metrics['my model']['mrr@10'].value:.3f} ±" in text
    assert f"the best baseline by validation: {found.ahead[found.best].value:+.4f}" in text
    assert "note: it has seen the test" in text
    assert "log loss below that of" in text
    assert f"{found.without} that nobody took and resolved are left out" in text
    assert found.words[0] in text


def test_the_json_has_all_of_it_and_nothing_that_json_lacks(found: Evaluation) -> None:
    data = json.loads(json.dumps(json_report(found), allow_nan=False))
    assert data["metrics"]["blend"]["hit@10"]["low"] == found.metrics["blend"]["hit@10"].low
    assert data["outcomes"]["my model"]["auc"]["value"] > 0
    assert data["chosen"]["tfidf-knn"]["neighbours"] in (50, 200)
    assert len(data["slices"]) == len(found.slices) > 5
    assert sum(data["reliability"]["count"]) == found.handovers
    assert data["contacts"] + data["without"] == 200


def test_the_page_is_well_formed_and_contains_the_figures(found: Evaluation) -> None:
    page = Page(html_report(found))
    assert page.open == []
    assert page.seen["svg"] >= 3
    assert page.seen["table"] >= 4
    for name, metrics in found.metrics.items():
        assert name in page.words
        assert f"{metrics['ndcg@10'].value:.3f} [{metrics['ndcg@10'].low:.3f}" in page.words
    assert found.reliability is not None
    assert f"ECE {found.reliability.error:.3f}" in page.words
    assert all(line in page.words for line in found.words)


def test_the_page_needs_nothing_from_outside(found: Evaluation) -> None:
    page = html_report(found)
    assert "<script" not in page
    assert "src=" not in page
    assert "@import" not in page


def test_what_comes_from_the_tables_is_text_and_no_markup(found: Evaluation) -> None:
    page = html_report(found)
    assert "<b>&co</b>" not in page
    assert "&lt;b&gt;&amp;co&lt;/b&gt;" in page


def test_the_same_figures_give_the_same_bytes(found: Evaluation) -> None:
    assert html_report(found) == html_report(found)


def test_for_success_slices_are_judged_by_the_outcomes() -> None:
    contacts, handovers, csas = random_centre(0, n=2000)
    small = log(contacts, handovers, csas)
    outcomes = Outcomes(small)
    model = RateBaseline("my model", outcomes, "csa", 2.0)
    success = evaluate_rankers(small, split_log(small), [model], "success")
    assert success.measure == "likelihood"
    assert "likelihood" in html_report(success)
    told = outcomes.among(split_log(small).test)
    q1 = next(residual for residual in success.slices if residual.value == "q1")
    asked = [of for of in np.unique(outcomes.contact[told]) if contacts[of]["queue"] == "q1"]
    assert q1.contacts == len(asked)
    likelihood = []
    for of in asked:
        here = told[outcomes.contact[told] == of]
        p = model.p_resolved(small, np.array([of]))[0, outcomes.csa[here]]
        likelihood.append(np.prod(np.where(outcomes.resolved[here], p, 1 - p)) ** (1 / len(here)))
    assert q1.reached.value == pytest.approx(np.mean(likelihood), abs=1e-6)


def test_without_outcomes_the_page_has_no_such_part(found: Evaluation) -> None:
    bare = replace(found, outcomes={}, reliability=None, calibration=[], less_loss=None, slices=[], csa_slices=[])
    page = Page(html_report(bare))
    assert "Outcomes" not in page.words
    assert page.seen["svg"] == 1
    assert "log loss" not in text_report(bare)
    assert "outcomes" not in json_report(bare)


def test_a_report_is_written_whole_and_never_over_another(found: Evaluation, tmp_path: Path) -> None:
    write_report(found, tmp_path / "report")
    assert sorted(file.name for file in (tmp_path / "report").iterdir()) == ["metrics.json", "report.html"]
    assert json.loads((tmp_path / "report" / "metrics.json").read_text()) == json_report(found)
    with pytest.raises(OutputError, match="exists already"):
        write_report(found, tmp_path / "report")
    assert [entry.name for entry in tmp_path.iterdir()] == ["report"]


def test_cells() -> None:
    nan = float("nan")
    assert short(Interval(0.5, 0.4, 0.6)) == "0.500 ±0.100"
    assert short(Interval(0.5, nan, nan)) == "0.500"
    assert (short(None), short(nan), short(Interval(nan, nan, nan)), short(0.25)) == ("–", "–", "–", "0.250")
    assert table([["", "n"], ["long name", "1"]]) == "           n\nlong name  1"


def test_calibration_stands_there_by_queue_language_and_tenure(found: Evaluation) -> None:
    kinds = {band.kind for band in found.calibration}
    assert {"all", "queue", "language", "tenure"} <= kinds
    assert found.calibration[0].pairs == found.handovers
    text, page, data = text_report(found), html_report(found), json_report(found)
    assert "calibration of P(resolved)" in text
    assert "queue: q1" in text
    assert "queue: &lt;b&gt;&amp;co&lt;/b&gt;" in page
    assert [band["error"] for band in data["calibration"]] == [band.error for band in found.calibration]
    assert Page(page).seen["svg"] > Page(html_report(replace(found, calibration=[]))).seen["svg"]
