"""A data set folder, opened: parts, targets, and what is noticed of damage."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from llm_esr.data import Dataset, prepare
from llm_esr.files import FORMAT, read_json, write_json


def make(folder: Path, **options: object) -> Dataset:
    rows = [("u1", "abcd"), ("u2", "ab"), ("u3", "bca"), ("u4", "d")]
    pairs = [(user, item) for user, items in rows for item in items]
    frame = pl.DataFrame(pairs, schema=["user_id", "item_id"], orient="row")
    return prepare(frame, out=folder, **options)


def test_inputs_and_targets_follow_the_split(tmp_path: Path) -> None:
    data = make(tmp_path / "d")
    a, b, c, d = (data.item_index[name] for name in "abcd")
    assert [data.history(0, part).tolist() for part in ("train", "validation", "test", "serving")] == [
        [a, b],
        [a, b],
        [a, b, c],
        [a, b, c, d],
    ]
    assert data.targets("validation").tolist() == [c, 0, c, 0]
    assert data.targets("test").tolist() == [d, 0, a, 0]
    assert data.input_ends("test").tolist() == [3, 2, 2, 1]
    assert data.training_lengths.tolist() == [2, 2, 1, 1]
    assert data.training_counts[[0, a, b, c, d]].tolist() == [0, 2, 3, 0, 1]


def test_histories_are_the_users_histories_one_after_another(tmp_path: Path) -> None:
    data = make(tmp_path / "d")
    users = np.array([2, 0, 0, 3])
    items, offsets = data.histories(users, "test")
    assert (items.dtype, offsets.dtype) == (np.int32, np.int64)
    for place, user in enumerate(users):
        assert items[offsets[place] : offsets[place + 1]].tolist() == data.history(int(user), "test").tolist()
    assert data.histories(np.array([], dtype=np.int64), "test")[1].tolist() == [0]


def test_external_ids_and_numbers_are_inverse(tmp_path: Path) -> None:
    data = make(tmp_path / "d")
    assert data.user_ids == ["u1", "u2", "u3", "u4"]
    assert data.item_ids == ["a", "b", "c", "d"]
    assert all(data.item_ids[number - 1] == external for external, number in data.item_index.items())
    assert all(data.user_ids[number] == external for external, number in data.user_index.items())


def test_arrays_are_read_only(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="read-only"):
        make(tmp_path / "d").items[0] = 3


def test_what_later_stages_have_not_made_is_none(tmp_path: Path) -> None:
    data = make(tmp_path / "d")
    assert data.item_embeddings is None
    assert data.user_embeddings is None
    assert data.similar_users is None
    assert data.similar_items is None
    assert data.similar_items_scores is None
    assert data.titles() is None
    assert data.timestamps is None


def test_vectors_of_another_data_set_are_refused(tmp_path: Path) -> None:
    data = make(tmp_path / "d")
    np.save(data.folder / "item_embeddings.npy", np.zeros((3, 8), np.float16))
    with pytest.raises(ValueError, match=r"float16 \(3, 8\), expected 4 rows .* run `llm-esr embed` again"):
        _ = data.item_embeddings


def test_no_folder_and_no_data_set_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"does not exist; make it with `llm_esr.prepare`"):
        Dataset.open(tmp_path / "none")
    with pytest.raises(FileNotFoundError, match=r"has no dataset\.json"):
        Dataset.open(tmp_path)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-4])


@pytest.mark.parametrize("name", ["offsets.npy", "items.npy", "splits.npy"])
def test_a_cut_or_missing_array_is_noticed(tmp_path: Path, name: str) -> None:
    folder = make(tmp_path / "d").folder
    truncate(folder / name)
    with pytest.raises(ValueError, match=f"{name}.*run `llm_esr.prepare` again"):
        Dataset.open(folder)
    (folder / name).unlink()
    with pytest.raises(FileNotFoundError, match=name):
        Dataset.open(folder)


@pytest.mark.parametrize(
    ("name", "place", "value", "message"),
    [
        ("items.npy", 0, 9, "ids from 1 to 9, expected 1 to 4"),
        ("items.npy", 0, 0, "ids from 0 to 4, expected 1 to 4"),
        ("offsets.npy", 1, 99, "does not rise"),
        ("offsets.npy", 0, 1, "does not rise"),
        ("splits.npy", (0, 1), 9, "parts do not lie"),
        ("splits.npy", (0, 0), -1, "parts do not lie"),
    ],
)
def test_values_that_contradict_each_other_are_noticed(
    tmp_path: Path, name: str, place: int, value: int, message: str
) -> None:
    path = make(tmp_path / "d").folder / name
    array = np.load(path)
    array[place] = value
    np.save(path, array)
    with pytest.raises(ValueError, match=message):
        Dataset.open(path.parent)


def test_another_format_version_and_a_damaged_json_say_what_to_do(tmp_path: Path) -> None:
    path = make(tmp_path / "d").folder / "dataset.json"
    good = read_json(path)
    write_json(path, {**good, "format": 99})
    with pytest.raises(ValueError, match=f"format 99, this release reads {FORMAT}"):
        Dataset.open(path.parent)
    path.write_text("{")
    with pytest.raises(ValueError, match="is damaged"):
        Dataset.open(path.parent)
    del good["counts"]
    write_json(path, good)
    with pytest.raises(ValueError, match="an entry is missing"):
        Dataset.open(path.parent)


def test_a_wrong_part_or_user_names_what_is_expected(tmp_path: Path) -> None:
    data = make(tmp_path / "d")
    with pytest.raises(ValueError, match="train, validation, test, serving"):
        data.input_ends("tests")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="expected validation or test"):
        data.targets("train")  # type: ignore[arg-type]
    with pytest.raises(IndexError, match=r"0\.\.3"):
        data.history(4, "test")
    with pytest.raises(IndexError, match=r"0\.\.3"):
        data.histories(np.array([0, 4]), "test")
