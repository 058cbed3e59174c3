"""Power by formula is what known formulas and many drawn experiments say."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import t
from statsmodels.stats.power import ttest_power

from evaluation.experiment import power
from evaluation.experiment.design_blocks import Parts, blocks_of
from evaluation.experiment.power import Precision
from evaluation.experiment.power_resampled import differences
from evaluation.experiment.stats.sequential import sample_size
from tests.evaluation.experiment.pasts import BEGINS, past
from twotower.clock import DAY


@pytest.mark.parametrize(
    ("control", "treatment", "each"), [(0.10, 0.11, 14_749), (0.70, 0.72, 8_077), (0.80, 0.81, 24_638)]
)
def test_two_proportions_need_the_published_numbers(control, treatment, each):
    assert sample_size(control, treatment) == each
    # The same by standard errors: contacts by coins that share nothing, variances of both arms.
    variance = (control * (1 - control) + treatment * (1 - treatment)) / 2
    found = power.as_if_independent(2 * each, variance)
    assert found.power(treatment - control, 0.05) == pytest.approx(0.8, abs=1e-3)
    assert found.smallest(0.8, 0.05) == pytest.approx(treatment - control, rel=1e-3)


@given(st.floats(0.01, 6), st.floats(2, 300), st.sampled_from([0.01, 0.05, 0.1]))
def test_power_is_that_of_the_noncentral_t(shift, df, alpha):
    reference = float(ttest_power(shift, 1, alpha, df=df))
    if not math.isnan(reference):
        assert Precision(1.0, df, 100.0).power(shift, alpha) == pytest.approx(reference, abs=1e-6)


def test_power_grows_with_the_effect_to_one_and_begins_at_alpha():
    of = Precision(0.01, 20.0, 1000.0, 80.0, 40.0)
    values = [of.power(effect, 0.05) for effect in np.linspace(0, 0.4, 60)]
    assert values[0] == pytest.approx(0.05)
    assert np.all(np.diff(values) >= -1e-9)
    assert values[-1] == pytest.approx(1.0)
    assert of.power(-0.03, 0.05) == of.power(0.03, 0.05)


@pytest.mark.parametrize("always", [False, True])
@pytest.mark.parametrize("kept", [1.0, 0.9])
def test_the_smallest_effect_is_found_with_just_the_power(always, kept):
    of = Precision(0.007, 40.0, 1000.0, 80.0, 40.0, kept)
    least = of.smallest(0.8, 0.05, always)
    assert of.power(least, 0.05, always) == pytest.approx(0.8, abs=1e-6)
    assert least == pytest.approx(Precision(0.007, 40.0, 1000.0, 80.0, 40.0).smallest(0.8, 0.05, always) / kept)


def test_looking_at_any_time_takes_half_as_much_again():
    of = Precision(0.007, 80.0, 1000.0, 160.0, 80.0)
    assert 1.35 < of.smallest(0.8, 0.05, True) / of.smallest(0.8, 0.05) < 1.6
    assert of.reach(0.05) > 3.0
    # Where nothing is monitored, or a boundary cannot be left, nothing is found.
    for none in (Precision(0.007, 80.0, 1000.0), Precision(0.007, 1.0, 1000.0, 1.0, 1.0)):
        assert none.power(1.0, 0.05, True) == 0.0
        assert none.smallest(0.8, 0.05, True) == math.inf


def test_nothing_is_found_where_nothing_is_known():
    for of in (Precision(math.inf, 0.0, 0.0), Precision(0.1, 0.0, 10.0)):
        assert of.power(1.0, 0.05) == 0.0
        assert of.smallest(0.8, 0.05) == math.inf
        assert of.held(1.0, 0.05) == 0.0


def test_a_guardrail_holds_as_often_as_drawn_ones_do():
    rng = np.random.default_rng(0)
    se, df, margin = 0.01, 20.0, 0.022
    z, s = rng.normal(0, se, 40_000), se * np.sqrt(rng.chisquare(df, 40_000) / df)
    drawn = np.mean(z + t.ppf(0.95, df) * s < margin)
    assert Precision(se, df, 1.0).held(margin, 0.05) == pytest.approx(drawn, abs=0.01)
    sequence = Precision(se, df, 1.0, 60.0, 30.0)
    assert sequence.held(margin, 0.05, True) < sequence.held(margin, 0.05)


@pytest.mark.parametrize(
    ("hours", "days", "wash", "sd"), [(4.0, 14, 0.0, 0.05), (8.0, 28, 60.0, 0.0), (24.0, 28, 0.0, 0.05)]
)
def test_the_switchbacks_error_is_that_of_drawn_switchbacks(hours, days, wash, sd):
    history = past(56, 800)
    blocks = blocks_of(history, history.metric("resolved"), hours)
    parts = Parts(sd**2, 0.2, 100, ())
    found = power.of_blocks(blocks, parts, BEGINS + 70 * DAY, days, wash)
    rng = np.random.default_rng(3)
    many, cells = 4000, round(days * 24 / hours)
    slot, half = np.arange(cells) % blocks.n.shape[1], cells // 2
    first = (rng.random((many, half)) < 0.5).astype(np.int8)
    arms = np.concatenate([first, 1 - first], axis=1)  # the same slots in the second half of the time
    changed = arms != np.concatenate([np.zeros((many, 1), np.int8), arms[:, :-1]], axis=1)
    n = np.round(np.broadcast_to(blocks.weekly[slot], arms.shape) * (1 - changed * wash / 60 / hours))
    y = 0.7 + rng.normal(0, sd, arms.shape) + rng.normal(0, 1, arms.shape) * np.sqrt(0.2 / n)
    cluster = np.tile(np.arange(half), 2)
    value, far = differences(n, n * y, arms, cluster, 0.05)
    assert found.se == pytest.approx(value.std(), rel=0.04)
    seen = differences(n, n * (y + found.smallest(0.8, 0.05) * arms), arms, cluster, 0.05)[1]
    assert seen.mean() == pytest.approx(0.8, abs=0.03)
    assert 0.02 < far.mean() < 0.06


def test_contacts_of_clusters_count_for_less():
    sizes = np.full(12, 1 / 12)
    apart, within = 0.02**2, 0.21
    alone = power.as_if_independent(20_000, within)
    of = power.of_clusters(sizes, apart, within, 20_000, power.wanted(0.02, 0.05, 0.8))
    assert of.se == pytest.approx(np.sqrt(4 * apart / 12 + 4 * within / 20_000))
    assert of.df == pytest.approx(5.0)
    assert of.smallest(0.8, 0.05) > 2 * alone.smallest(0.8, 0.05)
    # More contacts of the same clusters do not help without end.
    forever = power.of_clusters(sizes, apart, within, 1e9, power.wanted(0.02, 0.05, 0.8))
    assert forever.se == pytest.approx(np.sqrt(4 * apart / 12), rel=1e-3)
    # Large and small ones are worth fewer than as many equal ones.
    uneven = power.of_clusters(np.array([5, 5, *[1] * 10]) / 20, apart, within, 20_000, 1.0)
    assert uneven.df < of.df
    assert uneven.se > of.se


def test_customers_who_come_again_and_pools_count():
    base = power.of_customers(20_000, 0.21, 1.0, 0.0, 0.0, 40, 28)
    assert base.se == pytest.approx(power.as_if_independent(20_000, 0.21).se)
    again = power.of_customers(20_000, 0.21, 3.0, 0.1, 0.0, 40, 28)
    assert again.se == pytest.approx(base.se * np.sqrt(1.2))
    pools = power.of_customers(20_000, 0.21, 1.0, 0.0, 0.05**2, 40, 28)
    assert pools.se**2 - base.se**2 == pytest.approx(4 * 0.05**2 / 40 / 28)
    assert power.of_customers(20_000, 0.21, 1.0, 0.0, 0.0, 40, 1).smallest(0.8, 0.05) == math.inf
