"""Retraining as named steps: ingest, check, drift, train, export, judge, value, waits, host, gate, register, promote.

Notable: what a step is given is hashed by content, champion's digest included, so a run that was stopped, or is simply
run again, does what is left and nothing else (`loop/steps.py`). The challenger sees nothing of the newest window, on
which both are judged, and what was judged is what is promoted. Registering twice is registering once, and a promotion
names whom it replaces; if that is another by then, nothing moves.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from loop.gate.rules import Check, decided
from loop.registry.registry import CHAMPION, Registry, Version
from loop.retrain.merge import feedback_tables, merge
from loop.retrain.runs import Kept, Origin, Runs, way_of
from loop.retrain.spec import RetrainSpec
from loop.steps import Done, Given, Step, digest_of
from twotower.bundle.bundle import Bundle
from twotower.cli import plain
from twotower.clock import DAY, format_time
from twotower.errors import ConfigError, DataError, TrainingError

Before = Mapping[str, Done]
RULES = {"judge": ("ranking", "outcomes", "calibration", "bands"), "value": ("value",), "waits": ("waits",),
         "host": ("size", "latency")}  # fmt: skip
FIGURES, DRIFT = "figures.json", "drift.json"
RUNS, TOKENS = "runs", "tokens"
"""In the work folder: runs of bundles that passed, and the tokens of the tables' texts."""
VERSION = version("twotower-matcher")


@dataclass(frozen=True)
class Sources:
    """Where everything comes from and goes to."""

    data: Path
    feedback: str | None
    """A store's URL, or the folder of an export; None: nothing beside `data`."""
    registry: Registry
    until: int
    """µs UTC: nothing that became known then or later."""


@dataclass(frozen=True)
class Champion:
    """Who is served now."""

    version: Version
    bundle: Bundle

    @property
    def folder(self) -> Path:
        """Of the bundle."""
        return self.bundle.path


@dataclass(frozen=True)
class Makers:
    """How a run and a bundle are made; tests put others in their place."""

    train: Callable[[Path, Path, str, RetrainSpec, Sequence[str]], Any]
    """Tables, output, until, spec, further options."""
    export: Callable[[Path, Path], Any]
    """Run, output."""


def trained(tables: Path, output: Path, until: str, spec: RetrainSpec, more: Sequence[str] = ()) -> None:
    """`twotower train`, which goes on where it was stopped."""
    from train.run import run_training

    configs = [Path(one) for one in spec.train.configs]
    options = [f"--seed_everything={spec.seed}", *spec.train.options, *more]
    run_training(tables, output, until, configs, options)


def exported(run: Path, output: Path) -> Any:
    """`twotower export`."""
    from export.bundle import export_bundle

    return export_bundle(run, output)


REAL = Makers(trained, exported)


def champion_of(registry: Registry, cache: Path | None = None) -> Champion | None:
    """Verified, on this machine; None: nobody is served. Raises BundleError, ConfigError."""
    version = registry.alias(CHAMPION)
    return None if version is None else Champion(version, registry.open(version.number, cache))


def steps_of(
    sources: Sources, spec: RetrainSpec, champion: Champion | None, work: Path, makers: Makers = REAL
) -> list[Step]:
    """All of them, in order; work: where runs and tokens are kept for later turns. Raises ConfigError for files that
    cannot be read."""
    start = sources.until - spec.window_days * DAY
    against = {"champion": None if champion is None else champion.version.digest}
    alone = (lambda _: "there is no champion to compare with") if champion is None else partial(_same, champion)
    judged = {"start": start, "gate": spec.gate.model_dump(mode="json"), "seed": spec.seed, **against}
    with_bundle = ("ingest", "export")
    way = how_trained(spec)
    runs = Runs(work / RUNS)
    origin = runs.origin(against["champion"], start, way_of(way), spec.in_a_row)

    def keep(run: Path, bundle: str) -> None:
        runs.keep(run, Kept(bundle, start, None if origin is None else origin.bundle, way_of(way)))

    find: dict[str, Callable[[Given], Iterable[Check]]] = {
        "judge": partial(_judge, champion, start, spec), "value": partial(_value, champion, start, spec),
        "waits": partial(_waits, champion, sources.until, spec), "host": partial(_host, champion, start, spec),
    }  # fmt: skip
    return [
        Step("ingest", partial(_ingest, sources), (), _read(sources)),
        Step("check", _check, ("ingest",)),
        Step(
            "drift", partial(_drift, champion, sources.until, spec), ("ingest", "check"),
            {"drift": spec.drift, "days": spec.window_days, **against},
        ),
        Step(
            "train", partial(_train, makers, start, spec, origin, work), ("ingest", "check"),
            {"start": start, "origin": None if origin is None else origin.bundle, **way},
        ),
        Step("export", partial(_export, makers), ("train",), {"version": VERSION}),
        *(Step(name, partial(_checked, of), with_bundle, judged, alone) for name, of in find.items()),
        Step("gate", partial(_gate, spec, champion), ("export", *find), {"first": spec.first, **against}, anyway=True),
        Step("register", partial(_register, sources, champion), ("export", "gate"), {"registry": _place(sources)}),
        Step(
            "promote", partial(_promote, sources, spec, champion, keep),
            ("train", "register", "gate"),
            {"alias": spec.alias, "registry": _place(sources), **against}, _kept_out,
        ),
    ]  # fmt: skip


def how_trained(spec: RetrainSpec) -> dict[str, Any]:
    """What a training depends on beside its tables. Raises ConfigError for a file that cannot be read."""
    return {
        "train": spec.train.model_dump(), "configs": _texts(spec.train.configs), "seed": spec.seed, "version": VERSION,
    }  # fmt: skip


def _same(champion: Champion, before: Before) -> str | None:
    same = before["export"].said["bundle"] == champion.version.digest
    return "the new bundle is the champion's, to the bit" if same else None


def _kept_out(before: Before) -> str | None:
    return None if before["gate"].said["passed"] else "the gate kept the challenger out"


def _place(sources: Sources) -> list[str]:
    return [sources.registry.place, sources.registry.store.root, sources.registry.model]


def _texts(files: Sequence[str]) -> list[str]:
    try:
        return [hashlib.sha256(Path(one).read_bytes()).hexdigest() for one in files]
    except OSError as error:
        raise ConfigError(f"train.configs: {error.filename}: {error.strerror}") from None


def _read(sources: Sources) -> dict[str, Any]:
    """What the tables are made from: folders by content; a store's rows until a moment are always the same."""
    if not sources.data.is_dir():
        raise ConfigError(f"--data {sources.data}: no such folder")
    feedback = sources.feedback
    if feedback is not None and "://" not in feedback:
        if not Path(feedback).is_dir():
            raise ConfigError(f"--feedback {feedback}: no such folder; name an export, or a store's URL")
        feedback = digest_of(Path(feedback))
    return {"data": digest_of(sources.data), "feedback": feedback, "until": sources.until}


def _ingest(sources: Sources, given: Given) -> dict[str, Any]:
    """Tables, feedback included, as they were known."""
    folders = [sources.data]
    if sources.feedback is not None:
        if "://" in sources.feedback:
            csas = sources.data / "csas.parquet"
            made = feedback_tables(sources.feedback, given.scratch / "feedback", sources.until, csas=csas)
            folders.append(made)
        else:
            folders.append(Path(sources.feedback))
    rows = merge(folders, given.folder, sources.until)
    return {"rows": rows, "until": format_time(sources.until)}


def _check(given: Given) -> dict[str, Any]:
    from twotower.tables.check import check

    findings, figures = check(given.before["ingest"].folder)
    if len(findings):
        lines = findings.text().splitlines()
        more = f" ({len(findings)} in all; `twotower check` names them)" if len(findings) > 1 else ""
        raise DataError(f"the tables break the contract: {lines[0]}{more}")
    (given.folder / FIGURES).write_text(json.dumps(figures, indent=1, default=str) + "\n", encoding="utf-8")
    return {"contacts": len_of(figures)}


def _drift(champion: Champion | None, until: int, spec: RetrainSpec, given: Given) -> dict[str, Any]:
    """What is not as in earlier windows. Too short a history is no error: nothing can be said then."""
    from loop.drift.run import drift

    bundle = None if champion is None else champion.folder
    try:
        found = drift(given.before["ingest"].folder, bundle, stop=until, days=spec.window_days, seed=spec.seed)
    except ConfigError as error:
        return {"alarms": [], "not_known": str(error)}
    (given.folder / DRIFT).write_text(json.dumps(plain(found.as_json()), indent=1) + "\n", encoding="utf-8")
    alarms = [one.name for one in found.alarms]
    if alarms and spec.drift == "stops":
        raise DataError(f"drift: {', '.join(alarms)}; `twotower drift` tells more; drift: told goes on all the same")
    return {"alarms": alarms}


def len_of(figures: Mapping[str, Mapping[str, Any]]) -> int:
    """Contacts that the check counted."""
    return int(figures.get("contacts", {}).get("rows", 0))


def _train(
    makers: Makers, start: int, spec: RetrainSpec, origin: Origin | None, work: Path, given: Given
) -> Mapping[str, Any]:
    """In the step's scratch, from whose checkpoints it goes on; a run that appeared there is whole."""
    run, tokens = given.scratch / "run", work / TOKENS
    options = [f"--data.tokens={tokens}", *([] if origin is None else [f"--data.start={origin.run}"])]
    why = None
    if not run.is_dir():
        tables, until = given.before["ingest"].folder, format_time(start)
        try:
            makers.train(tables, run, until, spec, options)
        except (ConfigError, TrainingError) as error:
            if origin is None:
                raise
            # What cannot be gone on from must not end the wheel; it is said, and this turn starts from nothing.
            why = str(error)
            shutil.rmtree(run.with_name(f".{run.name}.training"), ignore_errors=True)
            makers.train(tables, run, until, spec, options[:1])
    for old in sorted(tokens.glob("*"), key=lambda one: one.stat().st_mtime_ns)[:-1]:
        shutil.rmtree(old)  # the latest set has all of them
    shutil.copytree(run, given.folder / "run")
    facts = json.loads((run / "run.json").read_text(encoding="utf-8"))
    in_a_row = facts.get("in_a_row", 0)
    parent = origin.bundle if origin is not None and in_a_row else None
    told = {"objective": facts["objective"], "in_a_row": in_a_row, "from": parent}
    return told if why is None else {**told, "from_nothing": why}


def _export(makers: Makers, given: Given) -> dict[str, Any]:
    makers.export(given.before["train"].folder / "run", given.folder / "bundle")
    bundle = Bundle.open(given.folder / "bundle")
    return {"bundle": bundle.manifest.id}


def _checked(find: Callable[[Given], Iterable[Check]], given: Given) -> dict[str, Any]:
    """Rules that one way of comparing decides, as JSON."""
    found = [check.as_json() for check in find(given)]
    return {"checks": found}


def _both(champion: Champion | None, given: Given) -> tuple[Path, Path, Path]:
    assert champion is not None  # noqa: S101 — steps that compare are left out without one
    return champion.folder, given.before["export"].folder / "bundle", given.before["ingest"].folder


def _judge(champion: Champion | None, start: int, spec: RetrainSpec, given: Given) -> Iterable[Check]:
    from loop.gate.judged import checks, judged

    one, other, tables = _both(champion, given)
    return checks(judged(one, other, tables, start, spec.seed), spec.gate, spec.seed)


def _value(champion: Champion | None, start: int, spec: RetrainSpec, given: Given) -> Iterable[Check]:
    from loop.gate.valued import checks

    return checks(*_both(champion, given), start, spec.gate, spec.seed)


def _waits(champion: Champion | None, end: int, spec: RetrainSpec, given: Given) -> Iterable[Check]:
    from loop.gate.waited import checks

    return checks(*_both(champion, given), end, spec.gate, spec.seed)


def _host(champion: Champion | None, start: int, spec: RetrainSpec, given: Given) -> Iterable[Check]:
    from evaluation.simulate.replay_bundle import fields_of
    from evaluation.simulate.replay_window import window_of
    from loop.gate.served import CONTACTS, checks
    from twotower.tables.log import Log

    one, other, tables = _both(champion, given)
    log = Log.load(tables)
    last = int(log.contacts.arrived_at[-1]) + 1
    return checks(one, other, fields_of(window_of(log, start, last))[:CONTACTS], spec.gate)


def _gate(spec: RetrainSpec, champion: Champion | None, given: Given) -> dict[str, Any]:
    """All rules together; without a champion what the file says of a first bundle."""
    if champion is None:
        passes = spec.first == "promote"
        said = "there is no champion: the first bundle " + ("is promoted" if passes else "waits to be promoted by hand")
        return {"passed": passes, "lines": [said], "checks": []}
    if given.before["export"].said["bundle"] == champion.version.digest:
        said = "the new bundle is the champion's, to the bit: there is nothing to decide"
        return {"passed": False, "lines": [said], "checks": []}
    rows = [row for name in RULES for row in given.before[name].said["checks"]]
    decision = decided([Check(**row) for row in rows])
    return {"passed": decision.passed, "lines": decision.lines(), "checks": rows}


def _register(sources: Sources, champion: Champion | None, given: Given) -> dict[str, Any]:
    """A version of its own for who was kept out as well, with what the gate said."""
    passed = given.before["gate"].said["passed"]
    tags = {"twotower.gate": "passed" if passed else "kept out", "twotower.until": format_time(sources.until)}
    parent = None if champion is None else champion.version.number
    made = sources.registry.register(given.before["export"].folder / "bundle", tags, parent)
    return {"version": made.number, "bundle": made.digest}


def _promote(
    sources: Sources, spec: RetrainSpec, champion: Champion | None, keep: Callable[[Path, str], None], given: Given
) -> dict[str, Any]:
    """The run is kept first: who dies in between has one that nobody goes on from, and no champion without one."""
    number = int(given.before["register"].said["version"])
    served = sources.registry.alias(CHAMPION)
    if spec.alias != CHAMPION and champion is not None and (served is None or served.number != champion.version.number):
        raise ConfigError("the champion is another by now than was judged against; the next turn judges anew")
    keep(given.before["train"].folder / "run", str(given.before["register"].said["bundle"]))
    now = sources.registry.alias(spec.alias)
    if now is None or now.number != number:  # else it was cut off after it had happened
        if spec.alias == CHAMPION:
            sources.registry.promote(number, CHAMPION, None if champion is None else champion.version.number)
        elif now is not None:
            raise ConfigError(
                f"version {now.number} is the {spec.alias} of a rollout that is not over; version {number} passed the "
                "gate and waits: `twotower rollout status` tells more"
            )
        else:
            sources.registry.promote(number, spec.alias)
    return {"alias": spec.alias, "version": number}
