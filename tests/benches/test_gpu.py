"""`benches/gpu.py` ends cleanly without a GPU, and its parts can be tried on the CPU."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import gpu
import pytest
import torch

import llm_esr


def test_without_a_gpu_it_says_so_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    gpu.main(["--out", str(tmp_path / "out")])
    assert "torch finds no GPU here" in capsys.readouterr().out and not (tmp_path / "out").exists()


def test_the_script_can_be_tried_on_the_cpu(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def step(who: str, precision: str, given: argparse.Namespace, left: float) -> dict[str, float]:
        if who == "ours-paper":
            raise RuntimeError("no memory")
        return {"ms": 30.0 if who == "authors" else 2.0, "peak_gb": 0.5}

    monkeypatch.setattr(gpu, "one_step", step)  # a process of its own each
    device = ["--device", "cpu", "--steps", "1", "--epochs", "1"]
    gpu.main([*device, "--data", str(tiny_folder), "--out", str(tmp_path), "--ndcg", "0.0001"])
    found, page = json.loads((tmp_path / "gpu.json").read_text()), (tmp_path / "gpu.md").read_text()
    assert "| ours-corrected | float32 | 2.00 | 15.0 | 0.50 |" in page and page in capsys.readouterr().out
    assert found["left_out"] == [f"step ours-paper {p}: no memory" for p in ("float32", "bfloat16")]
    assert len(found["profile"]) == 10 and all(event["ms_a_step"] >= 0 for event in found["profile"])
    assert found["counted"]["launches"] > 50 and "A step: " in page
    training = found["training"]
    assert len(training["epochs"]) == 1 and 0 <= training["waiting_percent"] <= 100
    assert training["best_ndcg"] == training["epochs"][0]["ndcg"]


def test_a_training_that_is_watched_ends_at_the_wanted_value(tiny_folder: Path, tmp_path: Path) -> None:
    given = argparse.Namespace(device="cpu", epochs=5)
    trainer = gpu.trainer_of(llm_esr.Dataset.open(tiny_folder), given, tmp_path, "model.width=8")
    watch = gpu.Watch(float("inf"), ndcg=0.0)
    trainer.callbacks.append(watch)
    trainer.fit(resume=False)
    assert len(watch.epochs) == 1
