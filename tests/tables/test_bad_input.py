"""Every mistake in the input or the settings gets a message that says what came, what was expected, and the remedy."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from llm_esr.config import DataConfig
from llm_esr.data import prepare
from llm_esr.doors import at_the_command_line

GOOD = pl.DataFrame(
    {
        "user_id": ["u1", "u1", "u1", "u2"],
        "item_id": ["a", "b", "c", "a"],
        "timestamp": [1_600_000_000, 1_600_000_001, 1_600_000_002, 1_600_000_003],
        "Quantity": [1, 2, 3, 4],
    }
)
ITEMS = pl.DataFrame({"item_id": ["a", "b", "c"], "title": ["A", "B", "C"]})


@pytest.fixture(autouse=True)
def said_at_the_command_line() -> Iterator[None]:
    """Options are named as the command line has them; `tests/test_doors.py` has Python's words."""
    with at_the_command_line():
        yield


@pytest.mark.parametrize(
    ("frame", "options", "message"),
    [
        (GOOD.rename({"user_id": "user"}), {}, r"no column 'user_id' \(it has: user, .*did you mean.*--user-column"),
        (GOOD.drop("item_id"), {}, r"no column 'item_id' .*--item-column"),
        (GOOD, {"timestamp_column": "time"}, r"no column 'time' .*--timestamp-column"),
        (GOOD.drop("timestamp"), {"timestamp_column": "timestamp"}, r"no column 'timestamp' .*--timestamp-column"),
        (GOOD, {"order_column": "ordr"}, r"no column 'ordr' .*--order-column"),
        (GOOD, {"order_column": "item_id"}, r"'item_id' \(--order-column\) holds 'a'; expected numbers"),
        (GOOD, {"item_column": "user_id"}, r"both 'user_id'; expected two different columns"),
        (GOOD, {"text_columns": ["name"]}, r"no column 'name' .*--text-columns"),
        (GOOD, {"where": "quantity > 0"}, r"no column 'quantity' .*did you mean 'Quantity'.*--where"),
        (GOOD, {"where": "Quantity >"}, r"--where 'Quantity >': .*expected one condition in SQL"),
        (GOOD, {"where": "SELECT 1"}, r"--where 'SELECT 1'.*expected one condition in SQL"),
        (GOOD, {"where": "Quantity > 0; DROP TABLE x"}, r"expected one condition in SQL"),
        (GOOD, {"where": "Quantity"}, r"gives Int64, not true or false"),
        (GOOD, {"where": "1 = 1"}, r"names no column"),
        (GOOD, {"where": "Quantity > AVG(Quantity)"}, r"looks at other rows"),
        (GOOD, {"where": "SUM(Quantity) OVER (PARTITION BY user_id) > 1"}, r"looks at other rows"),
        (GOOD, {"where": "Quantity IN (SELECT 1)"}, r"--where .*expected one condition in SQL"),
        (GOOD, {"where": "Quantity > 'many'"}, r"--where .*read as: Quantity is Int64"),
        (GOOD, {"where": "Quantity > 9"}, r"no interaction is left(.|\n)*4 left out by --where"),
        (GOOD, {"min_user_count": 9}, r"--min-user-count 9 and --min-item-count 0 leave none; lower them"),
        (GOOD.drop("timestamp"), {"duplicates": "exact"}, r"--duplicates exact .*--duplicates first"),
        (GOOD.drop("timestamp"), {"split": "temporal"}, r"--split temporal needs timestamps"),
        (GOOD, {"split": "temporal", "test_from": "2030-01-01"}, r"nothing is left to test on.*--test-from"),
        (GOOD, {"split": "temporal", "validation_from": "2000-01-01"}, r"nothing is left to train on"),
        (GOOD, {"validation_from": 5}, r"--validation-from is for --split temporal"),
        (
            GOOD.with_columns(pl.col("timestamp") * 1000),
            {},
            r"row 1: timestamp 1600000000000 lies beyond the year 2200 when read as s .*give --timestamp-unit ms",
        ),
        (GOOD.with_columns(timestamp=pl.lit("soon")), {}, r"no interaction is left(.|\n)*4 bad timestamp.*'soon'"),
        (GOOD.with_columns(user_id=pl.lit([1])), {}, r"'user_id' holds List\(Int64\); expected texts or numbers"),
        (GOOD.with_columns(timestamp=pl.lit(True)), {}, r"'timestamp' holds Boolean; expected integers, ISO 8601"),
        (GOOD.head(0), {}, r"no interaction is left(.|\n)*read 0"),
        ([], {}, r"got an empty list; expected a path"),
        (42, {}, r"got int; expected a path, a list of paths, or a pandas, polars or Arrow table"),
        (GOOD, {"min_users": 3}, r"no setting 'min_users'; did you mean 'min_user_count'\?"),
        (GOOD, {"split": "random"}, r"split: .*'leave-one-out', 'temporal' or 'none' \(got 'random'\)"),
        (GOOD, {"min_user_count": -1}, r"min_user_count: .*0 or more \(got -1\)"),
    ],
)
def test_the_message_names_what_came_and_the_option(
    tmp_path: Path, frame: Any, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        prepare(frame, out=tmp_path / "data", **options)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("items", "options", "message"),
    [
        (ITEMS.rename({"item_id": "asin"}), {}, r"no column 'item_id' \(it has: asin, title\).*--items-id-column"),
        (ITEMS, {"title_column": "name"}, r"no column 'name' .*--title-column"),
        (ITEMS, {"text_columns": ["brand"]}, r"no column 'brand' .*--text-columns"),
        (ITEMS, {"text_columns": ["item_id"]}, r"'item_id' is a column that items.parquet has of its own"),
        (ITEMS.with_columns(item_id=pl.lit(None, pl.String)), {}, r"no row of the items table has an id"),
        (
            ITEMS.with_columns(item_id="x" + pl.col("item_id")),
            {},
            r"no item of the interactions is in the items table: .*'a'.*'xa'.*--items-id-column",
        ),
        (
            ITEMS.with_columns(parts=pl.struct("title")),
            {"text_columns": ["parts"]},
            r"text column 'parts' holds Struct.*expected texts",
        ),
    ],
)
def test_a_bad_items_table_is_explained(
    tmp_path: Path, items: pl.DataFrame, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        prepare(GOOD, items=items, out=tmp_path / "data", **options)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("events.xlsx", b"PK", r"format of events.xlsx is not known .*--format csv\|tsv"),
        ("events", b"", r"format of events is not known"),
        ("events.csv", b"", r"events.csv: is empty; expected a header line"),
        ("events.csv", b"user_id,item_id,timestamp\n", r"no interaction is left(.|\n)*read 0"),
        ("events.csv.gz", b"\x1f\x8bbroken", r"gzip stream is damaged or cut off"),
        ("events.jsonl.gz", b"\x1f\x8bbroken", r"gzip"),
        ("events.parquet", b"no parquet", r"is not a readable Parquet file"),
        ("events.json", b'[\n{"user_id": 1}\n]\n', r"no column 'item_id'"),
        ("events.json", b'[{"user_id": 1}]', r"expected one object a line"),
        ("events.csv", b"user_id|item_id|t\nu|i|1\n", r"no column 'time' \(it has: user_id, item_id, t\)"),
    ],
)
def test_a_file_that_cannot_be_read_is_explained(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    options = {"timestamp_column": "time"} if b"|" in content else {}
    with pytest.raises(ValueError, match=message):
        prepare(path, out=tmp_path / "data", **options)


def test_a_missing_file_and_a_folder_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"interactions: .*none\.csv does not exist; check the path"):
        prepare(tmp_path / "none.csv", out=tmp_path / "data")
    with pytest.raises(FileNotFoundError, match=r"items: .*none\.csv does not exist"):
        prepare(GOOD, items=tmp_path / "none.csv", out=tmp_path / "data")
    with pytest.raises(ValueError, match="is a folder without a Parquet part"):
        prepare(tmp_path, out=tmp_path / "data")


def test_a_folder_with_other_files_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(ValueError, match="other files and no data set"):
        prepare(GOOD, out=tmp_path)
    assert (tmp_path / "thesis.tex").exists()
    with pytest.raises(ValueError, match="is a file; expected a folder"):
        prepare(GOOD, out=tmp_path / "thesis.tex")


def test_one_file_without_the_timestamps_of_the_other_is_an_error(tmp_path: Path) -> None:
    first, second = tmp_path / "1.parquet", tmp_path / "2.parquet"
    GOOD.write_parquet(first)
    GOOD.drop("timestamp").write_parquet(second)
    with pytest.raises(ValueError, match="another file has none"):
        prepare([first, second], out=tmp_path / "data")


def test_a_config_and_options_go_together(tmp_path: Path) -> None:
    data = prepare(GOOD, out=tmp_path / "data", config=DataConfig(split="none"), where="Quantity < 4")
    assert (data.split, data.n_users) == ("none", 1)


def test_where_may_name_text_that_sounds_like_a_function(tmp_path: Path) -> None:
    frame = GOOD.with_columns(Country=pl.Series(["Len", "Agg", "Len", None]))
    data = prepare(frame, out=tmp_path / "data", where="Country = 'Len' AND Quantity BETWEEN 1 AND 3")
    assert data.n_interactions == 2
    assert data.metadata["rows"]["interactions"]["kinds"] == {"where": 2}
