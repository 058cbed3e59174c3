"""A PostgreSQL server of the tests' own, in a temporary folder, reached by a socket in it."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

USER = "postgres"
OPTIONS = "-c listen_addresses= -c unix_socket_directories={folder} -c shared_buffers=16MB -c max_connections=40"


class Missing(Exception):
    """Why no server can be started here."""


def binary(name: str) -> str:
    """Where one of PostgreSQL's programs is."""
    places = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), reverse=True)
    found = shutil.which(name) or (str(places[0]) if places else None)
    if found is None:
        raise Missing(f"PostgreSQL is not installed here: no {name}")
    return found


class Server:
    """A server with its data in a folder that goes with it."""

    def __init__(self) -> None:
        programs = {name: binary(name) for name in ("initdb", "pg_ctl", "postgres")}
        self._pg_ctl = programs["pg_ctl"]
        self._as: list[str] = []
        self.folder = Path(tempfile.mkdtemp(prefix="postgres-"))
        if os.geteuid() == 0:  # which the server refuses to run as
            runuser = shutil.which("runuser")
            if runuser is None:
                raise Missing("tests run as root and there is no runuser to start PostgreSQL as another user")
            try:
                shutil.chown(self.folder, USER)
            except LookupError:
                raise Missing(f"tests run as root and there is no user {USER} to run PostgreSQL as") from None
            self._as = [runuser, "-u", USER, "--"]
        self.data = self.folder / "data"
        self._run(programs["initdb"], "-D", self.data, "-U", USER, "-A", "trust", "--no-sync", "--locale=C.UTF-8")
        self.start()

    def start(self) -> None:
        """Start it and wait until it answers."""
        options = OPTIONS.format(folder=self.folder)
        self._run(self._pg_ctl, "-D", self.data, "-l", self.folder / "log", "-w", "-t", "60", "-o", options, "start")

    def stop(self, mode: str = "fast") -> None:
        """Stop it; `immediate` is as good as a crash."""
        self._run(self._pg_ctl, "-D", self.data, "-m", mode, "-w", "stop")

    def make(self, schema: str) -> str:
        """The URL of a new schema, where nobody else's tables are; a database takes a second, a schema none."""
        import psycopg

        with psycopg.connect(f"host={self.folder} user={USER} dbname={USER}", autocommit=True) as connection:
            connection.execute(f"CREATE SCHEMA {schema}".encode())
        return f"postgresql://{USER}@/{USER}?host={self.folder}&options=-csearch_path%3D{schema}"

    def remove(self) -> None:
        """Stop it and remove its folder."""
        try:
            self.stop("immediate")
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _run(self, *command: object) -> None:
        argv = [*self._as, *map(str, command)]
        log = self.folder / "commands"
        with log.open("ab") as said:  # the server inherits it, so no pipe: nobody would read it
            done = subprocess.run(argv, stdout=said, stderr=said, cwd="/", check=False)
        if done.returncode:
            raise Missing(f"{Path(str(command[0])).name} failed: {log.read_text()[-300:]}")


@contextmanager
def serving() -> Iterator[Server]:
    """A server, removed in the end; whoever needs it is skipped where there can be none."""
    try:
        made = Server()
    except Missing as why:
        pytest.skip(str(why))
    try:
        yield made
    finally:
        made.remove()
