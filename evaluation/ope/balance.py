"""Do the weights make the log look like what the policy would see? Covariates tell, and need no outcome.

    of contacts:  d = (Σ w f(x) / Σ w − mean f(x)) / sd f
    of CSAs:      d = (Σ w g(x, a) / Σ w − mean Σ_a π(a | x) g(x, a)) / sd g

Notable: both differences are 0 but for chance where propensities are right and the policy goes nowhere that the log
does not, for any f and g. So they test propensities property by property where the mean weight tests them as a whole.
 |d| ≤ 0.1 is what matching studies accept (Austin, "Balance diagnostics for
comparing the distribution of baseline covariates", Statistics in Medicine 28, 2009).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from evaluation.ope.estimators import Terms
from evaluation.ope.intervals import Clusters, influence, standard_error
from evaluation.ope.logged import Logged
from evaluation.ope.overlap import Gates, Z
from evaluation.ope.queue_features import NAMES
from evaluation.ope.rounds import Floats, Ints, Pairs
from twotower.clock import HOUR

MOST_VALUES = 6
"""Of a label, the most frequent."""


@dataclass(frozen=True)
class Covariates:
    """`contacts` (n, m) and `csas` (P, k), named."""

    contact_names: tuple[str, ...]
    contacts: Floats
    csa_names: tuple[str, ...] = ()
    csas: Floats | None = None


@dataclass(frozen=True)
class Balance:
    """One property: its standardised difference before and after weighting, and the standard error of the latter."""

    name: str
    before: float
    after: float
    error: float

    @property
    def beyond(self) -> float:
        """How far from 0, less what chance explains."""
        return abs(self.after) - Z * self.error


def covariates(logged: Logged, features: Floats | None = None) -> Covariates:
    """What contacts of a log are like, and what the queue could see of CSAs (P, `NAMES`)."""
    contacts, rows = logged.log.contacts, pa.array(logged.contact)
    names: list[str] = []
    columns: list[Floats] = []
    for label in ("channel", "queue", "language", "intent"):
        values = pc.fill_null(getattr(contacts, label).take(rows).cast(pa.string()), "–")
        counts = sorted(pc.value_counts(values).to_pylist(), key=lambda one: (-one["counts"], one["values"]))
        for one in counts[:MOST_VALUES] if len(counts) > 1 else []:
            names.append(f"{label} {one['values']}")
            columns.append(np.asarray(pc.equal(values, one["values"]).to_numpy(zero_copy_only=False), np.float64))
    length = pc.utf8_length(contacts.intent_text.take(rows)).to_numpy(zero_copy_only=False)
    hour = contacts.arrived_at[logged.contact] % (24 * HOUR) / HOUR
    numbers = {
        "length of the text": np.log1p(np.asarray(length, np.float64)),
        "known customer": (contacts.customer[logged.contact] >= 0).astype(np.float64),
        "before noon": (hour < 12).astype(np.float64),
        "how many eligible": np.log(logged.pairs.lengths.astype(np.float64)),
    }
    names += list(numbers)
    columns += list(numbers.values())
    table = np.stack(columns, axis=1)
    if features is None:
        return Covariates(tuple(names), table)
    return Covariates(tuple(names), table, tuple(f"CSA's {name.replace('_', ' ')}" for name in NAMES), features)


def balances(
    given: Covariates, pairs: Pairs, target: Floats, propensity: Floats, cluster: Ints | None = None
) -> list[Balance]:
    """Of every property that varies; target: π (P,), propensity: π₀ (n,) of who was chosen."""
    weight = target[pairs.own] / propensity
    clusters = Clusters(len(weight), cluster)
    done = []
    for name, value in zip(given.contact_names, given.contacts.T, strict=True):
        done += _one(name, value, value, weight, clusters)
    if given.csas is not None:
        for name, value in zip(given.csa_names, given.csas.T, strict=True):
            done += _one(name, value[pairs.own], pairs.total(target * value), weight, clusters)
    return done


def imbalances(found: list[Balance], gates: Gates) -> list[str]:
    """The properties that are off beyond chance, as a reason to refuse; none: it is balanced."""
    off = sorted((one for one in found if one.beyond > gates.most_imbalance), key=lambda one: -one.beyond)
    if not off:
        return []
    named = ", ".join(f"{one.name} {one.after:+.2f} ± {one.error:.2f}" for one in off[:3])
    more = f" and {len(off) - 3} more" if len(off) > 3 else ""
    return [
        f"weighted, the log does not look like what the policy would see (standardised differences: {named}{more}; "
        f"{gates.most_imbalance:g} at most beyond chance): propensities are wrong"
    ]


def _one(name: str, own: Floats, wanted: Floats, weight: Floats, clusters: Clusters) -> list[Balance]:
    spread = float(own.std())
    if spread < 1e-9 or not weight.sum():
        return []
    ratio, mean = Terms(weight * own, weight), Terms(wanted, np.ones(len(own)))
    error = standard_error(influence(ratio) - influence(mean), clusters)
    before = (float(own.mean()) - mean.value) / spread
    return [Balance(name, before, (ratio.value - mean.value) / spread, error / spread)]
