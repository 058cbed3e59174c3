"""What a service is told when it starts, and what it lets its callers do."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, field
from typing import Any

from serve.guarded import BUDGET_S


@dataclass(frozen=True)
class Limits:
    """Of one process. What is beyond them is refused at once: by 413 or 422 what is too large, by 429 who asks too
    often, by 503 what comes while too much is being done; 429 and 503 say by Retry-After when to come again."""

    body_bytes: int = 1 << 20
    k: int = 200
    contacts: int = 64  # of an assignment
    entries: int = 1000  # of a list of roster changes or of feedback
    rate_per_s: float = 2000.0  # of one token, on average
    burst: float = 4000.0  # requests that it may be ahead
    connections: int = 1024
    requests: int = 256  # in progress
    head_s: float = 5.0  # until the head of a request has come
    body_s: float = 5.0  # until its body has come
    request_s: float = 30.0  # until it is answered, whatever it is
    write_s: float = 5.0  # that a client may read nothing of its answer
    idle_s: float = 65.0  # of a connection between requests; longer than the usual load balancer's 60
    head_bytes: int = 1 << 16
    deadline_s: float = 0.25  # of a match that names none
    most_deadline_s: float = 10.0


@dataclass(frozen=True)
class Settings:
    """Of `twotower serve`; plain values, which cross to worker processes as JSON."""

    bundle: str
    store: str | None = None
    keep_text: bool = True
    tokens: str | None = None
    insecure: bool = False
    customers: str | None = None
    secret: str | None = None
    journal: str | None = None
    roster: str | None = None
    digest: str | None = None
    signature: str | None = None
    public_key: str | None = None
    shadow: str | None = None
    host: str = "127.0.0.1"
    port: int = 8080
    workers: int = 1
    threads: int = field(default_factory=lambda: max(2, os.cpu_count() or 1))
    budget_s: float = BUDGET_S
    drain_s: float = 20.0
    watch_s: float = 2.0
    number: int = 0  # of this process among the workers
    limits: Limits = field(default_factory=Limits)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, found: dict[str, Any]) -> Settings:
        """The inverse of `to_json`."""
        return cls(**{**found, "limits": Limits(**found["limits"])})
