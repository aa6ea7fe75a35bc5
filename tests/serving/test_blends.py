"""Blends: weights by validation, stored with the model, in what it recommends and in its figures."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from llm_esr.config import load_config
from llm_esr.config.parts import BLENDABLE
from llm_esr.evaluation import evaluate
from llm_esr.evaluation.blending import tune_blend
from llm_esr.files import read_json, write_json
from llm_esr.scoring.blend import BLENDED, Blend
from llm_esr.serving import Recommender
from llm_esr.serving.blends import read_blend
from llm_esr.training import train

SMALL = ["model.width=8", "model.heads=1", "model.max_len=12", "train.epochs=1"]
ALL = f"blend.scorers=[{','.join(BLENDABLE)}]"


@pytest.fixture(scope="module")
def blended(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("blend") / "m"
    train(tiny_folder, config=load_config("sasrec", [*SMALL, ALL]), out=folder, progress=False)
    return folder


def test_every_scorer_of_the_setting_can_be_built() -> None:
    assert tuple(BLENDED) == BLENDABLE


def test_a_blend_is_log_probabilities_and_weighted_scores(blended: Path, tiny_folder: Path) -> None:
    model = Recommender.load(blended, data=tiny_folder, device="cpu")
    assert model.blend
    items, offsets = model.data.histories(np.arange(6), "test")
    expected = torch.log_softmax(model.without_blend().scores(items, offsets), dim=1)
    for name, weight in model.blend.items():
        expected = expected + weight * BLENDED[name].build(model.data).scores(items, offsets)
    torch.testing.assert_close(model.scores(items, offsets), expected)
    alone = Recommender.load(blended, data=tiny_folder, device="cpu", blend=False)
    assert alone.blend is None


def test_the_weights_are_better_on_validation_and_the_same_every_time(blended: Path, tiny_folder: Path) -> None:
    model = Recommender.load(blended, data=tiny_folder, device="cpu")
    first = tune_blend(model.network, model.data, BLENDABLE)
    assert first is not None and first == tune_blend(model.network, model.data, BLENDABLE)
    assert first.weights == read_blend(blended)
    value = {
        name: evaluate(scorer, model.data, part="validation").value(model=name)
        for name, scorer in (("alone", _named(model.without_blend(), "alone")), ("blend", _named(model, "blend")))
    }
    assert value["blend"] >= value["alone"]
    assert value["alone"] == pytest.approx(first.alone, abs=1e-6)
    assert value["blend"] == pytest.approx(first.blended, abs=1e-3)


def _named(model: Recommender, name: str) -> Recommender:
    model.name = name
    return model


def test_neighbours_alone_make_a_blend(blended: Path, tiny_folder: Path) -> None:
    data = Recommender.load(blended, data=tiny_folder).data
    tuned = tune_blend(None, data, ["transitions", "co-occurrence"])
    assert tuned is not None and tuned.weights["transitions"] == 1.0
    blend = Blend(None, data, tuned.weights, "neighbours")
    assert evaluate(blend, data).value(model="neighbours") > 0
    with pytest.raises(ValueError, match="neither a network nor a scorer"):
        Blend(None, data, {"transitions": 0.0}, "nothing")
    with pytest.raises(ValueError, match="no scorer 'x' can be blended in"):
        Blend(None, data, {"x": 1.0}, "nothing")


def test_figures_have_the_blend_its_weights_and_the_network_alone(blended: Path, tiny_folder: Path) -> None:
    model = Recommender.load(blended, data=tiny_folder)
    report = model.evaluate(part="validation", resamples=0)
    assert {row["model"] for row in report.rows} == {"popularity", model.name, f"{model.name}, no blend"}
    notes = {row["metric"]: row["value"] for row in report.rows if row["k"] is None and row["model"] == model.name}
    assert notes["tuned_on"] == 1
    assert {name: notes[f"weight {name}"] for name in model.blend or {}} == model.blend


def test_a_model_without_the_setting_loses_its_blend(blended: Path, tiny_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "m"
    shutil.copytree(blended, folder)
    model = train(tiny_folder, config=load_config("sasrec", SMALL), out=folder, progress=False)
    assert model.blend is None and not (folder / "blend.json").exists()


@pytest.mark.parametrize("weights", ['{"x": 1}', "[1]", '{"text": "a"}', "null"])
def test_a_damaged_blend_is_refused(blended: Path, tmp_path: Path, weights: str) -> None:
    folder = tmp_path / "m"
    shutil.copytree(blended, folder)
    write_json(folder / "blend.json", read_json(folder / "blend.json") | {"weights": json.loads(weights)})
    with pytest.raises(ValueError, match=r"blend\.json: expected a number for each of"):
        read_blend(folder)
