"""Captured uplift: by hand on two contacts, and its bounds, counts and refusals on a generated centre."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation.generate.centre import generate
from evaluation.generate.latents import CONSTANTS, Latents
from evaluation.generate.settings import Settings
from evaluation.truth import Truth
from twotower.errors import DataError


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("truth") / "centre"
    generate(Settings(4000, 60, seed=5, eligible=12), made)
    return made


@pytest.fixture(scope="module")
def truth(folder: Path) -> Truth:
    return Truth.load(folder)


@pytest.fixture
def by_hand() -> Truth:
    """Contacts k8 (CSAs a0, a1) and k9 (a0, a1, a2); speeds make the queue choose a1 twice as often as a0 and a2."""
    gamma = CONSTANTS["queue_gamma"]
    zeros = np.zeros(10, dtype=np.float32)
    latents = Latents(
        contact_id=np.array([f"k{i}" for i in range(10)]),
        csa_id=np.array(["a0", "a1", "a2"]),
        languages=np.array(["en"]),
        needs=np.zeros((10, 16), dtype=np.float32),
        difficulty=zeros,
        upset=zeros,
        language=np.zeros(10, dtype=np.int8),
        arrived_at=np.arange(10),
        assigned=np.array([-1] * 8 + [0, 1]),
        test_begins=np.array([7]),
        theta=np.zeros((3, 16), dtype=np.float32),
        quality=np.zeros(3, dtype=np.float32),
        handling=np.zeros(3, dtype=np.float32),
        speed=np.array([0, np.log(2) / gamma, 0], dtype=np.float32),
        fluency=np.ones((3, 1), dtype=np.float32),
        hired_at=np.zeros(3, dtype=np.int64),
        prior_mean=np.zeros((3, 18), dtype=np.float32),
        prior_sd=np.ones(18, dtype=np.float32),
        constants=np.array(list(CONSTANTS.values())),
    )
    probabilities = np.array([0.9, 0.6, 0.2, 0.4, 0.8])
    weights = np.array([1 / 3, 2 / 3, 1 / 4, 1 / 2, 1 / 4])
    return Truth(latents, np.array([8, 9]), np.array([0, 2, 5]), np.array([0, 1, 0, 1, 2]), probabilities, weights)


def test_captured_by_hand(by_hand: Truth) -> None:
    found = by_hand.captured_by_choices(["k9", "k8"], ["a1", "a0"])
    queue = (0.9 / 3 + 0.6 * 2 / 3 + 0.2 / 4 + 0.4 / 2 + 0.8 / 4) / 2
    assert found.queue == pytest.approx(queue)
    assert found.oracle == pytest.approx((0.9 + 0.8) / 2)
    assert found.model == pytest.approx((0.9 + 0.4) / 2)
    assert found.captured == pytest.approx((0.65 - queue) / (0.85 - queue))
    assert found.realised == pytest.approx((0.9 + 0.4) / 2)
    assert (found.contacts, found.missing, found.outside, found.abandoned) == (2, 0, 0, 1)


def test_choices_of_some_contacts_are_judged_on_those(by_hand: Truth) -> None:
    found = by_hand.captured_by_choices(pa.array(["k9", "k0"]), pa.array(["a2", "a1"]))
    assert (found.contacts, found.missing, found.outside) == (1, 1, 1)
    assert found.captured == pytest.approx(1)
    assert found.queue == pytest.approx(0.45)


@pytest.mark.parametrize(
    ("contacts", "csas", "said"),
    [
        (["k8", "k8"], ["a0", "a1"], "contact k8 has more than one"),
        (["k8"], ["a2"], "CSA a2 was not eligible for contact k8"),
        (["k8"], ["nobody"], "CSA nobody was not eligible for contact k8"),
        (["k1"], ["a0"], "none is for a test contact"),
        ([], [], "none is for a test contact"),
    ],
)
def test_choices_that_cannot_be_are_refused(by_hand: Truth, contacts: list[str], csas: list[str], said: str) -> None:
    with pytest.raises(DataError, match=said):
        by_hand.captured_by_choices(contacts, csas)


def test_ties_go_to_the_first_csa_id(by_hand: Truth) -> None:
    contacts, csas = ["k9", "k8", "k9", "k8"], ["a1", "a1", "a0", "a0"]
    assert by_hand.captured_by_scores(contacts, csas, np.zeros(4)).model == pytest.approx((0.9 + 0.2) / 2)


def test_the_truth_itself_captures_all_and_its_inverse_loses(truth: Truth) -> None:
    best, worst = truth.captured_by_pairs(truth.p_resolved), truth.captured_by_pairs(-truth.p_resolved)
    assert best.captured == pytest.approx(1)
    assert best.low == pytest.approx(1)
    assert worst.captured < -0.5


def test_the_queues_own_draws_capture_about_nothing(truth: Truth, folder: Path) -> None:
    assigned = truth.latents.assigned[truth.contact]
    found = truth.captured_by_choices(truth.latents.contact_id[truth.contact], truth.latents.csa_id[assigned])
    assert found.model == found.realised
    assert found.low < 0 < found.high
    assert found.abandoned + found.contacts == 400


def test_whom_the_truth_calls_assigned_is_in_the_log(truth: Truth, folder: Path) -> None:
    log = pq.read_table(folder / "interactions.parquet").to_pylist()
    first: dict[str, str] = {}
    for row in log:
        first.setdefault(row["contact_id"], row["csa_id"])
    latents = truth.latents
    expected = [first.get(contact) for contact in latents.contact_id.tolist()]
    assert [latents.csa_id[a] if a >= 0 else None for a in latents.assigned] == expected


@given(seed=st.integers(0, 1000))
def test_three_ways_of_giving_scores_agree(truth: Truth, seed: int) -> None:
    random = np.random.default_rng(seed)
    score = random.integers(0, 5, len(truth.csa)).astype(float)
    contact_id, csa_id = truth.latents.contact_id[truth.contact[truth.rows]], truth.latents.csa_id[truth.csa]
    shuffled = random.permutation(len(score))
    by_pairs = truth.captured_by_pairs(score, resamples=5)
    by_scores = truth.captured_by_scores(contact_id[shuffled], pa.array(csa_id[shuffled]), score[shuffled], resamples=5)
    assert by_pairs.model == pytest.approx(by_scores.model, abs=1e-12)
    assert by_pairs.captured == pytest.approx(by_scores.captured, abs=1e-12)
    assert by_pairs.low <= by_pairs.captured + 0.2


def test_an_interval_holds_the_estimate_and_narrows_with_contacts(truth: Truth) -> None:
    score = np.random.default_rng(0).normal(truth.p_resolved, 0.1)
    found = truth.captured_by_pairs(score)
    assert found.low < found.captured < found.high
    assert found.high - found.low < 0.3


def test_missing_and_damaged_truth_are_clear_lines(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"truth\.npz: not found; only a centre made by"):
        Truth.load(tmp_path)
    (tmp_path / "truth.npz").write_bytes((folder / "truth.npz").read_bytes()[:5000])
    with pytest.raises(DataError, match="not the truth of a generated centre"):
        Truth.load(tmp_path)
    (tmp_path / "truth.npz").write_bytes((folder / "truth.npz").read_bytes())
    (tmp_path / "truth.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match=r"truth\.parquet: cannot be read"):
        Truth.load(tmp_path)
    foreign = pq.read_table(folder / "truth.parquet").to_pydict()
    foreign["csa_id"][0] = "stranger"
    pq.write_table(pa.table(foreign), tmp_path / "truth.parquet")
    with pytest.raises(DataError, match="'stranger' is not in truth"):
        Truth.load(tmp_path)
