"""The customers' file: what is none is refused in one line, and a writer that is killed leaves the one before."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from serve.customers import KIND, Customers
from tests.serve.returning import OTHER, SECRET
from tests.serve.returning import bundle as bundle
from tests.serve.returning import file as file
from tests.serve.returning import returning_data as returning_data
from twotower.errors import BundleError, ConfigError
from twotower.features.engine.store import CustomerStore, write_state


def test_another_secret_is_refused_in_one_line(file: Path) -> None:
    with pytest.raises(ConfigError, match="customers: written with another secret") as error:
        Customers.load(file, OTHER)
    assert "\n" not in str(error.value)


def test_what_is_no_store_is_refused_in_one_line(file: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no such file; `twotower customers build` writes one"):
        Customers.load(tmp_path / "none", SECRET)
    (tmp_path / "cut").write_bytes(file.read_bytes()[:2000])
    with pytest.raises(BundleError, match="not a saved history of returning customers"):
        Customers.load(tmp_path / "cut", SECRET)
    CustomerStore(SECRET, Customers.load(file, SECRET)._store.history.settings, []).save(tmp_path / "plain")
    with pytest.raises(BundleError, match="holds 'customers 1', this program reads 'returning customers 1'"):
        Customers.load(tmp_path / "plain", SECRET)


PARTS = (
    "latest",
    "latest_style",
    "since",
    "languages",
    "language",
    "row_count",
    "row_csa",
    "row_code",
    "row_scale",
    "keys",
)


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("how", ["shorter", "gone", "of another kind"])
def test_parts_that_do_not_fit_are_refused(file: Path, tmp_path: Path, part: str, how: str) -> None:
    with np.load(file) as data:
        arrays = {name: data[name] for name in data.files if name != "header"}
    spoiled = {"shorter": arrays[part][:-1], "gone": None, "of another kind": arrays[part].astype(np.float64) + 0.5}[
        how
    ]
    kept = {name: array for name, array in {**arrays, part: spoiled}.items() if array is not None}
    write_state(tmp_path / "spoiled", KIND, kept)
    with pytest.raises(BundleError, match="spoiled: not a saved history of returning customers"):
        Customers.load(tmp_path / "spoiled", SECRET)


def test_a_process_killed_while_it_writes_leaves_the_old_file(file: Path, tmp_path: Path) -> None:
    path = tmp_path / "customers"
    path.write_bytes(file.read_bytes())
    program = (
        "import sys, time\n"
        "import numpy as np\n"
        "from serve.customers import Customers\n"
        f"found = Customers.load({str(path)!r}, {SECRET!r})\n"
        "found.erase('customer-3')\n"
        "def half(file, **arrays):\n"
        "    file.write(b'PK half of it'); file.flush(); print('writing', flush=True); time.sleep(60)\n"
        "np.savez = half\n"
        f"found.save({str(path)!r})\n"
    )
    root = Path(__file__).resolve().parents[2]
    with subprocess.Popen([sys.executable, "-c", program], cwd=root, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"writing\n"
        os.kill(process.pid, signal.SIGKILL)
    assert path.read_bytes() == file.read_bytes()
    assert Customers.load(path, SECRET).known_of("customer-3") is not None
