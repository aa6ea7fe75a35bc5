"""A training step on a GPU that is not there: torch's fake tensors know their device and shape, and no numbers.

So mixing devices fails, and so does whatever asks the device for a number, for which a real step would wait.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from step_losses import step_losses
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensor, FakeTensorMode

import llm_esr
from llm_esr.attention import choice, dense, row_layout, rows, tokens
from llm_esr.config import load_config
from llm_esr.loading import staging
from llm_esr.models import ModelData, SequentialEncoder, encoder, text_profile
from llm_esr.models.backbones import gru4rec
from llm_esr.models.views.borrowing import BorrowedRows
from llm_esr.training import catalogue_softmax, forward, losses, unique_items
from llm_esr.training.build import build_loader
from llm_esr.training.row_forward import row_inputs
from llm_esr.training.step import compute_losses, total_loss
from llm_esr.training.terms import TermData, build_terms, item_regularisation

PRESETS = ["default", "dual-view", "sasrec", "bert4rec", "gru4rec", "corrected",
           "paper-sasrec", "paper-bert4rec", "paper-gru4rec"]  # fmt: skip
USERS = (catalogue_softmax, text_profile, gru4rec, row_layout, rows, tokens, losses, forward, unique_items, encoder,
         item_regularisation)  # fmt: skip


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeTensorMode:
    mode = FakeTensorMode()
    try:
        with mode, torch.device("cuda"):
            torch.zeros(2)[0].fill_(1)
    except RuntimeError as error:
        if "driver" not in str(error):
            raise
        pytest.skip(f"torch {torch.__version__} asks a CUDA driver even of fake tensors")

    def to_device(array: np.ndarray, device: Any) -> torch.Tensor:
        return mode.from_tensor(torch.from_numpy(np.ascontiguousarray(array))).to(device)

    def send(tree: Any, device: Any) -> Any:
        found = list(staging._tensors(tree))
        fakes = [x if isinstance(x, FakeTensor) else mode.from_tensor(x) for x in found]
        return staging._replaced(tree, {id(x): fake.to(device) for x, fake in zip(found, fakes, strict=True)})

    for module in USERS:
        for name, stand_in in (("to_device", to_device), ("send", send)):
            if hasattr(module, name):
                monkeypatch.setattr(module, name, stand_in)
    # Which kernels there are for sequences of any length only a real device can tell.
    monkeypatch.setattr(choice, "forced", "rows")
    # torch knows no fake of its binomial draw.
    for module in (rows, dense):
        monkeypatch.setattr(module, "survivors", lambda counts, kept: counts * kept)
    return mode


@pytest.mark.parametrize("preset", PRESETS)
def test_a_step_mixes_no_devices_and_asks_the_gpu_for_no_number(
    preset: str, tiny_folder: Path, fake: FakeTensorMode
) -> None:
    data = llm_esr.Dataset.open(tiny_folder)
    config = load_config(preset, ["train.batch_size=16"])
    batch = next(iter(build_loader(data, config)))
    with fake, torch.device("cuda"):
        total = step_losses(model_of(config, data), batch, config, data)["total"]
    assert total.device.type == "cuda" and total.shape == ()


@pytest.mark.parametrize("preset", ["default", "dual-view", "paper-sasrec"])
def test_nor_does_one_over_right_padded_rows(preset: str, tiny_folder: Path, fake: FakeTensorMode) -> None:
    data = llm_esr.Dataset.open(tiny_folder)
    config = load_config(preset, ["train.batch_size=16"])
    batch = next(iter(build_loader(data, config)))
    with fake, torch.device("cuda"):
        model = model_of(config, data)
        terms = build_terms(config, TermData(model.device, data=data))
    inputs = row_inputs(batch, model, terms)
    with fake, torch.device("cuda"):
        total = total_loss(compute_losses(model, batch, terms, forward.send(inputs, "cuda")), terms)
    assert total.device.type == "cuda" and total.shape == ()


def model_of(config: llm_esr.Config, data: llm_esr.Dataset) -> SequentialEncoder:
    """A model in training, of tables that are drawn."""
    tables = torch.randn(data.n_items, 24), torch.randn(data.n_items, config.model.width)
    borrowed = BorrowedRows.empty(data.n_items + 2, 11)
    return SequentialEncoder(config.model, ModelData(data.n_items, *tables, borrowed)).train()


def test_the_fake_would_tell(fake: FakeTensorMode) -> None:
    with fake, torch.device("cuda"):
        x = torch.randn(3)
        with pytest.raises(DataDependentOutputException):
            x.sum().item()
        with pytest.raises(RuntimeError, match="device"):
            x + torch.randn(3, device="cpu")
