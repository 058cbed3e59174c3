"""What a CSA is like for one kind of work: an intent, a language, a channel, a band of complexity or of upset.

Notable: nothing is stored for a pair of contact and CSA; the sums of the groups a CSA was ever seen in are, and
`group_features` answers for the codes that contacts have. The prior is a hierarchy: the CSA's own shrunken number,
shifted by how the group differs from all (rates on the logit scale), and the cell is shrunk towards that by a strength
estimated from how much cells differ from it beyond chance. So a CSA new to an intent reads as good as they are on the
whole, on an intent as hard as it is for everyone.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from twotower.features.engine.readout import CsaReading, GroupReading, centre_mean, centre_rate, own_means, own_rates
from twotower.features.engine.settings import CsaSettings
from twotower.features.engine.shrink import effective, mean_strength, rate_strength, shrunk
from twotower.features.engine.values import GROUP_SUMS, SQUARES, SUMS

Doubles = npt.NDArray[np.float64]
Floats = npt.NDArray[np.float32]
Longs = npt.NDArray[np.int64]
Named = dict[str, Doubles]

GROUP_FEATURES = ("rate", "log_time", "n")


def group_features(reading: CsaReading, settings: CsaSettings, family: str, codes: Sequence[int] | Longs) -> Floats:
    """Features (N, J, 3) float32 by `GROUP_FEATURES` of every CSA for the codes (N,) of N contacts.

    `rate` and `log_time` are relative to the centre's, `n` is log(1 + effective outcomes). A cell that was never seen
    reads as its prior, and code −1 as the CSA's own number. Raises KeyError where `reading` lacks the family.
    """
    group, h = reading.groups[family], settings.group_half_life
    cells = dict(zip(GROUP_SUMS, group.sums.T, strict=True))
    csa = dict(zip(SUMS, reading.sums[:, h].T.copy(), strict=True))
    squares = dict(zip(SQUARES, reading.squares[:, h].T.copy(), strict=True))
    asked = np.asarray(codes, dtype=np.int64)
    place = _places(group, len(reading.last), asked)
    size = effective(cells["outcomes"], cells["outcomes_squares"])
    rate = _rate(group, {**cells, "size": size}, csa, squares, asked, place)
    log_time = _log_time(group, cells, csa, squares, asked, place)
    return np.stack([rate, log_time, np.log1p(_at(size, place))], axis=-1).astype(np.float32)


def _rate(group: GroupReading, cells: Named, csa: Named, squares: Named, asked: Longs, place: Longs) -> Doubles:
    """(N, J) shrunken rates less the centre's: beta-binomial around σ(logit p_csa + logit p_code − logit p_centre)."""
    level = centre_rate(csa["resolved"], csa["outcomes"])
    own = own_rates(csa["resolved"], csa["outcomes"], effective(csa["outcomes"], squares["outcomes"]))
    resolved, outcomes, of_squares = _by_code(group, cells, ("resolved", "outcomes", "outcomes_squares"))
    of_code = shrunk(resolved, outcomes, level, rate_strength(resolved, outcomes, effective(outcomes, of_squares)))
    shift = _logit(np.append(of_code, level)) - _logit(level)  # the last, at −1, is that of no code
    expected = _sigmoid(_logit(own)[group.csa] + shift[group.code])
    strength = rate_strength(cells["resolved"], cells["outcomes"], cells["size"], expected)
    prior = _sigmoid(_logit(own)[None] + shift[asked][:, None])
    return shrunk(_at(cells["resolved"], place), _at(cells["outcomes"], place), prior, strength) - level


def _log_time(group: GroupReading, cells: Named, csa: Named, squares: Named, asked: Longs, place: Longs) -> Doubles:
    """(N, J) shrunken mean log seconds less the centre's: normal around t_csa + t_code − t_centre."""
    names = ("log_seconds", "log_seconds_squared", "timed", "timed_squares")
    level = centre_mean(csa["log_seconds"], csa["timed"])
    own = own_means(csa["log_seconds"], csa["log_seconds_squared"], csa["timed"], squares["timed"])
    total, squared, timed, of_squares = _by_code(group, cells, names)
    shift = np.append(own_means(total, squared, timed, of_squares) - level, 0)
    total, squared, timed, of_squares = (cells[name] for name in names)
    strength = mean_strength(total, squared, timed, of_squares, own[group.csa] + shift[group.code])
    prior = own[None] + shift[asked][:, None]
    return shrunk(_at(total, place), _at(timed, place), prior, strength) - level


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
