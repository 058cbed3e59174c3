"""`twotower customers` and `twotower match --customers`: what they do, what they say, and whom they name."""

from __future__ import annotations

import json
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from serve.customers import Customers
from serve.customers_secret import VARIABLE, read_secret
from tests.serve import fakes, returning
from tests.serve.returning import OTHER, SECRET, T
from tests.serve.returning import bundle as bundle
from tests.serve.returning import file as file
from tests.serve.returning import returning_data as returning_data
from twotower.cli import GROUP, main
from twotower.errors import ConfigError

UNTIL = "2026-01-21T00:00:00Z"


@pytest.fixture
def secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file with the secret, as an editor leaves it, and none in the environment."""
    monkeypatch.delenv(VARIABLE, raising=False)
    path = tmp_path / "secret"
    path.write_bytes(SECRET + b"\n")
    return path


@pytest.fixture
def store(file: Path, tmp_path: Path) -> Path:
    path = tmp_path / "customers"
    path.write_bytes(file.read_bytes())
    return path


def run(*argv: Any) -> int:
    return main([str(a) for a in argv])


def test_the_verb_is_installed() -> None:
    [entry] = entry_points(group=GROUP, name="customers")
    assert entry.value == "serve.customers_verb:VERB"


def test_a_store_is_built_until_a_moment(
    bundle: Path, returning_data: Path, file: Path, secret: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    options = ["--data", returning_data, "--until", UNTIL, "--output", out, "--secret", secret]
    assert run("customers", "build", bundle, *options) == 0
    assert out.read_bytes() == file.read_bytes()
    said = capsys.readouterr().out
    assert "17 customers with 301 contacts; 278 hand-overs remembered" in said
    assert "customer-" not in said
    assert run("customers", "build", bundle, *options, "--json") == 0
    data = json.loads(capsys.readouterr().out)
    assert (data["customers"], data["moment"], data["output"]) == (17, UNTIL, str(out))
    assert out.read_bytes() == file.read_bytes()


def test_without_until_everything_is_in_it(
    bundle: Path, returning_data: Path, secret: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    options = ["--data", returning_data, "--output", out, "--secret", secret, "--json"]
    assert run("customers", "build", bundle, *options) == 0
    assert json.loads(capsys.readouterr().out)["contacts"] == 480


def test_a_bundle_with_another_id_is_refused(
    bundle: Path, returning_data: Path, secret: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--data", returning_data, "--output", tmp_path / "out", "--secret", secret, "--digest", "f" * 64]
    assert run("customers", "build", bundle, *options) == 1
    assert "expected ffffffffffff" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_customer_is_erased(
    bundle: Path, store: Path, secret: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    never = fakes.write_tables(returning.without(returning.tables(), "customer-3"), tmp_path / "never")
    returning.build(bundle, never).save(tmp_path / "built")
    assert run("customers", "erase", store, "--customer", "customer-3", "--secret", secret) == 0
    assert capsys.readouterr().out == f"{store}: the customer is erased\n"
    assert store.read_bytes() == (tmp_path / "built").read_bytes()


def test_to_erase_somebody_unknown_is_said_and_no_error(
    store: Path, file: Path, secret: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("customers", "erase", store, "--customer", "nobody", "--secret", secret) == 0
    assert "nothing is known of this customer; the file is unchanged" in capsys.readouterr().out
    assert run("customers", "erase", store, "--customer", "nobody", "--secret", secret, "--json") == 0
    assert json.loads(capsys.readouterr().out)["erased"] is False
    assert store.read_bytes() == file.read_bytes()


def test_what_a_store_holds_is_shown_in_counts(store: Path, secret: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("customers", "show", store, "--secret", secret) == 0
    assert "17 customers with 301 contacts" in capsys.readouterr().out
    assert run("customers", "show", store, "--secret", secret, "--json") == 0
    data = json.loads(capsys.readouterr().out)
    assert set(data) == {"file", "customers", "contacts", "handovers", "most", "moment", "bundle"}


def test_what_is_known_of_one_is_shown(store: Path, secret: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--secret", secret, "--customer"]
    assert run("customers", "show", store, *options, "customer-3") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("customer since 2025-12-09T00:00:00Z; ")
    assert lines[0].endswith("; language pt-BR")
    assert lines[1].startswith("style: words ")
    assert sum(line.startswith("met csa-") for line in lines) == 4
    assert run("customers", "show", store, *options, "customer-3", "--json") == 0
    known = json.loads(capsys.readouterr().out)["known"]
    assert known["contacts"] >= len(known["handovers"]) == sum(line.startswith("hand-over to csa-") for line in lines)
    assert known["last_contact"] < UNTIL
    assert known["language"] == "pt-BR"
    assert run("customers", "show", store, *options, "customer-16") == 0
    assert capsys.readouterr().out.splitlines()[0].endswith("; language not known")
    assert run("customers", "show", store, *options, "nobody") == 0
    assert "nothing is known of this customer" in capsys.readouterr().out


BAD: list[tuple[str, list[str], str]] = [
    ("build", ["--output", "x"], "build: --data is missing; it takes --data, --output, --until, --digest, --secret"),
    ("build", ["--data", "x"], "build: --output is missing"),
    ("build", ["--data", "x", "--output", "y", "--customer", "z"], "build: --customer does not belong to it"),
    ("build", ["--data", "x", "--output", "y", "--until", "noon"], "--until: 'noon' is no time"),
    ("erase", [], "erase: --customer is missing; it takes --customer, --secret"),
    ("erase", ["--customer", "z", "--output", "y"], "erase: --output does not belong to it"),
    ("show", ["--until", UNTIL], "show: --until does not belong to it"),
]


@pytest.mark.parametrize(("action", "options", "message"), BAD, ids=[f"{b[0]} {b[2][:30]}" for b in BAD])
def test_options_that_make_no_sense_are_one_line(
    store: Path, secret: Path, capsys: pytest.CaptureFixture[str], action: str, options: list[str], message: str
) -> None:
    assert run("customers", action, store, *options, "--secret", secret) == 1
    line = capsys.readouterr().err.strip()
    assert line.startswith("twotower customers: ")
    assert message in line
    assert "\n" not in line


def test_the_secret_comes_from_a_file_or_the_environment(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, secret: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert read_secret(secret) == SECRET
    monkeypatch.setenv(VARIABLE, SECRET.decode())
    assert read_secret() == SECRET
    assert run("customers", "show", store) == 0
    monkeypatch.setenv(VARIABLE, OTHER.decode())
    assert read_secret(secret) == SECRET
    capsys.readouterr()
    assert run("customers", "show", store) == 1
    assert "written with another secret; give the one it was written with" in capsys.readouterr().err


@pytest.mark.parametrize("length", [0, 15, 65])
def test_a_secret_of_another_length_is_one_line_that_does_not_tell_it(
    store: Path, secret: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], length: int
) -> None:
    secret.write_bytes(b"q" * length + b"\r\n ")
    assert run("customers", "show", store, "--secret", secret) == 1
    line = capsys.readouterr().err.strip()
    assert f"--secret {secret}: the secret has {length} bytes; 16 to 64 are expected" in line
    assert "qq" not in line
    monkeypatch.setenv(VARIABLE, "q" * length)
    with pytest.raises(ConfigError, match=f"{VARIABLE}: the secret has {length} bytes"):
        read_secret()


def test_a_secret_that_is_not_there_is_one_line(
    store: Path, secret: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("customers", "show", store) == 1
    assert f"the customers' secret is missing: give --secret FILE, or set {VARIABLE}" in capsys.readouterr().err
    assert run("customers", "show", store, "--secret", tmp_path / "none") == 1
    assert "cannot be read (No such file or directory)" in capsys.readouterr().err


def test_a_store_that_is_none_is_one_line(secret: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("customers", "show", tmp_path / "none", "--secret", secret) == 1
    assert "no such file; `twotower customers build` writes one" in capsys.readouterr().err
    assert run("customers", "erase", secret, "--customer", "x", "--secret", secret) == 1
    assert "not a saved history of returning customers" in capsys.readouterr().err


def test_a_file_is_matched_with_a_store(
    bundle: Path, returning_data: Path, store: Path, secret: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = pq.read_table(returning_data / "contacts.parquet")
    late = pc.greater_equal(table["arrived_at"], pa.scalar(T, pa.timestamp("us", "UTC")))
    pq.write_table(table.filter(late), tmp_path / "in.parquet")
    rest = [bundle, "--contacts", tmp_path / "in.parquet", "--output"]
    assert run("match", *rest, tmp_path / "a", "--customers", store, "--secret", secret, "--json") == 0
    assert json.loads(capsys.readouterr().out)["contacts"] == int(pc.sum(late).as_py())
    assert run("match", *rest, tmp_path / "b") == 0
    assert not pq.read_table(tmp_path / "a").equals(pq.read_table(tmp_path / "b"))
    Customers.load(store, SECRET)
    capsys.readouterr()
    for options, message in (
        (["--customers", store, "--secret", secret, "--data", returning_data], "--customers with --data"),
        (["--customers", store], "the customers' secret is missing"),
        (["--secret", secret], "--secret: is for --customers FILE, which is not given"),
    ):
        assert run("match", *rest, tmp_path / "c", *options) == 1
        assert message in capsys.readouterr().err
        assert not (tmp_path / "c").exists()
