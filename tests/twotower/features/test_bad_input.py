"""Odd input, as docs/history.md says that it is handled: read for what it is, or refused in one line, never dropped."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pytest

from tests.support import START, at, minutes, replaced
from twotower.clock import DAY
from twotower.errors import DataError
from twotower.features.complexity import COMPLEXITY
from twotower.features.csa import CsaFeatures
from twotower.features.engine.csa import CsaHistory
from twotower.features.registry import FAMILIES
from twotower.features.schema import FeatureSchema, log_columns
from twotower.features.streams import CustomerPast, Told, csa_streams
from twotower.tables import Log

BASE = 2
MEGABYTE = 1_000_000


class Centre:
    """Features by name over a small data set, with every family on."""

    def __init__(self, log: Log) -> None:
        self.log = log
        self.schema = FeatureSchema.fit(log, BASE, 16, tuple(FAMILIES))
        self.features = CsaFeatures(log.csas, self.schema, lambda texts: np.ones((len(texts), BASE), np.float32))
        rows = self.schema.rows(log_columns(log))
        many = len(log.contacts)
        complexity = np.full((many, len(COMPLEXITY)), 0.5, np.float32)
        base = np.ones((many, BASE), np.float32)
        told = Told(base, self.schema.contact_inputs(rows)[0], complexity, rows.signals)
        self.known, self.work = csa_streams(log, self.schema, told)
        self.past = CustomerPast(log, self.schema, rows).at(log.contacts.customer, log.contacts.arrived_at)

    def csa(self, moment: int, csa: str) -> dict[str, float]:
        history = CsaHistory(self.schema.csa_settings, len(self.log.csas))
        history.advance(self.known, moment, self.work)
        row = self.features.at(moment, history)[self.log.csas.ids.to_pylist().index(csa)]
        assert np.isfinite(row).all()
        return dict(zip(self.schema.csa_numbers, row.tolist(), strict=True))

    def contacts(self) -> list[dict[str, float]]:
        """Every contact's categories and numbers."""
        categories, numbers = self.schema.contact_inputs(log_columns(self.log), self.past)
        assert np.isfinite(numbers).all()
        names = [*self.schema.categories, *self.schema.numbers]
        return [
            dict(zip(names, [*c, *n], strict=True)) for c, n in zip(categories.tolist(), numbers.tolist(), strict=True)
        ]


@pytest.fixture
def centre(tables, save):
    """Builds a `Centre` of the small data set, changed."""

    def build(**changed: pa.Table) -> Centre:
        return Centre(Log.load(save({**tables, **changed})))

    return build


def one(schema: FeatureSchema, **columns: object) -> tuple[list[int], dict[str, float]]:
    """Codes and numbers of one contact, as the router gives it."""
    categories, numbers = schema.contact_inputs({name: [value] for name, value in columns.items()})
    assert np.isfinite(numbers).all()
    return categories[0].tolist(), dict(zip(schema.numbers, numbers[0].tolist(), strict=True))


def test_an_end_in_the_future_is_open_work_until_then(tables, centre):
    """Clock skew: bob's second hand-over (assigned at minute 33) ends, by its clock, a hundred days later."""
    skewed = replaced(tables["interactions"], "ended_at", minutes(15, 12, 33, 100 * 1440, None))
    found = centre(interactions=skewed)
    assert found.csa(at(60), "bob")["open"] == pytest.approx(math.log(2))
    assert found.csa(at(60), "bob")["handled_90d"] == pytest.approx(math.log1p(2 ** (-5 / 1440 / 90)), abs=1e-5)
    after = found.csa(at(100 * 1440 + 1), "bob")
    assert after["open"] == 0
    assert after["handled_90d"] > math.log(2)


def test_an_end_before_the_assignment_is_refused_by_its_row(tables, save):
    spoilt = replaced(tables["interactions"], "ended_at", minutes(10, 12, 33, 45, None))
    with pytest.raises(DataError, match=r"interactions\.parquet, row 0.*ended_at"):
        Log.load(save({**tables, "interactions": spoilt}))


def test_a_csa_who_left_and_came_back_keeps_their_past(tables, centre):
    """Ada leaves at minute 20 and is hired again at minute 40."""
    csas = tables["csas"]
    hired = replaced(csas, "hired_at", minutes(40, 40, None, 0))
    back = replaced(hired, "left_at", minutes(None, None, 50, 20))
    found = centre(csas=replaced(back, "valid_from", minutes(None, 40, None, None)))
    where = found.log.csas.ids.to_pylist().index("ada")
    assert [bool(found.log.csas.active_at(at(minute))[where]) for minute in (10, 30, 41)] == [True, False, True]
    away, returned = found.csa(at(38), "ada"), found.csa(at(41), "ada")
    assert away["outcomes_n_90d"] == pytest.approx(returned["outcomes_n_90d"], abs=1e-6)
    assert returned["outcomes_n_90d"] > 0
    assert returned["tenure"] == pytest.approx(math.log1p(1 / 1440))  # of this time


def test_a_dated_skill_counts_from_its_day(centre):
    found = centre()
    before, after = found.csa(at(19), "ada"), found.csa(at(20), "ada")
    assert (before["skills=refunds"], before["skills=cards"]) == (pytest.approx(0.5), 0)
    assert (after["skills=refunds"], after["skills=cards"]) == (pytest.approx(0.9), pytest.approx(0.2))


def test_a_null_customer_has_no_past(tables, centre):
    """Two contacts of nobody are not two of one customer."""
    nobody = replaced(tables["contacts"], "customer_id", pa.nulls(4, pa.string()))
    rows = centre(contacts=nobody).contacts()
    assert {row["customer_known"] for row in rows} == {0}
    assert {row["contacts"] for row in rows} == {0}
    assert [row["since_last"] for row in rows] == [pytest.approx(math.log1p(3650))] * 4
    assert {row[name] for row in rows for name in row if name.startswith("met_")} == {0}


def test_a_language_that_nobody_knows_is_unknown_and_has_no_lexicon(centre):
    schema = centre().schema
    codes, numbers = one(schema, language="tlh", intent_text="nuqneH! This is OUTRAGEOUS, refund me")
    assert codes[list(schema.categories).index("language")] == 0
    assert numbers["said_lexicon_known"] == 0
    assert numbers["said_shouted"] > 0  # marks and capitals need no words


def test_an_empty_transcript_is_a_text_without_words(centre):
    schema = centre().schema
    _, empty = one(schema, intent_text="", transcript="", language="en")
    _, null = one(schema, intent_text=None, transcript=None, language="en")
    assert empty == null
    assert {empty[name] for name in ("need_length", "transcript_length", "said_words", "said_sentiment")} == {0}


def test_a_megabyte_of_transcript_is_read_within_its_bounds(centre):
    schema = centre().schema
    _, numbers = one(schema, intent_text="refund", transcript="Please help! " * (MEGABYTE // 13), language="en")
    assert numbers["transcript_length"] == pytest.approx(math.log(MEGABYTE), abs=1e-4)
    assert numbers["said_words"] <= math.log1p(4_000)


@pytest.mark.parametrize("odd", ["a\ud800b", "\udfff", "\ud83d\ude00 pair", "nul\x00byte", "\x00", "\x00\ud800\x00"])
def test_lone_surrogates_and_nul_bytes_are_no_words_and_no_error(centre, odd):
    schema = centre().schema
    for language in ("en", None):
        _, numbers = one(schema, intent_text=f"my card {odd}", transcript=odd, customer_id=odd, language=language)
        assert numbers["customer_known"] == 1
    assert one(schema, language=odd, intent=odd, channel=odd, intent_text="x")[0] == [0, 0, 0, 0]


def test_nul_bytes_in_a_table_are_kept_as_they_are(tables, centre):
    rows = centre(contacts=replaced(tables["contacts"], "transcript", ["a\x00b", "", "\x00", "x"])).contacts()
    assert sorted(row["transcript_length"] for row in rows) == pytest.approx(sorted(map(math.log1p, (3, 0, 1, 1))))


def test_text_that_is_no_unicode_is_refused_by_its_row(tables, save):
    broken = pa.array([b"fine", b"\xff\xfe", b"fine", b"fine"], pa.binary()).view(pa.string())
    with pytest.raises(DataError, match=r"contacts\.parquet, row 1.*transcript"):
        Log.load(save({**tables, "contacts": replaced(tables["contacts"], "transcript", broken)}))


def test_a_contact_from_before_anything_else_reads_an_empty_world(centre):
    found = centre()
    assert found.csa(at(0) - 365 * DAY, "bob")["handled_7d"] == 0
    _, numbers = one(found.schema, arrived_at=int(START.timestamp() * 1e6) - 10 * DAY, customer_since=at(50))
    assert numbers["customer_tenure"] == 0  # a customer since the future is one since now
