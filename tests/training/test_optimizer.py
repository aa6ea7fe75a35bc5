"""Lazy updates of a large table: Adam and averaged weights over the rows that a step touches."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from interruption import StopAt
from safetensors.torch import load_file
from torch import Tensor, nn

import llm_esr
from llm_esr.config import Config, load_config
from llm_esr.files.checkpoint import load_optimizer, optimizer_tensors
from llm_esr.training import TermData, Trainer, build_loader, build_model, build_terms, optimizer, train
from llm_esr.training.averaging import AveragedModel
from llm_esr.training.optimizer import LazyAdamW, clip_gradients, touched_rows

ROWS, WIDTH = 50, 8
SMALL = ["model.width=8", "model.max_len=12", "train.batch_size=9", "negatives.count=16", "distill.similar_users=3",
         "train.epochs=3", "runtime.threads=1", "index.similar_users=10", "train.averaging=0.9"]  # fmt: skip


@pytest.fixture(autouse=True)
def _as_in_training() -> Iterator[None]:
    torch.manual_seed(0)
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


class Items(nn.Module):
    """A table and a layer over it."""

    def __init__(self, sparse: bool, padding_idx: int | None = None) -> None:
        super().__init__()
        self.table = nn.Embedding(ROWS, WIDTH, sparse=sparse, padding_idx=padding_idx)
        self.layer = nn.Linear(WIDTH, WIDTH)

    def backward(self, items: Tensor) -> None:
        self.zero_grad()
        (self.layer(self.table(items)) ** 3).sum().backward()


def lazy_and_dense(weight_decay: float = 0.0) -> tuple[Items, LazyAdamW, Items, torch.optim.AdamW]:
    lazy, dense = Items(True), Items(False)
    dense.load_state_dict(lazy.state_dict())
    settings = {"lr": 0.05, "weight_decay": weight_decay, "fused": True}
    first = LazyAdamW(lazy.parameters(), lazy.table.weight, **settings)  # type: ignore[arg-type]
    return lazy, first, dense, torch.optim.AdamW(dense.parameters(), **settings)  # type: ignore[arg-type]


def some_items() -> Tensor:
    return torch.randint(0, ROWS, (12,))


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_lazy_adam_is_dense_adam_where_every_row_is_touched_in_every_step(weight_decay: float) -> None:
    lazy, first, dense, second = lazy_and_dense(weight_decay)
    for _ in range(20):
        items = torch.randperm(ROWS)
        for model, adam in ((lazy, first), (dense, second)):
            model.backward(items)
            clip_gradients(model.parameters(), 5.0)
            adam.step()
        assert torch.equal(lazy.table.weight, dense.table.weight)
        assert torch.equal(lazy.layer.weight, dense.layer.weight)


def test_lazy_adam_is_torchs_sparse_adam() -> None:
    table, other = (nn.Embedding(ROWS, WIDTH, sparse=True) for _ in range(2))
    other.load_state_dict(table.state_dict())
    ours = LazyAdamW(table.parameters(), table.weight, lr=0.05, weight_decay=0.0, fused=True)
    # Torch adds epsilon at another place, before the bias is corrected; a tiny one shows the rest to be the same.
    ours.param_groups[0]["eps"] = 1e-20
    theirs = torch.optim.SparseAdam(other.parameters(), lr=0.05, eps=1e-20)
    for _ in range(50):
        items, slope = some_items(), torch.randn(12, WIDTH)
        for embedding, adam in ((table, ours), (other, theirs)):
            adam.zero_grad()
            (embedding(items) * slope).sum().backward()
            adam.step()
        assert torch.allclose(table.weight, other.weight, atol=1e-5)


def test_only_touched_rows_of_weights_moments_and_averages_change() -> None:
    model = Items(True, padding_idx=0)
    adam = LazyAdamW(model.parameters(), model.table.weight, lr=0.05, weight_decay=0.1, fused=True)
    averaged = AveragedModel(model, 0.9, model.table.weight)

    def step(items: Tensor) -> None:
        model.backward(items)
        clip_gradients(model.parameters(), 5.0)
        averaged.before_step()
        adam.step()
        averaged.update()

    step(some_items())
    state = adam.state[model.table.weight]
    # As it lies in memory: reading `averaged.model` would bring all rows up to date.
    average = averaged.tensors()["averaged/table.weight"]
    watched = [
        model.table.weight.detach(),
        state["exp_avg"],
        state["exp_avg_sq"],
        average,
        averaged.tensors()["averaging/seen"],
    ]
    before = [tensor.clone() for tensor in watched]
    addresses = [tensor.data_ptr() for tensor in watched]
    step(torch.tensor([0, 7, 7, 21]))
    rows = touched_rows(model.table.weight)
    assert rows is not None and rows.tolist() == [7, 21]  # padding has no gradient
    for tensor, old, address in zip(watched, before, addresses, strict=True):
        changed = (tensor != old).reshape(ROWS, -1).any(1).nonzero().flatten().tolist()
        assert set(changed) <= {7, 21} and tensor.data_ptr() == address
    assert (watched[0] != before[0]).any(1).nonzero().flatten().tolist() == [7, 21]


def test_a_step_without_any_row_changes_no_row() -> None:
    model = Items(True, padding_idx=0)
    adam = LazyAdamW(model.parameters(), model.table.weight, lr=0.05, weight_decay=0.1, fused=True)
    before = model.table.weight.detach().clone()
    model.backward(torch.tensor([0, 0]))
    assert float(clip_gradients(model.parameters(), 5.0)) > 0
    adam.step()
    assert torch.equal(model.table.weight, before)


def test_clipping_counts_a_row_met_twice_by_the_sum_of_its_gradients() -> None:
    lazy, _, dense, _ = lazy_and_dense()
    for model in (lazy, dense):
        model.backward(torch.tensor([3, 3, 3, 9]))
    norms = [clip_gradients(model.parameters(), 0.1) for model in (lazy, dense)]
    assert torch.allclose(norms[0], norms[1]) and norms[0] > 0.1
    assert lazy.table.weight.grad is not None and dense.table.weight.grad is not None
    assert torch.allclose(lazy.table.weight.grad.to_dense(), dense.table.weight.grad)
    assert torch.allclose(clip_gradients(lazy.parameters(), 1.0), torch.tensor(0.1))


def test_dense_gradients_are_clipped_to_the_same_bits_as_torch_does() -> None:
    one, other = Items(False), Items(False)
    other.load_state_dict(one.state_dict())
    for model in (one, other):
        model.backward(torch.arange(9))
    clip_gradients(one.parameters(), 0.1)
    torch.nn.utils.clip_grad_norm_(other.parameters(), 0.1)
    assert all(torch.equal(p.grad, q.grad) for p, q in zip(one.parameters(), other.parameters(), strict=True))  # type: ignore[arg-type]


def test_lazily_averaged_weights_are_those_averaged_in_every_step() -> None:
    model = Items(True)
    adam = LazyAdamW(model.parameters(), model.table.weight, lr=0.05, weight_decay=0.0, fused=True)
    lazy, dense = AveragedModel(model, 0.99, model.table.weight), AveragedModel(model, 0.99)
    for step in range(300):
        model.backward(some_items())
        lazy.before_step()
        # A step that the float16 scaler leaves out is averaged all the same.
        if step % 11:
            adam.step()
        lazy.update()
        dense.update()
        if step % 50 == 7:
            for name, value in lazy.model.state_dict().items():
                assert torch.allclose(value, dense.model.state_dict()[name], rtol=1e-6, atol=1e-6), name


def test_state_put_back_goes_on_to_the_same_bits() -> None:
    def steps(model: Items, adam: LazyAdamW, averaged: AveragedModel, batches: list[Tensor]) -> None:
        for items in batches:
            model.backward(items)
            averaged.before_step()
            adam.step()
            averaged.update()

    def fresh() -> tuple[Items, LazyAdamW, AveragedModel]:
        model = Items(True)
        adam = LazyAdamW(model.parameters(), model.table.weight, lr=0.05, weight_decay=0.1, fused=True)
        return model, adam, AveragedModel(model, 0.9, model.table.weight)

    batches = [some_items() for _ in range(12)]
    model, adam, averaged = fresh()
    steps(model, adam, averaged, batches[:7])
    other, second, mean = fresh()
    other.load_state_dict(model.state_dict())
    load_optimizer(second, {k: v.clone() for k, v in optimizer_tensors(adam).items()})
    mean.load({k: v.clone() for k, v in averaged.tensors().items()}, averaged.updates)
    steps(model, adam, averaged, batches[7:])
    steps(other, second, mean, batches[7:])
    for one, two in ((model, other), (averaged.model, mean.model)):
        assert all(torch.equal(p, q) for p, q in zip(one.parameters(), two.parameters(), strict=True))


def small(*more: str) -> Config:
    return load_config("dual-view", [*SMALL, *more])


def trainer_of(data: llm_esr.Dataset, config: Config, folder: Path) -> Trainer:
    model, loader = build_model(data, config)[0].train(), build_loader(data, config)
    return Trainer(model, loader, config, folder, terms=build_terms(config, TermData(model.device, loader, data)))


@pytest.mark.parametrize("clip", ["5", "null"])
def test_a_lazy_training_resumes_to_the_same_bits(clip: str, tiny_folder: Path, tmp_path: Path) -> None:
    config = small("train.table_updates=lazy", f"train.clip_norm={clip}")
    train(tiny_folder, config=config, out=tmp_path / "whole", progress=False)
    for stop in (9, 14):
        with pytest.raises(KeyboardInterrupt):
            train(tiny_folder, config=config, out=tmp_path / "cut", callbacks=[StopAt(stop)], progress=False)
    train(tiny_folder, config=config, out=tmp_path / "cut", progress=False)
    whole, cut = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "cut"))
    assert all(torch.equal(tensor, cut[name]) for name, tensor in whole.items())


def test_a_lazy_first_step_is_the_dense_one(tiny_folder: Path, tmp_path: Path) -> None:
    """Before there are moments the two algorithms agree."""
    data = llm_esr.Dataset.open(tiny_folder)
    tables = []
    for kind in ("dense", "lazy"):
        config = small(f"train.table_updates={kind}")
        trainer = trainer_of(data, config, tmp_path)
        trainer._train_step(next(iter(trainer.loader)), trainer.terms)
        tables.append(trainer._evaluated.item_matrix().detach())
    assert torch.allclose(tables[0], tables[1], rtol=0, atol=1e-6)


@pytest.mark.parametrize("clip", ["5", "null"])
def test_float16_trains_lazily_and_leaves_out_steps_that_overflow(clip: str, tiny_folder: Path, tmp_path: Path) -> None:
    data = llm_esr.Dataset.open(tiny_folder)
    config = small("train.table_updates=lazy", "train.precision=float16", f"train.clip_norm={clip}")
    trainer = trainer_of(data, config, tmp_path)
    batches = iter(trainer.loader)
    table = trainer.model.views["collaborative"].table.weight
    trainer.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**100)
    before = [p.detach().clone() for p in trainer.model.parameters()]
    trainer._train_step(next(batches), trainer.terms[:1])
    assert all(torch.equal(p, old) for p, old in zip(trainer.model.parameters(), before, strict=True))
    trainer.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**4)
    trainer._train_step(next(batches), trainer.terms[:1])
    rows = touched_rows(table)
    assert rows is not None
    changed = (table != before[[id(p) for p in trainer.model.parameters()].index(id(table))]).any(1)
    assert 0 < int(changed.sum()) <= len(rows) and changed[rows].sum() == changed.sum()


def test_dense_updates_of_a_large_table_name_the_setting(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(optimizer, "LARGE", 100)
    data, config = llm_esr.Dataset.open(tiny_folder), small()
    with pytest.warns(UserWarning, match=r"train\.table_updates lazy"):
        trainer_of(data, config, tmp_path)
