"""Item texts: from the items table, or from the interactions."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_esr.config import DataConfig
from llm_esr.data import prepare
from llm_esr.data.items import TextVotes

EVENTS = pl.DataFrame({"user_id": ["u", "u", "v", "v"], "item_id": ["c", "a", "x", "c"]})


def items_csv(folder: Path, text: str) -> Path:
    path = folder / "items.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_items_follow_the_items_table_and_strangers_come_last_as_unknown(tmp_path: Path) -> None:
    path = items_csv(tmp_path, "item_id,title,brand\na,Apple,\nb,Bread,B\nc, Cheese ,C\n")
    data = prepare(EVENTS, items=path, out=tmp_path / "d")
    table = data.item_table()
    assert table["item"].to_list() == [1, 2, 3]
    assert table["item_id"].to_list() == ["a", "c", "x"]
    assert table["source_row"].to_list() == [0, 2, None]
    assert table["title"].to_list() == ["Apple", "Cheese", "unknown"]
    assert table["brand"].to_list() == [None, "C", "unknown"]
    assert data.items.tolist() == [2, 1, 3, 2]
    assert data.metadata["counts"]["items_without_row"] == 1
    assert "1 items of the interactions have no row in the items table (such as x)" in data.summary()
    report = data.metadata["rows"]["items"]
    assert (report["read"], report["kept"], report["kinds"]) == (3, 2, {"unseen": 1})


def test_unseen_items_stay_on_request(tmp_path: Path) -> None:
    path = items_csv(tmp_path, "item_id,title\na,Apple\nb,Bread\nc,Cheese\n")
    data = prepare(EVENTS, items=path, out=tmp_path / "d", keep_unseen_items=True)
    assert data.item_ids == ["a", "b", "c", "x"]
    assert data.training_counts.tolist() == [0, 1, 0, 2, 1]
    assert data.metadata["counts"]["items_never_trained"] == 1


def test_repeated_missing_and_malformed_rows_are_counted_and_keep_their_source_row(tmp_path: Path) -> None:
    path = items_csv(tmp_path, "item_id,title\na,Apple\n,Nothing\na,Again\nbroken\nc,Cheese\n")
    data = prepare(EVENTS, items=path, out=tmp_path / "d")
    assert data.item_table()["source_row"].to_list() == [0, 4, None]
    assert data.titles() == ["Apple", "Cheese", "unknown"]
    assert data.metadata["counts"]["source_items"] == 5
    report = data.metadata["rows"]["items"]
    assert report["kinds"] == {"malformed_record": 1, "missing_id": 1, "duplicate": 1}
    assert {kind: found[0]["line"] for kind, found in report["examples"].items()} == {
        "malformed_record": 5,
        "missing_id": 3,
        "duplicate": 4,
    }


def test_text_columns_are_by_default_those_that_hold_texts(tmp_path: Path) -> None:
    path = items_csv(tmp_path, "item_id,price,name,empty\na,1.5,Apple,\nc,,Cheese,\n")
    data = prepare(EVENTS, items=path, out=tmp_path / "d")
    assert (data.text_columns, data.title_column) == (["name"], "name")
    frame = pl.DataFrame({"item_id": ["a", "c"], "tags": [["x", "y"], []], "title": ["A", "C"], "year": [1, 2]})
    data = prepare(EVENTS, items=frame, out=tmp_path / "e")
    assert (data.text_columns, data.title_column) == (["tags", "title"], "title")
    assert data.item_table()["tags"].to_list() == ["x, y", None, "unknown"]


def test_named_text_columns_may_hold_numbers_and_the_title_need_not_be_one(tmp_path: Path) -> None:
    frame = pl.DataFrame({"item_id": ["a", "c"], "name": ["A", "C"], "year": [1999, 2000]})
    data = prepare(EVENTS, items=frame, out=tmp_path / "d", text_columns=["year"], title_column="name")
    assert (data.text_columns, data.titles()) == (["year"], ["A", "C", "unknown"])
    assert data.item_table()["year"].to_list() == ["1999", "2000", "unknown"]


def test_the_id_column_of_the_items_may_have_its_own_name(tmp_path: Path) -> None:
    frame = pl.DataFrame({"asin": ["c", "a"], "title": ["C", "A"]})
    assert prepare(EVENTS, items=frame, out=tmp_path / "d", items_id_column="asin").item_ids == ["c", "a", "x"]


def test_texts_may_come_from_the_interactions(tmp_path: Path) -> None:
    frame = pl.DataFrame(
        {
            "user_id": ["u"] * 7,
            "item_id": ["a", "a", "a", "b", "b", "c", "a"],
            "Description": ["ONE", "TWO", " TWO ", "", "late", None, "ONE"],
            "Quantity": [1, 1, 1, 1, 1, 1, -1],
        }
    )
    data = prepare(frame, out=tmp_path / "d", text_columns=["Description"], where="Quantity > 0")
    assert data.item_table()["Description"].to_list() == ["TWO", "late", None]
    assert (data.text_columns, data.title_column) == (["Description"], "Description")
    assert data.titles() == ["TWO", "late", "unknown"]
    assert data.item_table()["source_row"].null_count() == 3


@given(
    st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["p", "q", "r", "", None])), max_size=30),
    st.integers(1, 7),
)
def test_the_most_frequent_text_wins_and_ties_go_to_the_first(rows: list[tuple[int, str | None]], step: int) -> None:
    votes = TextVotes(DataConfig(text_columns=["t"]))
    for start in range(0, len(rows), step):
        part = rows[start : start + step]
        texts = pl.DataFrame({"t": pl.Series([text for _, text in part], dtype=pl.String)})
        votes.add(pl.Series([item for item, _ in part], dtype=pl.Int32).to_numpy(), texts)
    found = votes.texts(list("abcd")).frame["t"].to_list()
    for item in range(4):
        # Counter keeps the order of first appearance, and max takes the first of equals.
        counts = Counter(text for other, text in rows if other == item and text)
        assert found[item] == (max(counts, key=lambda text: counts[text]) if counts else None)


def test_a_title_alone_is_a_text_too(tmp_path: Path) -> None:
    frame = EVENTS.with_columns(name=pl.col("item_id").str.to_uppercase())
    data = prepare(frame, out=tmp_path / "d", title_column="name")
    assert (data.text_columns, data.titles()) == (["name"], ["C", "A", "X"])


@pytest.mark.parametrize("compression", ["csv", "csv.gz", "jsonl", "parquet", "tsv"])
def test_items_come_from_the_same_formats(tmp_path: Path, compression: str) -> None:
    import gzip

    frame = pl.DataFrame({"item_id": ["c", "a"], "title": ["C", "A"]})
    path = tmp_path / f"items.{compression}"
    if compression == "parquet":
        frame.write_parquet(path)
    elif compression == "jsonl":
        frame.write_ndjson(path)
    else:
        data = frame.write_csv(separator="\t" if compression == "tsv" else ",").encode()
        path.write_bytes(gzip.compress(data) if compression.endswith("gz") else data)
    assert prepare(EVENTS, items=path, out=tmp_path / "d").titles() == ["C", "A", "unknown"]
