"""Which model a folder means, and whether it goes with a data set."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm_esr.config.parts import VIEWS
from llm_esr.files import is_there, read_record

if TYPE_CHECKING:
    from llm_esr.data import Dataset


def find_model(path: Path) -> Path:
    """The model folder that `path` means: itself, a run's primary model, or the only model below it.

    Raises:
        FileNotFoundError: no model there.
        ValueError: several, and nothing that says which.
    """
    if is_there(path / "model.json"):
        return path
    primary = read_record(path / "run.json").get("primary") if is_there(path / "run.json") else None
    if primary:
        folder = path / "models" / str(primary["name"])
        if primary["seed"] is not None:
            folder = folder / str(primary["seed"])
        if not (folder / "model.json").exists():
            raise FileNotFoundError(f"{path}/run.json names {folder} as primary, but no model is there; run it again")
        return folder
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist; expected a run's folder or a model's, models/<name>/<seed>")
    patterns = ("*/model.json", "*/*/model.json", "models/*/model.json", "models/*/*/model.json")
    found = sorted({file.parent for pattern in patterns for file in path.glob(pattern)})
    if not found:
        raise FileNotFoundError(f"{path} holds no finished run and no trained model; make one with `llm-esr run`")
    if len(found) > 1:
        names = ", ".join(str(folder.relative_to(path)) for folder in found)
        raise ValueError(f"{path} holds several models and no run.json that names the primary; name one of: {names}")
    return found[0]


def check_data(folder: Path, record: dict[str, Any], data: Dataset) -> None:
    """Refuse data that are not those of a model's training.

    Raises:
        ValueError: another catalogue, or other vectors than the model reads.
    """
    made_from = record["made_from"]
    if record["n_items"] != data.n_items or made_from.get("data") != data.fingerprint:
        raise ValueError(
            f"{folder} was trained on other data than {data.folder} holds now ({record['n_items']:,} items then, "
            f"{data.n_items:,} now): item numbers would mean other items. Train it again, or give the data it knows"
        )
    network = made_from.get("model", {"views": []})
    by_view = any(VIEWS[view].reads_vectors for view in network["views"])
    if "scorer" not in made_from and not network.get("text_profile") and not by_view:
        return  # texts were read in training at most; what is served does not read them
    vectors = data.folder / "item_embeddings.json"
    then = made_from.get("item_embeddings")
    if then is not None and vectors.exists() and read_record(vectors).get("checksum") != then:
        raise ValueError(
            f"{data.folder}/item_embeddings.npy is not what {folder} was made with: it would read other vectors. Train "
            "it again, or restore the vectors"
        )
