"""Cold items: training and validation never meet them, the test does."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_esr.config import DataConfig
from llm_esr.data import Dataset, prepare
from llm_esr.data.folder import dataset_key

Tables = tuple[pl.DataFrame, pl.DataFrame]
HISTORIES = st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=7), min_size=1, max_size=8)


def cold_ids(met: set[str], share: float, seed: int) -> set[str]:
    """The oracle of the draw."""
    order = sorted(met, key=lambda item: hashlib.sha256(f"{seed}:{item}".encode()).hexdigest())
    return set(order[: int(share * len(met) + 0.5)])


def frame_of(histories: list[list[int]]) -> pl.DataFrame:
    rows = [(f"u{u}", f"i{i}", t) for u, history in enumerate(histories) for t, i in enumerate(history)]
    return pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")


def history(data: Dataset, user: int, part: Any) -> list[str]:
    return [data.item_ids[item - 1] for item in data.history(user, part)]


@settings(max_examples=60, deadline=None)
@given(HISTORIES, st.sampled_from([0.1, 0.3, 0.5]), st.integers(0, 2))
def test_cold_items_are_in_no_part_before_the_test(
    tmp_path_factory: pytest.TempPathFactory, histories: list[list[int]], share: float, seed: int
) -> None:
    met = {f"i{item}" for history in histories for item in history}
    cold = cold_ids(met, share, seed)
    expected = {}
    for user, items in enumerate([f"i{item}" for item in history] for history in histories):
        held = 1 if len(items) >= 3 else 0
        train, validation, test = items[: len(items) - 2 * held], items[len(items) - 2 * held :], []
        if held:
            validation, test = validation[:1], validation[1:]
        parts = ([item for item in train if item not in cold], [item for item in validation if item not in cold], test)
        if any(parts):
            expected[f"u{user}"] = parts
    folder = tmp_path_factory.mktemp("c") / "d"
    if not 0 < len(cold) < len(met) or not any(train for train, _, _ in expected.values()):
        with pytest.raises(ValueError, match=r"cold_items="):
            prepare(frame_of(histories), out=folder, cold_items=share, cold_items_seed=seed)
        return
    data = prepare(frame_of(histories), out=folder, cold_items=share, cold_items_seed=seed)
    assert data.user_ids == list(expected)
    assert set(data.item_ids) == met
    for user, (train, validation, test) in enumerate(expected.values()):
        assert history(data, user, "train") == train
        assert history(data, user, "test") == train + validation
        assert history(data, user, "serving") == train + validation + test
        targets = [[*part, None][0] for part in (validation, test)]
        for part, target in zip(("validation", "test"), targets, strict=True):
            number = int(data.targets(part)[user])  # type: ignore[arg-type]
            assert (data.item_ids[number - 1] if number else None) == target
    report = data.metadata["rows"]["interactions"]
    total, kept = sum(map(len, histories)), sum(len(part) for parts in expected.values() for part in parts)
    assert (report["read"], report["kept"], report["kinds"].get("cold_item", 0)) == (total, kept, total - kept)
    assert data.metadata["counts"]["cold_items"] == len(cold)
    assert Dataset.open(folder).summary()


def test_a_temporal_test_part_keeps_cold_items(tmp_path: Path, tiny_tables: Tables) -> None:
    interactions, _ = tiny_tables
    data = prepare(interactions, out=tmp_path / "d", split="temporal", cold_items=0.2)
    cold = cold_ids(set(interactions["item_id"]), 0.2, 0)
    assert not cold & {data.item_ids[item - 1] for item in np.flatnonzero(data.training_counts[1:]) + 1}
    assert cold & {data.item_ids[item - 1] for item in data.targets("test") if item}


def test_the_order_of_the_rows_draws_no_other_items(tmp_path: Path, tiny_tables: Tables) -> None:
    interactions, items = tiny_tables
    made = prepare(interactions, items=items, out=tmp_path / "a", cold_items=0.2)
    turned = prepare(interactions.sort("item_id"), items=items.reverse(), out=tmp_path / "b", cold_items=0.2)
    never = [{d.item_ids[k] for k in np.flatnonzero(d.training_counts[1:] == 0)} for d in (made, turned)]
    cold = cold_ids(set(interactions["item_id"]), 0.2, 0)
    assert cold <= never[0] and cold <= never[1]
    other = prepare(interactions, items=items, out=tmp_path / "c", cold_items=0.2, cold_items_seed=1)
    assert other.fingerprint != made.fingerprint


def test_a_split_without_a_test_holds_nothing_out(tmp_path: Path, tiny_tables: Tables) -> None:
    with pytest.raises(ValueError, match="split='none' has no test"):
        prepare(tiny_tables[0], out=tmp_path / "d", split="none", cold_items=0.1)
    assert not (tmp_path / "d").exists()


def test_without_cold_items_the_key_is_that_of_a_release_that_knew_none() -> None:
    keys = {
        dataset_key({}, DataConfig(cold_items=share, cold_items_seed=seed))
        for share, seed in ((0, 0), (0, 5), (0.1, 0))
    }
    assert len(keys) == 2
