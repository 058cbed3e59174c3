"""Fitting the join: a few regularised weights over the parts, on the latest window, with the towers fixed.

Notable: the parts are computed by the very code that serves (`Memory.parts`), for each validation contact as of its
arrival, so the weights meet in the router what they met here. *handled* is a conditional logit over the candidates
(McFadden, 1974), *success* a logistic regression of the outcome; both are convex with a Gaussian prior, fitted in
float64 by L-BFGS, *success* with no weight below 0. Half-lives come as shares of the log's span and sharpness in
plenty; the fit decides.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from train.calibrate import Calibrated, calibrate, folds
from train.encode import csa_vectors, encode
from train.prepare import TrainingSet, eligible_mask
from train.validate import profile_logits
from twotower.errors import ConfigError
from twotower.progress import track
from twotower.scoring.calibration import Calibration
from twotower.scoring.join import ContactVectors, Join, Rank, RankWeights, log_sigmoid, sigmoid
from twotower.scoring.kernels import Kernel
from twotower.scoring.memory import Memory
from twotower.scoring.rows import HistoryRows, build_rows
from twotower.towers.two_tower import TwoTower

Doubles = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]
MOST_EXAMPLES = 3000  # of either fit; the weights are few
MOST_CELLS = 60_000_000  # contacts × candidates × parts held at once


@dataclass(frozen=True)
class JoinOptions:
    """How the join is fitted."""

    half_lives: tuple[float, ...] = (0.002, 0.01, 0.05)
    """Half-lives of masses, as shares of the log's span."""
    sharpness: tuple[float, ...] = (4.0, 16.0)
    """β of the memory of like work."""
    residual_sharpness: tuple[float, ...] = (2.0, 8.0, 24.0)
    """β of the outcome residuals."""
    residual_prior: float = 4.0
    """κ, pseudo-hand-overs behind every residual mean."""
    ridge: float = 1.0
    """Precision of the Gaussian prior on each standardised weight."""
    history_per_csa: int = 256
    """Rows a CSA's memory holds: hand-overs, and medoids of older ones where there were more (`train/medoids.py`)."""

    def __post_init__(self) -> None:
        if self.history_per_csa < 1:
            raise ConfigError(f"join.history_per_csa {self.history_per_csa}: must be positive")


def handled_kernels(span_s: float, options: JoinOptions) -> tuple[Kernel, ...]:
    """Masses: popularity, like work and the pairing, each at several ages; like work with the same customer."""
    lives = [share * span_s for share in options.half_lives]
    popularity = [Kernel("csa", "mass", 0.0, life) for life in lives]
    memory = [Kernel("csa", "mass", beta, life) for beta in options.sharpness for life in lives]
    pairing = [Kernel("pair", "mass", 0.0, life) for life in (*lives, None)]
    return (*popularity, *memory, *pairing, Kernel("pair", "mass", options.sharpness[0], lives[-1]))


def success_kernels(options: JoinOptions) -> tuple[Kernel, ...]:
    """Residuals of like work at several sharpnesses, and of the pairing."""
    prior = options.residual_prior
    memory = [Kernel("csa", "residual", beta, None, prior) for beta in options.residual_sharpness]
    return (*memory, Kernel("pair", "residual", 0.0, None, prior))


def history_rows(model: TwoTower, data: TrainingSet) -> HistoryRows:
    """All hand-overs of the training log that ended, unbounded: the pairs, and what the memory is made of.

    Vectors are the trained tower's, residuals are against its level. It reads every text, hence once a run.
    """
    used, place = np.unique(data.contact, return_inverse=True)
    vectors = encode(model, data, used)
    return build_rows(
        csa=data.csa.astype(np.int32),
        known_at=data.known_at,
        vector=vectors.memory[place],
        residual=(data.resolved == 1) - sigmoid(vectors.level)[place],
        resolved=data.resolved,
        customer=data.customer[data.contact],
        contact=data.contact,
        per_csa=max(1, len(data.contact)),
    )


def fit_join(
    model: TwoTower, data: TrainingSet, memory: Memory, options: JoinOptions, with_handled: bool, calibrated: bool
) -> tuple[Join, Calibrated | None]:
    """Fit both meanings of a rank on the validation window, and how P(resolved) was calibrated there.

    memory: over the rows of the training log as served from where validation opens, with pairs; with_handled: exposure
    is worth modelling (else `handled` is not offered); calibrated: the log has failures.
    """
    span_s = float(data.arrived_at[-1] - data.arrived_at[0]) / 1e6
    ranks: dict[Rank, RankWeights] = {"success": RankWeights(kernels=(), profile=1.0, level=1.0)}
    found = None
    if calibrated:
        kernels = success_kernels(options)
        ranks["success"], logits, resolved, held_out = fit_success(model, data, memory, kernels, options)
        found = calibrate(logits, resolved, held_out)
    if with_handled:
        draft = Join(dict(ranks), "success", calibrated)
        ranks["handled"] = fit_handled(model, data, memory, draft, handled_kernels(span_s, options), options)
    default: Rank = "success" if calibrated or not with_handled else "handled"
    return Join(ranks, default, calibrated, Calibration() if found is None else found.chosen), found


def spread(positions: Indices, most: int) -> Indices:
    """At most `most` of the positions, evenly spaced."""
    return positions[np.linspace(0, len(positions) - 1, min(len(positions), most)).astype(np.int64)]


def fit_success(
    model: TwoTower, data: TrainingSet, memory: Memory, kernels: tuple[Kernel, ...], options: JoinOptions
) -> tuple[RankWeights, Doubles, npt.NDArray[np.bool_], Doubles]:
    """Logistic regression of outcomes on level, profile and residuals; prior at the tower's own logit.

    Returns the weights, and of the window's hand-overs in order of arrival the joint logits (n,), the outcomes (n,) and
    the logits (n,) by weights that were fitted on the other folds.
    """
    positions = data.validation()
    positions = spread(positions[data.resolved[positions] >= 0], 4 * MOST_EXAMPLES)
    positions = positions[np.argsort(data.arrived_at[data.contact[positions]], kind="stable")]
    contacts = encode(model, data, data.contact[positions])
    logit = profile_logits(model, data, positions, contacts)
    parts = np.empty((len(positions), len(kernels)))
    for i in track(range(len(positions)), "parts of success"):
        one = contacts.take(np.array([i]))
        parts[i] = memory.parts(
            kernels, one.memory[0], int(one.customer[0]), int(one.arrived_at[0]), data.csa[positions[i : i + 1]]
        )[0]
    columns = np.column_stack([contacts.level, logit - contacts.level, parts])
    centre = np.array([1.0, 1.0, *np.zeros(len(kernels))])
    resolved = data.resolved[positions] == 1
    weights, intercept = logistic(columns, resolved, centre, 10 * options.ridge)
    found = RankWeights(
        kernels, profile=float(weights[1]), level=float(weights[0]), intercept=intercept,
        kernel_weights=tuple(float(w) for w in weights[2:]),
    )  # fmt: skip
    held_out = np.empty(len(columns))
    for test in folds(len(columns)):
        others, other = logistic(columns[~test], resolved[~test], centre, 10 * options.ridge)
        held_out[test] = columns[test] @ others + other
    return found, columns @ weights + intercept, resolved, held_out


def logistic(columns: Doubles, outcome: npt.NDArray[np.bool_], centre: Doubles, ridge: float) -> tuple[Doubles, float]:
    """Weights (K,), none below 0, and intercept of a logistic regression with prior N(centre, 1/ridge) on standardised
    weights.

    columns (n, K). The prior's strength is per weight times the column's scale, so units do not matter. Every column
    speaks for success, and a part that shares most of its evidence with another one must not count against it.
    """
    from scipy.optimize import minimize
    from scipy.special import expit

    x = np.column_stack([columns.astype(np.float64), np.ones(len(columns))])
    y = outcome.astype(np.float64)
    precision = np.append(ridge * columns.std(axis=0, dtype=np.float64) ** 2, 0.0)
    start = np.append(centre, 0.0)

    # Steps are taken in units of each column's scale; without that the search is slow where units differ.
    unit = np.append(np.maximum(columns.std(axis=0, dtype=np.float64), 1e-9), 1.0)

    def loss(scaled: Doubles) -> tuple[float, Doubles]:
        theta = scaled / unit
        logits, gap = x @ theta, theta - start
        value = np.logaddexp(0, logits).sum() - y @ logits + 0.5 * (precision * gap) @ gap
        return float(value), (x.T @ (expit(logits) - y) + precision * gap) / unit

    bounds = [(0, None)] * len(centre) + [(-30, 30)]
    found = minimize(
        loss, start * unit, jac=True, bounds=bounds, method="L-BFGS-B",
        options={"maxiter": 1000, "ftol": 1e-14, "gtol": 1e-8},
    )  # fmt: skip
    theta: Doubles = found.x / unit
    return theta[:-1], float(theta[-1])


def minimise(loss: Callable[[], Tensor], theta: Tensor) -> Doubles:
    """Minimum of a smooth convex loss by L-BFGS with strong Wolfe line search."""
    optimiser = torch.optim.LBFGS(
        [theta], max_iter=200, line_search_fn="strong_wolfe", tolerance_grad=1e-7, tolerance_change=1e-10
    )

    def closure() -> Tensor:
        optimiser.zero_grad()
        value = loss()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimiser.step(closure)  # type: ignore[no-untyped-call]
    return theta.detach().numpy()


def fit_handled(
    model: TwoTower, data: TrainingSet, memory: Memory, draft: Join, kernels: tuple[Kernel, ...], options: JoinOptions
) -> RankWeights:
    """Conditional logit of who took the contact (not unresolved) over the candidates."""
    positions = data.validation()
    positions = positions[data.resolved[positions] != 0]
    cells = len(data.identity) * (len(kernels) + 2)
    positions = spread(positions, max(100, min(MOST_EXAMPLES, MOST_CELLS // cells)))
    contacts = encode(model, data, data.contact[positions])
    mask = eligible_mask(data, data.contact[positions])
    everyone = np.arange(len(data.identity))
    columns = np.empty((len(positions), len(data.identity), len(kernels) + 2), dtype=np.float32)
    vectors: dict[int, npt.NDArray[np.float32]] = {}
    for i in track(range(len(positions)), "parts of handled"):
        one, snapshot = contacts.take(np.array([i])), int(data.snapshot[data.contact[positions[i]]])
        if snapshot not in vectors:
            vectors = {snapshot: csa_vectors(model, data, snapshot)}
        columns[i, :, 0] = vectors[snapshot] @ one.profile[0]
        columns[i, :, 1] = log_success(draft, one, memory, everyone, vectors[snapshot])
        columns[i, :, 2:] = memory.parts(kernels, one.memory[0], int(one.customer[0]), int(one.arrived_at[0]), everyone)
    weights = conditional_logit(columns, data.csa[positions], mask, options.ridge)
    return RankWeights(
        kernels, profile=float(weights[0]), success=float(weights[1]),
        kernel_weights=tuple(float(w) for w in weights[2:]),
    )  # fmt: skip


def log_success(
    draft: Join, contact: ContactVectors, memory: Memory, candidates: Indices, vectors: npt.NDArray[np.float32]
) -> npt.NDArray[np.float32]:
    """log P(resolved) of the candidates by the success rank, 0 where the log cannot know."""
    if not draft.calibrated:
        return np.zeros(len(candidates), dtype=np.float32)
    return log_sigmoid(draft.score("success", contact, memory, candidates, vectors).score)


def conditional_logit(
    columns: npt.NDArray[np.float32], taken: Indices, mask: npt.NDArray[np.bool_] | None, ridge: float
) -> Doubles:
    """Weights (K,) of a softmax over candidates.

    columns (n, J, K), taken (n,) the chosen candidate, mask (n, J) who could be chosen; prior N(0, 1/ridge) on
    weights of columns standardised within contacts.
    """
    x = torch.from_numpy(columns)
    x = x - x.mean(dim=1, keepdim=True)
    scale = x.double().pow(2).mean(dim=(0, 1)).sqrt().clamp_min(1e-6)
    x = x / scale.float()
    allowed = None if mask is None else torch.from_numpy(mask)
    if allowed is not None:
        allowed[torch.arange(len(taken)), torch.from_numpy(taken)] = True
    index = torch.from_numpy(taken)[:, None]
    theta = torch.zeros(x.shape[2], dtype=torch.float64, requires_grad=True)

    def loss() -> Tensor:
        scores = x @ theta.float()
        if allowed is not None:
            scores = scores.masked_fill(~allowed, -torch.inf)
        nll = (scores.logsumexp(dim=1) - scores.gather(1, index).squeeze(1)).double().sum()
        return nll + 0.5 * ridge * (theta**2).sum()

    weights: Doubles = minimise(loss, theta) / scale.numpy()
    return weights
