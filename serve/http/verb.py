"""`twotower serve BUNDLE`: the matcher over HTTP."""

from __future__ import annotations

import argparse
import os

from twotower.bundle.origin import add_options
from twotower.cli import Report, Verb
from twotower.errors import ConfigError

STORE = "TWOTOWER_STORE"


def configure(parser: argparse.ArgumentParser) -> None:
    """The verb's options."""
    parser.add_argument("bundle", metavar="BUNDLE", help="folder that `twotower export` wrote, or a link to one")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at (default 127.0.0.1)")
    parser.add_argument("--port", type=int, default=8080, help="port to listen at (default 8080; 0: any)")
    parser.add_argument("--tokens", metavar="FILE", help="who may ask (`twotower tokens`); default: TWOTOWER_TOKENS")
    parser.add_argument("--insecure-loopback", action="store_true", help="no tokens; only this machine may ask")
    parser.add_argument("--store", metavar="URL", help=f"of decisions and feedback; default: {STORE}, else none")
    parser.add_argument("--no-text", action="store_true", help="store: keep no text of contacts")
    parser.add_argument("--journal", metavar="FILE", help="of the roster's changes; default: they end with the process")
    parser.add_argument("--roster", metavar="FILE", help="csas.parquet that the roster is to follow")
    parser.add_argument("--customers", metavar="FILE", help="store of returning customers")
    parser.add_argument("--secret", metavar="FILE", help="the store's secret; default: TWOTOWER_CUSTOMERS_SECRET")
    add_options(parser, "--digest")
    parser.add_argument("--shadow", metavar="BUNDLE", help="another bundle, or a link to one, that answers unheard")
    parser.add_argument("--workers", type=int, default=1, help="processes (default 1)")
    parser.add_argument("--threads", type=int, metavar="N", help="that match, a process (default: one a core)")
    parser.add_argument("--budget-ms", type=float, default=50.0, help="of the model, a match (default 50)")
    parser.add_argument("--deadline-ms", type=float, default=250.0, help="of a match that names none (default 250)")
    parser.add_argument("--rate", type=float, default=2000.0, help="requests a second of one token (default 2000)")
    parser.add_argument("--connections", type=int, default=1024, help="at once, a process (default 1024)")
    parser.add_argument("--body-bytes", type=int, default=1 << 20, help="of a request at most (default 1048576)")
    parser.add_argument("--drain", type=float, default=20.0, metavar="S", help="seconds to finish in (default 20)")
    parser.epilog = "SIGTERM drains: what is under way is answered, then the process ends. See docs/serving.md."


def run(args: argparse.Namespace) -> Report:
    """Serve until told to stop."""
    import uvicorn  # noqa: F401  first, so that a missing extra is named before anything is loaded

    from serve.http.run import run as serve
    from serve.http.settings import Limits, Settings

    for name in ("budget_ms", "deadline_ms", "rate", "connections", "body_bytes", "drain"):
        if not 0 < getattr(args, name) < 1e12:
            raise ConfigError(f"--{name.replace('_', '-')}: more than 0 is expected")
    limits = Limits(
        body_bytes=args.body_bytes, connections=args.connections, rate_per_s=args.rate, burst=2 * args.rate + 1,
        deadline_s=args.deadline_ms / 1e3, most_deadline_s=max(Limits.most_deadline_s, args.deadline_ms / 1e3),
    )  # fmt: skip
    threads = {} if args.threads is None else {"threads": args.threads}
    settings = Settings(
        args.bundle, store=args.store if args.store is not None else os.environ.get(STORE), keep_text=not args.no_text,
        tokens=args.tokens, insecure=args.insecure_loopback, customers=args.customers, secret=args.secret,
        journal=args.journal, roster=args.roster, digest=args.expect_digest, signature=args.signature,
        public_key=args.public_key, shadow=args.shadow, host=args.host, port=args.port, workers=args.workers,
        budget_s=args.budget_ms / 1e3, drain_s=args.drain, limits=limits, **threads,
    )  # fmt: skip
    serve(settings)
    return Report("stopped", {"stopped": True})


VERB = Verb("the matcher over HTTP", configure, run, extra="serve")
