"""How faithful shares of feature families are: held against what happens when a family's values are replaced.

    python benchmarks/explanations.py --output docs/results/explanations.json
    python benchmarks/explanations.py --bundle BUNDLE --data DIR

Notable: the truth is an intervention on the two towers. For held-out contacts and CSAs of the roster, the values of a
family are replaced by those of another contact or CSA, many times, and the mean change of the profile product is the
family's true effect. *rank* is the mean over pairs of Spearman's correlation between shares and true effects of single
families; *strongest* how often both name the same family first; *sets R²* how well the sum of the shares foretells the
effect of replacing a random half of the families of both sides together, 1 − Σ (error)² / Σ (effect − mean)².
Methods: *leave out* one family of the whole pair, add it *alone* to the neutral pair, and the *walk* of
`serve/pairs_families.py`; neutral numbers of a contact are the *mean* of training or the declared *defaults*. Options
that are not listed by --help go to training.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from real_logs import trained_bundle

from evaluation.generate.centre import generate
from evaluation.generate.settings import Settings
from evaluation.ranking import split_log
from evaluation.report_text import table
from serve.pairs_families import (
    IDENTITY,
    TEXT,
    Side,
    contact_columns,
    contact_side,
    csa_columns,
    csa_side,
    declared_defaults,
    shares,
)
from twotower.bundle.bundle import Bundle
from twotower.bundle.sessions import ContactInputs
from twotower.features.schema import log_columns
from twotower.files import atomic_write
from twotower.progress import track
from twotower.tables.log import Log

Doubles = npt.NDArray[np.float64]
Shares = dict[tuple[str, str], float]
POOL = 400  # contacts that pairs and replacements are drawn from
SETS = 6  # random halves a pair


class Towers:
    """A bundle's towers with some held-out contacts, and what becomes of them with others' families."""

    def __init__(self, bundle: Bundle, log: Log, contacts: npt.NDArray[np.int64]) -> None:
        self.bundle, self.roster = bundle, bundle.roster
        self.csas = np.flatnonzero(bundle.roster.active)
        self.typical = bundle.roster.features[self.csas].mean(axis=0)
        rows = [np.array([i]) for i in contacts]
        self.read = [bundle.contact_encoder.inputs_of(log_columns(log, row)) for row in rows]
        self.of_contact, self.of_csa = contact_columns(bundle.schema), csa_columns(bundle.schema)

    def sides(self, contact: int, csa: int, defaults: bool) -> tuple[Side, Side]:
        """Both vectors of a pair by families."""
        bundle, read = self.bundle, self.read[contact]
        numbers = declared_defaults(read, self.of_contact) if defaults else None
        mine, identity = self.roster.features[csa], int(self.roster.identity[csa])
        return (
            contact_side(bundle.contact_encoder, bundle.schema, read, numbers),
            csa_side(bundle.csa_encoder, bundle.schema, mine, identity, self.typical, self.roster.vectors[csa]),
        )

    def contact(self, one: int, other: int, replaced: set[str]) -> Doubles:
        """Vector (P,) of a contact with some families of another."""
        mine, theirs = self.read[one], self.read[other]
        numbers = mine.numbers.copy()
        for name, (places, _) in self.of_contact.items():
            if name in replaced:
                numbers[:, places] = theirs.numbers[:, places]
        tokens = (theirs if TEXT in replaced else mine).tokens
        categories = (theirs if "labels" in replaced else mine).categories
        return self.bundle.contact_encoder.profile(ContactInputs(tokens, categories, numbers)).astype(np.float64)

    def csa(self, one: int, other: int, replaced: set[str]) -> Doubles:
        """Vector (P,) of a CSA with some families of another."""
        features = self.roster.features[one].copy()
        for name, (places, _) in self.of_csa.items():
            if name in replaced:
                features[places] = self.roster.features[other, places]
        identity = self.roster.identity[[other if IDENTITY in replaced else one]]
        return self.bundle.csa_encoder.encode(features[None], identity)[0][0].astype(np.float64)

    def effect(self, pair: tuple[int, int], others: list[tuple[int, int]], replaced: set[tuple[str, str]]) -> float:
        """Mean fall of u · v where families (side, name) are replaced by those of other pairs."""
        contact, csa = ({name for side, name in replaced if side == which} for which in ("contact", "csa"))
        whole = self.contact(*pair[:1] * 2, set()) @ self.csa(*pair[1:] * 2, set())
        left = [self.contact(pair[0], x, contact) @ self.csa(pair[1], a, csa) for x, a in others]
        return float(whole - np.mean(left))


def methods(towers: Towers, contact: int, csa: int) -> dict[str, Shares]:
    """Shares (side, name) of a pair's families by each method."""
    found: dict[str, Shares] = {}
    for neutral in ("mean", "defaults"):
        one, other = towers.sides(contact, csa, neutral == "defaults")
        _, of_contact, of_csa = shares(one, other)
        walk = {("contact", name): v for name, v in of_contact.items()} | {
            ("csa", name): v for name, v in of_csa.items()
        }
        u, v = (side.vector(frozenset(side.names)) for side in (one, other))
        u0, v0 = (side.vector(frozenset()) for side in (one, other))
        out = {("contact", n): float((u - one.vector(frozenset(one.names) - {n})) @ v) for n in one.names}
        out |= {("csa", n): float(u @ (v - other.vector(frozenset(other.names) - {n}))) for n in other.names}
        alone = {("contact", n): float((one.vector(frozenset({n})) - u0) @ v0) for n in one.names}
        alone |= {("csa", n): float(u0 @ (other.vector(frozenset({n})) - v0)) for n in other.names}
        found |= {f"leave out, {neutral}": out, f"alone, {neutral}": alone, f"walk, {neutral}": walk}
    return found


def measure(towers: Towers, pairs: int, donors: int, seed: int) -> list[dict[str, Any]]:
    """Figures of each method."""
    rng = np.random.default_rng(seed)

    def draw(count: int) -> list[tuple[int, int]]:
        contacts = rng.integers(len(towers.read), size=count).tolist()
        return list(zip(contacts, rng.choice(towers.csas, count).tolist(), strict=True))

    ranks: dict[str, list[float]] = {}
    first: dict[str, list[bool]] = {}
    sums: dict[str, list[float]] = {}
    effects: list[float] = []
    for pair in track(draw(pairs), "pairs"):
        found, others = methods(towers, *pair), draw(donors)
        families = list(next(iter(found.values())))
        true = np.array([towers.effect(pair, others, {family}) for family in families])
        halves = [{family for family in families if rng.random() < 0.5} for _ in range(SETS)]
        effects += [towers.effect(pair, others, half) for half in halves]
        for name, given in found.items():
            values = np.array([given[family] for family in families])
            ranks.setdefault(name, []).append(_spearman(values, true))
            first.setdefault(name, []).append(bool(np.abs(values).argmax() == np.abs(true).argmax()))
            sums.setdefault(name, []).extend(sum(given[family] for family in half) for half in halves)
    whole, spread = np.array(effects), np.square(np.array(effects) - np.mean(effects)).sum()
    return [
        {
            "method": name,
            "rank": float(np.mean(ranks[name])),
            "rank_se": float(np.std(ranks[name]) / np.sqrt(pairs)),
            "strongest": float(np.mean(first[name])),
            "sets_rank": _spearman(np.array(sums[name]), whole),
            "sets_r2": float(1 - np.square(whole - np.array(sums[name])).sum() / spread),
        }
        for name in ranks
    ]


def _spearman(one: npt.NDArray[Any], other: npt.NDArray[Any]) -> float:
    from scipy.stats import spearmanr

    return float(spearmanr(one, other).statistic)


def main() -> None:
    """Parse options, measure, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--bundle", type=Path, help="measure this one, with --data; default: a generated centre's")
    parser.add_argument("--data", type=Path, help="its tables")
    parser.add_argument("--contacts", type=int, default=6_000)
    parser.add_argument("--csas", type=int, default=80)
    parser.add_argument("--pairs", type=int, default=200)
    parser.add_argument("--donors", type=int, default=40, help="replacements a pair and family (default 40)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, help="JSON file to write")
    args, options = parser.parse_known_args()
    with tempfile.TemporaryDirectory() as scratch:
        towers = prepare(args, options, Path(scratch))
        rows = measure(towers, args.pairs, args.donors, args.seed)
    lines = [[f"{row[name]:.3f}" for name in ("rank", "strongest", "sets_rank", "sets_r2")] for row in rows]
    head = ["method", "rank", "strongest", "sets, rank", "sets, R²"]
    print(table([head, *([row["method"], *line] for row, line in zip(rows, lines, strict=True))]))
    if args.output:
        facts = {"csas": len(towers.roster), "contacts": len(towers.read), "families": towers.bundle.schema.families}
        machine = {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count()}
        given = {name: getattr(args, name) for name in ("pairs", "donors", "seed")} | {"options": options}
        atomic_write(args.output, json.dumps({**given, **facts, "machine": machine, "rows": rows}, indent=1) + "\n")


def prepare(args: argparse.Namespace, options: Sequence[str], scratch: Path) -> Towers:
    """The bundle that was named, or that of a generated centre, with contacts of the last tenth."""
    data, folder = args.data, args.bundle
    if folder is None:
        data, folder = scratch / "centre", scratch / "bundle"
        generate(Settings(contacts=args.contacts, csas=args.csas, seed=args.seed), data)
    log = Log.load(data)
    test = split_log(log).test
    if args.bundle is None:
        trained_bundle(
            data, int(log.contacts.arrived_at[test[0]]), scratch, [f"--seed_everything={args.seed}", *options]
        )
    rng = np.random.default_rng(args.seed)
    return Towers(Bundle.open(folder), log, np.sort(rng.choice(test, min(POOL, len(test)), replace=False)))


if __name__ == "__main__":
    main()
