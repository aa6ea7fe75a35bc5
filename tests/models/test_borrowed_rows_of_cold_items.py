"""An item that training never met takes its row from its texts alone, and lends to nobody."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

import llm_esr
from llm_esr.config import load_config
from llm_esr.models.views.borrowing import BorrowedRows
from llm_esr.training.build import build_model

SMALL = ["model.width=8", "model.heads=1", "model.blocks=1"]


def test_a_never_met_item_gives_nothing_of_its_own_and_lends_nothing() -> None:
    neighbours = np.array([[2, 3], [1, 3], [1, 2], [2, 3]], np.int32)
    cosines = np.full((4, 2), 0.5, np.float32)
    made = BorrowedRows.from_neighbours(neighbours, cosines, np.array([4, 0, 0, 0]), borrow=4.0, temperature=0.1)
    shares = {
        (item, int(row)): float(share)
        for item in (1, 2, 3, 4)
        for row, share in zip(made.rows[item], made.shares[item], strict=True)
        if share
    }
    # Item 1 has no lender, so it keeps its own row; 2 and 3 stand on item 1 alone; 4 knows none that lends.
    assert shares == {(1, 1): 1.0, (2, 1): 1.0, (3, 1): 1.0}


def test_the_score_of_a_cold_item_reads_no_row_of_a_cold_item(cold_folder: Path) -> None:
    data = llm_esr.Dataset.open(cold_folder)
    cold = np.flatnonzero(data.training_counts[1:] == 0) + 1
    assert len(cold) >= 14
    model, _ = build_model(data, load_config("llm-esr", SMALL))
    model.eval()
    histories = data.histories(np.arange(data.n_users), "test")
    kept = np.flatnonzero(np.diff(histories[1]))
    histories = data.histories(kept, "test")
    with torch.no_grad():
        before = model.encode(model.sequences(*histories)) @ model.item_matrix().T
        table = model.item_table
        assert table is not None
        table.weight[torch.from_numpy(cold)] = 1e6  # whatever stands there must not be read
        after = model.encode(model.sequences(*histories)) @ model.item_matrix().T
        assert torch.equal(before, after)
        table.weight[:] = 0
        assert not torch.equal(before, model.encode(model.sequences(*histories)) @ model.item_matrix().T)
