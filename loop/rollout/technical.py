"""Guardrails that need no statistics: is the challenger served when it is to be, and does it answer?

Notable: a challenger that kills or hangs the service leaves no figures behind, so their silence in its turn is harm.
"""

from __future__ import annotations

from dataclasses import replace

from loop.rollout.scraped import Scraped
from loop.rollout.spec import TechnicalSpec
from loop.rollout.state import Counted
from twotower.clock import SECOND


def counted(before: Counted, found: Scraped, wanted: str, challenger: str, now: int) -> Counted:
    """What is known after a look at the service's figures (µs UTC). wanted: the digest that the link names.

    What happened between two looks counts for the challenger where it was to be served, and was, at both; a service
    that has begun anew counts from its beginning.
    """
    since = before.since if before.bundle == wanted else now
    alone = found.bundles == {wanted}
    seen = replace(before, at=now if alone else 0, bundle=wanted, since=since, unread=0, matches=found.matches,
                   fallbacks=found.fallbacks)  # fmt: skip
    if not (alone and before.at and before.bundle == wanted == challenger):
        return seen
    matches, fallbacks = found.matches - before.matches, found.fallbacks - before.fallbacks
    if matches < 0 or fallbacks < 0:
        matches, fallbacks = found.matches, found.fallbacks
    return replace(
        seen,
        challenger_matches=before.challenger_matches + matches,
        challenger_fallbacks=before.challenger_fallbacks + fallbacks,
    )


def silent(before: Counted, wanted: str, challenger: str, now: int) -> Counted:
    """The same after a look (µs UTC) at which the figures could not be read: nothing is known of what went between, and
    the time counts in which the challenger is to be served."""
    unread = 0 if wanted != challenger else before.unread or now
    return replace(before, at=0, unread=unread)


def silence(seen: Counted, spec: TechnicalSpec, now: int) -> str | None:
    """What the silence says against the challenger, None: nothing."""
    if seen.unread and now - seen.unread > spec.pick_up_s * SECOND:
        return f"the service's figures cannot be read for more than {spec.pick_up_s:g} s while it is to be served"
    return None


def harm(seen: Counted, found: Scraped, challenger: str, spec: TechnicalSpec, now: int) -> str | None:
    """What speaks against the challenger, None: nothing."""
    if seen.bundle == challenger and challenger not in found.bundles and now - seen.since > spec.pick_up_s * SECOND:
        there = ", ".join(sorted(one[:12] for one in found.bundles))
        return f"it is not served {spec.pick_up_s:g} s after it was to be: the service serves {there}"
    share = seen.challenger_fallbacks / max(seen.challenger_matches, 1)
    if seen.challenger_matches >= spec.matches and share > spec.most_fallbacks:
        return f"{share:.1%} of {seen.challenger_matches:,.0f} matches fell back on the queue's order"
    return None
