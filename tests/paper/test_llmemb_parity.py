"""LLMEmb's second stage against the authors' own code: what its golden vectors hold beyond those of LLM-ESR.

Another folder of vectors: `LLM_ESR_METHOD_VECTORS=/path/to/folder pytest tests/paper tests/evaluation`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from llm_esr.config import load_config
from llm_esr.training.forward import Forward
from llm_esr.training.step import compute_losses

ONLY = ("tokens", "flat")


def near(ours: torch.Tensor, theirs: np.ndarray, tolerance: float, scale: float | None = None) -> bool:
    """Within `tolerance` of the largest entry of the authors' array, or of `scale`."""
    largest = float(np.abs(theirs).max()) if scale is None else scale
    return float((ours.detach().double() - torch.from_numpy(theirs).double()).abs().max()) <= tolerance * largest


def test_every_row_of_the_table_reads_what_the_authors_read(llmemb_case: Any) -> None:
    case = llmemb_case
    model, n_items = case.model(), case.given["num_items"]
    theirs = case["item_vectors"]
    rows = torch.arange(len(theirs))
    if not case.config.model.reads_mask_tokens:
        # Nothing reads the row of the mask token there; the last item's vector stands in it.
        assert near(model.item_vectors(rows[-1:]), theirs[-1:], 1e-5)
        assert near(model.item_vectors(rows[-2:-1]), theirs[:1], 1e-5)
    assert near(model.item_vectors(rows), theirs, 1e-5)
    assert near(model.item_matrix(), theirs[1 : n_items + 1], 1e-5)


def test_the_items_of_the_alignment_are_the_real_targets_repeats_included(llmemb_case: Any) -> None:
    case = llmemb_case
    ids, vectors = case.alignment()._rows(Forward(case.model(), case.batch(0)))
    assert len(ids) == len(vectors) == int(case["align_rows0"])
    assert ids.tolist() == case["batch0/pos"][case["batch0/pos"] > 0].tolist()


def test_the_alignments_own_gradient_goes_through_its_targets(llmemb_case: Any) -> None:
    # At alpha = .01 a detached target hardly shows in the whole gradient; here it does.
    case = llmemb_case
    model = case.model().double()
    compute_losses(model, case.batch(0), [case.alignment()])["alignment"].backward()
    golden = {name: case[f"align_grad0/{case.renamed[name][0]}"] for name in map(str, _aligned(case, model))}
    assert len(golden) == len([key for key in case.arrays if key.startswith("align_grad0/")])
    scale = max(float(np.abs(array).max()) for array in golden.values())
    for name, parameter in model.named_parameters():
        if name in golden:
            ours = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            assert near(ours, golden[name], 3e-5, scale), name
        else:
            assert parameter.grad is None or not parameter.grad.any(), name


def _aligned(case: Any, model: torch.nn.Module) -> list[str]:
    names = dict(model.named_parameters())
    return [name for name in names if f"align_grad0/{case.renamed[name][0]}" in case.arrays]


def test_three_steps_of_adam_give_the_authors_losses_and_weights(llmemb_case: Any) -> None:
    case = llmemb_case
    model = case.model().double()
    optimizer = torch.optim.AdamW(model.parameters(), lr=case.given["lr"], weight_decay=0.0)
    for step in range(case.given["steps"]):
        losses = case.losses(model, step)
        for ours, theirs in (("ranking", "rank_losses"), ("alignment", "align_losses"), ("total", "losses")):
            assert float(losses[ours].detach()) == pytest.approx(float(case[theirs][step]), rel=1e-5), (ours, step)
        optimizer.zero_grad(set_to_none=True)
        losses["total"].backward()
        optimizer.step()
    for name, parameter in model.named_parameters():
        # The gradient of the keys' bias is zero: Adam scales its rounding noise up.
        if f"final/{case.renamed[name][0]}" in case.arrays and not name.endswith("key.bias"):
            theirs = case.golden("final", name).numpy()
            assert near(parameter, theirs, 5e-5, 1.0), name
    assert np.array_equal(case["anchor"], case["init/srs_emb.weight"][1:])


def test_the_preset_says_what_the_vectors_were_made_with(llmemb_case: Any) -> None:
    case = llmemb_case
    backbone = case.given["backbone"]
    preset = load_config("llmemb-paper" if backbone == "sasrec" else f"llmemb-paper-{backbone}")
    free = {"width", "max_len", "position_rows", "blocks", "dropout", "collaborative_init"}
    own, golden = preset.model.model_dump(), case.config.model.model_dump()
    # A window's padding: GRU4Rec runs over it, for the others one key stands for all of it.
    free |= {"padding"} if backbone != "gru4rec" else set()
    differing = {name for name in own if own[name] != golden[name]} - free
    # No view but the semantic one: nothing reads these.
    assert differing <= {"embedding_norm", "interaction_heads", "share_backbone"}
    for name in ("over", "loss", "weight", "temperature"):
        assert getattr(preset.align, name) == getattr(case.config.align, name)
    for name in ("loss", "sequence", "targets", "clip_norm"):
        assert getattr(preset.train, name) == getattr(case.config.train, name)
    assert preset.negatives == case.config.negatives
    assert (preset.model.width, preset.model.max_len, preset.model.position_rows) == (128, 200, 300)
