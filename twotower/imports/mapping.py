"""The mapping file: which column, attribute or field of an export is what in the tables.

Notable: an unknown name is refused, wherever it stands, because a misspelt option that is silently ignored would leave
a column empty. `import map` drafts such a file; what it could not guess says TODO, and a file that still says so is
refused by the name of the column.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from twotower.errors import ConfigError, shown
from twotower.imports.customers import KINDS, check_region
from twotower.imports.times import zone_of
from twotower.imports.values import UNITS
from twotower.tables.schema import CONTACTS, CSAS, CUSTOMERS, INTERACTIONS, SHIFTS, Table

VERSION = 1
TODO = "TODO"
FORMATS = ("connect", "zendesk", "csv")
TABLES = {table.name: table for table in (CONTACTS, INTERACTIONS, CSAS, CUSTOMERS, SHIFTS)}
"""Tables that files of rows may fill."""
FREE_COLUMNS = (
    "customer_id", "language", "intent", "intent_text", "priority", "resolved", "csat", "quality_score",
    "handle_time_s", "policy", "propensity",
)  # fmt: skip
"""What an attribute of a contact record, or a field of a ticket, may be."""


@dataclass(frozen=True)
class Field:
    """Where one column comes from; every field but `source` is optional in the file."""

    source: tuple[str, ...] = ()
    """`from`: names of columns, attributes or fields; several are joined by a blank."""
    value: str | None = None
    """A constant, in place of `from`."""
    format: str | None = None
    """Of a time, as `strptime` takes it; without it ISO 8601 or a number since 1970."""
    zone: str | None = None
    """Of a time that names none, in place of the file's `zone`."""
    unit: str = "s"
    """Of a duration: ms, s, min or h."""
    plus: tuple[Field, ...] = ()
    """Durations to be added to a time."""
    scale: tuple[float, float] | None = None
    """A rating's lowest and highest value, which become those of the table."""
    yes: tuple[str, ...] | None = None
    """`true`: what stands for yes."""
    no: tuple[str, ...] | None = None
    """`false`: what stands for no."""
    values: Mapping[str, str] = field(default_factory=dict)
    """Values to replace, before anything else."""
    hash: str = "auto"
    """Of a customer: phone, email, id or auto; `no`: taken as it stands, a pseudonym already."""
    split: str = "|"
    """Between the entries of a list."""
    row: bool = False
    """An id out of the file's name and the row, where no column names a contact."""

    @property
    def names(self) -> tuple[str, ...]:
        """The columns that are read, those of `plus` included."""
        return (*self.source, *(name for one in self.plus for name in one.names))


@dataclass(frozen=True)
class TableMap:
    """One table's columns, and the files that fill it."""

    columns: Mapping[str, Field]
    files: tuple[str, ...] = ("*",)
    """Patterns of names inside the source."""


@dataclass(frozen=True)
class ConnectMap:
    """What of Amazon Connect is not told by the format."""

    csa_id: str = "arn"
    """arn: the last part of the agent's ARN; username."""
    turns: str = "everyone"
    """everyone, or customer alone: whose turns go into the transcript."""
    resolved_without_contact_h: float | None = None
    """Hours without another contact of the customer after which the last hand-over counts as resolved, else as not."""
    attributes: Mapping[str, Field] = field(default_factory=dict)
    """Columns from the contact's attributes."""


@dataclass(frozen=True)
class ZendeskMap:
    """What of Zendesk is not told by the format."""

    reopen_days: float = 4.0
    """Days after which a ticket that is solved, and not closed yet, counts as not re-opened."""
    turns: str = "everyone"
    """As with Connect."""
    fields: Mapping[str, Field] = field(default_factory=dict)
    """Columns from custom fields, by their id, or from fields of the ticket."""


@dataclass(frozen=True)
class ImportMap:
    """A mapping file; every part has a default but `tables` for files of rows."""

    source: str
    zone: str | None = None
    """Of times that name none: an IANA name."""
    region: str | None = None
    """Of telephone numbers that name no country: ISO 3166-1."""
    delimiter: str | None = None
    encoding: str = "utf-8"
    decimal: str = "."
    tables: Mapping[str, TableMap] = field(default_factory=dict)
    connect: ConnectMap = field(default_factory=ConnectMap)
    zendesk: ZendeskMap = field(default_factory=ZendeskMap)


def read_map(path: str | Path) -> ImportMap:
    """Reads a mapping file. Raises ConfigError, one line that names the file and the option."""
    import yaml

    try:
        found = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from None
    except (UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        raise ConfigError(f"{path}: is no YAML file ({' '.join(str(error).split())})") from None
    try:
        return map_of(found)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def map_of(found: Any) -> ImportMap:
    """The mapping that a parsed file describes. Raises ConfigError."""
    options = _known(found, "", ["version", "source", "zone", "region", "csv", "tables", "connect", "zendesk"])
    if options.get("version") != VERSION:
        raise ConfigError(f"version: {shown(options.get('version'))} is not known; this program reads {VERSION}")
    source = _one_of(options.get("source"), "source", FORMATS)
    zone, region = _text(options.get("zone"), "zone"), _text(options.get("region"), "region")
    if zone is not None:
        zone_of(zone, "zone")
    if region is not None:
        check_region(region, "region")
    csv = _known(options.get("csv") or {}, "csv", ["delimiter", "encoding", "decimal"])
    return ImportMap(
        source=source,
        zone=zone,
        region=region,
        delimiter=_text(csv.get("delimiter"), "csv.delimiter"),
        encoding=_encoding(_text(csv.get("encoding"), "csv.encoding") or "utf-8"),
        decimal=_one_of(csv.get("decimal", "."), "csv.decimal", (".", ",")),
        tables=_tables(options.get("tables"), source),
        connect=_connect(options.get("connect") or {}),
        zendesk=_zendesk(options.get("zendesk") or {}),
    )


def _tables(found: Any, source: str) -> dict[str, TableMap]:
    if source != "csv":
        if found is not None:
            raise ConfigError(f"tables: belongs to `source: csv`, not to {source}")
        return {}
    tables = _known(found, "tables", list(TABLES))
    made = {name: _table(name, one) for name, one in tables.items()}
    if CONTACTS.name not in made or INTERACTIONS.name not in made:
        raise ConfigError("tables: contacts and interactions are needed; both may come from the same file")
    return made


def _table(name: str, found: Any) -> TableMap:
    options = _known(found, f"tables.{name}", ["files", "columns"])
    table = TABLES[name]
    names = [column.name for column in table.columns]
    columns = _known(options.get("columns") or {}, f"tables.{name}.columns", names)
    made = {column: _field(one, f"tables.{name}.columns.{column}") for column, one in columns.items()}
    missing = [column for column in _needed(table) if column not in made]
    if missing:
        raise ConfigError(f"tables.{name}.columns: {missing[0]} is missing; say which column it is")
    files = options.get("files", ["*"])
    return TableMap(made, _texts(files, f"tables.{name}.files"))


def _needed(table: Table) -> list[str]:
    """Columns that a row cannot do without; what else must not be null has a stated stand-in."""
    return [column.name for column in table.columns if column.key] + {
        "contacts": ["arrived_at"],
        "interactions": ["assigned_at"],
        "shifts": ["starts_at", "ends_at"],
    }.get(table.name, [])


def _connect(found: Any) -> ConnectMap:
    options = _known(found, "connect", [one.name for one in fields(ConnectMap)])
    hours = _number(options.get("resolved_without_contact_h"), "connect.resolved_without_contact_h")
    return ConnectMap(
        csa_id=_one_of(options.get("csa_id", "arn"), "connect.csa_id", ("arn", "username")),
        turns=_one_of(options.get("turns", "everyone"), "connect.turns", ("everyone", "customer")),
        resolved_without_contact_h=hours,
        attributes=_free(options.get("attributes") or {}, "connect.attributes"),
    )


def _zendesk(found: Any) -> ZendeskMap:
    options = _known(found, "zendesk", [one.name for one in fields(ZendeskMap)])
    days = _number(options.get("reopen_days", 4.0), "zendesk.reopen_days")
    return ZendeskMap(
        reopen_days=4.0 if days is None else days,
        turns=_one_of(options.get("turns", "everyone"), "zendesk.turns", ("everyone", "customer")),
        fields=_free(options.get("fields") or {}, "zendesk.fields"),
    )


def _free(found: Any, where: str) -> dict[str, Field]:
    options = _known(found, where, FREE_COLUMNS)
    return {column: _field(one, f"{where}.{column}") for column, one in options.items()}


_BOOLEANS = {True: ("true", "yes", "on"), False: ("false", "no", "off")}
"""YAML 1.1 reads all of these unquoted words as one value."""
_NAMES = {"from": "source", "true": "yes", "false": "no"}


def _field(found: Any, where: str) -> Field:
    if isinstance(found, str | int) and not isinstance(found, bool):
        found = {"from": found}
    if isinstance(found, dict):
        found = {{True: "true", False: "false"}.get(name, name): one for name, one in found.items()}  # YAML's own words
    inverse = {name: key for key, name in _NAMES.items()}
    options = _known(found, where, [inverse.get(one.name, one.name) for one in fields(Field)])
    made = {_NAMES.get(name, name): _option(name, one, f"{where}.{name}") for name, one in options.items()}
    if bool(made.get("source")) + (made.get("value") is not None) + bool(made.get("row")) != 1:
        raise ConfigError(f"{where}: expected `from`, the name of a column, or `value`, a constant")
    return Field(**made)


def _option(name: str, value: Any, where: str) -> Any:
    if name == "from":
        return _texts(value if isinstance(value, list) else [value], where)
    if name in ("true", "false"):
        given = value if isinstance(value, list) else [value]
        words = [word for one in given for word in (_BOOLEANS[one] if isinstance(one, bool) else (one,))]
        return tuple(text.casefold() for text in _texts(words, where))
    if name == "plus":
        return tuple(_field(one, where) for one in (value if isinstance(value, list) else [value]))
    if name == "scale":
        ends = [_number(one, where) for one in value] if isinstance(value, list) else []
        if len(ends) != 2 or ends[0] is None or ends[1] is None or ends[0] >= ends[1]:
            raise ConfigError(f"{where}: expected the lowest and the highest rating, like [0, 10]")
        return (ends[0], ends[1])
    if name == "values":
        return {str(key): str(one) for key, one in _known(value, where, None).items()}
    if name == "unit":
        return _one_of(value, where, tuple(UNITS))
    if name == "hash":
        return _one_of({False: "no", True: "auto"}.get(value, value), where, (*KINDS, "no"))
    if name == "row":
        if value is not True or not where.endswith(".contact_id.row"):
            raise ConfigError(f"{where}: expected true, for a contact_id that no column names")
        return True
    text = _text(value, where)
    if name == "zone" and text is not None:
        zone_of(text, where)
    return text


def _known(found: Any, where: str, names: Iterable[str] | None) -> dict[Any, Any]:
    if not isinstance(found, dict):
        raise ConfigError(f"{where or 'the file'}: expected names with values, not {shown(found)}")
    allowed = None if names is None else list(names)
    for name in found:
        if allowed is not None and name not in allowed:
            at = f"{where}: " if where else ""
            raise ConfigError(f"{at}{shown(name)} is not known; there are {', '.join(allowed)}")
    return found


def _one_of(value: Any, where: str, allowed: tuple[str, ...]) -> str:
    if not isinstance(value, str) or value not in allowed:
        raise ConfigError(f"{where}: {shown(value)} is not known; there are {', '.join(allowed)}")
    return value


def _text(value: Any, where: str) -> str | None:
    if value is None or isinstance(value, str):
        if value == TODO:
            raise ConfigError(f"{where}: says {TODO}; fill it in, or take the line out")
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    raise ConfigError(f"{where}: expected a text, not {shown(value)}; quote what YAML takes for something else")


def _texts(value: Any, where: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not value:
        raise ConfigError(f"{where}: expected a list of texts, such as [a, b]")
    texts = [_text(one, where) for one in value]
    if any(text is None for text in texts):
        raise ConfigError(f"{where}: holds nothing where a name is expected")
    return tuple(text for text in texts if text is not None)


def _number(value: Any, where: str) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e9:
        raise ConfigError(f"{where}: expected a number of zero or more, not {shown(value)}")
    return float(value)


def _encoding(name: str) -> str:
    import codecs

    try:
        return codecs.lookup(name).name
    except LookupError:
        raise ConfigError(f"csv.encoding: {name!r} is not known; write utf-8, cp1252 or the like") from None
