"""CSA features as of a moment: dated rows, skills read as text, a stranger."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support import at, minutes, replaced
from twotower.clock import DAY
from twotower.features.csa import CSA, CsaFeatures, snapshot_times
from twotower.features.customer import SIGNATURE, signatures
from twotower.features.engine.csa import CsaHistory
from twotower.features.engine.events import KnownHandovers, Work
from twotower.features.engine.record import csa_features, csa_names
from twotower.features.registry import FAMILIES
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
        self.schema = FeatureSchema.fit(log, BASE, max_tokens=16, families=list(FAMILIES))
        self.features = CsaFeatures(log.csas, self.schema, embed)

    def history(self) -> CsaHistory:
        return CsaHistory(self.schema.csa_settings, len(self.log.csas.ids))

    def at(self, moment: int, csa: str) -> dict[str, float]:
        row = self.features.at(moment, self.history())[self.log.csas.ids.to_pylist().index(csa)]
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


def test_a_beginners_curve_halves_and_is_zero_where_nobody_knows(roster):
    on_the_day, later = roster.at(at(40), "cy"), roster.at(at(40) + 30 * DAY, "cy")
    assert (on_the_day["tenure_30d"], on_the_day["tenure_180d"]) == (1, 1)
    assert (later["tenure_30d"], later["tenure_180d"]) == pytest.approx((0.5, 2 ** (-30 / 180)))
    assert (roster.at(at(90), "bob")["tenure_30d"], roster.at(at(90), "bob")["tenure_180d"]) == (0, 0)


def test_a_csa_without_a_past_has_the_history_of_nobody(roster):
    cy = roster.at(at(41), "cy")
    past = [name for feature in CSA if feature.as_of in ("outcomes", "work") and feature.name != "idle"
            for name in feature.names(roster.schema.csa_settings)]  # fmt: skip
    assert {"handled_30d", "rate_30d", "open", "good_7d_0", "work_similarity", "group_rate:language_0"} <= set(past)
    assert [name for name in past if cy[name] != 0] == []
    assert cy["idle"] == pytest.approx(math.log1p(3650))


def test_a_csa_whose_rows_are_all_later_is_one_of_whom_nothing_is_known(tables, save):
    tables["csas"] = replaced(tables["csas"], "valid_from", minutes(60, 20, None, None))  # cy from minute 60
    roster = Roster(Log.load(save(tables)))
    unknown = roster.at(at(59), "cy")
    assert {name: value for name, value in unknown.items() if value != 0 and not name.startswith("signature_")} == {
        "idle": pytest.approx(math.log1p(3650))
    }
    assert roster.at(at(60), "cy")["languages=es"] == 1


def test_a_csas_signature_follows_from_their_id_alone(roster):
    own = signatures(["cy"])[0].tolist()
    for moment in (at(0), at(41)):
        cy = roster.at(moment, "cy")
        assert [cy[f"signature_{i}"] for i in range(SIGNATURE)] == own


def test_a_language_of_a_region_is_spoken_as_its_base(tables, save):
    kind = tables["csas"].schema.field("languages").type
    spoken = pa.array([["es-MX", "es"], ["en_GB", "und"], ["zxx"], ["EN"]], kind)
    tables["csas"] = replaced(tables["csas"], "languages", spoken)
    roster = Roster(Log.load(save(tables)))
    assert roster.schema.csa_values["languages"] == ["en", "es"]
    cy, ada, bob = (roster.at(at(50), csa) for csa in ("cy", "ada", "bob"))
    assert (cy["languages=en"], cy["languages=es"]) == (0, 1)
    assert (ada["languages=en"], ada["languages=es"]) == (1, 0)
    assert (bob["languages=en"], bob["languages=es"]) == (0, 0)
    assert roster.at(at(0), "ada")["languages=en"] == 1


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


def test_families_that_are_off_leave_the_others_as_they_are(roster):
    whole = dict(zip(roster.schema.csa_numbers, roster.features.at(at(50), roster.history()).T, strict=True))
    for families in (["form", "roster"], ["form", "tenure", "skills"], ["form", "relationship", "profile", "load"]):
        schema = FeatureSchema.fit(roster.log, BASE, 16, families=families)
        found = CsaFeatures(roster.log.csas, schema, embed).at(at(50), CsaHistory(schema.csa_settings, 3))
        expected = np.column_stack([whole[name] for name in schema.csa_numbers])
        assert np.array_equal(found, expected)


def test_a_history_rolled_from_snapshot_to_snapshot_reads_as_one_rolled_there_at_once(roster):
    past = KnownHandovers(
        csa=np.array([0, 2, 0], np.int32),
        known_at=np.array([at(5), at(15), at(25)]),
        resolved=np.array([1, 0, -1], np.int8),
        handle_time_s=np.array([60, np.nan, 30], np.float32),
        base=np.eye(3, BASE, dtype=np.float32),
        codes=np.array([[0, 1], [-1, 2], [1, 0]], np.int32),
    )
    work = Work.of(np.array([0, 2], np.int32), np.array([at(1), at(2)]), np.array([at(5), at(20)]))
    rolled = roster.history()
    for moment, seen in zip([at(0), at(15), at(30)], [[0, 0, 0], [1, 0, 0], [1, 0, 1]], strict=True):
        alone = roster.history()
        alone.advance(past, moment, work)
        rolled.advance(past, moment, work)
        found = roster.features.at(moment, rolled)
        assert np.allclose(found, roster.features.at(moment, alone), atol=1e-6)
        assert (rolled.handled() > 0).tolist() == [bool(n) for n in seen]  # strictly before: nothing at minute 15
        columns = [roster.schema.csa_numbers.index(name) for name in csa_names(roster.schema.csa_settings)]
        assert np.array_equal(found[:, columns], csa_features(rolled.read(), roster.schema.csa_settings))


@given(st.integers(0, 10**6), st.integers(0, 10**5), st.integers(1, 5000))
def test_every_arrival_has_a_snapshot_at_or_before_it(first, span, granularity):
    moments = snapshot_times(first, first + span, granularity)
    assert (np.diff(moments) == granularity).all()
    assert moments[0] <= first < moments[0] + granularity
    assert moments[-1] <= first + span < moments[-1] + granularity
