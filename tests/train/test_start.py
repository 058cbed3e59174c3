"""A run goes on from another: its chain stands where that stood, whatever has come since, and learns what is new."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import torch

from tests.train.conftest import SMALL
from tests.train.runs import digests, short
from train.leavers import released
from train.outcomes import measured_by
from train.polya_gamma import mean_polya_gamma, polya_gamma, weighed
from train.posterior import PLAIN_VARIANCE, Design, Means, PosteriorSampler
from train.prepare import prepare
from train.start import FILE, GROWN, LEAST_NEW, Carried, Names, Start, Stood, shared, told_by
from train.topics import read_topics
from twotower.clock import DAY, format_time
from twotower.errors import ConfigError
from twotower.tables.log import Log
from twotower.text.tokens import Tokenizer
from twotower.towers.store import build, load
from twotower.towers.topics import Topics

NAMES = Names(("language: en", "1"), ("upset", "1"), ("site: a", "tenure"), ("site", "tenure"))
CSAS = ("ada", "bob", "cy")
TWO_DAYS = 2 * DAY


@pytest.fixture(scope="module")
def midnight(tiny: Path) -> int:
    """Two days before the log of the tiny centre ends, µs UTC."""
    return int(Log.load(tiny).contacts.arrived_at[-1]) - TWO_DAYS


@pytest.fixture(scope="module")
def first(tiny: Path, midnight: int, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on all but the last two days."""
    run = tmp_path_factory.mktemp("start") / "first"
    assert short(tiny, run, f"--until={format_time(midnight)}") == 0
    return run


@pytest.fixture(scope="module")
def second(tiny: Path, first: Path) -> Path:
    """A run on the whole log that goes on from it."""
    run = first.with_name("second")
    assert short(tiny, run, f"--data.start={first}") == 0
    return run


def design(rows: int = 60, csas: int = 3, weight: float = 1.0) -> Design:
    random = torch.Generator().manual_seed(rows)
    csa = (torch.arange(rows) % csas).sort().values
    return Design(
        torch.randn(rows, 4, generator=random), torch.ones(rows, 2), torch.ones(rows, 2),
        (torch.rand(rows, generator=random) < 0.6).float(), csa, torch.randn(csas, 2, generator=random),
        torch.tensor([0, 1]), torch.full((rows,), weight),
    )  # fmt: skip


def swept(sweeps: int = 20) -> PosteriorSampler:
    sampler = PosteriorSampler(design(), rank=2, sweeps=sweeps, seed=0)
    for _ in range(sweeps):
        sampler.sweep()
    return sampler


def same_names(old: Names, new: Names, csas: tuple[str, ...]) -> Carried:
    pairs = (getattr(old, name) for name in Names.__dataclass_fields__), (getattr(new, n) for n in vars(new))
    return Carried(shared(CSAS, csas), *(shared(a, b) for a, b in zip(*pairs, strict=True)), None, 4)


def test_in_its_own_coordinates_a_chain_stands_where_it_stood() -> None:
    old, new = swept(), PosteriorSampler(design(), rank=2, sweeps=10, seed=5)
    same_names(NAMES, NAMES, CSAS).into(new, Stood.of(old), 10)
    for name in ("maps", "skills", "common", "pair", "side", "plain_cov", "precision"):
        assert torch.equal(new.get_buffer(name), old.get_buffer(name)), name
    # Its means count as as many draws as are to come.
    assert int(new.drawn) == 10 - new.idle == 8
    torch.testing.assert_close(new.means().vectors, old.means().vectors)
    torch.testing.assert_close(new.means().metric, old.means().metric)
    before = old.means().vectors.clone()
    for _ in range(10):
        new.sweep()
    assert int(new.drawn) == 16
    assert not torch.equal(new.means().vectors, before)


def test_coordinates_are_told_by_name_and_who_is_new_stands_where_the_cohort_does() -> None:
    """CSAs in another order, one gone and one new; a language more, and what is declared turned round."""
    old = swept()
    names = Names(("language: es", "language: en", "1"), ("1", "upset"), ("tenure", "site: a"), ("site", "tenure"))
    more = design()
    more = replace(more, plain=torch.ones(60, 3), declared=torch.tensor([[0.5, 1.0], [2.0, 0.0], [1.0, 1.0]]))
    new = PosteriorSampler(more, rank=2, sweeps=10, seed=5)
    same_names(NAMES, names, ("new", "cy", "ada")).into(new, Stood.of(old), 10)
    assert torch.equal(new.skills[1, [0, 1, 3, 4]], old.skills[2])
    assert torch.equal(new.skills[2, [0, 1, 3, 4]], old.skills[0])
    assert torch.equal(new.pair, old.pair[[1, 0]])
    assert torch.equal(new.side[:, [0, 1, 3, 4]], old.side[[1, 0]])
    assert not new.side[:, 2].any()
    torch.testing.assert_close(new.skills[0], more.declared[0].double() @ new.side)
    assert float(new.plain_cov[0, 0]) == PLAIN_VARIANCE
    assert torch.equal(new.plain_cov[1:, 1:], old.plain_cov)
    means = new.means()
    torch.testing.assert_close(means.vectors[1][[0, 1, 2, 3, 5, 6]], old.means().vectors[2])
    side = old.means().side[[1, 0]]
    torch.testing.assert_close(means.vectors[0][[0, 1, 2, 3, 5, 6]], more.declared[0].double() @ side)
    for _ in range(10):
        new.sweep()
    assert all(bool(torch.isfinite(getattr(new.means(), name)).all()) for name in Means.__dataclass_fields__)


def test_another_number_of_directions_is_refused() -> None:
    new = PosteriorSampler(design(), rank=3, sweeps=10, seed=5)
    with pytest.raises(ConfigError, match=r"model.directions 3: the run of data.start has 2; train without it"):
        same_names(NAMES, NAMES, CSAS).into(new, Stood.of(swept()), 10)


def test_new_topics_tell_the_old_ones(tiny: Path, first: Path) -> None:
    """The same topics in another order are the same directions; logits of texts stay what they were."""
    old, log = Start.load(first).topics, Log.load(tiny)
    tokens = Tokenizer.load(first / "tokenizer.json", 24).encode_corpus(log.contacts.transcript.to_pylist())
    assert told_by(old, old, tokens) is None
    order = torch.arange(old.count).flip(0)
    new = Topics(len(old.weight), old.count)
    new.load_state_dict({k: v if k == "breaks" else v[..., order] for k, v in old.state_dict().items()})
    about = told_by(old, new, tokens)
    assert about is not None
    skill = np.random.default_rng(0).normal(size=(old.count, 3))
    was, now = read_topics(old, tokens) @ skill, read_topics(new, tokens) @ (about @ skill)
    assert np.corrcoef(was.ravel(), now.ravel())[0, 1] > 0.99


def test_topics_are_found_anew_once_an_intent_has_outgrown_them(first: Path) -> None:
    start = Start.load(first)
    assert start.knows(start.labels)
    grown = {label: int(GROWN * count) for label, count in start.labels.items()}
    assert start.knows(grown) == (max(grown.values()) < LEAST_NEW)
    assert start.knows({**start.labels, "brand new": LEAST_NEW - 1})
    assert not start.knows({**start.labels, "brand new": LEAST_NEW})


def test_older_work_is_replayed_evenly_other_work_every_day_and_stands_for_the_rest(tiny: Path, first: Path) -> None:
    start = Start.load(first)
    data = prepare(Log.load(tiny), load(first).contact_tower.config, 0.1, start=start)
    positions = np.argsort(data.csa, kind="stable")
    kept, weight = start.replayed(data, positions, 100)
    older = data.known_at[positions] < start.split
    assert np.isin(positions[~older], kept).all()
    assert weight.sum() == pytest.approx(len(positions), rel=1e-5)
    assert (np.diff(data.csa[kept]) >= 0).all()
    assert set(weight.tolist()) == {1.0, np.float32(older.sum() / 100)}
    per_csa = np.bincount(data.csa[kept[weight > 1]], minlength=12) * older.sum() / 100
    assert np.abs(per_csa - np.bincount(data.csa[positions[older]], minlength=12)).max() <= 2 * older.sum() / 100
    other, _ = replace(start, in_a_row=1).replayed(data, positions, 100)
    assert len(np.setdiff1d(other, kept)) > 50
    everything, ones = start.replayed(data, positions, 10_000)
    assert np.array_equal(everything, positions)
    assert (ones == 1).all()


def test_a_weight_counts_as_so_many_hand_overs() -> None:
    logit, generator = torch.full((200_000,), 1.5), torch.Generator().manual_seed(0)
    three = weighed(polya_gamma(logit, generator), logit, torch.full((200_000,), 3.0)).double()
    sums = torch.stack([polya_gamma(logit, generator) for _ in range(3)]).sum(dim=0).double()
    assert float(three.mean()) == pytest.approx(3 * float(mean_polya_gamma(logit[:1])), rel=0.01)
    assert float(three.std()) == pytest.approx(float(sums.std()), rel=0.02)
    assert float(three.min()) > 0
    twice = design(400)
    both = [torch.cat([getattr(twice, n)] * 2) for n in ("about", "plain", "level", "resolved", "csa", "weight")]
    order = both[4].argsort(stable=True)
    about, plain, level, resolved, csa, weight = (part[order] for part in both)
    copied = Design(about, plain, level, resolved, csa, twice.declared, twice.group, weight)
    doubled = replace(twice, weight=2 * twice.weight)
    found = []
    for one in (copied, doubled):
        sampler = PosteriorSampler(one, rank=2, sweeps=400, seed=1)
        for _ in range(400):
            sampler.sweep()
        found.append(sampler.means().common)
    assert float((found[0] - found[1]).abs().max()) < 0.1
    assert float(found[0].abs().max()) > 0.05


def test_a_run_goes_on_from_a_run(tiny: Path, first: Path, second: Path, tmp_path: Path) -> None:
    facts = json.loads((second / "run.json").read_text())
    assert facts["in_a_row"] == 1
    assert json.loads((first / "run.json").read_text())["in_a_row"] == 0
    # What a day hardly moves is taken over; all else is of the whole log.
    old, new = load(first).contact_tower, load(second).contact_tower
    assert torch.equal(old.backbone.table, new.backbone.table)
    assert old.topics is not None
    assert new.topics is not None
    assert torch.equal(old.topics.weight, new.topics.weight)
    assert facts["window"]["until"] > json.loads((first / "run.json").read_text())["window"]["until"]
    assert measured_by(first).facts == facts["outcomes"]
    assert facts["metrics"]["val_auc"] > 0.5
    assert str(first) not in (second / "config.yaml").read_text()
    assert short(tiny, tmp_path / "again", f"--data.start={first}") == 0
    assert digests(tmp_path / "again") == digests(second)
    assert short(tiny, tmp_path / "third", f"--data.start={second}", "--trainer.max_epochs=1") == 0
    assert Start.load(tmp_path / "third").in_a_row == 2


def test_few_that_stand_for_many_are_not_believed_like_many_of_their_csa() -> None:
    """Where nobody differs, what is found of CSAs from replayed work strays no further than from that work alone."""
    random = torch.Generator().manual_seed(0)
    rows, csas = 1200, 40
    csa = torch.arange(rows) % csas
    about = torch.randn(rows, 4, generator=random)
    resolved = (torch.rand(rows, generator=random) < torch.sigmoid(about[:, 0])).float()
    group, ones = torch.zeros(0, dtype=torch.int64), torch.ones(rows, 1)
    order = csa.argsort(stable=True)
    plain = Design(
        about[order], ones, ones, resolved[order], csa[order], torch.zeros(csas, 0), group, torch.ones(rows)
    )  # fmt: skip
    stray, common = [], []
    for weight in (1.0, 25.0):
        sampler = PosteriorSampler(replace(plain, weight=torch.full((rows,), weight)), rank=2, sweeps=150, seed=1)
        for _ in range(150):
            sampler.sweep()
        means = sampler.means()
        stray.append(float(means.vectors.std(dim=0).mean()))
        common.append(float(means.common[0]))
    assert stray[1] < 1.5 * stray[0]
    assert common[1] > common[0] > 0.5  # of what is common to all, 25 times as much is known: less is shrunk


def test_a_window_that_is_measured_was_not_seen(
    tiny: Path, first: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The chain from which a run is measured goes on from the earlier one as it was before it took in its own window;
    the other one takes over from where that had got to."""
    start = Start.load(first)
    seen: list[tuple[str, Stood]] = []
    into, recall = Carried.into, Carried.recall

    def kept_into(self: Carried, sampler: PosteriorSampler, stood: Stood, sweeps: int) -> None:
        seen.append(("into", stood))
        into(self, sampler, stood, sweeps)

    def kept_recall(self: Carried, sampler: PosteriorSampler, stood: Stood, sweeps: int) -> None:
        seen.append(("recall", stood))
        recall(self, sampler, stood, sweeps)

    monkeypatch.setattr(Carried, "into", kept_into)
    monkeypatch.setattr(Carried, "recall", kept_recall)
    assert short(tiny, tmp_path / "run", f"--data.start={first}", "--trainer.max_epochs=1") == 0
    assert [name for name, _ in seen] == ["into", "recall", "recall"]
    for (_, stood), wanted in zip(seen, (start.before, start.before, start.after), strict=True):
        assert torch.equal(stood.state["pair"], wanted.state["pair"])
    assert not torch.equal(start.before.state["pair"], start.after.state["pair"])


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("--data.start=nowhere", r"data.start nowhere: not a training run"),
        ("--model.solver=gradient", "data.start: only a sampled posterior goes on from another run's"),
        ("--data.towers.view_dim=16", r"that run read texts by minilm, 64, 32, 80 .* this one by minilm, 64, 16, 80"),
        ("--data.towers.topics=20", r"this one by minilm, 64, 32, 20; train without it"),
        ("--data.towers.families=[form,profile,labels]", "that run read the features"),
        ("--model.directions=3", "model.directions 3: the run of data.start has 16"),
        ("--data.replay=0", "data.replay 0: must be positive"),
        ("--data.validation_share=0.3", "that run knew .* go on from an earlier run"),
    ],
)
def test_what_cannot_go_on_is_one_line(
    tiny: Path, first: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str, said: str
) -> None:
    assert short(tiny, tmp_path / "run", f"--data.start={first}", option) != 0
    error = capsys.readouterr().err
    assert pc.match_substring_regex(pa.array([error]), said)[0].as_py(), error
    assert not (tmp_path / "run").exists()


def test_a_damaged_chain_is_one_line(first: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    for file in first.iterdir():
        (run / file.name).write_bytes(file.read_bytes())
    (run / FILE).write_bytes(b"no")
    with pytest.raises(ConfigError, match=r"chain.safetensors: cannot be read .*; train without it"):
        Start.load(run)
    (run / FILE).unlink()
    with pytest.raises(ConfigError, match="only a run whose posterior was sampled can be gone on from"):
        Start.load(run)


def test_who_left_long_ago_has_no_identity(tiny: Path, tmp_path: Path) -> None:
    """The others keep theirs, whatever codes they have now."""
    table = pq.read_table(tiny / "csas.parquet")
    log, ids = Log.load(tiny), table["csa_id"].to_pylist()
    end = int(log.contacts.arrived_at[-1])
    left = [None if i not in (1, 4) else end - (40 if i == 1 else 10) * DAY for i in range(len(ids))]
    times = pa.array(left, pa.int64()).cast(table.schema.field("left_at").type)
    for file in tiny.glob("*.parquet"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    place = table.schema.get_field_index("left_at")
    pq.write_table(table.set_column(place, "left_at", times), tmp_path / "csas.parquet")
    data = prepare(Log.load(tmp_path), SMALL, 0.1)
    towers = build(SMALL, data.schema, data.table, data.log_weight, data.tokenizer.pad_id, data.heads, data.topics)
    before = {name: towers.csa_tower.identities[code].clone() for name, code in zip(ids, data.identity, strict=True)}
    after = released(towers, data, Log.load(tmp_path), 30.0)
    gone = ids[1]
    assert gone not in after.schema.identities
    assert sorted(after.schema.identities) == sorted(set(ids) - {gone})
    for name, code in zip(ids, after.identity, strict=True):
        if name != gone:
            assert torch.equal(towers.csa_tower.identities[code], before[name])
        else:
            assert code == 0
    assert len(towers.csa_tower.outcomes.own) == len(towers.csa_tower.log_std) == len(ids)
    assert released(towers, after, Log.load(tmp_path), None) is after
