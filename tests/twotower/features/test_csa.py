"""CSA features as of a moment: dated rows, skills read as text, a stranger."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest

from tests.support import at, minutes, replaced
from twotower.clock import DAY
from twotower.features.csa import CsaFeatures, snapshots
from twotower.features.history import HistoryEngine, KnownHandovers
from twotower.features.schema import FeatureSchema
from twotower.tables import Log

BASE = 2
VECTORS = {"refunds": (1.0, 0.0), "cards": (0.0, 1.0), "since 2020": (0.6, 0.8)}


def embed(texts: Sequence[str]) -> npt.NDArray[np.float32]:
    return np.array([VECTORS.get(text, (-1.0, 0.0)) for text in texts], np.float32)


class Roster:
    """Features by name over the small data set: bob, cy (hired at minute 40) and ada (two dated rows)."""

    def __init__(self, log: Log) -> None:
        self.log = log
        self.schema = FeatureSchema.fit(log, BASE, max_tokens=16, history="all")
        self.features = CsaFeatures(log.csas, self.schema, embed)
        self.empty = HistoryEngine(len(log.csas.ids), BASE, 86400.0, 0)

    def at(self, moment: int, csa: str) -> dict[str, float]:
        row = self.features.at(moment, self.empty.features())[self.log.csas.ids.to_pylist().index(csa)]
        return dict(zip(self.schema.csa_numbers, row.tolist(), strict=True))


@pytest.fixture
def roster(tables, save) -> Roster:
    """The small data set's."""
    return Roster(Log.load(save(tables)))


def test_the_dated_row_that_counts_is_the_latest_not_after_the_moment(roster):
    before, after = roster.at(at(19.9), "ada"), roster.at(at(20), "ada")
    assert (before["languages=en"], before["languages=fr"]) == (1, 0)
    assert (after["languages=en"], after["languages=fr"]) == (1, 1)
    assert (before["profile_0"], before["profile_1"]) == (0, 0)
    assert (after["profile_0"], after["profile_1"]) == pytest.approx((0.6, 0.8))


def test_skills_are_a_mean_of_their_names_weighted_by_level(roster):
    before, after = roster.at(at(0), "ada"), roster.at(at(30), "ada")
    assert (before["skills_0"], before["skills_1"], before["skill_level"]) == pytest.approx((0.5, 0, 0.5))
    assert (after["skills_0"], after["skills_1"], after["skill_level"]) == pytest.approx((0.45, 0.1, 0.55))


def test_a_skill_that_the_log_knew_has_its_declared_level(roster):
    ada, bob, cy = (roster.at(at(50), csa) for csa in ("ada", "bob", "cy"))
    assert (ada["skills=refunds"], ada["skills=cards"]) == pytest.approx((0.9, 0.2))
    assert (bob["skills=refunds"], bob["skills=cards"]) == pytest.approx((0, 1))
    assert (cy["skills=refunds"], cy["skills=cards"]) == (0, 0)
    assert roster.at(at(10), "ada")["skills=refunds"] == pytest.approx(0.5)


def test_who_has_no_skills_and_no_profile_has_zeros_there(roster):
    cy = roster.at(at(100), "cy")
    assert [cy[f"{part}_{i}"] for part in ("profile", "skills") for i in range(BASE)] == [0] * 4
    assert cy["skill_level"] == 0
    assert cy["languages=es"] == 1


def test_tenure_counts_from_the_hiring_where_that_is_known(roster):
    cy = roster.at(at(40) + 3 * DAY, "cy")
    assert (cy["tenure"], cy["tenure_known"]) == pytest.approx((math.log(4), 1))
    assert (roster.at(at(39), "cy")["tenure"], roster.at(at(39), "cy")["tenure_known"]) == (0, 1)
    assert (roster.at(at(90), "bob")["tenure"], roster.at(at(90), "bob")["tenure_known"]) == (0, 0)


def test_a_csa_without_a_past_has_the_history_of_nobody(roster):
    cy = roster.at(at(41), "cy")
    assert [cy[name] for name in ("history_handled", "history_outcomes", "history_rate")] == [0, 0, 0]
    assert cy["history_idle"] == pytest.approx(math.log1p(3650))


def test_a_csa_whose_rows_are_all_later_is_one_of_whom_nothing_is_known(tables, save):
    tables["csas"] = replaced(tables["csas"], "valid_from", minutes(60, 20, None, None))  # cy from minute 60
    roster = Roster(Log.load(save(tables)))
    unknown = roster.at(at(59), "cy")
    assert {name: value for name, value in unknown.items() if value != 0} == {
        "history_idle": pytest.approx(math.log1p(3650))
    }
    assert roster.at(at(60), "cy")["languages=es"] == 1


def test_sites_teams_and_kinds_have_columns_of_their_own(tables, save):
    csas = tables["csas"].append_column("site", pa.array(["Porto", None, "Leeds", "Porto"]))
    csas = csas.append_column("team", pa.array([None, "blue", "red", "red"]))
    tables["csas"] = csas.append_column("kind", pa.array(["bot", None, "csa", None]))
    roster = Roster(Log.load(save(tables)))
    assert (roster.at(at(50), "cy")["site=Porto"], roster.at(at(50), "cy")["kind=bot"]) == (1, 1)
    assert (roster.at(at(0), "ada")["site=Porto"], roster.at(at(0), "ada")["kind=csa"]) == (1, 1)
    assert (roster.at(at(0), "ada")["team=red"], roster.at(at(30), "ada")["team=red"]) == (1, 0)
    assert (roster.at(at(30), "ada")["site=Porto"], roster.at(at(30), "ada")["site=Leeds"]) == (0, 0)


def test_nobody_with_a_skill_at_all(tables, save):
    kind = tables["csas"].schema.field("skills").type
    tables["csas"] = replaced(tables["csas"], "skills", pa.array([[]] * 4, kind))
    ada = Roster(Log.load(save(tables))).at(at(50), "ada")
    assert (ada["skills_0"], ada["skill_level"]) == (0, 0)


def test_each_distinct_text_is_embedded_once(tables, save):
    asked: list[str] = []

    def counting(texts: Sequence[str]) -> npt.NDArray[np.float32]:
        asked.extend(texts)
        return embed(texts)

    log = Log.load(save(tables))
    CsaFeatures(log.csas, FeatureSchema.fit(log, BASE, 16), counting)
    named = [text for text in asked if text.strip()]
    assert sorted(named) == ["cards", "refunds", "since 2020"]


def test_snapshots_are_the_features_at_each_moment(roster):
    past = KnownHandovers(
        csa=np.array([0, 2, 0], np.int32),
        known_at=np.array([at(5), at(15), at(25)]),
        resolved=np.array([1, 0, -1], np.int8),
        handle_time_s=np.array([60, np.nan, 30], np.float32),
        base=np.eye(3, BASE, dtype=np.float32),
    )
    moments = [at(0), at(15), at(30)]
    exposure: list[npt.NDArray[np.float32]] = []
    found = snapshots(roster.features, HistoryEngine(3, BASE, 86400.0, at(0)), past, moments, exposure)
    for i, moment in enumerate(moments):
        alone = HistoryEngine(3, BASE, 86400.0, at(0))
        alone.advance(past, moment)
        assert np.allclose(found[i], roster.features.at(moment, alone.features()), atol=1e-6)
        assert np.allclose(exposure[i], alone.sums[:, 0])
    assert [(e > 0).tolist() for e in exposure] == [[False] * 3, [True, False, False], [True, False, True]]
