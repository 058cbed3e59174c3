"""P(resolved) judged on hand-overs: by hand, and against scikit-learn."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from sklearn.metrics import log_loss, roc_auc_score

from evaluation.baselines_rates import Outcomes
from evaluation.ranking_judge import judge
from evaluation.ranking_outcomes import Judgement
from tests.evaluation.logs import contact, handover, log
from tests.evaluation.test_ranking import Fixed
from twotower.errors import DataError
from twotower.metrics import Bootstrap, Interval
from twotower.tables.log import Log


class Certain(Fixed):
    """Gives its scores as probabilities."""

    def p_resolved(self, log: Log, positions: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        return self.scores(log, positions)


def tried() -> Log:
    """Three contacts: one that two tried, one that one tried, one that b was not eligible for."""
    return log(
        [contact(0), contact(1), contact(2, eligible=["a"])],
        [
            handover(0, "a", 9, resolved=False),
            handover(0, "b", 9, resolved=True),
            handover(0, "c", 9, resolved=None),
            handover(1, "a", 9, resolved=True),
            handover(2, "a", 9, resolved=False),
            handover(2, "b", 9, resolved=True),
        ],
        ["a", "b", "c"],
    )


def said(ranker: Fixed) -> Judgement:
    small = tried()
    outcomes = judge(ranker, small, np.arange(3), outcomes=Outcomes(small)).outcomes
    assert outcomes is not None
    return outcomes


def test_hand_overs_with_an_outcome_to_candidates_are_judged() -> None:
    heard = said(Certain([0.7, 0.4, 0.5]))
    assert heard.contact.tolist() == [0, 0, 1, 2]
    assert heard.outcome.tolist() == [False, True, True, False]
    assert heard.p is not None
    assert heard.p.tolist() == pytest.approx([0.7, 0.4, 0.7, 0.7])
    assert heard.outside == 1
    assert heard.counts.tolist() == [2, 1, 1]
    assert heard.likelihood.tolist() == pytest.approx([np.sqrt(0.3 * 0.4), 0.7, 0.3])


def test_concordance_looks_within_contacts_of_mixed_outcomes() -> None:
    assert np.array_equal(said(Fixed([0.7, 0.4, 0.5])).concordance, [0, np.nan, np.nan], equal_nan=True)
    assert said(Fixed([0.3, 0.4, 0.5])).concordance[0] == 1
    assert said(Fixed([0.4, 0.4, 0.5])).concordance[0] == 0.5


def test_figures_are_those_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    p = rng.random(400).astype(np.float32)
    y = rng.random(400) < p
    heard = Judgement("j", np.arange(200), np.repeat(np.arange(200), 2), y, p, p)
    found = heard.metrics(Bootstrap(200, draws=200))
    area, loss = found["auc"], found["log loss"]
    assert isinstance(area, Interval)
    assert isinstance(loss, Interval)
    assert area.value == pytest.approx(roc_auc_score(y, p))
    assert loss.value == pytest.approx(log_loss(y, p), abs=1e-6)
    assert area.low < area.value < area.high
    assert heard.losses.sum() / heard.counts.sum() == pytest.approx(loss.value)
    assert found["ece"] < 0.08


def test_intervals_resample_contacts_not_hand_overs() -> None:
    rng = np.random.default_rng(1)
    p, y = rng.random(50).astype(np.float32), rng.random(50) < 0.5
    once = Judgement("j", np.arange(50), np.arange(50), y, p, p).metrics(Bootstrap(50))
    # Nine copies of every hand-over are no new evidence.
    copied = Judgement(
        "j", np.arange(50), np.repeat(np.arange(50), 9), np.repeat(y, 9), np.repeat(p, 9), np.repeat(p, 9)
    )
    again = copied.metrics(Bootstrap(50))
    for name in ("auc", "log loss"):
        one, two = once[name], again[name]
        assert isinstance(one, Interval)
        assert isinstance(two, Interval)
        assert (two.low, two.high) == pytest.approx((one.low, one.high))


def test_who_knows_no_probability_has_concordance_alone() -> None:
    heard = said(Fixed([0.7, 0.4, 0.5]))
    assert heard.p is None
    assert list(heard.metrics(Bootstrap(3, draws=20))) == ["concordance"]
    assert len(heard.reliability.count) == 0


def test_a_probability_beyond_one_is_refused() -> None:
    with pytest.raises(DataError, match=r"sure: a probability .* outside 0\.\.1"):
        said(Certain([1.2, 0.4, 0.5], "sure"))
