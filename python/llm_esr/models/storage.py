"""A trained model's folder: `config.yaml`, `model.json`, `model.safetensors`, perhaps `projection.safetensors`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from llm_esr.config import Config, load_config
from llm_esr.files import FORMAT, atomic_path, checksum, read_record, verify, verify_beside
from llm_esr.files.arrays import open_array
from llm_esr.files.memory import refuse_beyond_memory
from llm_esr.files.tensors import UNREADABLE
from llm_esr.models.encoder import SequentialEncoder
from llm_esr.models.views import ModelData
from llm_esr.models.views.borrowing import BorrowedRows

_ENTRIES: dict[str, Any] = {
    "name": str,
    "seed": (int, type(None)),
    "made_from": dict,
    "n_items": int,
    "data": str,
    "finished": bool,
}


def item_vectors(folder: Path) -> Tensor:
    """The data folder's item vectors, [I, E], memory-mapped: pages are read when they are used."""
    path = folder / "item_embeddings.npy"
    verify_beside(path, "run `llm-esr embed` again")
    # Copy-on-write, because torch asks for a writable buffer; nothing writes to it.
    return torch.from_numpy(open_array(path, "c"))


def save_weights(model: SequentialEncoder, folder: Path) -> None:
    """Write `model.safetensors`, whole or not at all."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    with atomic_path(folder / "model.safetensors") as temporary:
        save_file(tensors, temporary)


def weights_checksum(folder: Path) -> str:
    """What the key of whatever is made from a model's weights says of it: a model that was moved is the same."""
    return checksum(folder / "model.safetensors")


def read_model_json(folder: Path) -> dict[str, Any]:
    """`model.json` of a model folder, its format checked.

    Raises:
        FileNotFoundError: the folder holds no model.
        ValueError: damaged, or another format.

    """
    path = folder / "model.json"
    if not path.exists():
        raise FileNotFoundError(f"{folder} holds no model (no model.json); train one with `llm-esr train`")
    record = read_record(path, "format")
    if record["format"] != FORMAT:
        raise ValueError(f"{path} has format {record['format']}, this version reads {FORMAT}")
    wrong = [name for name, kind in _ENTRIES.items() if name not in record or not isinstance(record[name], kind)]
    if wrong or record["n_items"] < 1 or not isinstance(record.get("files", {}), dict):
        raise ValueError(
            f"{path} is damaged: {' and '.join(wrong) or 'an entry'} is missing or of a wrong kind; train again"
        )
    return record


def verify_files(folder: Path, record: dict[str, Any], remedy: str) -> None:
    """Compare a model folder's files with the checksums that its record holds.

    Raises:
        FileNotFoundError: one is gone.
        ValueError: one differs.

    """
    for name, promised in record.get("files", {}).items():
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{folder / name} is gone; {remedy}")
        verify(folder / name, promised, remedy)


def load_model(folder: str | Path, data_folder: Path | None = None, device: str = "cpu") -> SequentialEncoder:
    """Open a trained model, in evaluation mode.

    Args:
        folder: `models/<name>/<seed>`.
        data_folder: the data set's folder; default: where `model.json` says, relative to `folder`.
        device: where the weights go.

    Raises:
        FileNotFoundError: no model, or the item vectors it reads are gone.
        ValueError: the training is unfinished, or the weights do not fit the configuration.

    """
    folder = Path(folder)
    record = read_model_json(folder)
    if not record["finished"]:
        raise ValueError(f"the training in {folder} is not finished; run the same `train` or `run` again to resume it")
    verify_files(folder, record, "train the model again, or restore the file")
    config: Config = load_config(folder / "config.yaml")
    data_folder = data_folder or (folder / record["data"]).resolve()
    table = None
    if config.model.reads_vectors:
        if not (data_folder / "item_embeddings.npy").exists():
            raise FileNotFoundError(f"{data_folder}/item_embeddings.npy is gone; make it again with `llm-esr embed`")
        table = item_vectors(data_folder)
    refuse_beyond_memory(4 * record["n_items"] * config.model.width, f"the items of {folder}/model.json", "train again")
    initial = torch.zeros(record["n_items"], config.model.width)
    try:
        weights = load_file(folder / "model.safetensors")
        borrowed = None
        if config.model.borrow:
            borrowed = BorrowedRows.empty(*weights["views.collaborative.borrowed_rows"].shape)
        model = SequentialEncoder(config.model, ModelData(record["n_items"], table, initial, borrowed))
        model.load_state_dict(weights)
    except UNREADABLE as error:
        raise ValueError(f"{folder}/model.safetensors does not fit its configuration: {error}") from None
    return model.to(device).eval()
