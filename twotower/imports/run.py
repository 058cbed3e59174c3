"""An import from its source to a data set: read, bring together, mask, write, check, give it its name.

Notable: each stage leaves in the spill what it has done, so a run that was stopped at any moment, by `kill -9` too,
goes on there and ends with the same bytes. The tables are written beside their name and checked by the program's own
checker before they get it. Nothing is written at all where more was damaged than is tolerated.
"""

from __future__ import annotations

import hashlib
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from twotower.errors import DataError
from twotower.files import atomic_write, publish, sha256_file
from twotower.imports.cases import Masking, resolved_without_contact, write_cases
from twotower.imports.connect import Connect
from twotower.imports.customers import CustomerKeys
from twotower.imports.formats import Format, Settings
from twotower.imports.mapping import ImportMap
from twotower.imports.notes import DAMAGED, Notes
from twotower.imports.records import LARGEST
from twotower.imports.report import Outcome
from twotower.imports.roster import make_roster, read_roster
from twotower.imports.sources import SourceFile, list_files
from twotower.imports.spill import Spill, opened, remove
from twotower.imports.tables import Rows
from twotower.imports.write import write_tables
from twotower.imports.zendesk import Zendesk
from twotower.progress import bar
from twotower.redaction.redactor import Redactor

FORMATS: dict[str, type[Format]] = {"connect": Connect, "zendesk": Zendesk, "csv": Rows}
CHUNK = 16 << 20
"""Bytes of a source between two commits."""
RECORDS = 20_000
"""Records between two commits."""
TOLERATED = 0.01
"""The share of records that may be damaged, unless somebody says otherwise."""
REPORT = "import.json"


@dataclass(frozen=True)
class Job:
    """One import."""

    source: Path
    output: Path
    mapping: ImportMap
    """Its `source` says which format it is."""
    secret: bytes | None = None
    """Of the customers' hashes; None: no customer is identified."""
    redactor: Redactor | None = None
    """Masks free text; None: it passes."""
    csas: Path | None = None
    """A file that replaces the CSAs of the source."""
    tolerate: float = TOLERATED
    largest: int = LARGEST
    restart: bool = False
    notes: Notes = field(default_factory=Notes)
    """What the listing of the source left out."""


def run_import(job: Job) -> Outcome:
    """Imports.

    Returns:
        What was read, mapped, left out, guessed and written.

    Raises:
        DataError: the source is not there, holds nothing usable, or more of it is damaged than is tolerated.
        ConfigError: an option contradicts the source.
        OutputError: the output exists or cannot be written.
    """
    begun = time.perf_counter()
    files = list_files(job.source, job.notes)
    if not files:
        raise DataError(f"{job.source}: holds no file with a byte in it; name what was exported")
    if job.csas is not None:
        read_roster(job.csas)  # a mistake in it is told before hours of reading
    settings = Settings(
        job.mapping, CustomerKeys(job.secret, job.mapping.region), job.largest, job.redactor is not None
    )
    format_of = FORMATS[job.mapping.source]
    with opened(job.output, format_of.tables, _fingerprint(job, files), job.restart) as spill:
        source = format_of(settings, spill)
        resumed = spill.meta("planned") is not None
        if not resumed:
            if isinstance(source, Rows):
                source.check_files(files)
            spill.notes.load(job.notes.rows())
            spill.plan(files)
        read = _read(source, spill, files)
        outcome = _finish(job, source, spill)
        outcome.resumed, outcome.bytes_read = resumed, read
        outcome.seconds = time.perf_counter() - begun
        return outcome


def _fingerprint(job: Job, files: list[SourceFile]) -> dict[str, Any]:
    """What the result depends on, by the words in which a difference is told."""
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file.name}\0{file.size}\0{file.mtime_ns}\0".encode("utf-8", "surrogateescape"))
    secret = None if job.secret is None else hashlib.blake2b(b"import", digest_size=8, key=job.secret).hexdigest()
    return {
        "state of the source": f"{len(files)} files {digest.hexdigest()[:16]}",
        "map": hashlib.sha256(repr(job.mapping).encode()).hexdigest()[:16],
        "secret": secret,
        "redaction": None if job.redactor is None else repr(job.redactor.config),
        "--csas": None if job.csas is None else sha256_file(job.csas)[:16],
        "--largest": job.largest,
    }


def _read(source: Format, spill: Spill, files: list[SourceFile]) -> int:
    """Reads what was not read yet; how many bytes of files that were."""
    done: list[int] = []
    total = since = records = 0
    with bar("reading", sum(file.size for file in files), "B") as advance:
        for n, cursor in spill.unfinished():
            last, unpacked = 0, 0 if cursor is None else cursor[0]
            for step in source.read(files[n], cursor):
                records, since = records + 1, since + step.unpacked - unpacked
                unpacked, passed = step.unpacked, step.consumed - last
                last = step.consumed
                advance(passed)
                total += passed
                if since >= CHUNK or records >= RECORDS:
                    spill.commit_part(n, step.cursor, done)
                    done, since, records = [], 0, 0
            rest = max(0, files[n].size - last)
            advance(rest)
            total, since = total + rest, since + rest
            done.append(n)
            if since >= CHUNK or records >= RECORDS or len(done) >= RECORDS:
                spill.commit_part(n, None, done)
                done, since, records = [], 0, 0
        if done:
            spill.commit_part(-1, None, done)
    return total


def _finish(job: Job, source: Format, spill: Spill) -> Outcome:
    """From what was read to the finished folder."""
    outcome = Outcome(job.mapping.source, str(job.source), str(job.output), source.mapped())
    with bar("bringing together") as advance:
        source.arrange()
        advance(1)
    with bar("making contacts", unit="contacts") as advance:
        write_cases(source, spill, Masking(job.redactor, spill), advance)
    hours = job.mapping.connect.resolved_without_contact_h
    if hours is not None:
        resolved_without_contact(spill, hours)
    make_roster(spill, job.csas)
    outcome.tell(spill)
    _refuse_damage(job, outcome)
    _refuse_nothing(job, outcome)
    folder = spill.folder / "tables"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    with bar("writing", spill.counts["contacts"] + spill.counts["handovers"], "rows") as advance:
        outcome.filled = write_tables(spill, folder, job.redactor, advance)
    outcome.checked = _checked(job, folder)
    atomic_write(folder / REPORT, outcome.as_json())
    publish(folder, job.output)
    remove(spill.folder)
    return outcome


def _refuse_damage(job: Job, outcome: Outcome) -> None:
    if outcome.damaged > job.tolerate * max(1, outcome.records):
        reason = max(outcome.notes[DAMAGED], key=lambda one: int(one["count"]))
        share = outcome.damaged / max(1, outcome.records)
        raise DataError(
            f"{job.source}: {outcome.damaged:,} of {outcome.records:,} records are damaged ({share:.2%}), more than "
            f"--tolerate {job.tolerate:g}; mostly {reason['reason']} ({reason['count']:,}, first at "
            f"{reason['example']}); nothing was written; run again with a larger --tolerate to go on without them"
        )


def _refuse_nothing(job: Job, outcome: Outcome) -> None:
    if outcome.contacts and outcome.handovers:
        return
    what = "no contact" if not outcome.contacts else "no hand-over to a CSA"
    reasons = sorted((one for kind in outcome.notes.values() for one in kind), key=lambda one: -int(one["count"]))
    why = f"; mostly {reasons[0]['reason']} (first at {reasons[0]['example']})" if reasons else ""
    raise DataError(
        f"{job.source}: {outcome.records:,} records were read as {job.mapping.source}, and {what} came of them{why}"
    )


def _checked(job: Job, folder: Path) -> dict[str, Any]:
    """The figures of the checker. Raises DataError with the first problem, where there is one."""
    from twotower.tables.check import check

    findings, figures = check(folder)
    if len(findings):
        first = findings.text().splitlines()[0]
        raise DataError(f"{job.source}: the tables would have {len(findings):,} problems and were not written: {first}")
    return figures
