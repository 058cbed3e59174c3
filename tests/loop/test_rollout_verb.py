"""The verb, the daemon's clock, and guardrails that need no statistics."""

from __future__ import annotations

import argparse
import http.server
import json
import socket
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from loop.registry.registry import CHALLENGER, Busy
from loop.rollout import verb
from loop.rollout.daemon import keep
from loop.rollout.page import PAGE
from loop.rollout.scraped import Scraped, Unreachable, read_metrics, scraper
from loop.rollout.spec import CanarySpec, Least, RolloutSpec, TechnicalSpec
from loop.rollout.state import STATE, Counted
from loop.rollout.technical import counted, harm
from serve.http.metrics import Metrics
from tests.loop import rolling
from tests.loop.rolling import SPEC
from twotower.cli import Report
from twotower.clock import HOUR, SECOND
from twotower.errors import ConfigError, DataError

ONE, OTHER = "1" * 64, "2" * 64


def asked(folder: Path, *words: str) -> Report:
    parser = argparse.ArgumentParser(exit_on_error=False)
    verb.configure(parser)
    return verb.run(parser.parse_args([*words, "--registry", str(folder / "registry"), "--work", str(folder / "work")]))


def test_the_verb(registered: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TWOTOWER_STORE", raising=False)
    folder = rolling.copied(registered, tmp_path)
    assert asked(folder, "status").data == {"stage": None}
    link, unheard = folder / "served", folder / "unheard"
    config = Path(__file__).parents[2] / "configs" / "rollout.yaml"
    begun = asked(folder, "start", "--link", str(link), "--shadow-link", str(unheard), "--config", str(config))
    assert (begun.ok, begun.data["stage"]) == (True, "shadow")
    assert (link.resolve().name, unheard.resolve().name) == (
        begun.data["champion"]["digest"], begun.data["challenger"]["digest"],
    )  # fmt: skip
    with pytest.raises(ConfigError, match="nothing tells what becomes of contacts; give --feedback"):
        asked(folder, "step")
    (folder / "tables").mkdir()
    stepped = asked(folder, "step", "--data", str(folder / "tables"))
    assert stepped.data["stage"] == "shadow"
    assert "stands in the store" in stepped.data["log"][-1]["said"]
    assert "Shadow" in asked(folder, "status").text
    stopped = asked(folder, "stop", "--why", "holiday")
    assert (stopped.ok, stopped.data["stage"], stopped.data["why"]) == (True, "stopped", "holiday")
    assert unheard.resolve().name == begun.data["champion"]["digest"]
    assert "Stopped" in (folder / "work" / PAGE).read_text()
    json.dumps(stopped.data)
    for wrong, said in (
        (["start"], "--link is missing"), (["step", "--why", "x"], "--why does not belong to it"),
        (["run", "--every", "0", "--data", str(folder / "tables")], "more than 0 s expected"),
    ):  # fmt: skip
        with pytest.raises(ConfigError, match=said):
            asked(folder, *wrong)


def test_who_was_taken_back_is_exit_status_one(roll: Any) -> None:
    rolled = roll(rolling.Faked(unheard=replace(rolling.UNHEARD, errors=100)))
    rolled.start()
    state = rolled.step(0.1)
    assert state.stage == "rolled back"
    parser = argparse.ArgumentParser()
    verb.configure(parser)
    report = verb.run(parser.parse_args(["status", "--work", str(rolled.folder / "rollout")]))
    assert not report.ok
    assert report.data["why"] == "it could not answer 33.3% of contacts"


def test_a_state_that_is_none_is_one_line(roll: Any) -> None:
    rolled = roll()
    rolled.start()
    path = rolled.folder / "rollout" / STATE
    path.write_text(path.read_text()[:-20])
    with pytest.raises(DataError, match="is no rollout's state"):
        rolled.step()


def test_the_daemon_steps_at_the_edges_of_blocks(roll: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    rolled = roll()
    with pytest.raises(ConfigError, match="no rollout was begun"):
        keep(rolled.rollout, 5.0, print)
    rolled.start(SPEC.model_copy(update={"shadow": None}))
    said: list[str] = []
    pauses: list[float] = []
    edges: set[float] = set()

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        rolled.now += int(seconds * SECOND)
        if seconds != 7200.0:
            edges.add((rolled.now % (4 * HOUR)) / SECOND)
        if len(pauses) == 30:
            raise Busy("enough")

    failed = iter([DataError("the store is away"), DataError("the store is away")])
    step = rolled.rollout.step

    def once(now: int) -> Any:
        error = next(failed, None) if len(pauses) > 3 else None
        if error is not None:
            raise error
        return step(now)

    monkeypatch.setattr(rolled.rollout, "step", once)
    with pytest.raises(Busy):
        keep(rolled.rollout, 7200.0, said.append, clock=lambda: rolled.now, sleep=sleep)
    assert max(pauses) == 7200.0
    begins = (rolled.rollout.state.since // HOUR + 1) * HOUR % (4 * HOUR) / SECOND
    assert edges == {begins + 0.05}
    assert said.count("not done, tried again: the store is away") == 1


def test_nothing_that_a_step_raises_ends_the_daemon(roll: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """It alone takes a challenger back. Of a defect no message is said: it may hold what a customer wrote."""
    rolled = roll(rolling.Faked(rolling.BAD))
    rolled.start(SPEC.model_copy(update={"shadow": None}))
    step, said, failed = rolled.rollout.step, [], iter([KeyError("my card is 4111"), RuntimeError("x")] * 2)

    def once(now: int) -> Any:
        error = next(failed, None)
        if error is not None:
            raise error
        return step(now)

    def sleep(seconds: float) -> None:
        rolled.now += int(seconds * SECOND)

    monkeypatch.setattr(rolled.rollout, "step", once)
    state = keep(rolled.rollout, 8 * 3600.0, said.append, clock=lambda: rolled.now, sleep=sleep)
    assert state.stage == "rolled back"
    assert [line.split(" at ")[0] for line in said[:2]] == [
        f"not done, tried again: a defect ({kind}" for kind in ("KeyError", "RuntimeError")
    ]
    assert "4111" not in "".join(said)


def test_a_defect_of_the_judgement_holds_up_no_technical_guardrail(roll: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    rolled = roll(scrape=lambda: Scraped(frozenset({rolled.registry.version(1).digest}), 10.0, 0.0))

    def singular(*_: Any) -> None:
        raise ArithmeticError("singular")

    monkeypatch.setattr(rolled.contacts, "look", singular)
    rolled.start(SPEC.model_copy(update={"shadow": None}))
    while rolled.served != 2:
        state = rolled.step(4.0)
    assert "a defect (ArithmeticError at test_rollout_verb.py" in state.judged["refused"][0]
    rolled.step(0.01)
    assert "is not served" in str(rolled.step(0.05).why)


def test_the_daemon_ends_with_the_rollout(roll: Any) -> None:
    rolled = roll(rolling.Faked(rolling.BAD))
    rolled.start(SPEC.model_copy(update={"shadow": None}))
    shown: list[str] = []

    def sleep(seconds: float) -> None:
        rolled.now += int(seconds * SECOND)

    state = keep(rolled.rollout, 8 * 3600.0, print, lambda one: shown.append(one.stage), lambda: rolled.now, sleep)
    assert state.stage == shown[-1] == "rolled back"


def figures(bundle: str, matches: int, fallbacks: int) -> str:
    """As a service tells them."""
    made = Metrics()
    made.serves(ONE)
    made.serves(bundle)
    for _ in range(matches):
        made.candidates.observe(3)
    made.fallbacks.labels("late").inc(fallbacks)
    return made.text().decode()


def test_figures_are_read_as_a_service_tells_them() -> None:
    assert read_metrics(figures(OTHER, 7, 2)) == Scraped(frozenset({OTHER}), 7.0, 2.0)
    for text in ("", "nothing of the kind", "twotower_candidates_count 3\n"):
        with pytest.raises(Unreachable):
            read_metrics(text)


def _answers(server: socket.socket, answer: bytes) -> None:
    there, _ = server.accept()
    with there:
        there.recv(4096)
        there.sendall(answer)


def test_figures_come_with_a_token() -> None:
    seen: list[Any] = []

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(self.headers.get("Authorization"))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(figures(OTHER, 1, 0).encode())

        def log_message(self, *_: Any) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}/metrics"
        assert scraper(url, "secret")().matches == 1
        thread.join()
    with pytest.raises(Unreachable, match="cannot be read"):
        scraper(url, None)()
    for answer in (b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\ntwoto", b"what?\r\n\r\n"):  # cut off; no HTTP
        with socket.create_server(("127.0.0.1", 0)) as server:
            thread = threading.Thread(target=_answers, args=(server, answer))
            thread.start()
            with pytest.raises(Unreachable, match="cannot be read"):
                scraper(f"http://127.0.0.1:{server.getsockname()[1]}/metrics", None)()
            thread.join()
    assert seen == ["Bearer secret"]
    with pytest.raises(ConfigError, match="a URL such as"):
        scraper("metrics.txt", None)


def test_what_is_counted_is_the_challengers() -> None:
    def look(before: Counted, bundle: str, matches: float, fallbacks: float, wanted: str, s: int) -> Counted:
        return counted(before, Scraped(frozenset({bundle}), matches, fallbacks), wanted, OTHER, s * SECOND)

    seen = look(Counted(), ONE, 100, 50, ONE, 10)
    seen = look(seen, ONE, 200, 100, OTHER, 20)  # to be served now, and not yet
    seen = look(seen, OTHER, 210, 105, OTHER, 30)
    assert (seen.challenger_matches, seen.challenger_fallbacks, seen.since) == (0, 0, 20 * SECOND)
    seen = look(seen, OTHER, 310, 106, OTHER, 40)
    assert (seen.challenger_matches, seen.challenger_fallbacks) == (100, 1)
    seen = look(seen, OTHER, 30, 2, OTHER, 50)  # the service began anew
    assert (seen.challenger_matches, seen.challenger_fallbacks) == (130, 3)
    seen = look(seen, ONE, 500, 100, ONE, 60)
    assert (seen.challenger_matches, seen.challenger_fallbacks) == (130, 3)


def test_technical_harm() -> None:
    spec, nobody = TechnicalSpec(matches=100), Scraped(frozenset({ONE}), 0, 0)
    seen = Counted(bundle=OTHER, since=0)
    assert harm(seen, nobody, OTHER, spec, 100 * SECOND) is None
    assert "is not served 120 s after it was to be: the service serves 111111111111" in str(
        harm(seen, nobody, OTHER, spec, 121 * SECOND)
    )
    assert harm(replace(seen, bundle=ONE), nobody, OTHER, spec, 999 * SECOND) is None
    falls = replace(seen, challenger_matches=100, challenger_fallbacks=6)
    there = Scraped(frozenset({OTHER}), 0, 0)
    assert harm(falls, there, OTHER, spec, 0) == "6.0% of 100 matches fell back on the queue's order"
    assert harm(replace(falls, challenger_matches=99), there, OTHER, spec, 0) is None


def test_a_service_that_refuses_the_bundle_is_noticed_within_minutes(roll: Any) -> None:
    rolled = roll(scrape=lambda: Scraped(frozenset({rolled.registry.version(1).digest}), 10.0, 0.0))
    rolled.start(SPEC.model_copy(update={"shadow": None}))
    while rolled.served != 2:
        assert rolled.step(4.0).stage == "canary"
    assert rolled.step(0.01).stage == "canary"
    state = rolled.step(0.05)
    assert state.stage == "rolled back"
    assert "is not served" in (state.why or "")
    assert (rolled.served, rolled.alias) == (1, (1, None))


def test_a_challenger_that_kills_the_service_is_taken_back(roll: Any) -> None:
    """Its figures cannot be read then; in the champion's turn that says nothing of the challenger."""

    def scrape() -> Scraped:
        raise Unreachable("nobody there")

    rolled = roll(scrape=scrape)
    rolled.start(SPEC.model_copy(update={"shadow": None}))
    while rolled.served != 2:
        assert rolled.step(4.0).stage == "canary"
    assert rolled.step(0.01).stage == "canary"
    rolled.scrapes(lambda: Scraped(frozenset({rolled.registry.version(2).digest}), 10.0, 0.0))
    assert rolled.step(0.01).counted.unread == 0  # it began anew
    rolled.scrapes(scrape)
    assert rolled.step(0.03).stage == rolled.step(0.03).stage == "canary"
    state = rolled.step(0.01)
    assert (state.stage, rolled.served, rolled.alias) == ("rolled back", 1, (1, None))
    assert state.why == "the service's figures cannot be read for more than 120 s while it is to be served"


def test_a_new_champion_that_falls_back_is_taken_back(roll: Any) -> None:
    told = {"matches": 0.0, "fallbacks": 0.0}
    rolled = roll(scrape=lambda: Scraped(frozenset({rolled.link.resolve().name}), told["matches"], told["fallbacks"]))
    rolled.start()
    rolled.registry.promote(2)
    assert rolled.step(0.1).stage == "full"
    for _ in range(3):
        told["matches"] += 150
        told["fallbacks"] += 60
        state = rolled.step(0.1)
    assert state.stage == "rolled back"
    assert "fell back on the queue's order" in (state.why or "")
    assert (rolled.served, rolled.alias) == (1, (1, None))
    assert rolled.registry.version(2).rolled_back == state.why


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"wash_out_minutes": 0.5}, "2 or more expected"),
        ({"wash_out_minutes": 300.0}, "leaves nothing of a block"),
        ({"days": 1, "block_hours": 12.0}, "less than four blocks"),
        ({"guardrails": [{"metric": "resolved", "margin": 0.1}]}, "resolved is the primary metric"),
        ({"guardrails": [{"metric": "wait_s", "margin": 0.1, "better": "higher"}]}, "nothing would be guarded"),
        ({"misspelt": 1}, "Extra inputs"),
    ],
)
def test_a_specification_that_cannot_be_is_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        RolloutSpec.model_validate({"canary": given})


def test_the_level_is_shared() -> None:
    spec = CanarySpec(guardrails=(Least(metric="wait_s", margin=1.0),), alpha=0.1)
    assert spec.level == 0.05
    assert [one.alpha for one in spec.guards()] == [0.05]


def test_two_do_not_step_at_once(roll: Any) -> None:
    rolled = roll()
    rolled.start()
    with rolled.rollout._alone(), pytest.raises(Busy, match="another step works here"):
        rolled.step()
    assert rolled.alias == (1, 2)
    assert CHALLENGER in rolled.registry.version(2).aliases
