"""Which backend computes attention."""

from __future__ import annotations

import numpy as np
import torch

from llm_esr.attention import Tokens, choice, use_backend
from llm_esr.loading import build_sequences


def tokens() -> Tokens:
    return Tokens(build_sequences(np.arange(1, 6), [0, 2, 5], max_len=4))


def test_the_cpu_takes_the_kernel_in_float32_and_rows_else() -> None:
    assert choice.choose(tokens(), torch.float32, with_pseudo_key=False) == "flat"
    assert choice.choose(tokens(), torch.float64, with_pseudo_key=False) == "by-length"
    padded = Tokens(build_sequences([1, 2], [0, 2], max_len=4, layout="padded", padding_tokens=True))
    assert choice.choose(padded, torch.float32, with_pseudo_key=False) == "by-length"


def test_a_backend_is_forced_within_a_block_alone() -> None:
    with use_backend("rows"):
        assert choice.choose(tokens(), torch.float32, with_pseudo_key=True) == "rows"
    assert choice.choose(tokens(), torch.float32, with_pseudo_key=True) == "flat"


def test_what_a_backend_derives_is_made_once_a_batch() -> None:
    batch = tokens()
    backend = choice.BACKENDS["by-length"]
    assert backend.rows_of(batch) is backend.rows_of(batch)  # type: ignore[attr-defined]
    assert backend.rows_of(tokens()) is not backend.rows_of(batch)  # type: ignore[attr-defined]
