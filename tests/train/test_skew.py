"""What the towers read in training is what they read when they serve, column by column.

A run with every family of features on is trained on what a centre would have written down at T, exported, and rolled
forward through the whole log, while `train.prepare` computes what it would have computed there.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from serve.beliefs import Beliefs
from serve.contact import clean
from serve.matcher import Matcher
from serve.roll import Roll
from serve.rolling import RollingMatcher
from tests.train.runs import cut, train
from train.past import past_of_csas
from train.prepare import TrainingSet, prepare
from train.texts import base_of, embed_texts, embed_tokens
from train.token_store import texts_between
from twotower.cli import main
from twotower.features.csa import CsaFeatures, snapshot_times
from twotower.features.engine.core import TWIN
from twotower.features.registry import FAMILIES
from twotower.features.schema import log_columns
from twotower.features.streams import Told, with_intents
from twotower.tables.log import Log
from twotower.towers.backbones import StaticBackbone
from twotower.towers.store import load
from twotower.towers.two_tower import TwoTower

Floats = npt.NDArray[np.float32]
# Where the run's window closes, more or less: the whole log ends on the first of July.
FIRST, LAST = pd.Timestamp("2026-06-10T00:00:00Z"), pd.Timestamp("2026-06-16T00:00:00Z")
SOON = pd.Timedelta(seconds=1)


@dataclass(repr=False)
class Served:
    """A log, the run on its beginning, and what the exported bundle makes of the whole.

    `past` holds the tables of that beginning, `trained` is what training read, `place` (n,) where its contacts stand in
    the log; `fed` what the contact graph was given of every contact of the log: tokens, categories, numbers.
    """

    log: Log
    past: Path
    trained: TrainingSet
    place: npt.NDArray[np.int64]
    model: TwoTower
    rolling: RollingMatcher
    fed: list[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], Floats]]

    def features(self, roll: Roll, moment: int) -> Floats:
        """What the CSA graph is given (J, G) for a contact that arrives at a moment."""
        given: list[Floats] = []
        encode = roll._csa_encoder.encode
        roll._kept.clear()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(roll._csa_encoder, "encode", lambda *args: encode(*(given.append(args[0]) or args)))
            roll.profiles(moment)
        return given[0]


def written_at(folder: Path, output: Path, t: pd.Timestamp) -> Path:
    """What a centre has written down at `t`: hand-overs that have not ended are there, without their end."""
    cut(folder, output, t)
    done = pq.read_table(folder / "interactions.parquet").to_pandas()
    done = done[done["assigned_at"] < t].copy()
    still = done["ended_at"] >= t
    assert still.any()
    known_later = ["ended_at", "resolved", "handle_time_s", "csat", "quality_score", "transferred"]
    done[known_later] = done[known_later].astype(object).where(~still, None)
    _write(done, folder, output)
    return output


def _write(done: pd.DataFrame, like: Path, folder: Path) -> None:
    schema = pq.read_schema(like / "interactions.parquet")
    pq.write_table(pa.Table.from_pandas(done, schema, preserve_index=False), folder / "interactions.parquet")


@pytest.fixture(scope="module")
def served(centre: Path, tmp_path_factory: pytest.TempPathFactory) -> Served:
    """Outcomes are known when a hand-over ends; the run's window closes while somebody is busy."""
    root = tmp_path_factory.mktemp("skew")
    whole = root / "whole"
    whole.mkdir()
    for file in centre.glob("*.parquet"):
        (whole / file.name).write_bytes(file.read_bytes())
    done = pq.read_table(centre / "interactions.parquet").to_pandas().assign(known_at=pd.NaT)
    _write(done, centre, whole)
    arrived = pq.read_table(centre / "contacts.parquet", columns=["arrived_at"]).to_pandas()["arrived_at"]
    busy = [
        moment
        for moment in arrived[(arrived > FIRST) & (arrived < LAST)].sort_values()
        if ((done["assigned_at"] < moment) & (done["ended_at"] > moment + SOON)).any()
    ]
    t = busy[0] + SOON
    past = written_at(whole, root / "past", t)
    with pytest.MonkeyPatch.context() as patch:
        kept: list[TrainingSet] = []
        patch.setattr("train.data.prepare", lambda *given: kept.append(prepare(*given)) or kept[-1])
        families = f"--data.towers.families={json.dumps(list(FAMILIES))}"
        assert train(past, root / "run", "--trainer.max_epochs=1", families) == 0
    assert main(["export", str(root / "run"), "--output", str(root / "bundle")]) == 0
    return _served(Log.load(whole), root, kept[0])


def _served(log: Log, root: Path, trained: TrainingSet) -> Served:
    matcher = Matcher.load(root / "bundle")
    encoder, fed = matcher.bundle.contact_encoder, []
    run = encoder._run

    def recorded(*given):  # type: ignore[no-untyped-def]
        fed.append(given)
        return run(*given)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encoder, "_run", recorded)
        rolling = RollingMatcher(matcher, log)
        rolling.contacts(np.arange(1))
    ids = log.contacts.ids.to_pylist()
    where = {contact_id: i for i, contact_id in enumerate(ids)}
    place = np.array([where[i] for i in Log.load(root / "past").contacts.ids.to_pylist()])
    assert len(fed) == len(ids)
    return Served(log, root / "past", trained, place, load(root / "run"), rolling, fed)


def test_the_window_closed_on_work_that_was_open(served):
    """So what is compared below has something to go wrong with."""
    assert served.trained.engine.work[:, 0, 0].sum() > served.trained.engine.work[:, 0, 1].sum()
    assert set(served.trained.schema.families) == set(FAMILIES)
    assert len(served.place) < len(served.log.contacts) - 100
    assert len(served.trained.identity) <= len(served.log.csas)


# Contacts


def test_a_contact_is_given_to_the_graph_as_it_was_to_training_to_the_bit(served):
    """Tokens, codes and numbers, what was known of its customer among them."""
    trained = served.trained
    for i, place in enumerate(served.place):
        tokens, categories, numbers = served.fed[place]
        assert np.array_equal(tokens, trained.tokens.pad(np.array([i])))
        assert categories.tobytes() == trained.categories[i : i + 1].tobytes()
        assert numbers.tobytes() == trained.numbers[i : i + 1].tobytes(), i


def test_a_contact_as_a_router_hands_it_over_is_the_same_to_the_bit(served):
    """A mapping of Python values, alone; what is known of its customer's past is not the contact's to say."""
    trained, schema, since = served.trained, served.trained.schema, log_columns(served.log)["customer_since"]
    rows = {row["contact_id"]: row for row in pq.read_table(served.past / "contacts.parquet").to_pylist()}
    of_contact = {name for one in schema.described() if one["level"] == "contact" for name in one["columns"]}
    own = [i for i, name in enumerate(schema.numbers) if name in of_contact]
    assert len(own) > 20
    for i in range(0, len(served.place), 50):
        place = served.place[i]
        row = rows[served.log.contacts.ids[place].as_py()]
        contact = clean({**row, "customer_since": None if np.isnan(since[place]) else int(since[place])})
        categories, numbers = schema.contact_inputs({name: [value] for name, value in contact.items()})
        assert categories.tobytes() == trained.categories[i : i + 1].tobytes()
        assert numbers[:, own].tobytes() == trained.numbers[i : i + 1, own].tobytes(), row


def test_complexity_of_contacts_after_the_split_is_what_training_was_told(served):
    trained = served.trained
    after = np.flatnonzero(trained.arrived_at >= trained.split)
    told = trained.told[after]
    found = served.rolling._encoded.complexity[served.place[after]]
    assert len(after) > 200
    assert not np.isnan(told).any()
    assert np.ptp(told, axis=0).min() > 0
    assert np.abs(found - told).max() < 1e-4


def test_intents_and_base_embeddings_are_those_of_training(served):
    trained, encoded = served.trained, served.rolling._encoded
    assert np.abs(encoded.base[served.place] - trained.base).max() < 1e-5
    said = trained.heads(torch.from_numpy(trained.read), torch.from_numpy(trained.categories))
    sure = said.intent_p.numpy() > 0.5  # of two that are equally probable either may come first
    assert sure.sum() > 100
    assert np.array_equal(encoded.intent[served.place][sure], said.intent.numpy()[sure])
    assert np.abs(encoded.intent_p[served.place] - said.intent_p.numpy()).max() < 1e-4


# CSAs


@pytest.fixture(scope="module")
def expected(served: Served) -> tuple[npt.NDArray[np.int64], Floats]:
    """Moments of the snapshots after the window, and the CSA features (S, J, G) that training would have read there.

    Of contacts of the window it is kept what was told then; of later ones the run's heads tell.
    """
    log, trained, tower = served.log, served.trained, served.model.contact_tower
    schema, rows = trained.schema, trained.schema.rows(log_columns(served.log))
    reader = tower.backbone if tower.reader is None else tower.reader
    assert isinstance(reader, StaticBackbone)
    read = embed_tokens(reader, trained.tokenizer.encode_corpus(texts_between(log, 0, len(log.contacts))))
    categories, _ = schema.contact_inputs(rows)
    with torch.inference_mode():
        said = tower.heads(torch.from_numpy(read), torch.from_numpy(categories))
    complexity = said.complexity.numpy().copy()
    complexity[served.place] = trained.told
    base = base_of(read, schema.base_dim)
    told = Told(base, with_intents(schema, categories, said.intent.numpy()), complexity, rows.signals)

    def embed(texts):  # type: ignore[no-untyped-def]
        return base_of(embed_texts(reader, trained.tokenizer, texts), schema.base_dim)

    last = int(log.contacts.arrived_at[-1])
    moments = snapshot_times(trained.end, last, schema.granularity_us)[1:]
    past = past_of_csas(log, schema, CsaFeatures(log.csas, schema, embed), told, moments, last + 1, TWIN)
    return moments, past.features


def columns_of(served: Served, family: str) -> list[int]:
    """Where the columns of a family of CSA features stand."""
    described = [one for one in served.trained.schema.described() if one["level"] == "csa"]
    names = [name for one in described if one["family"] == family for name in one["columns"]]
    return [served.trained.schema.csa_numbers.index(name) for name in names]


OF_CSAS = ("profile", "skills", "roster", "tenure", "record", "upset", "load", "similarity", "history", "groups")


@pytest.mark.parametrize("family", [*OF_CSAS, "relationship"])
def test_after_the_window_a_resumed_roll_reads_what_training_would(served, expected, family):
    moments, features = expected
    assert len(moments) > 10
    mine = columns_of(served, family)
    for moment, wanted in zip(moments, features, strict=True):
        found = served.features(served.rolling._resumed, int(moment))
        assert np.abs(found[:, mine] - wanted[:, mine]).max() < 1e-4
    assert family not in OF_CSAS[4:] or not np.allclose(features[0][:, mine], features[-1][:, mine])


def test_after_the_window_csas_have_the_vectors_that_training_would_give_them(served, expected):
    """And what the outcomes since have taught, one after the other, from what the run believed at its end."""
    moments, features = expected
    identity = torch.from_numpy(served.trained.schema.identity_of(served.log.csas.ids))
    roll, moves = served.rolling._resumed, served.log.handovers
    with torch.inference_mode():
        towers = served.model.csa_tower(torch.from_numpy(features[0]), identity)
        first, spread = (part.numpy() for part in towers[:2])
    assert np.abs(roll.spread(served.trained.end).trained.values().reshape(len(first), -1) - spread).max() < 1e-2
    for moment, wanted in zip(moments[::5], features[::5], strict=True):
        beliefs = Beliefs(*roll._at_first)
        known = (moves.known_at >= served.trained.end) & (moves.known_at < moment) & (moves.resolved >= 0)
        for i in sorted(np.flatnonzero(known), key=lambda i: moves.known_at[i]):
            one = served.rolling.contacts(moves.contact[i : i + 1].astype(np.int64))
            given = served.rolling._join.weighed(one.profile[0], float(one.level[0]))
            beliefs.learn(int(moves.csa[i]), *given, bool(moves.resolved[i]))
        with torch.inference_mode():
            vectors = served.model.csa_tower(torch.from_numpy(wanted), identity)[0].numpy()
        assert np.abs(roll.profiles(int(moment)) - beliefs.all_vectors(vectors)).max() < 1e-3
    assert np.abs(roll.profiles(int(moments[-1])) - vectors).max() > 0.01


def test_where_the_window_closes_the_roll_reads_the_bundles_roster(served):
    found = served.features(served.rolling._resumed, served.trained.end)
    ids = served.log.csas.ids.to_pylist()
    mine = [ids.index(csa_id) for csa_id in served.rolling._bundle.roster.ids]
    assert np.abs(found[mine] - served.trained.roster_features).max() < 1e-5


def test_within_the_window_a_replayed_roll_reads_what_training_did(served):
    """But for what is against a prediction: there training was told by heads of then, a replay by those of the end."""
    trained, schema = served.trained, served.trained.schema
    ids = served.log.csas.ids.to_pylist()
    mine = [ids.index(csa_id) for csa_id in schema.identities]
    told = {*columns_of(served, "upset"), *(i for i, n in enumerate(schema.csa_numbers) if ":complexity_" in n)}
    others = [i for i in range(len(schema.csa_numbers)) if i not in told]
    for snapshot in (0, 20, 40, len(trained.moments) - 1):
        found = served.features(served.rolling._replayed, int(trained.moments[snapshot]))[mine]
        assert np.abs(found[:, others] - trained.csa_features[snapshot][:, others]).max() < 1e-4
        assert np.isfinite(found).all()
