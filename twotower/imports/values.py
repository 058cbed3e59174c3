"""Values as exports write them, read as the tables hold them: text, numbers, flags, durations, languages, lists.

Notable: nothing is read by guessing at its type. A value that cannot be what its column holds raises `Unread` with a
reason that names no value, which the caller counts.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from datetime import timedelta
from decimal import Decimal
from typing import Any

from twotower.imports.times import Unread
from twotower.tables.schema import is_language_tag

_YES = (
    "1 true yes y t ok resolved solved closed done success successful completed good si sí resuelto resuelta cerrado "
    "solucionado ja gelöst erledigt abgeschlossen oui vrai résolu résolue clos fermé sim resolvido sì risolto chiuso "
    "opgelost"
)
_NO = (
    "0 false no n f unresolved open pending failed failure escalated bad abierto pendiente nein offen ungelöst "
    "gescheitert non faux ouvert échoué não nao aberto pendente aperto nee"
)
YES, NO = frozenset(_YES.split()), frozenset(_NO.split())
"""Words for yes and no, in small letters, where a mapping states none."""
UNITS = {"ms": 0.001, "s": 1.0, "min": 60.0, "h": 3600.0}
"""Seconds of one."""

LANGUAGES = {
    "ar": "arabic árabe arabisch arabe العربية",
    "cs": "czech checo tschechisch tchèque čeština",
    "da": "danish danés dänisch danois dansk",
    "de": "german alemán aleman deutsch allemand alemão tedesco duits",
    "el": "greek griego griechisch grec",
    "en": "english inglés ingles englisch anglais inglês inglese engels",
    "es": "spanish español espanol castellano spanisch espagnol espanhol spagnolo spaans",
    "fi": "finnish finés finnisch finnois suomi",
    "fr": "french francés frances französisch français francais francês francese frans",
    "he": "hebrew hebreo hebräisch hébreu",
    "hi": "hindi",
    "hu": "hungarian húngaro ungarisch hongrois",
    "it": "italian italiano italienisch italien",
    "ja": "japanese japonés japanisch japonais 日本語",
    "ko": "korean coreano koreanisch coréen 한국어",
    "nl": "dutch holandés neerlandés niederländisch néerlandais nederlands holandês olandese",
    "no": "norwegian noruego norwegisch norvégien norsk",
    "pl": "polish polaco polnisch polonais polski",
    "pt": "portuguese portugués portugues portugiesisch portugais português portoghese",
    "ro": "romanian rumano rumänisch roumain română",
    "ru": "russian ruso russisch russe русский",
    "sv": "swedish sueco schwedisch suédois svenska",
    "th": "thai",
    "tr": "turkish turco türkisch turc türkçe",
    "uk": "ukrainian ucraniano ukrainisch ukrainien українська",
    "vi": "vietnamese vietnamita vietnamesisch vietnamien",
    "zh": "chinese mandarin chino chinesisch chinois chinês cinese 中文",
}
"""What languages are called, by their tag."""
_NAMED = {name: tag for tag, names in LANGUAGES.items() for name in names.split()}
_CLOCK = re.compile(r"(-?)(?:(\d+):)?(\d{1,3}):(\d{2}(?:[.,]\d+)?)")
_GROUPED = re.compile(r"-?\d{1,3}(?:\.\d{3})+(?:,\d*)?")
_BROKEN = re.compile("[\0\ud800-\udfff]")
EMPTY = frozenset({"", "null", "none", "n/a", "na", "nan", "-", "(null)", "\\n"})
"""Texts, in small letters, that stand for no value in a table's cell."""


def clean(text: str) -> str:
    """The text without NUL, and with U+FFFD for halves of surrogate pairs, which no UTF-8 holds."""
    if text.isascii() and "\0" not in text:
        return text
    return _BROKEN.sub(lambda found: "" if found[0] == "\0" else "\ufffd", text)


def text_of(value: Any) -> str | None:
    """A text or a number as text, None for nothing and for blanks. Raises Unread for lists and objects."""
    if value is None:
        return None
    if isinstance(value, str):
        return clean(value).strip() or None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))  # ids that a spreadsheet made floats of
    if isinstance(value, int | float | Decimal):
        return str(value) if not isinstance(value, int) or abs(value) < 10**40 else None
    if isinstance(value, list | dict | bytes):
        raise Unread("is no text")
    return clean(str(value)).strip() or None


def number_of(value: Any, decimal: str = ".") -> float | None:
    """A finite number, None for nothing. Raises Unread."""
    if value is None or isinstance(value, bool):
        return None if value is None else float(value)
    if isinstance(value, str):
        text = value.strip().removesuffix("%").strip()
        if text.casefold() in EMPTY:
            return None
        if decimal == ",":
            if "." in text and not _GROUPED.fullmatch(text):
                raise Unread("is no number with a decimal comma")
            text = text.replace(".", "").replace(",", ".")
        value = text.replace("\u202f", "").replace("\u00a0", "").replace("'", "") if len(text) < 64 else "no number"
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        raise Unread("is no number") from None
    if not math.isfinite(number):
        raise Unread("is no finite number")
    return number


def seconds_of(value: Any, unit: str = "s", decimal: str = ".") -> float | None:
    """A duration in seconds: a number in that unit, `1:02:03`, `02:03` (minutes and seconds), or a `timedelta`.

    Raises Unread, for a negative one too."""
    if isinstance(value, timedelta):
        seconds: float | None = value.total_seconds()
    elif isinstance(value, str) and (clock := _CLOCK.fullmatch(value.strip())):
        sign, hours, minutes, rest = clock.groups()
        seconds = int(hours or 0) * 3600 + int(minutes) * 60 + float(rest.replace(",", "."))
        seconds = -seconds if sign else seconds
    else:
        number = number_of(value, decimal)
        seconds = None if number is None else number * UNITS[unit]
    if seconds is not None and seconds < 0:
        raise Unread("is a negative duration")
    return seconds


def flag_of(value: Any, yes: Iterable[str] | None = None, no: Iterable[str] | None = None) -> bool | None:
    """Yes or no, None for nothing. `yes` and `no`, in small letters, replace the words that are known; with one of them
    alone everything else is the other. Raises Unread."""
    if isinstance(value, bool) and yes is None and no is None:
        return value
    text = text_of(value)
    if text is None or text.casefold() in EMPTY:
        return None
    word = text.casefold()
    if yes is None and no is None:
        yes, no = YES, NO
    if yes is not None and word in yes:
        return True
    if no is not None and word in no:
        return False
    if yes is None or no is None:
        return yes is None
    raise Unread("is neither yes nor no")


def language_of(value: Any) -> str | None:
    """A BCP-47 tag: `en_us` becomes `en-US`, names of languages in some languages their tag; None for nothing.

    Raises Unread."""
    text = text_of(value)
    if text is None or text.casefold() in EMPTY:
        return None
    named = _NAMED.get(text.casefold())
    if named is not None:
        return named
    tag = text.replace("_", "-").partition(".")[0]
    if not is_language_tag(tag):
        raise Unread("is no language")
    first, *rest = tag.split("-")
    return "-".join([first.lower(), *(part.upper() if len(part) == 2 else part for part in rest)])


def list_of(value: Any, split: str) -> list[str] | None:
    """A list of texts, or one text cut at `split`; blanks are dropped. None for nothing."""
    if value is None:
        return None
    parts = value if isinstance(value, list) else (text_of(value) or "").split(split)
    return [text for part in parts if (text := text_of(part))]


def skills_of(value: Any, split: str) -> list[dict[str, Any]] | None:
    """Names with levels, `billing:0.8|cards`; without a level it is 1. Raises Unread for a level outside of 0..1."""
    if isinstance(value, list) and all(isinstance(one, dict) for one in value):
        found = [(text_of(one.get("name")), number_of(one.get("level", 1.0))) for one in value]
    else:
        parts = list_of(value, split)
        if parts is None:
            return None
        found = [_skill(part) for part in parts]
    if any(name is None or level is None or not 0 <= level <= 1 for name, level in found):
        raise Unread("is no list of skills with levels within 0..1")
    return [{"name": name, "level": level} for name, level in found]


def _skill(part: str) -> tuple[str | None, float | None]:
    name, colon, level = part.rpartition(":")
    try:
        return (name.strip() or None, number_of(level)) if colon else (part, 1.0)
    except Unread:
        return part, 1.0  # a colon of the name's own
