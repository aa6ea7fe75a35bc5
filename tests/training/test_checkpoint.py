"""Checkpoints hold everything and are either whole or absent."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from llm_esr.files import FORMAT
from llm_esr.files.checkpoint import (
    load_newest,
    load_optimizer,
    load_random,
    optimizer_tensors,
    random_tensors,
    save_checkpoint,
)
from llm_esr.training.averaging import AveragedModel
from llm_esr.training.metrics_log import MetricsLog


def test_the_newest_two_are_kept_and_the_newest_is_read(tmp_path: Path) -> None:
    for step in (9, 10, 11):
        save_checkpoint(tmp_path, step, {"x": torch.tensor([step])}, {"step": step})
    assert sorted(p.name for p in tmp_path.iterdir()) == ["10.safetensors", "11.safetensors"]
    tensors, state = load_newest(tmp_path) or ({}, {})
    assert tensors["x"].tolist() == [11] and state["step"] == 11


def test_a_damaged_file_gives_way_to_the_one_before_it(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, 1, {"x": torch.ones(3)}, {"step": 1})
    save_checkpoint(tmp_path, 2, {"x": torch.ones(3)}, {"step": 2})
    (tmp_path / "2.safetensors").write_bytes(b"\x00" * 20)
    with pytest.warns(UserWarning, match="is damaged"):
        found = load_newest(tmp_path)
    assert found is not None and found[1]["step"] == 1


def test_where_all_are_damaged_nothing_is_trained_anew_without_a_word(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path, 1, {"x": torch.ones(3)}, {"step": 1})
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1  # a number: the format itself would not notice
    path.write_bytes(raw)
    with pytest.raises(ValueError, match=r"1\.safetensors is damaged \(it differs from the checksum.*delete"):
        load_newest(tmp_path)


def test_a_checkpoint_of_before_without_a_checksum_is_read(tmp_path: Path) -> None:
    state = json.dumps({"format": FORMAT, "step": 1})
    save_file({"x": torch.ones(3)}, tmp_path / "1.safetensors", {"state": state})
    assert (load_newest(tmp_path) or ({}, {}))[1]["step"] == 1
    save_file({"x": torch.ones(3)}, tmp_path / "2.safetensors", {"state": state, "chicksum": "0" * 64})
    with pytest.warns(UserWarning, match=r"2\.safetensors is damaged"):
        assert load_newest(tmp_path) is not None


def test_no_checkpoint_is_none(tmp_path: Path) -> None:
    assert load_newest(tmp_path / "nowhere") is None


def test_an_optimizer_goes_on_as_if_never_stopped() -> None:
    def steps(model: torch.nn.Module, optimizer: torch.optim.Optimizer, n: int) -> None:
        for k in range(n):
            optimizer.zero_grad()
            (model(torch.full((1, 3), float(k + 1))) ** 2).sum().backward()
            optimizer.step()

    torch.manual_seed(0)
    one = torch.nn.Linear(3, 2)
    first = torch.optim.AdamW(one.parameters(), lr=0.1)
    steps(one, first, 3)
    other = torch.nn.Linear(3, 2)
    other.load_state_dict(one.state_dict())
    second = torch.optim.AdamW(other.parameters(), lr=0.1)
    load_optimizer(second, {k: v.clone() for k, v in optimizer_tensors(first).items()})
    steps(one, first, 3)
    steps(other, second, 3)
    assert torch.equal(one.weight, other.weight)


def test_the_random_state_comes_back() -> None:
    device = torch.device("cpu")
    state = random_tensors(device)
    drawn = torch.rand(5)
    load_random(device, state)
    assert torch.equal(torch.rand(5), drawn)


def test_the_log_is_cut_back(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path / "metrics.jsonl")
    log.append(epoch=0)
    length = log.length
    log.append(epoch=1)
    log.cut(length)
    assert log.path.read_text() == '{"epoch": 0}\n'


def test_averaged_weights_follow_the_formula_and_share_frozen_tables() -> None:
    model = torch.nn.Linear(1, 1, bias=False)
    model.register_buffer("frozen", torch.ones(3))
    averaged = AveragedModel(model, 0.5)
    expected = model.weight.item()
    for update in range(1, 9):
        with torch.no_grad():
            model.weight += 1
        keep = min(0.5, (1 + update) / (10 + update))
        expected = keep * expected + (1 - keep) * model.weight.item()
        averaged.update()
    assert averaged.model.weight.item() == pytest.approx(expected, rel=1e-5)
    assert averaged.model.frozen is model.frozen
