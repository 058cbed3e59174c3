"""Matching with a store of customers: as from the tables, but for strangers, who are matched as without one."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from serve import snapshot as snapshots
from serve.customers import Customers
from serve.match_file import match_file
from serve.matcher import Matcher, MatchError
from serve.rolling import RollingMatcher
from tests.serve import fakes, returning
from tests.serve.graphs import MEMORY
from tests.serve.returning import SECRET, T
from tests.serve.returning import bundle as bundle
from tests.serve.returning import file as file
from tests.serve.returning import returning_data as returning_data
from twotower.errors import DataError
from twotower.scoring.join import ContactVectors, Rank
from twotower.tables.log import Log

RANKS: tuple[Rank, ...] = ("success", "handled")
HOUR = fakes.days(1 / 24)


@pytest.fixture
def customers(file: Path) -> Customers:
    return Customers.load(file, SECRET)


@pytest.fixture
def known(bundle: Path, customers: Customers) -> Matcher:
    return Matcher.load(bundle, customers=customers)


@pytest.fixture
def plain(bundle: Path) -> Matcher:
    return Matcher.load(bundle)


@pytest.fixture
def late(returning_data: Path) -> list[dict[str, Any]]:
    """Contacts of the ten days after the store was built."""
    log = Log.load(returning_data)
    return returning.contacts_of(log, np.flatnonzero(log.contacts.arrived_at >= T))


def first_of(late: list[dict[str, Any]], customer_id: str) -> dict[str, Any]:
    return next(one for one in late if one["customer_id"] == customer_id)


@pytest.mark.parametrize("rank", RANKS)
def test_a_file_is_matched_as_from_the_tables_the_store_was_built_of(
    bundle: Path, returning_data: Path, customers: Customers, tmp_path: Path, rank: Rank
) -> None:
    """To the bit, until the next snapshot of the CSAs; customers' languages matter."""
    moment = pa.scalar(T, pa.timestamp("us", "UTC"))
    table = pq.read_table(returning_data / "contacts.parquet")
    day = pc.and_(
        pc.greater_equal(table["arrived_at"], moment),
        pc.less(table["arrived_at"], pa.scalar(T + fakes.days(1), pa.timestamp("us", "UTC"))),
    )
    pq.write_table(table.filter(day), tmp_path / "in.parquet")
    tables = returning.cut(returning.tables())
    before = fakes.write_tables(tables, tmp_path / "before")
    tables["customers"] = tables["customers"].drop_columns(["language"])
    silent = returning.build(bundle, fakes.write_tables(tables, tmp_path / "without"))
    names = ("data", "customers", "nobody", "silent")
    contacts, outs = tmp_path / "in.parquet", [tmp_path / name for name in names]
    match_file(bundle, contacts, outs[0], before, rank, 20)
    match_file(bundle, contacts, outs[1], None, rank, 20, customers=customers)
    match_file(bundle, contacts, outs[2], None, rank, 20)
    match_file(bundle, contacts, outs[3], None, rank, 20, customers=silent)
    data, stored, nobody, without = (pq.read_table(out) for out in outs)
    assert len(data) > 100
    assert stored.equals(data)
    assert not stored.equals(nobody)
    assert not stored.equals(without)


def test_later_contacts_are_encoded_and_paired_as_from_the_tables(
    returning_data: Path, known: Matcher, plain: Matcher, late: list[dict[str, Any]]
) -> None:
    """After the next snapshot the CSAs' vectors are the bundle's own; what is known of customers is the same."""
    log = Log.load(returning_data, T)
    rolling, codes = RollingMatcher(plain, log), np.arange(len(plain.snapshot.ids))
    place = {customer_id: code for code, customer_id in enumerate(log.customer_ids.to_pylist())}
    met = 0
    for one in late:
        who = np.array([place.get(one["customer_id"], -1)], np.int32)
        past = rolling.customers.at(who, np.array([one["arrived_at"]]))
        since = log.customer_since[who[0]] if who[0] >= 0 else -1
        language = log.customer_language[who[0]].as_py() if who[0] >= 0 else None
        told = {**one, "customer_since": int(since) if since > 0 else None, "customer_language": language}
        encoded = plain.vectors(plain.bundle.contact_encoder.encode_one(told, past), [one["arrived_at"]])
        vectors = known.encode({k: [v] for k, v in one.items()}, [one["customer_id"]], [one["arrived_at"]])
        for name in ("profile", "memory", "level", "base"):
            np.testing.assert_array_equal(getattr(vectors, name), getattr(encoded, name))
        for rank in RANKS:
            mine = known.rank(vectors, 20, codes, rank)
            scored = rolling.score(replace(encoded, customer=who), codes, rank)
            parts = [i for i, name in enumerate(scored.names) if name.startswith("pair")]
            np.testing.assert_array_equal(mine.scored.contributions[:, parts], scored.contributions[:, parts])
            met += int(np.ptp(scored.contributions[:, parts]) > 0)
    assert met > 100


def test_strangers_are_matched_as_without_a_store(known: Matcher, plain: Matcher, late: list[dict[str, Any]]) -> None:
    """Alone and beside those who are known, whom the store does change."""
    strangers = [{**late[i], "customer_id": name} for i, name in enumerate((None, "nobody we know", None, ""))]
    for one in strangers:
        assert known.match(one, k=5) == plain.match(one, k=5)
    friend = first_of(late, "customer-3")
    company = [strangers[0], friend, *strangers[1:]]
    with_store, without = (matcher.match_batch(company, k=5) for matcher in (known, plain))
    assert [with_store[i] == without[i] for i in range(5)] == [True, False, True, True, True]


def test_a_batch_is_its_contacts_one_by_one(known: Matcher, late: list[dict[str, Any]]) -> None:
    some = late[:12]
    assert known.match_batch(some, k=6) == [known.match(one, k=6) for one in some]
    assert known.match_batch(some, k=6, at=T + fakes.days(11)) == [
        known.match(one, k=6, at=T + fakes.days(11)) for one in some
    ]


def test_an_empty_store_changes_nothing(bundle: Path, plain: Matcher, late: list[dict[str, Any]]) -> None:
    empty = Matcher.load(bundle, customers=Customers.empty(SECRET, plain.bundle.manifest.id, MEMORY))
    assert empty.match_batch(late[:6]) == plain.match_batch(late[:6])
    assert empty.match(late[1]) == plain.match(late[1])


def test_a_contact_that_does_not_say_when_it_comes_sees_all_that_was_told(
    known: Matcher, late: list[dict[str, Any]]
) -> None:
    """Not as of the end of the bundle's data, when nothing would be known of who came since."""
    one = {**first_of(late, "customer-3"), "arrived_at": None}
    comes = T + fakes.days(30)
    for moment in (comes - HOUR, comes):
        known.customers.update_arrival("customer-3", moment)  # type: ignore[union-attr]
    assert known.latest == comes + 1
    assert known.match(one) == known.match(one, at=comes + 1)
    assert known.match(one) != known.match(one, at=T)
    known.customers.update_handover("customer-3", "csa-01", comes + HOUR, True)  # type: ignore[union-attr]
    assert known.latest == comes + HOUR + 1


def test_since_when_somebody_is_a_customer_comes_from_the_store_unless_it_is_given(
    known: Matcher, late: list[dict[str, Any]]
) -> None:
    """customer-3 is one since 43 days before T."""
    one = first_of(late, "customer-3")
    assert known.match(one) == known.match({**one, "customer_since": T - fakes.days(43)})
    assert known.match(one) != known.match({**one, "customer_since": T - fakes.days(3000)})
    assert known.match_batch([one]) == known.match_batch([{**one, "customer_since": T - fakes.days(43)}])


def test_a_customers_language_comes_from_the_store_unless_it_is_given(
    known: Matcher, plain: Matcher, late: list[dict[str, Any]]
) -> None:
    """That of customer-3 is pt-BR; theirs is a contact in English, and one that tells no language."""
    english = {**first_of(late, "customer-3"), "language": "en"}
    for one in (english, {**english, "language": None, "intent_text": "12?", "transcript": None}):
        found, strange = known.match(one), plain.match({**one, "customer_language": "en"})
        assert found == known.match({**one, "customer_language": "PT"})
        assert found != known.match({**one, "customer_language": "en"})
        for tag in (None, "pt", "en"):
            told = {**one, "customer_language": tag}
            assert known.match_batch([told, one]) == [known.match(told), found]
        # Without a store, too, what is given is read.
        assert strange != plain.match({**one, "customer_language": "pt"})


def test_columns_of_arrow_with_gaps_are_filled_from_the_store(known: Matcher, late: list[dict[str, Any]]) -> None:
    some = [one for one in late if one["customer_id"] in ("customer-0", "customer-3", None)][:9]
    ids, arrived = ([one[name] for one in some] for name in ("customer_id", "arrived_at"))
    lists = {name: [one[name] for one in some] for name in some[0]}
    tags, since = ["fr", *[None] * 8], [float(T - fakes.days(9)), *[np.nan] * 8]
    given = {"customer_language": pa.array(tags, pa.string()), "customer_since": np.array(since)}
    mine = known.encode({**lists, **given}, ids, arrived)
    own = {"customer-0": ("de", T - fakes.days(40)), "customer-3": ("pt-BR", T - fakes.days(43)), None: (None, None)}
    filled = [(tags[0], T - fakes.days(9)), *(own[name] for name in ids[1:])]
    told = {"customer_language": [a for a, _ in filled], "customer_since": [b for _, b in filled]}
    np.testing.assert_array_equal(mine.profile, known.encode({**lists, **told}, ids, arrived).profile)
    assert not np.array_equal(mine.profile, known.encode(lists, ids, arrived).profile)


def test_rows_rolled_forward_read_customers_languages_as_the_rolling_matcher_does(
    bundle: Path, returning_data: Path, plain: Matcher, tmp_path: Path
) -> None:
    log = Log.load(returning_data)
    own = np.array([own not in (None, "und") for own in log.customer_language.to_pylist()])[log.contacts.customer]
    some = np.flatnonzero(own & (log.contacts.customer >= 0) & (log.contacts.arrived_at >= T))[:40]
    table = pq.read_table(returning_data / "contacts.parquet")
    ids = log.contacts.ids.take(pa.array(some))
    pq.write_table(table.filter(pc.is_in(table["contact_id"], ids)), tmp_path / "in.parquet")
    match_file(bundle, tmp_path / "in.parquet", tmp_path / "out", returning_data, "handled", 1)
    scores = RollingMatcher(plain, log).scores(some, "handled")
    rows = {row["contact_id"]: row["score"] for row in pq.read_table(tmp_path / "out").to_pylist()}
    assert rows == dict(zip(ids.to_pylist(), scores.max(axis=1), strict=True))


def test_a_contact_may_be_told_before_it_is_matched_and_matched_again(
    known: Matcher, late: list[dict[str, Any]]
) -> None:
    one = first_of(late, "customer-3")
    later = one["arrived_at"] + HOUR
    first, waiting = known.match(one), known.match(one, at=later)
    assert known.customers is not None
    known.customers.update_arrival("customer-3", one["arrived_at"], np.ones(7, np.float32))
    assert known.match(one) == first
    assert known.match(one, at=later) == waiting
    known.customers.update_arrival("customer-3", later, np.ones(7, np.float32))
    assert known.match({**one, "arrived_at": later + 1}) != known.match({**one, "arrived_at": later})


def test_what_became_known_after_an_arrival_does_not_count_for_it(
    known: Matcher, plain: Matcher, late: list[dict[str, Any]]
) -> None:
    one = {**first_of(late, "customer-3"), "customer_id": "anna"}
    vectors = plain.vectors(plain.bundle.contact_encoder.encode_one(one), [one["arrived_at"]])
    assert known.customers is not None
    known.customers.update_arrival("anna", one["arrived_at"] + 1)
    known.customers.update_handover("anna", "csa-03", one["arrived_at"] + 1, True, vectors, plain.bundle.manifest.id)
    assert known.match(one, k=20) == plain.match(one, k=20)
    assert known.match(one, k=20, at=one["arrived_at"] + 2) != plain.match(one, k=20, at=one["arrived_at"] + 2)


@pytest.mark.parametrize("scan", [6_000_000, 0], ids=["surrogate", "profiles"])
@pytest.mark.parametrize("selectivity", [0.0, 1.1], ids=["wide mask", "tight mask"])
def test_who_served_a_customer_before_is_scored_whatever_the_searches_find(
    bundle: Path, plain: Matcher, late: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, scan: int,
    selectivity: float,
) -> None:  # fmt: skip
    """Many good hand-overs to a CSA whom the searches, which nominate a single one, do not find."""
    monkeypatch.setattr(snapshots, "SCANNED_COMPONENTS", scan)
    monkeypatch.setattr(snapshots, "SELECTIVITY", selectivity)
    ranked = [c.csa_id for c in plain.match(late[0], k=20, rank="handled")]
    monkeypatch.setattr(snapshots, "EXACT_CSAS", 0)
    for name in ("FROM_SURROGATE", "TIGHT", "FROM_HISTORY_ROWS"):
        monkeypatch.setattr(snapshots, name, 1)
    one, narrow = {**late[0], "customer_id": "anna"}, Matcher.load(bundle)
    vectors = narrow.vectors(narrow.bundle.contact_encoder.encode_one(one), [one["arrived_at"]])
    found = narrow.snapshot.candidates(vectors, "handled", 1)
    friend = next(csa_id for csa_id in ranked if narrow.snapshot.codes[csa_id] not in found)
    customers = Customers.empty(SECRET, plain.bundle.manifest.id, MEMORY)
    for i in range(40):
        customers.update_handover("anna", friend, T - i, True, vectors, plain.bundle.manifest.id)
    known = Matcher.load(bundle, customers=customers)
    assert known.match(one, k=1, rank="handled")[0].csa_id == friend
    others = [csa_id for csa_id in ranked if csa_id != friend][:6]
    assert known.match(one, k=1, rank="handled", eligible=[*others, friend])[0].csa_id == friend
    assert {c.csa_id for c in known.match(one, k=20, rank="handled", eligible=others)} == set(others)


def test_a_departed_csa_who_served_a_customer_is_no_candidate(
    returning_data: Path, tmp_path: Path, late: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """csa-00 left on day 22; the run's window ends on day 24."""
    monkeypatch.setattr(snapshots, "EXACT_CSAS", 0)
    run = fakes.write_run(returning_data, tmp_path / "run", until=fakes.until_us(24))
    matcher = Matcher.load(fakes.fake_bundle(run, tmp_path / "bundle"))
    customers = Customers.empty(SECRET, matcher.bundle.manifest.id, MEMORY)
    for name in ("csa-00", "somebody of another roster"):
        customers.update_handover("anna", name, T, True)
    one = {**late[0], "customer_id": "anna", "arrived_at": fakes.until_us(25)}
    found = Matcher(matcher.bundle, customers).match(one, k=100)
    assert [c.csa_id for c in found] == [c.csa_id for c in matcher.match(one, k=100)]
    assert "csa-00" not in [c.csa_id for c in found]


def test_a_store_of_another_bundle_keeps_all_but_the_vectors(
    bundle: Path, file: Path, known: Matcher, late: list[dict[str, Any]], caplog: pytest.LogCaptureFixture
) -> None:
    """Encoded with the same past, paired as a stranger, and one line says so."""
    customers = Customers.load(file, SECRET)
    customers.bundle = "f" * 64
    caplog.clear()
    other = Matcher.load(bundle, customers=customers)
    [line] = caplog.messages
    assert line.startswith("customers: their hand-overs were encoded by bundle ffffffffffff and do not count")
    assert "\n" not in line
    one = first_of(late, "customer-3")
    columns, codes = {k: [v] for k, v in one.items()}, np.arange(len(other.snapshot.ids))
    mine, theirs = (m.encode(columns, [one["customer_id"]], [one["arrived_at"]]) for m in (other, known))
    np.testing.assert_array_equal(mine.level, theirs.level)
    stranger: ContactVectors = replace(mine, customer=np.array([-1], np.int32))
    scored, alone = (other.rank(vectors, 20, codes, "handled").scored for vectors in (mine, stranger))
    np.testing.assert_array_equal(scored.contributions, alone.contributions)
    assert not np.array_equal(scored.contributions, known.rank(theirs, 20, codes, "handled").scored.contributions)


def test_the_stores_own_bundle_is_not_spoken_of(
    bundle: Path, customers: Customers, caplog: pytest.LogCaptureFixture
) -> None:
    Matcher.load(bundle, customers=customers)
    assert caplog.messages == []


def test_a_contact_from_before_what_the_store_tells_is_refused_by_row(
    bundle: Path, returning_data: Path, customers: Customers, tmp_path: Path
) -> None:
    table = pq.read_table(returning_data / "contacts.parquet")
    names = table["customer_id"].to_pylist()
    last = len(names) - 1 - names[::-1].index("customer-3")
    rows = [names.index(None), len(names) - 1, names.index("customer-3"), last]
    pq.write_table(table.take(rows), tmp_path / "in.parquet")
    with pytest.raises(DataError, match=r"in\.parquet, row 2, column arrived_at: earlier than .* 2026-01-21T00:00:00Z"):
        match_file(bundle, tmp_path / "in.parquet", tmp_path / "out.parquet", customers=customers)
    assert not (tmp_path / "out.parquet").exists()
    pq.write_table(table.take([rows[0], rows[1], rows[3]]), tmp_path / "in.parquet")
    assert match_file(bundle, tmp_path / "in.parquet", tmp_path / "out.parquet", customers=customers).contacts == 3


def test_tables_and_a_store_together_are_refused(
    bundle: Path, returning_data: Path, customers: Customers, tmp_path: Path
) -> None:
    contacts = returning_data / "contacts.parquet"
    with pytest.raises(MatchError, match=r"--customers with --data: .* give one of the two"):
        match_file(bundle, contacts, tmp_path / "out.parquet", returning_data, customers=customers)


def test_the_routers_process_stays_light(bundle: Path, file: Path) -> None:
    program = (
        "import json, sys\n"
        "from serve.customers import Customers\n"
        "from serve.matcher import Matcher\n"
        f"found = Customers.load({str(file)!r}, {SECRET!r})\n"
        f"matcher = Matcher.load({str(bundle)!r}, customers=found)\n"
        f"matcher.match({{'intent_text': 'refund', 'customer_id': 'customer-3', 'arrived_at': {T + HOUR}}})\n"
        f"found.update_arrival('customer-3', {T + HOUR})\n"
        "import serve.customers_build, serve.customers_verb\n"
        "heavy = ('torch', 'lightning', 'transformers', 'numba', 'pandera', 'scipy')\n"
        "print(json.dumps([name for name in heavy if name in sys.modules]))\n"
    )
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []
