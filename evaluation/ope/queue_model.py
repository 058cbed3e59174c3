"""Propensities of a queue that wrote none down: to whom it gives a contact, learnt from whom it gave contacts to.

    log π̂₀(a | x) = w · f(x, a) + b_a − log Σ_{b eligible} exp(w · f(x, b) + b_b)

a conditional logit over the eligible (McFadden, "Conditional logit analysis of qualitative choice behavior", 1974) on
what a queue could see (queue_features.py), with a mean b_a of each CSA's own, all with normal priors about 0.

Notable: it is cross-fitted, so the chance of a choice comes from a fit to other customers' or days' choices: a model
that has seen a choice says it was likelier than it was, and weights come out too small. How wide the prior of b_a is
is chosen within them. It is checked where it is used: chances against frequencies, the slope of choices on
log π̂₀, and the balance of what it weighs (balance.py). What a queue knew and no table holds it cannot know:
sensitivity.py says how much of that would change the conclusion. Estimates are at least `FLOOR` of an equal chance, so
that no weight is more than 20 times the number of the eligible, and a little.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from evaluation.ope.logged import Logged
from evaluation.ope.queue_features import NAMES, QueueState
from evaluation.ope.rounds import Floats, Ints, Pairs
from twotower.errors import ConfigError
from twotower.progress import track

FLOOR = 0.05
LEAST_CHOICES = 100
MOST_CHOICES = 20_000
"""That weights are fitted on, evenly spaced; they are few."""
WIDTHS = (0.1, 0.3, 1.0)
"""Prior deviations, in log-odds, that the CSAs' own means are tried with, in each fold on its own training choices."""
CHOICES_OF_WIDTH = 5_000
OTHERS = "chances of those who were not chosen (for MIPS alone; the propensities of the chosen are logged)"
RIDGE = 1.0
"""Precision of the prior on each standardised weight."""
BANDS = 10


@dataclass(frozen=True)
class Band:
    """Pairs of like chance: how many, their mean chance, and the share who were chosen."""

    pairs: int
    predicted: float
    observed: float


@dataclass(frozen=True)
class Checked:
    """How good estimated chances are for choices of folds that they were not fitted to."""

    choices: int
    fitted: int
    loss: float
    """Mean −log π̂₀ of who was chosen, nats."""
    equal_loss: float
    """Of the equal chance."""
    bands: tuple[Band, ...]
    error: float
    """Mean |predicted − observed| of the bands over the mean observed."""
    slope: float
    """Of choices on log π̂₀; 1 is calibrated, below it chances are too extreme."""
    clipped: float
    """Share of the estimates at the floor."""
    weights: dict[str, float]
    """Of the features, standardised: log-odds for one deviation more."""
    width: float
    """Deviation of the CSAs' own means that was chosen, median over folds."""

    def line(self, source: str = "estimated") -> str:
        """In words. source: `found.Found.source`; with logged propensities only MIPS asks the model anything."""
        what = "propensities" if source == "estimated" else OTHERS
        return (
            f"{what}: estimated by a conditional logit, cross-fitted to {self.fitted:,} choices; held out log "
            f"loss {self.loss:.3f} ({self.equal_loss:.3f} of the equal chance), calibration error {self.error:.1%}, "
            f"slope {self.slope:.2f}, {self.clipped:.1%} at the floor"
        )


@dataclass(frozen=True)
class Estimated:
    """`chances` (P,) π̂₀ of everybody who could have been chosen; they sum to 1 over a round."""

    chances: Floats
    checked: Checked
    features: Floats
    """(P, `NAMES`) what the queue could see."""


def estimated(logged: Logged, past: Logged, fold: Ints) -> Estimated:
    """π̂₀ of the rounds' pairs.

    past: rounds to fit on, those of `logged` and earlier ones; fold: (contacts of the log,). Raises ConfigError where
    too few of these were choices among several.
    """
    state = QueueState.of(past)
    rows = np.flatnonzero(past.pairs.lengths > 1)
    if len(rows) < LEAST_CHOICES:
        raise ConfigError(
            f"{len(rows)} hand-overs to one of several eligible; {LEAST_CHOICES} are needed to estimate propensities"
        )
    rows = rows[np.linspace(0, len(rows) - 1, min(len(rows), MOST_CHOICES)).astype(np.int64)]
    features = state.features(logged.contact, logged.pairs)
    score = np.zeros(len(features))
    fold_of_round, weights, widths = fold[logged.contact], [], []
    csas, folds = len(logged.log.csas), int(fold.max()) + 1
    for one in track(range(folds), "propensities", folds):
        train = rows[fold[past.contact[rows]] != one]
        pairs, _ = past.pairs.take(train)
        x = state.features(past.contact[train], pairs)
        width, start = _width(x, pairs, csas, fold[past.contact[train]])
        fit = conditional_logit(x, pairs, csas, width, start=start)
        own = fold_of_round[logged.pairs.row] == one
        score[own] = features[own] @ fit.weights + fit.own[logged.pairs.csa[own]]
        weights.append(fit.weights * x.std(axis=0))
        widths.append(width)
    chances, clipped = floored(logged.pairs.softmax(score), logged.pairs)
    standard = dict(zip(NAMES, np.mean(weights, axis=0).tolist(), strict=True))
    width = float(np.median(widths))
    return Estimated(chances, _checked(chances, logged.pairs, len(rows), clipped, standard, width), features)


def floored(chances: Floats, pairs: Pairs, floor: float = FLOOR) -> tuple[Floats, float]:
    """Chances (P,) of at least `floor` of the equal one, summing to 1 again, and which share of them were raised."""
    least = (floor / pairs.lengths)[pairs.row]
    raised = np.maximum(chances, least)
    return np.asarray(raised / pairs.total(raised)[pairs.row]), float((chances < least).mean())


@dataclass(frozen=True)
class Logit:
    """`weights` (K,) of features in their own units, `own` (J,) of CSAs, and the log likelihood of the choices; `found`
    is where another fit to like choices may start."""

    weights: Floats
    own: Floats
    log_likelihood: float
    found: Floats


def conditional_logit(
    features: Floats,
    pairs: Pairs,
    csas: int,
    width: float,
    ridge: float = RIDGE,
    tolerance: float = 1e-9,
    start: Floats | None = None,
) -> Logit:
    """The most likely weights by L-BFGS.

    features (P, K); width: prior deviation of the CSAs' own means, 0 for none; ridge: precision of the prior N(0, 1 /
    ridge) on weights of features standardised within lists, 0 for plain maximum likelihood; tolerance: relative, of the
    objective; start: `Logit.found` of a fit with as many weights.
    """
    from scipy.optimize import minimize

    equal = (1 / pairs.lengths)[pairs.row]
    x = np.column_stack([column - pairs.total(column * equal)[pairs.row] for column in features.T])
    scale = np.sqrt((x**2).mean(axis=0))
    x = np.where(scale > 1e-9, x / np.maximum(scale, 1e-9), 0.0)
    own = csas if width > 0 else 0
    # Steps are taken in units in which the likelihood bends alike in all directions: its curvature at equal chances.
    bend = [(equal[:, None] * x**2).sum(axis=0) + ridge + 1e-9]
    bend += [np.bincount(pairs.csa, equal * (1 - equal), csas) + width**-2] if own else []
    problem = _Problem(x, pairs, own, ridge, width, np.sqrt(np.concatenate(bend)))
    begin = np.zeros(x.shape[1] + own) if start is None else start * problem.unit
    options = {"maxiter": 1000, "ftol": tolerance, "gtol": 1e-5 * np.sqrt(len(pairs))}
    done = minimize(problem, begin, jac=True, method="L-BFGS-B", options=options)
    found = done.x / problem.unit
    weights = np.where(scale > 1e-9, found[: x.shape[1]] / np.maximum(scale, 1e-9), 0.0)
    likelihood = problem.penalty(found) - float(done.fun)
    return Logit(weights, found[x.shape[1] :] if own else np.zeros(csas), likelihood, found)


@dataclass(frozen=True)
class _Problem:
    """−log likelihood and penalty, and its slope, at weights of the features and of `own` CSAs, each times `unit`."""

    x: Floats
    pairs: Pairs
    own: int
    ridge: float
    width: float
    unit: Floats

    def __call__(self, scaled: Floats) -> tuple[float, Floats]:
        theta, k, pairs = scaled / self.unit, self.x.shape[1], self.pairs
        score = self.x @ theta[:k]
        if self.own:
            score += theta[k:][pairs.csa]
        less = pairs.softmax(score)
        value = -float(np.log(np.maximum(less[pairs.own], 1e-300)).sum()) + self.penalty(theta)
        less[pairs.own] -= 1.0
        slope = [self.x.T @ less + self.ridge * theta[:k]]
        slope += [np.bincount(pairs.csa, less, self.own) + theta[k:] / self.width**2] if self.own else []
        return value, np.concatenate(slope) / self.unit

    def penalty(self, theta: Floats) -> float:
        """Of the priors."""
        k = self.x.shape[1]
        of_csas = float((theta[k:] ** 2).sum()) / self.width**2 if self.own else 0.0
        return 0.5 * (self.ridge * float((theta[:k] ** 2).sum()) + of_csas)


def _width(features: Floats, pairs: Pairs, csas: int, fold: Ints) -> tuple[float, Floats | None]:
    """The prior deviation by which some folds' choices (n,) tell those of another best, and where a fit with it ended.
    Only choices of the training folds are looked at, `CHOICES_OF_WIDTH` of them."""
    some = np.linspace(0, len(pairs) - 1, min(len(pairs), CHOICES_OF_WIDTH)).astype(np.int64)
    held = fold[some] == fold[some[0]]
    if held.all():
        return WIDTHS[0], None
    (fitted, at), (judged, of) = pairs.take(some[~held]), pairs.take(some[held])
    best, least, start, last = WIDTHS[0], np.inf, None, None
    for width in WIDTHS:
        fit = conditional_logit(features[at], fitted, csas, width, start=last)
        last = fit.found
        p = judged.softmax(features[of] @ fit.weights + fit.own[judged.csa])
        loss = -float(np.log(np.maximum(p[judged.own], 1e-300)).mean())
        if loss < least:
            best, least, start = width, loss, fit.found
    return best, start


def _checked(
    chances: Floats, pairs: Pairs, fitted: int, clipped: float, weights: dict[str, float], width: float
) -> Checked:
    several = np.flatnonzero(pairs.lengths > 1)
    some, at = pairs.take(several)
    p = chances[at]
    bands = calibration(p, some)
    sizes = np.array([band.pairs for band in bands])
    off = np.array([abs(band.predicted - band.observed) for band in bands])
    mean = float((sizes * [band.observed for band in bands]).sum())
    slope = conditional_logit(np.log(p)[:, None], some, int(pairs.csa.max()) + 1, 0.0, ridge=0.0).weights[0]
    return Checked(
        choices=len(some),
        fitted=fitted,
        loss=-float(np.log(p[some.own]).mean()),
        equal_loss=float(np.log(some.lengths).mean()),
        bands=bands,
        error=float((sizes * off).sum() / mean) if mean else float("nan"),
        slope=float(slope),
        clipped=clipped,
        weights=weights,
        width=width,
    )


def calibration(chances: Floats, pairs: Pairs, bands: int = BANDS) -> tuple[Band, ...]:
    """Chances against frequencies in bands of as many pairs."""
    chosen = np.zeros(len(chances))
    chosen[pairs.own] = 1.0
    parts: list[npt.NDArray[np.intp]] = np.array_split(np.argsort(chances, kind="stable"), min(bands, len(chances)))
    return tuple(Band(len(part), float(chances[part].mean()), float(chosen[part].mean())) for part in parts)


def completed(logged: Logged, model: Estimated | None) -> Floats | None:
    """Chances (P,) of everybody, where they are known; else those of the chosen as logged, the others sharing what is
    left as the model says. None where neither is to be had."""
    known = np.isfinite(logged.chances)
    if known.all():
        return logged.chances
    if model is None:
        return None
    pairs, p = logged.pairs, model.chances
    own = np.zeros(len(p), np.bool_)
    own[pairs.own] = True
    others = (1 - p[pairs.own])[pairs.row]
    rest = (1 - logged.propensity)[pairs.row] * np.divide(p, others, out=np.zeros(len(p)), where=others > 0)
    return np.where(known, logged.chances, np.where(own, logged.propensity[pairs.row], rest))
