"""Whose bundle a service takes: one whose digest was told or signed from outside, at its start and at every swap."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

from serve.http.build import build_service
from serve.http.running import Running
from serve.http.service import Service
from serve.http.settings import Settings
from twotower.bundle.manifest import Manifest
from twotower.bundle.origin import sign
from twotower.errors import BundleError


@pytest.fixture
def link(bundle_folder: Path, tmp_path: Path) -> Path:
    """What a service is started with."""
    made = tmp_path / "served"
    made.symlink_to(bundle_folder)
    return made


@pytest.fixture
def swapped(link: Path, whole_bundle: Path, tmp_path: Path) -> Callable[[Running], None]:
    """Sets the link to a copy of another bundle and has a service look at it."""
    numbers = itertools.count()

    def swap(running: Running) -> None:
        copy = shutil.copytree(whole_bundle, tmp_path / f"copy-{next(numbers)}")
        (tmp_path / "next").symlink_to(copy)
        (tmp_path / "next").replace(link)
        running.look()

    return swap


def served(service: Service) -> str:
    return service.serving.matcher.bundle_id


def test_a_digest_pins_one_bundle(
    link: Path,
    bundle_folder: Path,
    swapped: Callable[[Running], None],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    settings = Settings(str(link), insecure=True, digest=Manifest.read(bundle_folder).id)
    service = build_service(settings, tmp_path / "j")
    before = served(service)
    swapped(Running(service, tmp_path / "j"))
    assert served(service) == before == settings.digest
    assert any(line.startswith("bundle refused") and "expected" in line for line in caplog.messages)
    service.close()
    with pytest.raises(BundleError, match="expected"):
        build_service(settings, tmp_path / "j")


def test_an_alias_of_a_registry_is_asked_for_each_bundle(
    link: Path, bundle_folder: Path, whole_bundle: Path, swapped: Callable[[Running], None], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    meant = {"contact-matcher@champion": Manifest.read(bundle_folder).id}
    monkeypatch.setattr("twotower.bundle.origin.registered_digest", lambda name, alias: meant[f"{name}@{alias}"])
    settings = Settings(str(link), insecure=True, digest="models:/contact-matcher@champion")
    service = build_service(settings, tmp_path / "j")
    running, before = Running(service, tmp_path / "j"), served(service)
    swapped(running)
    assert served(service) == before
    meant["contact-matcher@champion"] = Manifest.read(whole_bundle).id
    swapped(running)
    assert served(service) == Manifest.read(whole_bundle).id
    service.close()


def test_the_next_bundle_needs_its_own_signature(
    link: Path, bundle_folder: Path, whole_bundle: Path, swapped: Callable[[Running], None], tmp_path: Path
) -> None:
    key = ed25519.Ed25519PrivateKey.generate()
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    private, public, signature = (tmp_path / name for name in ("key", "public", "signature"))
    private.write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain))
    public.write_bytes(key.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo))
    settings = Settings(str(link), insecure=True, signature=str(signature), public_key=str(public))
    sign(Manifest.read(whole_bundle).id, private, signature)
    with pytest.raises(BundleError, match="expected"):  # the signature of another
        build_service(settings, tmp_path / "j")
    sign(Manifest.read(bundle_folder).id, private, signature)
    service = build_service(settings, tmp_path / "j")
    running, before = Running(service, tmp_path / "j"), served(service)
    swapped(running)
    assert served(service) == before
    sign(Manifest.read(whole_bundle).id, private, signature)
    swapped(running)
    assert served(service) == Manifest.read(whole_bundle).id
    service.close()


def test_what_is_asked_for_is_checked_for_each_worker(bundle_folder: Path, tmp_path: Path) -> None:
    """Settings cross to workers as JSON: none of what is asked for gets lost on the way."""
    told = Settings(str(bundle_folder), insecure=True, digest="0" * 64, signature="s", public_key="p")
    assert Settings.from_json(told.to_json()) == told
    with pytest.raises(BundleError, match="expected"):
        build_service(replace(Settings.from_json(told.to_json()), signature=None, public_key=None), tmp_path / "j")
