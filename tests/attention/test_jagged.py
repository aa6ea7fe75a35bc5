"""Attention as torch's kernels for sequences of any length compute it, against attention over rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from llm_esr.attention import choice
from llm_esr.attention import jagged as jagged_attention
from llm_esr.attention.multi_head import Attention
from llm_esr.attention.tokens import Tokens
from llm_esr.loading import build_sequences

LENGTHS = [7, 5, 1, 19, 2, 16]
CUDA = pytest.param(
    "cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device; torch finds none")
)


def tokens_of(lengths: list[int], device: str) -> Tokens:
    items = np.ones(sum(lengths), np.int32)
    return Tokens(build_sequences(items, np.concatenate([[0], np.cumsum(lengths)]), max_len=max(lengths)), device)


def results(attention: Attention, tokens: Tokens, inputs: list[torch.Tensor], **options: Any) -> list[torch.Tensor]:
    """Values and all gradients."""
    attention.zero_grad()
    inputs = [x.clone().requires_grad_() for x in inputs]
    out = attention(*inputs, tokens, **options)
    (out * torch.arange(out.numel(), device=out.device).view_as(out).cos()).sum().backward()
    gradients = [torch.zeros_like(x) if x.grad is None else x.grad for x in [*inputs, *attention.parameters()]]
    return [out.detach(), *gradients]


# On the CPU torch has no causal kernel for them.
@pytest.mark.parametrize(("device", "causal"), [("cpu", False), pytest.param(*CUDA.values, False, marks=CUDA.marks),
                                                pytest.param(*CUDA.values, True, marks=CUDA.marks)])  # fmt: skip
@pytest.mark.parametrize("last_only", [False, True])
@pytest.mark.parametrize(("heads", "views"), [(1, 2), (2, 1)])
def test_values_and_gradients_are_those_of_attention_over_rows(
    heads: int, views: int, last_only: bool, device: str, causal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    attention = Attention(16, heads).to(device)
    inputs = [torch.randn(views, sum(LENGTHS), 16, device=device) for _ in range(2)]
    found = []
    for backend in ("jagged", "rows"):
        monkeypatch.setattr(choice, "forced", backend)
        found.append(results(attention, tokens_of(LENGTHS, device), inputs, causal=causal, last_only=last_only))
    for ours, theirs in zip(*found, strict=True):
        assert torch.allclose(ours, theirs, atol=1e-4)


def test_what_the_kernels_do_not_know_goes_over_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "forced", "jagged")
    plain = tokens_of([3, 2], "cpu")
    assert choice.choose(plain, torch.float32, with_pseudo_key=False) == "jagged"
    assert choice.choose(plain, torch.float32, with_pseudo_key=True) == "by-length"
    assert choice.choose(tokens_of([3, 0, 2], "cpu"), torch.float32, with_pseudo_key=False) == "by-length"
    padded = build_sequences([1, 2], [0, 2], max_len=4, layout="padded", padding_tokens=True)
    assert choice.choose(Tokens(padded), torch.float32, with_pseudo_key=False) == "by-length"


def test_a_device_whose_kernels_fail_is_named_once_and_does_without(monkeypatch: pytest.MonkeyPatch) -> None:
    jagged_attention.works_on.cache_clear()
    cpu = torch.device("cpu")
    state = torch.get_rng_state()
    with pytest.warns(UserWarning, match=r"attention on cpu \(torch.float32\) goes over rows.*failed a trial"):
        assert not jagged_attention.works_on(cpu, torch.float32)  # its causal kernel is missing
    assert not jagged_attention.works_on(cpu, torch.float32)
    assert torch.equal(torch.get_rng_state(), state)
    jagged_attention.works_on.cache_clear()
    monkeypatch.setattr(jagged_attention, "attend", lambda parts, *others, **options: sum(parts))
    with pytest.warns(UserWarning, match="from the formula's"):
        assert not jagged_attention.works_on(cpu, torch.float32)
    jagged_attention.works_on.cache_clear()


def test_the_trial_accepts_the_formula(monkeypatch: pytest.MonkeyPatch) -> None:
    def formula(parts: Any, jagged: Any, *, causal: bool, **options: Any) -> torch.Tensor:
        return jagged_attention._by_the_formula(parts, jagged, causal)

    jagged_attention.works_on.cache_clear()
    monkeypatch.setattr(jagged_attention, "attend", formula)
    assert jagged_attention.works_on(torch.device("cpu"), torch.float32)
    jagged_attention.works_on.cache_clear()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device; torch finds none")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_kernels_of_a_gpu_pass_the_trial(dtype: torch.dtype) -> None:
    assert jagged_attention.works_on(torch.device("cuda"), dtype)
