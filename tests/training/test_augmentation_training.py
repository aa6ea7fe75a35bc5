"""Training on sequences that are cropped, masked and reordered."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from llm_esr import train
from llm_esr.config import load_config
from llm_esr.data import Dataset
from llm_esr.training import build_model

SMALL = [
    "model.width=8", "model.max_len=10", "train.epochs=1", "index.similar_users=3", "distill.similar_users=3",
    "augmentation.crop=0.6", "augmentation.mask=0.3", "augmentation.reorder=0.6",
]  # fmt: skip


@pytest.mark.parametrize("preset", ["default", "sasrec"])
def test_models_train_on_augmented_sequences(tiny_folder: Path, tmp_path: Path, preset: str) -> None:
    model = train(tiny_folder, config=load_config(preset, SMALL), out=tmp_path, progress=False).model
    assert all(torch.isfinite(p).all() for p in model.parameters())


def test_a_mask_token_has_no_text(tiny_folder: Path) -> None:
    data = Dataset.open(tiny_folder)
    model, _ = build_model(data, load_config("default", SMALL))
    view = model.views["semantic"]
    token, item = view(torch.tensor([data.n_items + 1, data.n_items]))
    nothing = view.second(view.first(torch.zeros(1, view.first.in_features)))[0]
    assert torch.allclose(token, nothing, atol=1e-6)
    assert not torch.allclose(item, nothing, atol=1e-6)


def test_augmentation_does_not_fit_masked_items() -> None:
    with pytest.raises(ValueError, match="augmentation does not fit bert4rec"):
        load_config("bert4rec", ["augmentation.crop=0.5"])
