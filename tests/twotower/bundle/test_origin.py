"""A bundle is opened for the digest that was told or signed, and for no other; what is no signature is one line."""

from __future__ import annotations

import argparse
import base64
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from tests.twotower.bundle.test_bundle import rewrite
from twotower.bundle.bundle import Bundle
from twotower.bundle.origin import VARIABLE, add_options, expected, sign, signed_digest
from twotower.bundle.verb import VERB
from twotower.cli import run_verb
from twotower.errors import BundleError, ConfigError, MissingExtraError, TwoTowerError

DIGEST = "ab" * 32


class Entry:
    """An installed entry point."""

    value = "twotower.bundle.verb:VERB"

    def load(self) -> Any:
        return VERB


def run(*argv: Any) -> int:
    return run_verb("bundle", [str(a) for a in argv], Entry())  # type: ignore[arg-type]


def write_keys(folder: Path, name: str, key: Any = None) -> tuple[Path, Path]:
    """A private and a public key, PEM."""
    key = key or ed25519.Ed25519PrivateKey.generate()
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    private, public = folder / f"{name}.pem", folder / f"{name}.pub.pem"
    private.write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain))
    public.write_bytes(key.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo))
    return private, public


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, Path]:
    """Ours."""
    return write_keys(tmp_path, "ours")


@pytest.fixture
def signature(keys: tuple[Path, Path], tmp_path: Path) -> Path:
    """Of `DIGEST`, by our key."""
    sign(DIGEST, keys[0], tmp_path / "bundle.sig")
    return tmp_path / "bundle.sig"


def options(*argv: Any) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_options(parser)
    return parser.parse_args([str(a) for a in argv])


def refusal(error: type[TwoTowerError], *argv: Any) -> str:
    """The one line with which options are refused."""
    with pytest.raises(error) as caught:
        expected(options(*argv))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_was_signed_is_the_digest(signature: Path, keys: tuple[Path, Path]) -> None:
    assert signed_digest(signature, keys[1]) == DIGEST


def test_the_same_key_and_digest_give_the_same_file(signature: Path, keys: tuple[Path, Path], tmp_path: Path) -> None:
    sign(DIGEST, keys[0], tmp_path / "again.sig")
    assert (tmp_path / "again.sig").read_bytes() == signature.read_bytes()


def test_another_key_does_not_do(signature: Path, tmp_path: Path) -> None:
    _, theirs = write_keys(tmp_path, "theirs")
    assert "not signed with" in refusal(BundleError, "--signature", signature, "--public-key", theirs)


def test_a_digest_that_was_exchanged_is_found(signature: Path, keys: tuple[Path, Path]) -> None:
    signature.write_text(signature.read_text().replace(DIGEST, "cd" * 32))
    assert "not signed with" in refusal(BundleError, "--signature", signature, "--public-key", keys[1])


def test_a_signature_of_the_bare_digest_does_not_do(signature: Path, keys: tuple[Path, Path]) -> None:
    """One that the same key made for another purpose."""
    key = serialization.load_pem_private_key(keys[0].read_bytes(), None)
    assert isinstance(key, ed25519.Ed25519PrivateKey)
    data = json.loads(signature.read_text())
    bare = base64.b64encode(key.sign(DIGEST.encode())).decode()
    signature.write_text(json.dumps({**data, "signature": bare}))
    assert "not signed with" in refusal(BundleError, "--signature", signature, "--public-key", keys[1])


@pytest.mark.parametrize(
    "changes",
    [
        {"format": 2}, {"algorithm": "none"}, {"algorithm": "hmac"}, {"digest": "ab"}, {"digest": None}, {"more": 1},
        {"signature": "§"}, {"signature": None}, {"digest": "AB" * 32}, {"digest": ["ab"]},
    ],
)  # fmt: skip
def test_what_is_no_signature_file_is_one_line(
    signature: Path, keys: tuple[Path, Path], changes: dict[str, Any]
) -> None:
    signature.write_text(json.dumps({**json.loads(signature.read_text()), **changes}))
    assert "not a signature file" in refusal(BundleError, "--signature", signature, "--public-key", keys[1])


@pytest.mark.parametrize("content", [b"", b"\xff", b"[]", b"[" * 60_000, b"null", b"{}"])
def test_bytes_that_are_no_signature_are_one_line(signature: Path, keys: tuple[Path, Path], content: bytes) -> None:
    signature.write_bytes(content)
    assert "not a signature file" in refusal(BundleError, "--signature", signature, "--public-key", keys[1])


def test_options_that_do_not_fit_are_one_line(
    signature: Path, keys: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    large = tmp_path / "large"
    large.write_bytes(b"x" * 100_000)
    for argv, line in (
        (["--signature", signature], f"whose? give --public-key FILE, or set {VARIABLE}"),
        (["--public-key", keys[1]], "is for --signature FILE"),
        (["--expect-digest", "abc"], "64 hexadecimal digits expected"),
        (["--expect-digest", "zz" * 32], "64 hexadecimal digits expected"),
        (["--signature", signature, "--public-key", keys[0]], "not an Ed25519 public key"),
        (["--signature", signature, "--public-key", tmp_path / "none"], "cannot be read"),
        (["--signature", tmp_path / "none", "--public-key", keys[1]], "cannot be read"),
        (["--signature", large, "--public-key", keys[1]], "too large"),
    ):
        assert line in refusal(ConfigError, *argv)
    both = ["--signature", signature, "--public-key", keys[1], "--expect-digest", "cd" * 32]
    assert "--expect-digest asks for cdcdcdcdcdcd" in refusal(BundleError, *both)


def test_nothing_asked_is_nothing_expected(
    signature: Path, keys: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, str(keys[1]))
    assert expected(options()) is None
    assert expected(options("--expect-digest", DIGEST.upper())) == DIGEST
    assert expected(options("--signature", signature)) == DIGEST


def test_a_key_of_another_kind_or_under_a_passphrase_is_refused(tmp_path: Path) -> None:
    private, public = write_keys(tmp_path, "curve", ec.generate_private_key(ec.SECP256R1()))
    with pytest.raises(ConfigError, match="not an Ed25519 private key"):
        sign(DIGEST, private, tmp_path / "out")
    locked = ed25519.Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"word")
    )
    private.write_bytes(locked)
    with pytest.raises(ConfigError, match="without passphrase"):
        sign(DIGEST, private, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(ConfigError, match="not an Ed25519 public key"):
        signed_digest(tmp_path / "none", public)


def test_without_the_package_the_line_names_the_extra(
    signature: Path, keys: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.startswith("cryptography")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "cryptography", None)
    line = refusal(MissingExtraError, "--signature", signature, "--public-key", keys[1])
    assert "twotower-matcher[signing]" in line
    assert expected(options("--expect-digest", DIGEST)) == DIGEST


def test_the_verb_signs_and_verifies(
    copy: Path, keys: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    private, public = keys
    file = tmp_path / "it.sig"
    assert run("sign", copy, "--key", private, "--output", file) == 0
    assert run("verify", copy, "--signature", file, "--public-key", public, "--json") == 0
    said = json.loads(capsys.readouterr().out.partition("it.sig\n")[2])
    assert said == {**said, "digest": Bundle.open(copy).manifest.id, "origin_checked": True}
    assert run("verify", copy) == 0
    assert "its origin was not asked for" in capsys.readouterr().out
    # Somebody exchanges the model and writes a manifest that fits.
    rewrite(copy, metrics={"mrr": 1.0})
    assert run("verify", copy) == 0
    assert run("verify", copy, "--signature", file, "--public-key", public) == 1
    assert "expected" in capsys.readouterr().err


def test_the_verbs_options_that_are_missing_are_named(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for argv, line in (
        (["sign", copy], "--key is missing"),
        (["sign", copy, "--key", "x"], "--output is missing"),
        (["verify", copy, "--key", "x"], "verify: takes no --key"),
        (["verify", copy / "nowhere"], "no such folder"),
    ):
        assert run(*argv) == 1
        assert line in capsys.readouterr().err
