"""A trained network for a catalogue that has gained items: every weight is as it was, tables have more rows.

A new item's collaborative row is borrowed whole from trained items (`views/borrowing.py`), or is where an untrained one
starts; its semantic vector and its text profile come from its text. The texts are centred as in training.

Shapes: I trained items, m new ones, J lenders, D width.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from llm_esr.models.encoder import SequentialEncoder
from llm_esr.models.views import ModelData
from llm_esr.models.views.borrowing import BUFFERS, BorrowedRows

if TYPE_CHECKING:
    from llm_esr.data.extended import ExtendedDataset


def refuse_ids_alone(model: SequentialEncoder, name: str) -> None:
    """A `ValueError` where a network has nothing to know a new item by.

    Args:
        model: the network.
        name: what messages call it.
    """
    config = model.config
    if config.last_row == "shifted":
        raise ValueError(
            f"{name} lets the last item and the mask token change places (model.last_row shifted, as the authors' code "
            "does), so a new item would take another's place; train it with model.last_row own"
        )
    if not (config.reads_vectors or config.borrow):
        raise ValueError(
            f"{name} knows items by their ids alone, so it has nothing to say of new ones; add them to a model that "
            "reads texts, such as llm-esr"
        )


@torch.no_grad()
def extend_model(
    model: SequentialEncoder, data: ExtendedDataset, starts_mD: NDArray[np.float32] | None = None
) -> SequentialEncoder:
    """The network with a row for every item of an extended data set, in evaluation mode; the given one stays as it is.

    Args:
        model: knows the first items of `data`.
        data: has the vectors and neighbours of all items behind them.
        starts_mD: what the new rows of the collaborative table hold; None: zeros. Borrowed rows do not read it.
    """
    config, old, new = model.config, model.n_items, data.n_items
    vectors = data.item_embeddings
    initial_ID = torch.zeros(new, config.width)
    if starts_mD is not None:
        initial_ID[old:] = torch.from_numpy(starts_mD)
    weights = model.state_dict()
    borrowed = None
    if config.borrow:
        lenders = weights["views.collaborative.borrowed_rows"].shape[1] - 1
        borrowed = _borrowed_rows(data, lenders, config.borrow, config.borrow_temperature)
    table = None if vectors is None else torch.from_numpy(vectors)
    made = SequentialEncoder(config, ModelData(new, table, initial_ID, borrowed, n_centred=data.n_prepared_items))
    grown = made.state_dict()
    for name, tensor in weights.items():
        if grown[name].shape == tensor.shape:
            grown[name].copy_(tensor)
            continue
        own_part = name.rpartition(".")[2]
        grown[name][: old + 1] = tensor[: old + 1]
        if own_part == "weight":  # the collaborative table, which may have been drawn
            grown[name][old + 1 : new + 1] = initial_ID[old:].to(tensor)
        if own_part not in BUFFERS:
            grown[name][new + 1] = tensor[old + 1]
    return made.to(model.device).eval()


def _borrowed_rows(data: ExtendedDataset, lenders: int, borrow: float, temperature: float) -> BorrowedRows:
    """Those of the added items, in a table for all."""
    ids_mK, cosines_mK = data.added_neighbours()
    ids_IJ = np.full((data.n_items, lenders), -1, np.int32)
    cosines_IJ = np.zeros(ids_IJ.shape, np.float32)
    width = min(lenders, ids_mK.shape[1])
    ids_IJ[-len(ids_mK) :, :width], cosines_IJ[-len(ids_mK) :, :width] = ids_mK[:, :width], cosines_mK[:, :width]
    counts_I = np.asarray(data.training_counts)[1:]
    return BorrowedRows.from_neighbours(ids_IJ, cosines_IJ, counts_I, borrow, temperature)
