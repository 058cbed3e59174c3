"""Another bundle that answers unheard: what it costs a request, what is written of it, and who can have it erased."""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from serve.http.service import Service
from serve.http.settings import Settings
from serve.http.shadow import WAITING, Shadow, compared, shadow_of
from serve.matcher import Matcher
from serve.store.shadows import shadows_since
from serve.store.tables import shadows
from tests.serve.http.conftest import CONTACT, Asking, order


@pytest.fixture
def link(whole_bundle: Path, tmp_path: Path) -> Path:
    """To the bundle that answers unheard."""
    made = tmp_path / "shadow"
    made.symlink_to(whole_bundle)
    return made


@pytest.fixture
def settings(settings: Settings, link: Path) -> Settings:
    return replace(settings, shadow=str(link))


@pytest.fixture
def shadow(service: Service, tmp_path: Path) -> Shadow:
    """Not begun; the service closes it."""
    made = shadow_of(service, tmp_path / "roster.journal")
    assert made is not None
    service.shadow = made
    return made


def rows(service: Service) -> list[Any]:
    assert service.store is not None
    assert service.store.flush_shadows()
    with service.store.engine.connect() as connection:
        return list(connection.execute(select(shadows).order_by(shadows.c.decision_id)).all())


def counted(service: Service, line: str) -> float:
    found = [one for one in service.metrics.text().decode().splitlines() if one.startswith(line + " ")]
    return float(found[0].split()[-1]) if found else 0.0


def test_what_it_would_have_answered_stands_beside_what_was(
    ask: Asking, service: Service, shadow: Shadow, whole_bundle: Path, bundle_folder: Path
) -> None:
    ask.post("/v1/roster", {"changes": [{"op": "leave", "csa_id": "csa-03"}]})
    shadow.start()
    given = [ask.post("/v1/match", {"contact": {**CONTACT, "contact_id": f"c-{i}"}, "k": 5}) for i in range(4)]
    assert shadow.idle(30)
    found = rows(service)
    assert [one.decision_id for one in found] == sorted(answer.json()["decision_id"] for answer in given)
    other = Matcher.load(whole_bundle)
    wanted = [one.csa_id for one in other.match(CONTACT, 6) if one.csa_id != "csa-03"][:5]
    served, shadowed = (Matcher.load(path).bundle_id for path in (bundle_folder, whole_bundle))
    for row, answer in zip(found, given, strict=True):
        assert [one[0] for one in json.loads(row.answered)] == wanted  # by the roster as it is now
        assert (row.served, row.shadow, row.error) == (served, shadowed, None)
        assert (row.same_first, row.overlap) == compared(order(answer), wanted)
        assert row.served_s > 0
        assert row.shadow_s > 0
    both = counted(service, 'twotower_shadow_total{outcome="same first"}')
    both += counted(service, 'twotower_shadow_total{outcome="other first"}')
    assert both == 4
    assert counted(service, "twotower_shadow_loaded") == 1
    assert service.store is not None
    service.store.log.flush()
    told = shadows_since(service.store.engine, shadowed, served, 0)
    assert [(one.channel, one.language) for one in told] == [("chat", "en")] * 4
    assert shadows_since(service.store.engine, served, shadowed, 0) == []


def test_answers_are_the_same_with_it_and_without(ask: Asking, service: Service, shadow: Shadow) -> None:
    def asked() -> list[Any]:
        bodies = [{"contact": {**CONTACT, "intent_text": text}, "k": 7} for text in TEXTS]
        answers = [ask.post("/v1/match", body).json() for body in bodies]
        return [(one["model"], one["candidates"]) for one in answers]

    service.shadow = None
    alone = asked()
    service.shadow = shadow
    shadow.start()
    assert asked() == alone
    assert shadow.idle(30)


TEXTS = ("where is my refund", "cancel my card", "the invoice is wrong", "password")


def test_one_that_hangs_delays_nobody_and_is_dropped_from(
    ask: Asking, service: Service, shadow: Shadow, monkeypatch: pytest.MonkeyPatch, whole_bundle: Path
) -> None:
    go_on, whole = threading.Event(), Matcher.match

    def hanging(self: Matcher, *args: Any, **options: Any) -> Any:
        if threading.current_thread().name == "shadow" and self.bundle.path == whole_bundle.resolve():
            assert go_on.wait(60)
        return whole(self, *args, **options)

    shadow.start()
    ask.post("/v1/match", {"contact": CONTACT})
    assert shadow.idle(30)  # it is loaded
    monkeypatch.setattr(Matcher, "match", hanging)
    for _ in range(WAITING + 20):
        shadow.offer("d", CONTACT, 1, None, {}, service.serving.guarded.match(CONTACT, 1))
    begun = time.monotonic()
    answer = ask.post("/v1/match", {"contact": CONTACT})
    assert answer.json()["fallback"] is None
    assert time.monotonic() - begun < 5
    assert counted(service, 'twotower_shadow_total{outcome="dropped"}') >= 20
    go_on.set()


def test_one_that_raises_is_counted_and_no_answer_fails(
    ask: Asking, service: Service, shadow: Shadow, monkeypatch: pytest.MonkeyPatch
) -> None:
    shadow.start()
    assert ask.post("/v1/match", {"contact": CONTACT}).status_code == 200
    assert shadow.idle(30)
    whole = Matcher.match

    def broken(self: Matcher, *args: Any, **options: Any) -> Any:
        if threading.current_thread().name == "shadow":
            raise RuntimeError("my card is 4111 1111 1111 1111")
        return whole(self, *args, **options)

    monkeypatch.setattr(Matcher, "match", broken)
    assert ask.post("/v1/match", {"contact": {**CONTACT, "contact_id": "c-9"}}).json()["fallback"] is None
    assert shadow.idle(30)
    [row] = [one for one in rows(service) if one.contact_id == "c-9"]
    assert (row.error, row.answered, row.same_first) == ("RuntimeError", None, None)
    assert counted(service, 'twotower_shadow_total{outcome="error"}') == 1


def test_a_customer_who_is_erased_leaves_nothing(ask: Asking, service: Service, shadow: Shadow) -> None:
    shadow.start()
    for i, who in enumerate(("anna", "ben", "anna")):
        ask.post("/v1/match", {"contact": {**CONTACT, "contact_id": f"c-{i}", "customer_id": who}})
    assert shadow.idle(30)
    assert len(rows(service)) == 3
    assert service.store is not None
    service.store.log.flush()
    assert ask.post("/v1/erase", {"customer_id": "anna"}).json()["rows"]["shadows"] == 2
    assert [one.contact_id for one in rows(service)] == ["c-1"]


def test_who_is_erased_while_they_wait_is_not_written(ask: Asking, service: Service, shadow: Shadow) -> None:
    ask.post("/v1/match", {"contact": {**CONTACT, "contact_id": "c-1", "customer_id": "anna"}})
    assert service.store is not None
    service.store.log.flush()
    ask.post("/v1/erase", {"customer_id": "anna"})
    shadow.start()
    assert shadow.idle(30)
    assert rows(service) == []


def test_it_follows_its_link_and_a_bad_bundle_compares_nothing(
    ask: Asking, service: Service, shadow: Shadow, link: Path, whole_bundle: Path, bundle_folder: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr("serve.http.shadow.LOOK_S", 0.05)

    def to(folder: Path) -> None:
        other = tmp_path / "other"
        other.symlink_to(folder)
        other.replace(link)

    def until(told: Callable[[], bool]) -> None:
        end = time.monotonic() + 30
        while not told():
            assert time.monotonic() < end
            ask.post("/v1/match", {"contact": CONTACT})
            time.sleep(0.05)

    shadow.start()
    until(lambda: len(rows(service)) > 0)
    bad = shutil.copytree(whole_bundle, tmp_path / "bad")
    (bad / "history.faiss").unlink()
    to(bad)
    until(lambda: counted(service, 'twotower_shadow_total{outcome="none"}') > 0)
    assert ask.post("/v1/match", {"contact": CONTACT}).json()["fallback"] is None
    to(bundle_folder)  # the one that is served: there is nothing to compare
    until(lambda: counted(service, "twotower_shadow_loaded") == 1)
    assert shadow.idle(30)
    before = len(rows(service))
    ask.post("/v1/match", {"contact": CONTACT})
    assert shadow.idle(30)
    assert len(rows(service)) == before


def test_rankings_are_compared() -> None:
    assert compared(["a", "b"], ["a", "c"]) == (True, 0.5)
    assert compared(["a", "b", "c", "d"], ["b", "a"]) == (False, 0.5)
    assert compared([], []) == (True, 1.0)
    assert compared(["a"], []) == (False, 0.0)


def test_without_one_there_is_none(service: Service, settings: Settings, tmp_path: Path) -> None:
    service.settings = replace(settings, shadow=None)
    assert shadow_of(service, tmp_path / "roster.journal") is None
