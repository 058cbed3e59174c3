"""What becomes of the customers' store when another bundle takes its place."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from serve.customers import Customers
from serve.http.build import build_service
from serve.http.running import Running
from serve.http.service import Service
from serve.http.settings import Settings
from serve.matcher import Matcher
from serve.rebuild import rebuild
from serve.store.records import Feedback
from tests.serve.http.conftest import CONTACT
from twotower.clock import HOUR, parse_time

COMES = parse_time("2026-01-25T00:00:00Z")


@pytest.fixture
def service(whole_bundle: Path, customers: tuple[Path, Path], tmp_path: Path) -> Iterator[Service]:
    """Of whose customers anna was served by csa-01."""
    link = tmp_path / "served"
    link.symlink_to(whole_bundle)
    file, secret = customers
    settings = Settings(str(link), insecure=True, customers=str(file), secret=str(secret))
    made = build_service(settings, tmp_path / "journal")
    end(made, "c-1", "csa-01")
    yield made
    made.close()


def end(service: Service, contact_id: str, csa_id: str) -> None:
    """A hand-over of anna's ended, of a contact that was matched just before."""
    serving = service.serving
    seen = serving.matcher.read({**CONTACT, "contact_id": contact_id, "customer_id": "anna", "arrived_at": COMES})
    fact = {"contact_id": contact_id, "csa_id": csa_id, "assigned_at": COMES, "ended_at": COMES + HOUR}
    assert serving.learner.learn(Feedback.of({**fact, "resolved": True}), seen)


def swapped(service: Service, folder: Path, tmp_path: Path) -> Customers:
    """The customers after a service was set to another bundle."""
    running, other = Running(service, tmp_path / "journal"), tmp_path / "other"
    other.symlink_to(folder)
    other.replace(service.settings.bundle)
    running.look()
    assert service.serving.matcher.bundle.path == folder.resolve()
    found = service.serving.matcher.customers
    assert found is not None
    return found


def vectors(customers: Customers, bundle: str) -> list[str]:
    """By whom anna was served, of whom a matcher of a bundle reads vectors."""
    codes = {f"csa-{i:02}": i for i in range(12)}
    rows = customers.pairs(0, COMES + 2 * HOUR, codes, bundle).rows
    return [] if rows is None else [f"csa-{code:02}" for code in rows.csa.tolist()]


def test_a_rebuilt_roster_leaves_the_vectors(
    service: Service, data: Path, whole_bundle: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rebuilt = rebuild(whole_bundle, data / "csas.parquet", tmp_path / "rebuilt")
    found = swapped(service, tmp_path / "rebuilt", tmp_path)
    assert vectors(found, rebuilt.bundle) == ["csa-01"]
    end(service, "c-2", "csa-02")
    assert vectors(found, rebuilt.bundle) == ["csa-01", "csa-02"]
    assert not [one for one in caplog.records if "customers" in one.message]


def test_another_tower_begins_anew_and_keeps_all_else(
    service: Service, bundle_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    found, new = swapped(service, bundle_folder, tmp_path), Matcher.load(bundle_folder).bundle_id
    assert (found.bundle, vectors(found, new)) == (new, [])
    end(service, "c-2", "csa-02")
    assert vectors(found, new) == ["csa-02"]
    known = found.known_of("anna")
    assert known is not None
    assert sorted(one["csa_id"] for one in known["met"]) == ["csa-01", "csa-02"]
    assert [one.message for one in caplog.records if "put by" in one.message]


def test_a_bundle_that_is_refused_leaves_all(service: Service, tmp_path: Path) -> None:
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "manifest.json").write_text("{}")
    before = service.serving.matcher
    (tmp_path / "other").symlink_to(tmp_path / "bad")
    running = Running(service, tmp_path / "journal")
    (tmp_path / "other").replace(service.settings.bundle)
    running.look()
    assert service.serving.matcher is before
    assert before.customers is not None
    assert vectors(before.customers, before.bundle_id) == ["csa-01"]


def test_a_store_of_a_third_bundle_is_not_taken_for_that_of_a_rebuilt_one(
    service: Service, data: Path, whole_bundle: Path, tmp_path: Path
) -> None:
    before = service.serving.matcher
    assert before.customers is not None
    before.customers.adopt("third", None)
    rebuilt = rebuild(whole_bundle, data / "csas.parquet", tmp_path / "rebuilt")
    assert vectors(swapped(service, tmp_path / "rebuilt", tmp_path), rebuilt.bundle) == []
