"""A search space holds ranges and choices of settings, and is refused before anything is trained."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from llm_esr.config import load_config
from llm_esr.config.search_space import Choices, Range, read_space, settled

BASE = load_config("sasrec")
WRONG: dict[str, tuple[Any, tuple[str, ...]]] = {
    "nothing": ({}, ("names no setting",)),
    "a name of elsewhere": ({"train.lr": [0.1]}, ("train.lr", "did you mean 'train.learning_rate'")),
    "a slip": ({"model.widht": [8]}, ("model.widht", "did you mean 'model.width'")),
    "no section": ({"width": [8]}, ("width", "section.key", "did you mean 'model.width'")),
    "a section": ({"model": [8]}, ("section", "model.backbone")),
    "no name": ({5: [8]}, ("names of settings", "5")),
    "data": ({"data.min_item_count": [1, 2]}, ("all trials share one data folder",)),
    "the seed": ({"train.seed": [1, 2]}, ("train.seed", "--seed")),
    "what judges": ({"train.validation_users": [1, 2]}, ("how every trial is judged",)),
    "one value": ({"model.width": 64}, ("list of choices", "range", "64")),
    "no choice": ({"model.width": []}, ("empty",)),
    "twice": ({"model.width": [8, 8]}, ("8 is given twice",)),
    "a choice out of bounds": ({"model.width": [8, 0]}, ("model.width 0", "greater than or equal to 2", "--explain")),
    "low out of bounds": ({"model.dropout": {"low": -0.1, "high": 0.5}}, ("model.dropout -0.1",)),
    "high out of bounds": ({"train.averaging": {"low": 0.5, "high": 1.0}}, ("train.averaging 1.0", "less than 1")),
    "a choice of another kind": ({"model.backbone": ["lstm"]}, ("model.backbone lstm",)),
    "a range of words": ({"model.backbone": {"low": 1, "high": 2}}, ("takes no range",)),
    "a range of switches": ({"negatives.log_q_correction": {"low": 0, "high": 1}}, ("takes no range",)),
    "an unknown word": ({"model.width": {"low": 8, "hihg": 9}}, ("no 'hihg'", "did you mean 'high'")),
    "no high": ({"model.width": {"low": 8}}, ("high", "none")),
    "half an item": ({"model.width": {"low": 8.5, "high": 16}}, ("low", "whole number", "8.5")),
    "no number": ({"train.learning_rate": {"low": math.nan, "high": 1}}, ("low", "nan")),
    "a switch for a number": ({"train.epochs": {"low": True, "high": 3}}, ("low", "True")),
    "upside down": ({"train.epochs": {"low": 5, "high": 3}}, ("low 5 lies above high 3",)),
    "log of 0": ({"train.weight_decay": {"low": 0, "high": 1, "log": True}}, ("above 0",)),
    "log and step": ({"train.epochs": {"low": 1, "high": 9, "log": True, "step": 2}}, ("not both",)),
    "no switch": ({"train.epochs": {"low": 1, "high": 9, "log": "much"}}, ("log is true or false",)),
    "beyond 64 bits": ({"train.epochs": {"low": 1, "high": 10**400}}, ("high lies beyond",)),
    "a float beyond": ({"train.learning_rate": {"low": 1, "high": 1e300}}, ("high lies beyond",)),
    "too many steps": ({"model.dropout": {"low": 0.1, "high": 0.5, "step": 1e-300}}, ("steps; leave step out",)),
    "infinity": ({"train.learning_rate": [float("inf")]}, ("train.learning_rate .inf", "finite")),
    "a step too far": ({"train.epochs": {"low": 1, "high": 3, "step": 5}}, ("step", "5")),
    "never fits": ({"model.width": [8, 9]}, ("model.width 9 fits no other value", "model.heads")),
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_wrong_space_is_refused_in_words(kind: str) -> None:
    space, words = WRONG[kind]
    with pytest.raises(ValueError) as caught:
        read_space(space, BASE)
    assert all(word in str(caught.value) for word in ("space", *words)), caught.value


def test_a_file_is_read_as_settings_are(tmp_path: Path) -> None:
    path = tmp_path / "space.yaml"
    path.write_text(
        "train.learning_rate: {low: 1e-4, high: 1e-2, log: true}\nmodel.width: [64, 128]\n"
        "model.blocks: {low: 1, high: 4, step: 2}\nmodel.dropout: {low: 0, high: .35, step: .1}\n"
        "train.clip_norm: [null, 1.0]\nblend.scorers: [[], [transitions]]\n"
    )
    assert read_space(path, BASE) == {
        "train.learning_rate": Range(1e-4, 1e-2, log=True),
        "model.width": Choices((64, 128)),
        "model.blocks": Range(1, 3, 2, whole=True),
        "model.dropout": Range(0.0, 0.3, 0.1),
        "train.clip_norm": Choices((None, 1.0)),
        "blend.scorers": Choices(([], ["transitions"])),
    }
    path.write_text("model.widht: [8]\n")
    with pytest.raises(ValueError, match=r"space\.yaml: no setting 'model\.widht'"):
        read_space(path, BASE)
    with pytest.raises(FileNotFoundError, match=r"none\.yaml does not exist; expected a YAML file"):
        read_space(tmp_path / "none.yaml", BASE)


def test_a_choice_that_fits_some_of_the_others_stays() -> None:
    space = {"model.width": [8, 9], "model.heads": [2, 3]}
    assert read_space(space, BASE)["model.width"] == Choices((8, 9))
    many = {name: [0.1, 0.2, 0.3, 0.4] for name in ("model.dropout", "train.view_loss", "distill.temperature")}
    assert len(read_space(space | many | {"train.epochs": [1, 2, 3, 4]}, BASE)) == 6


def test_settings_are_laid_over_the_base() -> None:
    config = settled(BASE, {"model.width": 32, "train.epochs": 7})
    assert (config.model.width, config.train.epochs, config.model.blocks) == (32, 7, BASE.model.blocks)
    with pytest.raises(ValueError, match=r"model\.heads"):
        settled(BASE, {"model.width": 33})
