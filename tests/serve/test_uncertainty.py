"""What a match says of how sure it is belongs to the probability that it gives, whatever map that comes from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serve.answer import Candidate
from serve.explore import Decision, Explorer
from serve.explore_options import Exploration
from serve.matcher import Matcher
from serve.rolling import RollingMatcher
from twotower.bundle.bundle import Bundle
from twotower.scoring.calibration import Calibration
from twotower.scoring.utility import Utility
from twotower.tables.log import Log

CONTACT = {"contact_id": "c", "intent_text": "my refund please", "channel": "chat", "language": "en"}
LEVEL = Calibration("isotonic", 1.0, (-40.0, -30.0, 30.0, 40.0), (0.1, 0.4, 0.4, 0.8))
LINE = Calibration("isotonic", 1.0, (-9.0, 9.0), (0.2, 0.9))
WAYS: dict[str, dict[str, Any]] = {
    "success": {"rank": "success"},
    "handled": {"rank": "handled"},
    "utility": {"utility": Utility(resolved=1.0, csat=0.3)},
}


@pytest.fixture
def mapped(bundle_folder: Path) -> Callable[[Calibration], Matcher]:
    """A matcher whose bundle has another map."""

    def made(calibration: Calibration) -> Matcher:
        bundle = Bundle.open(bundle_folder)
        vars(bundle)["join"] = replace(bundle.join, calibration=calibration)  # where a cached property is kept
        return Matcher(bundle)

    return made


def of(matcher: Matcher, **options: Any) -> dict[str, Candidate]:
    found = matcher.match(CONTACT, k=len(matcher.snapshot.ids), **options)
    return {one.csa_id: one for one in found}


def logit(p: np.ndarray) -> np.ndarray:
    found: np.ndarray = np.log(p) - np.log1p(-p)
    return found


@pytest.mark.parametrize("way", WAYS)
def test_uncertainty_is_the_deviation_of_the_logit_of_p_resolved(
    mapped: Callable[[Calibration], Matcher], way: str
) -> None:
    plain, warm, line, level = (
        of(mapped(one), **WAYS[way]) for one in (Calibration(), Calibration("temperature", 2.5), LINE, LEVEL)
    )
    assert len(plain) > 3
    for csa_id, one in plain.items():
        z, s = one.logit, one.uncertainty
        assert z is not None
        assert s is not None
        assert s > 0
        assert one.p_resolved == pytest.approx(1 / (1 + np.exp(-z)), rel=1e-5)
        assert warm[csa_id].uncertainty == pytest.approx(s / 2.5, rel=1e-5)
        above, below = logit(LINE(np.array([z + s, z - s], np.float32)).astype(np.float64))
        assert line[csa_id].uncertainty == pytest.approx((above - below) / 2, rel=1e-3)
        assert level[csa_id].p_resolved == pytest.approx(0.4)
        assert level[csa_id].uncertainty == 0
        assert line[csa_id].logit == level[csa_id].logit == z


def test_rolling_forward_says_the_same(mapped: Callable[[Calibration], Matcher], data: Path) -> None:
    log = Log.load(data)
    plain, warm = (RollingMatcher(mapped(one), log) for one in (Calibration(), Calibration("temperature", 2.0)))
    contact = plain.contacts(np.array([len(log.contacts) - 1]))
    first, second = (one.rank(contact, one.candidates(len(log.contacts) - 1), 5) for one in (plain, warm))
    assert first.uncertainty is not None
    assert second.uncertainty is not None
    np.testing.assert_allclose(second.uncertainty, first.uncertainty / 2, rtol=1e-6)


@pytest.mark.parametrize("policy", ["greedy", "optimistic", "thompson"])
def test_where_all_have_one_probability_the_best_is_the_matchs(
    mapped: Callable[[Calibration], Matcher], policy: Any
) -> None:
    candidates = mapped(LEVEL).match(CONTACT, k=100, rank="success")
    assert len({one.p_resolved for one in candidates}) == 1
    assert candidates[0].csa_id != min(one.csa_id for one in candidates)
    mine = Explorer(Exploration(policy=policy, share=0.5, uniform=0.0), bytes(range(32)))
    for i, urgent in enumerate([True, False] * 10):
        one = mine.choose(f"c{i}", candidates, urgent=urgent)
        assert one.csa_id == candidates[0].csa_id
        assert one.propensity == pytest.approx(1)
        assert mine.replay(Decision.from_json(one.as_json()), candidates[::-1]) == one
