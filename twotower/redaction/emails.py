"""E-mail addresses, as written and as spoken ("anna dot smith at example dot com").

Notable: a written address is searched from its at sign outwards, at most 254 characters to either side, the longest
that an address may be (RFC 5321, 4.5.3.1), so a text without an at sign costs one scan. Letters of all scripts count
(RFC 6531). A spoken address counts where it ends in a common top-level domain that is no word ("at this point in" is no
address).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from twotower.redaction.spans import Span, View

LONGEST = 254
# Read from the at sign to the left. RFC 5322 allows more signs; what people use as brackets or separators ends it here.
_LOCAL_REVERSED = re.compile(r"[\w!#$%&'*+?^~-](?:\.?[\w!#$%&'*+?^~-]){0,252}(?<=\w)")
_DOMAIN = re.compile(r"(?:[^\W_](?:[\w-]{0,62}[^\W_])?\.){1,8}[^\W\d_]{2,24}(?![\w-])")
_SPOKEN = re.compile(
    r"(?<!\w)[a-z0-9]{1,40}(?:(?: (?:dot|punto|punkt|point|underscore|dash|guion|bajo) |[._-])[a-z0-9]{1,40}){0,5}"
    r" (?:at|arroba|arobase|@) "
    r"(?:[a-z0-9-]{1,40} (?:dot|punto|punkt|point) ){1,3}(?:com|net|org|info|co|edu|gov|eu|uk|ca|au|es|mx|de|ch|fr)"
    r"(?: (?:dot|punto|punkt|point) (?:uk|au|mx|in))?(?!\w)"
)
_SPOKEN_AT = re.compile(r" (?:at|arroba|arobase|@) [a-z0-9-]{1,40} (?:dot|punto|punkt|point) ")


class Emails:
    """Detector of the kind `email`."""

    kinds = ("email",)

    def find(self, view: View) -> Iterator[Span]:
        """Every address, in order; no two overlap unless one is written and one is spoken."""
        text = view.text
        at = text.find("@")
        while at >= 0:
            yield from self._around(text, at)
            at = text.find("@", at + 1)
        flat = view.flat
        for spoken in _SPOKEN_AT.finditer(flat):
            # Each word before "at" may begin the address: the earliest that leads there does.
            begin = max(spoken.start() - LONGEST, 0)
            whole = max((m for m in _SPOKEN.finditer(flat, begin, spoken.end() + LONGEST)), key=_length, default=None)
            if whole is not None:
                yield Span(whole.start(), whole.end(), "email")

    def _around(self, text: str, at: int) -> Iterator[Span]:
        domain = _DOMAIN.match(text, at + 1, at + 1 + LONGEST)
        if domain is None:
            return
        local = _LOCAL_REVERSED.match(text[max(at - LONGEST, 0) : at][::-1])
        if local is not None:
            yield Span(at - local.end(), domain.end(), "email")


def _length(match: re.Match[str]) -> int:
    return match.end() - match.start()
