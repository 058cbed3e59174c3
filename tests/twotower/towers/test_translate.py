"""Words of two languages that are used for the same intents become one another's mixtures."""

import numpy as np
import pytest
from scipy import sparse

from twotower.towers.translate import LEAST_SEEN, Pivot, Profiles, frequent, mixtures, translation

LABELS = 12
PER_LABEL = 160


def two_languages(seed: int = 0) -> tuple[sparse.csr_matrix, Pivot]:
    """Contacts in two languages: token c of the first and LABELS + c of the second are said of label c alone; the last
    token is said by everybody."""
    rng = np.random.default_rng(seed)
    label = np.repeat(np.arange(LABELS), 2 * PER_LABEL)
    language = (np.arange(len(label)) % 3 == 0).astype(np.int64)
    dense = np.zeros((len(label), 2 * LABELS + 1))
    dense[np.arange(len(label)), label + LABELS * language] = rng.random(len(label)) < 0.9
    dense[:, -1] = 1
    return sparse.csr_matrix(dense), Pivot(language, label)


def test_a_word_is_read_as_the_word_of_the_largest_language_with_the_same_use() -> None:
    counts, pivot = two_languages()
    found = translation(counts, pivot).toarray()
    assert found[LABELS:-1, :LABELS].argmax(axis=1).tolist() == list(range(LABELS))
    assert found[LABELS:-1, :LABELS].max(axis=1).min() > 0.95


def test_words_of_the_largest_language_stay() -> None:
    counts, pivot = two_languages()
    found = translation(counts, pivot).toarray()
    assert np.array_equal(found[:LABELS], np.eye(2 * LABELS + 1)[:LABELS])


def test_rows_are_mixtures() -> None:
    counts, pivot = two_languages()
    found = translation(counts, pivot)
    assert found.min() >= 0
    assert np.asarray(found.sum(axis=1)).ravel() == pytest.approx(1.0)


def test_a_rare_word_is_left_alone() -> None:
    counts, pivot = two_languages()
    dense = counts.toarray()
    said = np.flatnonzero(dense[:, LABELS])
    dense[said[LEAST_SEEN - 1 :], LABELS] = 0
    assert translation(sparse.csr_matrix(dense), pivot).toarray()[LABELS, LABELS] == 1.0


@pytest.mark.parametrize("what", ["one language", "few labels", "no labels"])
def test_where_nothing_can_be_compared_nothing_changes(what: str) -> None:
    counts, pivot = two_languages()
    if what == "one language":
        pivot = Pivot(np.zeros_like(pivot.language), pivot.label)
    else:
        pivot = Pivot(pivot.language, pivot.label % 3 if what == "few labels" else np.full_like(pivot.label, -1))
    assert np.array_equal(translation(counts, pivot).toarray(), np.eye(counts.shape[1]))


def test_unknown_languages_and_labels_do_not_count() -> None:
    counts, pivot = two_languages()
    more = sparse.vstack([counts, counts[:200]]).tocsr()
    unknown = np.full(200, -1)
    same = Pivot(np.append(pivot.language, unknown), np.append(pivot.label, pivot.label[:200]))
    assert np.array_equal(translation(more, same).toarray(), translation(counts, pivot).toarray())


def test_languages_come_by_size_and_small_ones_not_at_all() -> None:
    language = np.repeat([0, 1, 2], [600, 900, 100])
    languages, labels = frequent(Pivot(language, np.arange(1600) % 10))
    assert languages.tolist() == [1, 0]
    assert sorted(labels.tolist()) == list(range(10))


def test_the_surer_profile_of_two_alike_takes_more() -> None:
    own = Profiles(np.zeros((1, 5)), np.full((1, 5), 0.01), np.array([100.0]))
    target = Profiles(np.full((2, 5), 0.05), np.array([[0.01] * 5, [0.5] * 5]), np.array([1000.0, 200.0]))
    found = mixtures(own, target, np.array([0]), np.array([0, 1]))
    assert found[0, 0] > found[0, 1]
    assert found.sum() == pytest.approx(1.0)
