"""The softmax over the whole catalogue against plain torch over materialised scores."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from llm_esr.config import load_config
from llm_esr.data import Dataset
from llm_esr.training import TermData, build_terms
from llm_esr.training import catalogue_softmax as module
from llm_esr.training.build import build_loader, build_model
from llm_esr.training.catalogue_softmax import MetItems, catalogue_softmax
from llm_esr.training.forward import Forward


def plain(states, vectors, targets, histories, student, profiles, texts):  # type: ignore[no-untyped-def]
    scores = states @ vectors.T
    if profiles is not None:
        scores = scores + profiles @ texts.T
    masked = torch.zeros_like(scores, dtype=torch.bool)
    for row, owner in enumerate(student):
        masked[row, [item - 1 for item in histories[owner]]] = True
        masked[row, targets[row]] = False
    return F.cross_entropy(scores.masked_fill(masked, -torch.inf), targets)


@pytest.mark.parametrize("profile", [False, True])
@pytest.mark.parametrize("scores_at_once", [1, 1 << 21])
def test_loss_and_gradients_are_those_of_materialised_scores(
    profile: bool, scores_at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_SCORES", scores_at_once)
    monkeypatch.setattr(module, "_FEWEST", 3)
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    items, count, width, texts_width = 23, 17, 6, 5
    histories = [rng.integers(1, items + 1, size=rng.integers(0, 9)) for _ in range(4)]
    student = np.sort(rng.integers(0, 4, size=count))
    targets = torch.from_numpy(rng.integers(0, items, size=count))
    states = torch.randn(count, width, dtype=torch.float64, requires_grad=True)
    vectors = torch.randn(items, width, dtype=torch.float64, requires_grad=True)
    profiles = torch.randn(count, texts_width, dtype=torch.float64, requires_grad=True) if profile else None
    texts = torch.randn(items, texts_width, dtype=torch.float64) if profile else None
    wanted = [states, vectors] + ([profiles] if profiles is not None else [])
    expected = plain(states, vectors, targets, histories, student, profiles, texts)
    expected_grads = torch.autograd.grad(expected, wanted)
    offsets = np.concatenate([[0], np.cumsum([len(h) for h in histories])]).astype(np.int64)
    flat = np.concatenate(histories).astype(np.int32)
    met = MetItems.of(flat, offsets, student, torch.device("cpu"))
    loss = catalogue_softmax(states, vectors, targets, met, profiles, texts)
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=1e-12)
    for own, theirs in zip(torch.autograd.grad(3 * loss, wanted), expected_grads, strict=True):
        torch.testing.assert_close(own, 3 * theirs, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("items", [1, 7, 64, 1003])
def test_the_kernel_gives_what_torch_gives(items: int) -> None:
    rng = np.random.default_rng(items)
    count = 9
    scores = torch.from_numpy(rng.normal(0, 5, size=(count, items)))
    histories = [rng.integers(1, items + 1, size=n).astype(np.int32) for n in (0, 5, 3 * items)]
    student = np.sort(rng.integers(0, 3, size=count))
    targets = torch.from_numpy(rng.integers(0, items, size=count))
    offsets = np.concatenate([[0], np.cumsum([len(h) for h in histories])]).astype(np.int64)
    met = MetItems.of(np.concatenate(histories), offsets, student, torch.device("cpu"))
    expected, loss = module._rows_by_torch(scores.clone(), targets[:, None], met, 0, 1 / count)
    found = scores.float()
    total = met.native_losses(found, targets, 0, 1 / count)
    torch.testing.assert_close(torch.tensor(total, dtype=torch.float64), loss, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-7)


def test_a_diverged_state_makes_the_loss_nan() -> None:
    met = MetItems.of(np.empty(0, np.int32), np.zeros(2, np.int64), np.zeros(2, np.int64), torch.device("cpu"))
    states = torch.ones(2, 3)
    states[1, 1] = torch.nan
    assert torch.isnan(catalogue_softmax(states, torch.ones(5, 3), torch.tensor([0, 1]), met))


def test_an_item_that_nobody_met_in_training_is_in_no_denominator(cold_folder: Path) -> None:
    data = Dataset.open(cold_folder)
    config = load_config("llm-esr", ["model.width=8", "model.heads=1", "model.blocks=1", "model.dropout=0"])
    model, _ = build_model(data, config)
    loader = build_loader(data, config)
    batch = next(iter(loader))
    (term,) = build_terms(config, TermData(model.device, data=data))
    forward = Forward(model, batch, whole_catalogue=True)
    vectors, states = forward.catalogue_vectors(), forward.target_states()
    scores = states @ vectors.T + forward.target_profiles() @ model.profile.texts[1:-1].T
    left_out = torch.zeros_like(scores, dtype=torch.bool)
    left_out[:, torch.from_numpy(np.flatnonzero(data.training_counts[1:] == 0))] = True
    for row, student in enumerate(forward.students_of_targets()):
        left_out[row, data.history(batch.users[student], "train").astype(np.int64) - 1] = True
    left_out[torch.arange(len(scores)), forward.items.inverse_M] = False
    expected = F.cross_entropy(scores.masked_fill(left_out, -torch.inf), forward.items.inverse_M)
    torch.testing.assert_close(term(forward), expected, rtol=1e-5, atol=1e-5)
