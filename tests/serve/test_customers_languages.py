"""Languages of customers: those last told, in a file that holds no others; they say how texts are read."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.customers import Customers
from serve.customers_build import style_of_contact
from serve.customers_languages import Languages
from tests.serve import returning
from tests.serve.returning import SECRET, T
from tests.serve.returning import bundle as bundle
from tests.serve.returning import returning_data as returning_data
from twotower.bundle.bundle import Bundle
from twotower.errors import DataError
from twotower.features.schema import log_columns
from twotower.features.streams import customer_streams
from twotower.tables.log import Log

Told = st.lists(st.tuples(st.integers(0, 200), st.one_of(st.none(), st.text(max_size=2))), max_size=40)


@given(Told, st.lists(st.integers(0, 250), max_size=30))
def test_languages_are_those_last_told_and_a_file_holds_no_other(
    told: list[tuple[int, str | None]], some: list[int]
) -> None:
    found, last = Languages(), dict(told)
    for customer, tag in told:
        found.keep(customer, tag)
    customers = np.array(some, np.int64)
    expected = [last.get(customer) for customer in some]
    kept = found.take(customers).state()
    again = Languages.restored(kept, len(some))
    assert found.of(customers) == again.of(np.arange(len(some))) == expected
    assert json.loads(kept["languages"].tobytes()) == sorted({tag for tag in expected if tag is not None})
    assert again.of(np.array([-1, len(some)])) == [None, None]


@pytest.mark.parametrize(
    ("tags", "code"), [('["de"]', [1, 0]), ('["de"]', [-2, 0]), ('["de"]', [0]), ("[5]", [0, 0]), ('{"de": 0}', [0, 0])]
)
def test_languages_that_do_not_fit_are_refused(tags: str, code: list[int]) -> None:
    arrays = {"languages": np.frombuffer(tags.encode(), np.uint8), "language": np.array(code, np.int32)}
    with pytest.raises(DataError, match="languages"):
        Languages.restored(arrays, 2)


def test_a_language_that_is_no_text_is_refused_and_leaves_nobody() -> None:
    found = Customers.empty(SECRET, "b" * 64, 2)
    with pytest.raises(DataError, match="language: text or None expected, got int"):
        found.update_arrival("anna", T, language=5)  # type: ignore[arg-type]
    assert len(found) == 0


def test_a_language_is_kept_as_given_until_another_is_told(tmp_path: Path) -> None:
    found = Customers.empty(SECRET, "b" * 64, 2)
    for name, tags in {
        "anna": ["pt-BR", None],
        "bert": [None, "und"],
        "carl": [None, None],
        "dora": ["de", "\ud83d"],
    }.items():
        for hour, tag in enumerate(tags):
            found.update_arrival(name, T + hour, language=tag)
    found.save(tmp_path / "customers")
    for store in (found, Customers.load(tmp_path / "customers", SECRET)):
        who = store.codes(["dora", "anna", None, "bert", "carl", "nobody"])
        assert store.languages(who) == ["\ud83d", "pt-BR", None, "und", None, None]
    assert b'["pt-BR", "und", "\\ud83d"]' in (tmp_path / "customers").read_bytes()  # and no "de"


def test_style_is_read_off_one_contact_as_off_a_log(bundle: Path, returning_data: Path) -> None:
    """Also where the text tells no language, and its customer does."""
    log, schema = Log.load(returning_data), Bundle.open(bundle).schema
    found = returning.build(bundle, returning_data, None)
    arrivals, _ = customer_streams(log, schema.rows(log_columns(log)), style=True)
    assert arrivals.signals is not None
    differ = 0
    for i, one in enumerate(returning.contacts_of(log, range(200))):
        own = log.customer_language[log.contacts.customer[i]].as_py() if one["customer_id"] else None
        np.testing.assert_array_equal(style_of_contact(schema, one, found), arrivals.signals[i])
        told = {**one, "customer_language": own}
        np.testing.assert_array_equal(style_of_contact(schema, told), arrivals.signals[i])
        differ += not np.array_equal(style_of_contact(schema, one), arrivals.signals[i], equal_nan=True)
    assert differ > 0
    assert np.isnan(style_of_contact(schema, {})).all()
