"""`Log.load`: what stands in memory, in which order, and what is refused."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pytest

from tests.support import at, minutes, replaced
from twotower.clock import NEVER, NULL_TIME
from twotower.errors import DataError
from twotower.tables import Log


def test_contacts_are_sorted_by_arrival_and_then_by_id(tables, save):
    log = Log.load(save(tables))
    assert log.contacts.ids.to_pylist() == ["c1", "c2", "c3", "c4"]
    assert log.contacts.arrived_at.tolist() == [at(10), at(10), at(30), at(60)]
    assert log.contacts.intent_text.to_pylist() == ["late order", "lost card", "refund", "refund"]


def test_ids_become_codes(tables, save):
    log = Log.load(save(tables))
    assert log.customer_ids.to_pylist() == ["anna", "bert"]
    assert log.contacts.customer.tolist() == [0, -1, 0, 1]
    assert log.csas.ids.to_pylist() == ["ada", "bob", "cy"]
    assert log.handovers.csa.tolist() == [0, 0, 1, 1, 2]
    assert log.handovers.contact.tolist() == [0, 2, 2, 1, 3]


def test_an_eligible_list_that_is_null_is_everyone_and_an_empty_one_is_nobody(tables, save):
    eligible = Log.load(save(tables)).contacts.eligible
    assert [None if row is None else row.tolist() for row in map(eligible.row, range(4))] == [None, [], [0, 1], [2]]
    assert eligible.mask(np.array([0, 1, 2]), 3).tolist() == [[True] * 3, [False] * 3, [True, True, False]]


def test_handovers_are_sorted_by_when_their_outcome_became_known(tables, save):
    handovers = Log.load(save(tables)).handovers
    assert handovers.known_at.tolist() == [at(15), at(33), at(45), at(55), NEVER]
    assert handovers.ended_at.tolist() == [at(15), at(33), at(45), at(12), NEVER]
    assert handovers.resolved.tolist() == [1, 0, 1, 0, -1]
    assert handovers.csat.tolist()[:3] == [5.0, 1.0, 4.0]
    assert math.isnan(handovers.csat[3])
    assert handovers.transferred.tolist() == [-1] * 5


def test_absent_columns_read_as_nulls(tables, save):
    log = Log.load(save(tables))
    assert log.contacts.intent.null_count == 4
    assert log.csas.kind.to_pylist() == ["csa"] * 4
    assert log.customer_since.tolist() == [NULL_TIME] * 2
    assert np.isnan(log.handovers.quality_score).all()


def test_the_row_of_a_csa_is_the_latest_one_not_after_the_moment(tables, save):
    csas = Log.load(save(tables)).csas
    assert [csas.skills[int(row)].as_py()[0]["level"] for row in (csas.row_at(at(19))[0], csas.row_at(at(20))[0])] == [
        0.5,
        0.9,
    ]


def test_a_csa_whose_every_row_is_later_has_none(tables, save):
    tables["csas"] = replaced(tables["csas"], "valid_from", minutes(25, 20, 5, 10))
    csas = Log.load(save(tables)).csas
    assert csas.row_at(at(4)).tolist() == [-1, -1, -1]
    assert csas.row_at(at(10)).tolist() == [0, 2, -1]
    assert csas.row_at(at(99)).tolist() == [1, 2, 3]
    assert csas.active_at(at(10)).tolist() == [True, True, False]


@pytest.mark.parametrize(
    ("minute", "active"), [(0, [True, True, False]), (40, [True, True, True]), (50, [True, False, True])]
)
def test_a_csa_is_active_from_the_first_day_until_before_the_last(tables, save, minute, active):
    assert Log.load(save(tables)).csas.active_at(at(minute)).tolist() == active


def test_customers_bring_their_language_and_since_when(tables, save):
    tables["customers"] = pa.table(
        {"customer_id": ["zoe", "bert"], "since": minutes(-100, -50), "language": ["de", "es"]}
    )
    log = Log.load(save(tables))
    assert log.customer_ids.to_pylist() == ["anna", "bert"]
    assert log.customer_since.tolist() == [NULL_TIME, at(-50)]
    assert log.customer_language.to_pylist() == [None, "es"]


def test_text_types_do_not_matter(tables, save):
    plain = Log.load(save(tables, "plain"))
    other = dict(tables)
    contacts = tables["contacts"]
    contacts = replaced(contacts, "contact_id", contacts["contact_id"].cast(pa.large_string()))
    contacts = replaced(contacts, "channel", contacts["channel"].combine_chunks().dictionary_encode())
    contacts = replaced(contacts, "eligible", contacts["eligible"].cast(pa.large_list(pa.large_string())))
    contacts = contacts.append_column("intent", pa.nulls(4)).append_column("queue", pa.nulls(4, pa.string()))
    other["contacts"] = contacts
    other["csas"] = replaced(tables["csas"], "capacity", tables["csas"]["capacity"].cast(pa.int8()))
    large = Log.load(save(other, "large"))
    assert large.contacts.ids == plain.contacts.ids
    assert large.contacts.channel == plain.contacts.channel
    assert large.contacts.eligible.values.tolist() == plain.contacts.eligible.values.tolist()
    assert large.contacts.intent == plain.contacts.intent
    assert large.csas.capacity.tolist() == plain.csas.capacity.tolist()


def test_the_order_of_rows_in_a_file_does_not_matter(tables, save):
    log = Log.load(save(tables, "as_is"))
    turned = Log.load(
        save({name: table.take(list(range(len(table)))[::-1]) for name, table in tables.items()}, "turned")
    )
    assert log.contacts.ids == turned.contacts.ids
    assert log.csas.skills == turned.csas.skills
    for field in ("contact", "csa", "assigned_at", "ended_at", "known_at", "resolved"):
        assert getattr(log.handovers, field).tolist() == getattr(turned.handovers, field).tolist()


def test_lists_in_several_row_groups_read_like_those_in_one(tables, save, tmp_path):
    import pyarrow.parquet as pq

    folder = save(tables)
    one = Log.load(folder).contacts.eligible
    pq.write_table(tables["contacts"], folder / "contacts.parquet", row_group_size=1)
    several = Log.load(folder).contacts.eligible
    assert several.values.tolist() == one.values.tolist()
    assert several.offsets.tolist() == one.offsets.tolist()
    assert several.all_.tolist() == one.all_.tolist()


def test_free_text_that_is_null_reads_as_empty(tables, save):
    tables["contacts"] = replaced(tables["contacts"], "transcript", pa.nulls(4))
    assert Log.load(save(tables)).contacts.transcript.to_pylist() == [""] * 4


def test_ended_the_moment_it_was_assigned_is_ordinary(tables, save):
    tables["interactions"] = replaced(tables["interactions"], "ended_at", tables["interactions"]["assigned_at"])
    assert len(Log.load(save(tables)).handovers) == 5


def test_columns_cannot_be_written_to(tables, save):
    log = Log.load(save(tables))
    for column in (log.contacts.arrived_at, log.handovers.resolved, log.contacts.eligible.values, log.customer_since):
        with pytest.raises(ValueError, match="read-only"):
            column[:] = 0


def test_real_logs_load(real_data):
    log = Log.load(real_data / "buck2")
    assert (len(log.contacts), len(log.csas), len(log.handovers)) == (26_438, 614, 27_496)
    assert log.contacts.eligible is None


def test_times_finer_than_a_microsecond_are_refused(tables, save):
    fine = pa.array([1, 2, 3, 4], pa.timestamp("ns", tz="UTC"))
    tables["contacts"] = replaced(tables["contacts"], "arrived_at", fine)
    with pytest.raises(DataError, match=r"contacts\.parquet, column arrived_at: cannot be held as timestamp\[us"):
        Log.load(save(tables))
