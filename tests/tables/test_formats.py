"""The same rows from every format make the same data set; dirty rows are counted where they stand."""

from __future__ import annotations

import gzip
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from llm_esr.config import DataConfig
from llm_esr.data import Dataset, prepare
from llm_esr.tables.formats import FORMATS

ROWS = [
    ("17850.0", "A1", 1_600_000_300),
    ("17850.0", "B2", 1_600_000_100),
    ("9", "A1", 1_600_000_000),
    ("17850.0", "C,3", 1_600_000_200),
    ("9", "B2", 1_600_000_400),
]


def as_file(folder: Path, kind: str) -> Any:
    frame = pl.DataFrame(ROWS, schema=["user_id", "item_id", "timestamp"], orient="row")
    numbers = frame.with_columns(pl.col("user_id").cast(pl.Float64))
    path = folder / f"events.{kind}"
    match kind:
        case "csv" | "csv.gz":
            data = frame.write_csv().encode()
        case "tsv":
            data = frame.write_csv(separator="\t").encode()
        case "jsonl" | "jsonl.gz":
            data = "".join(json.dumps(row) + "\n" for row in numbers.to_dicts()).encode()
        case "parquet":
            numbers.write_parquet(path)
            return path
        case "polars":
            return numbers
        case "lazy":
            return numbers.lazy()
        case "pandas":
            return numbers.to_pandas()
        case "arrow":
            return numbers.to_arrow()
        case "datetimes":
            return numbers.with_columns(pl.from_epoch("timestamp"))
        case "two files":
            first, second = folder / "1.csv", folder / "2.parquet"
            frame.head(2).write_csv(first)
            numbers.tail(3).write_parquet(second)
            return [first, str(second)]
    path.write_bytes(gzip.compress(data) if kind.endswith(".gz") else data)
    return path


@pytest.mark.parametrize(
    "kind",
    [
        "csv",
        "csv.gz",
        "tsv",
        "jsonl",
        "jsonl.gz",
        "parquet",
        "polars",
        "lazy",
        "pandas",
        "arrow",
        "datetimes",
        "two files",
    ],
)
def test_every_format_gives_the_same_data_set(tmp_path: Path, kind: str) -> None:
    data = prepare(as_file(tmp_path, kind), out=tmp_path / "data")
    assert data.user_ids == ["17850", "9"]
    assert data.item_ids == ["A1", "B2", "C,3"]
    assert data.offsets.tolist() == [0, 3, 5]
    assert data.items.tolist() == [2, 3, 1, 1, 2]
    assert data.timestamps is not None
    assert (data.timestamps // 1_000_000_000 - 1_600_000_000).tolist() == [100, 200, 300, 0, 400]
    assert data.metadata["rows"]["interactions"]["read"] == 5


def test_the_papers_pairs_have_no_header_and_keep_the_order_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "inter.txt.gz"
    path.write_bytes(gzip.compress(b"1 30\n1 7\n2 7\n1 30\n2\n"))
    data = prepare(path, out=tmp_path / "data")
    assert (data.user_ids, data.item_ids) == (["1", "2"], ["30", "7"])
    assert data.items.tolist() == [1, 2, 1, 2]
    assert data.metadata["order"] == ["order of the input"]
    report = data.metadata["rows"]["interactions"]
    assert report["kinds"] == {"malformed_record": 1}
    assert report["examples"]["malformed_record"][0]["line"] == 5


DIRTY_CSV = """user_id,item_id,timestamp,Quantity
u1,i1,1600000000,1

u1,,1600000001,1
"u1","i
2",1600000002,1
u1,i3,soon,1
u1,i3
u1,i4,1600000003,-2
u1,i5,1600000004,many
u1,i1,1600000000,3
 ,i5,1600000004,1
u1,i6,1600000005,"1
"""


def test_dirty_rows_are_counted_by_kind_with_line_and_value(tmp_path: Path) -> None:
    path = tmp_path / "dirty.csv"
    path.write_text(DIRTY_CSV, encoding="utf-8")
    # The first chunk decides that Quantity is a number only if all of it is; so the clean rows come first.
    clean = tmp_path / "clean.csv"
    clean.write_text("user_id,item_id,timestamp,Quantity\nu2,i1,1600000000,1\nu2,i9,1600000000,1.5\n", encoding="utf-8")
    data = prepare([clean, path], out=tmp_path / "data", where="Quantity > 0", duplicates="exact")
    report = data.metadata["rows"]["interactions"]
    assert report["kinds"] == {
        "malformed_record": 2,
        "missing_id": 2,
        "bad_timestamp": 1,
        "bad_where_value": 1,
        "where": 1,
        "duplicate": 1,
    }
    assert (report["read"], report["kept"]) == (12, 4)
    assert (report["rejected"], report["merged"], report["filtered"]) == (6, 1, 1)
    at = {kind: [(Path(e["file"]).name, e["line"]) for e in found] for kind, found in report["examples"].items()}
    assert at == {
        "malformed_record": [("dirty.csv", 8), ("dirty.csv", 13)],
        "missing_id": [("dirty.csv", 4), ("dirty.csv", 12)],
        "bad_timestamp": [("dirty.csv", 7)],
        "bad_where_value": [("dirty.csv", 10)],
        "where": [("dirty.csv", 9)],
        "duplicate": [("dirty.csv", 11)],
    }
    values = {kind: found[0]["value"] for kind, found in report["examples"].items()}
    assert values["bad_timestamp"] == "soon"
    assert values["bad_where_value"] == "many"
    assert "2 fields instead of 4" in values["malformed_record"]
    assert "i\n2" in data.item_ids
    text = data.summary()
    assert "read 12 = kept 4 + rejected 6 + merged 1 + filtered 1" in text
    assert "1 bad timestamp: dirty.csv line 7 'soon'" in text


def test_bad_json_lines_do_not_stop_the_reading(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    lines = [
        '{"user_id": 1, "item_id": "a", "timestamp": 1600000000}',
        "",
        "{broken",
        "[1, 2]",
        '{"user_id": null, "item_id": "a", "timestamp": 1600000000}',
        '{"user_id": "1", "item_id": 7.0, "timestamp": "2024-01-01"}',
    ]
    path.write_text("\n".join(lines), encoding="utf-8")
    data = prepare(path, out=tmp_path / "data")
    assert (data.user_ids, data.item_ids) == (["1"], ["a", "7"])
    report = data.metadata["rows"]["interactions"]
    assert report["kinds"] == {"malformed_record": 2, "missing_id": 1}
    assert [e["line"] for e in report["examples"]["malformed_record"]] == [3, 4]
    assert report["examples"]["missing_id"][0]["line"] == 5


def test_small_chunks_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [f"u{k * 7 % 11},i{k * 5 % 13},{1_600_000_000 + k * 37 % 50}" for k in range(200)]
    rows[50], rows[120] = "u1,,3", "u1,i1"
    path = tmp_path / "events.csv"
    path.write_text("user_id,item_id,timestamp\n" + "\n".join(rows) + "\n", encoding="utf-8")
    options: dict[str, Any] = {"duplicates": "first", "min_item_count": 3}
    whole = prepare(path, out=tmp_path / "whole", **options)
    monkeypatch.setattr("llm_esr.tables.delimited.TEXT_ROWS", 7)
    cut = prepare(path, out=tmp_path / "cut", **options)
    assert cut.fingerprint == whole.fingerprint
    assert cut.metadata["rows"] == whole.metadata["rows"]
    assert cut.user_table().equals(whole.user_table())
    assert whole.metadata["rows"]["interactions"]["kinds"]["duplicate"] > 0


def test_typed_tables_are_cut_into_chunks_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = as_file(tmp_path, "parquet")
    whole = prepare(path, out=tmp_path / "whole")
    monkeypatch.setattr("llm_esr.tables.parquet.TYPED_ROWS", 2)
    assert prepare(path, out=tmp_path / "cut").fingerprint == whole.fingerprint


def test_pandas_columns_of_mixed_values_zones_and_gaps_are_read(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {
            "user_id": [1, "b", None, 2.0],
            "item_id": pd.array([5, None, 7, 8], dtype="Int64"),
            "timestamp": pd.to_datetime(["2024-01-01T01:00+01:00"] * 4),
        }
    )
    data = prepare(frame, out=tmp_path / "data")
    assert (data.user_ids, data.item_ids) == (["1", "2"], ["5", "8"])
    assert data.timestamps is not None
    assert datetime.fromtimestamp(data.timestamps[0] / 1e9, UTC) == datetime(2024, 1, 1, tzinfo=UTC)


def test_arrow_dictionaries_are_ids(tmp_path: Path) -> None:
    table = pa.table({"user_id": pa.array(["u", "u"]).dictionary_encode(), "item_id": [1, 2]})
    assert prepare(table, out=tmp_path / "data").user_ids == ["u"]


def test_semicolons_are_found_in_the_header(tmp_path: Path) -> None:
    path = tmp_path / "e.csv"
    path.write_text("user_id;item_id;timestamp\nu;i;1600000000\n", encoding="utf-8")
    assert prepare(path, out=tmp_path / "data").item_ids == ["i"]


def test_the_table_of_formats_has_those_of_the_setting() -> None:
    assert {"auto", *FORMATS} == set(get_args(DataConfig.model_fields["format"].annotation))
    suffixes = [suffix for known in FORMATS.values() for suffix in known.suffixes]
    assert len(suffixes) == len(set(suffixes))


def test_the_format_can_be_named(tmp_path: Path) -> None:
    path = tmp_path / "export.dat"
    path.write_text("user_id,item_id\nu,i\n", encoding="utf-8")
    items = tmp_path / "items.dat"
    items.write_text("item_id,title\ni,One\n", encoding="utf-8")
    data: Dataset = prepare(path, items=items, out=tmp_path / "data", format="csv")
    assert data.titles() == ["One"]
