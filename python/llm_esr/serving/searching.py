"""Whether a model's lists come from scores of the whole catalogue, or from a search in it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from llm_esr.models.storage import weights_checksum
from llm_esr.scoring import NetworkScorer, Scorer
from llm_esr.scoring.large_catalogue import LARGE, LargeCatalogue

if TYPE_CHECKING:
    from llm_esr.data import Dataset

_SAMPLE = 1024  # users whose histories tune the search


def searching(network: NetworkScorer, data: Dataset, folder: Path | None, *, exact: bool) -> Scorer:
    """The network's scorer, or where the catalogue is large, and scored on the CPU, one that searches it.

    Args:
        network: the scorer of the whole catalogue.
        data: whose catalogue, and whose users' histories are the sample that the search is tuned by.
        folder: the model's, which keeps the index; None: none does.
        exact: never search.
    """
    if exact or data.n_items < LARGE or network.item_vectors().device.type != "cpu":
        return network
    lengths = np.asarray(data.input_ends("test"))
    there = np.flatnonzero(lengths > 0)
    if not len(there):
        return network
    sample = there[np.unique(np.linspace(0, len(there) - 1, _SAMPLE).astype(np.int64))]
    path = None
    # The index that is kept is of the items of the training.
    if folder is not None and data.n_items == data.n_prepared_items and (folder / "model.safetensors").exists():
        path = folder / f"items-{weights_checksum(folder)[:12]}.lists"
    return LargeCatalogue(network, data.histories(sample, "test"), path)
