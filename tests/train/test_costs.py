"""Operations that are counted and bytes that are estimated, against formulas by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from train.costs import Counting

FLOAT = 4


def moved(counting: Counting, *operators: str) -> list[int]:
    """Bytes that these operators moved."""
    return [counting.costs.moved_by[name] for name in operators]


def test_products_of_a_known_model_are_counted_forward_and_backward():
    torch.manual_seed(0)
    batch, wide, hidden, out = 32, 24, 48, 8
    model = nn.Sequential(nn.Linear(wide, hidden), nn.ReLU(), nn.Linear(hidden, out))
    with Counting() as counting:
        model(torch.randn(batch, wide)).square().mean().backward()
    # Two operations a weight and example forward and for the gradient of the weights; the inputs of the first layer
    # have no gradient.
    assert counting.costs.flops == 2 * batch * (2 * wide * hidden + 3 * hidden * out)


def test_attention_is_counted_also_on_a_cpu():
    batch, heads, length, width = 2, 3, 10, 4
    query, key, value = (torch.randn(batch, heads, length, width, requires_grad=True) for _ in range(3))
    with Counting() as counting:
        functional.scaled_dot_product_attention(query, key, value).sum().backward()
    # Two products forward; backward five, one of which makes the scores again.
    assert counting.costs.flops == 7 * 2 * batch * heads * length * length * width


def test_an_operator_reads_its_inputs_and_writes_its_outputs_and_a_view_moves_nothing():
    left, right = torch.ones(100, 3), torch.ones(100, 3)
    with Counting() as counting:
        (left + right).view(300)[None].add_(1)
    assert counting.costs.flops == 0
    assert moved(counting, "add", "add_") == [3 * 300 * FLOAT, 2 * 300 * FLOAT]
    assert counting.costs.moved == 5 * 300 * FLOAT


def test_of_a_table_the_rows_that_are_taken_count():
    table = torch.randn(1000, 8)
    rows = torch.tensor([3, 5, 5, 7])
    with Counting() as counting:
        functional.embedding(rows, table)
        table[rows]
        functional.embedding_bag(rows, table, torch.tensor([0, 1]), mode="sum")
    taken, indices = 4 * 8 * FLOAT, 4 * 8
    assert moved(counting, "embedding", "index") == [2 * taken + indices, 2 * taken + indices]
    assert taken <= counting.costs.moved_by["_embedding_bag_forward_only"] < 1000 * 8 * FLOAT


def test_rows_that_are_added_into_a_table_are_read_there_and_written():
    table, rows, values = torch.zeros(1000, 8), torch.tensor([3, 5, 5, 7]), torch.ones(4, 8)
    with Counting() as counting:
        table.index_add_(0, rows, values)
        table.index_put_((rows,), values, accumulate=True)
    assert moved(counting, "index_add_", "index_put_") == [3 * values.nbytes + rows.nbytes] * 2


def test_the_optimiser_reads_four_and_writes_three_arrays():
    weights = nn.Parameter(torch.ones(500))
    weights.grad = torch.ones(500)
    optimiser = torch.optim.AdamW([weights], fused=True)
    optimiser.step()  # its state is made
    with Counting() as counting:
        optimiser.step()
    assert moved(counting, "_fused_adamw_") == [7 * 500 * FLOAT + FLOAT]  # and the number of the step


def test_what_is_overwritten_or_made_is_not_read():
    target = torch.ones(100)
    with Counting() as counting:
        target.zero_()
        target.copy_(torch.empty(100))
        torch.zeros_like(target)
    whole = 100 * FLOAT
    assert moved(counting, "zero_", "copy_", "zeros_like", "empty") == [whole, 2 * whole, whole, 0]


def gradients(counted: bool) -> list[Tensor]:
    """Gradients of a layer, an attention and a look-up."""
    torch.manual_seed(0)
    table, layer = nn.Embedding(50, 16), nn.TransformerEncoderLayer(16, 2, 32, dropout=0.1, batch_first=True)
    tokens = torch.randint(0, 50, (4, 7))
    if counted:
        with Counting():
            layer(table(tokens)).square().sum().backward()
    else:
        layer(table(tokens)).square().sum().backward()
    return [p.grad for p in (*table.parameters(), *layer.parameters()) if p.grad is not None]


def test_counting_changes_no_bit():
    plain, counted = gradients(False), gradients(True)
    assert len(plain) == len(counted) > 5
    assert all(torch.equal(one, other) for one, other in zip(plain, counted, strict=True))


def test_what_fails_while_it_is_counted_fails_as_ever_and_counting_ends():
    with pytest.raises(RuntimeError), Counting():
        torch.ones(2, 3) @ torch.ones(2, 3)
    with Counting() as counting:
        torch.ones(2, 3) @ torch.ones(3, 5)
    assert counting.costs.flops == 2 * 2 * 3 * 5
