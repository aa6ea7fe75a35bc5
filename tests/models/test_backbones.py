"""SASRec, BERT4Rec and GRU4Rec: what each looks at, and padding, which changes nothing unless paper mode wants it."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from llm_esr.attention.multi_head import Attention
from llm_esr.attention.tokens import Tokens
from llm_esr.config import ModelConfig
from llm_esr.loading import build_sequences
from llm_esr.models import ModelData, SequentialEncoder
from llm_esr.models.backbones.gru4rec import GRU4Rec

N_ITEMS, WIDTH, MAX_LEN = 40, 8, 9
BACKBONES = ("sasrec", "bert4rec", "gru4rec")
NETWORKS: dict[str, dict[str, object]] = {
    "default": {},
    "corrected": {"interaction": "cross-attention", "block": "paper", "feed_forward": 1, "heads": 1},
    "alone": {"views": ["collaborative"]},
}
LENGTHS = [7, 5, 1, 9, 2]


def model_of(double: bool = True, **values: object) -> SequentialEncoder:
    base: dict[str, object] = {"width": WIDTH, "heads": 2, "max_len": MAX_LEN, "dropout": 0.0}
    torch.manual_seed(0)
    model = SequentialEncoder(ModelConfig.model_validate(base | values), ModelData(N_ITEMS, torch.randn(N_ITEMS, 12)))
    return (model.double() if double else model).eval()


def histories(lengths: list[int], seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    items = np.random.default_rng(seed).integers(1, N_ITEMS + 1, sum(lengths)).astype(np.int32)
    return items, np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)


def every(items: np.ndarray, offsets: np.ndarray, **options: Any) -> Tokens:
    return Tokens(build_sequences(items, offsets, max_len=MAX_LEN, **options))


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("backbone", ["sasrec", "gru4rec"])
def test_no_state_depends_on_a_later_item(backbone: str, network: str) -> None:
    model = model_of(backbone=backbone, **NETWORKS[network])
    items, offsets = histories(LENGTHS)
    before = model(every(items, offsets))
    for changed_at in (3, 8, 20):
        changed = items.copy()
        changed[changed_at] = changed[changed_at] % N_ITEMS + 1
        sequence = np.searchsorted(offsets, changed_at, side="right") - 1
        moved = ((model(every(changed, offsets)) - before).abs().amax(1) > 1e-9).nonzero().squeeze(1)
        assert moved.tolist() == list(range(changed_at, offsets[sequence + 1]))


@pytest.mark.parametrize("network", NETWORKS)
def test_bert4rec_reads_both_ways(network: str) -> None:
    model = model_of(backbone="bert4rec", **NETWORKS[network])
    items, offsets = histories(LENGTHS)
    changed = items.copy()
    changed[4] = changed[4] % N_ITEMS + 1
    moved = (model(every(changed, offsets)) - model(every(items, offsets))).abs().amax(1) > 1e-9
    assert moved.tolist() == [True] * 7 + [False] * (sum(LENGTHS) - 7)


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("backbone", BACKBONES)
def test_packing_padding_and_company_change_no_state_and_no_gradient(backbone: str, network: str) -> None:
    results = []
    items, offsets = histories(LENGTHS)
    for options in ({}, {"layout": "padded"}, {"layout": "padded", "padding_tokens": True}):
        if backbone == "gru4rec" and "padding_tokens" in options:
            continue  # its recurrence runs over padding tokens: that is the paper's
        padding = "tokens" if "padding_tokens" in options else "none"
        model = model_of(backbone=backbone, padding=padding, **NETWORKS[network])
        tokens = every(items, offsets, **options)
        states = model(tokens)
        states = states if tokens.real_T is None else states[tokens.real_T]
        (states * torch.arange(states.numel()).view_as(states).cos()).sum().backward()
        results.append((states, {n: p.grad for n, p in model.named_parameters() if p.grad is not None}))
    for states, gradients in results[1:]:
        assert torch.allclose(states, results[0][0], atol=1e-9)
        for name, gradient in results[0][1].items():
            assert torch.allclose(gradient, gradients[name], atol=1e-8), name
    alone = model_of(backbone=backbone, **NETWORKS[network])
    for sequence, (start, end) in enumerate(pairwise(offsets)):
        state = alone(every(items[start:end], np.array([0, end - start])))
        assert torch.allclose(state, results[0][0][start:end], atol=1e-9), sequence


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("network", NETWORKS)
def test_the_pseudo_key_is_exactly_all_the_padding_keys(network: str, causal: bool) -> None:
    items, offsets = histories([*LENGTHS, 0])
    quirks = {"causal": causal, "mask_padding_keys": False}
    results = []
    for padding in ("none", "tokens"):
        model = model_of(padding=padding, **(NETWORKS[network] | quirks))
        users = model.encode(model.sequences(items, offsets))
        users.cos().sum().backward()
        results.append((users, {n: p.grad for n, p in model.named_parameters() if p.grad is not None}))
    (packed, packed_gradients), (padded, padded_gradients) = results
    assert torch.allclose(packed, padded, atol=1e-10)
    for name, gradient in packed_gradients.items():
        assert torch.allclose(gradient, padded_gradients[name], atol=1e-9), name


@pytest.mark.parametrize("backbone", BACKBONES)
def test_an_empty_sequence_has_the_state_that_padding_alone_comes_to(backbone: str) -> None:
    model = model_of(backbone=backbone, share_backbone=False)
    items, offsets = histories([3, 0, 2])
    users = model.encode(build_sequences(items, offsets, max_len=MAX_LEN))
    expected = torch.cat([f.empty_state() for f in model._backbones()])
    assert torch.equal(users[1], expected)
    assert torch.allclose(users[2], model.encode(build_sequences(items[3:], np.array([0, 2]), max_len=MAX_LEN))[0])
    nobody = model.encode(build_sequences([], [0, 0, 0], max_len=MAX_LEN))
    assert torch.equal(nobody, expected.expand(2, -1))


def test_dropout_of_the_pseudo_key_has_the_mean_and_variance_of_dropping_each_padding_key() -> None:
    """Each key is kept with 1 - p and then scaled by 1 / (1 - p): the variance is p / (1 - p) sum_j w_j^2 v_j^2."""
    n_real, n_padding, draws, rate = 3, 6, 60_000, 0.5
    torch.manual_seed(0)
    attention = Attention(4, 1, dropout=rate)
    for layer in (attention.query, attention.key, attention.value):
        nn.init.normal_(layer.bias)
    nn.init.eye_(attention.output.weight)
    nn.init.zeros_(attention.output.bias)
    x = torch.randn(n_real, 4)
    tokens = every(np.tile(np.arange(1, n_real + 1, dtype=np.int32), draws), np.arange(draws + 1) * n_real)
    with torch.no_grad():
        repeated = x.repeat(draws, 1)[None]
        arguments = (repeated, repeated, tokens)
        options: dict[str, Any] = {"causal": False, "pseudo_key": (torch.zeros(4), n_real + n_padding)}
        outputs = attention.train()(*arguments, **options).view(draws, n_real, 4)
        undropped = attention.eval()(*arguments, **options).view(draws, n_real, 4)[0]
        padded = torch.cat([torch.zeros(n_padding, 4), x])
        scores = attention.query(x) @ attention.key(padded).T / math.sqrt(4)
        weights, values = scores.softmax(1), attention.value(padded)
    variance = rate / (1 - rate) * (weights**2) @ (values**2)
    assert torch.allclose(undropped, weights @ values, atol=1e-5)
    error = (variance / draws).sqrt()
    assert ((outputs.mean(0) - undropped).abs() < 5 * error).all()
    assert ((outputs.var(0) / variance - 1).abs() < 0.03).all()


def test_the_recurrence_is_that_of_torch() -> None:
    config = ModelConfig(width=WIDTH, heads=2, backbone="gru4rec")
    torch.manual_seed(0)
    ours, theirs = GRU4Rec(config), nn.GRU(WIDTH, WIDTH, bias=False, batch_first=True)
    for name in ("weight_ih", "weight_hh"):
        nn.init.xavier_normal_(getattr(ours, name))
        getattr(theirs, f"{name}_l0").data.copy_(getattr(ours, name).data)
    items, offsets = histories(LENGTHS)
    x = torch.randn(2, len(items), WIDTH)
    states = ours(x, every(items, offsets))
    for start, end in pairwise(offsets):
        assert torch.allclose(states[:, start:end], theirs(x[:, start:end])[0], atol=1e-6)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_the_user_vector_is_the_state_of_the_newest_token(backbone: str) -> None:
    model = model_of(backbone=backbone)
    sequences = model.sequences(*histories(LENGTHS))
    tokens = Tokens(sequences)
    assert torch.allclose(model.encode(sequences), model(tokens)[tokens.last_S], atol=1e-9)


def test_bert4rec_reads_a_history_with_a_mask_token_behind_it() -> None:
    model = model_of(backbone="bert4rec")
    items, offsets = histories([3, 9])
    sequences = model.sequences(items, offsets)
    assert sequences.items.tolist() == [*items[:3], N_ITEMS + 1, *items[4:], N_ITEMS + 1]
    assert sequences.positions.tolist() == [1, 2, 3, 4, *range(2, MAX_LEN + 2)]
    assert torch.isfinite(model.encode(sequences)).all()


@pytest.mark.parametrize("value", [{"causal": True}, {"position_rows": 10}])
def test_settings_that_bert4rec_cannot_have_are_refused(value: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(value))):
        ModelConfig.model_validate({"backbone": "bert4rec", "max_len": 9, "heads": 2} | value)
