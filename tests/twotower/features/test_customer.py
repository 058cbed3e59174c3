"""Customers: signatures find an earlier CSA by an inner product; frequency and style are what came before."""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twotower.clock import DAY
from twotower.features.customer import (
    NUMBERS,
    RELATIONSHIP,
    SETTINGS,
    SIGNATURE,
    STYLE,
    CustomerRows,
    customer_features,
    customer_names,
    signatures,
    style_of,
)
from twotower.features.engine.core import PAIR_SUMS
from twotower.features.engine.customers import LONG_DAYS, CustomerHistory
from twotower.features.engine.events import Arrivals, KnownHandovers
from twotower.features.engine.settings import CustomerSettings
from twotower.features.feature import table
from twotower.features.schema import nobody
from twotower.text.signals import SIGNALS, signals

BEGIN = 20_000 * DAY
IDS = [f"csa-{i:04}" for i in range(1000)]
WORDS = STYLE.index("words")


def arrivals(days: list[float], style: npt.ArrayLike | None = None, customer: int = 0) -> Arrivals:
    """Contacts of one customer so many days after the beginning; style (N, S)."""
    shown = np.full((len(days), len(STYLE)), np.nan) if style is None else np.asarray(style)
    at = np.array([BEGIN + round(day * DAY) for day in days], np.int64)
    return Arrivals(np.full(len(days), customer, np.int32), at, shown.astype(np.float32))


def met(*moves: tuple[int, float, int]) -> KnownHandovers:
    """Hand-overs of customer 0: (csa, day on which the outcome became known, resolved)."""
    csa, day, resolved = zip(*moves, strict=True) if moves else ((), (), ())
    return KnownHandovers(
        np.array(csa, np.int32), np.array([BEGIN + round(d * DAY) for d in day], np.int64), np.array(resolved, np.int8),
        np.full(len(csa), np.nan, np.float32), np.zeros((len(csa), 0), np.float32),
        customer=np.zeros(len(csa), np.int32),
    )  # fmt: skip


def rows(came: Arrivals, known: KnownHandovers, day: float, customers: list[int]) -> CustomerRows:
    """What was known of customers at the beginning of a day."""
    history = CustomerHistory(SETTINGS, 2)
    history.advance(came, known, BEGIN + round(day * DAY))
    return CustomerRows(history.read(customers), signatures(IDS))


def named(of: CustomerRows, row: int = 0) -> dict[str, float]:
    found = table(NUMBERS, of, len(of), None)[row]
    return dict(zip((feature.name for feature in NUMBERS), found.tolist(), strict=True))


def test_a_signature_is_of_unit_length_and_of_two_values():
    found = signatures(IDS)
    assert found.shape == (1000, SIGNATURE)
    assert found.dtype == np.float32
    assert set(np.unique(np.abs(found)).tolist()) == {np.float32(SIGNATURE**-0.5)}
    assert np.linalg.norm(found, axis=1) == pytest.approx(np.ones(1000))


def test_a_signature_follows_from_the_id_alone():
    assert np.array_equal(signatures(IDS)[17:19], signatures(["csa-0017", "csa-0018"]))
    assert not np.array_equal(signatures(["ada"]), signatures(["Ada"]))
    assert signatures([]).shape == (0, SIGNATURE)
    code = "from twotower.features.customer import signatures; print(signatures(['ada', 'é\\udc80']).tolist())"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert other.stdout.strip() == str(signatures(["ada", "é\udc80"]).tolist())
    # Written down: bundles that were exported before must find the same CSAs.
    assert (signatures(["ada"])[0, :16] > 0).astype(int).tolist() == ADA


ADA = [1, 1, 0, 0, 1, 0, 1, 0, 1, 1, 1, 0, 0, 1, 1, 1]


def test_a_thousand_signatures_are_nearly_orthogonal():
    found = signatures(IDS).astype(np.float64)
    between = (found @ found.T)[~np.eye(1000, dtype=bool)]
    assert abs(between.mean()) < 0.01
    assert between.std() == pytest.approx(
        SIGNATURE**-0.5, rel=0.05
    )  # as random codes: what the others are disturbed by
    assert abs(between).max() < 1  # no two are the same, or opposite
    assert (abs(found.mean(axis=0)) < 4 * SIGNATURE**-0.5 / 1000**0.5).all()


def test_a_single_earlier_csa_is_found_exactly():
    of = rows(arrivals([]), met((7, 1, 1)), 1 + 180, [0])
    products = of.met("together")[0] @ of.signature.T.astype(np.float64)
    assert products[7] == pytest.approx(math.log1p(0.5))  # a half-life ago
    others = np.delete(products, 7)
    assert abs(others).max() < products[7]
    assert others.std() == pytest.approx(products[7] * SIGNATURE**-0.5, rel=0.1)


@given(st.lists(st.tuples(st.integers(0, 999), st.integers(0, 30), st.integers(-1, 1)), min_size=1, max_size=12))
def test_each_earlier_csa_is_found_but_for_what_the_others_add(moves):
    moves = sorted(moves, key=lambda move: move[1])
    of = rows(arrivals([]), met(*moves), 40, [0])
    csas = of.reading.pair_csa[0]
    remembered = csas[csas >= 0]
    assert 1 <= len(remembered) <= SETTINGS.pairs
    for kind, name in enumerate(PAIR_SUMS):
        weight = np.log1p(of.reading.pair_sums[0, csas >= 0, kind])
        own = of.signature[remembered].astype(np.float64)
        products = own @ of.met(name)[0]
        crosstalk = abs(own @ own.T - np.eye(len(own))) @ weight
        assert (abs(products - weight) <= crosstalk + 1e-5).all()


def test_good_and_bad_ends_are_told_apart():
    of = rows(arrivals([]), met((3, 1, 1), (5, 2, 0), (9, 3, -1)), 4, [0])
    together, good, bad = (of.met(kind)[0] @ of.signature[[3, 5, 9]].T for kind in PAIR_SUMS)
    for csa in range(3):
        assert together[csa] > 0.3
    assert good.argmax() == 0
    assert bad.argmax() == 1
    assert np.allclose(of.met("good")[0], math.log1p(0.5 ** (3 / 180)) * of.signature[3], atol=1e-6)
    assert np.allclose(of.met("bad")[0], math.log1p(0.5 ** (2 / 180)) * of.signature[5], atol=1e-6)


def test_the_relationship_features_are_the_three_kinds():
    of = rows(arrivals([]), met((3, 1, 1), (5, 2, 0)), 4, [0])
    found = table(RELATIONSHIP, of, 1, None)
    assert [feature.name for feature in RELATIONSHIP] == [f"met_{kind}" for kind in PAIR_SUMS]
    assert found.shape == (1, 3 * SIGNATURE)
    assert np.allclose(found[0], np.concatenate([of.met(kind)[0] for kind in PAIR_SUMS]))
    assert [name for feature in RELATIONSHIP for name in feature.names(None)][SIGNATURE] == "met_good_0"


def test_who_never_met_anybody_carries_nothing():
    of = rows(arrivals([]), met((IDS.index("csa-0999"), 1, 1)), 4, [1, -1])
    for kind in PAIR_SUMS:
        assert not of.met(kind).any()  # an empty place is not the last CSA of the roster


def test_a_csa_who_is_no_longer_named_carries_nothing():
    of = rows(arrivals([]), met((999, 1, 1)), 4, [0])
    gone = replace(of, reading=replace(of.reading, pair_csa=np.full_like(of.reading.pair_csa, -1)))
    assert of.met("together").any()
    assert not gone.met("together").any()


def test_frequency_counts_contacts_of_before():
    found = named(rows(arrivals([0, 14, 28]), met(), 28, [0]))  # the third is not before
    assert found["contacts"] == pytest.approx(math.log1p(2))
    assert found["frequency_14d"] == pytest.approx(math.log1p(0.25 + 0.5))
    assert found["frequency_180d"] == pytest.approx(math.log1p(0.5 ** (28 / 180) + 0.5 ** (14 / 180)))
    assert found["since_last"] == pytest.approx(math.log1p(14))


def test_days_since_the_last_contact_are_exact_and_long_where_there_is_none():
    of = rows(arrivals([0, 1.25]), met(), 3, [0, 1, -1])
    assert of.days_since.tolist() == [1.75, LONG_DAYS, LONG_DAYS]


def test_style_is_a_mean_and_drift_is_how_it_moved():
    style = np.zeros((2, len(STYLE)))
    style[:, WORDS] = 1, 3
    found = named(rows(arrivals([0, 14], style), met(), 28, [0]))
    fast, slow = [0.25, 0.5], [0.5 ** (28 / 180), 0.5 ** (14 / 180)]
    means = [(w[0] + 3 * w[1]) / sum(w) for w in (fast, slow)]
    assert found["style_words"] == pytest.approx(means[1], rel=1e-5)
    assert found["drift_words"] == pytest.approx(means[0] - means[1], rel=1e-5)
    assert found["style_n"] == pytest.approx(math.log1p(sum(slow)))
    assert found["style_upset"] == found["drift_upset"] == 0


def test_a_contact_that_shows_no_style_counts_as_a_contact_only():
    style = np.full((3, len(STYLE)), np.nan)
    style[1] = 0.5
    found = named(rows(arrivals([0, 1, 2], style), met(), 3, [0]))
    assert found["contacts"] == pytest.approx(math.log1p(3))
    assert found["style_n"] == pytest.approx(math.log1p(0.5 ** (2 / 180)))
    assert [found[f"style_{name}"] for name in STYLE] == pytest.approx([0.5] * len(STYLE))
    assert [found[f"drift_{name}"] for name in STYLE] == pytest.approx([0] * len(STYLE), abs=1e-6)


def test_style_is_read_off_texts_and_a_text_without_words_shows_none():
    read = signals(["I am so angry, this is useless!", "", None, "😀", "12 34", "please help me"], ["en"] * 6)
    style = style_of(read)
    names = [signal.name for signal in SIGNALS]
    assert np.isnan(style).all(axis=1).tolist() == [False, True, True, True, True, False]
    for row in (0, 5):
        assert style[row].tolist() == [read[row, names.index(name)] for name in STYLE]
    assert not np.isnan(read).any()  # what was handed in is left as it was


def test_nobody_reads_as_the_defaults():
    for of in (nobody(2), rows(arrivals([0]), met((7, 1, 1)), 3, [1, -1])):
        for row in range(2):
            found = named(of, row)
            assert found == {feature.name: pytest.approx(feature.default) for feature in NUMBERS}
        assert not table(RELATIONSHIP, of, 2, None).any()
    assert len(nobody(0)) == 0
    assert table(NUMBERS, nobody(0), 0, None).shape == (0, len(NUMBERS))


def test_a_part_is_its_rows():
    of = rows(arrivals([0, 1]), met((7, 1, 1)), 3, [0, 1, 0, -1])
    part = of.part(2, 5)
    assert len(part) == 2
    assert np.array_equal(part.met("together"), of.met("together")[2:])
    assert part.days_since.tolist() == of.days_since[2:].tolist()
    assert len(of.part(4, 2)) == 0


def test_other_settings_have_features_of_their_own():
    settings = CustomerSettings(style_us=(DAY, 3 * DAY), signals=("warmth",))
    names = customer_names(settings)
    assert names == [
        "contacts",
        "frequency_1d",
        "frequency_3d",
        "since_last",
        "style_n",
        "style_warmth",
        "drift_warmth",
    ]
    found = customer_features(CustomerHistory(settings, 1).read([0, -1], BEGIN), settings)
    assert found.shape == (2, len(names))
    assert found[0].tolist() == pytest.approx([0, 0, 0, math.log1p(LONG_DAYS), 0, 0, 0])
