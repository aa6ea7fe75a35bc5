"""Models that need no training: a scorer, or several blended, in a model folder of its own, `models/<name>`.

The folder holds `model.json`, `config.yaml` (how it is judged) and, for `neighbours`, its weights as `blend.json`. What
a scorer counts is kept with the data (`llm_esr.scoring.stored_tables`), and counted when it is first asked.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm_esr.config import Config, dump_config, load_config
from llm_esr.config.parts import BLENDED_BY_DEFAULT, NEIGHBOURS
from llm_esr.evaluation.blending import tune_blend
from llm_esr.files import FORMAT, atomic_file, checksum, key_of, read_record, write_json
from llm_esr.models.storage import read_model_json, verify_files
from llm_esr.scoring.blend import BLENDED, blendable
from llm_esr.serving.blends import read_blend, write_blend
from llm_esr.serving.recommender import Recommender

if TYPE_CHECKING:
    from llm_esr.data import Dataset


def make_untrained(data: Dataset, name: str, config: Config, folder: Path) -> Recommender:
    """A scorer as a model, in its folder; what is there already is kept where the data are the same.

    Args:
        data: the data set.
        name: one of `llm_esr.config.parts.SCORERS`.
        config: its section `evaluate` says how the model is judged.
        folder: `models/<name>`.

    Raises:
        ValueError: another name, `neighbours` of data without a validation part, or a catalogue that the scorer
            refuses.
        FileNotFoundError: a scorer of texts without item vectors.

    """
    made_from: dict[str, Any] = {"data": data.fingerprint, "scorer": name}
    reads_texts = name == NEIGHBOURS or (name in BLENDED and BLENDED[name].reads_texts)
    vectors = data.folder / "item_embeddings.json"
    if reads_texts and vectors.exists():
        made_from["item_embeddings"] = read_record(vectors, "checksum")["checksum"]
    key = key_of({"format": FORMAT, "made_from": made_from})
    path = folder / "model.json"
    record = read_record(path) if path.exists() else {}
    if record.get("key") == key:
        write_json(path, record | {"files": _write_config(folder, config)})
        return open_untrained(folder, data)
    tuned = None
    if name == NEIGHBOURS:
        # Transitions have the weight 1: the sum as a whole has no scale.
        order = sorted(blendable(data, BLENDED_BY_DEFAULT), key=lambda scorer: scorer != "transitions")
        tuned = tune_blend(None, data, order)
        if tuned is None:
            raise ValueError(
                f"{NEIGHBOURS} looks for its weights on validation, and {data.folder} has no such part; take scorers "
                "alone, such as transitions"
            )
    model = Recommender(None, data, name, None, config, folder, None if tuned is None else tuned.weights)
    _ = model.scorer  # counted now: what cannot be is refused before anything is written
    folder.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    if tuned is not None:
        write_blend(folder, key, tuned)
    files = _write_config(folder, config)
    record = {"format": FORMAT, "name": name, "seed": None, "scorer": name, "key": key, "made_from": made_from}
    record |= {"n_items": data.n_items, "data": os.path.relpath(data.folder.resolve(), folder.resolve())}
    write_json(path, record | {"epochs": 0, "finished": True, "files": files})
    return model


def _write_config(folder: Path, config: Config) -> dict[str, str]:
    """Write `config.yaml`, and give its checksum under its name."""
    with atomic_file(folder / "config.yaml", "w") as file:
        file.write(dump_config(config))
    return {"config.yaml": checksum(folder / "config.yaml")}


def open_untrained(folder: Path, data: Dataset) -> Recommender:
    """The model of a folder that `make_untrained` made; its data are taken as checked."""
    record = read_model_json(folder)
    verify_files(folder, record, f"delete {folder} and `llm-esr run` again")
    name = record["scorer"]
    weights = read_blend(folder) if name == NEIGHBOURS else None
    if name == NEIGHBOURS and not weights:
        raise ValueError(f"{folder} has no blend.json with its weights; delete the folder and `llm-esr run` again")
    return Recommender(None, data, name, None, load_config(folder / "config.yaml"), folder, weights)
