"""Peak memory of training against the roster and against the batch, each in a process of its own.

Notable: against the roster, the objective contrasts all of it in every step (`corrected_softmax`); against the batch, a
transformer's text is trained, of which gradient caching holds the same piece whatever the batch (`cached`). On a
CPU the peak is the kernel's high-water mark of the process since training began, libraries and the prepared log
included, and what was there when it began stands beside it; on a GPU it is what torch had allocated there.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

ROSTER = ("--data.objective=corrected_softmax",)
TRAINED = 0.8  # of a centre's hand-overs at least are trained on: not those of validation and of the test
CHILD = """
import sys
sys.path[:0] = sys.argv[1:3]
from train_throughput_memory import child
child(*sys.argv[3:])
"""


def first_layers(count: int, folder: Path) -> str:
    """Write MiniLM's first `count` layers as an encoder of its own; its place. Raises SystemExit where it has fewer."""
    from twotower.towers.encoders import MINILM, load_encoder, transformer_of

    encoder = load_encoder(MINILM)
    model: Any = transformer_of(encoder)
    if not 0 < count <= len(model.encoder.layer):
        raise SystemExit(f"--layers {count}: {MINILM} has 1 to {len(model.encoder.layer)}")
    model.encoder.layer = model.encoder.layer[:count]
    model.config.num_hidden_layers = count
    encoder.save(str(folder), create_model_card=False)
    return str(folder)


def measure_alone(folder: Path, until: int, load: Any, options: Sequence[str] = ()) -> dict[str, Any]:
    """Contacts a second and bytes of a child that trains `load`'s steps, with `options` too. Raises SystemExit with
    what it said."""
    import torch

    asked = {**asdict(load), "options": [*load.options, *options]}
    here, threads = Path(__file__).resolve().parent, torch.get_num_threads()
    words = [str(here), str(here.parent), json.dumps(asked), str(folder), str(until), str(threads)]
    done = subprocess.run([sys.executable, "-c", CHILD, *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"training {folder.name} failed: {(done.stderr or done.stdout).strip()[-500:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return {"device": load.device, "batch": load.batch, **found}


def resident(most: bool) -> int:
    """Bytes of resident memory that this process has, or had at `most` since `forget`. Raises SystemExit where the
    kernel does not tell."""
    status = Path("/proc/self/status")
    name = "VmHWM" if most else "VmRSS"
    found = re.search(rf"{name}:\s+(\d+) kB", status.read_text()) if status.is_file() else None
    if found is None:
        raise SystemExit("peak memory is read from /proc/self/status, which is not here: Linux was expected")
    return int(found.group(1)) * 1024


def forget() -> None:
    """Let the kernel's high-water mark begin anew (man 5 proc, clear_refs), so that reading the log does not count."""
    Path("/proc/self/clear_refs").write_text("5")


def child(asked: str, folder: str, until: str, threads: str) -> None:
    """Train, and print what it took as JSON."""
    import torch
    from train_throughput_sides import WARM, Clock, Load, Ours, Stopwatch

    torch.set_num_threads(int(threads))
    given = json.loads(asked)
    load = Load(**{**given, "options": tuple(given["options"])})
    ours, watch = Ours(Path(folder), int(until)), Stopwatch(load.steps, load.place)
    before = [0]

    class Before(Clock):
        def on_train_start(self, trainer: Any, pl_module: Any) -> None:
            """What was there when training began."""
            super().on_train_start(trainer, pl_module)
            if load.device == "cuda":
                torch.cuda.reset_peak_memory_stats()
            else:
                forget()
            before[0] = torch.cuda.memory_allocated() if load.device == "cuda" else resident(most=False)

    ours.fit(load.flags(WARM + load.steps), [Before(watch)])
    peak = torch.cuda.max_memory_allocated() if load.device == "cuda" else resident(most=True)
    figures = {"contacts_per_s": watch.finished().per_s, "peak_bytes": peak, "before_bytes": before[0]}
    print(json.dumps(figures | {"threads": torch.get_num_threads(), "cores": os.cpu_count()}))
