"""The residual report finds what was planted, and nothing in noise."""

from __future__ import annotations

import numpy as np
import pytest

from evaluation.ranking import positive_csas, tried_csas
from evaluation.residuals import in_words, residuals
from evaluation.residuals_slices import Slice, binned, csa_slices, handled_before, slices
from tests.evaluation.logs import contact, handover, log, random_centre
from twotower.metrics import Bootstrap

DAY = 24 * 60


def parts(kind: str, values: np.ndarray) -> list[Slice]:
    return [Slice(kind, str(value), values == value) for value in np.unique(values)]


def test_a_planted_slice_comes_first_and_is_put_in_words() -> None:
    rng = np.random.default_rng(0)
    language, queue = rng.choice(["en", "es", "pt"], 600), rng.integers(0, 8, 600)
    reached = np.where(language == "pt", 0.1, 0.6) + rng.uniform(-0.1, 0.1, 600)
    found = residuals(reached, parts("language", language) + parts("queue", queue), Bootstrap(600, draws=200))
    worst = found[0]
    assert (worst.kind, worst.value, worst.significant) == ("language", "pt", True)
    assert worst.reached.value == pytest.approx(reached[language == "pt"].mean())
    assert worst.reached.low < worst.reached.value < worst.reached.high < worst.rest
    assert worst.loss == pytest.approx((1 - reached)[language == "pt"].sum() / (1 - reached).sum())
    assert worst.excess == pytest.approx(worst.loss - worst.contacts / 600)
    words = in_words(found)
    assert words[0].startswith("language: pt – ")
    assert "text representations for this language" in words[0]


def test_noise_is_not_spoken_of() -> None:
    rng = np.random.default_rng(1)
    spoken = 0
    for _ in range(20):
        found = residuals(rng.random(500), parts("queue", rng.integers(0, 20, 500)), Bootstrap(500, draws=10), least=1)
        spoken += any(residual.significant for residual in found)
    assert spoken <= 3
    assert in_words(found) == ["No slice is missed more than the rest beyond what chance explains."]


def test_where_a_baseline_is_ahead_the_signal_is_in_the_log() -> None:
    queue = np.arange(200) % 2
    rng = np.random.default_rng(2)
    reached = np.where(queue == 0, 0.2, 0.8) + rng.uniform(-0.05, 0.05, 200)
    found = residuals(reached, parts("queue", queue), Bootstrap(200, draws=100), baseline=np.full(200, 0.7))
    assert found[0].behind is not None
    assert found[0].behind.value == pytest.approx(0.5, abs=0.02)
    assert "the signal is in the log and not yet used" in in_words(found)[0]


def test_small_slices_are_left_out() -> None:
    member = np.arange(100) < 5
    assert residuals(np.ones(100), [Slice("k", "v", member)], Bootstrap(100, draws=5)) == []
    assert len(residuals(np.ones(100), [Slice("k", "v", member)], Bootstrap(100, draws=5), least=5)) == 1


def test_bins_by_hand() -> None:
    found = list(binned("k", np.array([0.0, 1.0, 4.9, 5.0, np.nan]), (1, 5), ("low", "mid", "high")))
    assert [part.member.tolist() for part in found] == [
        [True, False, False, False, False],
        [False, True, True, False, False],
        [False, False, False, True, False],
    ]


def test_slices_of_contacts_by_hand() -> None:
    day = [0, 1, 2, 40, 41, 42]
    texts = ["lost card", "card lost", "card", "lost card", "lost passport", "zebra"]
    customers = ["k", "m", None, "k", None, "new"]
    small = log(
        [
            contact(d * DAY, text, customer=k, queue=q)
            for d, text, k, q in zip(day, texts, customers, [None, None, None, "cards", None, None], strict=True)
        ],
        [
            handover(0, "a", 0 * DAY + 5),
            handover(1, "a", 1 * DAY + 5),
            handover(2, "a", 41 * DAY),  # known the moment the fifth contact arrives: not before
            *(handover(of, "ab"[of == 5], 60 * DAY) for of in (3, 4, 5)),
        ],
        ["a", "b"],
    )
    found = slices(small, np.array([3, 4, 5]), positive_csas(small))
    named = {(part.kind, part.value): part.member.tolist() for part in found}
    assert named["queue", "cards"] == [True, False, False]
    assert named["queue", "(none)"] == [False, True, True]
    assert named["customer", "returning"] == [True, False, False]
    assert named["customer", "unknown"] == [False, True, False]
    assert named["customer", "new: no hand-over known yet"] == [False, False, True]
    assert named["words of the need", "all seen before"] == [True, False, False]
    assert named["words of the need", "more than a quarter new"] == [False, True, True]
    assert named["hand-overs the CSA had", "0"] == [False, False, True]
    assert named["hand-overs the CSA had", "1 to 4"] == [True, True, False]
    assert named["last hand-over of the CSA", "within half a year"] == [True, True, False]
    assert ("channel", "chat") not in named  # all of them: nothing to compare with


def test_history_of_customers_is_what_was_known_before() -> None:
    contacts, handovers, csas = random_centre(2)
    small = log(contacts, handovers, csas)
    moves, who = small.handovers, small.contacts.customer
    counted = handled_before(small, np.arange(60))
    for position in range(60):
        known = moves.known_at < small.contacts.arrived_at[position]
        same = who[moves.contact] == who[position]
        assert counted[position] == (0 if who[position] < 0 else (known & same).sum())


def test_slices_by_csa_hold_the_contacts_each_handled() -> None:
    small = log(
        [contact(i) for i in range(4)],
        [handover(0, "a", 9), handover(1, "a", 9), handover(2, "b", 9), handover(1, "b", 9, resolved=False)],
        ["a", "b"],
    )
    found = csa_slices(small, np.arange(3), positive_csas(small), least=2)
    assert [(part.kind, part.value, part.member.tolist()) for part in found] == [("CSA", "a", [True, True, False])]


def test_who_tried_is_whose_outcome_is_known_good_or_bad() -> None:
    small = log(
        [contact(0)],
        [handover(0, "a", 9, resolved=False), handover(0, "b", 9), handover(0, "c", 9, resolved=None)],
        ["a", "b", "c"],
    )
    assert tried_csas(small).values.tolist() == [0, 1]
    assert positive_csas(small).values.tolist() == [1, 2]
