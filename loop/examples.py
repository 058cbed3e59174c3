"""A few contacts of the test as the router saw them: the text, the candidates and what speaks for each.

Notable: the contacts are spread evenly over the test, not chosen by how well they came out, and matched with the
history that was known when each arrived. Kernels that differ in sharpness alone are one reason: their effects add up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from evaluation.ranking import split_log
from serve.answer import LEAST_SHARE, REASONS, Candidate, Ranked, Reason
from serve.matcher import Matcher
from serve.rolling import RollingMatcher
from twotower.scoring.join import Join
from twotower.scoring.kernels import Kernel
from twotower.tables.log import Log

Positions = npt.NDArray[np.int64]
LEAST_CANDIDATES = 5  # a choice among fewer shows nothing
WORDS = {"profile": "profile", "success": "likely success"}


@dataclass(frozen=True)
class Example:
    """One contact, its best `candidates`, and what the truth says: `true` P(resolved) by CSA, for all the eligible."""

    contact_id: str
    text: str
    labels: str
    """Language, channel and recorded intent."""
    candidates: list[Candidate]
    chosen: str | None
    """Whom the queue chose; None where the customer gave up first."""
    true: dict[str, float]

    @property
    def best(self) -> str:
        """The eligible CSA with the highest true probability (the first of equals)."""
        return max(sorted(self.true), key=lambda csa: self.true[csa])


def examples(bundle: str | Path, data: str | Path, count: int = 3, k: int = 3) -> list[Example]:
    """The best `k` candidates of `count` contacts from the last tenth of a generated centre.

    Raises:
        BundleError: the bundle cannot be trusted.
        DataError: the tables cannot be read.
    """
    log, matcher = Log.load(data), Matcher.load(bundle)
    rolling = RollingMatcher(matcher, log)
    picked = pick(log, rolling, count)
    true = true_probabilities(Path(data), [log.contacts.ids[i].as_py() for i in picked])
    return [_example(log, rolling, matcher.bundle.join, i, k, true) for i in picked]


def pick(log: Log, rolling: RollingMatcher, count: int) -> list[int]:
    """Positions of test contacts with text and a real choice, evenly spread; in the most frequent language."""
    test = split_log(log).test
    language = log.contacts.language.take(pa.array(test)).to_pylist()
    most = max(sorted({str(code) for code in language}), key=lambda code: sum(str(one) == code for one in language))
    usable = [
        int(i)
        for i, code in zip(test, language, strict=True)
        if str(code) == most
        and log.contacts.intent_text[int(i)].as_py()
        and len(rolling.candidates(int(i))) >= LEAST_CANDIDATES
    ]
    places = (np.arange(min(count, len(usable))) + 0.5) / max(min(count, len(usable)), 1) * len(usable)
    return [usable[int(place)] for place in places]


def true_probabilities(folder: Path, contact_ids: list[str]) -> dict[tuple[str, str], float]:
    """True P(resolved) by (contact, CSA) for the eligible pairs of these contacts."""
    table = pq.read_table(folder / "truth.parquet", filters=[("contact_id", "in", contact_ids)])
    pairs = zip(table["contact_id"].to_pylist(), table["csa_id"].to_pylist(), strict=True)
    return dict(zip(pairs, table["p_resolved"].to_pylist(), strict=True))


def _example(
    log: Log, rolling: RollingMatcher, join: Join, position: int, k: int, true: dict[tuple[str, str], float]
) -> Example:
    contacts = log.contacts
    ranked = rolling.rank(rolling.contacts(np.array([position])), rolling.candidates(position), k)
    p, sure, reasons = ranked.p_resolved, ranked.uncertainty, in_words(ranked, join.ranks[rolling.default_rank].kernels)
    candidates = [
        Candidate(
            log.csas.ids[int(code)].as_py(),
            float(score),
            None if p is None else float(p[i]),
            None if sure is None else float(sure[i]),
            reasons[i],
        )
        for i, (code, score) in enumerate(zip(ranked.codes, ranked.score, strict=True))
    ]
    contact_id = contacts.ids[position].as_py()
    labels = [getattr(contacts, name)[position].as_py() for name in ("language", "channel", "intent")]
    taken = np.flatnonzero(log.handovers.contact == position)
    first = taken[np.argsort(log.handovers.assigned_at[taken], kind="stable")[:1]]
    return Example(
        contact_id=contact_id,
        text=contacts.intent_text[position].as_py(),
        labels=", ".join(str(label) for label in labels if label),
        candidates=candidates,
        chosen=log.csas.ids[int(log.handovers.csa[first[0]])].as_py() if len(first) else None,
        true={csa: value for (contact, csa), value in true.items() if contact == contact_id},
    )


def in_words(ranked: Ranked, kernels: Sequence[Kernel]) -> list[tuple[Reason, ...]]:
    """`serve.matcher.explain` for people: parts that mean the same are one reason, strongest first.

    The effects of all parts of a candidate add up to its score above the mean of the scored candidates.
    """
    told = {kernel.name: _words(kernel) for kernel in kernels}
    names = [told.get(name, WORDS.get(name, name)) for name in ranked.scored.names]
    parts = ranked.scored.contributions
    effects = parts[ranked.places] - parts.mean(axis=0)
    out = []
    for row in effects:
        summed = dict.fromkeys(names, 0.0)
        for name, effect in zip(names, row, strict=True):
            summed[name] += float(effect)
        whole = max(sum(abs(effect) for effect in summed.values()), 1e-12)
        strongest = sorted(summed.items(), key=lambda item: -abs(item[1]))[:REASONS]
        told_apart = [
            (name, effect, effect / whole) for name, effect in strongest if abs(effect) >= LEAST_SHARE * whole
        ]
        out.append(tuple(Reason(*one) for one in told_apart if one[1]))
    return out


def _words(kernel: Kernel) -> str:
    what = "outcomes" if kernel.statistic == "residual" else "amount"
    if kernel.scope == "pair":
        return f"{what} with this customer"
    return f"{what} of like work" if kernel.sharpness else f"{what} of recent work"
