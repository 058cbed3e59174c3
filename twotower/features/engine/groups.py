"""What a CSA is like for one kind of work: an intent, a language, a channel, a band of complexity or of upset.

Notable: nothing is stored for a pair of contact and CSA; the sums of the groups a CSA was ever seen in are, and
`group_features` answers for the codes that contacts have. The prior is a hierarchy: the CSA's own shrunken number,
shifted by how the group differs from all (rates on the logit scale), and the cell is shrunk towards that by a strength
estimated from how much cells differ from it beyond chance. So a CSA new to an intent reads as good as they are on the
whole, on an intent as hard as it is for everyone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from twotower.features.engine.readout import CsaReading, GroupReading, Priors, mean_prior, rate_prior
from twotower.features.engine.settings import CsaSettings
from twotower.features.engine.shrink import MOST, effective, mean_strength, rate_strength, shrunk
from twotower.features.engine.values import GROUP_SUMS, SQUARES, SUMS

Doubles = npt.NDArray[np.float64]
Floats = npt.NDArray[np.float32]
Longs = npt.NDArray[np.int64]
Named = dict[str, Doubles]

GROUP_FEATURES = ("rate", "log_time", "n")


def group_features(
    reading: CsaReading, settings: CsaSettings, family: str, codes: Sequence[int] | Longs, priors: Priors | None = None
) -> Floats:
    """Features (N, J, 3) float32 by `GROUP_FEATURES` of every CSA for the codes (N,) of N contacts.

    `rate` and `log_time` are relative to the centre's, `n` is log(1 + effective outcomes). A cell that was never seen
    reads as its prior, and code −1 as the CSA's own number. priors: as of `record.Record`. Raises KeyError where
    `reading` lacks the family.
    """
    group, h = reading.groups[family], settings.group_half_life
    cells = dict(zip(GROUP_SUMS, group.sums.T, strict=True))
    csa = dict(zip(SUMS, reading.sums[:, h].T.copy(), strict=True))
    squares = dict(zip(SQUARES, reading.squares[:, h].T.copy(), strict=True))
    asked, known = np.asarray(codes, dtype=np.int64), Priors() if priors is None else priors
    place = _places(group, len(reading.last), asked)
    size = effective(cells["outcomes"], cells["outcomes_squares"])
    of_rates = known.of((family, "rate"), lambda: _rates(group, {**cells, "size": size}, csa, squares))
    of_times = known.of((family, "log_time"), lambda: _log_times(group, cells, csa, squares))
    rate = of_rates.of(csa["resolved"], csa["outcomes"], cells["resolved"], cells["outcomes"], asked, place)
    log_time = of_times.of(csa["log_seconds"], csa["timed"], cells["log_seconds"], cells["timed"], asked, place)
    return np.stack([rate, log_time, np.log1p(_at(size, place))], axis=-1).astype(np.float32)


@dataclass(frozen=True)
class _Hierarchy:
    """The priors of one family: the centre's `level`; `own`, the strength that CSAs are shrunk to it by; `shift`
    f8[codes + 1], how each code differs from all, the last, at −1, being no code; `strength` of cells. Rates live on
    the logit scale, where they add up."""

    level: float
    own: float
    shift: Doubles
    strength: float
    rates: bool

    def of(
        self, total: Doubles, weight: Doubles, cell_total: Doubles, cell_weight: Doubles, asked: Longs, place: Longs
    ) -> Doubles:
        """(N, J) shrunken numbers less the centre's, of CSAs' sums (J,) and cells' (n,) at `place` (N, J)."""
        prior = self.expected(self.of_csas(total, weight)[None], self.shift[asked][:, None])
        return shrunk(_at(cell_total, place), _at(cell_weight, place), prior, self.strength) - self.level

    def of_csas(self, total: Doubles, weight: Doubles) -> Doubles:
        """CSAs' own shrunken numbers (J,) on the scale on which they add up."""
        own = shrunk(total, weight, self.level, self.own)
        return _logit(own) if self.rates else own

    def expected(self, own: Doubles, shift: Doubles) -> Doubles:
        """What is expected of a CSA's cell: σ(logit p_csa + logit p_code − logit p_centre), or t_csa + t_code − t."""
        return _sigmoid(own + shift) if self.rates else own + shift


def _rates(group: GroupReading, cells: Named, csa: Named, squares: Named) -> _Hierarchy:
    """Beta-binomial around what is expected."""
    total, weight = csa["resolved"], csa["outcomes"]
    level, own = rate_prior(total, weight, effective(weight, squares["outcomes"]))
    resolved, outcomes, of_squares = _by_code(group, cells, ("resolved", "outcomes", "outcomes_squares"))
    of_code = shrunk(resolved, outcomes, level, rate_strength(resolved, outcomes, effective(outcomes, of_squares)))
    found = _Hierarchy(level, own, _logit(np.append(of_code, level)) - _logit(level), MOST, rates=True)
    expected = found.expected(found.of_csas(total, weight)[group.csa], found.shift[group.code])
    return replace(found, strength=rate_strength(cells["resolved"], cells["outcomes"], cells["size"], expected))


def _log_times(group: GroupReading, cells: Named, csa: Named, squares: Named) -> _Hierarchy:
    """Normal around what is expected."""
    names = ("log_seconds", "log_seconds_squared", "timed", "timed_squares")
    total, weight = csa["log_seconds"], csa["timed"]
    level, own = mean_prior(total, csa["log_seconds_squared"], weight, squares["timed"])
    seconds, squared, timed, of_squares = _by_code(group, cells, names)
    of_code = shrunk(seconds, timed, *mean_prior(seconds, squared, timed, of_squares))
    found = _Hierarchy(level, own, np.append(of_code - level, 0), MOST, rates=False)
    expected = found.expected(found.of_csas(total, weight)[group.csa], found.shift[group.code])
    total, squared, timed, of_squares = (cells[name] for name in names)
    return replace(found, strength=mean_strength(total, squared, timed, of_squares, expected))


def _places(group: GroupReading, csas: int, codes: Longs) -> Longs:
    """(N, J) the position of each CSA's cell for a code, −1 where it was never seen or the code is −1."""
    key = np.arange(csas)[None] * group.codes + codes[:, None]
    seen = group.csa * group.codes + group.code
    found = np.searchsorted(seen, key).clip(0, max(0, len(seen) - 1))
    there = (codes[:, None] >= 0) & (seen[found] == key if len(seen) else False)
    return np.where(there, found, -1)


def _at(values: Doubles, place: Longs) -> Doubles:
    return np.append(values, 0.0)[place]


def _by_code(group: GroupReading, cells: dict[str, Doubles], names: Sequence[str]) -> list[Doubles]:
    return [np.asarray(np.bincount(group.code, cells[n], minlength=group.codes), dtype=np.float64) for n in names]


def _logit(p: Doubles | float) -> Doubles:
    return np.asarray(np.log(p) - np.log1p(-np.asarray(p)))


def _sigmoid(z: Doubles) -> Doubles:
    return np.asarray(1 / (1 + np.exp(-z)))
