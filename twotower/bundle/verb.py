"""`twotower bundle sign|verify BUNDLE`: say who a bundle comes from, and check it before it is used."""

from __future__ import annotations

import argparse

from twotower.bundle.origin import add_options, expected, sign
from twotower.cli import Report, Verb
from twotower.errors import ConfigError


def configure(parser: argparse.ArgumentParser) -> None:
    """The verb's options."""
    parser.add_argument("action", choices=["sign", "verify"], help="what to do")
    parser.add_argument("bundle", metavar="BUNDLE", help="folder that `twotower export` wrote")
    parser.add_argument("--key", metavar="FILE", help="sign: the Ed25519 private key, PEM")
    parser.add_argument("--output", metavar="FILE", help="sign: the signature file to write")
    add_options(parser)
    parser.epilog = (
        "Keys: openssl genpkey -algorithm ed25519 -out signing.pem; openssl pkey -in signing.pem -pubout -out "
        "signing.pub.pem. The private key stays where bundles are made, routers have the public one."
    )


def run(args: argparse.Namespace) -> Report:
    """Sign the bundle, or check its files and, where that was asked for, its origin."""
    from twotower.bundle.bundle import Bundle

    _check(args)
    bundle = Bundle.open(args.bundle, expected(args))
    digest = bundle.manifest.id
    data = {"bundle": args.bundle, "digest": digest, "files": len(bundle.manifest.files)}
    if args.action == "sign":
        sign(digest, args.key, args.output)
        return Report(f"bundle {digest} signed: {args.output}", {**data, "signature": args.output})
    by = [
        *([f"signed: {args.signature}"] if args.signature else []),
        *(["as expected"] if args.expect_digest else []),
    ]
    origin = ", ".join(by) or "its origin was not asked for: give --expect-digest or --signature"
    return Report(f"bundle {digest}: {data['files']} files whole; {origin}", {**data, "origin_checked": bool(by)})


def _check(args: argparse.Namespace) -> None:
    needed = [f"--{name}" for name in ("key", "output") if getattr(args, name) is None]
    if args.action == "sign" and needed:
        raise ConfigError(f"sign: {needed[0]} is missing; it takes --key FILE and --output FILE")
    if args.action == "verify" and len(needed) < 2:
        raise ConfigError("verify: takes no --key and no --output; it checks with --public-key")


VERB = Verb("sign a bundle, or check that it is whole and whose", configure, run, extra="signing")
