"""A folder of Parquet parts is one table, however it is cut; what does not belong to it is named."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import llm_esr
from llm_esr.data import Dataset, prepare
from llm_esr.tables.parquet_parts import open_parts, part_paths

Tables = tuple[pl.DataFrame, pl.DataFrame]


def spark(folder: Path, frame: pl.DataFrame, cuts: int, seed: int = 0) -> Path:
    """A table as Spark leaves it: parts in any order of rows, with its markers and checksum files, one part empty."""
    folder.mkdir(parents=True)
    shuffled = frame.sample(fraction=1.0, shuffle=True, seed=seed)
    for number in range(cuts):
        part = shuffled.gather_every(cuts, number)
        part.write_parquet(folder / f"part-{number:05}-ab.snappy.parquet")
        (folder / f".part-{number:05}-ab.snappy.parquet.crc").write_bytes(b"crc")
    frame.clear().write_parquet(folder / f"part-{cuts:05}-ab.snappy.parquet")
    (folder / "_SUCCESS").touch()
    (folder / "_metadata").write_bytes(b"PAR1")
    return folder


def contents(data: Dataset) -> dict[str, Any]:
    kept = {"users": data.user_ids, "items": data.item_ids, "titles": data.titles(), "fingerprint": data.fingerprint}
    return kept | {"times": None if data.timestamps is None else np.asarray(data.timestamps).tolist()}


@pytest.mark.parametrize("duplicates", ["all", "first", "exact"])
def test_parts_cut_and_ordered_otherwise_are_the_same_data_set(
    tmp_path: Path, tiny_tables: Tables, duplicates: str
) -> None:
    interactions, items = tiny_tables
    # Several at one moment, and rows that come twice.
    interactions = pl.concat([interactions, interactions.head(40)]).with_columns(pl.col("timestamp") // 200 * 200)
    items = pl.concat([items, items.head(3).with_columns(title=pl.lit("another title"))])
    made = []
    for cuts, seed in ((1, 0), (3, 1), (7, 2)):
        folders = [spark(tmp_path / f"{cuts}-{what}", frame, cuts, seed)
                   for what, frame in (("e", interactions), ("i", items))]  # fmt: skip
        out = tmp_path / f"d{cuts}"
        made.append(prepare(folders[0], items=folders[1], out=out, duplicates=duplicates, min_user_count=2))
    assert contents(made[0]) == contents(made[1]) == contents(made[2])
    assert made[0].metadata["order"] == ["column timestamp", "item id"] and not made[0].metadata["notes"]
    single = interactions.write_parquet(tmp_path / "one.parquet") or prepare(
        tmp_path / "one.parquet", out=tmp_path / "one", duplicates=duplicates, min_user_count=2
    )
    assert set(single.user_ids) == set(made[0].user_ids) and single.n_interactions == made[0].n_interactions


def test_texts_in_the_interactions_do_not_depend_on_the_cut(tmp_path: Path) -> None:
    rows = [("u", "a", 1, "red"), ("v", "a", 2, "blue"), ("w", "b", 3, "x"), ("w", "a", 4, "green")]
    frame = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp", "title"], orient="row")
    titles = []
    for seed in range(4):
        folder = spark(tmp_path / f"e{seed}", frame, 2, seed)
        titles.append(prepare(folder, out=tmp_path / f"d{seed}", text_columns=["title"]).titles())
    assert titles == [["blue", "x"]] * 4


def test_without_a_column_to_order_by_it_is_said(tmp_path: Path, tiny_tables: Tables) -> None:
    folder = spark(tmp_path / "e", tiny_tables[0].drop("timestamp"), 3)
    made = prepare(folder, out=tmp_path / "d")
    assert "neither a timestamp nor an order column" in made.summary()
    assert made.metadata["order"] == ["order of the input"]


def test_a_hive_partitioned_folder_has_the_columns_of_its_path(tmp_path: Path) -> None:
    days = ["2024-01-01", "2024-01-02", "2024-01-03", "2024-01-04"]
    for day in random.Random(0).sample(days, 4):
        folder = tmp_path / "e" / f"date={day}" / "shop=7"
        folder.mkdir(parents=True)
        frame = pl.DataFrame({"user_id": ["u", "v"], "item_id": [f"i{day[-1]}", "i9"]})
        frame.write_parquet(folder / "part-0.parquet")
    made = prepare(tmp_path / "e", out=tmp_path / "d", timestamp_column="date", where="shop = 7", split="none")
    history = [made.item_ids[item - 1] for item in made.history(made.user_index["u"], "serving")]
    assert history == ["i1", "i2", "i3", "i4"]
    (provenance,) = made.metadata["provenance"]["interactions"]
    assert provenance["parts"] == 4 and provenance["path"].endswith("/e")
    # The same bytes under another date are other data.
    (tmp_path / "e" / "date=2024-01-04").rename(tmp_path / "e" / "date=2024-01-05")
    key = made.metadata["key"]
    again = prepare(tmp_path / "e", out=tmp_path / "d", timestamp_column="date", where="shop = 7", split="none")
    assert again.metadata["key"] != key


@pytest.mark.parametrize("values", [("\u00b2", "3"), ("--5", "3"), ("\u0663", "\u0664"), ("-", "07")])
def test_what_only_looks_like_numbers_in_a_path_is_text(tmp_path: Path, values: tuple[str, str]) -> None:
    for place, value in enumerate(values):
        # Spark hides what begins with `_`, but no column of the path.
        folder = tmp_path / "e" / f"_shop={value}"
        folder.mkdir(parents=True)
        pl.DataFrame({"user_id": ["u"] * 3, "item_id": [f"{place}{n}" for n in range(3)]}).write_parquet(
            folder / "p.pq"
        )
    (first, second) = open_parts(tmp_path / "e", "interactions", ("user_id", "item_id"))
    found = {chunk.frame["_shop"][0] for part in (first, second) for chunk in part.chunks(["_shop"])}
    assert found == set(values)


def _rewrite(name: str, change: Callable[[pl.DataFrame], pl.DataFrame]) -> Callable[[Path], object]:
    return lambda folder: change(pl.read_parquet(folder / name)).write_parquet(folder / name)


SECOND = "part-00001-ab.snappy.parquet"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            _rewrite(SECOND, lambda frame: frame.with_columns(pl.col("timestamp").cast(pl.String))),
            rf"{SECOND} has the column 'timestamp' of type String, and .*part-00000.* has it as Int64",
        ),
        (_rewrite(SECOND, lambda frame: frame.drop("item_id")), rf"{SECOND} has no column 'item_id', and .*part-00000"),
        (
            _rewrite(SECOND, lambda frame: frame.with_columns(price=pl.lit(1.0))),
            rf"{SECOND} has the column 'price' of type Float64, and .*part-00000.* has none of that name",
        ),
        (lambda folder: (folder / SECOND).write_bytes(b"PAR1 cut"), rf"{SECOND} is not a readable Parquet file"),
        (
            lambda folder: (folder / "notes.txt").write_text("x"),
            r"notes\.txt is no Parquet file, and ",
        ),
        (lambda folder: os.mkfifo(folder / "pipe.parquet"), r"pipe\.parquet is no file"),
        (
            lambda folder: (folder / "gone.parquet").symlink_to(folder / "nowhere"),
            r"gone\.parquet is no file, or links",
        ),
        (
            lambda folder: (folder / "more").symlink_to(folder.parent),
            r"more links to a folder, whose parts would not be",
        ),
        (lambda folder: (folder / "_delta_log").mkdir(), r"is a Delta table, whose log says"),
        (
            lambda folder: (folder / "date=1").mkdir() or (folder / SECOND).rename(folder / "date=1" / SECOND),
            r"its folders name the columns \[\].*\['date'\]|name the columns \['date'\].*\[\]",
        ),
        (
            _rewrite(SECOND, lambda frame: frame.with_columns(timestamp=pl.lit(10**13))),
            rf"{SECOND} row 1: timestamp 10000000000000 lies beyond",
        ),
    ],
)
def test_what_is_wrong_is_said_with_part_and_column_or_row(
    tmp_path: Path, tiny_tables: Tables, change: Callable[[Path], object], message: str
) -> None:
    folder = spark(tmp_path / "e", tiny_tables[0], 3)
    change(folder)
    with pytest.raises(ValueError, match=message):
        prepare(folder, out=tmp_path / "d")
    assert not (tmp_path / "d").exists()


def test_a_row_that_is_rejected_is_shown_by_its_part(tmp_path: Path, tiny_tables: Tables) -> None:
    folder = spark(tmp_path / "e", tiny_tables[0], 3)
    gap = pl.when(pl.int_range(pl.len()) == 4).then(None).otherwise("user_id").alias("user_id")
    _rewrite(SECOND, lambda frame: frame.with_columns(gap))(folder)
    examples = prepare(folder, out=tmp_path / "d").metadata["rows"]["interactions"]["examples"]["missing_id"]
    assert [(Path(one["file"]).name, one["row"]) for one in examples] == [(SECOND, 5)]


def test_parts_may_have_no_suffix_and_lie_in_any_depth(tmp_path: Path, tiny_tables: Tables) -> None:
    (tmp_path / "e" / "a" / "b").mkdir(parents=True)
    tiny_tables[0].write_parquet(tmp_path / "e" / "000000_0")
    tiny_tables[0].write_parquet(tmp_path / "e" / "a" / "b" / "x.parquet")
    assert [path.name for path in part_paths(tmp_path / "e", "items")] == ["000000_0", "x.parquet"]
    with pytest.raises(ValueError, match="is a folder without a Parquet part"):
        part_paths(tmp_path / "e" / "a" / "c", "items")


def vectors(ids: Sequence[str], width: int = 3) -> pl.DataFrame:
    values = [[float(number + 1), 1.0, -float(number)][:width] for number in range(len(ids))]
    return pl.DataFrame({"item_id": list(ids), "vector": values}, schema_overrides={"vector": pl.List(pl.Float32)})


def test_vectors_come_in_parts_as_in_one_file(tmp_path: Path, tiny_tables: Tables) -> None:
    data = prepare(tiny_tables[0], items=tiny_tables[1], out=tmp_path / "d")
    table = vectors(data.item_ids)
    table.write_parquet(tmp_path / "v.parquet")
    one = np.array(llm_esr.embed(data, f"file:{tmp_path / 'v.parquet'}", progress=False).item_embeddings)
    for cuts in (2, 5):
        folder = spark(tmp_path / f"v{cuts}", table, cuts, cuts)
        made = llm_esr.embed(data, f"file:{folder}", progress=False)
        assert np.array_equal(np.asarray(made.item_embeddings), one)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda frame: pl.concat([frame, frame.head(1)]), rf"{SECOND}: row \d+ names the id '.*' again"),
        (lambda f: f.with_columns(pl.col("vector").list.head(2)), rf"{SECOND}.*vectors of 2 .*before of 3"),
        (lambda f: f.with_columns(item_id=pl.lit(None, pl.String)), rf"{SECOND}: row 1 has no id"),
    ],
)
def test_vectors_that_do_not_fit_are_said_with_part_and_row(
    tmp_path: Path, tiny_tables: Tables, change: Callable[[pl.DataFrame], pl.DataFrame], message: str
) -> None:
    data = prepare(tiny_tables[0], items=tiny_tables[1], out=tmp_path / "d")
    folder = spark(tmp_path / "v", vectors(data.item_ids), 3)
    _rewrite(SECOND, change)(folder)
    with pytest.raises(ValueError, match=message):
        llm_esr.embed(data, f"file:{folder}", progress=False)
