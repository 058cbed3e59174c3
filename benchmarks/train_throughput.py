"""Contacts a second of training, static and transformer, beside sentence-transformers' own trainer in the same process.

    python benchmarks/train_throughput.py --output results/train_throughput.json
    python benchmarks/train_throughput.py --device cuda --contacts 60000 --csas 240 --batch 256 --towers transformer
    python benchmarks/train_throughput.py --towers --epoch 1000000 --batch 4096 --threads 2
    python benchmarks/train_throughput.py --towers --cached 4096 16384 65536 --layers 1 --data.towers.max_tokens=32
    python benchmarks/train_throughput.py --towers --until-trained 60000

Notable: what a contact is, and what differs between the sides, says `train_throughput_sides.py`. Legs of both sides
alternate, who begins changes from round to round, and what is told is the median of the rounds' ratios, because a
machine is never quiet. Quality stands beside speed: after `--seen` contacts on either side, the share of the oracle's
uplift over the queue that first choices capture on the centre's last tenth (`worlds.captured`); ours by the exported
bundle, the peer's by the cosine of contact and profile texts. Rates are held against the device's own matrix products
(`train/ceilings.py`). Options that are not listed by --help go to our training. A device that is not there is told,
not guessed. `--epoch` and `--until-trained` compare nothing: they take the seconds of one static epoch with the text
trained, and those of a default run from tokens to its folder.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from record import Record, measure_each
from train_throughput_memory import ROSTER, TRAINED, first_layers, measure_alone
from train_throughput_plot import plot
from train_throughput_quality import captured_by_peer, captured_by_run
from train_throughput_sides import TOWERS, Leg, Load, Ours, Peer, missing_for_peer, resolved_pairs
from train_throughput_whole import epoch_seconds, trained_seconds
from worlds import test_begins

from evaluation.generate.centre import generate
from evaluation.generate.settings import Settings
from evaluation.report_text import table
from evaluation.truth import Truth
from train.ceilings import Ceilings, measure_ceilings
from twotower.files import atomic_write

Row = dict[str, Any]
DEFAULTS = {"static": (256, 20), "transformer": (64, 3)}  # batch and timed steps, for two cores and some minutes
PASSES = 10  # over the hand-overs, that quality is measured after where nobody says otherwise
NO_GPU = "not measured: no GPU"


class Centre:
    """A generated centre in a folder, and what both sides have read of it."""

    def __init__(self, folder: Path, contacts: int, csas: int, seed: int) -> None:
        self.folder = folder
        if not folder.exists():
            generate(Settings(contacts=contacts, csas=csas, seed=seed, languages=("en",)), folder)
        self.truth = Truth.load(folder)
        self.until = test_begins(self.truth)
        self.pairs = resolved_pairs(folder, self.until)
        self._ours: dict[str, Ours] = {}

    def ours(self, tower: str) -> Ours:
        """Our side with one kind of text: the log is read once for each."""
        return self._ours.setdefault(tower, Ours(self.folder, self.until))


def paired(load: Load, rounds: int, ours: Ours, peer: Callable[[], Peer] | None) -> tuple[list[Leg], list[Leg]]:
    """Legs of our side and of the peer's in turn; who begins changes from round to round. No peer: our legs alone."""
    found: tuple[list[Leg], list[Leg]] = [], []
    for turn in range(rounds):
        # Our side comes first of all, because the peer starts from what it has read.
        for side in (0, 1) if turn % 2 == 0 else (1, 0):
            if side == 0:
                found[0].append(ours.leg(load))
            elif peer is not None:
                found[1].append(peer().leg(load))
    return found


def speeds(legs: tuple[list[Leg], list[Leg]], ceilings: Ceilings) -> Row:
    """Figures of legs that alternated: contacts a second of each side, the median of the ratios round by round, and
    the share of the device's rate of products in bf16 and in fp32."""
    ours, peer = legs
    row: Row = {"ours": side(ours, ceilings), "peer": side(peer, ceilings) if peer else None}
    ratios = [mine.per_s / its.per_s for mine, its in zip(ours, peer, strict=True)] if peer else []
    row |= {"ratios": ratios, "ratio": statistics.median(ratios) if ratios else None}
    return row | {"ceilings": ceilings.facts()}


def side(legs: Sequence[Leg], ceilings: Ceilings) -> Row:
    """One side's figures: medians of its legs."""
    per_s = statistics.median(leg.per_s for leg in legs)
    achieved = per_s * legs[-1].flops_per_contact
    return {
        "contacts_per_s": per_s,
        "legs": [leg.per_s for leg in legs],
        "flops_per_contact": legs[-1].flops_per_contact,
        "flops_per_s": achieved,
        "share_of_bf16": None if ceilings.bf16 is None else achieved / ceilings.bf16.per_s,
        "share_of_fp32": achieved / ceilings.fp32.per_s,
    }


class Benchmark:
    """Everything that is measured, part by part; options are those of the command line."""

    def __init__(self, args: argparse.Namespace, options: Sequence[str], scratch: Path) -> None:
        self.args, self.options, self.scratch = args, tuple(options), scratch
        self.ceilings = cache(lambda device: measure_ceilings(torch.device(device)))
        self.centre = cache(lambda csas: Centre(scratch / f"centre-{csas}", args.contacts, csas, args.seed))
        self.missing = missing_for_peer()

    def parts(self) -> dict[str, Callable[[], tuple[list[Row], str]]]:
        """What was asked for, by the name of its part."""
        args = self.args
        found: dict[str, Callable[[], tuple[list[Row], str]]] = {}
        for device in args.device:
            for tower in args.towers:
                found[f"{tower} {device}"] = partial(self.compare, tower, device)
                if args.batches:
                    found[f"batches {tower} {device}"] = partial(self.batches, tower, device)
            if args.cached:
                found[f"cached {device}"] = partial(self.cached, device)
            if args.rosters:
                found[f"rosters {device}"] = partial(self.rosters, device)
            if args.epoch:
                found[f"epoch {device}"] = partial(self.epoch, device)
            if args.until_trained:
                found[f"until trained {device}"] = partial(self.until_trained, device)
        return found

    def load(self, tower: str, device: str, batch: int | None = None) -> Load:
        """What both sides are asked for."""
        usual, steps = DEFAULTS[tower]
        precision = self.args.precision or ("bf16" if device == "cuda" else "fp32")
        return Load(
            tower, device, precision, batch or self.args.batch or usual, self.args.steps or steps, self.args.seed,
            self.options,
        )  # fmt: skip

    def measure(self, part: str) -> tuple[list[Row], str]:
        """One part: its rows and its table; rows of a device that is not there say so."""
        device = part.rpartition(" ")[2]
        if device == "cuda" and not torch.cuda.is_available():
            return [{"part": part, "not_measured": "no GPU"}], f"{part}: {NO_GPU}"
        rows, text = self.parts()[part]()
        return [{"part": part, **row} for row in rows], text

    def legs(self, load: Load, rounds: int) -> Row:
        """Paired speeds of one load on the usual centre."""
        centre = self.centre(self.args.csas)
        ours = centre.ours(load.tower)
        peer = None if self.missing else lambda: Peer(load.tower, centre.pairs, ours.training_set)
        row = speeds(paired(load, rounds, ours, peer), self.ceilings(load.device))
        asked = {name: getattr(load, name) for name in ("tower", "device", "precision", "batch", "steps")}
        return asked | {"rounds": rounds, "threads": torch.get_num_threads()} | row

    def compare(self, tower: str, device: str) -> tuple[list[Row], str]:
        """Speed beside the peer's, and quality after as many contacts."""
        load = self.load(tower, device)
        row = self.legs(load, self.args.rounds)
        centre = self.centre(self.args.csas)
        usual = PASSES * len(centre.pairs.contact) if tower == "static" or device == "cuda" else 0
        steps = (usual if self.args.seen is None else self.args.seen) // load.batch
        row |= {"seen": steps * load.batch, "captured": {}}
        if steps:
            row["captured"]["ours"] = captured_by_run(load, steps, centre.folder, centre.until, centre.truth)
        if steps and not self.missing:
            peer = Peer(tower, centre.pairs, centre.ours(tower).training_set)
            row["captured"]["peer"] = captured_by_peer(peer, load, steps, centre.folder, centre.truth)
        row["peer_missing"] = self.missing
        return [row], told(row)

    def batches(self, tower: str, device: str) -> tuple[list[Row], str]:
        """Speed of both sides against the batch, one round each."""
        rows = [self.legs(self.load(tower, device, batch), 1) for batch in self.args.batches]
        lines = [[f"{tower}, {device}: batch", "ours, contacts/s", "peer, contacts/s"]]
        lines += [[f"{row['batch']:,}", rate(row["ours"]), rate(row["peer"])] for row in rows]
        return rows, table(lines)

    def rosters(self, device: str) -> tuple[list[Row], str]:
        """Speed and peak memory against the roster, which every step contrasts."""
        rows = []
        for csas in self.args.rosters:
            centre = self.centre(csas)
            found = measure_alone(centre.folder, centre.until, self.load("static", device), ROSTER)
            rows.append({"csas": csas, **found})
        return rows, memory_told(f"roster, {device}", "csas", rows)

    def cached(self, device: str) -> tuple[list[Row], str]:
        """Speed and peak memory of a transformer's training against the batch, one timed step each: on one centre that
        has enough hand-overs for the largest."""
        size = int(max(self.args.cached) / TRAINED)
        centre = Centre(self.scratch / "cached", max(size, self.args.contacts), self.args.csas, self.args.seed)
        layers = self.args.layers
        encoder = [f"--data.towers.encoder={first_layers(layers, self.scratch / 'encoder')}"] if layers else []
        rows = []
        for batch in self.args.cached:
            load = replace(self.load("transformer", device, batch), steps=1)
            rows.append({"layers": layers, **measure_alone(centre.folder, centre.until, load, encoder)})
        return rows, memory_told(f"transformer, {device}: batch", "batch", rows)

    def epoch(self, device: str) -> tuple[list[Row], str]:
        """One static epoch over as many contacts as were asked for."""
        centre = self.scratch / "epoch"
        settings = Settings(contacts=self.args.epoch, csas=self.args.csas, seed=self.args.seed, languages=("en",))
        if not centre.exists():
            generate(settings, centre)
        row = epoch_seconds(centre, settings.ends, self.load("static", device))
        said = "a static epoch of {contacts:,} contacts, threads: {threads}, {device}: {seconds:.1f} s".format(**row)
        return [row], f"{said} (reading and tokenising before: {row['prepared_s']:.0f} s)"

    def until_trained(self, device: str) -> tuple[list[Row], str]:
        """The default run from tokens to its folder."""
        folder = self.scratch / "until-trained"
        if not folder.exists():
            generate(Settings(contacts=self.args.until_trained, csas=self.args.csas, seed=self.args.seed), folder)
        row = trained_seconds(folder, device, self.options)
        said = "{contacts:,} contacts, tokenised, to a trained run, threads: {threads}, {device}: {seconds:.1f} s"
        return [row], said.format(**row) + f" (reading and tokenising before: {row['prepared_s']:.0f} s)"


def memory_told(head: str, against: str, rows: Sequence[Row]) -> str:
    """Speed and memory for people."""
    lines = [[head, "contacts/s", "peak memory, MB", "before training, MB"]]
    for row in rows:
        memory = [f"{row[name] / 1e6:,.0f}" for name in ("peak_bytes", "before_bytes")]
        lines.append([f"{row[against]:,}", f"{row['contacts_per_s']:,.0f}", *memory])
    return table(lines)


def rate(one: Row | None) -> str:
    """Contacts a second of a side; a dash where there is none."""
    return "–" if one is None else f"{one['contacts_per_s']:,.0f}"


def told(row: Row) -> str:
    """A comparison for people."""
    head = f"{row['tower']}, {row['device']}, {row['precision']}, batch {row['batch']}"
    seen = f"captured, {row['seen']:,} seen" if row["seen"] else "captured"
    lines = [[head, "contacts/s", "MFLOP a contact", "of bf16 products", seen]]
    for name in ("ours", "peer"):
        one = row[name]
        if one is None:
            continue
        share = "–" if one["share_of_bf16"] is None else f"{one['share_of_bf16']:.1%}"
        captured = row["captured"].get(name)
        quality = "not measured: --seen" if captured is None else f"{captured:.3f}"
        lines.append([name, rate(one), f"{one['flops_per_contact'] / 1e6:,.1f}", share, quality])
    if row["peer_missing"]:
        packages = " ".join(row["peer_missing"])
        return f"{table(lines)}\npeer not measured: its trainer needs pip install {packages}"
    spread = f"{min(row['ratios']):.2f} to {max(row['ratios']):.2f}"
    threads = f"threads: {row['threads']}; {row['steps']} steps a leg"
    return f"{table(lines)}\nours / peer: {row['ratio']:.2f} (median of {row['rounds']} rounds, {spread}; {threads})"


def parsed(argv: Sequence[str] | None = None) -> tuple[argparse.Namespace, list[str]]:
    """Options of the benchmark, and those that go to our training."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--towers", nargs="*", choices=TOWERS, default=list(TOWERS), help="compared (default: both)")
    parser.add_argument("--device", nargs="+", choices=("cpu", "cuda"), default=["cpu", "cuda"], help="default: both")
    parser.add_argument("--precision", choices=("fp32", "bf16"), help="default: fp32 on a CPU, bf16 on a GPU")
    parser.add_argument("--contacts", type=int, default=3000, help="of the centre (default 3000)")
    parser.add_argument("--csas", type=int, default=60, help="of the centre (default 60)")
    parser.add_argument("--batch", type=int, help="contacts in a step; default 256 static, 64 transformer")
    parser.add_argument("--steps", type=int, help="timed in a leg; default 20 static, 3 transformer")
    parser.add_argument("--rounds", type=int, default=3, help="legs of each side (default 3)")
    parser.add_argument("--seen", type=int, help="contacts before quality is measured; 0: not (transformer on a CPU)")
    parser.add_argument("--batches", type=int, nargs="+", default=[], help="speed against these")
    parser.add_argument("--rosters", type=int, nargs="+", default=[], help="speed and memory against these")
    parser.add_argument("--cached", type=int, nargs="+", default=[], help="memory of the transformer's batches")
    parser.add_argument("--layers", type=int, metavar="N", help="of MiniLM's layers, the first N alone, for --cached")
    parser.add_argument("--epoch", type=int, metavar="N", help="seconds of a static epoch over so many contacts")
    parser.add_argument("--until-trained", type=int, metavar="N", help="seconds of a default run over so many contacts")
    parser.add_argument("--threads", type=int, help="of torch; default: its own")
    parser.add_argument("--seed", type=int, default=0, help="of the centre and of training (default 0)")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="SVG of speed against batch and roster")
    parser.add_argument("--output", type=Path, help="JSON file to write")
    args, options = parser.parse_known_args(argv)
    if args.plot is not None:
        args.batches, args.rosters = args.batches or [8, 32, 128], args.rosters or [50, 200, 800]
    return args, options


def main() -> None:
    """Parse options, measure part after part, print and record them; exit status 1 where one failed."""
    args, options = parsed()
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", module="lightning")
    if args.threads:
        torch.set_num_threads(args.threads)
    asked = {name: value for name, value in vars(args).items() if name not in ("output", "plot", "towers", "device")}
    record = Record(args.output, {"settings": asked, "options": options}, "rows", "part")
    begun = time.perf_counter()
    with tempfile.TemporaryDirectory() as scratch:
        benchmark = Benchmark(args, options, Path(scratch))
        whole = measure_each(record, benchmark.parts(), benchmark.measure)
    print(f"{time.perf_counter() - begun:.0f} s in all")
    if args.plot is not None:
        atomic_write(args.plot, plot(record.rows))
    if not whole:
        sys.exit(1)


if __name__ == "__main__":
    main()
