"""What is masked, where, and for whom: one object, read from YAML or made in code.

Notable: every default is the safe one. An unknown kind, language, region or option is refused by name, because a
misspelt option that is silently ignored would let through what it was meant to mask.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import Any

from twotower.errors import ConfigError

KINDS = ("card", "iban", "email", "order", "secret", "address", "phone", "name")
"""What can be masked, each by the placeholder `[kind]`."""
WHOLE = "text"
"""The kind of a text that was masked as a whole because it could not be settled part by part."""
LANGUAGES = ("en", "es", "de", "fr")
"""Languages whose keywords are known."""
COLUMNS = {"contacts": ("intent_text", "transcript"), "csas": ("profile",)}
"""The free text of a data set, table by table."""
REGIONS = {
    "en": ("US", "GB", "CA", "AU", "IN"),
    "es": ("ES", "MX", "US"),
    "de": ("DE", "AT", "CH"),
    "fr": ("FR", "BE", "CH", "CA"),
}
"""Where the speakers of a language have their telephones (ISO 3166-1)."""


@dataclass(frozen=True)
class RedactionConfig:
    """Options of the redaction; every field can stand in the YAML file under its name."""

    enabled: bool = True
    """False: texts pass as they are."""
    kinds: tuple[str, ...] = KINDS
    """What is masked."""
    languages: tuple[str, ...] = LANGUAGES
    """Whose keywords are looked for, whatever the contact's language: people mix them."""
    regions: tuple[str, ...] = ("US", "GB", "ES", "DE", "FR")
    """Regions whose national telephone numbers are recognised where the contact's language is not known."""
    language_regions: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: dict(REGIONS))
    """The same where it is known; a region in the tag itself (`en-GB`) comes first."""
    keep: tuple[str, ...] = ()
    """Texts that are never masked, such as the centre's own hot line; case, blanks and punctuation do not count."""
    columns: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: dict(COLUMNS))
    """Columns that `twotower redact` redacts, table by table; may name columns of the user's own."""
    customer_names: tuple[str, ...] = ()
    """Columns of customers.parquet that hold the customer's name, looked for in the texts of that customer."""

    def __post_init__(self) -> None:
        _refuse_unknown("kinds", self.kinds, KINDS)
        _refuse_unknown("languages", self.languages, LANGUAGES)
        for where, regions in (("regions", self.regions), *self.language_regions.items()):
            _refuse_regions(where, regions)

    def regions_for(self, language: str | None) -> tuple[str, ...]:
        """Regions to try for a contact's language tag, likeliest first."""
        if not language:
            return self.regions
        first, *rest = language.replace("_", "-").split("-")
        of_language = self.language_regions.get(first.lower(), self.regions)
        named = [part.upper() for part in rest if len(part) == 2 and part.isalpha()][:1]
        return tuple(dict.fromkeys([*(r for r in named if r in _supported()), *of_language]))


def read_config(path: str | Path) -> RedactionConfig:
    """Reads a YAML file of options; an empty file means the defaults.

    Raises:
        ConfigError: the file cannot be read, or an option or value in it is not known; the line names it.
    """
    import yaml

    try:
        found = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from None
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: is no YAML file ({' '.join(str(error).split())})") from None
    try:
        return from_mapping({} if found is None else found)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def from_mapping(options: Any) -> RedactionConfig:
    """The configuration that a mapping of option names describes. Raises ConfigError as `read_config` does."""
    if not isinstance(options, dict):
        raise ConfigError("expected option: value, such as `regions: [US, GB]`")
    known = [one.name for one in fields(RedactionConfig)]
    _refuse_unknown("options", [str(name) for name in options], known)
    made: dict[str, Any] = {}
    for name, value in options.items():
        if name == "enabled":
            if not isinstance(value, bool):
                raise ConfigError(f"enabled: expected true or false, not {value!r}")
            made[name] = value
        elif name in ("columns", "language_regions"):
            if not isinstance(value, dict):
                raise ConfigError(f"{name}: expected names with lists under them")
            made[name] = {str(key): _texts(f"{name}.{key}", item) for key, item in value.items()}
        else:
            made[name] = _texts(name, value)
    return RedactionConfig(**made)


def _texts(name: str, value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        # YAML 1.1 reads a bare NO, the code of Norway, as false.
        raise ConfigError(f"{name}: expected a list of texts, such as [a, b]; quote what YAML takes for something else")
    return tuple(value)


def _refuse_unknown(what: str, given: Any, known: Any) -> None:
    strange = [item for item in given if item not in known]
    if strange:
        raise ConfigError(f"{what}: {strange[0]!r} is not known; there are {', '.join(known)}")


def _refuse_regions(where: str, regions: tuple[str, ...]) -> None:
    strange = [region for region in regions if region not in _supported()]
    if strange:
        raise ConfigError(f"{where}: {strange[0]!r} is no region with a telephone plan; expected codes like US or DE")


@cache
def _supported() -> frozenset[str]:
    from phonenumbers import SUPPORTED_REGIONS

    return frozenset(SUPPORTED_REGIONS)
