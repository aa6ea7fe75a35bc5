"""`export_model`: the folder that a trained model is written to.

encoder.onnx | encoder.pt2   items int64 [B, L], lengths int64 [B] -> users float32 [B, C]
items.safetensors            vectors float32 [I, C], popularity float32 [I]
item_ids.json                the external id of each row
blend.safetensors            of a blended model: the tables that are added
export.json                  shapes, settings, how to score, and the checksum of each other file
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors.numpy import save_file

from llm_esr import __version__
from llm_esr.data.carried import CarriedDataset
from llm_esr.doors import door
from llm_esr.files import atomic_folder, atomic_path, checksum, given_path, write_json
from llm_esr.models import SequentialEncoder
from llm_esr.scoring.blend import Blend
from llm_esr.serving.export.blend_tables import Arrays, blend_tables
from llm_esr.serving.export.encoders import FORMATS, OUTPUT, Format
from llm_esr.serving.export.padded_encoder import PaddedEncoder
from llm_esr.serving.hub import is_hub_folder, write_hub_folder
from llm_esr.serving.hub.layout import FILES

if TYPE_CHECKING:
    from llm_esr.serving.recommender import Recommender

RECORD = "export.json"
HUB = "hub"
_FORMAT = 1  # of the folder
_SCORING = (
    "scores = users @ vectors.T; with a blend, log_softmax(scores) + sum of weight x each scorer; leave out the items "
    "of the history; an empty history is scored by popularity"
)


@door
def export_model(
    model: Recommender | str | Path,
    out: str | Path,
    to: str = "onnx",
    *,
    with_histories: bool = False,
    overwrite: bool = False,
) -> Path:
    """Write a trained model as files that any program can serve, or as a folder of the Hugging Face Hub.

    Args:
        model: a recommender, or the folder of a run or a model, as of `Recommender.load`.
        out: the folder to make.
        to: the encoder's format: `onnx` (needs the extra `export`) or `torch` (`torch.export`); or `hub` (needs the
            extra `hub`), which `Recommender.from_pretrained` opens.
        with_histories: for `hub`: what each user met goes along, so that known users can be served. These are personal
            data.
        overwrite: replace an earlier export.

    Returns:
        The folder. docs/serving.md says how to score with it, docs/hub.md what a hub folder holds.

    Raises:
        ValueError: another format, a folder that holds something, a model that came out of a hub folder, one that
            has no network, a backbone without a form over padded rows, or a blend with a scorer that reads all users'
            sequences.
        FileNotFoundError: no model there.
        ImportError: the format's package is not installed.

    """
    if to not in (*FORMATS, HUB):
        raise ValueError(f"--to {to}: expected {', '.join(FORMATS)} or {HUB}")
    if with_histories and to != HUB:
        raise ValueError(
            f"--with-histories needs --to {HUB}; files of --to {to} serve histories that come with a request"
        )
    folder = given_path(out)
    _refuse_what_is_there(folder, overwrite=overwrite)
    if isinstance(model, str | Path):
        from llm_esr.serving.recommender import Recommender  # noqa: PLC0415 (a circle otherwise)

        model = Recommender.load(model, device="cpu", exact=True)
    network = model.model
    if network is None:
        raise ValueError(f"{model.name} is a scorer without a network, so there is no encoder to export")
    if not isinstance(network, SequentialEncoder):
        raise ValueError(f"{model.name} is a {type(network).__name__}; only a SequentialEncoder can be exported")
    if to == HUB and isinstance(model.data, CarriedDataset):
        raise ValueError(
            f"{model.data.folder} was exported itself and knows no more of its data than it shows; copy that folder, "
            "or export the model that it was made from"
        )
    if network.device.type != "cpu":
        network = copy.deepcopy(network).cpu()
    was_training = network.training
    try:
        if to == HUB:
            write_hub_folder(model, network.eval(), folder, with_histories=with_histories)
            return folder
        with atomic_folder(folder) as made:
            _write(made, model, network.eval(), FORMATS[to])
    finally:
        network.train(was_training)
    return folder


def _write(folder: Path, model: Recommender, network: SequentialEncoder, form: Format) -> None:
    encoder = PaddedEncoder(network)
    with torch.inference_mode():
        vectors_IC = network.item_matrix().float().numpy()
    popularity_I = np.asarray(model.data.training_counts[1:], np.float32)
    blend: dict[str, Any] | None = None
    if isinstance(model.scorer, Blend):
        blend, arrays = blend_tables(model.scorer)
        _save(arrays, folder / "blend.safetensors")
    form.write(encoder, folder / form.file)
    _save({"vectors": np.ascontiguousarray(vectors_IC), "popularity": popularity_I}, folder / "items.safetensors")
    write_json(folder / "item_ids.json", model.data.item_ids)
    config = network.config
    about = {
        "format": _FORMAT,
        "made_by": f"llm-esr {__version__}",
        "model": {"name": model.name, "seed": model.seed, "backbone": config.backbone, "fusion": config.fusion},
        "data": model.data.fingerprint,
        "n_items": network.n_items,
        "channels": int(vectors_IC.shape[1]),
        "max_len": config.max_len,
        "padding": 0,
        # The encoder appends it itself; it is never given.
        "mask_token": encoder.mask_token if config.reads_mask_tokens else None,
        "encoder": {
            "file": form.file,
            "opened_by": form.opened_by,
            "inputs": {
                "items": "int64 [B, max_len]: each row a history's newest items by number (row of item_ids.json + 1), "
                "oldest first, 0 behind them",
                "lengths": "int64 [B]: items of each row, 0 to max_len",
            },
            "output": {OUTPUT: "float32 [B, channels]"},
        },
        "scoring": _SCORING,
        "blend": blend,
        "files": {path.name: checksum(path) for path in sorted(folder.iterdir())},
    }
    write_json(folder / RECORD, about)


def _save(arrays: Arrays, path: Path) -> None:
    """Write arrays, to be read by whoever may read the folder: safetensors alone leaves them to the owner."""
    with atomic_path(path) as made:
        save_file(arrays, made)


def _refuse_what_is_there(folder: Path, *, overwrite: bool) -> None:
    if not folder.exists():
        return
    if not folder.is_dir():
        raise ValueError(f"--out {folder} is a file; name a folder to make")
    if not any(folder.iterdir()):
        return
    # Beside an export for the hub there may be what is not to be lost, such as its repository.
    of_the_hub = is_hub_folder(folder) and {path.name for path in folder.iterdir()} <= set(FILES)
    is_export = of_the_hub or (folder / RECORD).exists()
    if is_export and overwrite:
        return
    if is_export:
        raise ValueError(f"--out {folder} holds an export; name another folder, or replace it with --overwrite")
    raise ValueError(f"--out {folder} holds files that are no export; name another folder")
