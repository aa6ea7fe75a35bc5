"""The corrected sampled softmax stands for the full one: its loss and its gradient, in the mean, in plain NumPy."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from llm_esr import train
from llm_esr.config import load_config
from llm_esr.loading import BatchLoader
from llm_esr.training.losses import ranking, sampled_softmax

N_ITEMS, D, M = 60, 4, 3
RNG = np.random.default_rng(5)
ITEMS = RNG.normal(size=(N_ITEMS + 1, D))
HIDDEN = RNG.normal(size=(M, D))
TARGETS = np.array([1, 7, 30])
MET = [{1, 2, 3}, {7, 50}, {30, 1}]


def full_softmax() -> tuple[float, NDArray[np.float64]]:
    """Loss and its gradient by the states [M, D], each target among all items that its user did not meet."""
    losses, gradients = [], []
    for hidden, target, met in zip(HIDDEN, TARGETS, MET, strict=True):
        among = [i for i in range(1, N_ITEMS + 1) if i == target or i not in met]
        scores = ITEMS[among] @ hidden
        weights = np.exp(scores) / np.exp(scores).sum()
        losses.append(-math.log(weights[among.index(target)]))
        gradients.append((weights @ ITEMS[among] - ITEMS[target]) / M)
    return float(np.mean(losses)), np.array(gradients)


def sampled(
    n: int, log_q: NDArray[np.float64] | None, chances: NDArray[np.float64], rounds: int
) -> tuple[float, NDArray[np.float64]]:
    """The mean over many draws of the step's loss and gradient."""
    rng = np.random.default_rng(n)
    items = torch.from_numpy(ITEMS)
    value, gradient = 0.0, np.zeros((M, D))
    for _ in range(rounds):
        negatives = rng.choice(np.arange(1, N_ITEMS + 1), n, p=chances)
        masked = torch.tensor([[bool(j in met) for j in negatives.tolist()] for met in MET])
        masked |= torch.from_numpy(TARGETS[:, None] == negatives)
        counts = None if log_q is None else torch.from_numpy(log_q[negatives]) + math.log(n)
        hidden = torch.from_numpy(HIDDEN).requires_grad_()
        loss = ranking(sampled_softmax, hidden, items[TARGETS], items[negatives], masked, 1, 0.0, counts)
        loss.backward()  # type: ignore[no-untyped-call]
        assert hidden.grad is not None
        value += loss.item() / rounds
        gradient += hidden.grad.numpy() / rounds
    return value, gradient


@pytest.mark.parametrize("exponent", [0.0, 1.0])
def test_the_corrected_sampled_softmax_tends_to_the_full_one(make_data: Any, exponent: float) -> None:
    data = make_data()
    loader = BatchLoader(data, distribution="popularity", exponent=exponent)
    assert loader.log_q is not None
    log_q = loader.log_q.astype(np.float64)
    chances = np.exp(log_q[1:])
    chances /= chances.sum()
    full, gradient = full_softmax()
    errors = []
    for n in (30, 300, 3000):
        value, mean = sampled(n, log_q, chances, 9000 // n + 20)
        errors.append(abs(value - full) + np.abs(mean - gradient).max())
    assert errors[-1] < 0.02
    assert errors[-1] < errors[0]
    value, mean = sampled(3000, None, chances, 5)
    assert abs(value - full) > 1  # without the correction the number of negatives decides the loss


@pytest.fixture
def make_data(tmp_path: Any) -> Any:
    """A folder whose items are met 1 to 8 times."""

    def make() -> Any:
        items = np.repeat(np.arange(1, N_ITEMS + 1), np.arange(N_ITEMS) % 8 + 1).astype(np.int32)
        np.save(tmp_path / "items.npy", items)
        np.save(tmp_path / "offsets.npy", np.array([0, len(items)], np.int64))
        np.save(tmp_path / "splits.npy", np.array([[len(items)] * 2], np.int64))
        return SimpleNamespace(folder=tmp_path, n_users=1, n_items=N_ITEMS, fingerprint="counts")

    return make


def test_the_correction_goes_into_every_view_and_takes_nothing_from_the_target() -> None:
    generator = torch.Generator().manual_seed(1)
    hidden, positive = torch.randn(2, 6, generator=generator), torch.randn(2, 6, generator=generator)
    negative, counts = torch.randn(5, 6, generator=generator), torch.randn(5, generator=generator)
    masked = torch.zeros(2, 5, dtype=torch.bool)
    found = ranking(sampled_softmax, hidden, positive, negative, masked, 2, 0.5, counts)
    expected = 0.0
    for weight, part in ((1.0, slice(0, 6)), (0.5, slice(0, 3)), (0.5, slice(3, 6))):
        h, p, n = (x[:, part].numpy() for x in (hidden, positive, negative))
        target = (h * p).sum(1)
        total = np.exp(target) + np.exp(h @ n.T - counts.numpy()).sum(1)
        expected += weight * float((np.log(total) - target).mean())
    assert float(found) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("kind", ["shared", "own", "in-batch"])
def test_a_model_trains_with_corrected_negatives(tiny_folder: Path, tmp_path: Path, kind: str) -> None:
    settings = [f"negatives.kind={kind}", "negatives.count=8", "negatives.distribution=popularity"]
    settings.append("train.loss=sampled-softmax")
    small = ["model.width=8", "model.max_len=10", "train.epochs=1", "index.similar_users=3", "distill.similar_users=3"]
    config = load_config("sasrec", [*settings, *small, "negatives.log_q_correction=true"])
    model = train(tiny_folder, config=config, out=tmp_path, progress=False).model
    assert all(torch.isfinite(p).all() for p in model.parameters())


def test_the_correction_belongs_to_the_softmax() -> None:
    with pytest.raises(ValueError, match=r"log_q_correction belongs to train\.loss sampled-softmax"):
        load_config("sasrec", ["train.loss=bce", "negatives.log_q_correction=true"])
