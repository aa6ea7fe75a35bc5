"""What a training is made from: what changes a result, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

import llm_esr
from llm_esr.config import Config, load_config
from llm_esr.files import read_json, write_json
from llm_esr.files.checkpoint import load_newest, save_checkpoint
from llm_esr.training import Callback, EpochReport, Trainer, is_finished, train
from llm_esr.training.freshness import made_from_of
from llm_esr.training.loss_choice import settle_loss

HERE = Path("models/any/42")
CHANGED = {"runtime": ["device=cpu", "threads=3", "loader_threads=2", "keep_memory=false", "tensorboard=true"],
           "checkpoint": ["every_steps=7"], "blend": ["scorers=[transitions]"], "evaluate": ["k=[1]"]}  # fmt: skip


def test_where_and_how_fast_a_training_runs_makes_no_other_model(tiny_folder: Path) -> None:
    data = llm_esr.Dataset.open(tiny_folder)
    usual = made_from_of(data, load_config("llm-esr"), HERE)
    for section, values in CHANGED.items():
        for value in values:
            assert made_from_of(data, load_config("llm-esr", [f"{section}.{value}"]), HERE) == usual, (section, value)


def test_every_setting_of_a_training_is_part_of_the_model(tiny_folder: Path) -> None:
    data = llm_esr.Dataset.open(tiny_folder)
    config = load_config("llm-esr")
    made = made_from_of(data, config, HERE)
    for section in ("model", "negatives", "smoothing", "augmentation", "distill", "train"):
        assert made[section] == getattr(settle_loss(config, data.n_items), section).model_dump(mode="json"), section
    others = {"data", "embed", "index", "checkpoint", "runtime", "blend", "evaluate"}
    assert set(Config.model_fields) == others | (set(Config.model_fields) & set(made) - {"data"})


def test_a_setting_that_came_later_outdates_no_model(tiny_folder: Path, tmp_path: Path) -> None:
    data = llm_esr.Dataset.open(tiny_folder)
    config = load_config("sasrec", ["model.width=8", "train.epochs=1", "train.batch_size=40"])
    train(data, config=config, out=tmp_path / "m", progress=False)
    record = read_json(tmp_path / "m" / "model.json")
    # As a version wrote it that knew neither the section nor the field.
    del record["made_from"]["augmentation"], record["made_from"]["model"]["text_profile_decay"]
    write_json(tmp_path / "m" / "model.json", record | {"key": "of that version"})
    assert is_finished(data, config, tmp_path / "m")
    other = load_config("sasrec", ["model.width=8", "train.epochs=1", "train.batch_size=40", "augmentation.crop=0.5"])
    with pytest.raises(ValueError, match=r"made with other settings: augmentation"):
        is_finished(data, other, tmp_path / "m")


def test_a_training_that_an_earlier_version_left_unfinished_goes_on(tiny_folder: Path, tmp_path: Path) -> None:
    config = load_config("sasrec", ["model.width=8", "train.epochs=2", "train.batch_size=40"])
    train(tiny_folder, config=config, out=tmp_path / "whole", progress=False)

    class Stop(Callback):
        def on_epoch_end(self, trainer: Trainer, report: EpochReport) -> None:
            trainer.signals.interrupted = report.epoch == 0

    with pytest.raises(KeyboardInterrupt):
        train(tiny_folder, config=config, out=tmp_path / "m", callbacks=[Stop()], progress=False)
    found = load_newest(tmp_path / "m" / "checkpoint")
    assert found is not None
    tensors, state = found
    record = read_json(tmp_path / "m" / "model.json")
    del record["made_from"]["augmentation"]
    write_json(tmp_path / "m" / "model.json", record | {"key": "of that version"})
    save_checkpoint(tmp_path / "m" / "checkpoint", state["step"], tensors, state | {"key": "of that version"})
    epochs: list[int] = []

    class Note(Callback):
        def on_epoch_end(self, trainer: Trainer, report: EpochReport) -> None:
            epochs.append(report.epoch)

    train(tiny_folder, config=config, out=tmp_path / "m", callbacks=[Note()], progress=False)
    assert epochs == [1]
    same = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "m")]
    assert same[0] == same[1]
