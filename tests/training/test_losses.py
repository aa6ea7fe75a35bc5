"""The losses against plain NumPy, a loop at a time."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from llm_esr.training.losses import binary_cross_entropy, distillation, mean_teacher, ranking, sampled_softmax

M, N, V, D = 5, 7, 2, 3


def case(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    hidden, positive = (torch.randn(M, V * D, generator=generator) for _ in range(2))
    negative = torch.randn(N, V * D, generator=generator)
    masked = torch.rand(M, N, generator=generator) < 0.3
    return hidden, positive, negative, masked


def softmax_oracle(positive: np.ndarray, negative: np.ndarray, masked: np.ndarray) -> float:
    losses = []
    for p, row, mask in zip(positive, negative, masked, strict=True):
        logits = np.append(row[~mask], p)
        losses.append(np.log(np.exp(logits).sum()) - p)
    return float(np.mean(losses))


def bce_oracle(positive: np.ndarray, negative: np.ndarray, masked: np.ndarray) -> float:
    def sigmoid(x: np.ndarray) -> np.ndarray:
        return 1 / (1 + np.exp(-x))

    return float(-np.log(sigmoid(positive)).mean() - np.log(1 - sigmoid(negative[~masked])).mean())


@pytest.mark.parametrize(("loss", "oracle"), [(sampled_softmax, softmax_oracle), (binary_cross_entropy, bce_oracle)])
@pytest.mark.parametrize("own", [False, True])
def test_ranking_is_the_loss_of_all_views_plus_that_of_each(loss, oracle, own: bool) -> None:  # type: ignore[no-untyped-def]
    hidden, positive, negative, masked = case()
    own_negative = negative.expand(M, N, -1) + torch.arange(M)[:, None, None] * 0.1 if own else negative
    value = ranking(loss, hidden, positive, own_negative, masked, V, 0.5)
    h, p, m = hidden.numpy(), positive.numpy(), masked.numpy()
    n = own_negative.numpy() if own else np.broadcast_to(negative.numpy(), (M, N, V * D))
    expected = oracle((h * p).sum(1), np.einsum("mc,mnc->mn", h, n), m)
    for view in range(V):
        part = slice(view * D, (view + 1) * D)
        expected += 0.5 * oracle((h[:, part] * p[:, part]).sum(1), np.einsum("mc,mnc->mn", h[:, part], n[..., part]), m)
    assert float(value) == pytest.approx(expected, rel=1e-5)


def test_a_step_without_targets_gives_zero_and_a_gradient() -> None:
    hidden = torch.zeros(0, V * D, requires_grad=True)
    empty = torch.zeros(0, N, dtype=torch.bool)
    value = ranking(sampled_softmax, hidden, hidden, torch.randn(N, V * D), empty, V, 1.0)
    value.backward()
    assert float(value.detach()) == 0.0


def test_the_mean_teacher_averages_only_the_similar_users_there_are() -> None:
    states = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 9.0]])
    means, has_teacher = mean_teacher(states, np.array([[0, 2], [1, -1], [-1, -1]]))
    assert means.tolist() == [[3.0, 5.5], [3.0, 4.0], [0.0, 0.0]]
    assert has_teacher.tolist() == [True, True, False]


def test_distillation_is_a_mean_over_the_students_that_have_a_teacher() -> None:
    students, teachers = torch.tensor([[1.0, 1.0], [9.0, 9.0]]), torch.tensor([[0.0, 3.0], [0.0, 0.0]])
    has_teacher = np.array([True, False])
    assert float(distillation("kd", students, teachers, has_teacher)) == pytest.approx((1 + 4) / 2)
    assert float(distillation("cosine", students, teachers, has_teacher)) == pytest.approx(1 - 3 / (2**0.5 * 3))
    assert float(distillation("kd", students, teachers, np.array([False, False]))) == 0.0
