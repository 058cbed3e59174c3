"""A real server in a process of its own.

Notable: it is forked from a server that has imported what serves (`tests.forked`), which takes three seconds of a
processor; `fresh` is a new interpreter, which also comes to its own end.
"""

from __future__ import annotations

import json
import os
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from tests.forked import ROOT, Process
from twotower.cli import GROUP, run_verb

MAIN = (
    "import sys; from twotower.cli import run_verb; from importlib.metadata import EntryPoint; "
    "sys.exit(run_verb('serve', sys.argv[1:], EntryPoint('serve', 'serve.http.verb:VERB', 'twotower.verbs')))"
)


def serve(argv: Sequence[str], files: int | None = None) -> int:
    """The exit status of `twotower serve`."""
    os.chdir(ROOT)
    os.environ["PYTHONPATH"] = str(ROOT)  # of the workers
    if files is not None:
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, hard))
    return run_verb("serve", list(argv), EntryPoint("serve", "serve.http.verb:VERB", GROUP))


class Served:
    """`twotower serve` with some options; leave the block to end it. files: how many it may open, to begin with."""

    def __init__(
        self, bundle: Path | str, log: Path, *options: str, token: str | None = None, files: int | None = None,
        fresh: bool = False,
    ) -> None:  # fmt: skip
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.token, self.log, self._files, self._fresh = token, log, files, fresh
        secure = () if token is not None else ("--insecure-loopback",)
        # A machine that tests is busy: nothing is to be late because of that.
        patient = ("--budget-ms", "20000", "--deadline-ms", "20000")
        self._argv = [str(bundle), "--port", str(self.port), *patient, *secure, *options]
        self.process = self._start()

    def _start(self) -> subprocess.Popen[bytes] | Process:
        if not self._fresh:
            return Process(serve, self._argv, self._files, said=self.log)
        main = [sys.executable, "-c", MAIN, *self._argv]
        with self.log.open("ab") as log:
            return subprocess.Popen(main, stdout=log, stderr=log, cwd=ROOT)

    def restart(self) -> None:
        """Begin again with the same options."""
        self.process = self._start()
        self.wait()

    def __enter__(self) -> Served:
        self.wait()
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def wait(self, seconds: float = 60.0) -> None:
        """Until it is ready."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if self.process.poll() is not None:
                raise AssertionError(self.log.read_text())
            try:
                if self.get("/readyz")[0] == 200:
                    return
            except OSError:
                pass
            time.sleep(0.05)
        raise AssertionError(f"not ready: {self.log.read_text()}")

    def get(self, path: str) -> tuple[int, Any]:
        return self._ask(Request(f"http://127.0.0.1:{self.port}{path}", headers=self._head()))

    def post(self, path: str, body: Any, **headers: str) -> tuple[int, Any]:
        head = {"Content-Type": "application/json", **self._head(), **headers}
        return self._ask(
            Request(f"http://127.0.0.1:{self.port}{path}", json.dumps(body).encode(), headers=head, method="POST")
        )

    def _head(self) -> dict[str, str]:
        return {} if self.token is None else {"Authorization": f"Bearer {self.token}"}

    @staticmethod
    def _ask(request: Request) -> tuple[int, Any]:
        try:
            with urlopen(request, timeout=30) as answer:
                status, content = answer.status, answer.read()
        except HTTPError as error:
            status, content = error.code, error.read()
        try:
            return status, json.loads(content)
        except ValueError:
            return status, content.decode()
