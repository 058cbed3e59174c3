"""What customers write: the stated need and the transcript, put together column by column.

Each part of a need has its sentence, worded in one of several ways and now and then left out; the stated need says
less than the transcript, which is up to twelve turns of one customer. Style comes with the customer: formal ones
greet and close, terse ones write small and leave things out, chatty ones stray. Nothing loops over contacts: a turn
is a `take` of sentences joined element by element, with nulls for what is not said.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from evaluation.generate import catalogue
from evaluation.generate.arrivals import Contacts
from evaluation.generate.lexicon import Lexicon

Flags = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]

TERSE, CHATTY = catalogue.STYLES.index("terse"), catalogue.STYLES.index("chatty")
PARTS = ("cause", "circumstance", "tried", "goal", "second", "product", "tone")
STATED = dict(zip(PARTS, (0.35, 0.20, 0.08, 0.20, 0.35, 0.60, 0.35), strict=True))
TOLD = dict(zip(PARTS, (0.93, 0.92, 0.88, 0.90, 0.97, 0.80, 0.90), strict=True))
"""Probability that a part of the need is said in the stated need, and in a transcript."""
ASIDE_STRIDE = 5
"""Steps through the asides; shares no factor with their number, so that a walk meets each before any twice."""
SILENT = np.array([0.02, 0.08, 0.02, 1.0])
"""Probability of an empty transcript by channel; a callback request has none."""


class Writer:
    """Texts of one block of contacts."""

    def __init__(self, lexicon: Lexicon, contacts: Contacts, rows: slice, random: np.random.Generator) -> None:
        self._lexicon, self._random = lexicon, random
        self._language = contacts.language[rows].astype(np.int64)
        self._style = contacts.style[rows]
        self._channel = contacts.channel[rows]
        self._intent = contacts.intent[rows].astype(np.int64)
        self._product = contacts.product[rows].astype(np.int64)
        self._second = contacts.second[rows].astype(np.int64)
        self._second_product = contacts.second_product[rows].astype(np.int64)
        self._slot = {name: values[rows].astype(np.int64) for name, values in contacts.slot.items()}
        self._slot["tone"] = contacts.tone[rows].astype(np.int64)
        self._urgency = contacts.urgency[rows].astype(np.int64)
        self._hardness = contacts.hardness[rows].astype(np.int64)
        self._aside = random.integers(0, catalogue.CHATTER, len(self._language))

    def __len__(self) -> int:
        return len(self._language)

    def stated_need(self) -> Any:
        """pa.StringArray: what the customer wants, in one to five sentences."""
        parts = [
            self._issue(self._intent, self._product, self._chance(STATED["product"])),
            *(self._slot_phrase(name, STATED[name]) for name in ("cause", "circumstance", "tried", "goal")),
            self._second_issue(STATED["second"]),
            self._upset(STATED["tone"]),
        ]
        return self._styled(_sentence(parts))

    def transcript(self) -> Any:
        """pa.StringArray: what was said before a CSA was chosen, a turn a line; empty for some."""
        chatty = np.where(self._style == CHATTY, 0.6, 0.12)
        polite = np.where(self._style == TERSE, 0.4, 0.9)
        opening = self._issue(self._intent, self._product, self._chance(0.3))
        what = _sentence([self._chatter(chatty), self._names_product(), self._slot_phrase("cause", TOLD["cause"])])
        who = _sentence(
            [
                self._slot_phrase("circumstance", TOLD["circumstance"]),
                self._chatter(chatty / 2),
                self._slot_phrase("tried", TOLD["tried"]),
            ]
        )
        swapped = pa.array(self._chance(0.3))
        turns = [
            _sentence([self._mannered("greeting", polite)]),
            opening,
            pc.if_else(swapped, who, what),
            pc.if_else(swapped, what, who),
            _sentence(
                [self._second_issue(TOLD["second"]), self._marked("hardness", self._hardness, 0.92), self._reference()]
            ),
            _sentence([self._chatter(chatty / 2), self._slot_phrase("goal", TOLD["goal"])]),
            _sentence([self._marked("urgency", self._urgency, 0.92), self._upset(TOLD["tone"])]),
            *self._ramble(),
            _sentence([self._chatter(chatty / 3), self._mannered("closing", polite * 0.6)]),
        ]
        silent = self._chance(SILENT[self._channel])
        spoken = [pc.if_else(pc.equal(turn, ""), pa.scalar(None, pa.string()), turn) for turn in turns]
        text = _joined(spoken, "\n")
        return self._styled(pc.if_else(pa.array(silent), pa.scalar("", pa.string()), text))

    def _ramble(self) -> list[Any]:
        """Turns that say the same again and stray: long for a few, nothing for most, the tail of the lengths."""
        lust = np.where(self._style == TERSE, 0.3, 1.0) * self._random.random(len(self)) ** 4
        issue = self._issue(self._intent, self._product, self._chance(0.5))
        again = pc.if_else(pa.array(self._chance(lust)), issue, pa.scalar(None, pa.string()))
        strays = [_sentence([self._chatter(lust), self._chatter(lust)]) for _ in range(3)]
        return [_sentence([again, self._chatter(lust)]), *strays]

    def _issue(self, intent: Ints, product: Ints, named: Flags) -> Any:
        """The issue in one sentence, about the product by its name or about "my account" and the like."""
        domain = np.array(catalogue.INTENT_DOMAIN)[intent]
        gap = pc.if_else(
            pa.array(named),
            self._phrase("product", catalogue.PER_INTENT * domain + product),
            self._phrase("unnamed", domain),
        )
        return self._lexicon.fill(self._pick("intent", intent), gap)

    def _second_issue(self, probability: float) -> Any:
        there = (self._second >= 0) & self._chance(probability)
        intent = np.maximum(self._second, 0)
        issue = self._issue(intent, self._second_product, self._chance(0.9))
        spoken = pc.binary_join_element_wise(self._phrase("second", 0), issue, " ")
        return pc.if_else(pa.array(there), spoken, pa.scalar(None, pa.string()))

    def _names_product(self) -> Any:
        domain = np.array(catalogue.INTENT_DOMAIN)[self._intent]
        gap = self._phrase("product", catalogue.PER_INTENT * domain + self._product)
        return self._lexicon.fill(self._pick("names_product", 0), gap, self._chance(TOLD["product"]))

    def _reference(self) -> Any:
        number = pc.cast(pa.array(self._random.integers(10_000_000, 99_999_999, len(self))), pa.string())
        return self._lexicon.fill(self._pick("reference", 0), number, self._chance(0.35))

    def _slot_phrase(self, name: str, probability: float) -> Any:
        return self._phrase(name, self._slot[name], self._chance(probability))

    def _upset(self, probability: float) -> Any:
        """Upset customers say so; calm ones are calm in words now and then."""
        tone = self._slot["tone"]
        return self._phrase("tone", tone, self._chance(np.where(tone > 0, probability, probability / 4)))

    def _marked(self, name: str, code: Ints, probability: float) -> Any:
        """A phrase for codes from 1; 0 means that there is nothing to say."""
        return self._phrase(name, np.maximum(code - 1, 0), (code > 0) & self._chance(probability))

    def _mannered(self, name: str, probability: npt.NDArray[np.float64]) -> Any:
        return self._phrase(name, self._style.astype(np.int64), self._chance(probability))

    def _chatter(self, probability: npt.NDArray[np.float64]) -> Any:
        """The next of this customer's asides: a walk through all of them, so that nobody says one twice."""
        self._aside = (self._aside + ASIDE_STRIDE) % catalogue.CHATTER
        uniform = ((self._aside + 0.5) / catalogue.CHATTER).astype(np.float32)
        positions = self._lexicon.pick("chatter", self._language, 0, uniform)
        return self._lexicon.say(positions, self._chance(probability))

    def _styled(self, text: Any) -> Any:
        return pc.if_else(pa.array(self._style == TERSE), pc.utf8_lower(text), text)

    def _phrase(self, section: str, value: Ints | int, said: Flags | None = None) -> Any:
        return self._lexicon.say(self._pick(section, value), said)

    def _pick(self, section: str, value: Ints | int) -> Ints:
        return self._lexicon.pick(section, self._language, value, self._random.random(len(self), np.float32))

    def _chance(self, probability: float | npt.NDArray[np.float64]) -> Flags:
        return np.asarray(self._random.random(len(self), np.float32) < probability)


def _sentence(parts: list[Any]) -> Any:
    """Sentences of one turn, those that are null left out."""
    return _joined(parts, " ")


def _joined(parts: list[Any], separator: str) -> Any:
    """Element-wise join that leaves out nulls; "" where all are null.

    Arrow (26) drops rows that are all null when it skips nulls, so an empty last part stands in every row.
    """
    joined = pc.binary_join_element_wise(*parts, pa.scalar(""), separator, null_handling="skip")
    return pc.ascii_rtrim_whitespace(joined)
