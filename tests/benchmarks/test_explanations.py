"""What shares of families are held against: replacements by other pairs, none of which change a pair into itself."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.serve import fakes
from twotower.bundle.bundle import Bundle
from twotower.tables.log import Log


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tables and a bundle of the small centre, whose CSA graph is linear."""
    folder = tmp_path_factory.mktemp("centre")
    run = fakes.write_run(fakes.write_tables(fakes.tables(), folder / "data"), folder / "run")
    fakes.fake_bundle(run, folder / "bundle")
    return folder


@pytest.fixture
def towers(place: Path) -> Any:
    log = Log.load(place / "data")
    return import_module("explanations").Towers(Bundle.open(place / "bundle"), log, np.arange(100, 140))


def test_a_pair_replaced_by_itself_stays(towers: Any) -> None:
    everything = {("contact", name) for name in ("text", "labels", *towers.of_contact)}
    everything |= {("csa", name) for name in ("identity", *towers.of_csa)}
    assert towers.effect((3, 4), [(3, 4)], everything) == 0


def test_replacing_everything_gives_the_other_pair(towers: Any) -> None:
    contact, csa = {"text", "labels", *towers.of_contact}, {"identity", *towers.of_csa}
    np.testing.assert_allclose(towers.contact(3, 7, contact), towers.contact(7, 7, set()))
    np.testing.assert_allclose(towers.csa(4, 5, csa), towers.csa(5, 5, set()))
    assert np.abs(towers.contact(3, 7, {"text"}) - towers.contact(3, 3, set())).max() > 0


def test_leaving_out_foretells_the_mean_replacement_of_a_linear_tower(towers: Any) -> None:
    """Its neutral CSA is the roster's mean, so over the whole roster both are the same number."""
    out = import_module("explanations").methods(towers, 3, 4)["leave out, mean"]
    everyone = [(3, int(csa)) for csa in towers.csas]
    for name in towers.of_csa:
        assert out["csa", name] == pytest.approx(towers.effect((3, 4), everyone, {("csa", name)}), abs=1e-5)


def test_every_method_has_its_figures(towers: Any) -> None:
    rows = import_module("explanations").measure(towers, pairs=4, donors=3, seed=0)
    assert [row["method"] for row in rows][:3] == ["leave out, mean", "alone, mean", "walk, mean"]
    assert all(-1 <= row["rank"] <= 1 and 0 <= row["strongest"] <= 1 and row["sets_r2"] <= 1 for row in rows)
