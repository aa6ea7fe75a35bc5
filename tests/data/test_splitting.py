"""Where the parts end, and what a part may see."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_esr.config import DataConfig
from llm_esr.data import prepare
from llm_esr.data.splitting import split

HISTORIES = st.lists(st.lists(st.integers(0, 30), min_size=1, max_size=8), min_size=1, max_size=12)


def csr(histories: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
    offsets = np.concatenate([[0], np.cumsum([len(history) for history in histories])]).astype(np.int64)
    return offsets, np.array([time for history in histories for time in sorted(history)], dtype=np.int64)


@given(HISTORIES)
def test_leave_one_out_holds_out_the_last_two_of_users_with_three(histories: list[list[int]]) -> None:
    offsets, times = csr(histories)
    ends = split(offsets, times, DataConfig()).ends
    for history, (train, validation) in zip(histories, ends.tolist(), strict=True):
        n = len(history)
        assert (train, validation) == ((n - 2, n - 1) if n >= 3 else (n, n))


@given(HISTORIES)
def test_none_trains_on_everything(histories: list[list[int]]) -> None:
    offsets, times = csr(histories)
    assert (split(offsets, times, DataConfig(split="none")).ends == np.diff(offsets)[:, None]).all()


@given(HISTORIES, st.integers(0, 30), st.integers(0, 30))
def test_temporal_cuts_every_user_at_the_same_moments(histories: list[list[int]], first: int, second: int) -> None:
    offsets, times = csr(histories)
    config = DataConfig(split="temporal", validation_from=first, test_from=second, timestamp_unit="ns")
    if not times.min() < first < second <= times.max():
        with pytest.raises(ValueError, match=r"--(validation|test)-from"):
            split(offsets, times, config)
        return
    ends = split(offsets, times, config).ends
    for history, (train, validation) in zip(histories, ends.tolist(), strict=True):
        assert train == sum(time < first for time in history)
        assert validation == sum(time < second for time in history)


def test_temporal_takes_the_times_of_the_80th_and_90th_percentile_by_default() -> None:
    times = np.arange(100, dtype=np.int64) * 7
    made = split(np.array([0, 100]), times, DataConfig(split="temporal"))
    assert (made.validation_from, made.test_from) == (80 * 7, 90 * 7)
    assert made.ends.tolist() == [[80, 90]]


def test_temporal_without_timestamps_names_the_option() -> None:
    with pytest.raises(ValueError, match=r"--split temporal needs timestamps.*--timestamp-column"):
        split(np.array([0, 1]), None, DataConfig(split="temporal"))


def test_a_time_without_the_temporal_split_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"--test-from is for --split temporal; the split is leave-one-out"):
        split(np.array([0, 1]), None, DataConfig(test_from="2024-01-01"))


@pytest.mark.parametrize("kind", ["leave-one-out", "temporal"])
def test_held_out_items_change_nothing_that_training_reads(tmp_path: Path, kind: str) -> None:
    rng = np.random.default_rng(3)
    frame = pl.DataFrame(
        {
            "user_id": rng.integers(0, 20, 200).astype(str),
            "item_id": rng.integers(0, 15, 200).astype(str),
            "timestamp": rng.permutation(200) + 1_600_000_000,
        }
    )
    items = pl.DataFrame({"item_id": [str(i) for i in range(15)], "title": [f"thing {i}" for i in range(15)]})
    options = {"items": items, "keep_unseen_items": True, "split": kind}
    data = prepare(frame, out=tmp_path / "a", **options)
    held_out = {}
    for user in range(data.n_users):
        start, stop = data.offsets[user] + data.splits[user, 0], data.offsets[user + 1]
        held_out.update({int(time): user for time in data.timestamps[start:stop]})
    at = pl.col("timestamp").cast(pl.Int64) * 1_000_000_000
    other = frame.with_columns(
        pl.when(at.is_in(list(held_out)))
        .then(((pl.col("item_id").cast(pl.Int64) + 7) % 15).cast(pl.String))
        .otherwise(pl.col("item_id"))
        .alias("item_id")
    )
    again = prepare(other, out=tmp_path / "b", **options)
    assert again.fingerprint != data.fingerprint
    assert again.item_ids == data.item_ids
    assert (again.splits == data.splits).all()
    assert (again.training_counts == data.training_counts).all()
    assert again.item_table()["training_count"].equals(data.item_table()["training_count"])
    users = np.arange(data.n_users)
    for part in ("train", "validation"):
        assert (again.histories(users, part)[0] == data.histories(users, part)[0]).all()
    assert (again.targets("test")[data.targets("test") > 0] != data.targets("test")[data.targets("test") > 0]).all()
