"""A mapping file, drafted from a look at a source: what is sure enough as a line, with how sure and why beside it, the
rest as TODO.

Notable: a draft is meant to be read. What must be decided by a person (days or months first, the zone of times that
name none, which words mean resolved) is written where it belongs and repeated at the end; an import refuses a file that
still says TODO in a column that is needed.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from twotower.imports.guess import SURE, Guess, match
from twotower.imports.look import Look
from twotower.imports.mapping import FREE_COLUMNS, VERSION
from twotower.imports.sample import Group, Sample, sample_of
from twotower.imports.values import NO, YES
from twotower.tables.schema import CONTACTS, INTERACTIONS

TARGETS = {
    "contacts": ("contact_id", "customer_id", "arrived_at", "channel", "queue", "language", "intent", "intent_text",
                 "transcript", "priority", "abandoned_at"),
    "interactions": ("csa_id", "assigned_at", "ended_at", "resolved", "csat", "quality_score", "handle_time_s",
                     "transferred"),
    "csas": ("csa_id", "hired_at", "left_at", "team", "site", "languages", "skills", "profile", "capacity", "cost"),
    "customers": ("customer_id", "language", "since"),
    "shifts": ("csa_id", "starts_at", "ends_at"),
}  # fmt: skip
NEEDED = {"contacts": ("contact_id", "arrived_at"), "interactions": ("contact_id", "csa_id", "assigned_at"),
          "csas": ("csa_id",), "customers": ("customer_id",), "shifts": ("csa_id", "starts_at", "ends_at")}  # fmt: skip
ADVICE = {
    "contact_id": "what names a contact", "arrived_at": "when the contact began to wait", "csa_id": "who took it",
    "assigned_at": "when they took it", "resolved": "without it a model learns who takes work, not who resolves it",
    "intent_text": "the stated need, short; without it contacts have no words", "customer_id": "who asked",
    "channel": "chat, call, e-mail",
}  # fmt: skip


@dataclass
class Draft:
    """The file, and what it says."""

    source: str
    lines: list[str]
    guesses: list[tuple[str, Guess]] = field(default_factory=list)
    """(table.column, guess)."""
    open: dict[str, None] = field(default_factory=dict)
    """What a person has to decide, in order, each once."""
    unused: list[str] = field(default_factory=list)

    @property
    def todo(self) -> list[str]:
        """What a person has to decide."""
        return list(self.open)

    def ask(self, what: str) -> None:
        """One more thing to decide."""
        self.open[what] = None

    @property
    def text(self) -> str:
        """The YAML file."""
        tail = []
        if self.todo:
            tail += ["", "# TODO", *(f"# - {one}" for one in self.todo)]
        if self.unused:
            tail += ["", "# Columns that are not used: " + ", ".join(self.unused)]
        return "\n".join([*self.lines, *tail]) + "\n"

    def summary(self) -> str:
        """For people."""
        guessed = [
            f"  {name:<28} {guess.look.name:<24} {guess.confidence:.2f}  {guess.why}" for name, guess in self.guesses
        ]
        return "\n".join([f"{self.source}: guessed", *guessed, "to do:", *(f"  {one}" for one in self.todo)])

    def data(self) -> dict[str, Any]:
        """For machines."""
        guesses = [
            {"column": name, "from": guess.look.name, "confidence": round(guess.confidence, 3), "why": guess.why}
            for name, guess in self.guesses
        ]
        return {"source": self.source, "guessed": guesses, "todo": self.todo, "unused": self.unused}


def draft(source: Path, rows: int) -> Draft:
    """Looks at a source and drafts its map. Raises DataError where there is nothing to look at."""
    sample = sample_of(source, rows)
    looked = sum(group.rows for group in sample.groups)
    made = Draft(
        sample.source,
        [
            f"# Drafted by `twotower import map` from {sample.files:,} files, {looked:,} rows looked at.",
            "# Behind each line: how sure the guess is, 0 to 1, and why. Read every one before you import.",
            f"version: {VERSION}",
            f"source: {sample.source}",
        ],
    )
    if sample.source == "csv":
        _rows(made, sample)
    else:
        _attributes(made, sample)
    return made


def _rows(made: Draft, sample: Sample) -> None:
    """Files of rows: which tables they fill, and with what."""
    tables: dict[str, tuple[Group, dict[str, Guess]]] = {}
    for group in sorted(sample.groups, key=lambda group: -group.rows):
        for table, guesses in _tables_of(group).items():
            if table in tables:
                made.ask(f"{', '.join(group.patterns)}: looks like {table} too, with other columns; not used")
            else:
                tables[table] = (group, guesses)
    if "contacts" not in tables:
        biggest = max(sample.groups, key=lambda group: group.rows)
        tables["contacts"] = (biggest, match(biggest.looks, TARGETS["contacts"]))
    if "interactions" not in tables:
        tables["interactions"] = (tables["contacts"][0], match(tables["contacts"][0].looks, TARGETS["interactions"]))
    _options(made, sample, tables)
    made.lines.append("tables:")
    used: set[str] = set()
    for table in [name for name in TARGETS if name in tables]:
        group, guesses = tables[table]
        if table == "interactions":
            named = _contact_id(tables, group)
            guesses = {"contact_id": named, **guesses} if named is not None else guesses
        _table(made, table, group, guesses, tables["contacts"][1])
        used |= {guess.look.name for guess in guesses.values() if guess.confidence >= SURE}
    every = [look.name for group in sample.groups for look in group.looks]
    made.unused = [name for name in dict.fromkeys(every) if name not in used]


def _tables_of(group: Group) -> dict[str, dict[str, Guess]]:
    """The tables that a group of files fills, with the guesses of each."""
    both = match(group.looks, (*TARGETS["contacts"], *TARGETS["interactions"], "wait_s"))
    sure = {name for name, guess in both.items() if guess.confidence >= SURE}
    found: dict[str, dict[str, Guess]] = {}
    if {"contact_id", "arrived_at"} <= sure or ({"arrived_at", "csa_id"} <= sure and len(sure) > 3):
        found["contacts"] = {name: both[name] for name in (*TARGETS["contacts"], "wait_s") if name in both}
    if "csa_id" in sure and (sure & {"contact_id", "assigned_at"}):
        found["interactions"] = {name: both[name] for name in (*TARGETS["interactions"], "wait_s") if name in both}
    if found and ("contact_id" in sure or "contacts" in found):
        return found
    for table in ("shifts", "csas", "customers"):
        guesses = match(group.looks, TARGETS[table])
        needed = all(name in guesses and guesses[name].confidence >= SURE for name in NEEDED[table])
        if needed and len(guesses) > 1:
            return {table: guesses}
    return found


def _contact_id(tables: dict[str, tuple[Group, dict[str, Guess]]], group: Group) -> Guess | None:
    same = tables["contacts"][0] is group
    guesses = tables["contacts"][1] if same else match(group.looks, ("contact_id",))
    return guesses.get("contact_id")


def _options(made: Draft, sample: Sample, tables: dict[str, tuple[Group, dict[str, Guess]]]) -> None:
    times = [guess.look for _, guesses in tables.values() for guess in guesses.values() if guess.look.formats
             or guess.look.day_formats]  # fmt: skip
    if any(not look.zoned for look in times):
        made.lines.append("zone: UTC  # TODO: these times name no zone; write the one that they were written in")
        made.ask("zone: times name no zone, UTC is assumed; an hour's error lets a model see the future")
    used = [guess.look for _, guesses in tables.values() for guess in guesses.values() if guess.confidence >= SURE]
    decimal = any(look.decimal_comma for look in used)
    if sample.encoding != "utf-8" or decimal:
        made.lines.append("csv:")
        made.lines += (
            [f"  encoding: {sample.encoding}  # 0.80 some bytes are no UTF-8"] if sample.encoding != "utf-8" else []
        )
        made.lines += ['  decimal: ","  # 0.90 numbers have a comma before their decimals'] if decimal else []


def _table(made: Draft, table: str, group: Group, guesses: dict[str, Guess], contacts: dict[str, Guess]) -> None:
    made.lines += [f"  {table}:", f"    files: [{', '.join(map(quoted, group.patterns))}]", "    columns:"]
    for name in dict.fromkeys([*NEEDED[table], *TARGETS[table]]):
        guess = guesses.get(name)
        if guess is not None and guess.confidence >= SURE:
            made.lines.append(f"      {name}: {_value(made, table, name, guess, group)}")
            made.guesses.append((f"{table}.{name}", guess))
            continue
        made_of = _made_of(made, name, guesses, contacts, group) if table == "interactions" else None
        if made_of is not None:
            made.lines.append(f"      {name}: {made_of}")
        elif name == "contact_id" and _same_files(group, contacts):
            made.lines.append(f"      {name}: {{row: true}}  # 0.30 no column names a contact; its file and row do")
            made.ask(f"{table}.contact_id: no column names a contact; its file and row do, so it has one hand-over")
        elif name == "channel":
            made.lines.append("      channel: {value: call}  # 0.30 no column tells it")
            made.ask("contacts.channel: no column tells it; call is assumed for all")
        else:
            _missing(made, table, name, guess, name in NEEDED[table])


def _same_files(group: Group, contacts: dict[str, Guess]) -> bool:
    """Whether contacts are rows of these files."""
    found = contacts.get("arrived_at")
    return found is not None and found.look in group.looks


def _missing(made: Draft, table: str, name: str, guess: Guess | None, needed: bool) -> None:
    maybe = f"; perhaps {guess.look.name!r} ({guess.confidence:.2f}: {guess.why})" if guess else ""
    advice = f": {ADVICE[name]}" if name in ADVICE else ""
    if needed:
        made.lines.append(f"      {name}: TODO  # needed{advice}{maybe}")
    if needed or name in ADVICE or guess:
        made.ask(f"{table}.{name}{advice}{maybe}" + (" (needed)" if needed else ""))


def _made_of(made: Draft, name: str, guesses: dict[str, Guess], contacts: dict[str, Guess], group: Group) -> str | None:
    """`assigned_at` by arrival and wait, `ended_at` by that and the handling time."""
    arrived, wait, handle = contacts.get("arrived_at"), guesses.get("wait_s"), guesses.get("handle_time_s")
    if arrived is None or arrived.confidence < SURE or name not in ("assigned_at", "ended_at"):
        return None
    plus = [one for one in ((wait, handle) if name == "ended_at" else (wait,)) if one is not None]
    if wait is None or (name == "ended_at" and handle is None):
        if name == "assigned_at" and wait is None and "csa_id" in guesses:
            made.ask("interactions.assigned_at: no time and no wait is told; the arrival is assumed (needed)")
            return f"{_time_value(made, arrived, group)}  # 0.30 no time and no wait is told; the arrival"
        return None
    inner = ", ".join(f"{{from: {quoted(one.look.name)}, unit: s}}" for one in plus)
    base = _time_value(made, arrived, group)
    base = base if base.startswith("{") else f"{{from: {base}}}"
    why = " and ".join(quoted(one.look.name) for one in plus)
    made.ask(f"interactions.{name}: made of the arrival and {why}; seconds are assumed")
    return f"{base[:-1]}, plus: [{inner}]}}  # 0.60 the arrival and {why}; check that they are seconds"


def _value(made: Draft, table: str, name: str, guess: Guess, group: Group) -> str:
    """The field as YAML, with its comment."""
    look = guess.look
    comment = f"  # {guess.confidence:.2f} {guess.why}"
    if look.formats or look.day_formats:
        return _time_value(made, guess, group) + comment
    if name == "resolved" and look.share("flag") < 1:
        return _outcome_value(made, look) + comment
    if name in ("csat", "quality_score"):
        return _scaled(made, table, name, look) + comment
    return quoted(look.name) + comment


def _time_value(made: Draft, guess: Guess, group: Group) -> str:
    look = guess.look
    if "" in look.formats:
        return quoted(look.name)
    formats, name = look.formats, quoted(look.name)
    if not formats and look.day_formats:
        clock = next((one for one in group.looks if one.name != look.name and _tells_clock(one)), None)
        if clock is not None:
            seconds = all(text.count(":") == 2 for text in clock.examples)
            formats = [f"{day} {'%H:%M:%S' if seconds else '%H:%M'}" for day in look.day_formats]
            name = f"[{quoted(look.name)}, {quoted(clock.name)}]"
        else:
            formats = look.day_formats
            made.ask(f"{guess.target}: {look.name!r} holds dates without a time of day")
    if len(formats) > 1:
        made.ask(f"{guess.target}: {look.name!r} can be read as {' or as '.join(formats)}; the first is assumed")
    return f"{{from: {name}, format: {quoted(formats[0])}}}"


def _tells_clock(look: Look) -> bool:
    """Whether a column holds the time of a day: like a duration, but called a time."""
    name = look.name.lower()
    return look.share("clock") >= 0.9 and any(word in name for word in ("time", "hora", "zeit", "heure", "ora", "tijd"))


def _outcome_value(made: Draft, look: Look) -> str:
    yes = [text for text in look.common if text.casefold() in YES]
    no = [text for text in look.common if text.casefold() in NO]
    rest = [text for text in look.common if text not in yes and text not in no]
    made.ask(f"interactions.resolved: which of {', '.join(rest)} means resolved? unknown ones count as nothing")
    return (
        f"{{from: {quoted(look.name)}, true: [{', '.join(map(quoted, yes or ['?']))}], "
        f"false: [{', '.join(map(quoted, no or ['?']))}]}}"
    )


def _scaled(made: Draft, table: str, name: str, look: Look) -> str:
    low, high = look.low or 0.0, look.high or 0.0
    column = INTERACTIONS.column(name)
    if column.low is not None and column.high is not None and column.low <= low and high <= column.high:
        return quoted(look.name)
    tops = [5, 10, 100]
    top = next((one for one in tops if high <= one), 100)
    made.ask(f"{table}.{name}: ratings of {low:g} to {high:g} are read as 0 to {top}")
    return f"{{from: {quoted(look.name)}, scale: [0, {top}]}}"


def _attributes(made: Draft, sample: Sample) -> None:
    """Attributes of contact records, or custom fields of tickets."""
    group = sample.groups[0]
    looks = [replace(look, name=sample.titles.get(look.name, look.name)) for look in group.looks]
    ids = {sample.titles.get(look.name, look.name): look.name for look in group.looks}
    targets = [name for name in FREE_COLUMNS if name not in ("policy", "propensity")]
    if sample.source == "zendesk":
        targets = [name for name in targets if name not in ("customer_id", "intent_text", "resolved", "csat")]
    guesses = match(looks, targets)
    inner = "attributes" if sample.source == "connect" else "fields"
    body, used = [], set()
    for name in targets:
        guess = guesses.get(name)
        table = "contacts" if name in {column.name for column in CONTACTS.columns} else "interactions"
        if guess is None or guess.confidence < SURE:
            _missing(made, table, name, guess, False)
            continue
        held = replace(guess, look=replace(guess.look, name=ids[guess.look.name]))
        body.append(f"    {name}: {_value(made, table, name, held, group)}")
        made.guesses.append((f"{table}.{name}", held))
        used.add(held.look.name)
    made.lines += [f"{sample.source}:", f"  {inner}:" if body else f"  {inner}: {{}}", *body]
    made.unused = [look.name for look in group.looks if look.name not in used]
    made.ask(f"{inner} may be set at any time: map those alone that are set before a CSA is chosen")


def quoted(text: str) -> str:
    """A text as YAML reads it back, in quotes where it needs them."""
    plain = text.replace("_", "").replace(" ", "")
    if plain.isalnum() and not plain.isdigit() and text.lower() not in _WORDS and text == text.strip():
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t") + '"'


_WORDS = frozenset(["yes", "no", "true", "false", "on", "off", "null", "none", "y", "n", "todo", "nan", "inf"])
