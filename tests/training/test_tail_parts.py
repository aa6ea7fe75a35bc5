"""The parts for the tail, together: the softmax over the catalogue, summed views, borrowed rows, the text profile."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import llm_esr
from llm_esr.config import Config, load_config
from llm_esr.serving import Recommender
from llm_esr.training import TermData, build_loader, build_model, build_terms, train
from llm_esr.training.step import compute_losses

PARTS = ["model.fusion=sum", "model.borrow=5", "model.text_profile=1", "train.loss=softmax", "train.view_loss=0"]
SMALL = ["model.width=8", "model.max_len=12", "train.batch_size=9", "train.epochs=2", "distill.weight=0",
         "index.similar_users=10"]  # fmt: skip


def small(*overrides: str) -> Config:
    return load_config("llm-esr", [*SMALL, *PARTS, *overrides])


@pytest.mark.parametrize("backbone", ["sasrec", "bert4rec", "gru4rec"])
def test_a_trained_model_comes_back_with_the_same_scores(tiny_folder: Path, tmp_path: Path, backbone: str) -> None:
    trained = train(tiny_folder, config=small(f"model.backbone={backbone}"), out=tmp_path / "m", progress=False)
    loaded = Recommender.load(tmp_path / "m", data=tiny_folder, device="cpu")
    items, offsets = trained.data.histories(np.arange(5), "test")
    torch.testing.assert_close(loaded.scores(items, offsets), trained.scores(items, offsets))


def test_the_term_is_cross_entropy_over_the_catalogue_without_what_was_met(tiny_folder: Path) -> None:
    data = llm_esr.Dataset.open(tiny_folder)
    config = small("model.dropout=0", "smoothing.probability=0")
    model, loader = build_model(data, config)[0].eval(), build_loader(data, config)
    batch = next(iter(loader))
    losses = compute_losses(model, batch, build_terms(config, TermData(model.device, loader, data)))
    expected = []
    for row, user in enumerate(batch.users):
        history = data.history(int(user), "train")
        read = history[-config.model.max_len :]
        for end in range(1, len(read)):
            one = model.sequences(read[:end].astype(np.int32), np.array([0, end], np.int64))
            scores = (model.encode(one) @ model.item_matrix().T)[0]
            target = int(read[end]) - 1
            met = np.setdiff1d(history - 1, [target])
            scores[torch.from_numpy(met.astype(np.int64))] = -torch.inf
            expected.append(torch.logsumexp(scores, 0) - scores[target])
        assert row < len(batch.users)
    torch.testing.assert_close(losses["ranking"], torch.stack(expected).mean(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("negatives", ["shared", "own"])
def test_sampled_negatives_have_the_profile_in_their_scores(tiny_folder: Path, negatives: str) -> None:
    data = llm_esr.Dataset.open(tiny_folder)
    config = small("train.loss=sampled-softmax", f"negatives.kind={negatives}", "negatives.count=16")
    model, loader = build_model(data, config)[0].train(), build_loader(data, config)
    terms = build_terms(config, TermData(model.device, loader, data))
    compute_losses(model, next(iter(loader)), terms)["ranking"].backward()
    assert model.profile is not None and model.profile.scale.grad is not None
    assert model.profile.metric is not None and model.profile.metric.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["model.views=[semantic]", "model.text_profile=0"], "model.borrow needs the collaborative view"),
        (["model.interaction=cross-attention"], "needs views side by side; model.fusion is sum"),
        (["train.item_regularisation=0.1"], "compares views side by side; model.fusion is sum"),
    ],
)
def test_parts_that_do_not_fit_are_refused(overrides: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small(*overrides)
