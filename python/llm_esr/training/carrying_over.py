"""A training on a data set that has grown, started from a model of the smaller one: item rows go by external id.

Shapes: I items of the new data set; rows 0..I + 1 are padding, the items, the mask token.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from llm_esr.data import Dataset
from llm_esr.doors import warn
from llm_esr.models.storage import read_model_json

_SAMPLE = 256  # shared items whose vectors are compared
_LEAST_COSINE = 0.99


def older_data(setting: str, found: Path, data: Dataset) -> Dataset:
    """The data set that a model was trained on, where it is not `data`.

    Raises:
        ValueError: it is no longer there, or shares no item with `data`.
    """
    record = read_model_json(found)
    where = (found / record["data"]).resolve()
    try:
        older = Dataset.open(where)
    except (FileNotFoundError, ValueError) as error:
        raise ValueError(f"{setting}: {found} was trained on other data, and they cannot be read: {error}") from None
    if older.fingerprint != record["made_from"]["data"]:
        raise ValueError(
            f"{setting}: {found} was trained on other data than {where} holds now, so its rows are known by no "
            "id; prepare the grown data into a folder of their own, so that those of the model stay"
        )
    if not older.item_index.keys() & data.item_index.keys():
        raise ValueError(
            f"{setting}: {found} was trained on other data, and no item of {data.folder} is among theirs (such as "
            f"{older.item_ids[0]!r} there, {data.item_ids[0]!r} here); name a model of this shop"
        )
    return older


def carried_rows(older: Dataset, data: Dataset) -> NDArray[np.int64]:
    """The row of each item in the older tables, int64 [I + 2]; -1: it has none."""
    rows = [older.item_index.get(name, -1) for name in data.item_ids]
    return np.array([0, *rows, older.n_items + 1], np.int64)


def carry_over(own: Tensor, given: Tensor, rows: NDArray[np.int64]) -> None:
    """Copy the rows of an older item table to where the items are now; rows of new items stay as they are."""
    known = np.flatnonzero(rows >= 0)
    own[torch.from_numpy(known)] = given[torch.from_numpy(rows[known])].to(own)


def warn_of_other_vectors(older: Dataset, data: Dataset) -> None:
    """Say so where the texts of the same items have other vectors now, to which nothing that was trained fits."""
    before, now = older.item_embeddings, data.item_embeddings
    if before is None or now is None:
        return
    shared = [name for name in data.item_ids if name in older.item_index][:_SAMPLE]
    there_nE = np.asarray(before[[older.item_index[name] - 1 for name in shared]], dtype=np.float32)
    here_nE = np.asarray(now[[data.item_index[name] - 1 for name in shared]], dtype=np.float32)
    if there_nE.shape == here_nE.shape:
        lengths_n = np.linalg.norm(there_nE, axis=1) * np.linalg.norm(here_nE, axis=1)
        cosines_n = (there_nE * here_nE).sum(axis=1)[lengths_n > 0] / lengths_n[lengths_n > 0]
        if not len(cosines_n) or np.median(cosines_n) >= _LEAST_COSINE:
            return
    warn(
        f"the item vectors of {data.folder} are others than those of {older.folder} for the same items, so what the "
        "model learnt of texts does not fit them; an encoder that is fitted on the catalogue, as lsa, changes with it: "
        "take a sentence encoder, or a file of vectors"
    )
