from __future__ import annotations

import numpy as np
import pytest
import torch

from llm_esr.evaluation import quick_ndcg
from llm_esr.scoring import NetworkScorer, network


def test_a_model_is_scored_without_dropout_and_left_in_its_mode(model):
    made = NetworkScorer(model, "sum")
    for training in (True, False):
        model.train(training)
        made.scores(np.array([1, 2], np.int32), np.array([0, 1, 2]))
        assert model.training is training
    assert not any(model.modes)


def test_chunks_of_histories_give_what_one_call_gives(model, monkeypatch):
    rng = np.random.default_rng(0)
    items = rng.integers(1, 13, 40).astype(np.int32)
    offsets = np.concatenate([[0], np.sort(rng.choice(np.arange(1, 40), 14, replace=False)), [40]])
    made = NetworkScorer(model, "sum")
    whole = made.scores(items, offsets)
    monkeypatch.setattr(network, "_ENCODE_CHUNK", 4)
    assert torch.equal(made.scores(items, offsets), whole)


def test_the_item_matrix_is_computed_once_until_refreshed(model):
    made = NetworkScorer(model, "sum")
    history = np.array([1, 2], np.int32), np.array([0, 2])
    before = made.scores(*history)
    model.vectors = model.vectors * 2
    made.scores(*history)
    assert model.matrices == 1
    made.refresh()
    assert torch.allclose(made.scores(*history), before * 4)


def test_early_stopping_never_sees_an_old_item_matrix(model, shop):
    made = NetworkScorer(model, "sum")
    quick_ndcg(made, shop, "validation", 5)
    quick_ndcg(made, shop, "validation", 5)
    assert model.matrices == 2


def test_an_empty_history_without_a_fallback_is_an_error(model):
    with pytest.raises(ValueError, match="1 of 2 histories are empty and sum needs at least one item"):
        NetworkScorer(model, "sum").scores(np.array([1], np.int32), np.array([0, 0, 1]))


def test_no_gradients_are_kept(model):
    model.vectors.requires_grad_(True)
    assert not NetworkScorer(model, "sum").scores(np.array([1], np.int32), np.array([0, 1])).requires_grad
