"""Dropout: which entries fall, what the rest becomes, and that the gradient agrees."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from dropout_oracle import kept

from llm_esr.attention.dropout import Dropout, dropout

RATES = [0.5, 0.25, 0.1, 0.9, 1e-6]


def levels(rate: float) -> float:
    """The rate as it is rounded."""
    return round(rate * 65536) / 65536


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("shape", [(1,), (15,), (3, 21), (64,), (70_001,)])
def test_entries_fall_as_the_seed_says_and_the_rest_is_scaled(shape: tuple[int, ...], rate: float) -> None:
    torch.manual_seed(3)
    seed = int(torch.empty((), dtype=torch.int64).random_())
    x = torch.randn(shape)
    torch.manual_seed(3)
    left = dropout(x, rate)
    mask = kept(seed, 0, 0, 0, x.numel(), rate).reshape(shape)
    expected = torch.where(torch.from_numpy(mask), x / (1 - levels(rate)), 0.0)
    assert torch.allclose(left, expected, atol=1e-6)


@pytest.mark.parametrize("rate", RATES)
def test_so_many_fall_as_the_rate_says(rate: float) -> None:
    n = 400_000
    torch.manual_seed(0)
    fallen = int((dropout(torch.ones(n), rate) == 0).sum())
    assert abs(fallen - levels(rate) * n) <= 5 * np.sqrt(levels(rate) * n)


def test_neighbours_fall_independently() -> None:
    torch.manual_seed(0)
    left = (dropout(torch.ones(2**19), 0.3) > 0).double()
    for distance in (1, 16, 64, 4096):
        correlation = torch.corrcoef(torch.stack([left[:-distance], left[distance:]]))[0, 1]
        assert abs(float(correlation)) < 5 / 2**9.5, distance


def test_the_gradient_falls_where_the_entry_fell() -> None:
    torch.manual_seed(0)
    x = torch.randn(1000, requires_grad=True)
    left = dropout(x, 0.4)
    left.backward(torch.full_like(left, 3.0))
    assert x.grad is not None
    assert torch.allclose(x.grad, torch.where(left == 0, 0.0, 3.0 / (1 - levels(0.4))))


def test_each_call_drops_anew_and_the_same_generator_the_same_on_any_number_of_threads() -> None:
    x, before, found = torch.randn(200_000), torch.get_num_threads(), []
    for threads in (1, 2, 4):
        torch.set_num_threads(threads)
        torch.manual_seed(5)
        found.append((dropout(x, 0.2), dropout(x, 0.2)))
    torch.set_num_threads(before)
    assert not torch.equal(*found[0])
    assert all(torch.equal(one, other) for pair in found[1:] for one, other in zip(found[0], pair, strict=True))


def test_views_that_do_not_lie_together_are_no_trouble() -> None:
    x = torch.randn(20, 30)
    torch.manual_seed(1)
    expected = dropout(x.T.contiguous(), 0.5)
    torch.manual_seed(1)
    assert torch.equal(dropout(x.T, 0.5), expected)


def test_it_is_off_in_evaluation_and_at_rate_zero() -> None:
    x = torch.randn(50)
    assert Dropout(0.5).eval()(x) is x
    assert Dropout(0.0).train()(x) is x


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_precisions_take_torchs(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    left = dropout(torch.ones(1000, dtype=dtype), 0.5)
    assert left.dtype == dtype
    assert set(left.tolist()) == {0.0, 2.0}
