"""The encoder over padded rows gives what `SequentialEncoder.encode` gives, for every kind of model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from small_encoders import VARIANTS, config_of, histories, model_of

from llm_esr.models import SequentialEncoder
from llm_esr.serving.export.padded_encoder import PaddedEncoder

MAX_LEN = 9  # of `config_of`
# Empty, short, exactly full, one less (a mask token fills it), and longer than the window.
LENGTHS = [0, 1, 5, 9, 3, 14, 8, 2]
PAPER = {"interaction": "cross-attention", "block": "paper", "feed_forward": 1, "mask_padding_keys": False,
         "padding": "tokens", "padding_row": "trained"}  # fmt: skip
OF_EACH_BACKBONE = {
    "plain": {},
    "summed, profile": {"fusion": "sum", "borrow": 5.0, "text_profile": 1.0},
    "paper": PAPER,
    "interaction, backbones apart": {
        "interaction": "cross-attention", "interaction_residual": True, "share_backbone": False
    },
}  # fmt: skip
OF_ATTENTION = {
    "padding as one key": {"mask_padding_keys": False, "block": "paper"},
    "padding apart": PAPER | {"mask_padding_keys": True, "share_backbone": False},
}
OTHERS = {
    "slots": {"positions": "slot"},
    "slots, bert4rec": {"positions": "slot", "backbone": "bert4rec", "last_row": "shifted", "semantic_mask": "own"},
    "slots, paper": PAPER | {"positions": "slot"},
    "transfer": {"transfer": True, "fusion": "sum", "text_profile": 1.0},
    "transfer, bert4rec": {"transfer": True, "backbone": "bert4rec"},
}
CASES = (
    VARIANTS
    | OTHERS
    | {
        f"{name}, {backbone}": {"backbone": backbone} | settings
        for backbone in ("sasrec", "bert4rec", "gru4rec")
        for name, settings in (OF_EACH_BACKBONE | (OF_ATTENTION if backbone != "gru4rec" else {})).items()
    }
)


def model_with(settings: dict[str, object]) -> SequentialEncoder:
    """A model whose weights all count: a profile's metric and the biases of norms, which start from zero, too."""
    model = model_of(config_of(**settings))
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
        if model.transfer is not None:
            model.transfer.tail_user.fill_(3)
    return model


def padded(items: np.ndarray, offsets: np.ndarray, max_len: int, filling: int = 7) -> tuple[torch.Tensor, torch.Tensor]:
    """Histories as rows, with an item behind them that must not be read."""
    rows = torch.full((len(offsets) - 1, max_len), filling)
    lengths = torch.zeros(len(rows), dtype=torch.int64)
    for number in range(len(rows)):
        newest = items[offsets[number] : offsets[number + 1]][-max_len:]
        rows[number, : len(newest)] = torch.from_numpy(newest.astype(np.int64))
        lengths[number] = len(newest)
    return rows, lengths


@pytest.mark.parametrize("case", CASES)
def test_rows_give_what_flat_tokens_give(case: str) -> None:
    model = model_with(CASES[case])
    items, offsets = histories(LENGTHS)
    with torch.inference_mode():
        expected = model.encode(model.sequences(items, offsets))
        found = PaddedEncoder(model)(*padded(items, offsets, MAX_LEN))
    assert found.shape == expected.shape == (len(LENGTHS), model.item_matrix().shape[1])
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


# Whatever has a branch of its own in the graph; the cases above hold all others.
TRACED = [
    "summed, profile, sasrec",
    "summed, profile, gru4rec",
    "plain, bert4rec",
    "padding as one key, sasrec",
    "paper, bert4rec",
]


@pytest.mark.parametrize("case", TRACED)
def test_onnxruntime_gives_what_the_model_gives(case: str, tmp_path: Path) -> None:
    import onnxruntime

    from llm_esr.serving.export.encoders import write_onnx

    model = model_with(CASES[case] | {"blocks": 1})
    items, offsets = histories(LENGTHS)
    with torch.inference_mode():
        expected = model.encode(model.sequences(items, offsets)).numpy()
    write_onnx(PaddedEncoder(model), path := tmp_path / "encoder.onnx")
    session = onnxruntime.InferenceSession(path)
    rows, lengths = padded(items, offsets, MAX_LEN)
    for some in (slice(0, len(rows)), slice(3, 4)):
        (found,) = session.run(None, {"items": rows[some].numpy(), "lengths": lengths[some].numpy()})
        np.testing.assert_allclose(found, expected[some], atol=1e-5, rtol=0)


def test_a_part_without_a_form_over_rows_is_refused() -> None:
    model = model_of(config_of())
    model.backbones[0] = torch.nn.Identity()
    with pytest.raises(ValueError, match="Identity has no form over padded rows"):
        PaddedEncoder(model)
    model.extra = torch.nn.Identity()
    with pytest.raises(ValueError, match="the encoder's extra cannot be exported yet"):
        PaddedEncoder(model)
