"""Whom and what nobody has seen, from tables to the router: a new CSA, one who comes back, an intent without a past."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from export.bundle import export_bundle
from serve.matcher import Matcher
from tests.train.runs import train

AWAY, BACK, NEWEST = pd.Timedelta(days=30), pd.Timedelta(days=70), pd.Timedelta(days=88)
NEED = {"intent_text": "my card was charged twice", "channel": "chat", "language": "en"}


@dataclass(frozen=True)
class Centre:
    """Tables in which `back` left and came back and `new` has been hired and done nothing; when they begin."""

    folder: Path
    begins: pd.Timestamp
    back: str
    new: str


@pytest.fixture(scope="module")
def altered(centre: Path, tmp_path_factory: pytest.TempPathFactory) -> Centre:
    folder = tmp_path_factory.mktemp("newcomers") / "centre"
    folder.mkdir()
    frames = {f.stem: pq.read_table(f).to_pandas() for f in centre.glob("*.parquet") if f.stem != "truth"}
    contacts, csas, done = frames["contacts"], frames["csas"], frames["interactions"]
    begins = contacts["arrived_at"].min()
    early = done[done["assigned_at"] < begins + AWAY]["csa_id"].value_counts()
    stays = csas[csas["left_at"].isna() & (csas["hired_at"] < begins)].groupby("csa_id").size()
    back, new = [one for one in early.index if stays.get(one) == 1][:2]
    first = csas[csas["csa_id"] == back].copy()
    again = first.assign(valid_from=begins + BACK, hired_at=begins + BACK)
    csas.loc[csas["csa_id"] == back, "left_at"] = begins + AWAY
    csas.loc[csas["csa_id"] == new, "hired_at"] = begins + NEWEST
    frames["csas"] = pd.concat([csas, again])
    away = (done["assigned_at"] >= begins + AWAY) & (done["assigned_at"] < begins + BACK + pd.Timedelta(days=20))
    frames["interactions"] = done[~((done["csa_id"] == back) & away) & (done["csa_id"] != new)]
    contacts["eligible"] = [
        None if who is None else [a for a in who if a != new and not (a == back and AWAY <= at - begins < BACK)]
        for who, at in zip(contacts["eligible"], contacts["arrived_at"], strict=True)
    ]
    for name, frame in frames.items():
        schema = pq.read_schema(centre / f"{name}.parquet")
        pq.write_table(pa.Table.from_pandas(frame, schema, preserve_index=False), folder / f"{name}.parquet")
    return Centre(folder, begins, back, new)


def bundle_at(altered: Centre, root: Path, after: pd.Timedelta) -> Matcher:
    """The matcher of a run on what was known so long after the beginning."""
    until = (altered.begins + after).isoformat()
    assert train(altered.folder, root / "run", "--until", until) == 0
    export_bundle(root / "run", root / "bundle")
    return Matcher.load(root / "bundle")


@pytest.fixture(scope="module")
def matcher(altered: Centre, tmp_path_factory: pytest.TempPathFactory) -> Matcher:
    return bundle_at(altered, tmp_path_factory.mktemp("late"), NEWEST + pd.Timedelta(days=1))


def test_who_was_hired_yesterday_is_a_candidate_of_whom_little_is_known(matcher: Matcher, altered: Centre) -> None:
    found = {one.csa_id: one for one in matcher.match(NEED, k=len(matcher.snapshot.ids))}
    unsure = {csa_id: one.uncertainty for csa_id, one in found.items() if one.uncertainty is not None}
    assert len(unsure) == len(found)
    others = [value for csa_id, value in unsure.items() if csa_id != altered.new]
    assert unsure[altered.new] > np.quantile(others, 0.9)
    assert 0 < (found[altered.new].p_resolved or 0) < 1


def test_the_first_outcomes_of_a_newcomer_move_them_more_than_those_of_a_veteran(
    altered: Centre, matcher: Matcher
) -> None:
    fresh = Matcher(matcher.bundle)
    busiest = min(
        (one for one in fresh.match(NEED, k=len(fresh.snapshot.ids)) if one.csa_id != altered.new),
        key=lambda one: one.uncertainty or 0.0,
    ).csa_id
    before = {one.csa_id: one.score for one in fresh.match(NEED, k=len(fresh.snapshot.ids))}
    until = int(matcher.bundle.manifest.window["until"])
    for i in range(5):
        for csa_id in (altered.new, busiest):
            fresh.ended({**NEED, "arrived_at": until}, csa_id, until + 1 + i, resolved=False)
    after = {one.csa_id: one.score for one in fresh.match(NEED, k=len(fresh.snapshot.ids))}
    assert before[altered.new] - after[altered.new] > 1.5 * (before[busiest] - after[busiest]) > 0


def test_who_comes_back_is_known_and_while_away_nobodys_candidate(
    altered: Centre, matcher: Matcher, tmp_path: Path
) -> None:
    away = bundle_at(altered, tmp_path, AWAY + pd.Timedelta(days=20))
    assert altered.back in away.snapshot.ids
    assert altered.back not in {one.csa_id for one in away.match(NEED, k=100)}
    assert altered.back in {one.csa_id for one in matcher.match(NEED, k=100)}
    code = matcher.snapshot.codes[altered.back]
    assert matcher.bundle.roster.identity[code] > 0
    assert int((matcher.bundle.history.csa == code).sum()) > 5  # what they did before they left
    features = matcher.bundle.roster.features[code : code + 1]
    stranger, _ = matcher.bundle.csa_encoder.encode(features, np.zeros(1, np.int64))
    assert np.abs(stranger - matcher.bundle.roster.vectors[code]).max() > 0.01


def test_an_intent_without_a_past_reads_as_one_that_nobody_named(matcher: Matcher) -> None:
    """The words say what it is about, as far as they can."""
    unnamed, brand_new = (matcher.match({**NEED, "intent": label}, k=5) for label in (None, "crypto_wallet_recovery"))
    assert [(one.csa_id, one.score) for one in unnamed] == [(one.csa_id, one.score) for one in brand_new]
    known = next(label for label in matcher.bundle.schema.categories["intent"] if label)
    assert [one.score for one in matcher.match({**NEED, "intent": known}, k=5)] != [one.score for one in unnamed]
    other = matcher.match({**NEED, "intent_text": "the parcel never arrived", "intent": "crypto_wallet_recovery"}, k=5)
    assert [one.score for one in other] != [one.score for one in brand_new]
