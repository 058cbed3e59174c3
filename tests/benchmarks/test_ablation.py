"""The ablation: which ablation.variants are trained, and which families have anything to say on a log."""

from __future__ import annotations

import argparse
import json
from importlib import import_module
from typing import Any

import numpy as np
import pytest

from twotower.features.registry import DEFAULT, FAMILIES


@pytest.fixture
def ablation() -> Any:
    """The benchmark, which is no package."""
    return import_module("ablation")


def test_every_family_that_speaks_is_left_out_once(ablation):
    found = dict(ablation.variants(tuple(FAMILIES), list(FAMILIES), ["labels", "style", "record"], list(FAMILIES)))
    assert list(found) == [ablation.OTHER_SEED, ablation.DEFAULTS, "without labels", "without style", "without record"]
    assert found[ablation.DEFAULTS] is None
    assert set(found["without style"]) == set(FAMILIES) - {"style"}


def test_from_the_default_the_default_is_not_a_variant_and_families_are_put_in(ablation):
    found = dict(ablation.variants(None, list(DEFAULT), list(DEFAULT), ["customer", "profile", "style"]))
    assert list(found) == [ablation.OTHER_SEED, "without profile", "with style"]
    assert found[ablation.OTHER_SEED] is None  # and without customer the contact tower would have no number to read
    assert found["with style"] == [*DEFAULT, "style"]


def test_what_start_names(ablation):
    assert ablation.families_of("everything") == tuple(FAMILIES)
    assert ablation.families_of("default") is None
    assert ablation.families_of("labels,style") == ("labels", "style")
    with pytest.raises(argparse.ArgumentTypeError, match="no family styles; there are labels"):
        ablation.families_of("labels,styles")


def test_each_tower_needs_a_number(ablation):
    assert ablation.reads_something(["customer", "tenure"])
    assert ablation.reads_something(["form", "record"])
    assert not ablation.reads_something(["labels", "tenure"])
    assert not ablation.reads_something(["customer", "labels"])


def test_a_family_speaks_if_one_of_its_columns_varies(ablation, tmp_path):
    features = [
        {"family": "form", "columns": ["a", "b"]}, {"family": "clock", "columns": ["c"]},
        {"family": "tenure", "columns": ["d"]}, {"family": "labels", "columns": ["channel"]},
    ]  # fmt: skip
    schema = {
        "families": ["labels", "form", "clock", "tenure"],
        "order": {"numbers": ["a", "b", "c"], "csa_numbers": ["d"]},
        "features": features,
    }
    (tmp_path / "features.json").write_text(json.dumps(schema))
    np.savez(tmp_path / "probe.npz", numbers=np.array([[0, 1, 5], [0, 2, 5]], np.float32))
    np.savez(tmp_path / "csas.npz", features=np.array([[3], [3]], np.float32))
    assert ablation.speaks(tmp_path) == (["labels", "form", "clock", "tenure"], ["labels", "form"])
