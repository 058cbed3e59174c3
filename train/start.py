"""Where a run goes on from another one: yesterday's chain over today's hand-overs.

Notable: everything that hand-overs decide is fitted anew, on all of them; what is taken over is what a day hardly
moves. The table of words and the topics stay, unless contacts bring intents that the earlier run had seen too little
of; then topics are found anew, and the chain's directions follow by least squares of the old topics on the new. The
chain starts where the earlier one stood, coordinate by coordinate by their names, so vocabularies may grow and CSAs may
come: who is new starts where what is declared of them puts them, as a member of that cohort. Two chains are kept of a
run, before and after it took in its validation window: what is measured on the window of the next run starts from the
first, which has not seen it. Means of the earlier chain count as as many draws as the new one adds, so some days
average what one day is too short to.

With `replay` a sweep is bounded: of hand-overs older than the earlier run's window at most so many are read, evenly
spaced in each CSA's time, others every day. Each stands for as many as were left out where it tells of what is common
to all CSAs, and for itself where it tells of its own CSA: held for twenty-five, forty hand-overs would be believed like
a thousand. So less is known of each CSA than there is to know, which is the price, and why nothing is left out unless
it is asked for (experience replay with importance weights: Isele and Cosgun, Selective experience replay for lifelong
learning, AAAI 2018, "global distribution matching").
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from train.posterior import CHAIN, PLAIN_VARIANCE, SUMS, Means, PosteriorSampler
from train.topics import read_topics
from twotower.clock import format_time
from twotower.errors import ConfigError
from twotower.text.tokens import TokenArrays
from twotower.towers.config import TowerConfig
from twotower.towers.store import load
from twotower.towers.topics import Topics

if TYPE_CHECKING:
    from train.data import MatcherData
    from train.prepare import TrainingSet

Longs = npt.NDArray[np.int64]
Doubles = npt.NDArray[np.float64]
Floats = npt.NDArray[np.float32]
FILE = "chain.safetensors"
BEFORE, AFTER = "before", "after"
"""The run took in its validation window."""
LEAST_NEW, GROWN = 30, 2.0
"""Contacts of an intent, and how many times as many as when topics were found, that have them found anew."""
TEXTS = 4000  # on which old topics are told by new ones
RIDGE = 1e-2
GOLDEN = (5**0.5 - 1) / 2


CONSTANT = "1"


@dataclass(frozen=True)
class Names:
    """What a chain's coordinates are called, beside topics and CSAs, so that another log's chain can be laid over it:
    `plain` (Q,), `level` (E,), `declared` (F,) and the `groups` of these."""

    plain: tuple[str, ...]
    level: tuple[str, ...]
    declared: tuple[str, ...]
    groups: tuple[str, ...]


@dataclass(frozen=True)
class Stood:
    """A chain where it stood, in float64 on the host: buffers by the names of `posterior.CHAIN`, and its means."""

    state: Mapping[str, Tensor]
    means: Means

    @classmethod
    def of(cls, sampler: PosteriorSampler) -> Stood:
        """A copy."""
        means = sampler.means()
        copied = {name: getattr(means, name).detach().cpu().clone() for name in SUMS}
        state = {name: sampler.get_buffer(name).detach().cpu().clone() for name in CHAIN}
        return cls(state, Means(**copied))

    def tensors(self, prefix: str) -> dict[str, Tensor]:
        """By the names under which a file has them."""
        means = {f"{prefix}.mean_{name}": getattr(self.means, name).contiguous() for name in SUMS}
        return {f"{prefix}.{name}": value.contiguous() for name, value in self.state.items()} | means

    @classmethod
    def read(cls, tensors: Mapping[str, Tensor], prefix: str) -> Stood:
        """From what `tensors` gave. Raises KeyError."""
        means = Means(**{name: tensors[f"{prefix}.mean_{name}"] for name in SUMS})
        return cls({name: tensors[f"{prefix}.{name}"] for name in CHAIN}, means)


@dataclass(frozen=True)
class Start:
    """A finished run, as one that goes on from it needs it.

    `csas` (J,) ids in the order of the chains' rows; `labels` contacts of each intent when its topics were found;
    `split`, `end` µs of its log; `in_a_row` runs since the last that started from nothing, that one not counted.
    """

    topics: Topics
    table: Floats
    log_weight: Floats
    read: tuple[str, int, int, int]
    """Encoder, widths of its table's two parts, and how many topics were asked for."""
    before: Stood
    after: Stood
    names: Names
    csas: tuple[str, ...]
    labels: Mapping[str, int]
    split: int
    end: int
    in_a_row: int
    families: tuple[str, ...]

    @classmethod
    def load(cls, folder: Path) -> Start:
        """Raises ConfigError, one line, for a folder that is no run whose posterior was sampled."""
        if not (folder / "run.json").is_file():
            raise ConfigError(f"data.start {folder}: not a training run; name the folder that twotower train wrote")
        if not (folder / FILE).is_file():
            raise ConfigError(
                f"data.start {folder}: it has no {FILE}: only a run whose posterior was sampled can be gone on from"
            )
        try:
            with safe_open(folder / FILE, "pt") as file:
                said = json.loads(file.metadata()["twotower"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 — no mapping
            chains = Stood.read(tensors, BEFORE), Stood.read(tensors, AFTER)
            names = Names(**{name: tuple(values) for name, values in said["names"].items()})
            facts = {name: said[name] for name in ("labels", "split", "end", "in_a_row")}
            csas, families = tuple(said["csas"]), tuple(said["families"])
        except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
            raise ConfigError(f"data.start {folder / FILE}: cannot be read ({error}); train without it") from None
        towers = load(folder)
        tower, config = towers.contact_tower, towers.contact_tower.config
        weights = (tower.backbone if tower.reader is None else tower.reader).state_dict()
        table, log_weight = (weights[name].float().numpy() for name in ("table", "log_weight"))
        topics = tower.topics
        if topics is None:
            raise ConfigError(f"data.start {folder}: it has no topics; train without it")
        return cls(topics, table, log_weight, _reads(config), *chains, names, csas, **facts, families=families)

    def follows(self, split: int, end: int) -> None:
        """Raises ConfigError, one line, where that run knew what this one must not: split, end µs of this one's log."""
        if self.end > end or self.split > split:
            raise ConfigError(
                f"data.start: that run knew what became known until {format_time(self.end)}, and was measured from "
                f"{format_time(self.split)} on; this one's log ends {format_time(end)} and is measured from "
                f"{format_time(split)} on: go on from an earlier run, or train without it"
            )

    def fits(self, config: TowerConfig, families: Sequence[str]) -> None:
        """Raises ConfigError, one line, where a run that goes on would read something else."""
        mine = _reads(config)
        if mine != self.read:
            raise ConfigError(
                f"data.start: that run read texts by {', '.join(map(str, self.read))} (encoder, text_dim, view_dim, "
                f"topics), this one by {', '.join(map(str, mine))}; train without it"
            )
        if tuple(families) != self.families:
            raise ConfigError(
                f"data.start: that run read the features {', '.join(self.families)}, this one "
                f"{', '.join(families)}; train without it"
            )

    def knows(self, labels: Mapping[str, int]) -> bool:
        """Whether topics were found with enough contacts of every intent."""
        return all(n < LEAST_NEW or n < GROWN * self.labels.get(label, 0) for label, n in labels.items())

    def replayed(self, data: TrainingSet, positions: Longs, most: int) -> tuple[Longs, Floats]:
        """Hand-overs to read of `positions` (n,), sorted by CSA and time, and of how many each stands for."""
        older = np.flatnonzero(data.known_at[positions] < self.split)
        weight = np.ones(len(positions), np.float32)
        if len(older) <= most:
            return positions, weight
        # A stride through each CSA's time whose phase moves by the golden ratio from run to run meets all of them soon.
        phase = (self.in_a_row + 1) * GOLDEN % 1
        chosen = older[((np.arange(most) + phase) * len(older) / most).astype(np.int64)]
        kept = np.ones(len(positions), bool)
        kept[older] = False
        kept[chosen] = True
        weight[chosen] = len(older) / most
        return positions[kept], weight[kept]


def _reads(config: TowerConfig) -> tuple[str, int, int, int]:
    return config.encoder, config.text_dim, int(config.view_dim or 0), int(config.topics or 0)


def facts_of(module: MatcherData) -> dict[str, Any]:
    """What a run tells of itself to one that goes on from it, as JSON: fields of `Start`."""
    data, start = module.training_set, module.start
    schema, place = data.schema, list(data.schema.categories).index("intent")
    labels = labels_of(schema.categories["intent"], data.categories[data.arrived_at < data.split, place])
    kept = start is not None and start.knows(labels)
    return {
        "csas": module.tables.csas.ids.to_pylist(), "split": data.split, "end": data.end,
        "labels": dict(start.labels) if start is not None and kept else labels,
        "in_a_row": 0 if start is None else start.in_a_row + 1, "families": schema.families,
    }  # fmt: skip


def carried(start: Start, names: Names, module: MatcherData) -> Carried:
    """How the chain of another run lies in the coordinates of this one, which are called `names`."""
    data = module.training_set
    tokens, count = data.tokens, len(data.tokens)
    if data.topics is None:
        raise ConfigError("data.start: this log shows no topics; train without it")
    latest = tokens.between(max(0, count - TEXTS), count)
    csas = module.tables.csas.ids.to_pylist()
    return Carried.between(start, names, csas, told_by(start.topics, data.topics, latest))


def write_chain(folder: Path, before: Stood, after: Stood, names: Names, facts: Mapping[str, Any]) -> None:
    """`chain.safetensors` of a run; facts: as `facts_of` gives them."""
    said = json.dumps({**facts, "names": asdict(names)}, sort_keys=True)
    save_file({**before.tensors(BEFORE), **after.tensors(AFTER)}, folder / FILE, metadata={"twotower": said})


def labels_of(values: Sequence[str], codes: Longs) -> dict[str, int]:
    """Contacts of each intent; codes (N,) as in the schema, 0 unknown."""
    counts = np.bincount(codes, minlength=1 + len(values))[1:]
    return {value: int(n) for value, n in zip(values, counts, strict=True)}


def told_by(old: Topics, new: Topics, tokens: TokenArrays) -> Doubles | None:
    """(T new, T old) by which presence of the new topics tells that of the old in texts (n,); None: they are equal."""
    if old.weight.shape == new.weight.shape and torch.equal(old.weight, new.weight):
        return None
    was, now = (read_topics(topics, tokens) for topics in (old, new))
    gram = now.T @ now + RIDGE * len(now) * np.eye(now.shape[1])
    found: Doubles = np.asarray(np.linalg.solve(gram, now.T @ was), np.float64)
    return found


@dataclass(frozen=True)
class Carried:
    """A chain's coordinates among those of another: which rows and columns of the new stand for which of the old.

    about: as `told_by`; None: the same topics.
    """

    csas: tuple[Longs, Longs]
    plain: tuple[Longs, Longs]
    level: tuple[Longs, Longs]
    declared: tuple[Longs, Longs]
    groups: tuple[Longs, Longs]
    about: Doubles | None
    topics: int
    """Of the old chain."""

    @classmethod
    def between(cls, start: Start, names: Names, csas: Sequence[str], about: Doubles | None) -> Carried:
        """By their names."""
        old = start.names
        return cls(
            shared(start.csas, csas), shared(old.plain, names.plain), shared(old.level, names.level),
            shared(old.declared, names.declared), shared(old.groups, names.groups), about, start.topics.count,
        )  # fmt: skip

    def into(self, sampler: PosteriorSampler, stood: Stood, sweeps: int) -> None:
        """Have a fresh chain stand where another stood, and count the means of that as as many draws as it will add.

        Raises ConfigError where the chains have other directions.
        """
        if stood.state["maps"].shape[1] != sampler.rank:
            raise ConfigError(
                f"model.directions {sampler.rank}: the run of data.start has {stood.state['maps'].shape[1]}; "
                "train without it"
            )
        device = sampler.maps.device
        state = {name: value.to(device) for name, value in self.state(sampler, stood.state).items()}
        sampler.start_at(state, sweeps)
        self.recall(sampler, stood, sweeps)

    def recall(self, sampler: PosteriorSampler, stood: Stood, sweeps: int) -> None:
        """Count the means of another chain as as many draws as this one will add in so many sweeps."""
        device, means = sampler.maps.device, self.means(sampler, stood.means)
        moved = Means(**{name: getattr(means, name).to(device) for name in SUMS})
        sampler.recall(moved, max(1, sweeps - sampler.idle))

    def state(self, sampler: PosteriorSampler, old: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Where the new chain stands; what the old did not know stands as its prior says."""
        rank, declared = sampler.rank, sampler.design.declared.cpu().double()
        wide = np.r_[np.arange(rank), rank + self.plain[0]], np.r_[np.arange(rank), rank + self.plain[1]]
        side = _placed((sampler.f, rank + sampler.q), old["side"], self.declared, wide)
        skills = _over(declared @ side, old["skills"], self.csas, wide)
        own = PLAIN_VARIANCE * torch.eye(sampler.q, dtype=torch.float64)
        start = torch.full((sampler.groups,), 10 * sampler.least_side, dtype=torch.float64)
        precision = start.clone()
        precision[self.groups[0]] = old["side_precision"][self.groups[1]].clamp(min=sampler.least_side)
        return {
            "maps": self.contact(old["maps"]), "skills": skills, "common": self.contact(old["common"]),
            "pair": _placed((sampler.e,), old["pair"], self.level), "side": side,
            "plain_cov": _over(own, old["plain_cov"], self.plain, self.plain), "precision": old["precision"],
            "side_precision": precision,
        }  # fmt: skip

    def means(self, sampler: PosteriorSampler, old: Means) -> Means:
        """The old chain's means in the new coordinates."""
        declared = sampler.design.declared.cpu().double()
        side = torch.zeros(sampler.f, sampler.k + sampler.q, dtype=torch.float64)
        side[self.declared[0]] = self.wide(old.side, sampler)[self.declared[1]]
        vectors = declared @ side
        vectors[self.csas[0]] = self.wide(old.vectors, sampler)[self.csas[1]]
        metric = self.wide(self.wide(old.metric, sampler).T.contiguous(), sampler)
        new = np.setdiff1d(np.arange(sampler.q), self.plain[0]) + sampler.k
        metric[new, new] = PLAIN_VARIANCE
        pair = _placed((sampler.e,), old.pair, self.level)
        return Means(vectors, self.contact(old.common), pair, side, metric)

    def contact(self, old: Tensor) -> Tensor:
        """(K new, …) of (K old, …)."""
        return old.clone() if self.about is None else torch.from_numpy(self.about) @ old

    def wide(self, old: Tensor, sampler: PosteriorSampler) -> Tensor:
        """(n, K + Q) in the new coordinates of (n, K + Q) in the old."""
        out = torch.zeros(len(old), sampler.k + sampler.q, dtype=torch.float64)
        out[:, : sampler.k] = self.contact(old[:, : self.topics].T.contiguous()).T
        out[:, sampler.k + self.plain[0]] = old[:, self.topics + self.plain[1]]
        return out


def shared(old: Sequence[str], new: Sequence[str]) -> tuple[Longs, Longs]:
    """Positions in `new` of what both have, and in `old`."""
    place = {name: i for i, name in enumerate(old)}
    both = [(i, place[name]) for i, name in enumerate(new) if name in place]
    found = np.array(both, np.int64).reshape(-1, 2)
    return found[:, 0], found[:, 1]


def _placed(shape: tuple[int, ...], old: Tensor, *axes: tuple[Longs, Longs]) -> Tensor:
    """Zeros of a shape, with the old values where they belong."""
    return _over(torch.zeros(shape, dtype=torch.float64), old, *axes)


def _over(new: Tensor, old: Tensor, *axes: tuple[Longs, Longs]) -> Tensor:
    """New values with the old ones over them where both are known; axes: positions in the new and the old of each."""
    there, here = (np.ix_(*(axis[side] for axis in axes)) for side in (0, 1))
    new[there] = old[here]
    return new
