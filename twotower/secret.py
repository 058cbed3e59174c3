"""The secret that customers are hashed with: from a file or the environment, never from the command line.

Notable: a word on the command line stands in the process list and in the shell's history. White space at the end does
not count, so a file that an editor or `openssl rand -hex 32` ended with a line break is the secret that was meant.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from twotower.errors import ConfigError
from twotower.features.engine.store import LEAST_SECRET

VARIABLE = "TWOTOWER_CUSTOMERS_SECRET"
MOST_SECRET = hashlib.blake2b.MAX_KEY_SIZE


def read_secret(file: str | Path | None = None) -> bytes:
    """The secret of `--secret FILE`, else of the environment. Raises ConfigError where there is none, or one of a
    length that keys cannot have; the message never holds any of it."""
    if file is not None:
        source = f"--secret {file}"
        try:
            secret = Path(file).read_bytes()
        except OSError as error:
            raise ConfigError(f"{source}: cannot be read ({error.strerror}); name a file with the secret") from None
    elif VARIABLE in os.environ:
        source, secret = VARIABLE, os.environb[VARIABLE.encode()]
    else:
        raise ConfigError(f"the customers' secret is missing: give --secret FILE, or set {VARIABLE}")
    secret = secret.rstrip()
    if not LEAST_SECRET <= len(secret) <= MOST_SECRET:
        raise ConfigError(
            f"{source}: the secret has {len(secret)} bytes; {LEAST_SECRET} to {MOST_SECRET} are expected, "
            "such as `openssl rand -hex 32` writes"
        )
    return secret
