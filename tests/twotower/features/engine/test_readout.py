"""Features from readings: their names, what a CSA without a past reads as, and what moves which number."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.twotower.features.engine.histories import BEGIN, CSAS, END, FAMILIES, SETTINGS, WIDTH, draw_table, tables
from twotower.clock import DAY, NULL_TIME
from twotower.features.engine.csa import CsaHistory
from twotower.features.engine.events import KnownHandovers
from twotower.features.engine.groups import group_features
from twotower.features.engine.readout import Priors
from twotower.features.engine.record import LONG_DAYS, PRIOR, RECORD, Record, csa_features, csa_names
from twotower.features.engine.settings import CsaSettings
from twotower.features.engine.values import SUMS
from twotower.features.feature import table as table_of

NAMES = csa_names(SETTINGS)


def reading(table=None, moment=END, families=()):
    history = CsaHistory(SETTINGS, CSAS)
    table = draw_table(np.random.default_rng(0), 200) if table is None else table
    history.advance(table.handovers(), moment, table.work())
    return history.read(families=families)


def column(found, name):
    return csa_features(found, SETTINGS)[:, NAMES.index(name)]


def centre(csas=200, each=40, spread=0.3, seed=0):
    """Hand-overs of many CSAs with rates of their own, in four intents of which the last is hard."""
    rng = np.random.default_rng(seed)
    csa = np.repeat(np.arange(csas), each).astype(np.int32)
    intent = rng.integers(0, 4, len(csa))
    rate = (0.8 + spread * (rng.random(csas) - 0.5))[csa] - 0.4 * (intent == 3)
    handovers = KnownHandovers(
        csa, np.full(len(csa), BEGIN), (rng.random(len(csa)) < rate).astype(np.int8),
        rng.lognormal(6 + 0.5 * (intent == 3), 0.5).astype(np.float32), np.zeros((len(csa), 0), np.float32),
        codes=intent[:, None].astype(np.int32),
    )  # fmt: skip
    settings = CsaSettings(0, families=(("intent", 4),))
    history = CsaHistory(settings, csas + 1)  # the last has no past
    history.update(handovers)
    return history.read(families=["intent"]), settings


@given(tables())
def test_every_feature_is_a_number(table):
    found = csa_features(reading(table), SETTINGS)
    assert found.shape == (CSAS, len(NAMES))
    assert found.dtype == np.float32
    assert np.isfinite(found).all()


def test_names_are_distinct():
    assert len(set(NAMES)) == len(NAMES)
    assert NAMES[:3] == ["handled_1d", "handled_5d", "handled_30d"]
    assert "assigned_1h" in NAMES
    assert NAMES[-1] == f"bad_30d_{WIDTH - 1}"


def test_nobody_has_a_past_at_first():
    found = csa_features(CsaHistory(SETTINGS, CSAS).read(END), SETTINGS)
    expected = [np.log1p(LONG_DAYS) if name == "idle" else 0 for name in NAMES]
    assert found.tolist() == [pytest.approx(expected)] * CSAS


def test_a_csa_without_a_past_reads_as_the_centre():
    found, settings = centre()
    features = dict(zip(csa_names(settings), csa_features(found, settings)[-1].tolist(), strict=True))
    # Up to the rounding of sums, which another processor adds in another order.
    assert abs(features["rate_30d"]) < 1e-12
    assert abs(features["log_time_30d"]) < 1e-12
    assert features["outcomes_n_30d"] == 0


def test_rates_are_shrunk_between_the_centres_and_ones_own():
    found, settings = centre()
    shrunken = csa_features(found, settings)[:-1, csa_names(settings).index("rate_30d")]
    sums = found.sums[:-1, 1]
    level = (sums[:, 2].sum() + 1) / (sums[:, 1].sum() + 2)
    raw = sums[:, 2] / sums[:, 1] - level
    # One factor for all, as all have the same evidence: neither 0 nor 1.
    factor = shrunken @ raw / (raw @ raw)
    assert 0.2 < factor < 0.9
    np.testing.assert_allclose(shrunken, factor * raw, atol=1e-5)


def test_csas_who_differ_less_are_shrunk_more():
    names = csa_names(centre()[1])
    spread = [csa_features(*centre(spread=s))[:, names.index("rate_30d")].std() for s in (0.5, 0.1)]
    raw = [(r.sums[:-1, 1, 2] / r.sums[:-1, 1, 1]).std() for r, _ in (centre(spread=0.5), centre(spread=0.1))]
    assert spread[0] / raw[0] > 1.5 * spread[1] / raw[1]


def test_load_open_and_idle_by_name():
    found = reading()
    np.testing.assert_allclose(column(found, "open"), np.log1p(found.open), rtol=1e-6)
    np.testing.assert_allclose(column(found, "assigned_6h"), np.log1p(found.load[:, 1]), rtol=1e-6)
    np.testing.assert_allclose(column(found, "idle"), np.log1p((END - found.last) / DAY), rtol=1e-6)
    np.testing.assert_allclose(column(found, "known_for"), np.log1p((END - found.first) / DAY), rtol=1e-6)


def test_an_end_without_a_beginning_is_no_open_work():
    found = reading()
    assert (replace(found, work=found.work[:, ::-1]).open >= 0).all()


def test_what_went_well_and_what_did_not_are_apart():
    found = reading()
    handled = found.sums[:, 2, 0] + PRIOR
    np.testing.assert_allclose(column(found, "good_30d_1"), found.embeddings[:, 0, 2, 1] / handled, rtol=1e-6)
    np.testing.assert_allclose(column(found, "bad_30d_1"), found.embeddings[:, 1, 2, 1] / handled, rtol=1e-6)


def test_better_than_expected_on_upset_contacts_shows():
    table = draw_table(np.random.default_rng(0), 4000)
    sure = np.where(table.csa == 0, 1, (np.arange(4000) % 2)).astype(np.int8)
    table = replace(table, resolved=sure, upset=np.ones(4000, np.bool_), expected=np.full(4000, 0.5, np.float32))
    found = column(reading(table), "upset_30d")
    assert found[0] > 0.4
    assert abs(found[1:]).max() < 0.1
    assert column(reading(table), "upset_n_30d").min() > 1


def test_calm_contacts_do_not_count_as_upset():
    table = draw_table(np.random.default_rng(0), 200)
    found = reading(replace(table, upset=np.zeros(200, np.bool_)))
    assert not found.sums[:, :, SUMS.index("upset")].any()
    assert not column(found, "upset_30d").any()


def test_a_group_never_seen_is_ones_own_rate_shifted():
    found, settings = centre()
    features = group_features(found, settings, "intent", [3, 0, -1])
    newcomer = features[:, -1]
    assert newcomer[0, 0] < -0.2  # the hard intent is hard for whom nobody knows
    assert newcomer[0, 1] > 0.2  # and takes them longer
    assert newcomer[1, 0] > 0
    assert newcomer[2].tolist() == pytest.approx([0, 0, 0], abs=1e-6)


def test_code_minus_one_is_ones_own_number():
    found, settings = centre()
    own = csa_features(found, settings)[:, csa_names(settings).index("rate_30d")]
    np.testing.assert_allclose(group_features(found, settings, "intent", [-1])[0, :, 0], own, atol=1e-6)


def test_cells_stay_between_their_prior_and_what_was_seen():
    found, settings = centre(each=200)
    group = found.groups["intent"]
    hard = group.code == 3
    level = (found.sums[:, 1, 2].sum() + 1) / (found.sums[:, 1, 1].sum() + 2)
    rate = group_features(found, settings, "intent", [3])[0, group.csa[hard], 0] + level
    seen = group.sums[hard, 2] / group.sums[hard, 1]
    assert rate.std() < seen.std()
    assert np.corrcoef(rate, seen)[0, 1] > 0.5
    assert rate.mean() == pytest.approx(seen.mean(), abs=0.02)


def test_evidence_is_the_effective_number_of_outcomes():
    found, settings = centre()
    evidence = group_features(found, settings, "intent", range(4))[:, :, 2]
    seen = np.zeros((4, 201))
    group = found.groups["intent"]
    seen[group.code, group.csa] = group.sums[:, 1] ** 2 / group.sums[:, 6]
    np.testing.assert_allclose(evidence, np.log1p(seen), rtol=1e-6)


@given(tables())
def test_every_group_feature_is_a_number(table):
    found = reading(table, families=[name for name, _ in FAMILIES])
    for name, codes in FAMILIES:
        features = group_features(found, SETTINGS, name, range(-1, codes))
        assert features.shape == (codes + 1, CSAS, 3)
        assert np.isfinite(features).all()


@given(tables(), st.integers(0, CSAS - 1))
def test_one_csa_with_the_priors_of_all_reads_as_among_all(table, who):
    history = CsaHistory(SETTINGS, CSAS)
    history.advance(table.handovers(), END, table.work())
    names, priors = [name for name, _ in FAMILIES], Priors()

    def features(csas, priors):
        record = Record(history.read(END, names, csas), SETTINGS, priors)
        return table_of(RECORD, record, len(record), SETTINGS)

    whole = features(None, priors)
    np.testing.assert_array_equal(features(np.array([who]), priors)[0], whole[who])


def test_a_family_that_was_not_read_is_missed():
    with pytest.raises(KeyError, match="intent"):
        group_features(reading(), SETTINGS, "intent", [0])


def test_a_csa_known_in_this_microsecond_is_not_idle():
    found = reading()
    assert column(replace(found, last=np.full(CSAS, END)), "idle").tolist() == [0] * CSAS
    assert column(replace(found, last=np.full(CSAS, NULL_TIME)), "known_for").tolist() == [0] * CSAS
