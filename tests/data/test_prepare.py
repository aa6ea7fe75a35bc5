"""The whole of `prepare`: against a plain-Python oracle, its key, and what it leaves in the folder."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_esr.config import DataConfig
from llm_esr.data import Dataset, prepare, prepare_key
from llm_esr.files import checksum

USERS = st.sampled_from(["u1", "u2", "u3", None, ""])
ITEMS = st.sampled_from(["a", "b", "c", "d", None])
TIMES = st.one_of(st.integers(0, 5).map(str), st.sampled_from(["bad", None]))
TABLE = st.lists(st.tuples(USERS, ITEMS, TIMES, st.integers(-1, 3)), min_size=1, max_size=30)


def frame_of(rows: list[tuple[Any, ...]]) -> pl.DataFrame:
    schema = {"user_id": pl.String, "item_id": pl.String, "timestamp": pl.String, "n": pl.Int64}
    return pl.DataFrame(rows, schema=schema, orient="row")


def oracle(rows: list[tuple[Any, ...]], duplicates: str, least: int) -> tuple[Counter[str], list[list[str]], list[str]]:
    """Counts by kind; every user's items, users by first appearance in the raw table; and the users."""
    kinds: Counter[str] = Counter()
    good = []
    for row, (user, item, time, n) in enumerate(rows):
        if not user or not item:
            kinds["missing_id"] += 1
        elif time is None or not time.isdigit():
            kinds["bad_timestamp"] += 1
        elif n <= 0:
            kinds["where"] += 1
        else:
            good.append((int(time), row, user, item))
    good.sort()
    if duplicates != "all":
        seen, left = set(), []
        for time, row, user, item in good:
            key = (user, item, time if duplicates == "exact" else None)
            if key in seen:
                kinds["duplicate"] += 1
            else:
                seen.add(key)
                left.append((time, row, user, item))
        good = left
    while True:
        by_user = Counter(user for _, _, user, _ in good)
        still = [event for event in good if by_user[event[2]] >= least]
        kinds["count_filter"] += len(good) - len(still)
        if len(still) == len(good):
            break
        good = still
    order = [user for user in dict.fromkeys(user for user, *_ in rows if user) if any(g[2] == user for g in good)]
    return +kinds, [[item for _, _, who, item in good if who == user] for user in order], order


@settings(max_examples=60, deadline=None)
@given(TABLE, st.sampled_from(["all", "exact", "first"]), st.integers(0, 3))
def test_prepare_does_what_plain_python_does(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[Any, ...]], duplicates: str, least: int
) -> None:
    kinds, histories, users = oracle(rows, duplicates, least)
    folder = tmp_path_factory.mktemp("p") / "d"
    options: dict[str, Any] = {"duplicates": duplicates, "min_user_count": least, "where": "n > 0"}
    if not histories:
        with pytest.raises(ValueError, match="no interaction is left"):
            prepare(frame_of(rows), out=folder, **options)
        return
    data = prepare(frame_of(rows), out=folder, **options)
    assert data.user_ids == users
    made = [[data.item_ids[item - 1] for item in data.history(user, "serving")] for user in range(data.n_users)]
    assert made == histories
    report = data.metadata["rows"]["interactions"]
    assert report["kinds"] == kinds
    assert report["read"] == len(rows) == report["kept"] + sum(kinds.values())
    raw = list(dict.fromkeys(user for user, *_ in rows if user))
    assert [raw[row] for row in data.user_table()["source_row"]] == users
    assert data.metadata["counts"]["source_users"] == len(raw)
    trained = Counter(int(item) for user in range(data.n_users) for item in data.history(user, "train"))
    assert data.training_counts.tolist() == [trained[item] for item in range(data.n_items + 1)]
    assert data.item_table()["training_count"].to_list() == data.training_counts[1:].tolist()
    assert data.user_table()["training_count"].to_list() == data.training_lengths.tolist()


SMALL = frame_of([("u1", "a", "3", 1), ("u1", "b", "1", 2), ("u1", "c", "2", 3), ("u2", "a", "1", 4)])


def test_an_absent_default_timestamp_falls_back_to_the_order_column_and_then_to_the_input(tmp_path: Path) -> None:
    bare = SMALL.drop("timestamp").with_columns(n=pl.Series([3, 2, 1, 1]))
    by_order = prepare(bare, out=tmp_path / "a", order_column="n")
    assert by_order.metadata["order"] == ["column n", "order of the input"]
    assert [by_order.item_ids[i - 1] for i in by_order.history(0, "serving")] == ["c", "b", "a"]
    by_input = prepare(bare, out=tmp_path / "b")
    assert by_input.metadata["order"] == ["order of the input"]
    assert [by_input.item_ids[i - 1] for i in by_input.history(0, "serving")] == ["a", "b", "c"]
    assert not (tmp_path / "b" / "timestamps.npy").exists()


def test_no_timestamps_on_request(tmp_path: Path) -> None:
    assert prepare(SMALL, out=tmp_path / "d", timestamp_column=None).timestamps is None


def test_ties_in_time_go_to_the_order_column_and_then_to_the_input(tmp_path: Path) -> None:
    frame = frame_of([("u", "a", "1", 9), ("u", "b", "1", 2), ("u", "c", "1", 2), ("u", "d", "0", 5)])
    data = prepare(frame, out=tmp_path / "d", order_column="n")
    assert [data.item_ids[i - 1] for i in data.history(0, "serving")] == ["d", "b", "c", "a"]
    data = prepare(frame, out=tmp_path / "e")
    assert [data.item_ids[i - 1] for i in data.history(0, "serving")] == ["d", "a", "b", "c"]


def test_order_values_that_are_none_are_dirty(tmp_path: Path) -> None:
    path = tmp_path / "e.csv"
    path.write_text("user_id,item_id,rank\nu,a,2\nu,b,1\n", encoding="utf-8")
    later = tmp_path / "f.csv"
    later.write_text("user_id,item_id,rank\nu,c,\nu,d,0.5\nu,e,0\n", encoding="utf-8")
    data = prepare([path, later], out=tmp_path / "d", order_column="rank")
    assert [data.item_ids[i - 1] for i in data.history(0, "serving")] == ["e", "b", "a"]
    report = data.metadata["rows"]["interactions"]
    assert report["kinds"] == {"bad_order": 2}
    assert [example["value"] for example in report["examples"]["bad_order"]] == ["", "0.5"]


def test_the_key_follows_contents_and_settings_and_nothing_else(tmp_path: Path) -> None:
    path, copy = tmp_path / "a.csv", tmp_path / "b.csv"
    SMALL.write_csv(path)
    SMALL.write_csv(copy)
    config = DataConfig(split="none")
    data = prepare(path, out=tmp_path / "d", config=config)
    key = data.metadata["key"]
    assert prepare_key(path, None, config) == prepare_key(str(copy), None, config) == key
    assert prepare_key(path, None, DataConfig()) != key
    assert prepare_key(path, SMALL, config) != key
    SMALL.head(3).write_csv(copy)
    assert prepare_key(copy, None, config) != key


def test_a_frame_is_known_by_its_contents(tmp_path: Path) -> None:
    key = prepare(SMALL, out=tmp_path / "d").metadata["key"]
    assert prepare_key(SMALL.clone(), None, DataConfig()) == key
    assert prepare_key(SMALL.with_columns(n=pl.col("n") + 1), None, DataConfig()) != key
    assert prepare_key(SMALL.rename({"n": "m"}), None, DataConfig()) != key


def test_dataset_json_names_every_file_with_its_checksum_and_the_inputs(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    SMALL.write_csv(path)
    data = prepare(path, out=tmp_path / "d")
    files = data.metadata["files"]
    assert files == {p.name: checksum(p) for p in data.folder.iterdir() if p.name != "dataset.json"}
    assert set(files) == {"items.npy", "offsets.npy", "splits.npy", "timestamps.npy", "items.parquet", "users.parquet"}
    came = data.metadata["provenance"]["interactions"]
    assert came == [{"format": "csv", "path": str(path), "size": path.stat().st_size, "checksum": checksum(path)}]
    assert data.metadata["config"] == DataConfig().model_dump(mode="json")


def test_the_same_input_gives_the_same_bytes(tmp_path: Path) -> None:
    first = prepare(SMALL, out=tmp_path / "a")
    second = prepare(SMALL, out=tmp_path / "b")
    assert first.fingerprint == second.fingerprint
    assert (tmp_path / "a/dataset.json").read_bytes() == (tmp_path / "b/dataset.json").read_bytes()


def test_preparing_again_keeps_vectors_only_where_the_data_set_is_the_same(tmp_path: Path) -> None:
    data = prepare(SMALL, out=tmp_path / "d")
    np.save(data.folder / "item_embeddings.npy", np.zeros((data.n_items, 4), np.float16))
    (data.folder / "item_embeddings.json").write_text("{}")
    (data.folder / "notes.txt").write_text("mine")
    assert prepare(SMALL, out=tmp_path / "d").item_embeddings is not None
    again = prepare(SMALL, out=tmp_path / "d", where="n < 4")
    assert again.item_embeddings is None
    assert not (again.folder / "item_embeddings.json").exists()
    assert (again.folder / "notes.txt").read_text() == "mine"


def test_a_failure_leaves_the_old_data_set_as_it_was(tmp_path: Path) -> None:
    data = prepare(SMALL, out=tmp_path / "d")
    with pytest.raises(ValueError, match="no interaction is left"):
        prepare(SMALL, out=tmp_path / "d", where="n > 99")
    assert Dataset.open(tmp_path / "d").fingerprint == data.fingerprint
    assert [path.name for path in tmp_path.iterdir()] == ["d"]


def test_times_that_all_lie_in_1970_are_noted(tmp_path: Path) -> None:
    assert "every timestamp lies in 1970; is --timestamp-unit right?" in prepare(SMALL, out=tmp_path / "d").summary()


@pytest.mark.shared_data
def test_the_real_shop_is_as_dirty_as_it_is_known_to_be(tmp_path: Path, shared_data: Path) -> None:
    data = prepare(
        shared_data / "online_retail" / "transactions.parquet",
        out=tmp_path / "d",
        user_column="CustomerID",
        item_column="StockCode",
        timestamp_column="InvoiceDate",
        text_columns=["Description"],
        where="Quantity > 0",
    )
    report = data.metadata["rows"]["interactions"]
    assert report["read"] == 541_909
    assert report["kinds"]["missing_id"] == 135_080
    assert all(user.isdigit() for user in data.user_ids)
    assert data.titles() is not None
