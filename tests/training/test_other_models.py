"""A training that starts from a trained model, given by its folder or by a preset that is trained first."""

from __future__ import annotations

import shutil
from pathlib import Path

import polars as pl
import pytest
import torch
from safetensors.torch import load_file

import llm_esr
from llm_esr.config import Config, load_config
from llm_esr.files import read_json, write_json
from llm_esr.training import build_model, train
from llm_esr.training.other_models import open_start, take_weights

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
    model, start = build_model(data, config)[0], open_start(data, config, sasrec)
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


def test_a_model_of_another_shop_is_refused(
    tiny_tables: tuple[pl.DataFrame, pl.DataFrame], sasrec: Path, tmp_path: Path
) -> None:
    interactions, items = (table.with_columns(pl.col("item_id") + "x") for table in tiny_tables)
    other = llm_esr.prepare(interactions[9:], items=items, out=tmp_path / "other")
    with pytest.raises(ValueError, match=r"train\.start_from: .* was trained on other data, and no item of"):
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


FROM_SASREC = "train.start_from=preset:sasrec"


def test_a_preset_is_trained_first_with_the_shapes_and_the_seed_of_what_starts_from_it(
    tiny_folder: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "models" / "second" / "7"
    config = small("sasrec", FROM_SASREC, "train.seed=7", "model.blocks=1")
    train(tiny_folder, config=config, out=folder, name="second", progress=False)
    first = tmp_path / "models" / "sasrec" / "7"
    record = read_json(first / "model.json")
    assert record["finished"] and record["seed"] == 7 and record["name"] == "sasrec"
    assert record["made_from"]["model"] == read_json(folder / "model.json")["made_from"]["model"]
    assert record["made_from"]["train"]["start_from"] is None
    before = (first / "model.safetensors").stat().st_mtime_ns
    train(tiny_folder, config=config, out=folder, name="second", progress=False)
    assert (first / "model.safetensors").stat().st_mtime_ns == before


def test_outside_a_run_the_first_model_lies_beside_the_second(tiny_folder: Path, tmp_path: Path) -> None:
    train(tiny_folder, config=small("sasrec", FROM_SASREC), out=tmp_path / "mine", progress=False)
    assert read_json(tmp_path / "mine-sasrec" / "model.json")["finished"]


def test_a_preset_that_starts_from_itself_is_refused(tiny_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "models" / "sasrec" / "42"
    with pytest.raises(ValueError, match=r"train\.start_from: .* is where this training goes"):
        train(tiny_folder, config=small("sasrec", FROM_SASREC), out=folder, progress=False)
    assert not folder.exists()


def test_a_run_trains_first_what_others_start_from(tmp_path: Path) -> None:
    second = tmp_path / "second.yaml"
    second.write_text("preset: sasrec\ntrain: {start_from: 'preset:sasrec', learning_rate: 0.0001}\n")
    interactions, items = llm_esr.simulate(seed=3, n_users=60, n_items=120)
    said: list[str] = []
    found = llm_esr.run(
        interactions, items=items, models=[second], out=tmp_path / "run", overrides=SMALL, progress=False,
        say=said.append,
    )  # fmt: skip
    assert [str(model) for model in found.models] == ["sasrec/42", "second/42"]
    assert [line.split()[1] for line in said if line.startswith("train ")] == ["sasrec/42", "second/42"]
    assert str(found.primary) == "second/42"
    said.clear()
    llm_esr.run(models=[second], out=tmp_path / "run", overrides=SMALL, progress=False, say=said.append)
    assert all(line.endswith("fresh") for line in said if line.startswith(("train ", "evaluate ")))


def test_epochs_of_a_run_leave_the_model_that_others_start_from_as_it_was_trained(
    tmp_path: Path, tiny_tables: tuple[pl.DataFrame, pl.DataFrame]
) -> None:
    events, items = tiny_tables
    given = {"items": items, "out": tmp_path / "run", "overrides": SMALL[:-1], "say": print}
    llm_esr.run(events, models=["sasrec"], epochs=2, progress=False, **given)
    start = tmp_path / "run/models/sasrec/42/model.safetensors"
    before = start.read_bytes()
    done = llm_esr.run(events, models=["llmemb"], epochs=1, progress=False, **given)
    assert start.read_bytes() == before and read_json(start.parent / "model.json")["epochs"] == 2
    assert read_json(tmp_path / "run/models/llmemb/42/model.json")["epochs"] == 1
    assert {model.name for model in done.models} == {"sasrec", "llmemb"}
    # Asked for by name, or with another setting, it is refused as ever.
    with pytest.raises(ValueError, match=r"models/sasrec/42 holds a finished model .* train.epochs was 2, is 1"):
        llm_esr.run(events, models=["sasrec", "llmemb"], epochs=1, progress=False, **given)
    given["overrides"] = [*given["overrides"], "model.dropout=0.1"]
    with pytest.raises(ValueError, match=r"models/sasrec/42 holds a finished model .* model.dropout"):
        llm_esr.run(events, models=["llmemb"], epochs=1, progress=False, **given)


def test_settings_that_a_model_does_not_read_make_it_no_other_one(
    tmp_path: Path, tiny_tables: tuple[pl.DataFrame, pl.DataFrame]
) -> None:
    events, items = tiny_tables
    said: list[str] = []

    def run(*models: str, overrides: list[str]) -> list[str]:
        said.clear()
        given = {"items": items, "out": tmp_path / "run", "say": said.append, "progress": False}
        llm_esr.run(events, models=list(models), overrides=[*SMALL, *overrides], **given)
        return [line.removeprefix("train").strip() for line in said if line.startswith("train ")]

    run("sasrec", "melt", overrides=[])
    # An ablation of one method trains that one anew, not what it starts from.
    with pytest.raises(ValueError, match=r"models/melt/42 holds a finished model .* transfer.user_weight was"):
        run("melt", overrides=["transfer.user_weight=0.5"])
    trained = run("llmemb", overrides=["align.weight=0.02", "align.temperature=3.0"])
    assert trained[0] == "sasrec/42 fresh" and trained[1].startswith("llmemb/42 1 epochs")
    # What the anchor is for is not asked of the anchor itself.
    trained = run("llm-esr", overrides=["align.anchor=preset:sasrec", "align.weight=0.02"])
    assert trained[0] == "sasrec/42 fresh" and trained[1].startswith("llm-esr/42 1 epochs")
    assert read_json(tmp_path / "run/models/llm-esr/42/model.json")["made_from"]["align"]["weight"] == 0.02


def test_models_that_start_from_each_other_are_refused(tmp_path: Path) -> None:
    interactions, items = llm_esr.simulate(seed=3, n_users=60, n_items=120)
    with pytest.raises(ValueError, match=r"in a circle: sasrec -> sasrec"):
        llm_esr.run(
            interactions, items=items, models=["sasrec"], out=tmp_path, overrides=[*SMALL, FROM_SASREC], progress=False
        )


@pytest.mark.parametrize("name", ["", "..", "../../secret", "a/b", "/etc", "a\\b"])
def test_a_preset_that_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"train\.start_from: expected a folder, or preset:NAME"):
        load_config("sasrec", [f"train.start_from='preset:{name}'"])
