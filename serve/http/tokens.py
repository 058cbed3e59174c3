"""Bearer tokens: who may ask for what, until when.

Notable: a token is 256 random bits, shown once when it is made; only its SHA-256 is kept, so a file that leaks opens
nothing (a slow hash would protect words that people choose; nobody chooses these). What is presented is compared with
every entry in constant time. Roles: `router` (match, assign, feedback, the roster's list), `roster` (the roster, both
ways), `supervisor` (explanations, which are figures about one person, and the roster's list), `metrics` (for the
scraper), `admin` (everything; nobody else may erase).
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import re
import secrets
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twotower.clock import format_time, now, parse_time
from twotower.errors import ConfigError

VARIABLE = "TWOTOWER_TOKENS"
ROLES = ("router", "roster", "supervisor", "metrics", "admin")
LONGEST = 512  # characters of a presented token
_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_LIKE = '{"tokens": [{"name": "router-1", "roles": ["router"], "sha256": "…", "expires": "2027-01-01T00:00:00Z"}]}'


@dataclass(frozen=True)
class Token:
    """One entry: never the token itself. `expires` µs, None: never."""

    name: str
    roles: frozenset[str]
    digest: bytes
    expires: int | None

    def may(self, roles: Iterable[str]) -> bool:
        """Whether it has one of some roles; an admin has all."""
        return "admin" in self.roles or not self.roles.isdisjoint(roles)

    def to_json(self) -> dict[str, Any]:
        """As a file holds it."""
        expires = None if self.expires is None else format_time(self.expires)
        return {"name": self.name, "roles": sorted(self.roles), "sha256": self.digest.hex(), "expires": expires}


EVERYONE = Token("loopback", frozenset({"admin"}), b"", None)
"""Who asks where tokens are switched off."""


class Tokens:
    """The tokens of a service. now: µs since 1970."""

    def __init__(self, tokens: Sequence[Token], now: Callable[[], int] = now) -> None:
        self._tokens, self._now = tuple(tokens), now

    def __len__(self) -> int:
        return len(self._tokens)

    def find(self, authorization: str | None) -> Token | None:
        """Whose an `Authorization` header is, None where it is nobody's or has expired."""
        kind, _, token = (authorization or "").partition(" ")
        if kind.lower() != "bearer" or not 0 < len(token) <= LONGEST:
            return None
        digest, found = digest_of(token.strip()), None
        for one in self._tokens:  # all of them, so that the time tells nothing
            if hmac.compare_digest(digest, one.digest):
                found = one
        return None if found is None or (found.expires is not None and self._now() >= found.expires) else found


def digest_of(token: str) -> bytes:
    """What is kept of a token."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def new_token(name: str, roles: Sequence[str], expires: int | None) -> tuple[str, Token]:
    """A new token, to be told once, and its entry. Raises ConfigError for a name or a role that cannot be."""
    token = "tt_" + secrets.token_urlsafe(32)
    return token, _entry({"name": name, "roles": list(roles), "sha256": digest_of(token).hex()}, "token", expires)


def read_tokens(file: str | Path | None = None) -> list[Token]:
    """The entries of a file, else of the environment. Raises ConfigError where there are none or they cannot be."""
    if file is not None:
        source = f"--tokens {file}"
        try:
            text = Path(file).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "not UTF-8"
            raise ConfigError(f"{source}: cannot be read ({why}); `twotower tokens add` makes one") from None
    elif VARIABLE in os.environ:
        source, text = VARIABLE, os.environ[VARIABLE]
    else:
        raise ConfigError(
            f"no tokens: give --tokens FILE or set {VARIABLE} (`twotower tokens add` makes them), or "
            "--insecure-loopback on this machine alone"
        )
    try:
        found = json.loads(text)["tokens"]
        entries = [_entry(one, f"{source}, entry {i}") for i, one in enumerate(found)]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise ConfigError(f"{source}: not a list of tokens; it looks like {_LIKE}") from None
    names, digests = [one.name for one in entries], {one.digest for one in entries}
    if len(set(names)) < len(names) or len(digests) < len(names):
        raise ConfigError(f"{source}: a name or a token stands twice; each has one entry")
    return entries


def _entry(found: Any, where: str, expires: int | None = None) -> Token:
    name, roles, digest = found["name"], found["roles"], found["sha256"]
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ConfigError(f"{where}: name; 1 to 64 letters, digits, dots and dashes are expected")
    if not isinstance(roles, list) or not roles or not set(roles) <= set(ROLES):
        raise ConfigError(f"{where} ({name}): roles; some of {', '.join(ROLES)} are expected")
    if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
        raise ConfigError(f"{where} ({name}): sha256; 64 hexadecimal digits are expected")
    if found.get("expires") is not None:
        expires = parse_time(str(found["expires"]), f"{where} ({name}), expires")
    return Token(name, frozenset(roles), bytes.fromhex(digest), expires)
