"""The router's process never sees torch, and imports go one way."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TRAINING = {"torch", "lightning", "pytorch_lightning", "transformers", "sentence_transformers", "numba"}
LATE = {"pandas", "pandera", "scipy", "tqdm", "sklearn", "matplotlib"}
DATABASES = {"sqlalchemy", "alembic", "psycopg"}


def imported(module: str) -> set[str]:
    """The top-level modules in a fresh process that imported this one."""
    code = f"import {module}, sys; print(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize("module", ["serve.matcher", "serve.verb", "twotower.cli", "twotower.tables.log"])
def test_the_router_loads_nothing_that_trains(module):
    assert not imported(module) & (TRAINING | LATE | DATABASES)


@pytest.mark.parametrize("module", ["serve.store.records", "serve.store.errors", "serve.store.verb"])
def test_what_is_told_to_a_store_is_made_without_a_database(module):
    assert not imported(module) & (TRAINING | LATE | DATABASES)


def test_a_store_loads_nothing_that_trains():
    found = imported("serve.store.store")
    assert "sqlalchemy" in found
    assert not found & (TRAINING | LATE | {"alembic", "psycopg"})


def test_the_probe_sees_what_is_imported():
    assert imported("lightning") & TRAINING


def test_what_is_installed_by_default_is_enough_for_the_router():
    """Imports of `serve.matcher`, with every module blocked that an extra brings."""
    extras = TRAINING | LATE - {"tqdm"} | DATABASES | {"onnx", "onnxscript", "jsonargparse"}
    code = (
        "import sys\n"
        "class Blocked:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name.partition('.')[0] in {extras}:\n"
        "            raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Blocked())\n"
        "import serve.matcher, twotower.tables.load\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_import_contracts_hold():
    linter = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([linter, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
