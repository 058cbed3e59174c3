"""The world behind the words: what the label hides, who is cold, and how exposure and quality are confounded."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation.generate import catalogue
from evaluation.generate.arrivals import Contacts, draw_contacts
from evaluation.generate.latents import CONSTANTS
from evaluation.generate.people import Customers, Staff, draw_customers, draw_staff
from evaluation.generate.queue import Queue, draw, draw_roster, normalise
from evaluation.generate.settings import Settings
from evaluation.generate.world import World, choose, draw_world
from twotower.clock import DAY, NEVER

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Drawn:
    settings: Settings
    world: World
    staff: Staff
    customers: Customers
    contacts: Contacts


@pytest.fixture(scope="module", params=[0, 1, 2])
def drawn(request: pytest.FixtureRequest) -> Drawn:
    settings = Settings(15_000, 240, seed=request.param)
    world = draw_world(settings)
    customers = draw_customers(settings, world)
    return Drawn(settings, world, draw_staff(settings, world), customers, draw_contacts(settings, world, customers))


def explained(needs: npt.NDArray[np.float32], *codes: npt.NDArray[np.integer]) -> float:
    """R² of the needs on the dummies of some categories."""
    dummies = [np.eye(int(code.max()) + 2)[code.astype(int) + 1] for code in codes]
    columns = np.concatenate([np.ones((len(needs), 1)), *dummies], axis=1)
    residual = needs - columns @ np.linalg.lstsq(columns, needs, rcond=None)[0]
    return float(1 - (residual**2).sum() / ((needs - needs.mean(axis=0)) ** 2).sum())


def product_code(contacts: Contacts) -> npt.NDArray[np.int64]:
    return np.array(catalogue.INTENT_DOMAIN)[contacts.intent] * catalogue.PER_INTENT + contacts.product


def test_needs_are_not_readable_from_the_label_but_from_what_is_said(drawn: Drawn) -> None:
    contacts = drawn.contacts
    assert contacts.need.var(axis=0).mean() == pytest.approx(1, abs=0.1)
    assert explained(contacts.need, contacts.label) < 0.4
    assert explained(contacts.need, contacts.intent) < 0.5
    said = explained(contacts.need, contacts.intent, product_code(contacts), *contacts.slot.values())
    assert 0.85 < said < 0.97


def test_there_are_36_intents_in_nine_lines_of_business_and_all_occur(drawn: Drawn) -> None:
    assert (len(catalogue.INTENTS), len(catalogue.DOMAINS), len(catalogue.PRODUCTS)) == (36, 9, 45)
    assert len(np.unique(drawn.contacts.intent)) == 36
    assert len(np.unique(product_code(drawn.contacts))) == 45


def test_shares_are_as_stated(drawn: Drawn) -> None:
    contacts = drawn.contacts
    assert (contacts.label < 0).mean() == pytest.approx(0.10, abs=0.015)
    assert ((contacts.label >= 0) & (contacts.label != contacts.intent)).mean() == pytest.approx(0.05, abs=0.01)
    assert (contacts.second >= 0).mean() == pytest.approx(0.12, abs=0.015)
    assert (contacts.second != contacts.intent).all()
    assert (~contacts.customer_known).mean() == pytest.approx(0.08, abs=0.015)
    assert (contacts.tone == 2).mean() > 0.03
    assert 0.5 < (contacts.tone == 0).mean() < 0.85


def test_values_occur_only_where_they_make_sense(drawn: Drawn) -> None:
    domains = np.array(list(catalogue.DOMAINS))[np.array(catalogue.INTENT_DOMAIN)[drawn.contacts.intent]]
    for slot, values in catalogue.SLOTS.items():
        for code, value in enumerate(values):
            where = domains[drawn.contacts.slot[slot] == code]
            assert len(where) > 0
            assert set(where) <= set(catalogue.ONLY_IN.get(value, tuple(catalogue.DOMAINS)))


def test_customers_return(drawn: Drawn) -> None:
    times = np.bincount(drawn.contacts.customer)
    assert times.max() > 20
    assert (times[times > 0] > 1).mean() > 0.4


def test_fewer_contacts_come_at_night_and_on_sundays(drawn: Drawn) -> None:
    hour = drawn.contacts.arrived_at // 3_600_000_000 % 24
    weekday = (drawn.contacts.arrived_at // DAY + 3) % 7
    assert (hour < 6).mean() < 0.03
    counts = np.bincount(weekday, minlength=7)
    assert counts[0] > 1.5 * counts[6]


def test_the_fast_are_worse_and_the_queue_favours_the_fast(drawn: Drawn) -> None:
    staff = drawn.staff
    assert np.corrcoef(staff.speed, staff.quality)[0, 1] < -0.6
    roster = draw_roster(drawn.settings, staff)
    queue = Queue(drawn.settings, staff, roster, drawn.contacts, CONSTANTS["queue_gamma"])
    choice = queue.choose(drawn.contacts, slice(0, len(drawn.contacts)), np.random.default_rng(0))
    chosen = np.bincount(choice.csa[choice.chosen[choice.chosen >= 0]], minlength=len(staff))
    able = np.bincount(choice.csa, minlength=len(staff))
    seen = able > 200
    assert np.corrcoef(chosen[seen] / able[seen], staff.quality[seen])[0, 1] < -0.35


def test_some_csas_are_cold_at_the_test_split(drawn: Drawn) -> None:
    split = drawn.contacts.arrived_at[-drawn.settings.test_contacts]
    hired = drawn.staff.hired_at
    assert (hired > split).sum() >= 5
    assert ((hired > split - 21 * DAY) & (hired <= split)).sum() >= 5
    assert (drawn.staff.left_at < NEVER).sum() >= 10
    assert (drawn.staff.left_at > hired).all()


def test_individual_skill_outweighs_team_and_site(drawn: Drawn) -> None:
    theta, shared = drawn.staff.theta, drawn.staff.prior_mean[:, : drawn.staff.theta.shape[1]]
    assert (theta - shared).var() / theta.var() > 0.6


@pytest.mark.parametrize("csas", [10, 17, 40])
def test_small_rosters_have_every_kind_of_csa(csas: int) -> None:
    settings = Settings(300, csas, eligible=5)
    staff = draw_staff(settings, draw_world(settings))
    assert (staff.queues.any(axis=1)).all()
    assert ((staff.fluency == 1).sum(axis=1) == 1).all()
    assert (staff.hired_at >= settings.begins).sum() >= 4


@given(
    counts=st.lists(st.integers(0, 6), min_size=1, max_size=30),
    seed=st.integers(0, 2**32 - 1),
)
def test_ragged_draws_stay_in_their_row_and_weights_sum_to_one(counts: list[int], seed: int) -> None:
    random = np.random.default_rng(seed)
    offsets = np.concatenate([[0], np.cumsum(counts)])
    probability = normalise(np.exp(random.normal(0, 3, offsets[-1])), offsets)
    row = np.repeat(np.arange(len(counts)), counts)
    sums = np.bincount(row, probability, len(counts))
    np.testing.assert_allclose(sums, (np.array(counts) > 0).astype(float), atol=1e-12)
    drawn = draw(probability, offsets, random.random(len(counts)))
    assert ((drawn >= offsets[:-1]) == (np.array(counts) > 0)).all()
    assert (drawn < offsets[1:]).all()


def test_ragged_draws_follow_their_probabilities() -> None:
    offsets = np.array([0, 3, 3, 5])
    probability = normalise(np.array([1.0, 2.0, 7.0, 3.0, 1.0]), offsets)
    random = np.random.default_rng(0)
    draws = np.stack([draw(probability, offsets, random.random(3)) for _ in range(20_000)])
    assert (draws[:, 1] == -1).all()
    np.testing.assert_allclose(np.bincount(draws[:, 0], minlength=3) / 20_000, [0.1, 0.2, 0.7], atol=0.015)
    np.testing.assert_allclose(np.bincount(draws[:, 2] - 3, minlength=2) / 20_000, [0.75, 0.25], atol=0.015)


def test_choose_inverts_cumulative_probabilities() -> None:
    cumulative: Floats = np.array([[0.2, 0.5, 1.0], [0.0, 1.0, 1.0]])
    uniform = np.array([0.1, 0.3], dtype=np.float32)
    assert choose(cumulative, uniform).tolist() == [0, 1]
    assert choose(cumulative[0], np.array([0.0, 0.21, 0.999], dtype=np.float32)).tolist() == [0, 1, 2]


def test_the_world_is_frozen() -> None:
    """Figures measured on a world hold only while it stays the same; a change here is a decision record."""
    settings = Settings(1000, 40)
    world = draw_world(settings)
    contacts = draw_contacts(settings, world, draw_customers(settings, world))
    staff = draw_staff(settings, world)
    assert contacts.intent[:5].tolist() == [13, 16, 23, 2, 3]
    np.testing.assert_allclose(contacts.need[0, :3], [-0.05704, 0.51587, -1.42141], atol=1e-4)
    np.testing.assert_allclose(contacts.difficulty[:3], [0.44923, 0.10196, -0.02683], atol=1e-4)
    np.testing.assert_allclose(staff.theta[0, :3], [0.23749, 1.53245, 0.28494], atol=1e-4)
    np.testing.assert_allclose(staff.speed[:3], [1.14425, -0.00248, 2.04649], atol=1e-4)
    frozen = (1.25, 0.24, 0.16, 15.0, 1500.0, 0.9, 0.6)
    assert tuple(CONSTANTS.values()) == frozen
