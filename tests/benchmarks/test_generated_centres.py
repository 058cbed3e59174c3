"""The peer of the benchmark is the one whose configuration ships."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import yaml

NAIVE = Path(__file__).resolve().parents[2] / "configs" / "naive.yaml"


def test_the_peer_is_the_naive_configuration():
    naive = yaml.safe_load(NAIVE.read_text())
    own = dict(
        word.removeprefix("--").split("=")
        for word in import_module("generated_centres").CONFIGURATIONS["in-batch softmax"]
    )
    assert own["data.objective"] == naive["data"]["objective"]
    assert int(own["data.batch_size"]) == naive["data"]["batch_size"]
