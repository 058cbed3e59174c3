"""What a verb takes in a process of its own that is bound to one core: seconds and peak memory.

Notable: seconds include the start of the interpreter. The peak is the kernel's high-water mark of the process itself,
told by that process at its end: what getrusage says of a child includes its parent at the fork.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

CHILD = """
import re, sys
from pathlib import Path
from twotower.cli import main
status = main([*sys.argv[1:], "--json"])
if status == 0:
    print(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text()).group(1), file=sys.stderr)
sys.exit(status)
"""


@dataclass(frozen=True)
class Measured:
    """`seconds` of wall-clock time, `peak_gb` of resident memory (GiB), and the verb's `report` under --json."""

    seconds: float
    peak_gb: float
    report: dict[str, Any]


@contextmanager
def one_core() -> Iterator[None]:
    """Binds this thread, and the processes it starts, to one core until the block ends."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


def measure_verb(*words: str) -> Measured:
    """Run `twotower` with these words on one core. Raises SystemExit with what the verb said where it fails."""
    with one_core():
        begun = time.perf_counter()
        done = subprocess.run([sys.executable, "-c", CHILD, *words], capture_output=True, text=True, check=False)
        seconds = time.perf_counter() - begun
    if done.returncode:
        raise SystemExit(f"{words[0]} failed: {(done.stderr or done.stdout).strip()}")
    return Measured(seconds, int(done.stderr.split()[-1]) / 2**20, json.loads(done.stdout))
