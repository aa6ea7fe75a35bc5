"""The step over right-padded rows, which a GPU takes: the same losses and gradients as over flat tokens."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from interruption import StopAt
from row_step_case import SETTINGS, terms_of

import llm_esr
from llm_esr.attention import Attention, RightPadded, dense, right_padded
from llm_esr.config import load_config
from llm_esr.loading import build_sequences
from llm_esr.loading.staging import Packed, send
from llm_esr.training import Callback, Trainer, build_loader, build_model
from llm_esr.training.row_forward import row_inputs
from llm_esr.training.step import compute_losses, total_loss

PRESETS = ["paper-sasrec", "corrected", "sasrec", "llm-esr", "dual-view", "melt", "melt-paper", "llmemb", "bert4rec",
           "gru4rec"]  # fmt: skip
# What no preset does.
OTHERS = {
    "own negatives of two views": ("dual-view", "negatives.kind=own", "negatives.count=3"),
    "the items' regularisation": ("dual-view", "train.item_regularisation=0.1"),
    "contrastive distillation": ("dual-view", "distill.form=cl", "distill.teacher_weights=similarity"),
    "aligned inputs": ("llmemb", "align.over=inputs"),
    "last targets": ("sasrec", "train.targets=last"),
}


def both_ways(
    folder: Path, preset: str, *settings: str, dtype: torch.dtype
) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Losses and gradients by name, over flat tokens and over rows."""
    data, config = llm_esr.Dataset.open(folder), load_config(preset, [*SETTINGS, *settings])
    torch.set_default_dtype(dtype)
    model, terms = build_model(data, config)[0].to(dtype).train(), terms_of(data, config)
    for term in terms:
        for name, value in vars(term).items():
            if isinstance(value, torch.Tensor) and value.is_floating_point():
                setattr(term, name, value.to(dtype))
    batch = next(iter(build_loader(data, config)))
    found = []
    for by_rows in (False, True):
        inputs = send(row_inputs(batch, model, terms), model.device) if by_rows else None
        losses = compute_losses(model, batch, terms, inputs)
        model.zero_grad()
        total_loss(losses, terms).backward()
        gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
        found.append({name: loss.detach() for name, loss in losses.items()} | gradients)
    return found[0], found[1]


def assert_close(flat: dict[str, torch.Tensor], rows: dict[str, torch.Tensor], limit: float) -> None:
    assert flat.keys() == rows.keys() and len(flat) > 3
    for name, expected in flat.items():
        assert (rows[name] - expected).abs().max() <= limit * max(1.0, float(expected.abs().max())), name


@pytest.fixture(autouse=True)
def _default_precision() -> Iterator[None]:
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("preset", PRESETS)
def test_losses_and_gradients_are_those_over_flat_tokens(preset: str, tiny_folder: Path) -> None:
    assert_close(*both_ways(tiny_folder, preset, dtype=torch.float32), 1e-5)
    assert_close(*both_ways(tiny_folder, preset, dtype=torch.float64), 1e-10)


@pytest.mark.parametrize("other", OTHERS)
def test_so_are_those_of_settings_that_no_preset_has(other: str, tiny_folder: Path) -> None:
    assert_close(*both_ways(tiny_folder, *OTHERS[other], dtype=torch.float64), 1e-10)


def trained(data: llm_esr.Dataset, folder: Path, *callbacks: Callback) -> dict[str, torch.Tensor]:
    """The weights after two epochs over rows, with dropout."""
    settings = ["runtime.step=rows", "train.epochs=2", "model.dropout=0.3", "checkpoint.every_steps=1000"]
    config = load_config("dual-view", [*SETTINGS, *settings])
    model, loader = build_model(data, config)[0], build_loader(data, config)
    trainer = Trainer(model, loader, config, folder, terms=terms_of(data, config), callbacks=callbacks)
    return trainer.fit("key").state_dict()


def test_a_training_over_rows_gives_the_same_bits_again_and_after_a_stop(tiny_folder: Path, tmp_path: Path) -> None:
    data = llm_esr.Dataset.open(tiny_folder)
    first = trained(data, tmp_path / "one")
    with pytest.raises(KeyboardInterrupt):
        trained(data, tmp_path / "cut", StopAt(5))
    for again in (trained(data, tmp_path / "two"), trained(data, tmp_path / "cut")):
        assert all(torch.equal(tensor, first[name]) for name, tensor in again.items())
    fresh = build_model(data, load_config("dual-view", SETTINGS))[0].state_dict()
    assert not any(
        torch.equal(tensor, fresh[name]) for name, tensor in first.items() if "attention.query.weight" in name
    )


def test_half_precision_products_leave_the_loss_near(tiny_folder: Path) -> None:
    data, config = llm_esr.Dataset.open(tiny_folder), load_config("corrected", SETTINGS)
    model, terms = build_model(data, config)[0].train(), terms_of(data, config)
    batch = next(iter(build_loader(data, config)))
    inputs = row_inputs(batch, model, terms)
    exact = total_loss(compute_losses(model, batch, terms, inputs), terms)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = total_loss(compute_losses(model, batch, terms, row_inputs(batch, model, terms)), terms)
    half.backward()
    assert float(half.detach()) == pytest.approx(float(exact.detach()), rel=2e-2) and half.dtype == torch.float32


def test_dropout_of_a_key_that_stands_for_padding_keeps_the_mean() -> None:
    torch.manual_seed(0)
    sequences = build_sequences(np.arange(1, 9), [0, 3, 8], max_len=9)
    tokens = RightPadded([sequences], masked=True, window=9)
    attention, x = Attention(4, 2, dropout=0.4), torch.randn(1, len(tokens), 4)

    def mixed() -> torch.Tensor:
        with torch.no_grad():
            return attention(x, x, tokens, causal=False, pseudo_key=(None, 9))[0, tokens.place]

    expected = attention.eval() and mixed()
    attention.train()
    draws = torch.stack([mixed() for _ in range(1500)])
    error = draws.std(dim=0) / 1500**0.5
    assert ((draws.mean(dim=0) - expected).abs() < 5 * error).all() and (error > 0).all()
    shares = dense._shares(tokens, (2, 2, 8), 1, 0.4)
    assert ((shares[..., :-1] == 0) | ((shares[..., :-1] - 1 / 0.6).abs() < 1e-4)).all()


def test_rows_take_few_widths_and_one_copy_has_all_tensors() -> None:
    assert {right_padded.row_width(n) for n in range(1, 65)} == set(range(8, 65, 8))
    assert [right_padded.row_width(n) for n in (0, 65, 97, 200)] == [0, 96, 128, 224]
    tokens = RightPadded([build_sequences([5, 6, 7], [0, 2, 2, 3], max_len=4)], masked=True, decay=0.5).with_items()
    there = Packed(tokens, torch.device("cpu")).sent()
    assert there is not tokens and there.place is tokens.place
    for name in ("positions_T", "last_S", "empty_S", "keys_SW", "decays_WW", "items_T"):
        ours, theirs = getattr(tokens, name), getattr(there, name)
        assert torch.equal(ours, theirs) and ours.data_ptr() != theirs.data_ptr()
    assert all(torch.equal(a, b) for a, b in zip(there.unique(), tokens.unique(), strict=True))
    assert send(tokens, "cpu") is tokens


@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no CUDA device")
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("preset", PRESETS)
def test_a_step_on_a_gpu_waits_for_nothing(preset: str, precision: str, tiny_folder: Path, tmp_path: Path) -> None:
    data = llm_esr.Dataset.open(tiny_folder)
    config = load_config(preset, [*SETTINGS, f"train.precision={precision}"])
    terms = terms_of(data, config, "cuda")
    model = build_model(data, config)[0].to("cuda").train()
    trainer = Trainer(model, build_loader(data, config), config, tmp_path, terms=terms)
    assert trainer.by_rows
    batches = trainer.batches(terms)
    for number in range(3):
        batch, packed = next(batches)
        torch.cuda.set_sync_debug_mode("error" if number else "default")  # the first step makes the optimizer's state
        try:
            trainer._train_step(batch, terms, packed)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    batches.close()
    assert torch.isfinite(trainer._sums).all()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no CUDA device")
@pytest.mark.parametrize("preset", PRESETS)
def test_losses_on_a_gpu_are_those_on_the_cpu(preset: str, tiny_folder: Path) -> None:
    data, config = llm_esr.Dataset.open(tiny_folder), load_config(preset, SETTINGS)
    batch, found = next(iter(build_loader(data, config))), []
    for device in ("cpu", "cuda"):
        model, terms = build_model(data, config)[0].to(device).train(), terms_of(data, config, device)
        losses = compute_losses(model, batch, terms, send(row_inputs(batch, model, terms), device))
        found.append({name: float(loss.detach()) for name, loss in losses.items()})
    assert found[1] == pytest.approx(found[0], rel=1e-4)


@pytest.mark.parametrize("preset", ["sasrec", "llm-esr"])
def test_items_that_nobody_met_are_left_out_of_rows_too(cold_folder: Path, preset: str) -> None:
    assert_close(*both_ways(cold_folder, preset, dtype=torch.float64), 1e-10)
