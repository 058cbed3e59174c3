"""A cluster of Ray with two workers, one for a whole session of tests, in whichever processes its tests run.

python -m tests.cluster ADDRESS_FILE PID

Notable: a cluster takes ten seconds to start and pytest runs in several processes, so the first that needs one starts
it as a process of its own, which ends with the session (PID), and the others join it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
STARTS = 180.0  # seconds on a busy machine, at most
STORE = 200 << 20


def joined(folder: Path, session: int) -> str:
    """The address of the cluster of a session, whose processes share a folder; started where there is none yet."""
    from filelock import FileLock

    place = folder / "ray-address"
    with FileLock(folder / "ray.lock"):
        if not place.exists():
            with (folder / "ray.log").open("wb") as log:
                subprocess.Popen(
                    [sys.executable, "-m", "tests.cluster", str(place), str(session)],
                    cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                )  # fmt: skip
            until = time.monotonic() + STARTS
            while not place.exists():
                if time.monotonic() > until:
                    raise TimeoutError(f"no cluster of Ray: {(folder / 'ray.log').read_text()}")
                time.sleep(0.05)
    return place.read_text()


def hold(place: Path, session: int) -> None:
    """Start a cluster, write its address, and keep it until the session has ended."""
    import ray

    from twotower.files import atomic_write

    found = ray.init(
        address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=STORE
    )
    atomic_write(place, found.address_info["gcs_address"])
    while alive(session):
        time.sleep(0.2)
    ray.shutdown()


def alive(process: int) -> bool:
    """Whether there is such a process."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


if __name__ == "__main__":
    hold(Path(sys.argv[1]), int(sys.argv[2]))
