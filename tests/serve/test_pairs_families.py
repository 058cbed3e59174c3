"""Shares of families: exact for every game, Shapley values wherever families act in pairs, none for whoever is idle."""

from __future__ import annotations

from collections.abc import Callable
from itertools import permutations

import numpy as np
import pytest

from serve.pairs_families import Doubles, Side, shares, whole_side

RNG = np.random.default_rng(5)


def additive(names: tuple[str, ...], width: int = 4) -> Side:
    """A vector that is a sum over its names."""
    parts = {name: RNG.standard_normal(width) for name in ("", *names)}
    return Side(names, lambda kept: parts[""] + sum((parts[name] for name in sorted(kept)), np.zeros(width)))


def tangled(names: tuple[str, ...], width: int = 4) -> Side:
    """A vector of which every set of names has one of its own."""
    found: dict[frozenset[str], Doubles] = {}
    return Side(names, lambda kept: found.setdefault(kept, RNG.standard_normal(width)))


def shapley(one: Side, other: Side) -> dict[str, float]:
    """By the definition: the mean over all orders of what each adds."""
    everyone = [("one", name) for name in one.names] + [("other", name) for name in other.names]
    total = dict.fromkeys(everyone, 0.0)
    orders = list(permutations(everyone))
    for order in orders:
        kept: dict[str, frozenset[str]] = {"one": frozenset(), "other": frozenset()}
        before = float(one.vector(kept["one"]) @ other.vector(kept["other"]))
        for side, name in order:
            kept[side] |= {name}
            now = float(one.vector(kept["one"]) @ other.vector(kept["other"]))
            total[side, name] += (now - before) / len(orders)
            before = now
    return {f"{side} {name}": value for (side, name), value in total.items()}


@pytest.mark.parametrize(("mine", "theirs"), [(("a", "b", "c"), ("a", "x")), (("a",), ("x", "y", "z")), ((), ("x",))])
def test_sums_over_families_have_shapley_values(mine: tuple[str, ...], theirs: tuple[str, ...]) -> None:
    one, other = additive(mine), additive(theirs)
    _, of_one, of_other = shares(one, other)
    found = {f"one {name}": share for name, share in of_one.items()}
    found |= {f"other {name}": share for name, share in of_other.items()}
    assert found == pytest.approx(shapley(one, other))


@pytest.mark.parametrize("make", [additive, tangled])
def test_shares_sum_to_the_product_whatever_the_towers_do(make: Callable[[tuple[str, ...]], Side]) -> None:
    one, other = make(("a", "b", "c", "d")), make(("x", "y", "z"))
    neutral, of_one, of_other = shares(one, other)
    whole = one.vector(frozenset(one.names)) @ other.vector(frozenset(other.names))
    assert neutral + sum(of_one.values()) + sum(of_other.values()) == pytest.approx(float(whole))


def test_who_does_nothing_has_no_share() -> None:
    base = additive(("a", "b"))
    idle = Side(("a", "idle", "b"), lambda kept: base.vector(kept - {"idle"}))
    _, found, _ = shares(idle, additive(("x", "y")))
    assert found["idle"] == 0
    assert found["a"] != 0


def test_a_tower_runs_twice_a_family() -> None:
    asked: list[frozenset[str]] = []
    base = additive(("a", "b", "c", "d"))

    def vector(kept: frozenset[str]) -> Doubles:
        asked.append(kept)
        return base.vector(kept)

    shares(Side(base.names, vector), additive(("x",)))
    assert len(asked) == 2 * len(base.names)
    assert len(set(asked)) == len(asked)


def test_a_csa_of_whom_only_the_vector_is_known_is_one_family() -> None:
    typical, present = (RNG.standard_normal(4).astype(np.float32) for _ in range(2))
    contact = additive(("a", "b"))
    neutral, _, of_csa = shares(contact, whole_side(typical, present))
    ends = contact.vector(frozenset()), contact.vector(frozenset(contact.names))
    assert neutral == pytest.approx(float(ends[0] @ typical))
    assert of_csa == pytest.approx({"csa": float((ends[0] + ends[1]) / 2 @ (present - typical).astype(np.float64))})
