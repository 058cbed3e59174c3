"""The residual report: which slices of contacts a model misses, and where new signals are to be found.

Notable: many slices are looked at, so some look bad by chance. Each is tested against the rest of the contacts (Welch),
and only those that pass Benjamini and Hochberg's procedure at a 5 % false-discovery rate are spoken of. Beside each
stands the best baseline on the same contacts: where that is ahead, the signal is in the log already.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from evaluation.residuals_slices import Slice
from twotower.metrics import Bootstrap, Interval

Values = npt.NDArray[np.float64]

LEAST = 20
FALSE_DISCOVERIES = 0.05

WHERE = {
    "queue": "what tells the needs of this queue apart: its forms, product codes, earlier steps",
    "channel": "what this channel carries beside the text: menu choices, page visited, attachments",
    "language": "text representations for this language, and the languages CSAs speak and at which level",
    "intent": "a finer need inside this intent: product, cause, what was tried",
    "time of day": "who is on shift and free at this time",
    "text length": "context around short texts, or summaries of long ones",
    "words of the need": "the vocabulary: new products and names, in the catalogue before they are in the log",
    "customer": "who the customer is: account, products, earlier contacts on other channels",
    "hand-overs the CSA had": "what speaks for CSAs before their history does: skills, training, profile text",
    "last hand-over of the CSA": "presence: shifts, leave and team moves, so that a return is seen coming",
    "CSA": "what this CSA is sought out for and the log does not say: skills, projects, own customers",
}


@dataclass(frozen=True)
class Residual:
    """One slice of `contacts` contacts: what the model `reached` there on average, beside the `rest` of the contacts.

    `share` of all contacts, `loss` its share of the total loss Σ (1 − reached), `excess` the part of `loss` above
    `share`. `behind`: mean of best baseline − model in the slice (None without one). `p` of Welch's test of the slice
    against the rest; `significant` after false-discovery control.
    """

    kind: str
    value: str
    contacts: int
    reached: Interval
    rest: float
    share: float
    loss: float
    excess: float
    behind: Interval | None
    p: float
    significant: bool

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        plain = {name: getattr(self, name) for name in self.__dataclass_fields__}
        plain["reached"] = vars(self.reached)
        plain["behind"] = None if self.behind is None else vars(self.behind)
        return plain


def residuals(
    reached: Values,
    found: Sequence[Slice],
    bootstrap: Bootstrap,
    baseline: Values | None = None,
    least: int = LEAST,
) -> list[Residual]:
    """Judge slices by what the model reached on their contacts.

    Args:
        reached: (n,) within 0..1, 1 is best: reciprocal ranks, or likelihoods of outcomes.
        found: slices of these n contacts; those with fewer than `least` contacts are left out.
        bootstrap: over the n contacts.
        baseline: (n,) the same of the best baseline.
        least: contacts a slice needs.

    Returns:
        The slices, those that lose most beyond their share first.
    """
    kept = [part for part in found if part.member.sum() >= least and (~part.member).sum() > 1]
    if not kept:
        return []
    p = np.array([_welch(reached[part.member], reached[~part.member]) for part in kept])
    significant = _discoveries(p)
    masks = np.stack([part.member for part in kept], axis=1)
    means = bootstrap.means(np.where(masks, reached[:, None], np.nan))
    behind: Sequence[Interval | None] = [None] * len(kept)
    if baseline is not None:
        behind = bootstrap.means(np.where(masks, (baseline - reached)[:, None], np.nan))
    total = max(float((1 - reached).sum()), 1e-12)
    out = []
    for i, part in enumerate(kept):
        inside = reached[part.member]
        share, loss = len(inside) / len(reached), float((1 - inside).sum()) / total
        rest = float(reached[~part.member].mean())
        out.append(
            Residual(
                part.kind,
                part.value,
                len(inside),
                means[i],
                rest,
                share,
                loss,
                loss - share,
                behind[i],
                float(p[i]),
                bool(significant[i]),
            )
        )
    return sorted(out, key=lambda residual: (-residual.excess, residual.kind, residual.value))


def in_words(found: Sequence[Residual], measure: str = "MRR@10", most: int = 5) -> list[str]:
    """Where new signals are to be found: a sentence for each of the worst slices, at most one per kind.

    `measure` is the name of what was reached.
    """
    lines: list[str] = []
    told: set[str] = set()
    for residual in found:
        if len(lines) == most:
            break
        if not residual.significant or residual.excess <= 0 or residual.kind in told:
            continue
        told.add(residual.kind)
        lines.append(_sentence(residual, measure))
    return lines or ["No slice is missed more than the rest beyond what chance explains."]


def _sentence(residual: Residual, measure: str) -> str:
    said = (
        f"{residual.kind}: {residual.value} – {residual.share:.0%} of the contacts, {residual.loss:.0%} of the loss, "
        f"{measure} {residual.reached.value:.3f} against {residual.rest:.3f} elsewhere."
    )
    if residual.behind is not None and residual.behind.low > 0:
        ahead = residual.behind.value
        return f"{said} The best baseline is ahead by {ahead:.3f} here: the signal is in the log and not yet used."
    return f"{said} Look for {WHERE.get(residual.kind, 'what sets these contacts apart')}."


def _welch(left: Values, right: Values) -> float:
    """Two-sided p of equal means; 1 or 0 where neither side varies."""
    from scipy.stats import ttest_ind

    if np.ptp(left) == 0 and np.ptp(right) == 0:
        return float(left[0] == right[0])
    return float(ttest_ind(left, right, equal_var=False).pvalue)


def _discoveries(p: Values) -> npt.NDArray[np.bool_]:
    """Which tests are rejected at the false-discovery rate (Benjamini & Hochberg 1995)."""
    from scipy.stats import false_discovery_control

    rejected: npt.NDArray[np.bool_] = false_discovery_control(p) <= FALSE_DISCOVERIES
    return rejected
