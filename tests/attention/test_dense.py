"""Right-padded rows and fused attention give what flat tokens give; `use_backend` takes them on the CPU too."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from llm_esr.attention import RightPadded, choice, use_backend
from llm_esr.config import load_config
from llm_esr.loading import build_sequences
from llm_esr.models import ModelData, SequentialEncoder
from llm_esr.models.views.borrowing import BorrowedRows

LENGTHS = [3, 1, 0, 12, 7]  # the fourth is cut


def model_of(preset: str) -> SequentialEncoder:
    config = load_config(preset, ["model.width=8", "model.max_len=9"])
    torch.manual_seed(0)
    tables = torch.randn(40, 24), torch.randn(40, 8)
    model = SequentialEncoder(config.model, ModelData(40, *tables, BorrowedRows.empty(42, 3)))
    if model.profile is not None and model.profile.metric is not None:
        torch.nn.init.normal_(model.profile.metric)
    return model.eval()


@pytest.mark.parametrize(
    "preset", ["llm-esr", "dual-view", "sasrec", "bert4rec", "gru4rec", "paper-sasrec", "paper-bert4rec", "melt-paper"]
)
@torch.no_grad()
def test_user_vectors_are_those_of_flat_tokens(preset: str) -> None:
    model, offsets = model_of(preset), np.concatenate([[0], np.cumsum(LENGTHS)])
    sequences = model.sequences(np.random.default_rng(0).integers(1, 41, offsets[-1]).astype(np.int32), offsets)
    nobody = model.sequences(np.empty(0, np.int32), np.zeros(3, np.int64))
    flat = model.encode(sequences), model.last_states(sequences), model.encode(nobody)
    with use_backend("dense"):
        assert isinstance(model.tokens_of(sequences), RightPadded)
        rows = model.encode(sequences), model.last_states(sequences), model.encode(nobody)
    for ours, expected in zip(rows, flat, strict=True):
        torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-5)


def test_a_model_that_reads_padding_stays_with_flat_tokens() -> None:
    model = model_of("paper-gru4rec")
    with use_backend("dense"):
        tokens = model.tokens_of(model.sequences(np.array([1, 2], np.int32), np.array([0, 2])))
    assert tokens.row_width is None


def test_a_cuda_device_takes_rows_unless_another_backend_is_asked_for() -> None:
    cuda, cpu = torch.device("cuda"), torch.device("cpu")
    assert choice.takes_right_padded(cuda) and not choice.takes_right_padded(cpu)
    with use_backend("rows"):
        assert not choice.takes_right_padded(cuda)
    tokens = RightPadded([build_sequences([1, 2, 3], [0, 2, 3], max_len=4)])
    with use_backend("jagged"):
        assert choice.choose(tokens, torch.float32, with_pseudo_key=False) == "dense"
