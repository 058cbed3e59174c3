"""One process that serves, and the one that keeps several of them.

Notable: SIGTERM drains. `/readyz` says so, no new connection is taken, requests under way are answered, what waits for
the store is written, then the process ends with status 0. With several workers a parent keeps the address, starts
the workers and starts anew who dies; it loads no model. Workers share the roster's journal and nothing else.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import logging
import os
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator
from pathlib import Path
from types import FrameType
from typing import Any

import uvicorn

from serve.http.build import build_service, check_settings
from serve.http.logs import set_up
from serve.http.metrics import VARIABLE
from serve.http.service import Service
from serve.http.settings import Settings
from twotower.errors import ConfigError

_log = logging.getLogger("serve")
TICK_S = 0.5
SWITCH_S = 0.001  # a thread that computes lets the event loop go on after so long
BACKLOG = 1024
FILES = 256  # open beside connections
PAUSES_S = (0.5, 1.0, 2.0, 5.0)  # before a worker that died is started anew
STOPS = (signal.SIGTERM, signal.SIGINT)


class Server(uvicorn.Server):
    """uvicorn's, which ends well when it is told to end."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service = service

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first time: drain; again: end at once."""
        self._service.draining = True
        super().handle_exit(sig, frame)

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """As uvicorn, but a signal that was obeyed is not raised again."""
        before = {one: signal.signal(one, self.handle_exit) for one in STOPS}
        try:
            yield
        finally:
            for one, handler in before.items():
                signal.signal(one, handler)


def serve(settings: Settings, journal: str | Path, listener: socket.socket) -> None:
    """Load everything and serve until told to stop. Raises what `build_service` does."""
    from serve.http.app import create_app
    from serve.http.protocol import MOST_LINGERING, protocol_of
    from serve.http.running import Running

    sys.setswitchinterval(SWITCH_S)
    open_files(settings.limits.connections + MOST_LINGERING + FILES)
    service = build_service(settings, journal)
    running = Running(service, journal)
    limits = settings.limits
    config = uvicorn.Config(
        create_app(service, running.lifespan), http=protocol_of(limits, service.metrics), ws="none", lifespan="on",
        log_config=None, access_log=False, server_header=False, date_header=True, backlog=BACKLOG, proxy_headers=False,
        timeout_keep_alive=int(limits.idle_s), timeout_graceful_shutdown=int(settings.drain_s),
    )  # fmt: skip
    settled()
    try:
        Server(config, service).run([listener])
    finally:
        service.close()


def open_files(wanted: int) -> None:
    """Let this process have so many files open, as far as the system lets it: a connection that is refused is one, too,
    and without one who comes waits, unanswered, until another goes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    given = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (given, hard))
    if given < wanted:
        _log.warning("%d files may be open, %d are wanted: raise the hard limit or lower --connections", given, wanted)


def settled() -> None:
    """What is there now stays: Python's collector need not look at it again, which would hold up all threads for some
    70 ms now and then. A bundle that is swapped out goes all the same, as nothing in it is a cycle."""
    gc.collect()
    gc.freeze()


def run(settings: Settings) -> None:
    """Serve by one process, or by several. Raises ConfigError where the address cannot be had."""
    check_settings(settings)
    several = settings.workers > 1
    # Of several, a parent keeps the address and each worker listens when it is ready: whoever took the first connection
    # from a shared queue would take most of the others, too.
    listener = listening(settings.host, settings.port, several, not several)
    host, port = listener.getsockname()[:2]
    with tempfile.TemporaryDirectory(prefix="twotower-serve-") as place:
        journal = settings.journal or str(Path(place) / "roster.journal")
        set_up()
        told = {"bundle": settings.bundle, "host": host, "port": port, "workers": settings.workers}
        _log.info("starting", extra={"values": told})
        if several:
            Workers(settings, journal, listener, place).run()
        else:
            serve(settings, journal, listener)


def listening(host: str, port: int, shared: bool = False, listen: bool = True) -> socket.socket:
    """A socket that listens. shared: several processes have one of the same address, and the system deals connections
    out among those who listen. Raises ConfigError."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        found = socket.socket(family, socket.SOCK_STREAM)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        found.bind((host, port))
        if listen:
            found.listen(BACKLOG)
    except OSError as error:
        raise ConfigError(f"--host {host} --port {port}: cannot listen there ({error.strerror})") from None
    found.setblocking(False)
    return found


class Workers:
    """A parent of several processes that serve one address. place: a folder for their metrics."""

    def __init__(self, settings: Settings, journal: str, listener: socket.socket, place: str) -> None:
        self._settings, self._journal, self._listener, self._place = settings, journal, listener, place
        self._processes: list[subprocess.Popen[bytes] | None] = [None] * settings.workers
        self._died = [0] * settings.workers
        self._stopping = False

    def run(self) -> None:
        """Until told to stop. Raises ConfigError where the first worker to end could not begin."""
        before = {one: signal.signal(one, self._stop) for one in STOPS}
        metrics = Path(self._place) / "metrics"
        metrics.mkdir()
        os.environ[VARIABLE] = str(metrics)
        try:
            for number in range(self._settings.workers):
                self._start(number)
            while not self._stopping:
                time.sleep(0.1)
                self._watch()
        finally:
            self._end()
            for one, handler in before.items():
                signal.signal(one, handler)

    def _start(self, number: int) -> None:
        host, port = self._listener.getsockname()[:2]
        told = {"settings": self._settings.to_json(), "journal": self._journal, "host": host, "port": port}
        process = subprocess.Popen(
            [sys.executable, "-m", "serve.http.worker"],
            stdin=subprocess.PIPE,  # not as arguments, which everybody may read
            start_new_session=True,  # an interrupt of the terminal reaches the parent, who tells them
        )
        if process.stdin is not None:
            process.stdin.write(json.dumps({**told, "number": number}).encode())
            process.stdin.close()
        self._processes[number] = process

    def _watch(self) -> None:
        for number, process in enumerate(self._processes):
            if process is None or process.poll() is None:
                continue
            if process.returncode == 1 and not any(self._died):
                raise ConfigError("a worker could not begin; its line is above")
            pause = PAUSES_S[min(self._died[number], len(PAUSES_S) - 1)]
            self._died[number] += 1
            _log.error("a worker ended", extra={"values": {"worker": number, "status": process.returncode}})
            time.sleep(pause)
            self._forget(process.pid)
            self._start(number)

    def _forget(self, pid: int) -> None:
        from prometheus_client import multiprocess

        multiprocess.mark_process_dead(pid, str(Path(self._place) / "metrics"))  # type: ignore[no-untyped-call]

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self._stopping = True

    def _end(self) -> None:
        """Tell all to stop, wait, and kill who does not."""
        until = time.monotonic() + self._settings.drain_s + 10
        alive = [one for one in self._processes if one is not None and one.poll() is None]
        for process in alive:
            process.terminate()
        for process in alive:
            try:
                process.wait(max(0.1, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


async def every(seconds: float, work: Callable[[], Any]) -> None:
    """Do something again and again in a thread, whatever it raises."""
    while True:
        await asyncio.sleep(seconds)
        try:
            await asyncio.to_thread(work)
        except Exception:
            _log.exception("defect")
