"""A trained model as the start of another's training (`train.start_from`)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from llm_esr.config import Config
from llm_esr.models import SequentialEncoder, load_model
from llm_esr.models.storage import read_model_json
from llm_esr.serving.model_folders import find_model

if TYPE_CHECKING:
    from llm_esr.data import Dataset


@dataclass(frozen=True)
class StartModel:
    """The model that a training starts from; loss terms may read it too (`TermData.start`).

    Attributes:
        folder: `models/<name>/<seed>`.
        model: in evaluation mode, on the CPU.

    """

    folder: Path
    model: SequentialEncoder


def start_folder(config: Config) -> Path | None:
    """The model folder that `train.start_from` names: itself, or a run's primary model; None where it is not set.

    Raises:
        FileNotFoundError: no model there, or its weights are gone.
        ValueError: its training is not finished.

    """
    if config.train.start_from is None:
        return None
    folder = find_model(Path(config.train.start_from))
    if not read_model_json(folder)["finished"]:
        raise ValueError(
            f"train.start_from: the training in {folder} is not finished; finish it first, or name another"
        )
    if not (folder / "model.safetensors").exists():
        raise FileNotFoundError(f"train.start_from: {folder}/model.safetensors is gone; train that model again")
    return folder


def refuse_own_folder(config: Config, folder: Path) -> None:
    """A training that replaced the model it starts from could be neither resumed nor repeated.

    Raises:
        ValueError: `train.start_from` names `folder`, where the training would go.

    """
    start = config.train.start_from
    if start is not None and folder.exists() and find_model(Path(start)).resolve() == folder.resolve():
        raise ValueError(
            f"train.start_from: {folder} is where this training goes; give the new model another name or folder"
        )


def open_start(data: Dataset, config: Config) -> StartModel | None:
    """Open the model of `train.start_from`.

    Raises:
        FileNotFoundError: no model there.
        ValueError: an unfinished training, or a model of another data set.

    """
    folder = start_folder(config)
    if folder is None:
        return None
    trained_on = read_model_json(folder)["made_from"]["data"]
    if trained_on != data.fingerprint:
        raise ValueError(
            f"train.start_from: {folder} was trained on other data than {data.folder} holds, so its item numbers mean "
            "other items; name a model that was trained on this data set"
        )
    return StartModel(folder, load_model(folder, data.folder))


@torch.no_grad()
def take_weights(model: SequentialEncoder, start: StartModel) -> list[str]:
    """Copy every weight that both models have under one name and in one shape; returns the names.

    Raises:
        ValueError: there is none.

    """
    given = start.model.state_dict()
    taken = [name for name, own in model.state_dict().items() if name in given and given[name].shape == own.shape]
    if not taken:
        raise ValueError(
            f"train.start_from: no weight of {start.folder} fits this model; give both the same model.width, views and "
            "backbone"
        )
    own = model.state_dict()
    for name in taken:
        own[name].copy_(given[name])
    return taken
