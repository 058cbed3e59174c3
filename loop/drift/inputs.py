"""What comes in: how much, the mix of every label, and labels that nobody has seen before.

    PSI = Σ_c (q_c − p_c) ln(q_c / p_c),   p and q the shares of category c in two adjacent windows

Notable: PSI has no usual size of its own: it grows with the number of categories and shrinks with the number of
contacts, so the thresholds of the trade (0.1, 0.25) are not used; what adjacent windows of the same data had is. Half a
contact is added to every category, so that one which is missing on a side costs something finite. A null is a category.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from loop.drift.series import Doubles, Series, share, unknown
from loop.drift.windows import LEAST, Ints, Windows
from twotower.clock import DAY, HOUR

LABELS = ("channel", "queue", "language", "intent")
BLOCK = 4 * HOUR
MONDAY = 4 * DAY  # 1970-01-05 was one
LENGTHS = 10
NAMED = 8


def inputs(windows: Windows) -> Iterator[Series]:
    """Volume, population stability of every column, and new intents and languages."""
    yield volume(windows)
    yield stability("input.psi_hour", windows, windows.contact_window(), _hours(windows))
    for name in LABELS:
        codes, names = coded(getattr(windows.log.contacts, name))
        yield stability(f"input.psi_{name}", windows, windows.contact_window(), codes, names)
    yield _eligible(windows)
    yield _new("input.new_intents", windows, windows.log.contacts.intent)
    yield _new("input.new_languages", windows, windows.log.contacts.language)


def coded(labels: pa.StringArray) -> tuple[Ints, list[str]]:
    """Codes (N,) of labels and their names; a null is the category `(none)`."""
    found = labels.dictionary_encode()
    names = [str(name) for name in found.dictionary.to_pylist()]
    codes = found.indices.fill_null(len(names)).to_numpy(zero_copy_only=False).astype(np.int64)
    return codes, [*names, "(none)"]


def counted(window: Ints, codes: Ints, windows: int) -> Doubles:
    """(W, C) how often each category stands in each window; rows of window −1 are left out."""
    here = (window >= 0) & (window < windows)
    width = int(codes.max(initial=0)) + 1
    flat = np.bincount(window[here] * width + codes[here], minlength=windows * width)
    return flat.reshape(windows, width).astype(np.float64)


def psi(one: Doubles, other: Doubles) -> float:
    """Population stability index of counts (C,) and (C,)."""
    kept = one + other > 0
    p, q = one[kept] + 0.5, other[kept] + 0.5
    p, q = p / p.sum(), q / q.sum()
    return float(((q - p) * np.log(q / p)).sum())


def stability(name: str, windows: Windows, window: Ints, codes: Ints, names: list[str] | None = None) -> Series:
    """PSI of each window against the one before, of rows with their windows and categories (n,); `named`: by how much
    the share of those categories moved that moved most."""
    counts = counted(window, codes, len(windows))
    if (counts.sum(axis=0) > 0).sum() < 2:
        return unknown(name, len(windows), "all rows have the same value")
    size = counts.sum(axis=1)
    values, noise = np.full(len(windows), np.nan), np.full(len(windows), np.nan)
    for w in range(1, len(windows)):
        if min(size[w - 1], size[w]) >= LEAST:
            values[w] = psi(counts[w - 1], counts[w])
            noise[w] = np.sqrt((1 / size[w - 1] + 1 / size[w]) / 2)  # of √PSI: PSI ~ (1/n + 1/m) χ²
    named: dict[str, float] = {}
    if names is not None and np.isfinite(values[-1]):
        moved = counts[-1] / size[-1] - counts[-2] / size[-2]
        top = np.argsort(-np.abs(moved), kind="stable")[:NAMED]
        named = {names[i]: float(moved[i]) for i in top if abs(moved[i]) > 0}
    return Series(name, values, noise, named=named)


def volume(windows: Windows) -> Series:
    """Contacts a window."""
    counts = np.bincount(windows.contact_window()[windows.contact_window() >= 0], minlength=len(windows))
    values = counts.astype(np.float64)
    return Series("input.volume", values, 1 / np.sqrt(np.maximum(values, 1)))


def _hours(windows: Windows) -> Ints:
    """Blocks of four hours, of the week where windows are whole weeks, else of the day (UTC)."""
    arrived = windows.log.contacts.arrived_at
    period = 7 * DAY if windows.days % 7 == 0 else DAY
    return np.asarray(((arrived - MONDAY) % period) // BLOCK, dtype=np.int64)


def _eligible(windows: Windows) -> Series:
    """Lengths of the eligible lists in tenths of their distribution; no list is a category of its own."""
    lists = windows.log.contacts.eligible
    if lists is None or bool(lists.all_.all()):
        return unknown("input.psi_eligible", len(windows), "no contact has a list of eligible CSAs")
    lengths, listed = lists.lengths, ~lists.all_
    inner = np.quantile(lengths[listed], np.arange(1, LENGTHS) / LENGTHS, method="higher")
    edges = np.unique(inner)
    codes = np.where(listed, np.searchsorted(edges, lengths, side="right"), len(edges) + 1).astype(np.int64)
    names = [f"below {edge}" for edge in edges] + [f"{edges[-1]} or more" if len(edges) else "any", "(none)"]
    return stability("input.psi_eligible", windows, windows.contact_window(), codes, names)


def _new(name: str, windows: Windows, labels: pa.StringArray) -> Series:
    """Share of contacts whose label stands nowhere before their window. Contacts that are older than the first window
    count as seen, too; the first window of all has no past to be new to."""
    window = windows.contact_window()
    codes, names = coded(labels)
    told = codes < len(names) - 1
    if not told.any():
        return unknown(name, len(windows), "no contact has one")
    first = np.full(len(names), len(window), dtype=np.int64)
    np.minimum.at(first, codes[told], np.flatnonzero(told))
    born = np.full(len(names), -1, dtype=np.int64)
    seen = first < len(window)
    born[seen] = window[first[seen]]
    new: npt.NDArray[np.bool_] = told & (window >= 0) & (born[codes] == window)
    size = np.bincount(window[window >= 0], minlength=len(windows)).astype(np.float64)
    part = np.bincount(window[new], minlength=len(windows)).astype(np.float64)
    values, noise = share(part, size, LEAST)
    if not (window < 0).any():
        values[0] = np.nan
    newest = codes[new & (window == len(windows) - 1)]
    count = np.bincount(newest, minlength=len(names))
    order = [int(i) for i in np.argsort(-count, kind="stable")[:NAMED] if count[i]]
    return Series(name, values, noise, named={names[i]: float(count[i]) for i in order})
