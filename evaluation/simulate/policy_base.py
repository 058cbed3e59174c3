"""What policies of a file are made of."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from evaluation.simulate.centre import Centre
from evaluation.simulate.demand import Demand
from evaluation.simulate.described import Strict
from evaluation.simulate.replay import Replay
from twotower.errors import ConfigError

Doubles = npt.NDArray[np.float64]
Singles = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Beliefs:
    """What policies are made of: the centre, whose truth is the oracle's alone, and what is believed of pairs."""

    centre: Centre
    success: Doubles
    """(K, J)."""
    overflow: tuple[npt.NDArray[np.int8], tuple[float, ...]]
    """Of skills-based routing: level (K, J) and after how many seconds each step is open."""
    replay: Replay | None = None
    """The tables that the centre is a window of."""
    _values: dict[str, Singles] = field(default_factory=dict, repr=False, compare=False)

    def pair_values(self, bundle: str, name: str) -> Singles:
        """(N, J) what a bundle says of every pair (`replay_bundle.pair_values`), computed once however many policies
        ask. Raises as that does, and ConfigError for a centre that is not of tables."""
        from evaluation.simulate.replay_bundle import pair_values

        of = replayed(self, name)
        if bundle not in self._values:
            self._values[bundle] = pair_values(bundle, of.window, of.csa_ids)
        return self._values[bundle]

    def true_pairs(self) -> Singles | None:
        """(N, J) the truth of every pair of a centre of tables; None: the centre's `success` by class is all of it."""
        if self.replay is None or self.replay.truth.pairs is None:
            return None
        return np.asarray(1 / (1 + np.exp(-self.replay.truth.pairs)), np.float32)

    def contacts(self) -> Demand | None:
        """Those of a centre of tables, which differ within their class."""
        return None if self.replay is None else self.replay.demand


class Named(Strict):
    name: str | None = None
    """Under which its figures stand; needed where a policy is tried with several options."""

    def called(self, otherwise: str) -> str:
        """Its name."""
        return otherwise if self.name is None else self.name


def replayed(of: Beliefs, name: str) -> Replay:
    """The tables. Raises ConfigError for a centre that is not of any."""
    if of.replay is None:
        raise ConfigError(f"policy {name}: needs contacts with texts; give the centre `tables`, `from` and `to`")
    return of.replay
