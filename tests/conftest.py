"""What all tests share: one thread a process, a small valid data set to spoil, and the real logs where they are."""

from __future__ import annotations

import os

# Before numpy, torch and faiss are imported: several workers, one thread each.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(_name, "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# A cluster of Ray asks who joins it for its token, and `import ray` reads whether one is given.
os.environ.setdefault("RAY_AUTH_MODE", "token")

from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import settings

from tests.support import SLOW, Tables, minutes

# The same examples on every run, and no failures because a machine was busy.
settings.register_profile("house", deadline=None, derandomize=True)
settings.load_profile("house")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that take long come first, the others stay as they are."""
    place = {Path(__file__).parent / name: number for number, name in enumerate(SLOW)}
    items.sort(key=lambda item: place.get(item.path, len(place)))


@pytest.fixture
def tables() -> Tables:
    """Four contacts, three CSAs (one of them in two dated rows) and five hand-overs: a valid data set."""
    return {
        "contacts": pa.table(
            {
                "contact_id": ["c3", "c1", "c2", "c4"],
                "customer_id": ["anna", "anna", None, "bert"],
                "arrived_at": minutes(30, 10, 10, 60),
                "channel": ["chat", "call", "chat", "e-mail"],
                "language": ["en", None, "pt-BR", "es"],
                "intent_text": ["refund", "late order", "lost card", "refund"],
                "transcript": ["where is my money", "", "I lost my card", "again"],
                "eligible": [["ada", "bob"], None, [], ["cy"]],
            }
        ),
        "csas": pa.table(
            {
                "csa_id": ["cy", "ada", "bob", "ada"],
                "valid_from": minutes(None, 20, None, None),
                "hired_at": minutes(40, None, None, None),
                "left_at": minutes(None, None, 50, None),
                "languages": [["es"], ["en", "fr"], ["en"], ["en"]],
                "skills": [
                    [],
                    [{"name": "refunds", "level": 0.9}, {"name": "cards", "level": 0.2}],
                    [{"name": "cards", "level": 1.0}],
                    [{"name": "refunds", "level": 0.5}],
                ],
                "profile": ["", "since 2020", "", ""],
                "capacity": [1, 2, 1, 1],
            }
        ),
        "interactions": pa.table(
            {
                "contact_id": ["c1", "c2", "c3", "c3", "c4"],
                "csa_id": ["ada", "bob", "ada", "bob", "cy"],
                "assigned_at": minutes(11, 12, 31, 33, 61),
                "ended_at": minutes(15, 12, 33, 45, None),
                "known_at": minutes(None, 55, None, None, None),
                "resolved": [True, False, False, True, None],
                "csat": [5.0, None, 1.0, 4.0, None],
                "propensity": [0.5, 1.0, 0.25, None, None],
            }
        ),
    }


@pytest.fixture
def save(tmp_path: Path) -> Callable[[Tables], Path]:
    """Writes tables as a data set and returns its folder."""

    def write(tables: Tables, name: str = "data") -> Path:
        folder = tmp_path / name
        folder.mkdir()
        for table, content in tables.items():
            pq.write_table(content, folder / f"{table}.parquet")
        return folder

    return write


@pytest.fixture(scope="session")
def empty_mlflow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MLflow's tables in a SQLite file, with nothing in them, to be copied: its migrations take seconds."""
    from mlflow.tracking import MlflowClient

    place = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    uri = f"sqlite:///{place}"
    assert not MlflowClient(tracking_uri=uri, registry_uri=uri).search_registered_models()
    return place


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """This process joined to a cluster of Ray with two workers; its address. Skips where Ray is not installed."""
    ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'twotower-matcher[cluster]'")
    from tests.cluster import joined
    from twotower.engines import ray_of

    # Of several processes of pytest each has a folder of its own, in one that they share.
    several = "PYTEST_XDIST_WORKER" in os.environ
    base = tmp_path_factory.getbasetemp()
    address = joined(base.parent if several else base, os.getppid() if several else os.getpid())
    ray_of(address)
    yield address
    ray.shutdown()


@pytest.fixture
def real_data() -> Path:
    """The folder of real logs; the test is skipped where there is none."""
    folder = os.environ.get("TWOTOWER_REAL_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("TWOTOWER_REAL_DATA names no folder of real logs")
    return Path(folder)
