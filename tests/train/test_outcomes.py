"""Heads of rating, quality, handle time and transfer say of pairs what is true of them, and nothing of the future.

A generated centre is trained on up to its last tenth, exported, and asked there, where the truth is known.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from evaluation.generate.centre import generate
from evaluation.generate.handovers import TRANSFER
from evaluation.generate.latents import Latents
from evaluation.generate.settings import Settings
from evaluation.ranking import split_log
from serve.matcher import Matcher
from serve.rolling import RollingMatcher
from tests.train.runs import train
from train import outcomes
from train.outcomes import Additive, Facts, Pairs, coefficient, facts_of, measure_outcomes
from train.prepare import TrainingSet
from twotower.cli import main
from twotower.clock import NEVER, format_time
from twotower.scoring.outcomes import NAMES
from twotower.tables.log import Log
from twotower.towers.store import load
from twotower.towers.two_tower import TwoTower

Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Judged:
    """Hand-overs (n,) of the test tenth: what is `expected` (n, T) of them and `of_contact` (n, T), the mean over all
    who work then, what was `observed` (n, T), NaN unknown, and the `true` mean (n, T), each in one order."""

    expected: Doubles
    of_contact: Doubles
    observed: Doubles
    true: Doubles


@dataclass(frozen=True, repr=False)
class Trained:
    """A log, its truth, the run on its first nine tenths and the bundle."""

    log: Log
    truth: Latents
    run: Path
    matcher: Matcher


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """6,000 contacts, 40 CSAs."""
    root = tmp_path_factory.mktemp("outcomes")
    generate(Settings(contacts=6000, csas=40, languages=("en",), seed=7, days=120, eligible=12), root / "centre")
    log = Log.load(root / "centre")
    until = format_time(int(log.contacts.arrived_at[split_log(log).test[0]]))
    options = ("--trainer.max_epochs=4", "--data.towers.view_dim=64")
    assert train(root / "centre", root / "run", "--until", until, *options) == 0
    assert main(["export", str(root / "run"), "--output", str(root / "bundle")]) == 0
    return Trained(log, Latents.load(root / "centre" / "truth.npz"), root / "run", Matcher.load(root / "bundle"))


@pytest.fixture(scope="module")
def judged(trained: Trained) -> Judged:
    log, rolling = trained.log, RollingMatcher(trained.matcher, trained.log)
    moves, arrived = log.handovers, log.contacts.arrived_at
    rows = np.flatnonzero(np.isin(moves.contact, split_log(log).test))
    rows = rows[np.argsort(arrived[moves.contact[rows]], kind="stable")]
    contact, csa = moves.contact[rows].astype(np.int64), moves.csa[rows].astype(np.int64)
    expected, of_contact = np.empty((len(rows), 4)), np.empty((len(rows), 4))
    for i in range(len(rows)):
        one = rolling.contacts(contact[i : i + 1])
        expected[i] = rolling.expected(one, csa[i : i + 1])[0]
        of_contact[i] = rolling.expected(one, rolling.active(int(arrived[contact[i]]))).mean(axis=0)
    observed = facts_of_all(log)[rows]
    return Judged(expected, of_contact, observed, true_means(trained.truth, contact, csa))


def facts_of_all(log: Log) -> Doubles:
    """Observed values (M, T) in the units in which they are expected."""
    moves = log.handovers
    moved = np.where(moves.transferred >= 0, moves.transferred, np.nan)
    columns = (moves.csat, moves.quality_score, moves.handle_time_s, moved)
    return np.column_stack(columns).astype(np.float64)


def true_means(truth: Latents, contact: npt.NDArray[np.int64], csa: npt.NDArray[np.int64]) -> Doubles:
    """What the generator makes values of (n, T), up to what rounding and channels do; log handle time."""
    p = truth.p_resolved(contact, csa)
    return np.column_stack(
        [
            3.1 + 1.4 * p - 0.7 * truth.upset[contact] + 0.4 * truth.handling[csa],
            0.60 + 0.10 * p + 0.25 * truth.quality[csa],
            -0.25 * truth.speed[csa] + 0.25 * truth.difficulty[contact] + 0.25 * (1 - p),
            TRANSFER * (1 - p),
        ]
    )


@pytest.mark.parametrize("name", NAMES)
def test_every_head_is_nearer_to_the_truth_than_the_contact_alone(judged: Judged, name: str) -> None:
    at = NAMES.index(name)
    of = np.log if name == "handle_time_s" else np.asarray
    whole, level = (np.corrcoef(of(x[:, at]), judged.true[:, at])[0, 1] for x in (judged.expected, judged.of_contact))
    assert whole > level + 0.05
    assert whole > 0.25


@pytest.mark.parametrize("name", NAMES)
def test_what_is_expected_happens_on_average(judged: Judged, name: str) -> None:
    """Handle times in seconds: the mean, not the median. Four standard errors of the mean, for four targets."""
    at = NAMES.index(name)
    seen = np.isfinite(judged.observed[:, at])
    gap = judged.observed[seen, at] - judged.expected[seen, at]
    assert abs(gap.mean()) < 4 * gap.std() / seen.sum() ** 0.5


def test_a_run_says_what_its_heads_are_worth(trained: Trained) -> None:
    facts = json.loads((trained.run / "run.json").read_text())["outcomes"]
    assert list(facts) == sorted(NAMES)
    heads = trained.matcher.bundle.join.outcomes.heads
    for name, head in zip(NAMES, heads, strict=True):
        assert head is not None
        assert head.fit == pytest.approx(facts[name]["fit"], abs=1e-6)
        assert head.variance == pytest.approx(facts[name]["variance"], abs=1e-6)
    assert facts["handle_time_s"]["r2"] > facts["handle_time_s"]["r2_level"] + 0.05


def test_the_bundle_says_what_torch_says(trained: Trained) -> None:
    roster, towers = trained.matcher.bundle.roster, load(trained.run)
    with torch.inference_mode():
        given = torch.tensor(roster.features), torch.tensor(roster.identity)
        np.testing.assert_allclose(roster.own, towers.csa_tower.own(*given).numpy(), atol=1e-5)
    assert (roster.own.std(axis=0)[:3] > 0.01).all()


def test_a_csa_who_was_not_there_adds_what_their_features_say(trained: Trained) -> None:
    """And so does one who was there and handled nothing."""
    roster, heads = trained.matcher.bundle.roster, load(trained.run).csa_tower
    _, stranger = trained.matcher.bundle.csa_encoder.encode(roster.features, roster.identity * 0)
    with torch.inference_mode():
        standard = heads.standardise(torch.tensor(roster.features)[:, : heads.plain])
        said = (standard @ heads.outcomes.weight.T * heads.outcomes.scale).numpy()
    np.testing.assert_allclose(stranger, said, atol=1e-5)
    log = trained.log.cut(int(trained.matcher.bundle.manifest.window["until"]))
    busy = np.bincount(log.handovers.csa[log.handovers.known_at < NEVER], minlength=len(log.csas)) > 0
    own = heads.outcomes.own.numpy()[1:]
    assert not own[~busy].any()
    assert np.abs(own[busy]).max() > 0.05


def test_who_has_done_little_is_shrunken(trained: Trained) -> None:
    """Effects of handle time against the plain means of what levels leave: the few-timers keep less of theirs."""
    log, towers = trained.log, load(trained.run).csa_tower
    log = log.cut(int(trained.matcher.bundle.manifest.window["until"]))
    csa, time = log.handovers.csa, np.log1p(log.handovers.handle_time_s.astype(np.float64))
    known = np.isfinite(time)
    count = np.bincount(csa[known], minlength=len(log.csas))
    mean = np.bincount(csa[known], time[known] - time[known].mean(), len(log.csas)) / np.maximum(count, 1)
    effect = np.abs(towers.outcomes.own.numpy()[1:, 2] * float(towers.outcomes.scale[2]))
    few, many = np.split(np.argsort(count, kind="stable")[(count == 0).sum() :], [5])
    assert count[few].max() < 0.5 * np.median(count[many])
    assert effect[few].mean() / np.abs(mean[few]).mean() < 0.8 * effect[many].mean() / np.abs(mean[many]).mean()


def test_a_column_that_tells_nothing_gives_no_head_and_run_json_says_why(centre: Path, tmp_path: Path) -> None:
    """3,000 contacts: ratings missing, too few quality scores, and transfers that never happen."""
    folder = tmp_path / "centre"
    folder.mkdir()
    for file in centre.glob("*.parquet"):
        (folder / file.name).write_bytes(file.read_bytes())
    moves = pq.read_table(folder / "interactions.parquet").drop_columns(["csat"])
    place = moves.schema.get_field_index("transferred")
    moves = moves.set_column(place, "transferred", pa.array([False] * len(moves)))
    pq.write_table(moves, folder / "interactions.parquet")
    assert train(folder, tmp_path / "run", "--trainer.max_epochs=1") == 0
    said = json.loads((tmp_path / "run" / "run.json").read_text())["outcomes"]
    assert said["csat"] == "no head: 0 facts before validation, 200 are needed"
    assert said["quality_score"].endswith("facts before validation, 200 are needed")
    assert said["transferred"].startswith("no head: it is 0 in all ")
    assert said["handle_time_s"]["facts"] > 2000
    assert main(["export", str(tmp_path / "run"), "--output", str(tmp_path / "bundle")]) == 0
    matcher = Matcher.load(tmp_path / "bundle")
    assert matcher.bundle.join.outcomes.named == ("handle_time_s",)
    assert not matcher.bundle.roster.own[:, [0, 1, 3]].any()
    found = matcher.match({"intent_text": "a refund"}, k=1)[0].expected
    assert (found.csat, found.quality_score, found.transferred) == (None, None, None)
    assert 60 < (found.handle_time_s or 0) < 3600
    assert "no head: 0 facts before validation" in (tmp_path / "bundle" / "MODEL_CARD.md").read_text()


def test_c_is_estimated_beside_what_was_known_before_its_window(
    prepared: TrainingSet, centre: Path, towers_of: TwoTower, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And is of that window alone."""
    fitted: list[npt.NDArray[np.int64]] = []
    whole = Facts.additive

    def watched(facts: Facts, value: Doubles) -> Additive:
        fitted.append(facts.positions)
        return whole(facts, value)

    monkeypatch.setattr(Facts, "additive", watched)
    log = Log.load(centre)
    found = measure_outcomes(Pairs(towers_of, prepared), log)
    assert len(fitted) == 1 + 2 * len(found.heads.named) >= 5
    assert all((prepared.known_at[positions] < prepared.split).all() for positions in fitted)
    values = facts_of(log)
    late = prepared.arrived_at[prepared.contact] >= prepared.split
    monkeypatch.setattr(outcomes, "facts_of", lambda _: np.where(late[:, None], np.roll(values, 1, axis=0), values))
    other = measure_outcomes(Pairs(towers_of, prepared), log)
    assert other.facts["handle_time_s"]["variance"] > 1.1 * found.facts["handle_time_s"]["variance"]


@pytest.fixture
def towers_of(prepared: TrainingSet) -> TwoTower:
    """Towers of the prepared centre with random weights: their logits say something, if nothing true."""
    from tests.train.conftest import SMALL
    from twotower.towers.store import build

    torch.manual_seed(0)
    data = prepared
    model = build(SMALL, data.schema, data.table, data.log_weight, data.tokenizer.pad_id, data.heads, data.topics)
    with torch.no_grad():
        model.csa_tower.identities.add_(torch.randn_like(model.csa_tower.identities))
    return model.eval()


@pytest.mark.parametrize("count", [50, 400, 20_000])
@pytest.mark.parametrize("slope", [0.0, 0.4, -2.0])
def test_the_coefficient_is_the_slope_as_far_as_it_shows(slope: float, count: int) -> None:
    """Between 0 and least squares, and nearer to this the more facts there are."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal(count) + 3
    y = slope * x + rng.standard_normal(count) - 1
    least_squares = float(np.polyfit(x, y, 1)[0])
    assert coefficient(x, y) == pytest.approx(least_squares * count / (count + outcomes.PRIOR))
    assert coefficient(np.ones(count), y) == 0
