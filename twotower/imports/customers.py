"""Customers under keyed hashes: telephone numbers and e-mail addresses of an export never reach the tables.

Notable: what is written in several ways is brought into one form first (`+34 600 11 22 33`, `0034600112233`), so that
one customer has one id in every export that was made with the same secret. BLAKE2b (RFC 7693) with a key: who knows all
telephone numbers, but not the secret, cannot look one up.
"""

from __future__ import annotations

import hashlib
import re
from functools import lru_cache

from twotower.errors import ConfigError

DIGEST = 16
KINDS = ("auto", "phone", "email", "id")
"""How the form is told: by its look, or as stated."""

_NOBODY = (
    "anonymous unknown restricted private unavailable withheld blocked hidden none null n/a sip:anonymous "
    "+266696687 266696687 anonym anonyme anonimo anónimo oculto desconocido"
)
NOBODY = frozenset(_NOBODY.split())
"""What stands in place of a caller who shows no number; 266696687 is ANONYMOUS on the keys of a telephone."""
_PHONE = re.compile(r"\+?[\d\s().\-/]{5,24}")


class CustomerKeys:
    """Turns what names a customer into an id that says nothing.

    Args:
        secret: 16 to 64 bytes; None: nobody is identified, every key is None.
        region: ISO 3166-1, of telephone numbers that are written without a country; None: they are kept as digits.
    """

    def __init__(self, secret: bytes | None, region: str | None = None) -> None:
        self._secret, self._region = secret, region
        self._cached = lru_cache(maxsize=1 << 16)(self._key)

    @property
    def identifies(self) -> bool:
        """Whether anybody is identified."""
        return self._secret is not None

    def key(self, value: str | None, kind: str = "auto") -> str | None:
        """32 hexadecimal digits; None for nobody."""
        if value is None or self._secret is None or value.casefold() in NOBODY:
            return None
        return self._cached(value, kind)

    def _key(self, value: str, kind: str) -> str:
        form = plain_form(value, kind, self._region)
        return hashlib.blake2b(
            form.encode("utf-8", "surrogatepass"), digest_size=DIGEST, key=self._secret or b""
        ).hexdigest()


def plain_form(value: str, kind: str = "auto", region: str | None = None) -> str:
    """The one form of what names a customer, after its kind: `phone:+34600112233`, `email:a@b.com`, `id:4711`."""
    text = value.strip().removeprefix("tel:").removeprefix("mailto:").removeprefix("sip:")
    if kind == "auto":
        kind = "email" if "@" in text else "phone" if text.startswith(("+", "00")) and _PHONE.fullmatch(text) else "id"
    if kind == "email":
        return f"email:{text.casefold()}"
    if kind == "phone":
        return f"phone:{_phone(text, region)}"
    return f"id:{text}"


def _phone(text: str, region: str | None) -> str:
    import phonenumbers

    written = "+" + text[2:] if text.startswith("00") else text
    try:
        if region is not None or written.startswith("+"):
            found = phonenumbers.parse(written, region)
            return str(phonenumbers.format_number(found, phonenumbers.PhoneNumberFormat.E164))
    except phonenumbers.NumberParseException:
        pass
    return "".join(char for char in written if char.isdigit() or char == "+")


def check_region(region: str, where: str) -> None:
    """Raises ConfigError, one line that names `where`, for a region without a telephone plan."""
    from phonenumbers import SUPPORTED_REGIONS

    if region not in SUPPORTED_REGIONS:
        raise ConfigError(f"{where}: {region!r} is no region with a telephone plan; write a code like ES or US")
