"""A training that starts from a trained model."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import llm_esr
from llm_esr.config import Config, load_config
from llm_esr.files import read_json, write_json
from llm_esr.training import build_model, train
from llm_esr.training.start_from import open_start, take_weights

SMALL = ["model.width=8", "model.max_len=12", "train.batch_size=9", "negatives.count=16", "train.epochs=1"]


def small(preset: str, *overrides: str) -> Config:
    return load_config(preset, [*SMALL, *overrides])


@pytest.fixture(scope="module")
def sasrec(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("start") / "sasrec"
    train(tiny_folder, config=small("sasrec"), out=folder, progress=False)
    return folder


def test_the_weights_that_fit_are_taken_and_the_others_are_drawn(tiny_folder: Path, sasrec: Path) -> None:
    data = llm_esr.Dataset.open(tiny_folder)
    config = small("llm-esr", f"train.start_from={sasrec}", "distill.similar_users=3", "index.similar_users=10")
    model, start = build_model(data, config)[0], open_start(data, config)
    drawn = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert start is not None
    taken = take_weights(model, start)
    trained = load_file(sasrec / "model.safetensors")
    assert "views.collaborative.table.weight" in taken and set(taken) == set(trained)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, trained[name] if name in trained else drawn[name]), name


def test_a_training_goes_on_from_the_weights(tiny_folder: Path, sasrec: Path, tmp_path: Path) -> None:
    tiny = "train.learning_rate=1e-12"
    found = train(tiny_folder, config=small("sasrec", f"train.start_from={sasrec}", tiny), out=tmp_path, progress=False)
    before = load_file(sasrec / "model.safetensors")
    for name, tensor in found.model.state_dict().items():
        assert torch.allclose(tensor, before[name], atol=1e-6), name


def test_other_weights_to_start_from_make_another_model(tiny_folder: Path, sasrec: Path, tmp_path: Path) -> None:
    start = tmp_path / "start"
    shutil.copytree(sasrec, start)
    config = small("sasrec", f"train.start_from={start}")
    train(tiny_folder, config=config, out=tmp_path / "model", progress=False)
    train(tiny_folder, config=small("sasrec", "train.seed=7"), out=start, overwrite=True, progress=False)
    with pytest.raises(ValueError, match=r"start_from .*the data changed"):
        train(tiny_folder, config=config, out=tmp_path / "model", progress=False)


def test_a_model_of_other_data_is_refused(tiny_folder: Path, sasrec: Path, tmp_path: Path) -> None:
    interactions, items = llm_esr.simulate(seed=3, n_users=60, n_items=120)
    other = llm_esr.prepare(interactions, items=items, out=tmp_path / "other")
    with pytest.raises(ValueError, match=r"train\.start_from: .* was trained on other data"):
        train(other, config=small("sasrec", f"train.start_from={sasrec}"), out=tmp_path / "m", progress=False)
    assert not (tmp_path / "m").exists()


def test_a_model_is_not_replaced_by_what_starts_from_it(tiny_folder: Path, sasrec: Path) -> None:
    before = {path.name: path.read_bytes() for path in sasrec.iterdir() if path.is_file()}
    config = small("sasrec", f"train.start_from={sasrec}")
    with pytest.raises(ValueError, match=r"train\.start_from: .* is where this training goes; .*another name"):
        train(tiny_folder, config=config, out=sasrec, overwrite=True, progress=False)
    assert {path.name: path.read_bytes() for path in sasrec.iterdir() if path.is_file()} == before


def test_an_unfinished_start_and_one_without_weights_are_refused(
    tiny_folder: Path, sasrec: Path, tmp_path: Path
) -> None:
    start = tmp_path / "start"
    shutil.copytree(sasrec, start)
    config = small("sasrec", f"train.start_from={start}")
    (start / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"train\.start_from: .*model\.safetensors is gone"):
        train(tiny_folder, config=config, out=tmp_path / "m", progress=False)
    write_json(start / "model.json", read_json(start / "model.json") | {"finished": False})
    with pytest.raises(ValueError, match=r"train\.start_from: the training in .* is not finished"):
        train(tiny_folder, config=config, out=tmp_path / "m", progress=False)
    assert not (tmp_path / "m").exists()


def test_a_folder_without_a_model_and_a_model_that_does_not_fit_are_refused(
    tiny_folder: Path, sasrec: Path, tmp_path: Path
) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        train(tiny_folder, config=small("sasrec", "train.start_from=nowhere"), out=tmp_path / "m", progress=False)
    narrow = small("gru4rec", f"train.start_from={sasrec}", "model.width=4")
    with pytest.raises(ValueError, match=r"no weight of .* fits this model"):
        train(tiny_folder, config=narrow, out=tmp_path / "m", progress=False)
