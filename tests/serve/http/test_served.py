"""A real server: signals, kills, workers, slow and many clients."""

from __future__ import annotations

import itertools
import json
import os
import resource
import selectors
import signal
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from serve.customers import Customers
from tests.serve.http.server import Served

CONTACT = {"intent_text": "where is my refund", "language": "en", "channel": "chat", "contact_id": "c-1"}
POST = "POST /v1/match HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
START = 1_767_225_600_000_000


def test_it_serves_and_ends_well(bundle_folder: Path, tmp_path: Path) -> None:
    store = f"sqlite:///{tmp_path / 'store.db'}"
    with Served(bundle_folder, tmp_path / "log", "--store", store, "--no-text", fresh=True) as served:
        status, found = served.post("/v1/match", {"contact": CONTACT, "k": 3})
        assert (status, len(found["candidates"]), found["fallback"]) == (200, 3, None)
        served.process.send_signal(signal.SIGTERM)
        assert served.process.wait(30) == 0
    lines = [json.loads(line) for line in served.log.read_text().splitlines() if line.startswith("{")]
    [line] = [one for one in lines if one["message"] == "request"]
    assert (line["route"], line["status"], line["candidates"]) == ("/v1/match", 200, 3)
    # The decision was made less than 50 ms before, or so, and is not lost.
    import sqlite3

    with sqlite3.connect(tmp_path / "store.db") as connection:
        assert connection.execute("SELECT count(*) FROM twotower_decisions").fetchone() == (1,)


def test_requests_under_way_are_answered_before_it_ends(bundle_folder: Path, tmp_path: Path) -> None:
    with Served(bundle_folder, tmp_path / "log") as served:
        body = json.dumps({"contact": CONTACT}).encode()
        head = POST + f"Content-Length: {len(body)}\r\n\r\n"
        with socket.create_connection(("127.0.0.1", served.port)) as client:
            client.sendall(head.encode() + body[:10])
            time.sleep(0.3)
            served.process.send_signal(signal.SIGTERM)
            time.sleep(0.5)
            with pytest.raises(OSError, match=r"refused|reset"):
                socket.create_connection(("127.0.0.1", served.port), 1).close()
            client.sendall(body[10:])
            client.settimeout(20)
            answer = client.recv(65536)
        assert answer.startswith(b"HTTP/1.1 200")
        assert b"connection: close" in answer.lower()
        assert served.process.wait(30) == 0


def acknowledged_until_killed(served: Served, route: str, body: Callable[[str], dict[str, Any]]) -> set[str]:
    """Names that four threads told a service of until it was killed, and that it answered 200."""
    told: list[str] = []

    def tell(number: int) -> None:
        for i in itertools.count():
            name = f"new-{number}-{i}"
            try:
                status, _ = served.post(route, body(name))
            except OSError:
                return
            if status == 200:
                told.append(name)

    threads = [threading.Thread(target=tell, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    until = time.monotonic() + 30
    while len(told) < 20:
        assert time.monotonic() < until, served.log.read_text()
        time.sleep(0.01)
    served.process.send_signal(signal.SIGKILL)
    served.process.wait()
    for thread in threads:
        thread.join()
    return set(told)


def test_a_kill_during_roster_updates_loses_nothing_acknowledged(bundle_folder: Path, tmp_path: Path) -> None:
    journal = tmp_path / "roster.journal"
    with Served(bundle_folder, tmp_path / "log", "--journal", str(journal)) as served:
        told = acknowledged_until_killed(
            served, "/v1/roster", lambda name: {"changes": [{"op": "join", "csa_id": name}]}
        )
        served.restart()
        _, found = served.get("/v1/roster?limit=10000")
        assert told <= {one["csa_id"] for one in found["csas"]}
        matched = served.post("/v1/match", {"contact": CONTACT, "k": 200, "eligible": sorted(told)[:100]})[1]
        assert {one["csa_id"] for one in matched["candidates"]} == set(sorted(told)[:100])
        assert served.post("/v1/roster", {"changes": [{"op": "leave", "csa_id": min(told)}]})[0] == 200


def test_a_kill_during_feedback_loses_nothing_acknowledged(bundle_folder: Path, tmp_path: Path) -> None:
    import sqlite3

    store = f"sqlite:///{tmp_path / 'store.db'}"
    with Served(bundle_folder, tmp_path / "log", "--store", store, "--no-text") as served:
        told = acknowledged_until_killed(
            served,
            "/v1/feedback",
            lambda name: {"facts": [{"contact_id": name, "csa_id": "csa-01", "assigned_at": START}]},
        )
        served.restart()
        with sqlite3.connect(tmp_path / "store.db") as connection:
            kept = {row[0] for row in connection.execute("SELECT contact_id FROM twotower_handovers")}
        assert told <= kept
        fact = {"contact_id": min(told), "csa_id": "csa-01", "assigned_at": START, "resolved": True}
        assert served.post("/v1/feedback", {"facts": [{**fact, "ended_at": START + 9}]})[1]["new"] == 1
        assert served.post("/v1/match", {"contact": CONTACT})[1]["fallback"] is None


def test_workers_share_the_roster(bundle_folder: Path, tmp_path: Path) -> None:
    with Served(bundle_folder, tmp_path / "log", "--workers", "2", "--journal", str(tmp_path / "j")) as served:
        missing = []
        for i in range(30):
            served.post("/v1/roster", {"changes": [{"op": "join", "csa_id": f"new-{i}"}]})
            # Each connection is taken by whichever worker comes first.
            for _ in range(4):
                _, found = served.post("/v1/match", {"contact": CONTACT, "k": 100})
                if f"new-{i}" not in {one["csa_id"] for one in found["candidates"]}:
                    missing.append(i)
        assert not missing
        text = served.get("/metrics")[1]
        count = sum(float(one.split()[-1]) for one in text.splitlines() if one.startswith("twotower_candidates_count"))
        assert count == 120
        assert 'twotower_model{bundle="' in text
        served.process.send_signal(signal.SIGTERM)
        assert served.process.wait(30) == 0


def test_workers_each_count_who_came_once(whole_bundle: Path, customers: tuple[Path, Path], tmp_path: Path) -> None:
    file, secret = customers
    store = ("--store", f"sqlite:///{tmp_path / 'store.db'}", "--no-text")
    options = ("--workers", "2", *store, "--customers", str(file), "--secret", str(secret))
    with Served(whole_bundle, tmp_path / "log", *options) as served:

        def counted(wanted: float) -> None:
            until, found = time.monotonic() + 60, 0.0
            while time.monotonic() < until:
                lines = served.get("/metrics")[1].splitlines()
                found = sum(float(one.split()[-1]) for one in lines if one.startswith("twotower_heard_total"))
                if found == wanted:
                    return
                time.sleep(0.1)
            pytest.fail(f"{found} were taken in")

        for i in range(3):
            for _ in range(4):  # by whichever worker takes the connection
                contact = {**CONTACT, "contact_id": f"c-{i}", "customer_id": "anna"}
                assert served.post("/v1/match", {"contact": contact})[0] == 200
            counted(2.0 * (i + 1))
        served.process.send_signal(signal.SIGTERM)
        assert served.process.wait(30) == 0
    known = Customers.load(file, secret.read_bytes()).known_of("anna")
    assert known is not None
    assert known["contacts"] == 3


def test_a_worker_that_dies_is_started_anew(bundle_folder: Path, tmp_path: Path) -> None:
    with Served(bundle_folder, tmp_path / "log", "--workers", "2", "--journal", str(tmp_path / "j")) as served:
        served.post("/v1/roster", {"changes": [{"op": "join", "csa_id": "new"}]})
        children = Path(f"/proc/{served.process.pid}/task/{served.process.pid}/children").read_text().split()
        os.kill(int(children[0]), signal.SIGKILL)
        until = time.monotonic() + 30
        while time.monotonic() < until:
            now = Path(f"/proc/{served.process.pid}/task/{served.process.pid}/children").read_text().split()
            if len(now) == 2 and children[0] not in now:
                break
            time.sleep(0.1)
        else:
            pytest.fail("no other worker came")
        served.wait()  # where the one that died was the first to listen
        for _ in range(20):
            status, found = served.post("/v1/match", {"contact": CONTACT, "k": 100})
            assert status == 200
            assert "new" in {one["csa_id"] for one in found["candidates"]}


def test_slow_clients_are_cut_off_and_hold_up_nobody(bundle_folder: Path, tmp_path: Path) -> None:
    with Served(bundle_folder, tmp_path / "log") as served:
        slow = [socket.create_connection(("127.0.0.1", served.port)) for _ in range(40)]
        for i, client in enumerate(slow):
            if i % 3 == 0:
                client.sendall(b"POST /v1/match HTTP/1.1\r\nHost: x\r\nX-Slow: ")
            elif i % 3 == 1:
                client.sendall(POST.encode() + b"Content-Length: 99\r\n\r\n{")
        begun = time.monotonic()
        assert served.post("/v1/match", {"contact": CONTACT})[0] == 200
        answers = []
        for client in slow:
            client.settimeout(20)
            answers.append(client.recv(4096))
            client.close()
        assert all(answer.startswith(b"HTTP/1.1 408") for answer in answers)
        assert time.monotonic() - begun > 4  # not before their time
        assert served.get("/readyz")[0] == 200


def test_who_does_not_read_is_cut_off(bundle_folder: Path, tmp_path: Path) -> None:
    with Served(bundle_folder, tmp_path / "log") as served, socket.socket() as client:
        channels = [f"{i}-" + "x" * 250 for i in range(250)]
        for i in range(12):
            joins = [{"op": "join", "csa_id": f"new-{i}-{j}", "csa": {"channels": channels}} for j in range(15)]
            assert served.post("/v1/roster", {"changes": joins})[0] == 200
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", served.port))
        # The answer is larger than what the system keeps for who does not read.
        client.sendall(b"GET /v1/roster?limit=10000 HTTP/1.1\r\nHost: x\r\n\r\n")
        until = time.monotonic() + 30
        while 'why="slow reader"} 1.0' not in served.get("/metrics")[1]:
            assert time.monotonic() < until
            time.sleep(0.2)
        assert served.get("/readyz")[0] == 200


def test_who_asks_on_without_an_answer_is_cut_off(bundle_folder: Path, tmp_path: Path) -> None:
    with Served(bundle_folder, tmp_path / "log") as served, socket.socket() as client:
        client.connect(("127.0.0.1", served.port))
        client.settimeout(20)
        with pytest.raises(ConnectionError):
            for _ in range(20_000):
                client.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n" * 20)
        assert served.post("/v1/match", {"contact": CONTACT})[0] == 200


def test_a_head_without_end_is_refused(bundle_folder: Path, tmp_path: Path) -> None:
    with Served(bundle_folder, tmp_path / "log") as served:
        with socket.create_connection(("127.0.0.1", served.port)) as client:
            client.settimeout(20)
            try:
                for _ in range(40):
                    client.sendall(b"GET /healthz HTTP/1.1\r\n" if _ == 0 else b"X-A: " + b"a" * 8000 + b"\r\n")
                answer = client.recv(4096)
            except (ConnectionError, TimeoutError):
                answer = b""
        assert answer == b"" or answer.startswith(b"HTTP/1.1 4")
        assert served.get("/healthz")[0] == 200


def test_thousands_of_connections_at_once_are_refused_with_grace(bundle_folder: Path, tmp_path: Path) -> None:
    """10,000, or as many as the system lets one process have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = 200
    wanted = 10_000 if hard == resource.RLIM_INFINITY else min(10_000, hard - 500)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted + 500), hard))
    with Served(bundle_folder, tmp_path / "log", "--connections", str(most)) as served:
        clients: list[socket.socket] = []
        for _ in range(wanted):
            client = socket.create_connection(("127.0.0.1", served.port), 30)
            clients.append(client)
        answers = []
        for client in clients[most + 50 :]:
            client.settimeout(20)
            try:
                answers.append(client.recv(4096))
            except ConnectionError:
                answers.append(b"")
        told = [one for one in answers if one.startswith(b"HTTP/1.1 503") and b"Retry-After: 1" in one]
        late = [one for one in answers if one.startswith(b"HTTP/1.1 408")]  # let in where such a one had to go
        assert len(told) + len(late) == len(answers)
        assert len(told) > 0.9 * len(answers)
        # Who was let in is served meanwhile.
        clients[0].sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        clients[0].settimeout(20)
        first = clients[0].recv(4096)
        assert first.startswith((b"HTTP/1.1 200", b"HTTP/1.1 408"))
        for client in clients:
            client.close()
        until = time.monotonic() + 30
        while time.monotonic() < until:
            try:
                if served.post("/v1/match", {"contact": CONTACT})[0] == 200:
                    break
            except OSError:
                time.sleep(0.2)
        else:
            pytest.fail("it does not serve afterwards")


def test_connections_are_refused_however_few_files_may_be_open_at_first(bundle_folder: Path, tmp_path: Path) -> None:
    """A refusal needs an open file, too: without one, who comes would wait until somebody else goes."""
    with Served(bundle_folder, tmp_path / "log", "--connections", "300", files=200) as served:
        clients = [socket.create_connection(("127.0.0.1", served.port), 30) for _ in range(400)]
        with selectors.DefaultSelector() as waiting:
            for client in clients:
                waiting.register(client, selectors.EVENT_READ)
            answered = [key.fileobj for key, _ in waiting.select(30)]
        first = answered[0]
        assert isinstance(first, socket.socket)
        assert first.recv(4096).startswith(b"HTTP/1.1 503")  # before others are told that they are too slow
        for client in clients:
            client.close()


def test_a_new_bundle_and_a_roster_file_are_picked_up(
    bundle_folder: Path, whole_bundle: Path, data: Path, tmp_path: Path
) -> None:
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    link, roster = tmp_path / "served", tmp_path / "csas.parquet"
    link.symlink_to(bundle_folder)
    options = ["--journal", str(tmp_path / "j"), "--roster", str(roster)]
    with Served(link, tmp_path / "log", *options) as served, ThreadPoolExecutor(2) as threads:
        served.post("/v1/roster", {"changes": [{"op": "join", "csa_id": "new"}]})
        before = served.post("/v1/match", {"contact": CONTACT})[1]["model"]
        failed: list[Any] = []
        stop = threading.Event()

        def ask() -> None:
            while not stop.is_set():
                status, found = served.post("/v1/match", {"contact": CONTACT, "k": 100})
                if status != 200 or "new" not in {one["csa_id"] for one in found["candidates"]}:
                    failed.append((status, found))

        asking = threads.submit(ask)
        other = tmp_path / "other"
        other.symlink_to(whole_bundle)
        other.replace(link)
        until = time.monotonic() + 40
        while served.post("/v1/match", {"contact": CONTACT})[1]["model"] == before:
            assert time.monotonic() < until, served.log.read_text()
            time.sleep(0.2)
        stop.set()
        asking.result()
        assert not failed
        table = pq.read_table(data / "csas.parquet")
        pq.write_table(table.filter(pc.not_equal(table["csa_id"], "csa-05")), tmp_path / "partial.parquet")
        (tmp_path / "partial.parquet").replace(roster)
        until = time.monotonic() + 40
        while "csa-05" in {one["csa_id"] for one in served.get("/v1/roster")[1]["csas"] if one["active"]}:
            assert time.monotonic() < until, served.log.read_text()
            time.sleep(0.2)


def test_a_corrupt_bundle_is_not_swapped_in(bundle_folder: Path, tmp_path: Path) -> None:
    import shutil

    link, bad = tmp_path / "served", tmp_path / "bad"
    link.symlink_to(bundle_folder)
    shutil.copytree(bundle_folder, bad)
    graph = bad / "contact_tower.onnx"
    graph.write_bytes(graph.read_bytes()[:-7] + b"corrupt")
    with Served(link, tmp_path / "log") as served:
        (tmp_path / "other").symlink_to(bad)
        (tmp_path / "other").replace(link)
        until = time.monotonic() + 30
        while 'outcome="bundle refused"} 1.0' not in served.get("/metrics")[1]:
            assert time.monotonic() < until, served.log.read_text()
            time.sleep(0.2)
        status, found = served.post("/v1/match", {"contact": CONTACT})
        assert (status, found["fallback"]) == (200, None)
        assert "changed since the bundle was written" in served.log.read_text()
