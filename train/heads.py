"""What history says of a kind of contact: linear heads that are fitted before the towers and then frozen.

Notable: the intent head is a softmax regression that names the intent of contacts whose label is null; the complexity
heads are ridge regressions that say how long, how uncertain and how risky such contacts turned out to be. What the
towers train on are predictions as of then: contacts come in blocks by arrival, and a block reads heads fitted on facts
known strictly before it began, so no contact reads its own outcome and no bit depends on what was known later.
Sums run on from block to block; no fact is left out, so time grows with facts × inputs²: 60,000 contacts with 62,904
hand-overs take some 3 s on one core with 700 inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from twotower.clock import DAY, NEVER, NULL_TIME
from twotower.features.complexity import COMPLEXITY
from twotower.tables.log import Log

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Longs = npt.NDArray[np.int64]
Rows = Callable[[Longs], Floats]

BLOCKS = 8
REPEAT_DAYS = 7
CHUNK = 8192  # contacts whose inputs are held at once
LEAST_FACTS = 200  # fewer say less than the prior
RIDGE = 3000.0  # tried from 10 to 30,000: near the best for times and failures, with 5,000 hand-overs as with 57,000
MOST_LABELLED = 30_000
LEAST_LABELLED = 50
INTENT_RIDGE = 30.0  # 100 is as right from 10,000 contacts on, but below that far less sure than it is right
INTENT_STEPS = 40  # twice as many change no accuracy by 0.001
NEVER_SAID = -1e9  # finite, so that the graph has no infinities

_NAMES = tuple(c.name for c in COMPLEXITY)
_TIME, _SPREAD = _NAMES.index("handle_time"), _NAMES.index("handle_time_spread")
_LOW, _HIGH = (np.array([getattr(c, side) for c in COMPLEXITY], np.float32) for side in ("low", "high"))


def intent_head(text: Floats, code: Longs, intents: int) -> tuple[Floats, Floats]:
    """Weights (1 + intents, W) and bias (1 + intents,) float32 of a softmax regression of labels on text·√W.

    text (N, W) of unit length, in order of arrival; code (N,), 0 where the label is null. Minimises
    Σ −log p(code | text) + λ/2 Σ‖w‖², λ = `INTENT_RIDGE`: a Gaussian prior on weights, none on biases (Hastie,
    Tibshirani and Friedman, *The Elements of Statistical Learning*, 4.4 and 18.3.2), over at most `MOST_LABELLED`
    labelled contacts, evenly spaced. Row 0, unknown, and labels without a contact have bias −1e9 and are never
    predicted. With fewer than two labels or `LEAST_LABELLED` contacts row 0 has bias 0 and all others −1e9: unknown.
    """
    weight = np.zeros((1 + intents, text.shape[1]), np.float32)
    bias = np.full(1 + intents, NEVER_SAID, np.float32)
    labelled = np.flatnonzero(code > 0)
    chosen = labelled[np.linspace(0, len(labelled) - 1, min(len(labelled), MOST_LABELLED)).astype(np.int64)]
    labels, label = np.unique(code[chosen], return_inverse=True)
    if len(labels) < 2 or len(chosen) < LEAST_LABELLED:
        bias[0] = 0
        return weight, bias
    x = text[chosen].astype(np.float32) * np.float32(np.sqrt(text.shape[1]))
    weight[labels], bias[labels] = _softmax_regression(x, label, len(labels))
    return weight, bias


def _softmax_regression(x: Floats, label: Longs, labels: int) -> tuple[Doubles, Doubles]:
    """Weights (K, W) and biases (K,) of a softmax regression; x (n, W), label (n,) of 0 … K − 1, each there."""
    from scipy.optimize import minimize

    width, each = x.shape[1], np.arange(len(x))
    start = np.zeros((labels, width + 1))
    start[:, -1] = np.log(np.bincount(label, minlength=labels) / len(label))

    def loss(flat: Doubles) -> tuple[float, Doubles]:
        theta = flat.reshape(start.shape)
        weight = theta[:, :-1]
        p = x @ weight.T.astype(np.float32) + theta[:, -1].astype(np.float32)
        p -= p.max(axis=1, keepdims=True)
        value = -p[each, label].sum(dtype=np.float64)
        np.exp(p, out=p)
        total = p.sum(axis=1, keepdims=True)
        value += np.log(total).sum(dtype=np.float64) + INTENT_RIDGE / 2 * (weight**2).sum()
        p /= total
        p[each, label] -= 1
        gradient = np.column_stack([p.T @ x + INTENT_RIDGE * weight, p.sum(axis=0, dtype=np.float64)])
        return float(value), gradient.ravel()

    found = minimize(loss, start.ravel(), jac=True, method="L-BFGS-B", options={"maxiter": INTENT_STEPS})
    theta = found.x.reshape(start.shape)
    return theta[:, :-1], theta[:, -1]


@dataclass(frozen=True)
class Target:
    """Facts known of contacts: `contact` i8 (M,), `known_at` i8 (M,) µs, sorted, `value` f8 (M,)."""

    contact: Longs
    known_at: Longs
    value: Doubles

    def __len__(self) -> int:
        return len(self.contact)


def targets(log: Log) -> dict[str, Target]:
    """The facts of a log by name in `COMPLEXITY`; `handle_time_spread` is derived within the fit.

    A hand-over that ended is a fact: log(1 + seconds) of its handle time, whether it was transferred, whether it
    failed, each where that is written down. `repeat_risk`: see `repeats`.
    """
    handovers = log.handovers
    ended = handovers.known_at < NEVER

    def of(value: npt.NDArray[np.generic], there: npt.NDArray[np.bool_]) -> Target:
        kept = ended & there
        contact = handovers.contact[kept].astype(np.int64)
        return Target(contact, handovers.known_at[kept], value[kept].astype(np.float64))

    time = handovers.handle_time_s.astype(np.float64)
    return {
        "handle_time": of(np.log1p(np.where(np.isfinite(time), time, 0)), np.isfinite(time)),
        "transfer_risk": of(handovers.transferred, handovers.transferred >= 0),
        "repeat_risk": repeats(log.contacts.customer, log.contacts.arrived_at),
        "failure_risk": of(handovers.resolved == 0, handovers.resolved >= 0),
    }


def repeats(customer: npt.NDArray[np.int32], arrived_at: Longs) -> Target:
    """Whether the customer of a contact had another one within (arrived_at, arrived_at + `REPEAT_DAYS`].

    customer (N,), −1 unknown: no fact; arrived_at (N,) µs, sorted. Known when the window closes and not before, a yes
    like a no: if a yes counted at once, the latest facts of any moment would be yeses. A window that closes after the
    last arrival is no fact, whatever outcomes became known since: nobody watched all of it.
    """
    window = REPEAT_DAYS * DAY
    contact = np.flatnonzero((customer >= 0) & (arrived_at + window <= arrived_at.max(initial=NULL_TIME)))
    order = np.lexsort((arrived_at, customer))
    who, when = customer[order], arrived_at[order]
    first = _starts(who, when)
    place = np.cumsum(first) - 1  # of each contact among the distinct (customer, moment)
    who, when = who[first], when[first]
    soon = np.zeros(len(who), bool)
    soon[:-1] = (who[1:] == who[:-1]) & (when[1:] - when[:-1] <= window)
    again = np.empty(len(customer), bool)
    again[order] = soon[place]
    return Target(contact, arrived_at[contact] + window, again[contact].astype(np.float64))


def _starts(*keys: npt.NDArray[np.integer]) -> npt.NDArray[np.bool_]:
    """Where a run of equal keys begins; the keys are sorted together."""
    begins = np.ones(len(keys[0]), bool)
    begins[1:] = np.logical_or.reduce([key[1:] != key[:-1] for key in keys])
    return begins


@dataclass(frozen=True)
class Fitted:
    """Complexity heads: `weight` f4 (T, D), `bias` f4 (T,) as of `split`, in the order of `COMPLEXITY`.

    `told` f4 (N, T): each contact's prediction by the heads of its block; NaN where none can be: in the first block,
    and for `handle_time_spread`, which learns from the errors of the others, in the second too.
    """

    weight: Floats
    bias: Floats
    told: Floats


def complexity_heads(rows: Rows, arrived_at: Longs, facts: dict[str, Target], split: int) -> Fitted:
    """Fit the heads block by block and say what each block's contacts read.

    rows: inputs (n, D) float32 of contacts, of about unit spread, asked for at most `CHUNK` contacts at a time and once
    for none; arrived_at (N,) µs; facts: of every name but `handle_time_spread`, in any order, a NaN value being none;
    split: µs, where validation opens.

    Contacts before `split` are cut into `BLOCKS` blocks of equal counts by arrival; those of one instant share a block.
    Heads minimise Σ (value − w·x − b)² + λ‖w‖², λ = `RIDGE` (Hoerl and Kennard, 1970), a risk by the linear
    probability model, and what they tell is clipped to the bounds in `COMPLEXITY`. A block reads heads of facts with
    known_at before its first arrival, contacts at `split` or later those of facts known before `split`. The spread is
    the same regression of |value − told| for handle times: told is what the handle-time head said in the block where
    the fact became known, so the error is out of sample. A head of fewer than `LEAST_FACTS` facts has weight 0, bias 0
    and tells nothing, NaN.
    """
    periods = blocks(arrived_at, split)
    sorted_facts = {name: _sorted(facts[name]) for name in _NAMES if name != "handle_time_spread"}
    sums = _Sums(rows(np.zeros(0, np.int64)).shape[1])
    told = np.full((len(arrived_at), len(_NAMES)), np.nan, np.float32)
    heads, since = _Heads.none(sums.width), NULL_TIME
    for edge, until in periods:
        contact, value = _between(sorted_facts, since, edge)
        sums.add(rows, contact, value, heads)
        heads, since = sums.solve(), edge
        for part in _chunks(np.flatnonzero((arrived_at >= edge) & (arrived_at < until))):
            told[part] = heads.tell(rows(part))
    # The spread has no fact before the second block ends: handle times were told in none before it.
    told[arrived_at < periods[min(1, len(periods) - 1)][0], _SPREAD] = np.nan
    return Fitted(heads.weight, heads.bias, told)


def blocks(arrived_at: Longs, split: int) -> list[tuple[int, int]]:
    """The blocks that read heads, as [start, end) µs: all but the first, and what arrives at `split` or later."""
    before = np.sort(arrived_at[arrived_at < split])
    starts = np.unique(before[np.arange(BLOCKS) * len(before) // BLOCKS]) if len(before) else before
    edges = [*starts[1:].tolist(), int(split)]
    return list(zip(edges, [*edges[1:], NEVER], strict=True))


def _chunks(positions: Longs) -> Iterator[Longs]:
    return (positions[i : i + CHUNK] for i in range(0, len(positions), CHUNK))


def _sorted(fact: Target) -> Target:
    """In an order that depends on the facts alone, so that no sum depends on how they came."""
    order = np.lexsort((fact.value, fact.contact, fact.known_at))
    return Target(fact.contact[order], fact.known_at[order], fact.value[order])


def _between(facts: dict[str, Target], since: int, until: int) -> tuple[Longs, Doubles]:
    """Contacts (U,) and values (U, T) of what became known in [since, until); NaN where a target says nothing.

    Facts of one contact and one moment share a row, the first of each target with the first of the others: outcome and
    time of a hand-over then cost one product of inputs, not two.
    """
    keys = []
    for name, fact in facts.items():
        low, high = np.searchsorted(fact.known_at, [since, until])
        known_at, contact, value = fact.known_at[low:high], fact.contact[low:high], fact.value[low:high]
        index = np.arange(high - low)
        nth = index - np.maximum.accumulate(np.where(_starts(known_at, contact), index, 0))
        keys.append((known_at, contact, nth, np.full(high - low, _NAMES.index(name)), value))
    known_at, contact, nth, column, value = map(np.concatenate, zip(*keys, strict=True))
    order = np.lexsort((column, nth, contact, known_at))
    first = _starts(known_at[order], contact[order], nth[order])
    table = np.full((int(first.sum()), len(_NAMES)), np.nan)
    table[np.cumsum(first) - 1, column[order]] = value[order]
    return contact[order][first], table


@dataclass(frozen=True)
class _Heads:
    """Weights (T, D), biases (T,), and which heads had facts enough (T,)."""

    weight: Floats
    bias: Floats
    enough: npt.NDArray[np.bool_]

    @classmethod
    def none(cls, width: int) -> _Heads:
        many = len(_NAMES)
        return cls(np.zeros((many, width), np.float32), np.zeros(many, np.float32), np.zeros(many, bool))

    def tell(self, x: Floats) -> Floats:
        """Predictions (n, T) for inputs (n, D), NaN by heads of too few facts."""
        told: Floats = np.clip(x @ self.weight.T + self.bias, _LOW, _HIGH)
        told[:, ~self.enough] = np.nan
        return told


class _Sums:
    """Sufficient statistics of the ridge regressions, in float64: Σ zzᵀ, Σ z·value and counts, z = (x, 1)."""

    def __init__(self, width: int) -> None:
        many = len(_NAMES)
        self.width = width
        self.gram = np.zeros((many, width + 1, width + 1))
        self.moment = np.zeros((many, width + 1))
        self.count = np.zeros(many, np.int64)

    def add(self, rows: Rows, contact: Longs, value: Doubles, heads: _Heads) -> None:
        """Take facts in; heads: those of the block in which they became known, against which the spread is measured.

        Rows that speak of the same targets are taken together: their product of inputs is computed once.
        """
        there = ~np.isnan(value)
        kind = there @ (1 << np.arange(len(_NAMES)))
        for each in np.unique(kind[kind > 0]):
            members = np.flatnonzero(kind == each)
            columns = np.flatnonzero(there[members[0]])
            for part in _chunks(members):
                x, known = rows(contact[part]), value[part]
                measured = columns
                if there[members[0], _TIME] and heads.enough[_TIME]:
                    known[:, _SPREAD] = np.abs(known[:, _TIME] - heads.tell(x)[:, _TIME])
                    measured = np.append(columns, _SPREAD)
                self._take(x, known[:, measured].astype(np.float32), measured)

    def _take(self, x: Floats, value: Floats, columns: Longs) -> None:
        z = np.column_stack([x, np.ones(len(x), np.float32)])
        product, moment = z.T @ z, z.T @ value
        for i, column in enumerate(columns):  # in place: a fancy index would copy every sum
            self.gram[column] += product
            self.moment[column] += moment[:, i]
            self.count[column] += len(x)

    def solve(self) -> _Heads:
        """The heads of all facts so far."""
        from scipy.linalg import solve

        heads = _Heads.none(self.width)
        penalty = np.append(np.full(self.width, RIDGE), 0.0)
        heads.enough[:] = self.count >= LEAST_FACTS
        for target in np.flatnonzero(heads.enough):
            theta = solve(self.gram[target] + np.diag(penalty), self.moment[target], assume_a="pos")
            heads.weight[target], heads.bias[target] = theta[:-1], theta[-1]
        return heads
