"""What the contact tower tells of a contact: a label that is given counts, what was not fitted says nothing."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.twotower.towers.conftest import CONFIG, SCHEMA
from twotower.features.complexity import COMPLEXITY
from twotower.towers.backbones import unit
from twotower.towers.heads import Heads
from twotower.towers.store import heads_for

SIZES, INTENT, WIDTH, GAIN = [3, 1, 4], 2, 5, 2.0
LOW = torch.tensor([one.low for one in COMPLEXITY])
HIGH = torch.tensor([one.high for one in COMPLEXITY])


@pytest.fixture
def unfitted() -> Heads:
    return Heads(WIDTH, SIZES, INTENT, GAIN)


@pytest.fixture
def heads(unfitted) -> Heads:
    """Fitted: random, but the intent's code 0, unknown, is never said."""
    rng = torch.Generator().manual_seed(0)
    bias = torch.randn(SIZES[INTENT], generator=rng).index_fill(0, torch.tensor([0]), -1e9)
    unfitted.set_intent(torch.randn(SIZES[INTENT], WIDTH, generator=rng), bias)
    unfitted.set_complexity(
        torch.randn(len(COMPLEXITY), WIDTH + sum(SIZES), generator=rng), torch.rand(len(COMPLEXITY), generator=rng)
    )
    return unfitted


@pytest.fixture
def read() -> torch.Tensor:
    """Text vectors of six contacts."""
    return unit(torch.randn(6, WIDTH, generator=torch.Generator().manual_seed(1)))


CATEGORIES = torch.tensor([[0, 0, 0], [1, 0, 0], [2, 0, 1], [0, 0, 2], [1, 0, 3], [2, 0, 0]])
GIVEN = CATEGORIES[:, INTENT] > 0


def test_a_head_that_was_not_fitted_says_unknown(unfitted, read):
    said = unfitted(read, CATEGORIES)
    assert said.intent.tolist() == [0] * 6
    assert said.intent_p.tolist() == [1] * 6
    assert not said.known[~GIVEN, -SIZES[INTENT] :].any()
    assert not said.complexity.any()


def test_the_intent_is_the_softmax_of_the_text(heads, read):
    said = heads(read, CATEGORIES)
    p = (read * WIDTH**0.5 @ heads.intent_weight.T + heads.intent_bias).softmax(dim=1)
    assert said.intent.tolist() == p.argmax(dim=1).tolist()
    assert torch.allclose(said.intent_p, p.max(dim=1).values)
    assert (said.intent > 0).all()


def test_an_intent_that_is_not_given_has_its_probabilities_for_an_indicator(heads, read):
    _, p = heads.indicators(read, CATEGORIES)
    soft = heads(read, CATEGORIES).known[:, -SIZES[INTENT] :]
    assert torch.allclose(soft[~GIVEN][:, 1:], GAIN * p[~GIVEN][:, 1:])
    assert not soft[:, 0].any()  # unknown says nothing
    assert torch.allclose(soft[~GIVEN].sum(dim=1), torch.full((3,), GAIN))
    assert 0.05 < p[~GIVEN].max() < 0.999  # else nothing was soft


def test_an_unsure_head_weighs_less_than_a_label(heads, read):
    heads.intent_bias[0] = 0  # unknown is possible again
    known, p = heads.indicators(read, CATEGORIES)
    assert (p[:, 0] > 0.01).any()
    assert torch.allclose(known[~GIVEN, -SIZES[INTENT] :].sum(dim=1), GAIN * (1 - p[~GIVEN, 0]))


def test_a_label_that_is_given_counts_whatever_the_text_says(heads, read):
    said, other = heads(read, CATEGORIES), heads(-read, CATEGORIES)
    hard = said.known[GIVEN, -SIZES[INTENT] :]
    assert hard.tolist() == [[0, GAIN, 0, 0], [0, 0, GAIN, 0], [0, 0, 0, GAIN]]
    assert torch.equal(hard, other.known[GIVEN, -SIZES[INTENT] :])
    assert not torch.equal(said.known[~GIVEN], other.known[~GIVEN])


def test_other_categories_are_as_given_and_unknown_says_nothing(heads, read):
    known = heads(read, CATEGORIES).known
    assert known.shape == (6, sum(SIZES))
    channel = CATEGORIES[:, 0].tolist()
    assert known[:, : SIZES[0]].tolist() == [[0, GAIN * (code == 1), GAIN * (code == 2)] for code in channel]
    assert not known[:, SIZES[0]].any()  # a category without a value


def test_complexity_is_linear_in_what_the_heads_read(heads, read):
    inputs = heads.inputs(read, CATEGORIES)
    assert inputs.shape == (6, WIDTH + sum(SIZES))
    assert torch.allclose(inputs[:, :WIDTH], read * WIDTH**0.5)
    assert torch.equal(inputs[:, WIDTH:], heads(read, CATEGORIES).known)
    plain = inputs @ heads.weight.T + heads.bias
    assert torch.allclose(heads(read, CATEGORIES).complexity, plain.clamp(LOW, HIGH), atol=1e-5)


@given(st.floats(-1e6, 1e6), st.integers(0, len(COMPLEXITY) - 1))
def test_what_is_told_never_leaves_its_bounds(bias, place):
    heads = Heads(WIDTH, SIZES, INTENT, GAIN)
    biases = torch.zeros(len(COMPLEXITY))
    biases[place] = bias
    heads.set_complexity(torch.zeros_like(heads.weight), biases)
    said = heads(torch.ones(1, WIDTH), torch.zeros(1, 3, dtype=torch.int64)).complexity[0]
    expected = min(max(biases[place].item(), COMPLEXITY[place].low), HIGH[place].item())
    assert said[place].item() == expected
    assert [said[i].item() for i in range(len(COMPLEXITY)) if i != place] == [0] * (len(COMPLEXITY) - 1)


def test_heads_are_no_parameters_of_training_and_are_saved(heads):
    assert list(heads.parameters()) == []
    assert set(heads.state_dict()) == {"intent_weight", "intent_bias", "weight", "bias"}
    again = Heads(WIDTH, SIZES, INTENT, GAIN)
    again.load_state_dict(heads.state_dict())
    assert torch.equal(again.weight, heads.weight)


def test_heads_of_a_schema_have_its_codes(read):
    heads = heads_for(CONFIG, SCHEMA, 12)
    assert heads.sizes == [1 + len(values) for values in SCHEMA.categories.values()]
    assert heads.intent == list(SCHEMA.categories).index("intent")
    assert heads.weight.shape == (len(COMPLEXITY), 12 + sum(heads.sizes))
    assert heads.get_buffer("indicator_0")[1, 1] == CONFIG.category_gain
