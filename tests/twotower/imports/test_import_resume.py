"""Killed at any moment, an import goes on and ends with the same bytes."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.twotower.imports.conftest import SECRET, Place
from tests.twotower.imports.exports import agent, audit, change, chat, comment, contact, metric_set, ticket
from twotower.errors import ConfigError, OutputError
from twotower.imports import run as run_module
from twotower.imports import spill as spill_module
from twotower.imports.notes import Notes
from twotower.imports.sources import list_files

ROOT = Path(__file__).parents[3]
# One process that has loaded everything, and forks others: each imports, and is killed at its n-th transaction, before
# it is there or right after it (n = 0: when the tables are written and have no name yet), and another goes on. What is
# left of each pair is compared with what one import leaves that nobody disturbed.
DRIVER = """
import json, os, shutil, signal, sys
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import phonenumbers, yaml

import twotower.secret
from twotower.cli import run_verb
from twotower.imports import cases, run, spill
from twotower.redaction.redactor import Redactor

Redactor()
folder, step, words = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
run.CHUNK, run.RECORDS, cases.BATCH = 12_000, 11, 12
connect, publish = spill.sqlite3.connect, run.publish
run._checked = lambda *_: {}  # the checker is slow, and knows nothing of runs
die_at, moment, done = None, "after", 0

class Dying(spill.sqlite3.Connection):
    def execute(self, sql, *more):
        global done
        done += sql == "COMMIT"
        dying = sql == "COMMIT" and done == die_at
        if dying and moment == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        found = super().execute(sql, *more)
        if dying:
            os.kill(os.getpid(), signal.SIGKILL)
        return found

def published(*more):
    if die_at == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    publish(*more)

spill.sqlite3.connect = lambda *more, **named: connect(*more, factory=Dying, **named)
run.publish = published

def forked(output, at, when="after"):
    global die_at, moment
    child = os.fork()
    if child == 0:
        die_at, moment = at, when
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        entry = EntryPoint("import", "twotower.imports.verb:VERB", "")
        os._exit(run_verb("import", [*words, "--output", str(output)], entry))
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

def contents(output):
    return {path.name: path.read_bytes() for path in output.iterdir()}

assert forked(folder / "whole", None) == 0
whole, killed = contents(folder / "whole"), 0
for at in range(0, 60, step):
    output, when = folder / "other", "before" if at // step % 2 else "after"
    status = forked(output, at, when)
    if status == 0:
        break
    assert status == -signal.SIGKILL and not output.exists(), (at, status)
    killed += 1
    assert forked(output, None) == 0, at
    assert contents(output) == whole, at
    shutil.rmtree(output)
shutil.rmtree(output)
times = 0
while forked(output, 3 + times % 3, "before" if times % 2 else "after") != 0:  # again and again
    times += 1
assert contents(output) == whole
print(json.dumps({"killed": killed, "again": times, "left": [one.name for one in folder.glob(".*")]}))
"""


def drive(place: Place, step: int, *words: str) -> dict[str, Any]:
    secret = place.folder / "secret"
    secret.write_bytes(SECRET)
    argv = [sys.executable, "-c", DRIVER, str(place.folder), str(step), *words, "--secret", str(secret)]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def connect_source(place: Place) -> list[str]:
    records = [contact(f"c{n}", n * 500, agent(f"ada{n % 3}", n * 500 + 40), Channel="CHAT") for n in range(14)]
    records += [contact("t2", 650, agent("bob", 700), InitialContactId="c1", PreviousContactId="c1",
                        InitiationMethod="TRANSFER"), records[3], {"broken": 1}]  # fmt: skip
    text = "\n".join(map(json.dumps, records))
    place.put("a/records.json", text[: len(text) // 2] + "\n{broken\n" + text[len(text) // 2 :])
    joined = "".join(json.dumps(contact(f"g{n}", n * 700, agent("eve", n * 700 + 40))) for n in range(9))
    place.put("b/records.json.gz", gzip.compress(joined.encode()))
    for n in range(6):
        talk = chat(f"c{n}", [(n * 500 + 5, "CUSTOMER", f"mail{n}@example.com is mine"), (n * 500 + 50, "AGENT", "Hi")])
        place.put(f"lens/{n}.json", json.dumps(talk, indent=1))
    return ["connect", str(place.source), "--tolerate", "1"]


def zendesk_source(place: Place) -> list[str]:
    tickets = [ticket(n, n * 100, comments=[comment(n, n * 100, 900, f"card {n} lost")]) for n in range(1, 12)]
    audits = [audit(n, n, n * 100 + 5, change("assignee_id", str(n % 3 + 11))) for n in range(1, 12)]
    place.put(
        "tickets.json", json.dumps({"tickets": tickets, "metric_sets": [metric_set(n, n * 100) for n in range(1, 12)]})
    )
    place.put("audits.json", json.dumps({"ticket_audits": audits}))
    return ["zendesk", str(place.source), "--no-redact"]


def csv_source(place: Place) -> list[str]:
    rows = "".join(f"c{n},2026-01-05T09:{n:02}:00Z,ada{n % 3},note\n" for n in range(25))
    place.put("1.csv", "id,at,who,text\n" + rows.replace("c7,", 'c7,"'))
    place.put("2.csv.gz", gzip.compress(("id,at,who,text\n" + rows.replace("c", "d")).encode()))
    mapping = place.folder / "mapping.yaml"
    mapping.write_text(json.dumps({"version": 1, "source": "csv", "tables": {
        "contacts": {"columns": {"contact_id": "id", "arrived_at": "at", "intent_text": "text"}},
        "interactions": {"columns": {"contact_id": "id", "csa_id": "who", "assigned_at": "at"}},
    }}))  # fmt: skip
    return ["csv", str(place.source), "--map", str(mapping), "--tolerate", "1", "--no-redact"]


SOURCES = {"connect": connect_source, "zendesk": zendesk_source, "csv": csv_source}


@pytest.mark.parametrize("kind", SOURCES)
def test_killed_at_any_moment_the_bytes_are_the_same(place: Place, kind: str) -> None:
    told = drive(place, 2 if kind == "connect" else 4, *SOURCES[kind](place))
    assert told["killed"] >= 3
    assert told["again"] >= 1
    assert told["left"] == []


def stopped(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves an import that was stopped behind its reading."""
    with monkeypatch.context() as patched:
        patched.setattr(run_module, "write_cases", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            place.connect(contact("c1", 0, agent("ada", 40)))
    assert (place.folder / ".tables.import").is_dir()


def test_what_is_left_is_its_owners_alone(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    stopped(place, monkeypatch)
    assert (place.folder / ".tables.import").stat().st_mode & 0o777 == 0o700


def test_it_goes_on_and_says_so(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    stopped(place, monkeypatch)
    done = place.run("connect")
    assert done.outcome.resumed
    assert done.outcome.bytes_read == 0
    assert "going on from a run that was stopped" in done.outcome.text()


def test_another_import_is_not_gone_on_with(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    stopped(place, monkeypatch)
    for job, what in [
        (place.job("connect", secret=b"another secret of bytes"), "another secret"),
        (place.job({"source": "connect", "connect": {"turns": "customer"}}), "another map"),
        (place.job("connect", largest=1 << 21), "another --largest"),
    ]:
        with pytest.raises(ConfigError, match=f"holds an import that was stopped, with {what}; .* --restart"):
            run_module.run_import(job)
    place.put("more.json", json.dumps(contact("c2", 0, agent("ada", 40))))
    with pytest.raises(ConfigError, match="another state of the source"):
        place.run("connect")
    assert len(place.run("connect", restart=True).rows("contacts")) == 2


def test_two_at_once_into_one_output(place: Place) -> None:
    place.put("a.json", json.dumps(contact("c1", 0, agent("ada", 40))))
    files = list_files(place.source, Notes())
    assert files
    with (
        spill_module.opened(place.output, "", {}, False),
        pytest.raises(OutputError, match="another process imports into the same --output"),
    ):
        place.run("connect")


def test_an_output_that_is_there_is_not_touched(place: Place) -> None:
    place.output.mkdir()
    with pytest.raises(OutputError, match="exists already"):
        place.connect(contact("c1", 0, agent("ada", 40)))
    assert not list(place.folder.glob(".*"))
    assert list(place.output.iterdir()) == []
