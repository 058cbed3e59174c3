"""What Prometheus reads of a service.

Notable: with several workers each writes its values to files of its own that whoever is scraped adds up
(`PROMETHEUS_MULTIPROC_DIR`, which `run.py` sets), so every figure is of all workers; gauges say how they are put
together.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from serve.guarded import REASONS, Decision

STAGES = (0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 1.0)
SIZES = (0, 1, 2, 5, 10, 20, 50, 100, 200)
SHARES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
VARIABLE = "PROMETHEUS_MULTIPROC_DIR"


class Metrics:
    """One registry of one service."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        at = self.registry
        self.stage = Histogram(
            "twotower_stage_seconds", "Time of a match by stage", ["stage"], buckets=STAGES, registry=at
        )
        self.http = Histogram(
            "twotower_request_seconds", "Time of a request", ["route", "status"], buckets=STAGES, registry=at
        )
        self.candidates = Histogram("twotower_candidates", "Candidates of a match", buckets=SIZES, registry=at)
        self.fallbacks = Counter("twotower_fallbacks", "Matches that the model did not answer", ["reason"], registry=at)
        self.refused = Counter("twotower_refused", "Requests and connections that were refused", ["why"], registry=at)
        self.swaps = Counter("twotower_swaps", "New bundles and rosters by outcome", ["outcome"], registry=at)
        self.heard = Counter(
            "twotower_heard", "What workers took in of arrivals and hand-overs in the store", ["what", "when"],
            registry=at,
        )  # fmt: skip
        self.breaker = Gauge(
            "twotower_breaker_open", "Workers whose breaker is open", registry=at, multiprocess_mode="livesum"
        )
        self.roster_version = Gauge(
            "twotower_roster_version", "Version of the oldest roster", registry=at, multiprocess_mode="livemin"
        )
        self.roster_age = Gauge(
            "twotower_roster_age_seconds",
            "Seconds since a roster was last known to be up to date",
            registry=at,
            multiprocess_mode="livemax",
        )
        self.roster_change_age = Gauge(
            "twotower_roster_change_age_seconds", "Seconds since the roster changed", registry=at,
            multiprocess_mode="livemin",
        )  # fmt: skip
        self.model = Gauge(
            "twotower_model", "Workers by the bundle that they serve", ["bundle"], registry=at,
            multiprocess_mode="livesum",
        )  # fmt: skip
        self.decisions = Gauge(
            "twotower_decisions", "Logged decisions by what became of them", ["state"], registry=at,
            multiprocess_mode="livesum",
        )  # fmt: skip
        self.texts = Gauge(
            "twotower_texts", "Texts of contacts by what became of them", ["state"], registry=at,
            multiprocess_mode="livesum",
        )  # fmt: skip
        self.store_away = Gauge(
            "twotower_store_away", "Workers whose database is away", registry=at, multiprocess_mode="livesum"
        )
        self.shadowed = Counter(
            "twotower_shadow", "Contacts that the shadow was asked of, by what became of them", ["outcome"], registry=at
        )
        self.shadow_overlap = Histogram(
            "twotower_shadow_overlap", "Share of candidates that shadow and served have both", buckets=SHARES,
            registry=at,
        )  # fmt: skip
        self.shadow_seconds = Histogram(
            "twotower_shadow_seconds", "Time of a match of both", ["bundle"], buckets=STAGES, registry=at
        )
        self.shadow_loaded = Gauge(
            "twotower_shadow_loaded", "Workers that have a shadow", registry=at, multiprocess_mode="livesum"
        )
        self._stages = {name: self.stage.labels(name) for name in ("read", "rank", "whole")}
        self._reasons = {reason: self.fallbacks.labels(reason) for reason in REASONS}
        self._bundle: str | None = None

    def matched(self, decision: Decision) -> None:
        """One match."""
        for stage, seconds in decision.elapsed_s.items():
            self._stages[stage].observe(seconds)
        self.candidates.observe(len(decision.candidates))
        if decision.fallback is not None:
            self._reasons[decision.fallback].inc()

    def serves(self, bundle: str) -> None:
        """Which bundle this worker serves from now on."""
        if bundle != self._bundle:
            if self._bundle is not None:
                self.model.labels(self._bundle).set(0)
            self.model.labels(bundle).set(1)
            self._bundle = bundle

    def logged(self, decisions: Mapping[str, int], texts: Mapping[str, int], away: bool) -> None:
        """What the store says of decisions and of texts."""
        for gauge, counts in ((self.decisions, decisions), (self.texts, texts)):
            for state, count in counts.items():
                gauge.labels(state).set(count)
        self.store_away.set(away)

    def text(self) -> bytes:
        """In the format that Prometheus reads."""
        if VARIABLE not in os.environ:
            return generate_latest(self.registry)
        together = CollectorRegistry()
        MultiProcessCollector(together)  # type: ignore[no-untyped-call]
        return generate_latest(together)
