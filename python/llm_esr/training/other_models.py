"""Trained models that another training reads: the one it starts from (`train.start_from`), and whatever else names one.

A setting names a model by its folder, or by `preset:NAME`: then it is the model of that name and seed beside the one
that is trained, and it is trained first where it is not there yet.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from llm_esr.config import Config, load_other, preset_of
from llm_esr.models import SequentialEncoder, load_model
from llm_esr.models.storage import read_model_json
from llm_esr.models.views.borrowing import BUFFERS
from llm_esr.serving.model_folders import find_model
from llm_esr.training.carrying_over import carried_rows, carry_over, older_data, warn_of_other_vectors

if TYPE_CHECKING:
    from llm_esr.data import Dataset

_ITEM_TABLE = re.compile(r"views\.\w+\.table(\.weight)?")  # weights with a row for each id

# What a preset's model takes over from the model that names it: with other shapes no weight would fit.
_SHAPES = {
    "train.start_from": ("backbone", "block", "width", "max_len", "blocks", "heads", "feed_forward", "dropout"),
    "align.anchor": ("width", "heads"),
}


@dataclass(frozen=True)
class StartModel:
    """A trained model that a training reads; loss terms may read it too (`TermData.start`).

    Attributes:
        folder: `models/<name>/<seed>`.
        model: in evaluation mode, on the CPU.
        rows: of a model of another data set, the row in its item tables of each row here (`carrying_over.py`).

    """

    folder: Path
    model: SequentialEncoder
    rows: NDArray[np.int64] | None = None


def other_folder(setting: str, value: str, folder: Path, seed: int) -> Path:
    """The folder of the model that a setting names.

    Args:
        setting: its name, for messages.
        value: a folder, or `preset:NAME`.
        folder: where the training that reads it goes.
        seed: that training's.

    Raises:
        FileNotFoundError: no model there.

    """
    preset = preset_of(value)
    if preset is None:
        try:
            return find_model(Path(value))
        except FileNotFoundError as error:
            raise FileNotFoundError(f"{setting}: {error}") from None
        except ValueError as error:
            raise ValueError(f"{setting}: {error}") from None
    in_a_run = folder.parent.parent.name == "models"
    return folder.parent.parent / preset / str(seed) if in_a_run else folder.with_name(f"{folder.name}-{preset}")


def trained_folder(setting: str, value: str, folder: Path, seed: int) -> Path:
    """As `other_folder`, for a model whose training is finished.

    Raises:
        FileNotFoundError: no model there, or its weights are gone.
        ValueError: its training is not finished.

    """
    found = other_folder(setting, value, folder, seed)
    if not read_model_json(found)["finished"]:
        raise ValueError(f"{setting}: the training in {found} is not finished; finish it first, or name another")
    if not (found / "model.safetensors").exists():
        raise FileNotFoundError(f"{setting}: {found}/model.safetensors is gone; train that model again")
    return found


def waits_for(config: Config, folder: Path) -> list[tuple[str, str, Path]]:
    """The models that have to be trained before this one can be: setting, preset, folder."""
    waiting = []
    for setting, value in config.other_models.items():
        preset = preset_of(value)
        if preset is not None:
            found = other_folder(setting, value, folder, config.train.seed)
            if not ((found / "model.json").exists() and read_model_json(found)["finished"]):
                waiting.append((setting, preset, found))
    return waiting


def train_first(config: Config, folder: Path, train: Callable[[Config, str, Path], object]) -> None:
    """Train what a configuration names as `preset:NAME` and is not there yet, with its seed, shapes and validation.

    Args:
        config: of the training that waits.
        folder: where that goes.
        train: trains a configuration under a name into a folder.

    """
    for setting, preset, found in waits_for(config, folder):
        refuse_own_folder(config, folder)
        given = load_other(setting, preset)
        shapes = {name: getattr(config.model, name) for name in _SHAPES[setting]}
        taken = {section: getattr(config, section) for section in ("data", "embed", "index", "checkpoint", "runtime")}
        network = given.model.model_validate(given.model.model_dump() | shapes)
        alike = {name: getattr(config.train, name) for name in ("seed", "validation_candidates", "validation_users")}
        seeded = given.train.model_copy(update=alike)
        train(given.model_copy(update={"model": network, "train": seeded, **taken}), preset, found)


def refuse_own_folder(config: Config, folder: Path) -> None:
    """A training that replaced a model it reads could be neither resumed nor repeated.

    Raises:
        ValueError: a setting names `folder`, where the training would go.

    """
    for setting, value in config.other_models.items():
        if preset_of(value) is None and not folder.exists():
            continue
        if other_folder(setting, value, folder, config.train.seed).resolve() == folder.resolve():
            raise ValueError(
                f"{setting}: {folder} is where this training goes; give the new model another name or folder"
            )


def open_other(setting: str, value: str, data: Dataset, folder: Path, seed: int) -> StartModel:
    """Open the trained model that a setting names.

    Raises:
        FileNotFoundError: no model there.
        ValueError: an unfinished training, or a model of another data set.

    """
    found = trained_folder(setting, value, folder, seed)
    trained_on = read_model_json(found)["made_from"]["data"]
    if trained_on != data.fingerprint:
        raise ValueError(
            f"{setting}: {found} was trained on other data than {data.folder} holds, so its item numbers mean "
            "other items; name a model that was trained on this data set"
        )
    return StartModel(found, load_model(found, data.folder))


def open_start(data: Dataset, config: Config, folder: Path) -> StartModel | None:
    """Open the model of `train.start_from`, None where it is not set; as `open_other`, but of any data of this shop.

    Raises:
        ValueError: also a model of other data that are no longer there, or share no item with these.

    """
    start, setting = config.train.start_from, "train.start_from"
    if start is None:
        return None
    found = trained_folder(setting, start, folder, config.train.seed)
    if read_model_json(found)["made_from"]["data"] == data.fingerprint:
        return open_other(setting, start, data, folder, config.train.seed)
    older = older_data(setting, found, data)
    if config.model.reads_vectors:
        warn_of_other_vectors(older, data)
    return StartModel(found, load_model(found, older.folder), carried_rows(older, data))


@torch.no_grad()
def take_weights(model: SequentialEncoder, start: StartModel) -> list[str]:
    """Copy every weight that both models have under one name and in one shape; returns the names.

    Of a model of another data set item tables go row by row, by external id, and what each item borrows is not taken.

    Raises:
        ValueError: there is none.

    """
    given = start.model.state_dict()
    items = [] if start.rows is None else [name for name in given if _ITEM_TABLE.fullmatch(name)]
    fits = {name: _shape(own, name in items) for name, own in model.state_dict().items()}
    taken = [name for name, shape in fits.items() if name in given and _shape(given[name], name in items) == shape]
    if start.rows is not None:
        taken = [name for name in taken if not name.endswith(BUFFERS)]
    if not taken:
        raise ValueError(
            f"train.start_from: no weight of {start.folder} fits this model; give both the same model.width, views and "
            "backbone"
        )
    own = model.state_dict()
    for name in taken:
        if start.rows is not None and name in items:
            carry_over(own[name], given[name], start.rows)
        else:
            own[name].copy_(given[name])
    return taken


def _shape(tensor: torch.Tensor, rows_are_items: bool) -> torch.Size:
    """What must agree of two weights: of item tables, all but the number of rows."""
    return tensor.shape[1:] if rows_are_items else tensor.shape
