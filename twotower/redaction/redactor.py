"""The redactor: text in, masked text out.

Notable: redacting twice is redacting once. Detectors run kind by kind on what is not masked yet, and the pass is
repeated until it finds nothing more; what is then in the text, seen again, is the same to them (`spans.View`), so they
find nothing again. A text that does not settle in `PASSES` is masked as a whole, which settles it. In practice the
second pass finds nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

from twotower.errors import ConfigError
from twotower.redaction.addresses import Addresses
from twotower.redaction.config import KINDS, WHOLE, RedactionConfig
from twotower.redaction.emails import Emails
from twotower.redaction.names import Names
from twotower.redaction.payments import Cards, Ibans
from twotower.redaction.phones import Phones
from twotower.redaction.references import References
from twotower.redaction.spans import BLANK, Redacted, Span, View, apart

PASSES = 8
_VISIBLE = re.compile(rf"[^{BLANK}]++")
_KIND = re.compile(r"[a-z][a-z_]{0,30}")


class Detector(Protocol):
    """What a user can add: anything that finds spans in a text, such as a model of names.

    It is asked after the built-in detectors, with what they found blanked by U+FFFC, character by character, so that
    positions are those of the text. What it raises is raised.
    """

    @property
    def kinds(self) -> Sequence[str]:
        """The kinds it finds: small letters, each masked as `[kind]`. They may be built-in ones."""

    def spans(self, text: str, language: str | None) -> Iterable[Span]:
        """Finds in the text; language is a BCP-47 tag, None where it is not known."""


class _BuiltIn(Protocol):
    @property
    def kinds(self) -> tuple[str, ...]: ...

    def find(self, view: View) -> Iterator[Span]: ...


class Redactor:
    """Masks what is personal in texts.

    Args:
        config: what is masked; None takes the defaults.
        detectors: further detectors, asked in this order after the built-in ones.

    Raises:
        ConfigError: a detector's kind is no word of small letters.
    """

    def __init__(self, config: RedactionConfig | None = None, detectors: Sequence[Detector] = ()) -> None:
        self.config = config if config is not None else RedactionConfig()
        self._detectors = tuple(detectors)
        added = [kind for detector in self._detectors for kind in detector.kinds]
        for kind in added:
            if not _KIND.fullmatch(kind):
                raise ConfigError(f"detector kind {kind!r}: expected small letters, such as `licence_plate`")
        self._wanted = {*self.config.kinds, *added}
        self._placeholder = re.compile(rf"\[(?:{'|'.join(sorted({*KINDS, WHOLE, *added}))})\]")
        self._keep = frozenset(_bare(text) for text in self.config.keep)
        self._built_in = [one for one in _built_in(self.config) if self._wanted & set(one.kinds)]

    def redact(self, text: str, language: str | None = None, names: Sequence[str] = ()) -> Redacted:
        """The text with everything found masked by `[kind]`.

        Args:
            text: any text at all; lone surrogates and NUL pass as they are.
            language: the contact's BCP-47 tag, which chooses the regions of telephone numbers.
            names: the customer's names as the record has them, such as ("Anna María López",).
        """
        if not self.config.enabled or not text:
            return Redacted(text, ())
        spans = self._spans(text, language, names)
        if not spans:
            return Redacted(text, ())
        pieces, at = [], 0
        for span in spans:
            pieces += [text[at : span.start], f"[{span.kind}]"]
            at = span.end
        return Redacted("".join([*pieces, text[at:]]), tuple(spans))

    def _spans(self, text: str, language: str | None, names: Sequence[str]) -> list[Span]:
        masked = (Span(m.start(), m.end(), WHOLE) for m in self._placeholder.finditer(text))
        view = View(text, language, names).without(masked)
        settled: list[Span] = []
        for _ in range(PASSES):
            fresh, view = self._pass(view)
            settled += fresh
            if not fresh:
                return sorted(settled)
        return [Span(0, len(text), WHOLE)]

    def _pass(self, view: View) -> tuple[list[Span], View]:
        """Every detector once, each on what those before it left."""
        fresh: list[Span] = []
        for built_in in self._built_in:
            found = [span for span in built_in.find(view) if span.kind in self._wanted]
            view = self._mask(view, found, fresh)
        for detector in self._detectors:
            found = [part for span in detector.spans(view.text, view.language) for part in _visible(view.text, span)]
            view = self._mask(view, found, fresh)
        return fresh, view

    def _mask(self, view: View, found: list[Span], fresh: list[Span]) -> View:
        """Blanks what was found, kept texts too: nobody after this shall take a part of them."""
        spans = apart(found)
        if not spans:
            return view
        fresh += [span for span in spans if not self._kept(view.text[span.start : span.end])]
        return view.without(spans)

    def _kept(self, text: str) -> bool:
        return bool(self._keep) and _bare(text) in self._keep


def _built_in(config: RedactionConfig) -> list[_BuiltIn]:
    """The order decides between kinds: what proves itself first, then what its keyword tells, names last."""
    return [
        Emails(),
        Ibans(),
        Cards(),
        References(config.languages),
        Addresses(config.languages),
        Phones(config),
        Names(config.languages),
    ]


def _visible(text: str, span: Span) -> Iterator[Span]:
    """The parts of a further detector's span that lie in the text and are not masked already."""
    start, end = max(span.start, 0), min(span.end, len(text))
    for part in _VISIBLE.finditer(text[start:end]):
        if part[0].strip():
            yield Span(start + part.start(), start + part.end(), span.kind)


def _bare(text: str) -> str:
    """Letters and digits alone, small."""
    return "".join(c for c in text.casefold() if c.isalnum())
