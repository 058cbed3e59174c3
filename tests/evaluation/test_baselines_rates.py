"""Shrunken resolved rates by hand, against their definition, and blind to what was not known yet."""

from __future__ import annotations

import numpy as np
import pytest

from evaluation.baselines_rates import PRIORS, Outcomes, RateBaseline, best_rate, tune_rates
from evaluation.ranking import split_log
from tests.evaluation.logs import contact, handover, log, random_centre
from twotower.metrics import log_losses
from twotower.tables.log import Log


def test_a_shrunken_rate_by_hand() -> None:
    small = log(
        [contact(0, intent="x"), contact(1, intent="x"), contact(2, intent="y"), contact(4, intent="x")],
        [
            handover(0, "a", 1, resolved=True),
            handover(1, "a", 2, resolved=False),
            handover(2, "b", 3, resolved=True),
            handover(2, "c", 4, resolved=True),  # known when the last contact arrives, so not before
            handover(1, "c", 3, resolved=None),
        ],
        ["a", "b", "c"],
    )
    outcomes, last = Outcomes(small), np.array([3])
    centre = (2 + 1) / (3 + 2)
    assert outcomes.rate(last, "centre", 1.0)[0].tolist() == pytest.approx([centre] * 3)
    expected = [(1 + 4 * centre) / 6, (1 + 4 * centre) / 5, centre]
    assert outcomes.rate(last, "csa", 4.0)[0].tolist() == pytest.approx(expected)


def slow(small: Log, position: int, by: str, prior: float) -> list[float]:
    """The definition, one hand-over at a time."""
    moves, contacts = small.handovers, small.contacts
    intents = contacts.intent.to_pylist()
    known = [
        (intents[moves.contact[i]], int(moves.csa[i]), int(moves.resolved[i]))
        for i in range(len(moves))
        if moves.resolved[i] >= 0 and moves.known_at[i] < contacts.arrived_at[position]
    ]

    def rate(rows: list[int], towards: float) -> float:
        return (sum(rows) + prior * towards) / (len(rows) + prior)

    m = (sum(r for *_, r in known) + 1) / (len(known) + 2)
    out = []
    for csa in range(len(small.csas)):
        of_csa = rate([r for _, a, r in known if a == csa], m)
        of_intent = rate([r for i, _, r in known if i == intents[position]], m)
        odds = [p / (1 - p) for p in (of_csa, of_intent, m)]
        expected = odds[0] * odds[1] / odds[2]
        both = [r for i, a, r in known if a == csa and i == intents[position]]
        out.append({"centre": m, "csa": of_csa, "csa × intent": rate(both, expected / (1 + expected))}[by])
    return out


@pytest.mark.parametrize("by", ["centre", "csa", "csa × intent"])
@pytest.mark.parametrize("seed", range(3))
def test_blocks_agree_with_the_definition(by: str, seed: int) -> None:
    small = log(*random_centre(seed))
    positions = np.arange(0, 60, 3)
    rates = Outcomes(small).rate(positions, by, 3.0)
    for row, position in enumerate(positions):
        assert rates[row].tolist() == pytest.approx(slow(small, int(position), by, 3.0))


def test_what_becomes_known_at_arrival_or_later_changes_no_rate() -> None:
    contacts, handovers, csas = random_centre(1)
    position = 40
    late = [handover(of, "a0", contacts[position]["minute"] + of % 2, resolved=False) for of in range(30)]
    asked = np.array([position])
    for by in ("centre", "csa", "csa × intent"):
        before = Outcomes(log(contacts, handovers, csas)).rate(asked, by, 3.0)
        after = Outcomes(log(contacts, handovers + late, csas)).rate(asked, by, 3.0)
        assert after.tolist() == before.tolist()


def skilled_centre(n: int = 600) -> Log:
    """Two CSAs, one of whom resolves four in five and the other one in five."""
    rng = np.random.default_rng(0)
    chosen = rng.integers(0, 2, n)
    resolved = rng.random(n) < np.where(chosen == 0, 0.8, 0.2)
    rows = [handover(i, "ab"[chosen[i]], i + 0.5, bool(resolved[i])) for i in range(n)]
    return log([contact(i) for i in range(n)], rows, ["a", "b"])


def test_tuning_takes_the_prior_of_least_loss_and_the_skilled_centre_needs_its_csas() -> None:
    small = skilled_centre()
    split = split_log(small)
    outcomes = Outcomes(small)
    tuned = {rate.name: rate for rate in tune_rates(outcomes, split)}
    best = best_rate(list(tuned.values()))
    assert best.by != "centre"
    assert best.validation < tuned["centre's rate"].validation - 0.1
    asked = outcomes.among(split.validation)
    for prior in PRIORS:
        p = outcomes.rate(outcomes.contact[asked], "csa", prior)[np.arange(len(asked)), outcomes.csa[asked]]
        assert log_losses(p, outcomes.resolved[asked]).mean() >= tuned["CSA's rate"].validation - 1e-12


def test_rates_are_probabilities_and_scores_alike() -> None:
    small = skilled_centre(50)
    baseline = RateBaseline("r", Outcomes(small), "csa", 3.0)
    p = baseline.p_resolved(small, np.arange(50))
    assert ((p > 0) & (p < 1)).all()
    assert (p == baseline.scores(small, np.arange(50))).all()
    assert p[-1, 0] > p[-1, 1]


def test_without_failures_there_is_nothing_to_learn() -> None:
    assert not Outcomes(log([contact(0)], [handover(0, "a", 1)], ["a"])).has_failures
    assert skilled_centre(30).handovers.resolved.min() == 0
    assert Outcomes(skilled_centre(30)).has_failures
