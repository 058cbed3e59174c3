"""From settings to a service that is ready: bundle, roster, store, tokens, and a first match to warm up."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from serve.breaker import Breaker
from serve.customers import Customers
from serve.customers_secret import check_options, read_secret
from serve.guarded import Guarded
from serve.http.ended import Learner
from serve.http.returning import Returning
from serve.http.service import Service, Serving
from serve.http.settings import Settings
from serve.http.tokens import Tokens, read_tokens
from serve.matcher import Matcher
from serve.roster.eligibility import Need
from serve.roster.journal import Journal, journal_secret
from serve.roster.keeper import Keeper
from serve.sets.window import warm
from serve.store.store import Store
from twotower.bundle.origin import expected
from twotower.errors import BundleError, ConfigError

_log = logging.getLogger("serve")
LOOPBACK = ("127.0.0.1", "::1", "localhost")
PROBES: tuple[Mapping[str, Any], ...] = (
    {},
    {
        "intent_text": "where is my refund",
        "transcript": "hello\nI was charged twice",
        "language": "en",
        "channel": "chat",
    },
    {"intent_text": "¿dónde está mi pedido? 注文 " * 40, "language": "es", "channel": "e-mail"},
    {"intent_text": "my parcel did not come and nobody answers"},  # reads the language detector, which takes a while
)


def check_settings(settings: Settings) -> None:
    """Raises ConfigError for settings that do not fit together."""
    if settings.insecure and settings.host not in LOOPBACK:
        raise ConfigError(
            f"--insecure-loopback with --host {settings.host}: without tokens the service listens on this machine "
            f"alone ({', '.join(LOOPBACK)})"
        )
    if settings.insecure and settings.tokens is not None:
        raise ConfigError("--insecure-loopback with --tokens: give one of the two")
    check_options(settings.secret, settings.customers)
    for name, value, least in (
        ("--workers", settings.workers, 1),
        ("--threads", settings.threads, 1),
        ("--port", settings.port, 0),
    ):
        if value < least:
            raise ConfigError(f"{name}: at least {least} expected, got {value}")
    if not settings.insecure and not read_tokens(settings.tokens):
        raise ConfigError("no tokens: nobody could ask anything; `twotower tokens add` makes one")


def build_service(settings: Settings, journal: str | Path) -> Service:
    """Load everything. Raises BundleError, ConfigError, StoreError, JournalError, one line each."""
    check_settings(settings)
    tokens = None if settings.insecure else Tokens(read_tokens(settings.tokens))
    # Before the customers: who is erased while they are loaded is heard of later.
    store = None if settings.store is None else Store.open(settings.store, "redacted" if settings.keep_text else "none")
    try:
        return Service(load_serving(settings, journal), settings, tokens, store)
    except BaseException:
        if store is not None:
            store.close()
        raise


def load_serving(settings: Settings, journal: str | Path, returning: Returning | None = None) -> Serving:
    """A bundle with the roster of a journal, checked (`self_check`). returning: customers who are open already."""
    secret = journal_secret(journal)
    opened = Returning(_customers(settings)) if returning is None else returning
    # A link may be set to another folder while this is read, and later, when parts are read that were not needed yet.
    known = opened.customers if returning is None else None
    matcher = Matcher.load(Path(settings.bundle).resolve(), _digest(settings), known, secret)
    matcher.customers = opened.customers  # not above: those who are open will go on with this bundle, without a warning
    keeper = Keeper(matcher, Journal(journal, secret))
    self_check(matcher)
    if keeper.skipped:
        _log.warning("the journal tells of %d changes of CSAs whom this bundle does not know", keeper.skipped)
    warm()
    return Serving(Guarded(matcher, settings.budget_s, Breaker()), keeper, Learner(matcher, opened))


def _customers(settings: Settings) -> Customers | None:
    if settings.customers is None:
        return None
    if settings.store is None:
        _log.warning("--customers without --store: who comes and how it ends is not counted")
    return Customers.load(settings.customers, read_secret(settings.secret))


def _digest(settings: Settings) -> str | None:
    """Which bundle it must be; a signature is read anew each time, as the next bundle comes with another."""
    asked = {"expect_digest": settings.digest, "signature": settings.signature, "public_key": settings.public_key}
    return expected(argparse.Namespace(**asked))


def self_check(matcher: Matcher) -> None:
    """Match some contacts with every option that requests use. Raises BundleError where the model does not answer."""
    try:
        # Read now what the first change would read, as the folder may be gone by then.
        _ = matcher.bundle.engine, matcher.bundle.csa_encoder
        for probe in PROBES:
            found = matcher.match(probe, 10, eligible=None)
            matcher.match(probe, 10, eligible=Need(probe.get("language"), probe.get("channel")))
            if matcher.snapshot.active.any() and not found:
                raise BundleError("it finds nobody though somebody is there")
            if not all(abs(one.score) < float("inf") for one in found):
                raise BundleError("its scores are not finite")
    except Exception as error:  # whatever it is, this bundle is not to be served
        raise BundleError(
            f"{matcher.bundle.path}: does not pass its check ({type(error).__name__}: {error})"
        ) from error
