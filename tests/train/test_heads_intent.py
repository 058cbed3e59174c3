"""The intent head: which label it gives, how sure it is, and when it says that it does not know."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from train import heads
from train.heads import intent_head

Longs = npt.NDArray[np.int64]


def toy(count: int = 300, seed: int = 0) -> tuple[npt.NDArray[np.float32], Longs]:
    """Unit vectors around three of eight axes, and codes 1, 2, 4 that name the axis."""
    rng = np.random.default_rng(seed)
    which = rng.integers(0, 3, count)
    text = 3 * np.eye(8)[which] + 0.3 * rng.standard_normal((count, 8))
    return (text / np.linalg.norm(text, axis=1, keepdims=True)).astype(np.float32), np.array([1, 2, 4])[which]


def logits(head: tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]], text: npt.NDArray[np.float32]) -> Longs:
    return text * np.sqrt(text.shape[1]) @ head[0].T + head[1]


def test_separable_intents_are_told_apart():
    text, code = toy(3000)
    head = intent_head(text, code, 4)
    fresh, truth = toy(seed=1)
    assert head[0].shape == (5, 8)
    assert head[1].shape == (5,)
    assert head[0].dtype == head[1].dtype == np.float32
    assert logits(head, fresh).argmax(axis=1).tolist() == truth.tolist()


def test_probabilities_are_those_of_the_data():
    rng = np.random.default_rng(2)
    text, code = toy(30_000)
    code = np.where(rng.random(len(code)) < 0.25, 2, code)  # a quarter goes by another name
    fresh, truth = toy(seed=1)
    z = logits(intent_head(text, code, 4), fresh)
    p = np.exp(z - z.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    assert p[truth == 1, 1].mean() == pytest.approx(0.75, abs=0.03)
    assert p[truth == 1, 2].mean() == pytest.approx(0.25, abs=0.03)


def test_unknown_and_labels_without_a_contact_are_never_said():
    text, code = toy()
    weight, bias = intent_head(text, code, 6)
    assert not weight[[0, 3, 5, 6]].any()
    assert bias[[0, 3, 5, 6]].tolist() == [-1e9] * 4
    assert np.isfinite(bias).all()


def test_null_codes_are_not_read():
    text, code = toy()
    null = np.zeros(len(code), np.int64)
    alone = intent_head(text, code, 4)
    both = intent_head(np.concatenate([text, -text]), np.concatenate([code, null]), 4)
    assert [part.tobytes() for part in both] == [part.tobytes() for part in alone]


@pytest.mark.parametrize("case", ["no contact", "all null", "one label", "49 labelled"])
def test_with_too_little_to_learn_from_all_is_unknown(case):
    text, code = toy(0 if case == "no contact" else 300)
    if case == "all null":
        code[:] = 0
    if case == "one label":
        code[:] = 2
    if case == "49 labelled":
        code[49:] = 0
    weight, bias = intent_head(text, code, 4)
    assert not weight.any()
    assert bias.tolist() == [0, *[-1e9] * 4]


def test_fifty_labelled_contacts_are_enough():
    text, code = toy()
    code[50:] = 0
    assert intent_head(text, code, 4)[0].any()


def test_of_many_contacts_some_are_taken_from_all_of_the_log(monkeypatch):
    monkeypatch.setattr(heads, "MOST_LABELLED", 100)
    text, code = toy(199)
    even = code.copy()
    even[1::2] = 0
    every_other, thinned = intent_head(text, even, 4), intent_head(text, code, 4)
    assert [part.tobytes() for part in thinned] == [part.tobytes() for part in every_other]


def test_the_intent_head_is_the_same_to_the_bit():
    text, code = toy()
    once, again_ = intent_head(text, code, 4), intent_head(text, code, 4)
    assert [part.tobytes() for part in once] == [part.tobytes() for part in again_]
