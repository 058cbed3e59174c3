"""What a step asks of a device: floating-point operations, counted, and bytes moved, estimated.

Operations are counted by `torch.utils.flop_counter`: matrix products, convolutions and attention, forward and
backward, as often as they are executed. Not counted: everything element by element (activations, softmax, noise,
normalisation, AdamW), sums, look-ups (a static text is one) and factorisations.

Bytes are estimated operator by operator. Every operator reads its tensor arguments once and writes its results once,
as if no cache kept anything from one operator to the next:

    bytes = Σ over operators ( Σ inputs + Σ outputs ),

so parameters count where forward, backward and optimiser read and write them, activations where they are made and used.
A view moves nothing; of a table that is looked up the rows that are taken count, not the table; rows that are added
into a table count as read, read there and written there. Kernels that run through their data more than once move more,
fused ones and caches less: it is an estimate.

Notable: counting goes through Python at every operator, so a counted step is slow and is never timed; it computes the
same bits.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

ATTENTION = "_scaled_dot_product_flash_attention_for_cpu"
NOT_COUNTED = "element-wise operators, reductions, look-ups, factorisations, the optimiser"
LOOKED_UP = ("embedding", "index", "index_select", "gather", "take", "_embedding_bag", "_embedding_bag_forward_only")
"""Read as many rows of their first argument as they give."""
ADDED_INTO = {"index_put_": 2, "_index_put_impl_": 2, "index_add_": 3, "scatter_add_": 3, "scatter_": 3}
"""Change as many entries of their first argument as the one at this place brings."""
OVERWRITTEN = ("zero_", "fill_", "copy_", "normal_", "uniform_", "exponential_", "bernoulli_", "random_")
"""Write their first argument without reading it."""
NOTHING = ("empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "_unsafe_view", "lift_fresh")
"""Move nothing."""
MADE = ("zeros_like", "ones_like", "full_like", "rand_like", "randn_like", "new_zeros", "new_ones", "new_full")
"""Write their result; the tensor they are given tells its shape alone."""


@dataclass
class Costs:
    """`flops` executed and `moved` bytes of one step; `moved_by` operator."""

    flops: int = 0
    moved_by: Counter[str] = field(default_factory=Counter)

    @property
    def moved(self) -> int:
        """Bytes moved by all operators."""
        return sum(self.moved_by.values())


class Counting:
    """Counts what happens on every thread of the block; `costs` when it has ended."""

    def __init__(self) -> None:
        self.costs = Costs()
        self._flops = FlopCounterMode(display=False, custom_mapping=attention_on_cpu())
        self._bytes = _Bytes(self.costs.moved_by)

    def __enter__(self) -> Counting:
        self._flops.__enter__()  # type: ignore[no-untyped-call]
        self._bytes.__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bytes.__exit__(kind, error, trace)  # type: ignore[no-untyped-call]
        self._flops.__exit__(kind, error, trace)  # type: ignore[no-untyped-call]
        self.costs.flops = self._flops.get_total_flops()


class _Bytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up what every operator moves, and runs it."""

    def __init__(self, moved_by: Counter[str]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.moved_by = moved_by

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        moved = bytes_moved(func, args, kwargs, out)
        if moved:
            self.moved_by[func.overloadpacket.__name__] += moved
        return out


def bytes_moved(func: Any, args: Sequence[Any], kwargs: dict[str, Any], out: Any) -> int:
    """Bytes that one ATen operator reads and writes, by the rules above; 0 for what is none."""
    if getattr(func, "namespace", "") != "aten" or func.is_view:
        return 0
    name: str = func.overloadpacket.__name__
    if name in NOTHING:
        return 0
    results = size_of(out)
    if name in MADE:
        return results
    if name in LOOKED_UP:
        return rows_taken(name, args, results) + size_of((args[1:], kwargs)) + results
    if name in ADDED_INTO:
        return size_of((args[1:], kwargs)) + 2 * size_of(args[ADDED_INTO[name]])
    if name in OVERWRITTEN:
        return size_of((args[1:], kwargs)) + size_of(args[0])
    return size_of((args, kwargs)) + max(results, sum(map(size_of, written(func, args, kwargs))))


def rows_taken(name: str, args: Sequence[Any], results: int) -> int:
    """Bytes read of a table: of as many rows as are given, or summed into bags."""
    if not name.startswith("_embedding_bag"):
        return results
    table, indices = args[0], args[1]
    return int(indices.numel()) * int(table.shape[-1]) * int(table.element_size())


def written(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Iterator[Any]:
    """Arguments that an operator changes. A fused optimiser changes gradients only where it scales them back."""
    optimiser = func.overloadpacket.__name__.startswith("_fused_")
    for place, argument in enumerate(func._schema.arguments):
        if argument.alias_info is None or not argument.alias_info.is_write:
            continue
        if optimiser and argument.name == "grads" and kwargs.get("grad_scale") is None:
            continue
        yield args[place] if place < len(args) else kwargs.get(argument.name)


def size_of(values: Any) -> int:
    """Bytes of all tensors in a nest of values; of an expanded one as many as it has."""
    return sum(_size(leaf) for leaf in tree_leaves(values) if isinstance(leaf, Tensor))


def _size(tensor: Tensor) -> int:
    whole = tensor.numel() * tensor.element_size()
    return whole if tensor.is_contiguous() else min(whole, tensor.untyped_storage().nbytes())


def attention_on_cpu() -> dict[Any, Callable[..., int]]:
    """Formulas for the CPU's fused attention, which the counter does not know of itself."""
    formulas: tuple[tuple[str, Callable[..., int]], ...] = (("", _forward), ("_backward", _backward))
    packets = ((getattr(torch.ops.aten, f"{ATTENTION}{suffix}", None), formula) for suffix, formula in formulas)
    return {packet: formula for packet, formula in packets if packet is not None}


def _forward(query: Any, key: Any, value: Any, *rest: Any, **named: Any) -> int:
    return int(sdpa_flop_count(query, key, value))  # type: ignore[no-untyped-call]


def _backward(gradient: Any, query: Any, key: Any, value: Any, *rest: Any, **named: Any) -> int:
    return int(sdpa_backward_flop_count(gradient, query, key, value))  # type: ignore[no-untyped-call]
