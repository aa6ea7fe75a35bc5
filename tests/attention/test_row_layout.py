"""Rows of tokens: laying out and taking back are inverse to each other, values and gradients."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
import torch

from llm_esr.attention import Tokens
from llm_esr.attention.row_layout import Rows
from llm_esr.attention.rows import RowsBackend
from llm_esr.loading import build_sequences


def tokens_of(lengths: list[int]) -> Tokens:
    items = np.arange(1, sum(lengths) + 1)
    return Tokens(build_sequences(items, np.concatenate([[0], np.cumsum(lengths)]), max_len=9))


@pytest.mark.parametrize("attention", ["by-length", "rows"])
def test_spread_and_collect_are_inverse_and_their_gradients_too(
    attention: Literal["by-length", "rows"],
) -> None:
    tokens = tokens_of([2, 7, 4, 1])
    rows = RowsBackend(by_length=attention == "by-length").rows_of(tokens)
    x = torch.randn(2, len(tokens), 4, dtype=torch.float64, requires_grad=True)
    assert torch.equal(rows.collect(rows.spread(x), 2), x)
    assert torch.autograd.gradcheck(lambda x: tuple(_filled(rows, len(tokens), rows.spread(x))), (x,))
    groups = [torch.randn(2 * r, w, 4, dtype=torch.float64, requires_grad=True) for r, w in rows.shapes]
    assert torch.autograd.gradcheck(lambda *groups: rows.collect(list(groups), 2), tuple(groups))


def _filled(rows: Rows, n_tokens: int, groups: list[torch.Tensor]) -> list[torch.Tensor]:
    """With the empty slots at zero: what stands there means nothing, and nothing may come back from it."""
    filled = rows.of_slots(torch.ones(n_tokens, dtype=torch.float64))
    return [x * there.repeat(2, 1)[:, :, None] for x, there in zip(groups, filled, strict=True)]
