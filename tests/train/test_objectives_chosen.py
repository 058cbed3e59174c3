"""What training makes of a log's outcomes and lists: which objective, whose propensities, and what it says of them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from evaluation.generate.centre import generate
from evaluation.generate.settings import Settings
from tests.train.runs import train, work_of
from train.data import MatcherData
from train.gather import CPU
from train.objectives import choose as choosing
from train.validate import profile_mrr
from twotower.errors import ConfigError, DataError
from twotower.towers.config import TowerConfig
from twotower.towers.store import build

TOWERS = TowerConfig(max_tokens=24, view_dim=0, topics=0)
ONE_EPOCH = ("--trainer.max_epochs=1", "--data.towers.view_dim=0", "--data.batch_size=64")
Change = Callable[[pa.Table], pa.Table]


@pytest.fixture(scope="module")
def successes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """900 contacts, 15 CSAs: successes only, and who was eligible."""
    folder = tmp_path_factory.mktemp("centres") / "successes"
    settings = Settings(
        contacts=900, csas=15, languages=("en",), seed=6, days=28, eligible=6, resolved_only=True, propensities=True
    )
    generate(settings, folder)
    return folder


def changed(folder: Path, output: Path, file: str, change: Change) -> Path:
    """A copy of a folder with one table changed."""
    shutil.copytree(folder, output)
    pq.write_table(change(pq.read_table(folder / file)), output / file)
    return output


def outcomes(value: bool | None) -> Change:
    """All hand-overs have the same outcome."""

    def change(table: pa.Table) -> pa.Table:
        place = table.schema.get_field_index("resolved")
        return table.set_column(place, "resolved", pa.array([value] * len(table), pa.bool_()))

    return change


def without(column: str) -> Change:
    """The table without a column."""
    return lambda table: table.drop_columns([column])


def prepared(folder: Path, **options: object) -> MatcherData:
    """A data module that has read its folder."""
    data = MatcherData(str(folder), towers=TOWERS, validation_share=0.1, **options)  # type: ignore[arg-type]
    data.setup("fit")
    return data


CONSTANT = [outcomes(True), outcomes(None), without("resolved")]


@pytest.mark.parametrize("change", CONSTANT, ids=["true", "null", "no column"])
def test_outcomes_that_never_fail_are_learnt_as_successes(change, successes, tmp_path):
    data = prepared(changed(successes, tmp_path / "data", "interactions.parquet", change))
    assert data.objective.name == "corrected_softmax"
    assert data.propensity is not None
    assert data.propensity["source"] == "logged"


@pytest.mark.parametrize("change", CONSTANT, ids=["true", "null", "no column"])
def test_outcomes_that_never_fail_cannot_be_contrasted(change, successes, tmp_path):
    folder = changed(successes, tmp_path / "data", "interactions.parquet", change)
    with pytest.raises(DataError, match="no hand-over has resolved = false") as error:
        prepared(folder, objective="sigmoid")
    assert "use --data.objective corrected_softmax, which learns from successes only" in str(error.value)


@pytest.mark.parametrize("objective", ["auto", "sigmoid", "corrected_softmax", "in_batch"])
def test_failures_alone_teach_nothing(objective, successes, tmp_path):
    folder = changed(successes, tmp_path / "data", "interactions.parquet", outcomes(False))
    with pytest.raises(DataError, match="none has true, so there is no success to learn from"):
        prepared(folder, objective=objective)


def test_failures_alone_are_one_line_of_the_verb(successes, tmp_path, capsys):
    folder = changed(successes, tmp_path / "data", "interactions.parquet", outcomes(False))
    assert train(folder, tmp_path / "run") == 1
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith("twotower train: interactions.parquet: of ")
    assert not (tmp_path / "run").exists()
    assert not work_of(tmp_path / "run").exists()


def test_a_run_on_successes_says_so_and_where_propensities_are_from(successes, tmp_path, capsys):
    assert train(successes, tmp_path / "run", *ONE_EPOCH) == 0
    said = capsys.readouterr().out
    assert "objective corrected_softmax (the log has successes only)" in said
    assert said.count("propensities: logged, fitted on ") == 1
    facts = json.loads((tmp_path / "run" / "run.json").read_text())
    told = facts["propensity"]
    assert told["source"] == "logged"
    assert 0 < told["log_loss"] < told["log_loss_equal"]
    assert all(np.isfinite(value) for value in told.values() if not isinstance(value, str))


def test_a_large_roster_is_sampled_by_the_data_and_by_the_model(successes, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(choosing, "WHOLE_ROSTER", 10)
    assert train(successes, tmp_path / "run", *ONE_EPOCH, "--data.sampled=4", "--data.memory=off") == 0
    assert "objective sampled_softmax (the log has successes only, the roster is large)" in capsys.readouterr().out
    facts = json.loads((tmp_path / "run" / "run.json").read_text())
    assert facts["objective"] == "sampled_softmax"
    assert 0 < facts["metrics"]["val_profile_mrr"] <= 1


def test_steps_carry_what_the_data_module_found(successes):
    data = prepared(successes, objective="sampled_softmax", sampled=4, batch_size=32)
    step = data.step(next(iter(data.train_dataloader())), CPU)
    assert step.profile is not None
    sample = step.profile.sampled_roster()
    assert len(sample.csa) == 4
    whole = prepared(successes, objective="corrected_softmax", batch_size=32)
    assert whole.propensities is not None
    step = whole.step(next(iter(whole.train_dataloader())), CPU)
    assert step.profile is not None
    mask, log_pi0 = step.profile.whole_roster().lists.cells(slice(0, len(step.profile.csa)))
    sums = (log_pi0.exp() * mask).sum(dim=1)
    assert sums.tolist() == pytest.approx([1.0] * len(sums), abs=1e-3)


def test_the_sigmoid_and_the_naive_peer_have_no_use_for_propensities(centre, tmp_path):
    """So shifts that are damaged stop nobody who does not need them."""
    folder = changed(centre, tmp_path / "data", "shifts.parquet", without("ends_at"))
    for objective in ("auto", "in_batch"):
        data = prepared(folder, objective=objective)
        assert (data.propensities, data.propensity) == (None, None)
    with pytest.raises(DataError, match=r"shifts\.parquet, column ends_at: missing"):
        prepared(folder, objective="corrected_softmax")


def test_where_they_cannot_be_fitted_it_says_why(successes, tmp_path, capsys):
    open_ = changed(successes, tmp_path / "open", "contacts.parquet", without("eligible"))
    data = prepared(open_)
    assert data.propensities is None
    assert data.propensity == {"source": "exposure", "why": "contacts.parquet has no lists of who was eligible"}
    step = data.step(next(iter(data.train_dataloader())), CPU)
    assert step.profile is not None
    assert step.profile.whole_roster().lists.everyone.all()

    def alone(table: pa.Table) -> pa.Table:
        first = pc.list_slice(table["eligible"], 0, 1)
        return table.set_column(table.schema.get_field_index("eligible"), "eligible", first)

    lonely = changed(successes, tmp_path / "lonely", "contacts.parquet", alone)
    assert train(lonely, tmp_path / "run", *ONE_EPOCH) == 0
    line = (
        "propensities: each CSA's share of recent hand-overs (0 hand-overs to one of several eligible are known before"
    )
    assert line in capsys.readouterr().out


def test_validation_does_not_look_at_what_was_logged_of_the_taker(successes):
    """With logged propensities of almost one for whoever took it, the rank stays what the estimate makes it."""
    data = prepared(successes, objective="corrected_softmax").training_set
    found = prepared(successes, objective="corrected_softmax").propensities
    assert found is not None
    model = build(TOWERS, data.schema, data.table, data.log_weight, data.tokenizer.pad_id, data.heads)
    taken = data.validation()
    before = profile_mrr(model, data, taken, True, found)
    found.logged[:] = 0.999
    assert profile_mrr(model, data, taken, True, found) == before
    assert profile_mrr(model, data, taken, True, None) != before
    assert np.isclose(np.exp(found.log_pi0(data.contact[taken])), 0.999).sum() > len(taken) / 2


def test_a_sample_of_nobody_is_refused():
    with pytest.raises(ConfigError, match=r"data\.sampled 0: must be positive"):
        MatcherData(sampled=0)
