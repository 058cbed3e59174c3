"""What speaks against a challenger that answers unheard.

Notable: shares are judged by a test that holds at all looks together (Robbins 1970, Statistical methods related to the
law of the iterated logarithm): one error among the first contacts is no share of 1 %, however often one looks. Times
are medians: a stall of the machine is not the challenger's.
"""

from __future__ import annotations

import math

from loop.rollout.shadowed import Compared
from loop.rollout.spec import ShadowSpec

LEAST_ASKED = 50
"""Contacts before a share of errors, agreement or time takes a challenger back."""
LEVEL = 0.001
"""Chance that a challenger whose share is just what is allowed is taken back for it, over all looks together; contacts
that fail together, as in one bad minute, make it larger."""


def speaks_against(found: Compared, spec: ShadowSpec) -> str | None:
    """What takes it back, None: nothing."""
    if found.asked < LEAST_ASKED:
        return None
    if shown(found.errors, found.asked, spec.most_errors):
        return f"it could not answer {found.failed:.1%} of contacts"
    if spec.most_times is not None and found.times > spec.most_times:
        return f"it takes {found.times:.1f} times the champion's time"
    if found.contacts:
        others = found.contacts - round(found.agreement * found.contacts)
        if shown(others, found.contacts, 1.0 - spec.least_agreement):
            return f"it has the champion's first choice of {found.agreement:.1%} of contacts alone"
    return None


def shown(seen: int, of: int, most: float, level: float = LEVEL) -> bool:
    """Whether a share is more than `most`, by `seen` among `of` contacts, at any number of looks.

    The likelihood of q against `most`, averaged over q uniform in (most, 1), has a mean of one at most where the share
    is `most` or less; that it ever exceeds 1/level has a chance of `level` at most (Ville's inequality).
    """
    if not 0.0 < most < 1.0:
        return most <= 0.0 < seen
    from scipy.special import betaln
    from scipy.stats import beta

    above = beta.logsf(most, seen + 1, of - seen + 1) - math.log1p(-most)
    ratio = betaln(seen + 1, of - seen + 1) + above - seen * math.log(most) - (of - seen) * math.log1p(-most)
    return bool(ratio > -math.log(level))
