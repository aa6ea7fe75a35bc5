"""The blend of a trained model: looked for once, stored beside its weights as `blend.json`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from llm_esr.evaluation.blending import Tuned, tune_blend
from llm_esr.files import FORMAT, is_there, key_of, read_record, write_json
from llm_esr.scoring import Scorer
from llm_esr.scoring.blend import BLENDED, blendable

if TYPE_CHECKING:
    from llm_esr.data import Dataset

_FILE = "blend.json"


def read_blend(folder: Path) -> dict[str, float] | None:
    """The weight of each neighbour scorer in a model's blend; None where it has none.

    Raises:
        ValueError: a damaged file, another format, or scorers that this version does not know.

    """
    path = folder / _FILE
    if not is_there(path):
        return None
    record = read_record(path)
    if record.get("format") != FORMAT:
        raise ValueError(f"{path} is no blend of format {FORMAT}; `llm-esr train` or `run` makes it again")
    return checked_weights(record.get("weights"), path, "delete it, and `llm-esr train` or `run` makes it again")


def checked_weights(weights: object, path: Path, remedy: str) -> dict[str, float]:
    """Weights of a blend as they were read.

    Raises:
        ValueError: no numbers, or scorers that this version does not know; the message has `path` and `remedy`.

    """
    if not isinstance(weights, dict) or not all(
        name in BLENDED and isinstance(weight, int | float) and math.isfinite(weight)
        for name, weight in weights.items()
    ):
        raise ValueError(f"{path}: expected a number for each of {', '.join(BLENDED)}, got {weights!r:.200}; {remedy}")
    return {name: float(weight) for name, weight in weights.items()}


def make_blend(folder: Path, data: Dataset, scorers: Sequence[str], network: Scorer) -> dict[str, float] | None:
    """The weights of a trained model's blend, looked for on validation where that was not done before.

    Args:
        folder: the model's, with its `model.json`.
        data: the data set of the training.
        scorers: `blend.scorers`; none: the model is the network alone, and an earlier blend is taken away.
        network: the model's scorer.

    """
    path = folder / _FILE
    # Where all is for training, nothing is left to find weights on.
    wanted = [] if data.split == "none" else blendable(data, scorers)
    key = key_of({"format": FORMAT, "model": read_record(folder / "model.json", "key")["key"], "scorers": wanted})
    if path.exists() and read_record(path).get("key") == key:
        return read_blend(folder)
    tuned = tune_blend(network, data, wanted) if wanted else None
    if tuned is None:
        path.unlink(missing_ok=True)
        return None
    write_blend(folder, key, tuned)
    return tuned.weights


def write_blend(folder: Path, key: str, tuned: Tuned) -> None:
    """Store weights beside the model that they belong to."""
    validation = {"users": tuned.users, "network": tuned.alone, "blend": tuned.blended}
    record = {"format": FORMAT, "key": key, "weights": tuned.weights, "validation_ndcg_10": validation}
    write_json(folder / _FILE, record)
