"""Paper mode against the authors' own code: golden vectors from `tests/fixtures/parity`.

Another folder of vectors, of any shape: `LLM_ESR_PARITY=/path/to/folder pytest tests/paper tests/evaluation`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from llm_esr.attention.tokens import Tokens
from llm_esr.training.teachers import LiveTeachers


def close(ours: torch.Tensor, theirs: torch.Tensor, whole: torch.Tensor | None = None, tolerance: float = 1e-5) -> bool:
    """Within `tolerance` of the largest entry of the authors' (whole) array."""
    scale = max(float((theirs if whole is None else whole).abs().max()), 1e-12)
    return float((ours.detach() - theirs).abs().max()) <= tolerance * scale


def test_the_state_of_every_token_is_the_authors_feature(case: Any) -> None:
    model, batch = case.model(), case.batch(0)
    tokens = Tokens(batch.students)
    hidden = model(tokens)
    theirs = torch.from_numpy(case["features0"])
    if case.layout == "tokens":
        assert close(hidden, theirs.reshape(len(tokens), -1))
    else:
        assert close(hidden, theirs[torch.from_numpy(case["batch0/seq"] > 0)])
    assert close(model.encode(batch.students), theirs[:, -1])


def test_the_mean_of_the_similar_users_is_the_authors_teacher(case: Any) -> None:
    teachers, has_teacher = LiveTeachers(dropout=case.config.distill.teacher_dropout).encode(
        case.model(), case.batch(0)
    )
    assert bool(has_teacher.all())
    assert close(teachers, torch.from_numpy(case["teacher0"]))


def test_the_gradients_of_the_first_step_are_the_authors(case: Any) -> None:
    model = case.model()
    case.losses(model, 0)["total"].backward()
    for name, parameter in model.named_parameters():
        theirs, _ = case.renamed[name]
        ours = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        if f"grad0/{theirs}" in case.arrays:
            assert close(ours, case.golden("grad0", name), torch.from_numpy(case[f"grad0/{theirs}"])), name
        else:
            assert not ours.any(), name


def test_the_losses_and_weights_of_the_adam_steps_are_the_authors(case: Any) -> None:
    # In double precision: single precision drifts from step to step by more than the tolerance on some processors.
    model = case.model().double()
    optimizer = torch.optim.AdamW(model.parameters(), lr=case.given["lr"], weight_decay=0.0)
    losses = []
    for step in range(case.given["steps"]):
        loss = case.losses(model, step)["total"]
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    np.testing.assert_allclose(losses, case["losses"], rtol=2e-5)


def test_the_scores_of_the_trained_model_are_the_authors_logits(case: Any) -> None:
    model = case.model("final").eval()
    for part in ("valid", "test"):
        users = model.encode(case.inputs(part))
        items = np.concatenate([case[f"{part}/pos"][:, None], case[f"{part}/neg"]], axis=1)
        logits = torch.einsum("bc,bnc->bn", users, model.item_matrix()[torch.from_numpy(items) - 1])
        assert close(logits.detach(), torch.from_numpy(case[f"{part}/logits"]))
        assert (logits[:, 1:] > logits[:, :1]).sum(1).tolist() == case[f"{part}/rank"].tolist()
