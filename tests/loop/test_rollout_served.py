"""A rollout and a real service: a change of the alias is served within seconds, and every answer is one bundle's."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

from loop.rollout.scraped import read_metrics
from serve.matcher import Matcher
from serve.store.store import Store
from serve.store.tables import decisions, shadows
from tests.loop import rolling
from tests.loop.rolling import SPEC, Faked, Remembered, Rolled
from tests.serve.http.server import Served
from tests.serve.store import told

CONTACT = {
    "intent_text": "where is my refund",
    "language": "en",
    "channel": "chat",
    "arrived_at": 1_769_904_000_000_000,
}


def test_an_alias_that_moves_is_served_within_seconds_and_no_answer_is_of_two_bundles(tmp_path: Path) -> None:
    registry = rolling.registry_of(tmp_path)
    rolled = Rolled(tmp_path, Faked(), client=Remembered(registry))
    state = rolled.start(SPEC, shadow_link=tmp_path / "unheard")
    who = {one.digest: Matcher.load(one.path) for one in (state.champion, state.challenger)}
    own = {digest: told_by(matcher.match(CONTACT, 8)) for digest, matcher in who.items()}
    assert own[state.champion.digest] != own[state.challenger.digest]
    store = f"sqlite:///{tmp_path / 'store.db'}"
    options = ("--store", store, "--no-text", "--shadow", str(tmp_path / "unheard"))
    answers: list[Any] = []
    with Served(tmp_path / "served", tmp_path / "log", *options) as served:
        ended = threading.Event()

        def ask() -> None:
            while not ended.is_set():
                answers.append((time.monotonic(), *served.post("/v1/match", {"contact": CONTACT, "k": 8})))
                time.sleep(0.02)

        threads = [threading.Thread(target=ask) for _ in range(2)]
        for thread in threads:
            thread.start()

        def until(digest: str) -> float:
            begun = time.monotonic()
            while time.monotonic() < begun + 60:
                if answers and answers[-1][2].get("model") == digest:
                    return time.monotonic() - begun
                time.sleep(0.02)
            raise AssertionError(served.log.read_text())

        until(state.champion.digest)
        rolled.registry.promote(2)
        assert rolled.step().stage == "full"
        forth = until(state.challenger.digest)
        rolled.rollout.stop(rolled.now, "enough")
        back = until(state.champion.digest)
        ended.set()
        for thread in threads:
            thread.join()
        found = read_metrics(served.get("/metrics")[1])
    assert found.bundles == {state.champion.digest}
    assert max(forth, back) < 30  # two seconds until it looks, and what loading takes on a busy machine
    assert {answer["model"] for _, _, answer in answers} == set(own)
    for _, status, answer in answers:
        assert (status, answer["fallback"]) == (200, None)
        assert told_by(answer["candidates"]) == own[answer["model"]]
    with Store.open(store, text="none") as opened:
        logged = {row["decision_id"]: row["model"] for row in told.rows(opened, decisions)}
        compared = told.rows(opened, shadows)
    assert all(logged[answer["decision_id"]] == answer["model"] for _, _, answer in answers)
    assert any(row["shadow"] == state.challenger.digest for row in compared)
    assert all(row["served"] == logged[row["decision_id"]] != row["shadow"] for row in compared)


def told_by(candidates: Any) -> list[tuple[str, float]]:
    """Who, with which score."""
    pairs = [(one["csa_id"], one["score"]) if isinstance(one, dict) else (one.csa_id, one.score) for one in candidates]
    return [(csa_id, round(score, 5)) for csa_id, score in pairs]
