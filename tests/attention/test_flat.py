"""The Rust kernel of attention against plain torch over rows: values, gradients, dropped entries, threads."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from dropout_oracle import kept
from torch import Tensor

from llm_esr.attention import choice
from llm_esr.attention.flat import Settings, attend
from llm_esr.attention.multi_head import Attention
from llm_esr.attention.tokens import Tokens
from llm_esr.loading import build_sequences

LENGTHS = [7, 5, 1, 0, 19, 2, 16, 33]
MAX_LEN = 33


def tokens_of(lengths: list[int], kind: str, monkeypatch: pytest.MonkeyPatch) -> Tokens:
    monkeypatch.setattr(choice, "forced", kind)
    items = np.ones(sum(lengths), np.int32)
    return Tokens(build_sequences(items, np.concatenate([[0], np.cumsum(lengths)]), max_len=max(lengths)))


def attention_of(width: int, heads: int, **options: Any) -> Attention:
    torch.manual_seed(1)
    attention = Attention(width, heads, **options)
    with torch.no_grad():
        for parameter in attention.parameters():
            parameter.normal_(std=width**-0.5)
    return attention


def results(
    attention: Attention, tokens: Tokens, inputs: list[Tensor], options: dict[str, Any]
) -> tuple[Tensor, list[Tensor]]:
    """What comes out, where it means something, and the gradients of everything that went in."""
    attention.zero_grad()
    inputs = [x.clone().requires_grad_() for x in inputs]
    queries, memory, *padding = inputs
    if padding:
        options = options | {"pseudo_key": (padding[0], MAX_LEN)}
    out = attention(queries, memory, tokens, **options)
    if options.get("last_only"):
        out = out[:, torch.from_numpy(tokens.lengths > 0)]
    (out * torch.arange(out.numel()).view_as(out).cos()).sum().backward()
    gradients = [*inputs, *attention.parameters()]
    return out.detach(), [torch.zeros_like(x) if x.grad is None else x.grad for x in gradients]


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("last_only", [False, True])
@pytest.mark.parametrize(("width", "heads", "views"), [(8, 2, 2), (64, 1, 2), (64, 2, 1), (60, 3, 2), (5, 1, 1)])
def test_values_and_gradients_are_those_of_attention_over_rows(
    width: int, heads: int, views: int, last_only: bool, causal: bool, padded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    attention = attention_of(width, heads, bias=not padded)
    inputs = [torch.randn(views, sum(LENGTHS), width) for _ in range(2)]
    if padded:
        inputs.append(torch.randn(width))
    options = {"causal": causal, "last_only": last_only}
    flat, flat_gradients = results(attention, tokens_of(LENGTHS, "flat", monkeypatch), inputs, options)
    attention.double()
    doubled = [x.double() for x in inputs]
    rows, rows_gradients = results(attention, tokens_of(LENGTHS, "rows", monkeypatch), doubled, options)
    assert torch.allclose(flat.double(), rows, atol=1e-5 * float(rows.abs().max()))
    # Some gradients, such as a key's bias without padding, are sums that come to nothing.
    largest = max(float(theirs.abs().max()) for theirs in rows_gradients)
    for ours, theirs in zip(flat_gradients, rows_gradients, strict=True):
        assert torch.allclose(ours.double(), theirs, atol=1e-6 * largest, rtol=1e-5)


def test_queries_keys_and_values_of_the_same_tokens_are_projected_together(monkeypatch: pytest.MonkeyPatch) -> None:
    attention = attention_of(16, 2)
    x = torch.randn(2, sum(LENGTHS), 16)
    tokens = tokens_of(LENGTHS, "flat", monkeypatch)
    together, apart = x.clone().requires_grad_(), x.clone().requires_grad_()
    outs = []
    for queries, memory in ((together, together), (apart, apart * 1)):
        out = attention(queries, memory, tokens, causal=True)
        out.cos().sum().backward()
        outs.append(out)
    assert torch.allclose(*outs, atol=1e-5)
    assert torch.allclose(together.grad, apart.grad, atol=1e-4)


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("rate", [0.5, 0.2])
def test_dropped_weights_are_the_ones_that_the_seed_names(rate: float, padded: bool) -> None:
    lengths, views, heads, width, seed = [5, 20, 1], 2, 2, 8, 2**63 - 5
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    torch.manual_seed(0)
    queries, memory, given = (torch.randn(views, offsets[-1], w) for w in (width, 2 * width, width))
    pseudo = [torch.randn(width), torch.randn(width)] if padded else []
    settings = Settings(offsets, views, heads, causal=True, newest_only=False, max_len=30, rate=rate, seed=seed)
    scale, depth = 65536 / (65536 - round(rate * 65536)), width // heads

    def oracle(queries: Tensor, memory: Tensor, *pseudo: Tensor) -> Tensor:
        out = []
        for v in range(views):
            for s, n in enumerate(lengths):
                rows = slice(offsets[s], offsets[s + 1])
                parts = []
                for h in range(heads):
                    c = slice(h * depth, (h + 1) * depth)
                    q, k, value = queries[v, rows, c], memory[v, rows, c], memory[v, rows, width:][:, c]
                    scores = (q @ k.T / math.sqrt(depth)).masked_fill(torch.ones(n, n).triu(1).bool(), -torch.inf)
                    owner, places = v * len(lengths) + s, [h << 32 | i for i in range(n)]
                    mask = torch.tensor(np.stack([kept(seed, 1, owner, place, n, rate) for place in places]))
                    share = torch.ones(n)
                    if pseudo:
                        raised = (q * pseudo[0][c]).sum(1) / math.sqrt(depth) + math.log(30 - n)
                        scores = torch.cat([scores, raised[:, None]], 1)
                        counts = [kept(seed, 2, owner, place, 30 - n, rate).sum() for place in places]
                        share = torch.tensor(np.array(counts)) * scale / (30 - n)
                    weights = scores.softmax(1)
                    mixed = (weights[:, :n] * mask * scale) @ value
                    parts.append(mixed + (weights[:, n] * share)[:, None] * pseudo[1][c] if pseudo else mixed)
                out.append(torch.cat(parts, 1))
        return torch.cat(out).view(views, -1, width)

    ours = [x.clone().requires_grad_() for x in (queries, memory, *pseudo)]
    theirs = [x.double().requires_grad_() for x in (queries, memory, *pseudo)]
    out = attend(ours[0], ours[1], (ours[2], ours[3]) if padded else None, settings)
    expected = oracle(*theirs)
    assert torch.allclose(out.double(), expected, atol=1e-5)
    (out * given).sum().backward()
    (expected * given).sum().backward()
    for one, other in zip(ours, theirs, strict=True):
        assert torch.allclose(one.grad.double(), other.grad, atol=2e-5)


def test_any_number_of_threads_gives_the_same_bits() -> None:
    rng = np.random.default_rng(0)
    offsets = np.concatenate([[0], rng.integers(0, 40, 300).cumsum()]).astype(np.int64)
    torch.manual_seed(0)
    memory, pseudo, given = torch.randn(2, offsets[-1], 48), torch.randn(2, 16), torch.randn(2, offsets[-1], 16)
    settings = Settings(offsets, 2, 2, causal=False, newest_only=False, max_len=50, rate=0.3, seed=7)
    found, before = [], torch.get_num_threads()
    for threads in (1, 2, 5):
        torch.set_num_threads(threads)
        inputs = [memory.clone().requires_grad_(), *(x.clone().requires_grad_() for x in pseudo)]
        out = attend(None, inputs[0], (inputs[1], inputs[2]), settings)
        (out * given).sum().backward()
        found.append([out, *(x.grad for x in inputs)])
    torch.set_num_threads(before)
    for others in found[1:]:
        assert all(torch.equal(one, other) for one, other in zip(found[0], others, strict=True))


def test_very_large_and_very_small_scores_are_no_trouble() -> None:
    settings = Settings(np.array([0, 3]), 1, 1, causal=False, newest_only=False, max_len=0, rate=0.0, seed=0)
    queries = torch.tensor([[[1e4], [-1e4], [0.0]]])
    memory = torch.tensor([[[3.0, 1.0], [2.0, 2.0], [-1.0, 3.0]]])
    assert torch.allclose(attend(queries, memory, None, settings).flatten(), torch.tensor([1.0, 3.0, 2.0]))


def test_wrong_arrays_are_named() -> None:
    settings = Settings(np.array([0, 2]), 1, 1, causal=False, newest_only=False, max_len=0, rate=0.0, seed=0)
    with pytest.raises(ValueError, match=r"keys.*\[3, 4\].*\[2, 4\]"):
        attend(torch.zeros(1, 2, 4), torch.zeros(1, 3, 8), None, settings)
    with pytest.raises(ValueError, match=r"memory.*7 columns"):
        attend(None, torch.zeros(1, 2, 7), None, settings)
    with pytest.raises(ValueError, match=r"heads.*3"):
        attend(None, torch.zeros(1, 2, 12), None, replace(settings, heads=3))
    with pytest.raises(ValueError, match="offsets"):
        attend(None, torch.zeros(1, 2, 12), None, replace(settings, offsets_S1=np.array([0, 3, 2])))
    with pytest.raises(ValueError, match="rate: 1; expected a number from 0, below 1"):
        attend(None, torch.zeros(1, 2, 12), None, replace(settings, rate=1.0))
