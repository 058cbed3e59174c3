"""Where a bundle comes from: a digest that was told from outside, or one that somebody has signed.

Notable: a bundle's own checksums prove that it is whole, not who made it. A signature file holds the bundle's digest
(the manifest's id, which pins every file) and an Ed25519 signature of it (RFC 8032). Whoever checks it holds the public
key alone, so a router that is broken into cannot sign bundles for others. Ed25519 comes from `cryptography`, the extra
`[signing]`; a digest given as it is needs no package.

    openssl genpkey -algorithm ed25519 -out signing.pem
    openssl pkey -in signing.pem -pubout -out signing.pub.pem
"""

from __future__ import annotations

import argparse
import base64
import binascii
import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twotower.bundle.registered import ALIAS, registered_digest
from twotower.errors import BundleError, ConfigError, MissingExtraError
from twotower.files import atomic_write

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

VARIABLE = "TWOTOWER_PUBLIC_KEY"
ALGORITHM = "ed25519"
FORMAT = 1
FIELDS = {"format", "algorithm", "digest", "signature"}
MOST_BYTES = 65_536  # of a key or signature file; a wrong name must not read gigabytes
_DIGEST = re.compile(r"[0-9a-f]{64}")
# What is signed begins with its purpose, so that no signature made for something else passes for one of a bundle.
_PURPOSE = b"twotower bundle, manifest sha256 "


def add_options(parser: argparse.ArgumentParser, *also: str) -> None:
    """The options of every verb that opens a bundle; also: further names of `--expect-digest`. See `expected`."""
    parser.add_argument(
        "--expect-digest", *also, dest="expect_digest", metavar="HEX",
        help="refuse a bundle whose digest is another; or models:/NAME@ALIAS of MLflow's registry",
    )  # fmt: skip
    parser.add_argument("--signature", metavar="FILE", help="refuse a bundle that this file does not sign")
    parser.add_argument("--public-key", metavar="FILE", help=f"whose signature it must be; default: {VARIABLE}")


def expected(args: argparse.Namespace) -> str | None:
    """The digest that a bundle must have by the options of `add_options`, None where they ask for none.

    Raises ConfigError for options that do not fit together, BundleError for a signature that is not to be trusted.
    """
    if args.public_key is not None and args.signature is None:
        raise ConfigError("--public-key: is for --signature FILE, which is not given")
    told: str | None = None if args.expect_digest is None else digest_of(args.expect_digest)
    if args.signature is None:
        return told
    key = args.public_key or os.environ.get(VARIABLE)
    if not key:
        raise ConfigError(f"--signature {args.signature}: whose? give --public-key FILE, or set {VARIABLE}")
    signed = signed_digest(args.signature, key)
    if told is not None and told != signed:
        raise BundleError(f"{args.signature}: signs bundle {signed[:12]}, --expect-digest asks for {told[:12]}")
    return signed


def digest_of(text: str) -> str:
    """A digest as it was given, in small letters, or as a registry tells it. Raises ConfigError where it is none,
    BundleError where the registry does not tell it."""
    if alias := ALIAS.fullmatch(text):
        return registered_digest(alias[1], alias[2])
    if not _DIGEST.fullmatch(text.lower()):
        raise ConfigError(
            f"--expect-digest {text[:80]!r}: 64 hexadecimal digits expected, the id in manifest.json, or "
            "models:/NAME@ALIAS"
        )
    return text.lower()


def sign(digest: str, key: str | Path, output: str | Path) -> None:
    """Sign a bundle's digest with the private key of a PEM file, and write the signature file.

    The same digest and key give the same bytes. Raises ConfigError for a key that is none.
    """
    signature = _private(key).sign(_message(digest))
    content = {
        "format": FORMAT,
        "algorithm": ALGORITHM,
        "digest": digest,
        "signature": base64.b64encode(signature).decode(),
    }
    atomic_write(output, json.dumps(content, indent=1) + "\n")


def signed_digest(signature: str | Path, public_key: str | Path) -> str:
    """The digest that a signature file signs, if the key of a PEM file is that of its signature.

    Raises BundleError where the file is damaged or somebody else's, ConfigError for a key that is none.
    """
    key = _public(public_key)
    digest, signed = _read_signature(Path(signature))
    from cryptography.exceptions import InvalidSignature

    try:
        key.verify(signed, _message(digest))
    except InvalidSignature:
        raise BundleError(
            f"{signature}: not signed with {public_key}; do not trust the bundle that came with it"
        ) from None
    return digest


def _message(digest: str) -> bytes:
    return _PURPOSE + digest.encode("ascii")


def _read_signature(path: Path) -> tuple[str, bytes]:
    try:
        data: Any = json.loads(_content(path, "--signature"))
        if set(data) != FIELDS or data["format"] != FORMAT or data["algorithm"] != ALGORITHM:
            raise ValueError
        if not _DIGEST.fullmatch(data["digest"]):
            raise ValueError
        digest: str = data["digest"]
        return digest, base64.b64decode(data["signature"], validate=True)
    except (ValueError, TypeError, RecursionError, binascii.Error):
        raise BundleError(f"{path}: not a signature file; `twotower bundle sign` writes one") from None


def _private(path: str | Path) -> Ed25519PrivateKey:
    serialization, ed25519 = _cryptography()
    content = _content(path, "--key")
    try:
        key: Ed25519PrivateKey | None = serialization.load_pem_private_key(content, password=None)
    except (ValueError, TypeError):  # TypeError: the key is under a passphrase
        key = None
    if key is None or not isinstance(key, ed25519.Ed25519PrivateKey):
        raise ConfigError(f"--key {path}: not an Ed25519 private key in PEM without passphrase; {_MAKE}")
    return key


def _public(path: str | Path) -> Ed25519PublicKey:
    serialization, ed25519 = _cryptography()
    content = _content(path, "--public-key")
    try:
        key: Ed25519PublicKey | None = serialization.load_pem_public_key(content)
    except ValueError:
        key = None
    if key is None or not isinstance(key, ed25519.Ed25519PublicKey):
        raise ConfigError(f"--public-key {path}: not an Ed25519 public key in PEM; {_MAKE} and `openssl pkey -pubout`")
    return key


_MAKE = "make one by `openssl genpkey -algorithm ed25519`"


def _content(path: str | Path, option: str) -> bytes:
    try:
        with Path(path).open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{option} {path}: cannot be read ({error.strerror})") from None
    if len(content) > MOST_BYTES:
        raise ConfigError(f"{option} {path}: too large, it is another file")
    return content


def _cryptography() -> tuple[Any, Any]:
    try:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ImportError:
        raise MissingExtraError(
            "signatures need the package cryptography, which is not installed; run: pip install "
            "'twotower-matcher[signing]', or give the digest by --expect-digest"
        ) from None
    return serialization, ed25519
