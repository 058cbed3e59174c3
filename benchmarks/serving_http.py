"""The HTTP service under sustained load, beside a bare FastAPI endpoint that returns a constant.

    python benchmarks/serving_http.py --contacts 20000 --csas 1000 --seconds 20 --output docs/results/serving_http.json

Notable: a load of connections that each ask again as soon as they are answered finds how many requests a second each
server takes (saturation). Then requests come at random (Poisson) at 70 % of that, and each one's time counts from the
moment at which it should have been sent, so a server that stalls does not slow its own clock. The client is one process
of asyncio and shares the two cores with the server, so both are slower than they would be alone, the peer the more. A
request is a match of a generated contact, k = 10, by language and channel; the peer reads no body and answers a
constant. Servers run one after the other, with the same uvicorn, as a process of their own.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import platform
import random
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from real_logs import trained_bundle

from evaluation.generate.centre import generate
from evaluation.generate.settings import Settings
from evaluation.report_text import table
from twotower.clock import DAY
from twotower.files import atomic_write
from twotower.tables.log import Log

LOAD = 0.7
K = 10
HEAD = b"POST /v1/match HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
FIELDS = ("contact_id", "channel", "language", "intent", "intent_text", "transcript")
SERVE = (
    "from serve.http.verb import VERB; from twotower.cli import run_verb; import sys; from importlib.metadata import \
EntryPoint; sys.exit(run_verb('serve', sys.argv[1:], EntryPoint('serve', 'serve.http.verb:VERB', 'twotower.verbs')))"
)
BARE = """
import sys, uvicorn
from fastapi import FastAPI
app = FastAPI()
@app.post("/v1/match")
async def match(): return {"status": "ok"}
@app.get("/readyz")
async def readyz(): return {"status": "ready"}
uvicorn.run(app, port=int(sys.argv[1]), access_log=False, log_level="error")
"""


def main() -> None:
    """Parse options, measure each server, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--contacts", type=int, default=4_000)
    parser.add_argument("--csas", type=int, default=200)
    parser.add_argument("--bundle", type=Path, help="instead of a centre that is generated and trained on")
    parser.add_argument("--data", type=Path, help="tables whose last contacts are asked for, with --bundle")
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--workers", type=int, nargs="*", default=[1, 2])
    parser.add_argument("--output", type=Path, help="JSON file to write")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        bundle, data = (args.bundle, args.data) if args.bundle else made(Path(scratch), args)
        bodies = requests(data)
        rows = [measure("bare FastAPI, a constant", ["-c", BARE], bodies, args)]
        for workers in args.workers:
            options = ["--insecure-loopback", "--rate", "1e6", "--workers", str(workers)]
            command = ["-c", SERVE, str(bundle), *options, "--port"]
            rows.append(measure(f"twotower serve, {workers} process(es)", command, bodies, args))
    print(as_table(rows))
    if args.output:
        machine = {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count()}
        settings = {name: getattr(args, name) for name in ("contacts", "csas", "seconds", "connections")}
        atomic_write(args.output, json.dumps({**settings, "machine": machine, "rows": rows}, indent=1) + "\n")


def made(scratch: Path, args: argparse.Namespace) -> tuple[Path, Path]:
    """A generated centre's bundle, trained for one epoch, and its tables."""
    data = scratch / "centre"
    generate(Settings(contacts=args.contacts, csas=args.csas, seed=0), data)
    until = int(Log.load(data).contacts.arrived_at[-1]) + 30 * DAY
    trained_bundle(data, until, scratch, ["--trainer.max_epochs=1", "--seed_everything=0"])
    return scratch / "bundle", data


def requests(data: Path, count: int = 500) -> list[bytes]:
    """Whole HTTP requests for the last contacts of the tables."""
    rows = pq.read_table(data / "contacts.parquet").to_pylist()[-count:]
    found = []
    for row in rows:
        contact = {name: row[name] for name in FIELDS if row.get(name) is not None}
        eligible = {"language": row.get("language"), "channel": row.get("channel")}
        body = json.dumps({"contact": contact, "k": K, "eligible": eligible}).encode()
        found.append(HEAD + f"Content-Length: {len(body)}\r\n\r\n".encode() + body)
    return found


@contextmanager
def served(command: list[str]) -> Iterator[int]:
    """A server in a process of its own, ready; yields its port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen([sys.executable, *command, str(port)], stderr=subprocess.DEVNULL)
    try:
        for _ in range(600):
            if process.poll() is not None:
                raise SystemExit(f"{command[-1]}: the server ended")
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5):
                    break
            except (OSError, urllib.error.URLError):
                time.sleep(0.1)
        yield port
    finally:
        process.terminate()
        process.wait(30)


def measure(name: str, command: list[str], bodies: list[bytes], args: argparse.Namespace) -> dict[str, Any]:
    """Saturation, and times at 70 % of it."""
    gc.collect()
    gc.disable()  # of the client, whose pauses would count as the server's
    with served(command) as port:
        asyncio.run(closed(port, bodies, args.connections, min(2.0, args.seconds)))  # warms up
        full, _ = asyncio.run(closed(port, bodies, args.connections, args.seconds))
        rate = len(full) / args.seconds
        times, failed = asyncio.run(opened(port, bodies, args.connections, args.seconds, LOAD * rate))
    quantiles = np.quantile(np.array(times) * 1e3, (0.5, 0.9, 0.99, 0.999))
    return {
        "server": name,
        "saturation_per_s": round(rate, 1),
        "load_per_s": round(LOAD * rate, 1),
        "requests": len(times),
        "failed": failed,
        "ms": dict(zip(("p50", "p90", "p99", "p99.9"), (round(float(q), 3) for q in quantiles), strict=True)),
    }


async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> bool:
    """One request on a connection that stays open; whether it was answered by the model."""
    writer.write(request)
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
    body = await reader.readexactly(length)
    return head.startswith(b"HTTP/1.1 200") and (b'"fallback":null' in body or b'"fallback"' not in body)


async def closed(port: int, bodies: list[bytes], connections: int, seconds: float) -> tuple[list[float], int]:
    """Each connection asks again as soon as it is answered; times of all requests, and how many failed."""
    until, times, failed = time.perf_counter() + seconds, [], 0

    async def one(number: int) -> None:
        nonlocal failed
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        i = number
        while (begun := time.perf_counter()) < until:
            failed += not await ask(reader, writer, bodies[i % len(bodies)])
            times.append(time.perf_counter() - begun)
            i += connections
        writer.close()

    await asyncio.gather(*(one(number) for number in range(connections)))
    return times, failed


async def opened(
    port: int, bodies: list[bytes], connections: int, seconds: float, rate: float
) -> tuple[list[float], int]:
    """Requests at random moments, on whichever connection is free; times since each should have been sent."""
    rng, times, failed = random.Random(0), [], 0
    free: asyncio.Queue[Any] = asyncio.Queue()
    for _ in range(4 * connections):
        free.put_nowait(await asyncio.open_connection("127.0.0.1", port))

    async def one(due: float, request: bytes) -> None:
        nonlocal failed
        connection = await free.get()
        failed += not await ask(*connection, request)
        times.append(time.perf_counter() - due)
        free.put_nowait(connection)

    begun = due = time.perf_counter()
    asked = []
    while due < begun + seconds:
        due += rng.expovariate(rate)
        wait = due - time.perf_counter()
        if wait > 0:
            await asyncio.sleep(wait)
        asked.append(asyncio.create_task(one(due, rng.choice(bodies))))
    await asyncio.gather(*asked)
    while not free.empty():
        free.get_nowait()[1].close()
    return times, failed


def as_table(rows: list[dict[str, Any]]) -> str:
    """For people."""
    head = ["server", "saturation /s", "at 70 %: p50 ms", "p99 ms", "p99.9 ms", "failed"]
    body = [
        [row["server"], f"{row['saturation_per_s']:.0f}", *(f"{row['ms'][q]:.2f}" for q in ("p50", "p99", "p99.9")),
         str(row["failed"])]
        for row in rows
    ]  # fmt: skip
    return table([head, *body])


if __name__ == "__main__":
    main()
