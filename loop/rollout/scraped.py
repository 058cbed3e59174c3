"""What a service's /metrics says of which bundle it serves, and of how often it did not answer by it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPException
from urllib.error import URLError
from urllib.request import Request, urlopen

from twotower.errors import ConfigError, TwoTowerError

TIMEOUT_S = 5.0


class Unreachable(TwoTowerError):
    """The service's figures cannot be read now."""


@dataclass(frozen=True)
class Scraped:
    """Counters since the service began."""

    bundles: frozenset[str]
    """That a worker serves now."""
    matches: float
    fallbacks: float


def read_metrics(text: str) -> Scraped:
    """Of Prometheus' text format. Raises Unreachable for what is none of a service."""
    from prometheus_client.parser import text_string_to_metric_families

    bundles, matches, fallbacks = set(), None, 0.0
    try:
        for family in text_string_to_metric_families(text):
            for one in family.samples:
                if one.name == "twotower_model" and one.value > 0:
                    bundles.add(one.labels["bundle"])
                elif one.name == "twotower_candidates_count":
                    matches = one.value
                elif one.name == "twotower_fallbacks_total":
                    fallbacks += one.value
    except (ValueError, KeyError) as error:
        raise Unreachable(f"the service's figures cannot be read ({error})") from None
    if matches is None or not bundles:
        raise Unreachable("the service's figures name no bundle that it serves; give the /metrics of `twotower serve`")
    return Scraped(frozenset(bundles), matches, fallbacks)


def scraper(url: str, token: str | None) -> Callable[[], Scraped]:
    """Reads a URL each time. Raises ConfigError for one that is none."""
    if not url.startswith(("http://", "https://")):
        raise ConfigError(f"--metrics {url}: a URL such as http://127.0.0.1:8080/metrics expected")
    head = {} if token is None else {"Authorization": f"Bearer {token}"}

    def scrape() -> Scraped:
        try:
            with urlopen(Request(url, headers=head), timeout=TIMEOUT_S) as answer:
                return read_metrics(answer.read().decode("utf-8", "replace"))
        except (URLError, OSError, HTTPException) as error:  # the last: cut off, or no HTTP at all
            raise Unreachable(f"{url}: cannot be read ({str(error) or type(error).__name__})") from None

    return scrape
