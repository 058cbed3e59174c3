"""From a log to what the history engine is fed: the small data set by hand, and nothing but what was known before."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support import at
from tests.twotower.features.random_logs import random_tables
from twotower.bundle.sessions import Encoded
from twotower.features.complexity import COMPLEXITY
from twotower.features.customer import RELATIONSHIP, SETTINGS, STYLE, signatures
from twotower.features.engine.core import PAIR_SUMS
from twotower.features.engine.customers import CustomerHistory
from twotower.features.engine.events import Work
from twotower.features.feature import table
from twotower.features.registry import FAMILIES
from twotower.features.schema import FeatureSchema, log_columns
from twotower.features.streams import UPSET, CustomerPast, Told, csa_streams, customer_streams, told_by, with_intents
from twotower.scoring.outcomes import TARGETS
from twotower.tables.log import Log
from twotower.text.signals import SIGNALS

TIME, RISK = (
    next(i for i, one in enumerate(COMPLEXITY) if one.name == name) for name in ("handle_time", "failure_risk")
)
MOODS = [signal.name for signal in SIGNALS]
ANNA, BERT = 0, 1
ADA, BOB, CY = 0, 1, 2
# Contacts in the log's order: c1 and c2 arrive at minute 10, c3 at 30, c4 at 60.
C1, C2, C3, C4 = range(4)


@pytest.fixture
def log(tables, save) -> Log:
    """The small data set."""
    return Log.load(save(tables))


@pytest.fixture
def schema(log) -> FeatureSchema:
    """Every family on; three bands of handle time."""
    return replace(FeatureSchema.fit(log, 4, 16, families=list(FAMILIES)), bands=[3.0, 5.0])


@pytest.fixture
def told(log, schema) -> Told:
    """c1 and c4 came before heads could be fitted; c3 is upset."""
    complexity = np.full((4, len(COMPLEXITY)), np.nan, np.float32)
    complexity[C2, [TIME, RISK]] = 5.0, 0.25
    complexity[C3, [TIME, RISK]] = 5.5, 0.75
    signals = np.zeros((4, len(SIGNALS)), np.float32)
    signals[C3, MOODS.index("upset")] = UPSET
    signals[C1, MOODS.index("upset")] = UPSET - 0.01
    categories, _ = schema.contact_inputs(log_columns(log))
    return Told(np.eye(4, dtype=np.float32), categories, complexity, signals)


def test_outcomes_come_in_the_order_in_which_they_became_known(log, schema, told):
    known, _ = csa_streams(log, schema, told)
    assert known.known_at.tolist() == [at(15), at(33), at(45), at(55)]  # c2 ended in minute 12 and was known in 55
    assert known.csa.tolist() == [ADA, ADA, BOB, BOB]
    assert known.resolved.tolist() == [1, 0, 1, 0]
    assert known.base.tolist() == np.eye(4)[[C1, C3, C3, C2]].tolist()
    assert known.csat is not None
    assert np.array_equal(known.csat, np.array([5, 1, 4, np.nan], np.float32), equal_nan=True)
    assert known.transferred is not None
    assert known.transferred.tolist() == [-1] * 4
    assert known.upset is not None
    assert known.upset.tolist() == [False, True, True, False]
    assert known.customer is None


def test_an_expectation_is_what_the_heads_said_and_not_a_number_where_there_were_none(log, schema, told):
    known, _ = csa_streams(log, schema, told)
    assert known.expected is not None
    assert known.expected.dtype == np.float32
    assert np.array_equal(known.expected, np.array([np.nan, 0.25, 0.25, 0.75], np.float32), equal_nan=True)
    assert np.isnan(told.expected[[C1, C4]]).all()


def test_a_risk_of_nothing_is_an_expectation(told):
    """A head that was fitted may say 0 of a contact that is sure to be resolved."""
    complexity = np.zeros((1, len(COMPLEXITY)), np.float32)
    sure = Told(told.base[:1], told.categories[:1], complexity, None)
    assert sure.expected.tolist() == [1]


def test_what_a_bundle_tells_is_nothing_where_a_head_was_not_fitted(log, schema):
    rows = schema.rows(log_columns(log))
    many = len(rows)
    said = Encoded(
        *(np.ones((many, 4), np.float32) for _ in range(2)), np.zeros(many, np.float32), np.eye(4, dtype=np.float32),
        np.zeros(many, np.int64), np.ones(many, np.float32), np.zeros((many, len(COMPLEXITY)), np.float32),
        np.zeros((many, len(TARGETS)), np.float32),
    )  # fmt: skip
    fitted = told_by(replace(schema, heads=["failure_risk"]), rows, said)
    assert (fitted.expected == 1).all()
    assert np.isnan(fitted.complexity[:, TIME]).all()
    assert np.isnan(told_by(schema, rows, said).expected).all()


def test_groups_have_codes_whether_or_not_the_towers_read_labels(log, schema, told):
    bare = replace(schema, families=[name for name in schema.families if name != "labels"])
    assert np.array_equal(bare.codes(bare.rows(log_columns(log))), schema.codes(schema.rows(log_columns(log))))
    assert np.array_equal(bare.contact_inputs(log_columns(log))[0], schema.contact_inputs(log_columns(log))[0])


def test_hand_overs_begin_and_end_as_work(log, schema, told):
    _, work = csa_streams(log, schema, told)
    events = [(ADA, 11, 1), (BOB, 12, 1), (BOB, 12, -1), (ADA, 15, -1), (ADA, 31, 1), (BOB, 33, 1), (ADA, 33, -1),
              (BOB, 45, -1), (CY, 61, 1)]  # fmt: skip
    found = zip(work.csa.tolist(), work.at.tolist(), work.change.tolist(), strict=True)
    assert sorted(found) == sorted((csa, at(minute), change) for csa, minute, change in events)
    assert (np.diff(work.at) >= 0).all()
    assert isinstance(work, Work)


def test_groups_are_the_codes_that_have_cells(log, schema, told):
    """c1 is identified as English, c2 is Brazilian Portuguese; vocabularies: en, es, pt and call, chat, e-mail."""
    assert [name for name, _ in schema.csa_settings.families] == ["language", "channel", "complexity"]
    groups = told.groups(schema)
    assert groups is not None
    assert groups.dtype == np.int32
    assert groups[:, 0].tolist() == [0, 2, 0, 1]
    assert groups[:, 1].tolist() == [0, 1, 1, 2]
    assert groups[:, 2].tolist() == [-1, 1, 2, -1]  # a time on the edge belongs below it; unfitted heads have no band
    known, _ = csa_streams(log, schema, told)
    assert known.codes is not None
    assert known.codes.tolist() == groups[[C1, C3, C3, C2]].tolist()


def test_a_value_without_a_cell_of_its_own_is_unknown_to_the_groups(schema, told):
    fewer = replace(schema, groups={**schema.groups, "language": ["pt"], "channel": ["e-mail", "fax"]})
    groups = told.groups(fewer)
    assert groups is not None
    assert groups[:, 0].tolist() == [-1, 0, -1, -1]
    assert groups[:, 1].tolist() == [-1, -1, -1, 0]
    unknown = replace(told, categories=told.categories * 0).groups(fewer)
    assert unknown is not None
    assert (unknown[:, :2] == -1).all()


def test_what_no_family_reads_is_left_out(log, schema, told):
    plain = replace(schema, families=["form", "record"])
    assert told.groups(plain) is None
    known, _ = csa_streams(log, plain, replace(told, signals=None))
    assert known.base.shape == (4, 0)
    assert known.codes is None
    assert known.upset is None


def test_what_was_told_of_some_contacts(told):
    some = told.take(np.array([C3, C3, C1]))
    assert some.base.argmax(axis=1).tolist() == [C3, C3, C1]
    assert some.upset is not None
    assert some.upset.tolist() == [True, True, False]
    assert replace(told, signals=None).take(np.array([C1])).signals is None


def test_an_intent_that_is_given_stays_and_others_are_filled(schema):
    place = list(schema.categories).index("intent")
    categories = np.array([[1, 0, 2, 0], [2, 0, 1, 3], [0, 0, 0, 0]])
    found = with_intents(schema, categories, np.array([4, 1, 0]))
    assert found[:, place].tolist() == [4, 3, 0]
    assert np.array_equal(np.delete(found, place, axis=1), np.delete(categories, place, axis=1))
    assert categories[:, place].tolist() == [0, 3, 0]  # what was handed in is left as it was


def test_customers_come_when_their_contacts_arrive(log, schema):
    rows = schema.rows(log_columns(log))
    came, known = customer_streams(log, rows, style=True)
    assert came.customer.tolist() == [ANNA, -1, ANNA, BERT]
    assert came.arrived_at.tolist() == [at(10), at(10), at(30), at(60)]
    assert came.signals is not None
    assert np.array_equal(came.signals, rows.signals[:, [MOODS.index(name) for name in STYLE]])
    assert known.known_at.tolist() == [at(15), at(33), at(45), at(55)]
    assert known.customer is not None
    assert known.customer.tolist() == [ANNA, ANNA, ANNA, -1]
    assert known.csa.tolist() == [ADA, ADA, BOB, BOB]
    assert known.resolved.tolist() == [1, 0, 1, 0]
    assert known.base.shape == (4, 0)


def test_texts_are_not_read_where_nobody_asks_for_style(log, schema):
    rows = schema.rows(log_columns(log))
    came, _ = customer_streams(log, rows, style=False)
    assert came.signals is not None
    assert np.isnan(came.signals).all()
    assert came.signals.shape == (4, len(SETTINGS.signals))
    assert "signals" not in vars(rows)


def past(log: Log, schema: FeatureSchema) -> CustomerPast:
    return CustomerPast(log, schema, schema.rows(log_columns(log)))


def test_the_past_of_each_contact_of_the_log(log, schema):
    """anna's second contact knows of her first, and that ada resolved it; bert's and nobody's know nothing."""
    found = past(log, schema).at(log.contacts.customer, log.contacts.arrived_at)
    assert found is not None
    assert found.reading.count.tolist() == [0, 0, 1, 0]
    assert found.reading.pair_csa[C3].tolist() == [ADA, -1, -1, -1]
    assert found.days_since[C3] == pytest.approx(20 / 1440)
    signature = signatures(["ada"])[0]
    for kind in ("together", "good"):
        assert np.allclose(found.met(kind)[C3], math.log(2) * signature, atol=1e-4)
    assert not found.met("bad").any()
    assert not found.met("together")[[C1, C2, C4]].any()
    numbers = dict(zip(schema.numbers, schema.contact_inputs(log_columns(log), found)[1].T, strict=True))
    assert numbers["contacts"].tolist() == pytest.approx([0, 0, math.log(2), 0])


@pytest.mark.parametrize(
    ("minute", "count", "pairs"),
    [
        (10, 0, [[0, 0, 0], [0, 0, 0]]),  # she arrives at minute 10, which is not before it
        (15, 1, [[0, 0, 0], [0, 0, 0]]),
        (30, 1, [[1, 1, 0], [0, 0, 0]]),
        (33, 2, [[1, 1, 0], [0, 0, 0]]),
        (45, 2, [[2, 1, 1], [0, 0, 0]]),
        (46, 2, [[2, 1, 1], [1, 1, 0]]),
        (1000, 2, [[2, 1, 1], [1, 1, 0]]),
    ],
)
def test_only_what_was_known_strictly_before_counts(log, schema, minute, count, pairs):
    found = past(log, schema).at(np.array([ANNA], np.int32), np.array([at(minute)]))
    assert found is not None
    assert found.reading.count.tolist() == [count]
    assert PAIR_SUMS == ("together", "good", "bad")
    np.testing.assert_allclose(found.reading.pair_sums[0, :2], pairs, rtol=0.01)  # a day is 1/180 of a half-life


@pytest.mark.parametrize("name", ["known_at", "arrived_at"])
def test_a_microsecond_later_it_counts(log, schema, name):
    asked = past(log, schema)
    moment = at(15) if name == "known_at" else at(10)
    then, after = (asked.at(np.array([ANNA], np.int32), np.array([moment + late])) for late in (0, 1))
    assert then is not None
    assert after is not None
    if name == "known_at":
        assert (then.met("good").any(), after.met("good").any()) == (False, True)
    else:
        assert (then.reading.count[0], after.reading.count[0]) == (0, 1)


def test_nothing_is_computed_where_no_family_asks(log, schema):
    none = replace(schema, families=["form", "profile", "groups"])
    assert past(log, none).at(log.contacts.customer, log.contacts.arrived_at) is None
    one = past(log, replace(schema, families=["form", "profile", "relationship"]))
    assert one.at(log.contacts.customer, log.contacts.arrived_at) is not None


def contents(found: Any, rows: np.ndarray) -> bytes:
    reading = found.reading.take(rows)
    return b"".join(np.ascontiguousarray(column).tobytes() for column in vars(reading).values())


@given(st.integers(0, 50), st.integers(0, 2**32))
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_answers_do_not_depend_on_the_order_of_the_questions(logs, seed, shuffle):
    log = logs(seed % 3)
    rng = np.random.default_rng(shuffle)
    schema = FeatureSchema.fit(log, 4, 16, families=list(FAMILIES))
    asked = past(log, schema)
    customer = rng.integers(-1, len(log.customer_ids), 30).astype(np.int32)
    moment = rng.choice(log.contacts.arrived_at, 30)  # many of them tie
    order = rng.permutation(30)
    straight, mixed = asked.at(customer, moment), asked.at(customer[order], moment[order])
    assert straight is not None
    assert mixed is not None
    assert contents(straight, order) == contents(mixed, np.arange(30))
    for kind in PAIR_SUMS:
        assert np.array_equal(straight.met(kind)[order], mixed.met(kind))
    half = asked.at(customer[:15], moment[:15])
    assert half is not None
    np.testing.assert_allclose(table(RELATIONSHIP, half, 15, None), table(RELATIONSHIP, straight, 30, None)[:15],
                               atol=1e-6)  # fmt: skip


@given(st.integers(0, 2), st.integers(0, 59))
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_question_is_answered_as_a_history_that_stands_there_answers(logs, seed, contact):
    """What training reads along the log is what a router would that rolled its history to the contact's arrival."""
    log = logs(seed)
    schema = FeatureSchema.fit(log, 4, 16, families=list(FAMILIES))
    rows = schema.rows(log_columns(log))
    found = past(log, schema).at(log.contacts.customer, log.contacts.arrived_at)
    assert found is not None
    moment = int(log.contacts.arrived_at[contact])
    came, known = customer_streams(log, rows, style=True)
    history = CustomerHistory(SETTINGS, len(log.customer_ids))
    history.advance(came, known, moment)
    there = history.read(log.contacts.customer[contact : contact + 1])
    for name, column in vars(there).items():
        np.testing.assert_allclose(getattr(found.reading, name)[contact], column[0], rtol=1e-9, atol=1e-12)


@pytest.fixture
def logs(save) -> Any:
    """Random logs by seed, each loaded once a test."""
    loaded: dict[int, Log] = {}

    def load(seed: int) -> Log:
        if seed not in loaded:
            loaded[seed] = Log.load(save(random_tables(seed), f"random-{seed}"))
        return loaded[seed]

    return load
