"""How well CSAs are known whom nobody has seen, or hardly: rank correlation with the truth, by how much they have done.

    python benchmarks/cold_start.py --output docs/results/cold_start.json

Notable: a generated centre in which a quarter of the CSAs is new when the test begins, in groups that have been given
0, 20 and 50 contacts. *Who is better for this contact*: Spearman's correlation of the model's logit with the true one
over the CSAs of a group who speak the contact's language and serve its queue, averaged over contacts. *Which contacts
suit this CSA*: the same over contacts, averaged over the CSAs of the group; difficulty helps it, so it is high for
everyone. Both are stated as shares of what CSAs with 200 hand-overs and more reach. The bundle is not rolled forward.
Beside it stands what one reaches who knows the true needs and the true prior of every CSA and learns from the same
hand-overs (`evaluation/ceiling.py`). *Told live*: the CSAs with nothing, after so many outcomes were told to the
matcher, drawn from the truth for test contacts that are not asked about; nothing was trained in between.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc
from real_logs import trained_bundle
from record import Record, measure_each

from evaluation.ceiling import estimate, read_evidence
from evaluation.generate.centre import generate
from evaluation.generate.latents import Latents
from evaluation.generate.settings import Settings
from evaluation.ranking import split_log
from evaluation.report_text import table
from serve.matcher import Matcher
from twotower.clock import SECOND
from twotower.features.schema import log_columns
from twotower.progress import track
from twotower.tables.log import Log

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
NEW = (0, 20, 50)
WARM = 200
LIVE = (20, 50)
LEAST_CSAS, LEAST_CONTACTS = 4, 20
KINDS = {"csas": "who is better for this contact", "contacts": "which contacts suit this CSA"}


@dataclass(frozen=True)
class Asked:
    """Test contacts (n,) as positions in the centre, and who could take each of them (n, J)."""

    contact: Ints
    able: npt.NDArray[np.bool_]


def asked(log: Log, latents: Latents, count: int) -> tuple[Asked, Asked]:
    """Contacts that are asked about, and as many others whose outcomes are told."""
    test = split_log(log).test
    test = test[np.linspace(0, len(test) - 1, min(len(test), 2 * count)).astype(np.int64)]
    place = {contact: i for i, contact in enumerate(latents.contact_id.tolist())}
    where = np.array([place[contact] for contact in log.contacts.ids.take(test).to_pylist()])
    able = served(log)[queues(log)[test]]
    order = [{csa: i for i, csa in enumerate(log.csas.ids.to_pylist())}[csa] for csa in latents.csa_id.tolist()]
    able = able[:, order] & (latents.fluency.T[latents.language[where]] > 0)
    return Asked(where[::2], able[::2]), Asked(where[1::2], able[1::2])


def served(log: Log) -> npt.NDArray[np.bool_]:
    """(queues, J) whether a CSA was ever eligible for a contact of a queue."""
    queue = queues(log)
    found = np.zeros((int(queue.max()) + 1, len(log.csas)), dtype=np.bool_)
    if log.contacts.eligible is not None:
        lists = log.contacts.eligible.take(np.arange(len(log.contacts)))
        found[queue[lists.rows], lists.values] = True
    return found


def queues(log: Log) -> Ints:
    """(N,) codes of the contacts' queues."""
    found: Ints = pc.dictionary_encode(log.contacts.queue).indices.to_numpy().astype(np.int64)
    return found


def logits(matcher: Matcher, log: Log, latents: Latents, some: Asked) -> Floats:
    """(n, J) joint logits of success, NaN for who could not take a contact or is not in the bundle."""
    place = {contact: i for i, contact in enumerate(log.contacts.ids.to_pylist())}
    rows = np.array([place[contact] for contact in latents.contact_id[some.contact].tolist()])
    columns = {name: values.take(rows) for name, values in log_columns(log).items()}
    encoded = matcher.encode(columns, [None] * len(rows), [None] * len(rows))
    codes = np.array([matcher.snapshot.codes.get(csa, -1) for csa in latents.csa_id.tolist()])
    out = np.full(some.able.shape, np.nan)
    for i in track(range(len(rows)), "scoring"):
        who = np.flatnonzero(some.able[i] & (codes >= 0))
        view = matcher.snapshot
        scored = matcher.bundle.join.score(
            "success", encoded.take(np.array([i])), view.memory, codes[who], view.vectors_of(codes[who])
        )
        out[i, who] = scored.score
    return out


def correlations(found: Floats, true: Floats, group: Ints) -> dict[str, float]:
    """Both correlations over the CSAs of a group."""
    found, true = found[:, group], true[:, group]
    rows = [(f[there], t[there]) for f, t in zip(found, true, strict=True) for there in [~np.isnan(f)]]
    columns = [(f[there], t[there]) for f, t in zip(found.T, true.T, strict=True) for there in [~np.isnan(f)]]
    return {
        "csas": float(np.mean([spearman(f, t) for f, t in rows if len(f) >= LEAST_CSAS])),
        "contacts": float(np.mean([spearman(f, t) for f, t in columns if len(f) >= LEAST_CONTACTS])),
    }


def spearman(a: Floats, b: Floats) -> float:
    """Spearman's rank correlation."""
    from scipy.stats import rankdata

    return float(np.corrcoef(rankdata(a), rankdata(b))[0, 1])


def groups_of(known: Ints, there: npt.NDArray[np.bool_]) -> dict[str, Ints]:
    """CSAs by outcomes known when training ended (J,), of those who had been hired by then (J,).

    An outcome or two of a group's contacts may still have been open.
    """
    found = {str(size): np.flatnonzero(there & (known <= size) & (known >= 0.9 * size)) for size in NEW}
    return {**found, f"{WARM} and more": np.flatnonzero(there & (known >= WARM))}


def tell(matcher: Matcher, log: Log, latents: Latents, who: Ints, others: Asked, count: int, seed: int) -> None:
    """Tell a matcher the outcomes of `count` contacts for each of some CSAs, drawn from the truth."""
    rng = np.random.default_rng([seed, count])
    place = {contact: i for i, contact in enumerate(log.contacts.ids.to_pylist())}
    columns, until = log_columns(log), int(matcher.bundle.manifest.window["until"])
    for csa in track(who.tolist(), f"telling {count} outcomes each"):
        rows = np.flatnonzero(others.able[:, csa])
        for n, row in enumerate(rng.choice(rows, min(count, len(rows)), replace=False).tolist()):
            contact = others.contact[row : row + 1]
            resolved = bool(rng.random() < latents.p_resolved(contact, np.array([csa]))[0])
            at = place[latents.contact_id[contact[0]]]
            fields = {name: plain(values[at]) for name, values in columns.items() if not name.startswith("customer")}
            fields |= {"arrived_at": until + 60 * n * SECOND}
            matcher.ended(fields, str(latents.csa_id[csa]), until + 60 * (n + 1) * SECOND, resolved=resolved)


def plain(value: Any) -> Any:
    """A value of an Arrow or numpy column as Python's own."""
    return value.as_py() if hasattr(value, "as_py") else value.item()


def measure(args: argparse.Namespace, seed: int, options: Sequence[str]) -> tuple[list[dict[str, Any]], str]:
    """One centre: a row per group and learner."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "centre"
        generate(Settings(args.contacts, args.csas, seed=seed, joiners=args.joiners, joiner_contacts=NEW), folder)
        log, latents = Log.load(folder), Latents.load(folder / "truth.npz")
        start = int(log.contacts.arrived_at[split_log(log).test[0]])
        trained_bundle(folder, start, Path(scratch), [f"--seed_everything={seed}", *options])
        evidence = read_evidence(folder, latents, start)
        known = np.bincount(evidence.csa, minlength=len(latents.csa_id))
        matcher = Matcher.load(Path(scratch) / "bundle")
        there = np.array([csa in matcher.snapshot.codes for csa in latents.csa_id.tolist()])
        groups, (some, others) = groups_of(known, there), asked(log, latents, args.asked)
        every = np.arange(len(latents.csa_id))
        pairs = np.repeat(some.contact, len(every)), np.tile(every, len(some.contact))
        true = latents.logit(*pairs).reshape(some.able.shape)
        optimum = latents.logit(*pairs, estimate(latents, evidence)).reshape(some.able.shape)
        found = logits(matcher, log, latents, some)
        rows = [row(seed, "model", name, who, correlations(found, true, who)) for name, who in groups.items()]
        optimum[np.isnan(found)] = np.nan
        rows += [row(seed, "ceiling", name, who, correlations(optimum, true, who)) for name, who in groups.items()]
        for count in LIVE:
            matcher = Matcher.load(Path(scratch) / "bundle")
            tell(matcher, log, latents, groups["0"], others, count, seed)
            told = correlations(logits(matcher, log, latents, some), true, groups["0"])
            rows.append(row(seed, "model, told live", str(count), groups["0"], told))
    return rows, as_table(rows)


def row(seed: int, learner: str, group: str, who: Ints, found: dict[str, float]) -> dict[str, Any]:
    """One row of the JSON."""
    return {"seed": seed, "learner": learner, "group": group, "size": len(who), **found}


def shares(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Means over seeds of each learner and group, and as shares of the learner's own warm CSAs."""
    out = []
    for learner, group in dict.fromkeys((one["learner"], one["group"]) for one in rows):
        mine = [one for one in rows if (one["learner"], one["group"]) == (learner, group)]
        warm = [one for one in rows if (one["learner"], one["group"]) == (learner.split(",")[0], f"{WARM} and more")]
        cells = {kind: (mean(mine, kind), mean(mine, kind) / mean(warm, kind)) for kind in KINDS}
        out.append({"learner": learner, "group": group, "size": mean(mine, "size"), **cells})
    return out


def mean(rows: Sequence[dict[str, Any]], field: str) -> float:
    """Mean of a field."""
    return float(np.mean([one[field] for one in rows]))


def as_table(rows: Sequence[dict[str, Any]]) -> str:
    """One line per learner and group."""
    lines = [["learner", "hand-overs", "CSAs", *(cell for name in KINDS.values() for cell in (name, "of warm"))]]
    for one in shares(rows):
        cells = [text for kind in KINDS for text in (f"{one[kind][0]:.3f}", f"{one[kind][1]:.0%}")]
        lines.append([one["learner"], one["group"], f"{one['size']:.0f}", *cells])
    return table(lines)


def main() -> None:
    """Parse options, measure each centre, print the means; exit status 1 where a centre failed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--contacts", type=int, default=60_000)
    parser.add_argument("--csas", type=int, default=240)
    parser.add_argument("--joiners", type=float, default=0.25, help="share of CSAs who are new (default 0.25)")
    parser.add_argument("--asked", type=int, default=1_000, help="test contacts asked about (default 1000)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="one centre each (default 0 1 2)")
    parser.add_argument("--output", type=Path, help="JSON file to write")
    args, options = parser.parse_known_args()
    settings = {name: getattr(args, name) for name in ("contacts", "csas", "joiners", "asked")}
    record = Record(args.output, {"centres": {**settings, "options": options}}, "rows", "seed")
    whole = measure_each(record, args.seeds, lambda seed: measure(args, seed, options))
    print(f"means over {len({one['seed'] for one in record.rows})} centres\n{as_table(record.rows)}")
    if not whole:
        sys.exit(1)


if __name__ == "__main__":
    main()
