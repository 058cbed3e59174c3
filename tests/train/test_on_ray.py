"""Training on workers of Ray: what as many processes on this machine learn, by the same options."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from tests.forked import ranks
from tests.train.runs import FILES, OPTIONS, digests, work_of
from train.on_ray import train_on_ray
from twotower.cli import main

SMALL = ("--trainer.max_epochs=1", "--data.batch_size=50", "--data.memory_batch=50", "--model.solver=gradient")


def test_workers_of_ray_learn_what_processes_of_this_machine_learn(cluster: str, tiny: Path, tmp_path: Path) -> None:
    """Both are DDP over gloo with noise of their own, so batches, noise and the order of sums agree."""
    import time

    t = time.time()
    there, here, options = tmp_path / "ray", tmp_path / "here", (*OPTIONS, *SMALL)
    done = train_on_ray(tiny, there, options=options)
    print("RAY", time.time() - t)
    t = time.time()
    words = ["train", "--data", str(tiny), "--output", str(here), *options]
    both = ranks(2, main, [*words, "--trainer.devices=2", "--trainer.strategy=ddp"])
    print("LOCAL", time.time() - t)
    t = time.time()
    assert [one.status for one in both] == [0, 0], both[0].err
    assert set(digests(there)) == FILES
    assert not work_of(there).exists()
    one, other = (load_file(folder / "model.safetensors") for folder in (here, there))
    assert one.keys() == other.keys()
    for tensor, values in one.items():
        print(tensor, np.abs(values - other[tensor]).max())
    print([(n, d == digests(there)[n]) for n, d in digests(here).items()])
