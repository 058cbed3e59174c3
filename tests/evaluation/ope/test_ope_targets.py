"""Policies on a log: chances sum to one over a round and are the router's own; what cannot be is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evaluation.ope.logged import Logged, read_logged
from evaluation.ope.spec import OpeSpec, PolicySpec
from evaluation.ope.targets import BundleTarget, How, Scores, Target, Uniform
from serve.explore import Explorer
from serve.explore_options import Exploration
from serve.matcher import Matcher
from serve.rolling import RollingMatcher
from tests.evaluation.ope import worlds
from twotower.clock import parse_time
from twotower.errors import BundleError, ConfigError, TwoTowerError
from twotower.scoring.utility import Utility
from twotower.tables.log import Log

BEGIN, END = parse_time(worlds.FROM), parse_time(worlds.TO)


@pytest.fixture(scope="module")
def logged(ope_data: Path, ope_log: Log) -> Logged:
    """A day."""
    return read_logged(ope_data, ope_log, BEGIN, parse_time("2026-01-22T00:00:00Z"))[0]


@pytest.fixture(scope="module")
def target(ope_bundle: Path, ope_log: Log) -> BundleTarget:
    return BundleTarget.load(ope_bundle, ope_log, How())


def with_how(target: BundleTarget, **how: Any) -> BundleTarget:
    return BundleTarget(target.name, target.rolling, How(**how), target.until)


@pytest.mark.parametrize(
    "how",
    [
        {}, {"rank": "handled"}, {"temperature": 0.5}, {"utility": Utility(1.0, csat=0.2)},
        {"explore": Exploration("thompson", share=0.5)}, {"explore": Exploration("uniform", share=0.3, uniform=0.3)},
    ],
    ids=["greedy", "handled", "softmax", "utility", "thompson", "uniform"],
)  # fmt: skip
def test_chances_are_chances(target: BundleTarget, logged: Logged, how: dict[str, Any]) -> None:
    p = with_how(target, **how).probabilities(logged)
    assert p.shape == (len(logged.pairs.csa),)
    assert p.min() >= 0
    assert logged.pairs.total(p) == pytest.approx(np.ones(len(logged)))
    assert (set(p) == {0.0, 1.0}) == (not {"temperature", "explore"} & set(how))


def test_greedy_is_the_first_of_the_routers_ranking(target: BundleTarget, logged: Logged) -> None:
    p = target.probabilities(logged)
    rolling = target.rolling
    contacts = rolling.contacts(logged.contact)
    for i in range(len(logged)):
        part = slice(logged.pairs.offsets[i], logged.pairs.offsets[i + 1])
        first = rolling.rank(contacts.take(np.array([i])), logged.pairs.csa[part], 1).codes[0]
        assert logged.pairs.csa[part][p[part] == 1].tolist() == [first]


def test_softmax_is_of_the_scores(target: BundleTarget, logged: Logged) -> None:
    p = with_how(target, temperature=0.7).probabilities(logged)
    scores = target.rolling.scores(logged.contact)
    score = scores[logged.pairs.row, logged.pairs.csa].astype(np.float64)
    assert p == pytest.approx(logged.pairs.softmax(score / 0.7), rel=1e-5)
    cold = with_how(target, temperature=1e-4).probabilities(logged)
    assert np.abs(cold - target.probabilities(logged)).max() < 1e-3


def test_exploring_is_what_the_explorer_does(target: BundleTarget, logged: Logged) -> None:
    options = Exploration("thompson", share=0.6, uniform=0.1, scale=1.0)
    p = with_how(target, explore=options).probabilities(logged)
    explorer, ids = Explorer(options, b"another key altogether"), logged.log.csas.ids.to_pylist()
    contacts = target.rolling.contacts(logged.contact)
    for i in range(5):
        part = slice(logged.pairs.offsets[i], logged.pairs.offsets[i + 1])
        codes = logged.pairs.csa[part]
        ranked = target.rolling.rank(contacts.take(np.array([i])), codes, len(codes), "success")
        options_of = [_Option(ids[c], float(q), float(u), float(z)) for c, q, u, z in zip(
            ranked.codes, ranked.p_resolved, ranked.uncertainty, ranked.logit, strict=True)]  # type: ignore[arg-type]  # fmt: skip
        chances = dict(
            zip(*(lambda d: (d.csa_ids, d.propensities))(explorer.choose("x", options_of, urgent=False)), strict=True)
        )
        assert p[part] == pytest.approx([chances[ids[c]] for c in codes])


def test_urgent_contacts_are_not_explored(target: BundleTarget, logged: Logged) -> None:
    urgent = replace(logged, urgent=np.ones(len(logged), np.bool_))
    explored = with_how(target, explore=Exploration("uniform", share=1.0, uniform=0.5, most_loss=1.0))
    assert set(explored.probabilities(urgent)) == {0.0, 1.0}
    assert set(explored.probabilities(logged)) == {0.25}


class _Option:
    def __init__(self, csa_id: str, p: float, uncertainty: float, logit: float) -> None:
        self.csa_id, self.p_resolved, self.uncertainty, self.logit = csa_id, p, uncertainty, logit


def test_the_bundle_sees_nothing_later(target: BundleTarget, logged: Logged, ope_bundle: Path, ope_log: Log) -> None:
    """Outcomes from the day's end on change no choice of that day."""
    moves = ope_log.handovers
    late = moves.known_at >= parse_time("2026-01-22T00:00:00Z")
    flipped = np.where(late & (moves.resolved >= 0), 1 - moves.resolved, moves.resolved).astype(np.int8)
    other = replace(ope_log, handovers=replace(moves, resolved=flipped))
    again = BundleTarget("x", RollingMatcher(Matcher.load(ope_bundle), other), How(), None)
    p = again.probabilities(replace(logged, log=other))
    assert np.array_equal(p, target.probabilities(logged))


def test_uniform(logged: Logged) -> None:
    assert Uniform().probabilities(logged) == pytest.approx(np.full(len(logged.pairs.csa), 0.25))
    assert Uniform().vectors(logged) is None


def test_the_routers_own_scores(logged: Logged) -> None:
    told = replace(logged, score=np.tile([0.0, 3.0, np.nan, 3.0], len(logged)))
    assert Scores().probabilities(told).reshape(-1, 4).tolist() == [[0, 1, 0, 0]] * len(logged)
    with pytest.raises(ConfigError, match=r"policy scores: the log has no scores of the candidates of \d+ contacts"):
        Scores().probabilities(logged)
    assert Scores().vectors(logged) is None


def test_vectors_are_the_csas(target: BundleTarget, logged: Logged) -> None:
    vectors = target.vectors(logged)
    assert vectors is not None
    assert len(vectors) == worlds.CSAS


def test_a_bundle_of_other_csas(ope_bundle: Path, tmp_path: Path) -> None:
    content = worlds.tables(200)
    for table, column in (("csas", "csa_id"), ("interactions", "csa_id")):
        names = [f"other-{name}" for name in content[table][column].to_pylist()]
        content = worlds.with_column(content, table, column, names)
    lists = [[f"other-{name}" for name in one] for one in content["contacts"]["eligible"].to_pylist()]
    content = worlds.with_column(content, "contacts", "eligible", lists)
    log = Log.load(worlds.write(content, tmp_path / "other"))
    with pytest.raises(ConfigError, match=r"bundle \w{12}: holds 0 of the 12 CSAs"):
        BundleTarget.load(ope_bundle, log, How())


def test_a_bundle_that_is_none(ope_log: Log, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(BundleError, match="empty"):
        PolicySpec(bundle=str(tmp_path / "empty")).target(ope_log, "x", None)


def test_a_digest_that_is_another(ope_bundle: Path, ope_log: Log) -> None:
    with pytest.raises(BundleError):
        BundleTarget.load(ope_bundle, ope_log, How(), digest="0" * 64)


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"temperature": 0.0}, "temperature 0.0"),
        ({"temperature": 1.0, "explore": Exploration()}, "a temperature and exploration options"),
        ({"explore": Exploration(), "rank": "handled"}, "exploration goes by P"),
    ],
)
def test_ways_to_choose_that_cannot_be(how: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        How(**how)


def test_a_rank_that_the_bundle_has_not(ope_bundle: Path, ope_log: Log) -> None:
    with pytest.raises(TwoTowerError, match="no head for quality_score"):
        BundleTarget.load(ope_bundle, ope_log, How(utility=Utility(1.0, quality_score=0.5)))


@pytest.mark.parametrize(("given", "kind"), [("uniform", Uniform), ("scores", Scores)])
def test_policies_by_name(ope_log: Log, given: str, kind: type[Target]) -> None:
    [one] = OpeSpec.model_validate({"policies": [given]}).policies
    assert isinstance(one.target(ope_log, one.label, None), kind)


def test_a_policy_that_is_not_known(ope_log: Log) -> None:
    [one] = OpeSpec.model_validate({"policies": ["thompson"]}).policies
    with pytest.raises(
        ConfigError, match="policy 'thompson': is not known; give a bundle's folder, or one of uniform, scores"
    ):
        one.target(ope_log, one.label, None)


def test_words_describe(target: BundleTarget) -> None:
    assert target.described.startswith("greedy by its default rank; bundle ")
    assert "softmax of scores" in with_how(target, temperature=0.5).described
    assert "exploration explore-optimistic-" in with_how(target, explore=Exploration()).described
