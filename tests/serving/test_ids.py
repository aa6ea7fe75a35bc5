"""Ids are the same everywhere: what `prepare` makes of one is what every door makes of it."""

from __future__ import annotations

import gzip
from decimal import Decimal
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import llm_esr
from llm_esr.cli import main
from llm_esr.cli.options import ids
from llm_esr.config import load_config
from llm_esr.data import Dataset
from llm_esr.serving import NothingLeft, Recommender, read_user_ids
from llm_esr.serving.ids import external_id
from llm_esr.tables.values import given_ids

LARGE = pl.Series([1e20]).cast(pl.String)[0]


def prepared(path: Path, rows: list[str], **settings: object) -> Dataset:
    path.mkdir(parents=True, exist_ok=True)
    (path / "e.csv").write_text("user_id,item_id\n" + "".join(f"{row}\n" for row in rows))
    return llm_esr.prepare(path / "e.csv", out=path / "data", split="none", **settings)


def rows(users: list[str], items: list[str]) -> list[str]:
    return [f"{user},{item}" for user in users for item in items]


def test_floats_beside_words_stay_as_written(tmp_path: Path) -> None:
    data = prepared(tmp_path, rows(["1.0", "1", "abc"], ["x", "2.0", "2"]))
    assert data.user_ids == ["1.0", "1", "abc"] and data.item_ids == ["x", "2.0", "2"]
    assert data.metadata["notes"][:2] == [
        "user ids such as 1.0 stay as they are written: others are no numbers (abc)",
        "item ids such as 2.0 stay as they are written: others are no numbers (x)",
    ]
    assert data.numeric_ids == frozenset()


def test_floats_of_numbers_throughout_are_whole_numbers_and_are_merged(tmp_path: Path) -> None:
    data = prepared(tmp_path, rows(["17850.0", "2", "17850"], ["5", "7.00", "1.5", "5.0", "1e3"]))
    assert data.user_ids == ["17850", "2"] and data.item_ids == ["5", "7", "1.5", "1e3"]
    assert data.history(0, "serving").tolist() == [1, 2, 3, 1, 4] * 2
    assert "user ids are numbers throughout: 17850.0 is written 17850" in data.metadata["notes"]
    assert data.numeric_ids == {"user", "item"}


def test_the_whole_file_decides_not_its_first_chunk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llm_esr.tables.delimited.TEXT_ROWS", 2)
    data = prepared(tmp_path, [*rows(["1.0", "2"], ["3.0", "4"]), "late,word", "1,4"])
    assert data.user_ids == ["1.0", "2", "late", "1"] and data.item_ids == ["3.0", "4", "word"]
    data = prepared(tmp_path / "n", [*rows(["1.0", "2"], ["3.0", "4"]), "1,3"])
    assert data.user_ids == ["1", "2"] and data.item_ids == ["3", "4"]


@pytest.mark.parametrize(("extra", "expected"), [("", ["2", "1"]), ("w,word\n", ["2.0", "1", "w"])])
def test_items_of_both_tables_are_one_kind(tmp_path: Path, extra: str, expected: list[str]) -> None:
    (tmp_path / "i.csv").write_text("item_id,title\n2.0,two\n1,one\n2.0,again\n" + extra)
    data = prepared(tmp_path, rows(["u", "v"], ["1", "2.0"]), items=tmp_path / "i.csv", keep_unseen_items=True)
    assert data.item_ids == expected and data.titles() == ["two", "one", "word"][: len(expected)]
    assert data.metadata["rows"]["items"]["kinds"] == {"duplicate": 1}


def test_texts_found_in_the_interactions_follow_merged_items(tmp_path: Path) -> None:
    path = tmp_path / "e.csv"
    path.write_text("user_id,item_id,title\na,1.0,red\na,2,blue\nb,1,green\nb,1.0,green\nb,2.0,\n")
    data = llm_esr.prepare(path, out=tmp_path / "d", text_columns=["title"], split="none")
    assert data.item_ids == ["1", "2"] and data.titles() == ["green", "blue"]


def test_typed_texts_stay_and_typed_numbers_are_whole(tmp_path: Path) -> None:
    for column, expected in (
        (pl.Series(["1.0", "2"]), ["1.0", "2"]),
        (pl.Series([1.0, 1e20]), ["1", LARGE]),
        (pl.Series([Decimal("17850.00"), Decimal("1.50")]), ["17850", "1.50"]),
        (pl.Series([1, 2], dtype=pl.UInt64), ["1", "2"]),
    ):
        frame = pl.DataFrame({"user_id": column, "item_id": ["x", "y"]})
        data = llm_esr.prepare(pl.concat([frame, frame]), out=tmp_path / "d", split="none", overwrite=True)
        assert data.user_ids == expected
        assert [external_id(value) for value in column] == expected


def test_one_function_for_ids_given_in_python() -> None:
    given = [(" a ", "a"), (3, "3"), (3.0, "3"), (np.int16(3), "3"), (np.float32(2.5), "2.5"), (Decimal("3.0"), "3")]
    for value, expected in [*given, (1e20, LARGE), (7.5, "7.5"), (2**70, str(2**70))]:
        assert external_id(value) == expected
    for bad in (None, True, float("nan"), float("inf"), "", "  ", ["a"], b"a", np.nan):
        with pytest.raises(ValueError, match="an id is text or a number"):
            external_id(bad)


def test_ids_on_the_command_line() -> None:
    assert ids('"red, large",blue, "a ""b""",7', "--history") == ["red, large", "blue", 'a "b"', "7"]
    assert ids(None, "--history") is None
    for bad in ("", " , ", '"open', '"a"b,c'):
        with pytest.raises(ValueError, match=r"--history .*expected ids separated by commas"):
            ids(bad, "--history")


@pytest.fixture(scope="module")
def numeric(tmp_path_factory: pytest.TempPathFactory) -> Recommender:
    folder = tmp_path_factory.mktemp("numeric")
    lines = [f"{user}.0,{(user + place) % 9}" for user in range(17850, 17870) for place in range(5)]
    (folder / "e.csv").write_text("CustomerID,item_id\n" + "\n".join(lines) + "\n")
    run = llm_esr.run(folder / "e.csv", user_column="CustomerID", out=folder / "run", models=["transitions"],
                      progress=False)  # fmt: skip
    return run.recommender()


@pytest.mark.parametrize("user", [17850, 17850.0, "17850", "17850.0", " 17850 ", Decimal(17850), np.float32(17850)])
def test_a_user_is_found_however_the_number_is_written(numeric: Recommender, user: object) -> None:
    assert numeric.recommend(users=[user], k=1)["user_id"].to_list() == ["17850"]
    assert numeric.recommend(histories=[[1.0, "2.0", 3]], k=2, exclude=["4.0"], include=[4, 5.0, "6"]).height == 2


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("u.csv", b"user_id\n17850.0\n17851\n"),
        ("u.csv", b"CustomerID,other\n17850,x\n17851,y\n"),
        ("u.csv", b"\xef\xbb\xbfuser_id\r\n 17850\r\n17851 \r\n"),
        ("u.tsv", b"other\tuser_id\nx\t17850\ny\t17851\n"),
        ("u.jsonl", b'{"user_id": 17850.0}\n{"user_id": 17851}\n'),
        ("u.csv.gz", gzip.compress(b"user_id\n17850\n17851\n", mtime=0)),
        ("u.txt", b"\xef\xbb\xbf17850\r\n\r\n17851.0\r\n"),
    ],
)
def test_files_of_users(numeric: Recommender, tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    users = read_user_ids(tmp_path / name, ["user_id", "CustomerID"])
    assert numeric.recommend(users=users, k=1)["user_id"].to_list() == ["17850", "17851"]


@pytest.mark.parametrize(
    "column", [[17850.0, 17851.0], [Decimal(17850), Decimal(17851)], ["17850.0", "17851"], [17850, 17851]]
)
def test_parquet_files_of_users(numeric: Recommender, tmp_path: Path, column: list[object]) -> None:
    pl.DataFrame({"user_id": column}).write_parquet(tmp_path / "u.parquet")
    users = read_user_ids(tmp_path / "u.parquet")
    assert numeric.recommend(users=users, k=1)["user_id"].to_list() == ["17850", "17851"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("u.csv", b"user_id\n1\n2,x\n", r"u\.csv: line 3 is no row of the table"),
        ("u.csv", b"who\n1\n", r"no column 'user_id' or 'CustomerID' \(it has: who\)"),
        ("u.csv", b"", "u.csv"),
        ("u.csv", b"user_id\n", "holds no user id"),
        ("u.parquet", b"PAR1garbage", "is not a readable Parquet file"),
        ("u.txt", "17850\n".encode("utf-16"), "it is UTF-16; expected UTF-8: iconv"),
        ("u.txt", b"a\ncaf\xe9\n", "line 2 is not UTF-8 .*looks like Windows-1252"),
    ],
)
def test_bad_files_of_users(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_user_ids(tmp_path / name, ["user_id", "CustomerID"])


def test_users_without_an_id_are_told(tmp_path: Path) -> None:
    pl.DataFrame({"user_id": [17850, None]}).write_parquet(tmp_path / "u.parquet")
    with pytest.warns(UserWarning, match="1 rows without an id in 'user_id' are passed over"):
        assert read_user_ids(tmp_path / "u.parquet") == ["17850"]


def test_what_can_be_gone_through_once(numeric: Recommender) -> None:
    histories = [["1", "2"], ["3"]]
    expected = numeric.recommend(histories=histories, k=2)
    assert expected["history"].to_list() == [0, 0, 1, 1]
    for given in (
        iter(histories),
        map(list, histories),
        (history for history in histories),
        {"a": ["1", "2"], "b": ["3"]}.values(),
        [iter(history) for history in histories],
        np.array([["1", "2"]]),
        pl.Series([["1", "2"]]),
    ):
        found = numeric.recommend(histories=given, k=2)
        assert found.equals(expected.head(len(found))) and len(found) >= 2
    assert numeric.recommend(histories=zip(["1"], ["2"], strict=True), k=2).equals(expected.head(2))
    users = ["17850", "17851"]
    assert numeric.recommend(users=iter(users), k=1, exclude=iter(["4"])).equals(
        numeric.recommend(users=users, k=1, exclude=["4"])
    )
    assert numeric.recommend(users=users, include=iter(["4", "5"]), k=5, keep_seen=True).height == 4


@pytest.mark.parametrize("given", ["ab", ["ab"], [None], {"a": ["1"]}, 5, [["1"], 3], [b"ab"]])
def test_histories_that_are_none(numeric: Recommender, given: object) -> None:
    with pytest.raises(ValueError, match="histories: expected a list of histories"):
        numeric.recommend(histories=given)


def test_nobody_asked_for_is_said(numeric: Recommender) -> None:
    with pytest.warns(UserWarning, match="no user was given"):
        assert numeric.recommend(users=[]).height == 0
    with pytest.warns(UserWarning, match="no history was given"):
        assert numeric.recommend(histories=iter([])).height == 0


def test_whom_nothing_is_left_for_is_told(
    numeric: Recommender, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    everything = list(numeric.data.item_ids)
    with pytest.warns(NothingLeft, match=r"nothing is left to recommend for 1 of those asked for \(0\)") as caught:
        assert numeric.recommend(histories=[everything, ["1"]], k=1)["history"].to_list() == [1]
    assert caught[0].message.ids == [0]  # type: ignore[union-attr]
    seen = [numeric.data.item_ids[item - 1] for item in numeric.data.history(0, "serving")]
    with pytest.warns(NothingLeft) as caught:
        numeric.recommend_to(tmp_path / "r.parquet", ["17850", "17851"], include=seen)
    assert caught[0].message.ids == ["17850"]  # type: ignore[union-attr]
    with pytest.raises(SystemExit):
        main(["recommend", str(numeric.folder), "--user", "17850.0", "--include", ",".join(seen)])
    assert "nothing is left to recommend for 1 of those asked for (17850)" in capsys.readouterr().err


def test_the_same_number_written_otherwise_is_the_first_hint(tmp_path: Path) -> None:
    run = tmp_path / "run"
    (tmp_path / "e.csv").write_text("user_id,item_id\n" + "\n".join(rows(["1.0", "2.0", "all"], ["a", "b", "c"])))
    model = llm_esr.run(tmp_path / "e.csv", out=run, models=["transitions"], progress=False).recommender()
    with pytest.raises(ValueError, match=r"no user '1' in the data; did you mean '1\.0'\?"):
        model.recommend(users=[1])


def test_a_users_file_with_a_key_that_comes_late(tmp_path: Path) -> None:
    lines = [f'{{"user_id": "u{n}"}}' for n in range(5000)] + ['{"user_id": "last", "note": "x"}']
    (tmp_path / "u.jsonl").write_text("\n".join(lines) + "\n")
    assert read_user_ids(tmp_path / "u.jsonl") == [*(f"u{n}" for n in range(5000)), "last"]
    (tmp_path / "u.pq").write_bytes(b"")
    pl.DataFrame({"user_id": ["a"]}).write_parquet(tmp_path / "u.pq")
    assert read_user_ids(tmp_path / "u.pq") == ["a"]


@pytest.mark.parametrize("value", [Decimal("NaN"), Decimal("sNaN"), Decimal("Infinity"), float("nan"), np.inf])
def test_numbers_that_are_none_are_no_ids(value: object) -> None:
    with pytest.raises(ValueError, match="says nothing"):
        external_id(value)


@pytest.mark.parametrize(
    ("users", "items", "expected"),
    [
        (pl.Int64, pl.UInt16, (pl.Int64, pl.UInt16)),
        (pl.Float64, pl.Int32, (pl.Float64, pl.Int32)),
        (pl.String, pl.Decimal(10, 0), (pl.String, pl.String)),
    ],
)
def test_ids_come_back_in_the_type_of_the_table(
    tmp_path: Path, users: pl.DataType, items: pl.DataType, expected: tuple[pl.DataType, pl.DataType]
) -> None:
    table = pl.DataFrame({"user_id": [1, 1, 1, 2, 2, 2], "item_id": [7, 8, 9, 8, 9, 7]})
    table = table.with_columns(pl.col("user_id").cast(users), pl.col("item_id").cast(items))
    data = llm_esr.prepare(table, out=tmp_path / "data", split="none")
    model = Recommender(None, data, "popularity", None, load_config(None))
    found = model.recommend(users=[1, 2.0], k=2, keep_seen=True)
    assert (found.schema["user_id"], found.schema["item_id"]) == expected
    if expected == (users, items):
        assert found.join(table, on=["user_id", "item_id"], how="anti").is_empty()
    assert set(found["item_id"].cast(pl.String)) <= {"7", "8", "9"}
    empty = model.recommend(users=[], k=2)
    assert empty.schema == found.schema
    similar = model.similar_items([7], k=1, by="co-occurrence")
    assert (similar.schema["similar_to"], similar.schema["item_id"]) == (expected[1], expected[1])
    explained = model.recommend(users=[1], k=1, keep_seen=True, explain=True)
    assert explained.schema["user_id"] == expected[0] and explained["why"].null_count() == 0


def test_ids_of_text_files_are_texts_and_so_are_those_of_files_that_disagree(tmp_path: Path) -> None:
    assert prepared(tmp_path / "a", rows(["1", "2"], ["7", "8"])).given_ids("user")[1] == pl.String
    pl.DataFrame({"user_id": [1, 2], "item_id": [7, 8]}).write_parquet(tmp_path / "a.parquet")
    pl.DataFrame({"user_id": ["1", "2"], "item_id": [8, 7]}).write_parquet(tmp_path / "b.parquet")
    data = llm_esr.prepare([tmp_path / "a.parquet", tmp_path / "b.parquet"], out=tmp_path / "d", split="none")
    assert data.given_ids("user")[1] == pl.String and data.given_ids("item")[1] == pl.Int64


def test_numbers_that_fit_no_type_any_more_are_texts() -> None:
    assert given_ids(["1", "x9"], "Int64")[1] == pl.String
    assert given_ids(["1", "300"], "Int8")[1] == pl.String
    assert given_ids(["1"], "Object")[1] == given_ids(["1"], ["Int64"])[1] == pl.String
    values, type_ = given_ids(["1", "-5"], "Int64")
    assert values.tolist() == [1, -5] and type_ == pl.Int64
    assert given_ids(["1.5", "-3", "1e300", "1e19"], "Float64")[0].tolist() == [1.5, -3.0, 1e300, 1e19]


@pytest.mark.parametrize("later", ["007", "+7", "1_0", " 7", "\u0663", "-0", "7.0", "9" * 5000])
@pytest.mark.parametrize("kind", ["Int64", "UInt64", "Float64"])
def test_a_later_id_that_python_would_read_as_a_number_is_not_anothers(later: str, kind: str) -> None:
    values, type_ = given_ids(["7", later], kind)
    assert values.tolist() == ["7", later] and type_ == pl.String


@pytest.mark.parametrize("later", ["nan", "inf", "1.50", "1e999"])
def test_floats_come_back_only_where_they_are_written_as_floats_are(later: str) -> None:
    assert given_ids(["1.5", later], "Float64")[1] == pl.String
