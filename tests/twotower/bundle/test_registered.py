"""The digest that a model registry tells by an alias: a real one of MLflow's, in a SQLite file."""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from twotower.bundle.bundle import Bundle
from twotower.bundle.origin import add_options, expected
from twotower.bundle.registered import TAG
from twotower.errors import BundleError, ConfigError, MissingExtraError

NAME = "models:/contact-matcher@champion"
DIGESTS = ["ab" * 32, "cd" * 32]


def asked(text: str) -> str | None:
    parser = argparse.ArgumentParser()
    add_options(parser)
    return expected(parser.parse_args(["--expect-digest", text]))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, empty_mlflow: Path) -> str:
    """A registry with a model of three versions; the last one has no digest."""
    from mlflow.tracking import MlflowClient

    file = shutil.copyfile(empty_mlflow, tmp_path_factory.mktemp("registry") / "mlflow.db")
    uri = f"sqlite:///{file}"
    client = MlflowClient(tracking_uri=uri, registry_uri=uri)
    client.create_registered_model("contact-matcher")
    for digest in (*DIGESTS, None):
        made = client.create_model_version("contact-matcher", source="bundles/first")
        if digest is not None:
            client.set_model_version_tag("contact-matcher", made.version, TAG, digest)
    return uri


@pytest.fixture
def registry(place: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Its client; programs find it by the environment."""
    from mlflow.tracking import MlflowClient

    monkeypatch.setenv("MLFLOW_TRACKING_URI", place)
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", place)
    return MlflowClient(tracking_uri=place, registry_uri=place)


def test_the_alias_says_which_and_may_be_moved(registry: Any) -> None:
    for version, digest in enumerate(DIGESTS, 1):
        registry.set_registered_model_alias("contact-matcher", "champion", str(version))
        assert asked(NAME) == digest


def test_a_bundle_of_another_digest_is_refused(registry: Any, tmp_path: Path) -> None:
    registry.set_registered_model_alias("contact-matcher", "champion", "1")
    with pytest.raises(BundleError):
        Bundle.open(tmp_path, asked(NAME))


def test_what_the_registry_does_not_tell_is_one_line(registry: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    registry.set_registered_model_alias("contact-matcher", "untold", "3")
    for text, line in (
        ("models:/contact-matcher@untold", "version 3 has no digest in its tag twotower.digest"),
        ("models:/contact-matcher@nobody", "does not say which version"),
        ("models:/another@champion", "does not say which version"),
    ):
        with pytest.raises(BundleError, match=line) as caught:
            asked(text)
        assert "\n" not in str(caught.value)
    for text in ("models:/contact-matcher", "models:/contact-matcher/1", "models:/@x", "runs:/a@b"):
        with pytest.raises(ConfigError, match="64 hexadecimal digits"):
            asked(text)


def test_a_registry_that_is_away_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(BundleError, match="does not say which version"):
        asked(NAME)


def test_without_the_package_the_line_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "mlflow"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(MissingExtraError, match=r"twotower-matcher\[registry\]"):
        asked(NAME)
    assert asked(DIGESTS[0]) == DIGESTS[0]
