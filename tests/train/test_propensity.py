"""Propensities: recovered where they are known, clipped, taken from the log where it has them, and judged."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy.optimize import minimize
from scipy.special import log_softmax

from evaluation.generate.centre import generate
from evaluation.generate.settings import Settings
from evaluation.truth import Truth
from train.propensity import (
    FLOOR,
    RIDGE,
    Propensities,
    TooFewChoicesError,
    calibration,
    choices_of,
    conditional_weights,
    own_of,
    propensities_of,
    softmax,
    told,
    total,
)
from train.propensity_features import Pairs, listed_pairs, read_shifts
from twotower.errors import DataError
from twotower.tables.log import Log
from twotower.tables.ragged import Ragged

Doubles = npt.NDArray[np.float64]
NAN = np.float32(np.nan)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """6,000 contacts, 40 CSAs, a queue that favours the fast ones and writes down how much."""
    made = tmp_path_factory.mktemp("centres") / "logged"
    generate(Settings(contacts=6000, csas=40, languages=("en",), seed=5, days=90, eligible=12, propensities=True), made)
    return made


@pytest.fixture(scope="module")
def log(folder: Path) -> Log:
    return Log.load(folder)


@pytest.fixture(scope="module")
def until(log: Log) -> int:
    return int(log.contacts.arrived_at[int(0.8 * len(log.contacts))])


def unlogged(log: Log, share: float = 0.0) -> Log:
    """The log without propensities, but for a share of the hand-overs."""
    kept = np.random.default_rng(0).random(len(log.handovers)) < share
    return with_propensity(log, np.where(kept, log.handovers.propensity, NAN))


def with_propensity(log: Log, propensity: npt.NDArray[np.float32]) -> Log:
    return replace(log, handovers=replace(log.handovers, propensity=propensity.astype(np.float32)))


@pytest.fixture(scope="module")
def by_choices(folder: Path, log: Log, until: int) -> Propensities:
    return Propensities.fit(unlogged(log), until, read_shifts(folder, log))


@pytest.fixture(scope="module")
def by_logged(folder: Path, log: Log, until: int) -> Propensities:
    return Propensities.fit(log, until, read_shifts(folder, log))


@pytest.fixture(scope="module")
def truth(folder: Path, log: Log) -> tuple[Pairs, Doubles]:
    """Eligible pairs of the test contacts between several CSAs, in the log's codes, and their π₀."""
    known = Truth.load(folder)
    contact = pa.array(known.latents.contact_id[known.contact].tolist())
    order = {name: i for i, name in enumerate(log.contacts.ids.to_pylist())}
    pairs = listed_pairs(log, np.array([order[name] for name in contact.to_pylist()]))
    code = {name: i for i, name in enumerate(log.csas.ids.to_pylist())}
    theirs = {
        (int(row), code[str(known.latents.csa_id[csa])]): p
        for row, csa, p in zip(known.rows, known.csa, known.propensity, strict=True)
    }
    return pairs, np.array([theirs[int(row), int(csa)] for row, csa in zip(pairs.row, pairs.csa, strict=True)])


def apart(p: Doubles, true: Doubles, pairs: Pairs) -> float:
    """Root mean square of log(p / true) over pairs of contacts with several eligible."""
    several = np.diff(pairs.offsets)[pairs.row] > 1
    return float(np.sqrt((np.log(p[several] / true[several]) ** 2).mean()))


def test_the_queues_propensities_are_recovered(by_choices, by_logged, truth):
    """Within 0.20 in log from choices, 0.15 from what was logged; the share of hand-overs and chance are off by 0.7."""
    pairs, true = truth
    features = by_choices.state.at(pairs)
    exposure = softmax(features[:, by_choices.state.names.index("share")], pairs)
    found = {
        "choices": apart(by_choices.estimate(pairs)[0], true, pairs),
        "logged": apart(by_logged.estimate(pairs)[0], true, pairs),
        "exposure": apart(exposure, true, pairs),
        "equal": apart(1 / np.diff(pairs.offsets)[pairs.row], true, pairs),
    }
    assert found["choices"] < 0.20, found
    assert found["logged"] < 0.15, found
    assert min(found["exposure"], found["equal"]) > 0.6, found


def test_who_is_listed_twice_is_eligible_once(log, until):
    lists = log.contacts.eligible
    twice = [np.concatenate([values, values[:1]]) for values in np.split(lists.values, lists.offsets[1:-1])]
    offsets = np.concatenate([[0], np.cumsum([len(values) for values in twice])])
    doubled = Ragged(offsets, np.concatenate(twice), lists.all_)
    plain = Propensities.fit(log, until)
    found = Propensities.fit(replace(log, contacts=replace(log.contacts, eligible=doubled)), until)
    assert found.fitted_on == plain.fitted_on
    assert np.array_equal(found.weights, plain.weights)
    some = np.arange(50)
    assert np.array_equal(found.log_pi0(some), plain.log_pi0(some))


def test_estimates_are_probabilities(by_choices, log):
    contacts = np.arange(len(log.contacts))
    pairs = listed_pairs(log, contacts)
    p, clipped = by_choices.estimate(pairs)
    assert not clipped.all()
    sums = total(p, pairs)
    assert sums[np.diff(pairs.offsets) > 0] == pytest.approx(1)
    assert ((p > 0) & (p <= 1)).all()
    assert np.exp(by_choices.log_pi0(contacts)) == pytest.approx(p, rel=1e-4)
    nobody = by_choices.log_pi0(np.zeros(0, np.int64))
    assert nobody.shape == (0,)


def test_pairs_are_read_some_at_a_time(by_choices, log, monkeypatch):
    pairs = listed_pairs(log, np.arange(200))
    at_once = by_choices.scores(pairs)
    monkeypatch.setattr("train.propensity.PAIRS_AT_ONCE", 7)
    assert by_choices.scores(pairs) == pytest.approx(at_once, rel=1e-12)


def test_no_estimate_is_below_the_floor(by_choices, log):
    """With weights ten times as large some would be: they are clipped; an inverse weight stays within 21 times n."""
    wild = replace(by_choices, weights=by_choices.weights * 10)
    pairs = listed_pairs(log, np.arange(len(log.contacts)))
    raw = softmax(wild.scores(pairs), pairs)
    p, clipped = wild.estimate(pairs)
    count = np.diff(pairs.offsets)[pairs.row]
    assert np.array_equal(clipped, raw < FLOOR / count)
    assert 0.05 < clipped.mean() < 1
    assert (1 / p <= (1 + 1 / FLOOR) * count * (1 + 1e-9)).all()
    assert (1 / raw).max() > 10 * (1 / p).max()
    assert total(p, pairs)[np.diff(pairs.offsets) > 0] == pytest.approx(1)
    assert wild.diagnostics()["clipped"] > 0.05


def test_what_was_logged_is_taken_as_it_is(by_logged, by_choices, log):
    contacts = np.arange(0, len(log.contacts), 7)
    pairs = listed_pairs(log, contacts)
    p, estimate = np.exp(by_logged.log_pi0(contacts)), by_logged.estimate(pairs)[0]
    choices = by_logged.state.choices
    first = {
        int(c): (int(a), float(q)) for c, a, q in zip(choices.contact, choices.csa, choices.propensity, strict=True)
    }
    seen = 0
    for i, contact in enumerate(contacts):
        mine = slice(pairs.offsets[i], pairs.offsets[i + 1])
        csa, logged = first.get(int(contact), (-1, np.nan))
        own = pairs.csa[mine] == csa
        if not np.isfinite(logged):  # nobody took it, or nobody else could
            assert p[mine] == pytest.approx(estimate[mine], rel=1e-4)
            continue
        seen += 1
        assert p[mine][own] == pytest.approx([logged], rel=1e-4)
        others = estimate[mine][~own]
        assert p[mine][~own] == pytest.approx(others / others.sum() * (1 - logged), rel=1e-3)
    assert seen > 700
    assert np.exp(by_logged.log_pi0(contacts, logged=False)) == pytest.approx(estimate, rel=1e-4)
    assert by_choices.source == "estimated"
    assert by_logged.source == "logged"


def test_a_log_that_holds_some_propensities_uses_them(log, until):
    found = Propensities.fit(unlogged(log, share=0.3), until)
    assert found.source == "logged and estimated"
    assert 0.2 < found.diagnostics()["logged"] < 0.4


def test_a_propensity_of_one_says_no_more_than_the_choice(log, until, by_choices):
    certain = Propensities.fit(with_propensity(log, np.ones(len(log.handovers))), until, by_choices.state.shifts)
    assert certain.source == "estimated"
    assert np.array_equal(certain.weights, by_choices.weights)


@pytest.mark.parametrize("wrong", [0.0, -0.2, 1.5, np.inf])
def test_a_propensity_that_is_none_is_named(wrong, log, until):
    propensity = log.handovers.propensity.copy()
    propensity[1234] = wrong
    contact = log.contacts.ids[int(log.handovers.contact[1234])].as_py()
    with pytest.raises(
        DataError, match=rf"interactions\.parquet, column propensity: {wrong:g} at contact {contact};"
    ) as e:
        Propensities.fit(with_propensity(log, propensity), until)
    assert "\n" not in str(e.value)


def test_figures_of_the_estimate_are_in_range(by_choices, by_logged, until, log):
    for found in (by_choices, by_logged):
        told_of = found.diagnostics()
        assert told_of["held_out"] == 1
        assert 1000 < told_of["choices"] < 1300
        assert 4000 < told_of["fitted_on"] <= len(log.contacts) * 0.8
        assert 0 < told_of["log_loss"] < min(told_of["log_loss_equal"], told_of["log_loss_exposure"]) - 0.02
        assert 0 <= told_of["calibration_error"] < 0.1
        assert told_of["calibration_error"] <= told_of["calibration_worst"] < 0.3
        assert 0 < told_of["effective_sample"] <= 1
        assert 0 < told_of["smallest"] < 1 / 12 < told_of["largest"] <= 1
        assert 0 <= told_of["clipped"] < 0.05
    assert by_logged.diagnostics()["log_loss"] < by_choices.diagnostics()["log_loss"]
    assert (by_choices.diagnostics()["logged"], by_logged.diagnostics()["logged"]) == (0, pytest.approx(1, abs=0.01))


def test_figures_are_of_choices_that_the_fit_did_not_see(by_choices, log, until):
    """By hand: of contacts that arrived later; where there are none, of the fit's own, and it says so."""
    choices = by_choices.judged()
    assert (log.contacts.arrived_at[choices.contact] >= until).all()
    losses, equal, weight = [], [], []
    for contact, csa in zip(choices.contact, choices.csa, strict=True):
        pairs = listed_pairs(log, np.array([contact]))
        p = by_choices.estimate(pairs)[0]
        losses.append(-np.log(p[pairs.csa == csa][0]))
        equal.append(np.log(len(p)))
        weight.append(np.exp(losses[-1]))
    told_of = by_choices.diagnostics()
    assert told_of["log_loss"] == pytest.approx(np.mean(losses))
    assert told_of["log_loss_equal"] == pytest.approx(np.mean(equal))
    assert told_of["effective_sample"] == pytest.approx(np.sum(weight) ** 2 / np.sum(np.square(weight)) / len(weight))
    everything = Propensities.fit(unlogged(log), int(log.contacts.arrived_at[-1]) + 1)
    assert everything.diagnostics()["held_out"] == 0
    assert everything.diagnostics()["choices"] == everything.fitted_on


def test_bands_compare_what_was_foretold_with_what_came():
    p = np.linspace(0.01, 0.5, 1000)
    own = np.flatnonzero(np.random.default_rng(0).random(1000) < p)
    bands = calibration(p, own)
    assert bands.shape == (10, 2)
    assert np.abs(bands[:, 0] - bands[:, 1]).max() < 0.12
    assert bands[0, 0] == pytest.approx(p[:100].mean())
    assert bands[9, 1] == pytest.approx((own >= 900).sum() / 100)
    assert len(calibration(p[:3], own[:0])) == 3


def drawn_choices(n: int, seed: int) -> tuple[Doubles, Pairs, npt.NDArray[np.int64], Doubles]:
    """Features (P, 3) of n contacts with 2 to 9 eligible, who was chosen by weights (1.2, −0.5, 0), and with what p."""
    random = np.random.default_rng(seed)
    length = random.integers(2, 10, n)
    offsets = np.concatenate(([0], np.cumsum(length)))
    row = np.repeat(np.arange(n), length)
    pairs = Pairs(np.arange(n), row, np.arange(offsets[-1]) - offsets[row], offsets)
    features = random.normal(0, 1, (offsets[-1], 3))
    score = features @ [1.2, -0.5, 0.0]
    noisy = score + random.gumbel(size=len(score))
    own = np.array([a + noisy[a:b].argmax() for a, b in pairwise(offsets)])
    return features, pairs, own, softmax(score, pairs)[own]


def test_weights_that_chose_are_recovered_and_better_from_what_was_logged():
    features, pairs, own, p = drawn_choices(3000, 0)
    chosen = conditional_weights(features, pairs, own, np.ones(len(own)))
    logged = conditional_weights(features, pairs, own, p)
    assert chosen == pytest.approx([1.2, -0.5, 0], abs=0.1)
    assert logged == pytest.approx([1.2, -0.5, 0], abs=0.02)


@pytest.mark.parametrize("logged", [False, True])
def test_weights_are_the_minimum_of_the_formula(logged):
    """−p log π − (1 − p) log(1 − π) and the ridge, contact after contact, in units of each column within contacts."""
    features, pairs, own, p = drawn_choices(120, 1)
    features = np.column_stack([features * [1, 100, 0.01], np.ones(len(features))])  # a constant says nothing
    p = p if logged else np.ones(len(own))
    split = [slice(a, b) for a, b in pairwise(pairs.offsets)]
    centred = np.concatenate([features[s] - features[s].mean(axis=0) for s in split])
    scale = np.sqrt((centred**2).mean(axis=0))[:3]

    def loss(theta: Doubles) -> float:
        value = 0.5 * RIDGE * theta @ theta
        for s, mine, q in zip(split, own, p, strict=True):
            log_pi = log_softmax(centred[s, :3] / scale @ theta)[mine - s.start]
            value -= q * log_pi + ((1 - q) * np.log1p(-np.exp(log_pi)) if q < 1 else 0)
        return float(value)

    expected = minimize(loss, np.zeros(3), tol=1e-9).x
    found = conditional_weights(features, pairs, own, p)
    assert found[:3] * scale == pytest.approx(expected, abs=1e-3)
    assert found[3] == 0


def test_choices_are_first_hand_overs_between_several_listed(by_choices, log):
    state = by_choices.state
    assert len(state.choices.contact) == len(set(state.choices.contact.tolist()))
    assert (np.diff(state.choices.assigned_at) >= 0).all()
    used = choices_of(state, np.arange(len(state.choices.contact)))
    assert log.contacts.eligible is not None
    for contact, csa in zip(used.contact, used.csa, strict=True):
        listed = log.contacts.eligible.row(int(contact))
        assert listed is not None
        assert len(listed) > 1
        assert csa in listed
    pairs = listed_pairs(log, used.contact)
    assert pairs.csa[own_of(pairs, used.csa)].tolist() == used.csa.tolist()
    assert told(np.array([0.25, np.nan], np.float32)).tolist() == [0.25, 1.0]


def test_few_choices_or_no_lists_leave_exposure_and_say_why(folder, log, until):
    early = int(log.contacts.arrived_at[40])
    with pytest.raises(
        TooFewChoicesError, match=r"hand-overs to one of several eligible are known before 2026-.*50 are"
    ):
        Propensities.fit(log, early)
    none, told_of = propensities_of(folder, log, early)
    assert none is None
    assert told_of["source"] == "exposure"
    assert "50 are needed" in told_of["why"]
    unlisted = replace(log, contacts=replace(log.contacts, eligible=None))
    assert propensities_of(folder, unlisted, until) == (
        None, {"source": "exposure", "why": "contacts.parquet has no lists of who was eligible"}
    )  # fmt: skip
    lonely = log.contacts.eligible
    assert lonely is not None
    one = Ragged(np.arange(len(lonely) + 1), log.handovers.csa[:1].repeat(len(lonely)), np.zeros(len(lonely), np.bool_))
    assert propensities_of(folder, replace(log, contacts=replace(log.contacts, eligible=one)), until)[0] is None
    found, told_of = propensities_of(folder, log, until)
    assert found is not None
    assert told_of["source"] == "logged"
    assert told_of["log_loss"] == pytest.approx(found.diagnostics()["log_loss"], abs=1e-6)
    assert found.state.shifts is not None


@pytest.mark.parametrize("how", ["cut short", "no such column", "no zone", "null"])
def test_damaged_shifts_are_refused(how, folder, log, until, tmp_path):
    table, file = pq.read_table(folder / "shifts.parquet"), tmp_path / "shifts.parquet"
    if how == "cut short":
        file.write_bytes((folder / "shifts.parquet").read_bytes()[:-100])
    elif how == "no such column":
        pq.write_table(table.drop_columns(["ends_at"]), file)
    else:
        wrong = (
            table["ends_at"].cast(pa.timestamp("us"))
            if how == "no zone"
            else pa.nulls(len(table), table["ends_at"].type)
        )
        pq.write_table(table.set_column(2, "ends_at", wrong), file)
    with pytest.raises(DataError, match=r"shifts\.parquet") as e:
        propensities_of(tmp_path, log, until)
    assert "\n" not in str(e.value)
    assert read_shifts(tmp_path / "nowhere", log) is None
