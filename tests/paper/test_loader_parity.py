"""The loader's batches in paper mode against those of the authors' code, for the same users."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import llm_esr
from llm_esr.data import Dataset
from llm_esr.loading import Batch, BatchLoader, Sequences

ONLY = ("tokens",)  # batches do not depend on how a model computes them


@pytest.fixture
def data(case: Any, tmp_path: Path) -> Dataset:
    """The case's sequences as a prepared data folder with its similar users; users and items keep their numbers."""
    offsets, items = case["sequences_offsets"], case["sequences_flat"]
    users = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    table = pl.DataFrame({"user_id": users, "item_id": items, "order": np.arange(len(items))})
    catalogue = pl.DataFrame({"item_id": np.arange(1, case.given["num_items"] + 1)})
    data = llm_esr.prepare(table, items=catalogue, out=tmp_path / "data", order_column="order", keep_unseen_items=True)
    if case.config.distill.weight:
        np.save(data.folder / "similar_users.npy", case["similar_users"].astype(np.int32))
    return Dataset.open(data.folder)


def loader_of(case: Any, data: Dataset) -> BatchLoader:
    masks = case.config.model.reads_mask_tokens
    return BatchLoader(
        data,
        batch_size=2 * data.n_users,  # BERT4Rec shows a user twice
        max_len=case.given["max_len"],
        layout="padded",
        similar_users=case.given["sim_users"] if case.config.distill.weight else 0,
        negatives="own",
        n_negatives=1,
        shuffle=False,
        sequence="without-last",
        targets=case.config.train.targets,
        padding_tokens=True,
        mask_probability=0.6 if masks else None,
    )


def rows(sequences: Sequences, values: str) -> np.ndarray:
    return getattr(sequences, values).reshape(len(sequences), -1)


def test_students_and_teachers_are_those_of_the_authors(case: Any, data: Dataset) -> None:
    batch: Batch = next(iter(loader_of(case, data)))
    step = 0
    while f"batch{step}/user_id" in case.arrays:
        for row, user in enumerate(case[f"batch{step}/user_id"]):
            _same_student(case, batch, step, row, int(user))
            if case.config.distill.weight:
                _same_teachers(case, batch, step, row, int(user))
        step += 1
    assert step == case.given["steps"]


def _same_student(case: Any, batch: Batch, step: int, row: int, user: int) -> None:
    seq, pos, positions = (case[f"batch{step}/{name}"][row] for name in ("seq", "pos", "positions"))
    places = np.flatnonzero(batch.users == user)
    if case.config.model.reads_mask_tokens:
        # Which of the two showings it is tells the masking alone; the random one is drawn otherwise than theirs.
        last_only = (pos > 0).tolist() == [False] * (len(pos) - 1) + [True] and seq[-1] == case.given["num_items"] + 1
        place = places[batch.masking_passes[places] == 1][0]
        assert rows(batch.students, "positions")[place].tolist() == positions.tolist()
        assert np.where(pos > 0, pos, seq).tolist() == _unmasked(batch, place)
        if last_only:
            assert rows(batch.students, "items")[place].tolist() == seq.tolist()
            assert rows(batch.students, "targets")[place].tolist() == pos.tolist()
        return
    (place,) = places
    assert rows(batch.students, "items")[place].tolist() == seq.tolist()
    assert rows(batch.students, "positions")[place].tolist() == positions.tolist()
    targets = rows(batch.students, "targets")[place]
    assert (targets[-1:] if pos.ndim == 0 else targets).tolist() == np.atleast_1d(pos).tolist()
    if pos.ndim == 0:
        assert not targets[:-1].any()


def _unmasked(batch: Batch, place: int) -> list[int]:
    items, targets = rows(batch.students, "items")[place], rows(batch.students, "targets")[place]
    return np.where(targets > 0, targets, items).tolist()


def _same_teachers(case: Any, batch: Batch, step: int, row: int, user: int) -> None:
    assert batch.teachers is not None and batch.teacher_index is not None
    index = batch.teacher_index[np.flatnonzero(batch.users == user)[0]]
    assert rows(batch.teachers, "items")[index].tolist() == case[f"batch{step}/sim_seq"][row].tolist()
    assert rows(batch.teachers, "positions")[index].tolist() == case[f"batch{step}/sim_positions"][row].tolist()
