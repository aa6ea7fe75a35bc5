"""External vectors go to the rows of their ids, or are refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from safetensors.numpy import save_file

from llm_esr.data import Dataset, prepare
from llm_esr.semantics.alignment import align_items, align_users

# Raw users: u1, u2, u3, u4 (u2 is filtered out); items table: d, c, b, a, z (z is unseen).
EVENTS = pl.DataFrame(
    {
        "user_id": ["u1", "u2", "u3", "u3", "u4", "u1"],
        "item_id": ["a", "b", "c", "a", "new", "d"],
        "n": [1, 0, 1, 1, 1, 1],
    }
)
ITEMS = pl.DataFrame({"item_id": ["d", "c", "z", "a", "b"], "title": ["D", "C", "Z", "A", "B"]})
VALUE = {"d": 1.0, "c": 2.0, "z": 3.0, "a": 4.0, "b": 5.0}
RAW = np.array([[value, -value] for value in VALUE.values()], dtype=np.float32)


@pytest.fixture
def data(tmp_path: Path) -> Dataset:
    return prepare(EVENTS, items=ITEMS, out=tmp_path / "data", where="n > 0")


def expected(data: Dataset) -> np.ndarray:
    return np.array([[VALUE.get(name, 0), -VALUE.get(name, 0)] for name in data.item_ids], dtype=np.float32)


def test_a_bare_matrix_is_mapped_by_the_row_of_the_items_table(data: Dataset, tmp_path: Path) -> None:
    assert data.item_ids == ["d", "c", "a", "new"]
    path = tmp_path / "vectors.npy"
    np.save(path, RAW.astype(np.float16))
    for source in (path, RAW):
        with pytest.warns(UserWarning, match=r"1 of 4 items have no vector \(such as new\); they get zeros"):
            made = align_items(source, data)
        assert (made == expected(data)).all()


def test_a_bare_matrix_of_another_length_is_an_error_even_where_it_fits_the_items_kept(data: Dataset) -> None:
    with pytest.raises(ValueError, match=r"has 4 rows, expected 5: one for each of the items table; 4 of them"):
        align_items(RAW[: data.n_items], data)


def test_a_bare_matrix_without_an_items_table_has_nothing_to_be_mapped_by(tmp_path: Path) -> None:
    data = prepare(EVENTS, out=tmp_path / "data")
    with pytest.raises(ValueError, match=r"no items table .*Parquet or safetensors"):
        align_items(RAW, data)


def test_users_are_mapped_by_their_first_appearance_in_the_raw_table(data: Dataset) -> None:
    raw = np.arange(8, dtype=np.float32).reshape(4, 2)
    assert data.user_ids == ["u1", "u3", "u4"]
    assert align_users(raw, data).tolist() == raw[[0, 2, 3]].tolist()
    with pytest.raises(ValueError, match=r"has 3 rows, expected 4: one for each of distinct users"):
        align_users(raw[:3], data)


def sources(folder: Path) -> list[Path]:
    order = ["b", "z", "a", "d", "c"]
    vectors = np.array([[VALUE[name], -VALUE[name]] for name in order], dtype=np.float32)
    lists, arrays = folder / "lists.parquet", folder / "arrays.parquet"
    frame = pl.DataFrame({"item_id": order, "other": order, "vector": vectors.tolist()})
    frame.with_columns(pl.col("vector").cast(pl.List(pl.Float32))).write_parquet(lists)
    pl.DataFrame({"key": order, "v": pl.Series(vectors, dtype=pl.Array(pl.Float32, 2))}).write_parquet(arrays)
    named, matrix = folder / "named.safetensors", folder / "matrix.safetensors"
    save_file({name: vectors[row] for row, name in enumerate(order)}, named)
    save_file({"embeddings": vectors}, matrix, metadata={"ids": json.dumps(order)})
    return [lists, arrays, named, matrix]


@pytest.mark.parametrize("which", range(4))
@pytest.mark.filterwarnings("ignore:.*get zeros")
def test_parquet_and_safetensors_are_mapped_by_id(data: Dataset, tmp_path: Path, which: int) -> None:
    assert (align_items(sources(tmp_path)[which], data) == expected(data)).all()


def test_integer_ids_may_stand_in_a_tensor(tmp_path: Path) -> None:
    events = pl.DataFrame({"user_id": [1, 1], "item_id": [7.0, 9.0]})
    data = prepare(events, out=tmp_path / "data")
    path = tmp_path / "v.safetensors"
    save_file({"ids": np.array([9, 7]), "vectors": np.array([[9.0], [7.0]], dtype=np.float16)}, path)
    made = align_items(path, data)
    assert (made.tolist(), made.dtype) == ([[7.0], [9.0]], np.float16)


def write(folder: Path, frame: pl.DataFrame) -> Path:
    path = folder / "v.parquet"
    frame.write_parquet(path)
    return path


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (pl.DataFrame({"item_id": ["q"], "v": [[1.0]]}), r"no vector for any item .*\['q'\].*\['d', 'c', 'a'\]"),
        (pl.DataFrame({"item_id": ["a", "a"], "v": [[1.0], [2.0]]}), r"names 1 ids twice, such as \['a'\]"),
        (pl.DataFrame({"item_id": ["a", None], "v": [[1.0], [2.0]]}), r"1 rows have no id \(the first is row 2\)"),
        (pl.DataFrame({"item_id": ["a", "d"], "v": [[1.0], [2.0, 3.0]]}), r"row 2 of column 'v' has 2 numbers"),
        (pl.DataFrame({"item_id": ["a", "d"], "v": [[1.0], None]}), r"row 2 of column 'v' has None numbers"),
        (pl.DataFrame({"item_id": ["a"], "v": [["x"]]}), r"holds List\(String\) with gaps or no numbers"),
        (pl.DataFrame({"item_id": ["a"], "v": [1.0]}), r"has 0 columns of lists; expected one of vectors"),
        (pl.DataFrame({"p": ["a"], "q": ["a"], "v": [[1.0]]}), r"no column 'item_id' or 'id' .*rename"),
        (pl.DataFrame({"item_id": ["a"], "v": [[float("nan")]]}), r"the vector of item 'a' .*not finite"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*get zeros")
def test_a_bad_parquet_of_vectors_is_explained(
    data: Dataset, tmp_path: Path, frame: pl.DataFrame, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        align_items(write(tmp_path, frame), data)


def test_other_bad_sources_are_explained(data: Dataset, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"item vectors: .*none\.npy does not exist"):
        align_items(tmp_path / "none.npy", data)
    (tmp_path / "v.npy").write_bytes(b"no array")
    with pytest.raises(ValueError, match=r"is not a whole \.npy array"):
        align_items(tmp_path / "v.npy", data)
    (tmp_path / "v.pt").write_bytes(b"")
    with pytest.raises(ValueError, match=r"ends in '\.pt'; expected \.npy"):
        align_items(tmp_path / "v.pt", data)
    np.save(tmp_path / "v.npy", np.zeros((5, 2), dtype=np.int64))
    with pytest.raises(ValueError, match=r"holds int64 \(5, 2\); expected a matrix of floats"):
        align_items(tmp_path / "v.npy", data)
    np.save(tmp_path / "v.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match=r"is not a whole \.npy array"):
        align_items(tmp_path / "v.npy", data)
    save_file({"m": np.zeros((2, 2), np.float32)}, tmp_path / "v.safetensors")
    with pytest.raises(ValueError, match="a matrix without ids"):
        align_items(tmp_path / "v.safetensors", data)


def test_ids_of_bytes_are_refused_with_the_column(tmp_path: Path, tiny_folder: Path) -> None:
    frame = pl.DataFrame({"item_id": [b"i0", b"i1"], "vector": [[1.0, 2.0], [3.0, 4.0]]})
    frame.write_parquet(tmp_path / "v.parquet")
    with pytest.raises(ValueError, match=r"v\.parquet: column 'item_id' holds Binary; expected ids"):
        align_items(tmp_path / "v.parquet", Dataset.open(tiny_folder))
