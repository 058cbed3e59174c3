"""Which families of features are behind the profile part of one pair.

Notable: the profile part is an inner product u · v, of which the families of the contact move u and those of the CSA
move v. A family that is left out stands at its neutral value: no word, an unknown label, the mean of training for the
contact's numbers; the mean of the roster for the CSA's features, a stranger for who they are. The families are added to
the neutral pair one after another in a stated order, and in the reverse of it; a family's share is the mean of what it
added in the two. So the shares sum to the part exactly whatever the towers do, take two runs of a tower a family, and
are Shapley values wherever no more than two families act together, as they do in u · v where each of the vectors is a
sum over families (docs/decisions/0035-shares-of-families.md).

Sources: Shapley, "A value for n-person games", 1953; orders together with their reverses: Mitchell et al., "Sampling
permutations for Shapley value estimation", 2022.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from twotower.bundle.sessions import ContactEncoder, ContactInputs, CsaEncoder
from twotower.features import contact, customer
from twotower.features.csa import CSA
from twotower.features.feature import Feature
from twotower.features.schema import FeatureSchema

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Columns = Mapping[str, tuple[list[int], list[float]]]
Vector = Callable[[frozenset[str]], Doubles]
# What moves the vectors beside the families of the registry.
TEXT, IDENTITY, LEARNED, WHOLE = "text", "identity", "learned", "csa"


@dataclass(frozen=True)
class Side:
    """One of the two vectors: `names` of what moves it, in order, and `vector` (P,) with only some of them."""

    names: tuple[str, ...]
    vector: Vector

    @cached_property
    def forward(self) -> list[Doubles]:
        """Vectors with the first 0, 1, … of the names."""
        return [self.vector(frozenset(self.names[:i])) for i in range(len(self.names) + 1)]

    @cached_property
    def backward(self) -> list[Doubles]:
        """Vectors with the last 0, 1, … of the names."""
        ends = [self.forward[0], self.forward[-1]]
        inner = [self.vector(frozenset(self.names[-i:])) for i in range(1, len(self.names))]
        return [ends[0], *inner, ends[1]] if self.names else ends[:1]


def shares(of_contact: Side, of_csa: Side) -> tuple[float, dict[str, float], dict[str, float]]:
    """The product of the neutral pair, and the shares of the contact's and the CSA's families in the rest of it; all
    of them sum to u · v."""
    return (
        float(of_contact.forward[0] @ of_csa.forward[0]),
        _added(of_contact, of_csa.forward[0], of_csa.forward[-1]),
        _added(of_csa, of_contact.forward[-1], of_contact.forward[0]),
    )


def _added(side: Side, other: Doubles, other_reversed: Doubles) -> dict[str, float]:
    """What each name adds, the mean of the two orders, beside the other side's vector in each of them."""
    forward = [float((b - a) @ other) for a, b in zip(side.forward, side.forward[1:], strict=False)]
    backward = [float((b - a) @ other_reversed) for a, b in zip(side.backward, side.backward[1:], strict=False)]
    pairs = zip(side.names, forward, reversed(backward), strict=True)
    return {name: (there + back) / 2 for name, there, back in pairs}


def contact_side(
    encoder: ContactEncoder, schema: FeatureSchema, read: ContactInputs, numbers: Floats | None = None
) -> Side:
    """A contact's profile vector by families, from what its tower read; numbers (1, F): neutral ones, by default the
    mean of training."""
    columns = contact_columns(schema)
    labels = ("labels",) if schema.has("labels") else ()
    silent, neutral = encoder.words(""), _neutral(encoder, read, columns) if numbers is None else numbers

    def vector(kept: frozenset[str]) -> Doubles:
        row = neutral.copy()
        for name, (places, _) in columns.items():
            if name in kept:
                row[:, places] = read.numbers[:, places]
        known = "labels" in kept or not labels
        categories = read.categories if known else np.zeros_like(read.categories)
        tokens = read.tokens if TEXT in kept else silent
        return encoder.profile(ContactInputs(tokens, categories, row)).astype(np.float64)

    return Side((TEXT, *labels, *columns), vector)


def _neutral(encoder: ContactEncoder, read: ContactInputs, columns: Columns) -> Floats:
    """Numbers (1, F) that say nothing: NaN, which towers read as the mean of training, but 0 for who met whom, which is
    not standardised; the declared defaults for a tower that makes nothing of NaN."""
    missing = np.full_like(read.numbers, np.nan)
    if "relationship" in columns:
        missing[:, columns["relationship"][0]] = 0
    told = encoder.profile(ContactInputs(read.tokens, read.categories, missing))
    return missing if np.isfinite(told).all() else declared_defaults(read, columns)


def declared_defaults(read: ContactInputs, columns: Columns) -> Floats:
    """Numbers (1, F) of a contact of which nothing is known."""
    found = np.zeros_like(read.numbers)
    for places, values in columns.values():
        found[:, places] = values
    return found


def contact_columns(schema: FeatureSchema) -> Columns:
    """Of the contact tower's numbers: by family, where its columns stand, and what they are by default."""
    declared: tuple[Feature[Any], ...] = (*contact.NUMBERS, *customer.NUMBERS, *customer.RELATIONSHIP)
    return _columns((one.family, len(one.names(schema)), one.default) for one in schema.chosen(declared))


def csa_columns(schema: FeatureSchema) -> Columns:
    """The same of the CSA tower's features."""
    return _columns((one.family, len(schema.columns_of(one)), one.default) for one in schema.chosen(CSA))


def _columns(features: Iterable[tuple[str, int, float]]) -> Columns:
    found: dict[str, tuple[list[int], list[float]]] = {}
    start = 0
    for family, count, default in features:
        places, defaults = found.setdefault(family, ([], []))
        places.extend(range(start, start + count))
        defaults.extend([default] * count)
        start += count
    return found


def csa_side(
    encoder: CsaEncoder, schema: FeatureSchema, features: Floats, identity: int, typical: Floats, present: Floats
) -> Side:
    """A CSA's vector by families.

    features (G,) and identity: what the tower reads of them; typical (G,): the roster's mean; present (P,): the vector
    that is served. What it differs in from the tower's is what outcomes have taught since.
    """
    columns = csa_columns(schema)

    def encoded(kept: frozenset[str]) -> Doubles:
        row = typical.copy()
        for name, (places, _) in columns.items():
            if name in kept:
                row[places] = features[places]
        code = np.array([identity if IDENTITY in kept else 0])
        vectors, _ = encoder.encode(row[None], code)
        found: Doubles = vectors[0].astype(np.float64)
        return found

    names = (*columns, IDENTITY)
    since = present.astype(np.float64) - encoded(frozenset(names))
    if not since.any():
        return Side(names, encoded)
    return Side((*names, LEARNED), lambda kept: encoded(kept) + (since if LEARNED in kept else 0.0))


def whole_side(typical: Floats, present: Floats) -> Side:
    """A CSA of whom only the vector (P,) is known, beside the roster's mean one (P,)."""
    ends = {True: present.astype(np.float64), False: typical.astype(np.float64)}
    return Side((WHOLE,), lambda kept: ends[WHOLE in kept])
