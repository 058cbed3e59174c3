"""The ceiling: its optimiser is right, it uses the past alone, and it stands between simple rates and the oracle."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from scipy.optimize import minimize

from evaluation.ceiling import Evidence, ceiling, estimate, newton, read_evidence
from evaluation.generate import catalogue
from evaluation.generate.centre import generate
from evaluation.generate.settings import Settings
from evaluation.truth import Truth
from twotower.errors import DataError
from twotower.tables import Log

Floats = npt.NDArray[np.float64]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("ceiling") / "centre"
    generate(Settings(15_000, 80, seed=7, eligible=15), made)
    return made


def problem(rows: int, scale: float = 1.0) -> tuple[Floats, Floats, Floats, Floats, Floats]:
    random = np.random.default_rng(rows)
    design = scale * random.normal(size=(rows, 5))
    resolved = (random.random(rows) < 0.7).astype(float)
    return design, random.normal(size=rows), resolved, random.normal(size=5), np.array([1.0, 4, 0.5, 2, 9])


@pytest.mark.parametrize(("rows", "scale"), [(1, 1.0), (30, 1.0), (400, 1.0), (60, 20.0)])
def test_newton_finds_what_a_general_optimiser_finds(rows: int, scale: float) -> None:
    design, offset, resolved, mean, precision = problem(rows, scale)

    def loss(unknown: Floats) -> float:
        logit = design @ unknown + offset
        return float(np.logaddexp(0, logit).sum() - resolved @ logit + 0.5 * precision @ (unknown - mean) ** 2)

    general = minimize(loss, mean, method="BFGS", options={"gtol": 1e-8})
    found = newton(design, offset, resolved, mean, precision)
    assert loss(found) <= general.fun + 1e-9
    np.testing.assert_allclose(found, general.x, atol=2e-4)


def test_a_csa_without_handovers_stays_at_the_prior_mean_and_others_move(folder: Path) -> None:
    latents = Truth.load(folder).latents
    evidence = Evidence(np.arange(200), np.full(200, 3), np.ones(200))
    found = estimate(latents, evidence)
    others = np.arange(len(found)) != 3
    np.testing.assert_array_equal(found[others], latents.prior_mean[others].astype(float))
    assert found[3, 16] > latents.prior_mean[3, 16]


def test_estimates_correlate_with_the_truth_and_more_with_more_evidence(folder: Path) -> None:
    latents = Truth.load(folder).latents
    evidence = read_evidence(folder, latents, int(latents.arrived_at[-1]))
    error = ((estimate(latents, evidence) - latents.unknowns())[:, :16] ** 2).mean(axis=1)
    seen = np.bincount(evidence.csa, minlength=len(error))
    assert error[seen > 300].mean() < 0.75 * error[seen < 20].mean()


def test_evidence_is_what_was_known_strictly_before(folder: Path) -> None:
    latents, log = Truth.load(folder).latents, Log.load(folder)
    until = int(log.handovers.known_at[len(log.handovers.known_at) // 2])
    evidence = read_evidence(folder, latents, until)
    used = (log.handovers.known_at < until) & (log.handovers.resolved >= 0)
    assert len(evidence.contact) == used.sum()
    expected = sorted(
        zip(log.handovers.contact[used], log.handovers.csa[used], log.handovers.resolved[used], strict=True)
    )
    assert sorted(zip(evidence.contact, evidence.csa, evidence.resolved, strict=True)) == expected


def test_what_became_known_later_changes_nothing(folder: Path, tmp_path: Path) -> None:
    split = Truth.load(folder).latents
    until = int(split.arrived_at[split.test_begins[0]])
    interactions = pq.read_table(folder / "interactions.parquet")
    known = pc.coalesce(interactions["known_at"], interactions["ended_at"])
    past = pc.less(known, pa.scalar(until, pa.timestamp("us", tz="UTC")))
    for name in ("truth.npz", "truth.parquet"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    pq.write_table(interactions.filter(past), tmp_path / "interactions.parquet")
    np.testing.assert_array_equal(ceiling(folder).unknowns, ceiling(tmp_path).unknowns)


def test_the_ceiling_lies_between_rates_by_intent_and_the_oracle(folder: Path) -> None:
    truth, found = Truth.load(folder), ceiling(folder)
    by_label = truth.captured_by_pairs(intent_rates(folder, truth))
    assert 0.1 < by_label.captured < found.captured.captured - 0.15
    assert 0.7 < found.captured.captured < 0.95
    assert found.captured == truth.captured_by_pairs(found.p_resolved)
    assert found.handovers > 12_000


def test_more_past_is_a_higher_ceiling(folder: Path) -> None:
    latents = Truth.load(folder).latents
    early = ceiling(folder, int(latents.arrived_at[len(latents.arrived_at) // 4]))
    assert early.captured.captured < ceiling(folder).captured.captured - 0.05
    assert ceiling(folder, 0).handovers == 0


def test_a_missing_log_is_a_clear_line(folder: Path, tmp_path: Path) -> None:
    for name in ("truth.npz", "truth.parquet"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    with pytest.raises(DataError, match=r"interactions\.parquet: not found"):
        ceiling(tmp_path)


def intent_rates(folder: Path, truth: Truth) -> Floats:
    """(pairs,) success rate of the CSA on the recorded intent, shrunken to the CSA's and the intent's own."""
    latents = truth.latents
    labels = pq.read_table(folder / "contacts.parquet", columns=["intent"])["intent"].to_pylist()
    names = {name: code for code, name in enumerate((*catalogue.INTENTS, None))}
    intent, size = np.array([names[label] for label in labels]), len(names)
    evidence = read_evidence(folder, latents, int(latents.arrived_at[latents.test_begins[0]]))
    csas, of = len(latents.csa_id), intent[evidence.contact]

    def shrunken(key: npt.NDArray[np.int64], residual: Floats, keys: int, kappa: float) -> Floats:
        return np.bincount(key, residual, keys) / (np.bincount(key, minlength=keys) + kappa)

    residual = evidence.resolved - evidence.resolved.mean()
    residual = residual - shrunken(of, residual, size, 50)[of]
    overall = shrunken(evidence.csa, residual, csas, 30)
    cell = shrunken(evidence.csa * size + of, residual - overall[evidence.csa], csas * size, 10)
    return np.asarray(overall[truth.csa] + cell[truth.csa * size + intent[truth.contact[truth.rows]]])
