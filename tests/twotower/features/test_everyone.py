"""Every CSA's features at once: those of one CSA asked for, and to the bit the same from any engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.serve import fakes
from tests.twotower.features.provenance_cases import full_bundle
from tests.twotower.features.test_features_verb import run
from twotower.bundle.bundle import Bundle
from twotower.clock import parse_time
from twotower.engines import Engine
from twotower.features.everyone import everyone
from twotower.features.provenance_csa import CsaCase
from twotower.tables import Log

TIME = "2026-01-22T12:00:00Z"
AT = parse_time(TIME, "TIME")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tables of thirty days."""
    return fakes.write_tables(fakes.tables(), tmp_path_factory.mktemp("centre"))


@pytest.fixture(scope="module")
def bundle(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle that reads every family."""
    return full_bundle(data, tmp_path_factory.mktemp("full"))


@pytest.fixture(scope="module")
def local(data: Path, bundle: Path) -> pa.Table:
    """The table, made here."""
    return everyone(Log.load(data), Bundle.open(bundle), AT, Engine())


def test_a_row_is_what_one_csa_reads(data: Path, bundle: Path, local: pa.Table) -> None:
    log, opened = Log.load(data), Bundle.open(bundle)
    for csa in (0, len(local) - 1):
        case = CsaCase(log, csa, AT, opened.schema, None, opened.contact_encoder)
        row = np.array([local[name][csa].as_py() for name in opened.schema.csa_numbers], np.float32)
        assert row.tobytes() == case.values.tobytes()
    known = log.handovers.csa[log.handovers.known_at < AT]
    assert local["handovers"].to_pylist() == np.bincount(known, minlength=len(local)).tolist()
    assert 0 < len(known) < len(log.handovers.csa)


def test_ray_gives_the_same_bits(cluster: str, data: Path, bundle: Path, local: pa.Table, tmp_path: Path) -> None:
    output = tmp_path / "features.parquet"
    assert run(data, "--at", TIME, "--bundle", bundle, "--output", output, "--engine", "ray") == 0
    there = pq.read_table(output)
    assert there.schema == local.schema
    assert there.equals(local)
    features = np.column_stack([local[name].to_numpy() for name in Bundle.open(bundle).schema.csa_numbers])
    assert np.isfinite(features).all()
    assert (features.std(axis=0) > 0).sum() > 20


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--output", "o.parquet", "--at", TIME), "--output needs --at TIME and --bundle BUNDLE"),
        (("--csa", "csa-00", "--at", TIME, "--engine", "ray"), "belong to --output"),
        (("--csa", "csa-00", "--at", TIME, "--ray-address", "auto"), "belongs to --engine ray"),
        (("--csa", "csa-00", "--at", TIME, "--processes", "0"), "--processes 0: 1 or more expected"),
    ],
)
def test_options_that_do_not_fit_are_one_line(
    options: tuple[Any, ...], said: str, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(data, *options) == 1
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
