"""Heads for what else comes of a hand-over, fitted after the towers: rating, quality, handle time, transfer.

Notable: a target is y = level(x) + own(a) + c · z(x, a) + noise, with z the towers' logit of success, the level of
success and profile(x)·vector(a). Level and own are Gaussian regressions whose every variance is chosen by marginal
likelihood, so a target with two hundred facts and one with a million need no settings (`mixed.py`). The towers have
seen the outcomes that they were trained on, and z of those is flattering; so c is estimated on the validation window,
which they have not seen, beside a level and an own part of earlier facts, both partialled out of z as well (Frisch and
Waugh, 1933; Lovell, 1963): what is left of z is who suits whom. Then level and own are fitted again, of y − c · z, on
all that is known: where a target has few facts, what success has taught of contacts and CSAs stands in for them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from train.encode import text_vectors
from train.mixed import Cells, Mixed, Ridge
from train.prepare import TrainingSet, usable_handovers
from twotower.errors import BundleError, ConfigError
from twotower.scoring.join import Join
from twotower.scoring.outcomes import NAMES, TIME, Head, Outcomes
from twotower.tables.log import Log
from twotower.towers.two_tower import TwoTower

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Longs = npt.NDArray[np.int64]
LEAST = 200  # facts known before validation; fewer say less than the mean
LEAST_AFTER = 20  # facts of the validation window; fewer measure nothing
MOST = 500_000  # facts of a target, the latest
MOST_LEVEL = 20_000  # of these, for the level's many weights
ROUNDS = 2  # of backfitting; on a generated centre a third moves predictions by 2 % of their deviation at most
PRIOR = 200.0  # facts' worth of evidence that c is 0: beside the rest, y and z correlate by some hundredths
MOST_VARIANCE = 2.0  # of log handle times: beyond that, e^(σ²/2) tells of a few forgotten cases
CHUNK = 8192


def facts_of(log: Log) -> Doubles:
    """Values (M, T) of a log's usable hand-overs, in the order of the training set; NaN where they are not known."""
    moves, rows = log.handovers, usable_handovers(log)
    time, moved = moves.handle_time_s[rows].astype(np.float64), moves.transferred[rows]
    columns = {
        "csat": moves.csat[rows],
        "quality_score": moves.quality_score[rows],
        "handle_time_s": np.log1p(np.where(time >= 0, time, np.nan)),
        "transferred": np.where(moved >= 0, moved, np.nan),
    }
    return np.column_stack([columns[name] for name in NAMES]).astype(np.float64)


class Pairs:
    """What the fits read of hand-overs (n,), given as positions in the training set; towers in evaluation mode."""

    def __init__(self, towers: TwoTower, data: TrainingSet) -> None:
        self.towers, self.data = towers, data

    @cached_property
    def _text(self) -> Floats:
        frozen = self.data.frozen_text
        return text_vectors(self.towers, self.data) if frozen is None else frozen

    @torch.inference_mode()
    def inputs(self, positions: Longs) -> Floats:
        """What the level reads of the contact (n, W): the contact tower's fused inputs."""
        return np.concatenate([self._fused(part).numpy() for part in _chunks(positions)])

    @torch.inference_mode()
    def levels(self, positions: Longs, weight: Doubles) -> Doubles:
        """Products (n,) of these inputs with weights (W,)."""
        by = torch.from_numpy(weight.astype(np.float32))
        return np.concatenate([(self._fused(part) @ by).numpy() for part in _chunks(positions)]).astype(np.float64)

    @torch.inference_mode()
    def logits(self, positions: Longs) -> Doubles:
        """The towers' logits of success (n,), of each contact with the CSA as of the contact's snapshot."""
        contact, csa, data, found = self.towers.contact_tower, self.towers.csa_tower, self.data, []
        identity = torch.from_numpy(data.identity)
        for part in _chunks(positions):
            who = data.csa[part]
            features = torch.from_numpy(data.csa_features[data.snapshot[data.contact[part]], who])
            vector = csa.vector(csa.members(features, identity[who]))
            out = contact.head(*self._given(part))
            found.append(((contact.profile(out) * vector).sum(dim=1) + out.level).numpy())
        return np.concatenate(found).astype(np.float64)

    @torch.inference_mode()
    def cells(self, positions: Longs) -> Cells:
        """The CSAs of hand-overs, as of their contacts' snapshots."""
        data, tower = self.data, self.towers.csa_tower
        snapshot, csas = data.snapshot[data.contact[positions]].astype(np.int64), len(data.identity)
        keys, cell = np.unique(snapshot * csas + data.csa[positions], return_inverse=True)
        features = [
            tower.standardise(torch.from_numpy(data.csa_features[part // csas, part % csas])[:, : tower.plain]).numpy()
            for part in _chunks(keys)
        ]
        return Cells(keys % csas, np.concatenate(features), cell.reshape(-1), csas)

    def _fused(self, positions: Longs) -> Tensor:
        return self.towers.contact_tower.fused(*self._given(positions))

    def _given(self, positions: Longs) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Text, what is read of it, categories, numbers and what was told of complexity, of the contacts."""
        data, rows = self.data, self.data.contact[positions]
        text, read = torch.from_numpy(self._text[rows]), torch.from_numpy(data.read[rows])
        categories, numbers = torch.from_numpy(data.categories[rows]), torch.from_numpy(data.numbers[rows])
        return text, read, categories, numbers, torch.from_numpy(data.told[rows])


def _chunks(positions: Longs) -> list[Longs]:
    return [positions[start : start + CHUNK] for start in range(0, max(1, len(positions)), CHUNK)]


@dataclass(frozen=True)
class Additive:
    """y = centre + scale · (weight · inputs + bias + side · features + own[csa]): weight (W,), side (G,), own (J,)."""

    centre: float
    scale: float
    weight: Doubles
    bias: float
    side: Doubles
    own: Doubles

    def level(self, pairs: Pairs, positions: Longs) -> Doubles:
        """What contacts say (n,), in the target's unit."""
        return self.centre + self.scale * (pairs.levels(positions, self.weight) + self.bias)

    def added(self, pairs: Pairs, positions: Longs) -> Doubles:
        """What their CSAs add (n,)."""
        return self.scale * pairs.cells(positions).values(self.side, self.own)


class Facts:
    """Hand-overs (n,) whose values level and own part are fitted to; several targets of the same ones share the work
    that knows no values. positions: theirs in the training set, the latest `MOST` of them if there are more."""

    def __init__(self, pairs: Pairs, positions: Longs) -> None:
        self.positions = positions[-MOST:]
        self._pairs, self._cells = pairs, pairs.cells(self.positions)
        many = len(self.positions)
        self._some = np.linspace(0, many - 1, min(many, MOST_LEVEL)).astype(np.int64)
        self._ridge, self._mixed = Ridge(pairs.inputs(self.positions[self._some])), Mixed(self._cells)

    def additive(self, value: Doubles) -> Additive:
        """Level and own part of values (n,), by backfitting (Buja, Hastie and Tibshirani, 1989)."""
        value = value[-MOST:]
        centre, scale = float(value.mean()), float(value.std()) or 1.0
        z, own = (value - centre) / scale, np.zeros(len(value))
        for _ in range(ROUNDS):
            weight, bias = self._ridge.solve((z - own)[self._some])
            side, intercepts = self._mixed.solve(z - self._pairs.levels(self.positions, weight) - bias)
            own = self._cells.values(side, intercepts)
        return Additive(centre, scale, weight, bias, side, intercepts)


@dataclass(frozen=True)
class Measured:
    """`heads` of the targets that could be fitted, and what run.json says of every target."""

    heads: Outcomes
    facts: dict[str, Any]


def measure_outcomes(pairs: Pairs, log: Log) -> Measured:
    """Which targets have a head, its c and its variance, and how much is foretold on the validation window.

    The towers have not seen the outcomes of that window. R² is of the window, against the mean of what was known before
    it: of a level alone (`r2_level`), and of everything (`r2`).
    """
    values, before, after = facts_of(log), pairs.data.training(), pairs.data.validation()
    usual: Additive | None = None
    heads: list[Head | None] = []
    facts: dict[str, Any] = {}
    for target, name in enumerate(NAMES):
        known, later = (rows[np.isfinite(values[rows, target])] for rows in (before, after))
        why = _why_not(values[known, target])
        if why:
            facts[name] = f"no head: {why}"
            heads.append(None)
            continue
        usual = Facts(pairs, before).additive(pairs.logits(before)) if usual is None else usual
        facts[name], head = _measure(pairs, values, target, known, later, usual)
        heads.append(head)
    return Measured(Outcomes(tuple(heads)), facts)


def measured_by(run: Path) -> Measured:
    """The same as an earlier run found it: a day moves neither c nor a variance by as much as a window leaves open.

    Raises ConfigError where the folder is no run.
    """
    try:
        facts = json.loads((run / "run.json").read_text(encoding="utf-8"))["outcomes"]
        return Measured(Join.load(run / "calibration.json").outcomes, facts)
    except (OSError, ValueError, KeyError, BundleError) as error:
        raise ConfigError(f"data.start {run}: not a training run ({error})") from None


def _why_not(value: Doubles) -> str | None:
    """Why facts (n,) give no head, None where they do."""
    if len(value) < LEAST:
        return f"{len(value)} facts before validation, {LEAST} are needed"
    return f"it is {value[0]:g} in all {len(value)} facts before validation" if np.ptp(value) == 0 else None


def _measure(
    pairs: Pairs, values: Doubles, target: int, known: Longs, later: Longs, usual: Additive
) -> tuple[dict[str, Any], Head]:
    """One target; usual: level and own part of the logits themselves."""
    fitted = Facts(pairs, known)
    found, slope = fitted.additive(values[known, target]), 0.0
    rows = later if len(later) >= LEAST_AFTER else known
    z, value, level = pairs.logits(rows), values[rows, target], found.level(pairs, rows)
    facts: dict[str, Any] = {"facts": len(known) + len(later)}
    rest = value - level - found.added(pairs, rows)
    if rows is later:
        slope = coefficient(z - usual.level(pairs, rows) - usual.added(pairs, rows), rest)
        whole = fitted.additive(values[known, target] - slope * pairs.logits(known))
        rest = value - slope * z - whole.level(pairs, rows) - whole.added(pairs, rows)
        spread = float(np.square(value - found.centre).sum())
        for name, left in (("r2_level", value - level), ("r2", rest)):
            facts[name] = round(1 - float(np.square(left).sum()) / spread, 6) if spread else None
    variance = float(np.square(rest).mean())
    head = Head(slope, min(variance, MOST_VARIANCE) if target == TIME else variance)
    return facts | {"fit": round(slope, 6), "variance": round(head.variance, 6)}, head


def coefficient(x: Doubles, y: Doubles) -> float:
    """The slope of y (n,) on x (n,) under a Gaussian prior at 0 that weighs as much as `PRIOR` facts."""
    x = x - x.mean()
    size = float(x @ x)
    return float(x @ y) / (size + PRIOR * size / len(x)) if size > 0 else 0.0


@torch.no_grad()
def write_outcomes(pairs: Pairs, log: Log, heads: Outcomes) -> None:
    """Fit level and own part of every head on all that is known, beside c · z, and put them into the towers.

    c · profile·vector is left to who scores pairs; c times the level of success goes into the target's level.
    """
    contact, csa, values = pairs.towers.contact_tower, pairs.towers.csa_tower, facts_of(log)
    for target, head in enumerate(heads.heads):
        if head is None:
            continue
        rows = np.flatnonzero(np.isfinite(values[:, target]))
        found = Facts(pairs, rows).additive(values[rows, target] - head.fit * pairs.logits(rows))
        weight = torch.from_numpy(found.weight) + head.fit / found.scale * contact.to_level.weight[0].double()
        bias = found.centre + found.scale * found.bias + head.fit * float(contact.to_level.bias[0])
        own = np.zeros(len(csa.outcomes.own) - 1)
        own[pairs.data.identity - 1] = found.own
        contact.outcomes.put(target, weight, found.scale, bias)
        csa.outcomes.put(target, torch.from_numpy(found.side), found.scale, 0.0, torch.from_numpy(own))
